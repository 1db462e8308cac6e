"""Training on sparse kernels: the same as dense within rounding, the same bits again, one path a run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import CPU, SMALL, Silent, Stop, assert_same, fit
from torch import Tensor

pytest.importorskip("llvmlite", reason="the extra 'sparse' isn't installed")

from landscape.errors import UserError
from landscape.sparse import choice
from landscape.sparse.batch import SparseTraining
from training import kept, step
from training.checkpoint import RunFolder, load_dict
from training.data import TrainingData, load_splits
from training.distributed import World
from training.evaluation import evaluate
from training.loop import Extras
from training.optimizers import SGD, OptimizerConfig
from training.optimizers.s2sam import S2SAMConfig
from training.optimizers.sam import SAMConfig
from training.run import start_run
from training.sparsity import METHODS, Dense, Random, SparsityMethod

ON, OFF = Extras(sparse="on"), Extras(sparse="off")
METHODS_TRIED: dict[str, SparsityMethod] = {
    "random": Random(0.7),
    "snip": METHODS["snip"](sparsity=0.7),
    "set": METHODS["set"](sparsity=0.7),
    "rigl": METHODS["rigl"](sparsity=0.7),
    "mest_em": METHODS["mest_em"](sparsity=0.7),
    "dsr": METHODS["dsr"](sparsity=0.7),
}
OPTIMIZERS_TRIED: dict[str, OptimizerConfig] = {
    "sgd": SGD(0.05),
    "sam": SAMConfig(0.05),
    "s2sam": S2SAMConfig(0.05),
    "s2sam, first step SAM's": S2SAMConfig(0.05, first_step="sam"),
}


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", 0.1, 0, CPU)


def run_of(config: Any, data: TrainingData, tmp_path: Path, sparse: Any) -> Any:
    folder = RunFolder(tmp_path / "run", config.to_dict(data.name))
    return start_run(config, data, folder, CPU, World(), False, sparse)


def few_steps(run: Any, count: int) -> list[float]:
    """Losses of the first steps."""
    run.model.train()
    batches = list(run.data.train.in_order(run.config.batch_size))
    losses = []
    for number in range(count):
        images, labels = batches[number % len(batches)]
        out = torch.zeros(())
        step.train_step(run, run.plan[0], number, images, labels, out)
        losses.append(out.item())
    return losses


@pytest.mark.parametrize("name", METHODS_TRIED)
def test_methods_take_the_steps_of_dense_training(name: str, data: TrainingData, tmp_path: Path) -> None:
    config = replace(SMALL, method=METHODS_TRIED[name], optimizer=SGD(0.02))
    runs = [run_of(config, data, tmp_path, sparse) for sparse in ("on", "off")]
    assert runs[0].kept is not None
    assert runs[1].kept is None
    losses = [few_steps(run, 8) for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    for name, mask in runs[0].mask.items():
        assert bool((runs[0].model.get_parameter(name)[~mask] == 0).all())


@pytest.mark.parametrize("name", OPTIMIZERS_TRIED)
def test_optimizers_too(name: str, data: TrainingData, tmp_path: Path) -> None:
    config = replace(SMALL, optimizer=OPTIMIZERS_TRIED[name])
    runs = [run_of(config, data, tmp_path, sparse) for sparse in ("on", "off")]
    assert few_steps(runs[0], 6) == pytest.approx(few_steps(runs[1], 6), rel=2e-3)
    for one, other in zip(runs[0].model.buffers(), runs[1].model.buffers(), strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("method", ["random", "rigl", "mest_em"])
def test_goes_on_with_the_same_bits(method: str, data: TrainingData, tmp_path: Path) -> None:
    config = replace(SMALL, method=METHODS_TRIED[method], optimizer=S2SAMConfig(0.05))
    whole = fit(config, data, tmp_path / "whole", extras=ON)
    for sparse in ("on", "auto"):
        with pytest.raises(KeyboardInterrupt):
            fit(config, data, tmp_path / sparse, Stop(1), Extras(sparse="on" if sparse == "on" else "auto"))
        resumed = fit(config, data, tmp_path / sparse, extras=Extras(sparse=sparse))  # type: ignore[arg-type]
        assert "kept weights only" in resumed.environment["kernels"]
        assert_same(whole, resumed)


def test_rigl_looks_at_all_gradients(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step in which the mask changes is dense, all others are not."""
    config = replace(SMALL, method=METHODS["rigl"](sparsity=0.7, update_interval=3))
    run = run_of(config, data, tmp_path, "on")
    dense, sparse = [], []
    forward, call = run.forward, SparseTraining.__call__
    run.forward = lambda x: (dense.append(1), forward(x))[1]

    def counted(net: SparseTraining, x: Tensor) -> Tensor:
        sparse.append(1)
        return call(net, x)

    monkeypatch.setattr(SparseTraining, "__call__", counted)
    before = {name: part.clone() for name, part in run.mask.items()}
    few_steps(run, 8)
    assert len(dense) >= 1
    assert len(dense) + len(sparse) == 8
    assert any(not torch.equal(part, run.mask[name]) for name, part in before.items())


