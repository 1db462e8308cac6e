"""Steps as CUDA graphs on a pretended GPU: the bits of steps that are none, or none and the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import Silent, Stop, assert_same
from pretended_gpu import PretendedGpu, pretended_gpu
from test_training_on_gpu import CPU, CUDA, configured, small
from torch import Tensor, nn

from landscape.checkpoint.format import Checkpoint
from training import captured, loop, models
from training.__main__ import main
from training.captured import Graphs, Passes, obstacle
from training.checkpoint import RunFolder
from training.config import RunConfig
from training.data import load_splits
from training.optimizers import OPTIMIZERS, SGD
from training.sparsity import METHODS

STEPS = 8  # whole batches of two epochs, each of which ends with half a one
PASSES = {"sam": 2, "asam": 2, "fsam": 2}


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "small", small)


def settings(method: str = "random", optimizer: str = "sgd", **changes: Any) -> RunConfig:
    found: RunConfig = configured(method, optimizer, batch_size=16, **changes)
    names = {one.name for one in dataclasses.fields(found.method)}
    if "update_interval" in names:  # masks change between steps that move weights
        changed = dataclasses.replace(found.method, **{"update_interval": 3})
        found = dataclasses.replace(found, method=changed)
    return found


def fit(
    config: RunConfig,
    path: Path,
    npz: Path,
    graphs: Graphs = "auto",
    reporter: Any = None,
    device: torch.device = CUDA,
) -> Checkpoint:
    data = load_splits(f"npz:{npz}", config.validation, config.seed, device)
    folder = RunFolder(path, config.to_dict(data.name))
    extras = loop.Extras(sparse="off", graphs=graphs)
    return loop.train(config, data, folder, device, reporter or Silent(), extras)


def compared(config: RunConfig, path: Path, npz: Path) -> tuple[PretendedGpu, bool | str]:
    """Train with graphs and without, which must end with the same bits; the GPU, and what is said."""
    with pretended_gpu() as gpu:
        found = fit(config, path / "captured", npz)
    with pretended_gpu() as plain:
        expected = fit(config, path / "plain", npz, "off")
    assert not plain.captures
    assert not gpu.unguarded
    assert expected.environment["cuda_graph"] == "no: switched off"
    assert_same(found, expected)
    return gpu, found.environment["cuda_graph"]


PAIRS = [
    *(("random", optimizer) for optimizer in OPTIMIZERS),
    *[("dense", "sgd"), ("set", "s2sam"), ("rigl", "s2sam"), ("mest_em", "fsam"), ("safe", "sgd")],
    *[("magnitude", "sam"), ("lt", "s2sam"), ("chex", "sgd"), ("dsr", "sam")],
]


@pytest.mark.parametrize(("method", "optimizer"), PAIRS, ids=["-".join(one) for one in PAIRS])
def test_the_bits_of_steps_that_are_not_captured(
    method: str, optimizer: str, tiny_npz: Path, tmp_path: Path
) -> None:
    config = settings(method, optimizer)
    gpu, said = compared(config, tmp_path, tiny_npz)
    assert said is True
    assert gpu.captures == PASSES.get(optimizer, 1)
    assert gpu.replays >= gpu.captures * (STEPS - 2)  # all but the first two, of which the second captures


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16", "label_smoothing": 0.1},
        {"accumulate": 3},
        {"optimizer": OPTIMIZERS["sam"](0.05, batch_norm="both", restore="subtract")},  # type: ignore[call-arg]
        {"optimizer": OPTIMIZERS["s2sam"](0.05, first_step="sam", adaptive="official")},  # type: ignore[call-arg]
        {"optimizer": OPTIMIZERS["s2sam"](0.05, perturb_pruned=True)},  # type: ignore[call-arg]
    ],
    ids=lambda one: next(iter(one)),
)
def test_other_settings_are_captured_with_their_bits(
    changes: dict[str, Any], tiny_npz: Path, tmp_path: Path
) -> None:
    gpu, said = compared(dataclasses.replace(settings("set"), **changes), tmp_path, tiny_npz)
    assert said is True
    assert gpu.captures == 1


@pytest.mark.parametrize("optimizer", ["sgd", "fsam", "s2sam"])
def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(
    optimizer: str, tiny_npz: Path, tmp_path: Path
) -> None:
    config = settings("rigl", optimizer)
    with pretended_gpu() as gpu:
        whole = fit(config, tmp_path / "whole", tiny_npz)
        with suppress(KeyboardInterrupt):
            fit(config, tmp_path / "stopped", tiny_npz, reporter=Stop(1))
        captures = gpu.captures
        again = fit(config, tmp_path / "stopped", tiny_npz)
        assert gpu.captures > captures
    assert_same(again, whole)


def test_replays_run_no_python_of_the_network(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, usual = [0], nn.BatchNorm2d.forward

    def counted(self: nn.BatchNorm2d, images: Tensor) -> Tensor:
        calls[0] += 1
        return usual(self, images)

    def calls_of(epochs: int) -> int:
        with pretended_gpu():
            before = calls[0]
            fit(settings(epochs=epochs), tmp_path / str(epochs), tiny_npz)
        return calls[0] - before

    monkeypatch.setattr(nn.BatchNorm2d, "forward", counted)
    # An epoch more: the half batch and the evaluation, in each of two norms; no whole batch.
    assert calls_of(4) - calls_of(3) == 2 * 2


class Asking(nn.Sequential):
    """A network with something in front of its layers."""

    def __init__(self, front: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__(*small())
        self.front, self.calls = front, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(self.front(self, images))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("front", "says"),
    [
        (lambda net, x: nn.functional.dropout(x, 0.3, net.training), "no: layers draw random numbers"),
        (lambda net, x: x * (1 + 0 * x.sum().item()), "no: called a synchronizing CUDA operation"),
        (lambda net, x: x * (1 + 0.01 * net.calls), "no: replayed, it gave other bits"),
    ],
    ids=["drawn", "waited for", "known to the host"],
)
def test_networks_that_are_not_one_sequence_of_operations(
    front: Any, says: str, tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "small", lambda num_classes=10: Asking(front))
    with pretended_gpu() as gpu:
        silent = Silent()
        found = fit(settings(), tmp_path / "found", tiny_npz, reporter=silent)
        assert gpu.sync_debug == 0
    assert str(found.environment["cuda_graph"]).startswith(says)
    assert len(set(silent.notes)) == 1
    assert says.removeprefix("no: ") in silent.notes[0]
    if "other bits" not in says:  # that one counts the trials, too
        with pretended_gpu():
            assert_same(found, fit(settings(), tmp_path / "expected", tiny_npz, "off"))


def test_planted_mistakes_are_seen(tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = captured._Graph.__call__

    def old_labels(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        return usual(self, images, self.labels)

    def old_images(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        return usual(self, self.images, labels)

    def statistics_twice(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        usual(self, images, labels)
        return usual(self, images, labels)

    for mistake in (old_labels, old_images, statistics_twice):
        monkeypatch.setattr(captured._Graph, "__call__", mistake)
        gpu, said = compared(settings(), tmp_path / mistake.__name__, tiny_npz)
        assert said == "no: replayed, it gave other bits than computed as it is", mistake
        assert gpu.captures == 1


def test_planted_gradients_in_the_memory_of_the_graph_are_seen(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handed_out(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        self.images.copy_(images)
        self.labels.copy_(labels)
        total, gradients = self.run()
        for param, gradient in zip(self.params, gradients, strict=True):
            param.grad = gradient
        return total  # type: ignore[no-any-return]

    monkeypatch.setattr(captured._Graph, "__call__", handed_out)
    sam = OPTIMIZERS["sam"](0.05, batch_norm="both", restore="subtract")  # type: ignore[call-arg]
    with pytest.raises(AssertionError):
        compared(dataclasses.replace(settings(), optimizer=sam), tmp_path, tiny_npz)


def test_planted_warm_ups_that_move_statistics_are_seen(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "_write", lambda tensors, values: None)
    with pytest.raises(AssertionError):
        compared(settings(), tmp_path, tiny_npz)


def test_weights_in_other_memory_each_time(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(self: Passes, *given: Any) -> Tensor:
        for one in self._params:
            one.data = one.data.clone()
            kept.append(one.data)  # so that no other gets its address
        return usual(self, *given)

    usual, kept = Passes.__call__, list[Tensor]()
    monkeypatch.setattr(Passes, "__call__", moved)
    gpu, said = compared(settings(), tmp_path, tiny_npz)
    assert said == "no: weights or settings of layers change from step to step"
    assert not gpu.captures


def test_too_little_memory_beside_a_graph(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretended_gpu() as gpu:
        left = iter([8 << 30, 5 << 30])
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (next(left), 16 << 30))
        found = fit(settings(), tmp_path, tiny_npz)
        monkeypatch.undo()
    assert found.environment["cuda_graph"] == "no: it leaves too little of the GPU's memory"
    assert gpu.captures == 1
    assert not gpu.replays


def test_a_capture_leaves_everything_as_it_was() -> None:
    with pretended_gpu() as gpu:
        torch.manual_seed(0)
        model = small(4).to(CUDA)
        images, labels = torch.randn(4, 3, 8, 8, device=CUDA), torch.arange(4, device=CUDA)

        def compute(images: Tensor, labels: Tensor) -> Tensor:
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        def state(*computed: Any) -> list[Tensor]:
            model.zero_grad()
            loss = passes(*computed)
            gradients = [one.grad.clone() for one in model.parameters() if one.grad is not None]
            return [
                loss,
                *gradients,
                *(one.clone() for one in model.state_dict().values()),
                torch.get_rng_state(),
            ]

        passes = Passes(model, 4, "", pytest.fail)
        start = {name: value.clone() for name, value in model.state_dict().items()}
        expected = state(compute, images, labels)
        for turn in range(3):  # captured, compared, replayed
            model.load_state_dict(start)
            found = state(compute, images, labels)
            assert all(torch.equal(*both) for both in zip(expected, found, strict=True)), turn
        assert passes.about is True
        assert (gpu.captures, gpu.replays) == (1, 2)
        model.eval()  # other operations: another graph, once they were seen twice
        assert state(compute, images, labels)[0] != expected[0]
        assert gpu.replays == 2


def test_what_is_against_it_is_said(tiny_npz: Path, tmp_path: Path) -> None:
    usual: dict[str, Any] = {
        **{"config": RunConfig(), "device": "cuda", "processes": 1},
        **{"compiled": False, "streamed": False, "graphs": "auto"},
    }
    assert obstacle(**usual) == ""
    for changes, word in [
        ({"device": "cpu"}, "no GPU, but cpu"),
        ({"graphs": "off"}, "switched off"),
        ({"processes": 2}, "several processes"),
        ({"compiled": True}, "torch.compile"),
        ({"streamed": True}, "photographs"),
        ({"config": RunConfig(mixup=0.2)}, "mixed"),
    ]:
        assert word in obstacle(**usual | changes)
    assert "cuda_graph" not in fit(settings(epochs=1), tmp_path, tiny_npz, device=CPU).environment
    few = dataclasses.replace(
        settings(epochs=1), batch_size=72, optimizer=SGD(0.1), method=METHODS["dense"]()
    )
    with pretended_gpu():
        assert fit(few, tmp_path / "few", tiny_npz).environment["cuda_graph"] == "no: too few whole batches"


def test_the_option_of_the_command(tiny_npz: Path, tmp_path: Path) -> None:
    words = ["--model", "small", "--data", f"npz:{tiny_npz}", "--epochs", "1", "--device", "cuda:0"]
    for graphs, captures in (("auto", 1), ("off", 0)):
        with pretended_gpu() as gpu:
            main([*words, "--batch-size", "16", "--cuda-graph", graphs, "--output", str(tmp_path / graphs)])
        assert gpu.captures == captures


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "sam", "s2sam"])
def test_on_a_real_gpu(optimizer: str, tiny_npz: Path, tmp_path: Path) -> None:
    config = settings("rigl", optimizer)
    found = fit(config, tmp_path / "captured", tiny_npz)
    assert found.environment["cuda_graph"] is True
    assert_same(found, fit(config, tmp_path / "plain", tiny_npz, "off"))
    with suppress(KeyboardInterrupt):
        fit(config, tmp_path / "stopped", tiny_npz, reporter=Stop(1))
    assert_same(found, fit(config, tmp_path / "stopped", tiny_npz))