@pytest.mark.parametrize(("began", "goes_on"), [("on", "off"), ("off", "on")])
def test_another_path_is_refused(began: Any, goes_on: Any, data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path / "run", Stop(1), Extras(sparse=began))
    with pytest.raises(UserError, match="a run keeps to one: go on as it began"):
        fit(SMALL, data, tmp_path / "run", extras=Extras(sparse=goes_on))
    found = fit(SMALL, data, tmp_path / "run")  # auto goes on as it began
    assert found.environment["kernels"].startswith("kept" if began == "on" else "dense: the run began so")


def test_kernels_that_went_missing_are_named(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path / "run", Stop(1), Extras(sparse="on"))
    monkeypatch.setattr(kept, "missing", lambda: "llvmlite is not installed")
    with pytest.raises(UserError, match=r"16 lanes|8 lanes|4 lanes.*dense \(llvmlite is not installed\)"):
        fit(SMALL, data, tmp_path / "run")
    assert fit(SMALL, data, tmp_path / "other").environment["kernels"] == "dense: llvmlite is not installed"


def test_states_of_earlier_versions_go_on_dense(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path / "run", Stop(1), OFF)
    state = load_dict(tmp_path / "run" / "last.pt")
    del state["sparse"]
    run = run_of(SMALL, data, tmp_path / "other", "auto")
    assert run.kept is not None
    run.restore(state)
    assert run.kept is None
    assert run.dense_because == "the run began so"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": Dense()}, "no weight is pruned"),
        ({"precision": "bfloat16"}, "not bfloat16"),
        ({"optimizer": S2SAMConfig(0.05, perturb_pruned=True)}, "perturbs pruned weights"),
    ],
)
def test_what_cannot_be_is_dense_with_a_reason(
    change: dict[str, Any], reason: str, data: TrainingData, tmp_path: Path
) -> None:
    config = replace(SMALL, **change)
    assert reason in run_of(config, data, tmp_path, "auto").dense_because
    with pytest.raises(UserError, match=f"--sparse on: .*{reason}"):
        run_of(config, data, tmp_path, "on")


def test_other_obstacles() -> None:
    assert "cuda" in str(kept.obstacle(SMALL, "cuda", 1, False))
    assert "several processes" in str(kept.obstacle(SMALL, "cpu", 2, False))
    assert "torch.compile" in str(kept.obstacle(SMALL, "cpu", 1, True))
    assert kept.obstacle(SMALL, "cpu", 1, False) is None
    with pytest.raises(UserError, match="expected auto, on or off"):
        choice.check_choice("never")


def test_validation_is_that_of_the_plain_network(data: TrainingData, tmp_path: Path) -> None:
    run = run_of(SMALL, data, tmp_path, "on")
    few_steps(run, 5)
    found = [evaluate(run.model, data.validation, one) for one in (run.kept, None)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert run.model.training


def test_a_mask_that_keeps_too_much_is_dense(data: TrainingData, tmp_path: Path) -> None:
    """Decided by the mask alone; lottery tickets start with all weights."""
    run = run_of(replace(SMALL, method=Random(0.01)), data, tmp_path, "auto")
    assert few_steps(run, 1)
    assert run.kept._net is run.model
    run.use({name: torch.rand(part.shape) < 0.2 for name, part in run.mask.items()})
    assert few_steps(run, 1)
    assert isinstance(run.kept._net, SparseTraining)


@pytest.mark.parametrize("sparse", ["on", "auto"])
@pytest.mark.parametrize("built", [True, False])
def test_a_batch_norm_in_evaluation_mode_is_computed_with_densely(
    sparse: str, built: bool, data: TrainingData, tmp_path: Path
) -> None:
    """Before and after there were lists; and back again."""
    run = run_of(SMALL, data, tmp_path, sparse)
    run.model.train()
    images = next(iter(data.train.in_order(20)))[0]
    if built:
        run.kept(images)
    norms = [one for one in run.model.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    norms[2].eval()
    if not built:
        run.use(run.mask)
    before = norms[2].running_mean.clone()
    assert torch.equal(run.kept(images), run.model(images))
    assert torch.equal(norms[2].running_mean, before)
    norms[2].train()
    run.kept(images)
    assert isinstance(run.kept._net, SparseTraining)
    assert not torch.equal(norms[2].running_mean, before)


def test_another_machines_lanes_are_refused(data: TrainingData, tmp_path: Path) -> None:
    """Eight images a vector sum in another order than sixteen."""
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, data, tmp_path / "run", Stop(1), ON)
    state = load_dict(tmp_path / "run" / "last.pt")
    run = run_of(SMALL, data, tmp_path / "other", "auto")
    for word, other in (("lanes", 2 * state["sparse"]["lanes"]), ("kernels", -1)):
        elsewhere = state | {"sparse": state["sparse"] | {word: other}}
        with pytest.raises(UserError, match="a run keeps to one: go on as it began, or choose another --out"):
            run.restore(elsewhere)


def test_accumulated_pieces_and_a_short_last_batch(data: TrainingData, tmp_path: Path) -> None:
    config = replace(SMALL, accumulate=3, batch_size=20, epochs=1)
    found = [fit(config, data, tmp_path / name, Silent(), one) for name, one in (("a", ON), ("b", OFF))]
    assert math.isclose(found[0].metrics["train_loss"], found[1].metrics["train_loss"], rel_tol=2e-3)
