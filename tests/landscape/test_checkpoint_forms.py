"""Every form of checkpoint that people have, made by other means than the package's own."""

from __future__ import annotations

import argparse
import copy
import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from landscape.checkpoint import LoadedCheckpoint, load_checkpoint
from landscape.errors import UserError
from training.models import ARCHITECTURES

State = dict[str, Tensor]
FEW = {name: ARCHITECTURES[name] for name in ("resnet20", "resnet32")}


class ElsewhereBlock(nn.Module):
    """A basic block with an option A shortcut, written independently of ours."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride, self.extra = stride, channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        short = x[:, :, :: self.stride, :: self.stride]
        if self.extra:
            side = torch.zeros(len(short), self.extra // 2, *short.shape[2:])
            short = torch.cat([side, short, side], dim=1)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + short)


class ElsewhereResNet20(nn.Module):
    """He et al. 2016, section 4.2, with the names of the published checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(ElsewhereBlock(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(ElsewhereBlock(16, 32, 2), *(ElsewhereBlock(32, 32, 1) for _ in range(2)))
        self.layer3 = nn.Sequential(ElsewhereBlock(32, 64, 2), *(ElsewhereBlock(64, 64, 1) for _ in range(2)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def elsewhere() -> ElsewhereResNet20:
    """A trained-looking network: its running statistics are not the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = ElsewhereResNet20()
        with torch.no_grad():
            model(torch.randn(8, 3, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def load(path: Path, content: object, **options: Any) -> LoadedCheckpoint:
    torch.save(content, path)
    return load_checkpoint(path, architectures=FEW, **options)


def renamed(state: State, change: Callable[[str], str]) -> State:
    return {change(name): value for name, value in state.items()}


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: renamed(state, lambda name: prefix + name)


WRAPPINGS: dict[str, Callable[[State], object]] = {
    "bare": lambda state: state,
    "ordered": OrderedDict,
    "parameters": lambda state: {
        name: nn.Parameter(value) if value.is_floating_point() else value for name, value in state.items()
    },
    "state_dict": lambda state: {"state_dict": state, "best_prec1": 91.2, "epoch": 199},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"step": 1}}, "param_groups": []}},
    "net": lambda state: {"net": state, "acc": torch.tensor(91.2)},
    "model_state_dict": lambda state: {"model_state_dict": state, "lr_scheduler": {"last_epoch": 3}},
    "model_state": lambda state: {"model_state": state},
    "nested": lambda state: {"model": {"state_dict": state}},
    "ema": lambda state: {"ema": {"shadow": state}},
    "averaged": lambda state: {"n_averaged": torch.tensor(5), **prefixed("module.")(state)},
    "unusual key": lambda state: {"student": state, "step": 7},
    "module.": prefixed("module."),
    "_orig_mod.": prefixed("_orig_mod."),
    "module._orig_mod.": prefixed("module._orig_mod."),
    "_orig_mod.module.": prefixed("_orig_mod.module."),
    "model.": prefixed("model."),
    "net.module.": prefixed("net.module."),
    "compiled parts": lambda state: renamed(state, lambda name: name.replace("layer2.", "layer2._orig_mod.")),
    "no counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "fc": lambda state: renamed(state, lambda name: name.replace("linear", "fc")),
    "profiler's": lambda state: state | {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)},
    "numpy beside": lambda state: {
        "state_dict": state,
        "history": np.arange(3.0),
        "acc": np.float64(0.9),
        "args": argparse.Namespace(lr=0.1),
    },
}  # fmt: skip


def test_published_resnet_is_recognised_from_its_shapes(
    elsewhere: ElsewhereResNet20, images: Tensor, tmp_path: Path
) -> None:
    torch.save(elsewhere.state_dict(), tmp_path / "published.th")
    loaded = load_checkpoint(tmp_path / "published.th", architectures=ARCHITECTURES)
    assert loaded.how.startswith("resnet20(num_classes=10, widths=[16, 32, 64], shortcut=A), recognised from")
    assert not loaded.model.training
    with torch.inference_mode():
        assert torch.allclose(loaded.model(images), elsewhere(images), atol=1e-5)
    assert (loaded.architecture, loaded.num_classes, loaded.name) == ("resnet20", 10, "published")
    assert loaded.arguments == {"num_classes": 10, "widths": [16, 32, 64], "shortcut": "A"}
    assert (loaded.mask, loaded.data) == (None, None)
    assert loaded.sha256 == hashlib.sha256((tmp_path / "published.th").read_bytes()).hexdigest()


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_weights_are_found_however_wrapped(
    wrapping: str, elsewhere: ElsewhereResNet20, tmp_path: Path
) -> None:
    loaded = load(tmp_path / "a.pt", WRAPPINGS[wrapping](elsewhere.state_dict()))
    assert loaded.how.startswith("resnet20(")
    found = loaded.model.state_dict()
    for name, value in elsewhere.state_dict().items():
        if wrapping != "no counters" or not name.endswith("num_batches_tracked"):
            assert torch.equal(found[name], value)


def test_what_stands_beside_the_weights_is_kept(elsewhere: ElsewhereResNet20, tmp_path: Path) -> None:
    beside = {
        "acc": torch.tensor(91.5),
        "best": np.float32(0.5),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
    }
    loaded = load(tmp_path / "a.pt", {"net": elsewhere.state_dict(), "ema": elsewhere.state_dict(), **beside})
    assert loaded.metrics == {"acc": 91.5, "best": 0.5, "epoch": 3}
    assert loaded.config == {"lr": 0.1}
    assert "PyTorch file under 'net'" in loaded.how
    assert loaded.how.endswith("averaged weights (ema) not used; --weights ema takes them")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(
    dtype: torch.dtype, elsewhere: ElsewhereResNet20, tmp_path: Path
) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in elsewhere.state_dict().items()}
    loaded = load(tmp_path / "a.pt", state)
    assert loaded.how.endswith(f"{str(dtype).removeprefix('torch.')} weights converted to float32")
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, state[name].float() if value.is_floating_point() else state[name])


def test_legacy_format_and_old_pickle_protocols(elsewhere: ElsewhereResNet20, tmp_path: Path) -> None:
    torch.save(elsewhere.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(elsewhere.state_dict(), tmp_path / "four.pt", pickle_protocol=4)
    for name, trust in product(("old.pt", "four.pt"), (False, True)):
        loaded = load_checkpoint(tmp_path / name, architectures=FEW, trust=trust)
        assert torch.equal(loaded.model.get_parameter("conv1.weight"), elsewhere.conv1.weight)
        assert ("no checksums in this form" in loaded.how) == (name == "old.pt")


def test_safetensors_under_any_name(elsewhere: ElsewhereResNet20, tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.bin"):
        save_file(elsewhere.state_dict(), tmp_path / name)
        loaded = load_checkpoint(tmp_path / name, architectures=FEW)
        assert "safetensors file" in loaded.how
        assert all(torch.equal(v, elsewhere.state_dict()[k]) for k, v in loaded.model.state_dict().items())


@pytest.mark.parametrize("half", [False, True])
def test_torchscript_runs_as_it_is_when_trusted(
    half: bool, elsewhere: ElsewhereResNet20, images: Tensor, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; people's files stay
        traced = torch.jit.trace(elsewhere, images)  # type: ignore[no-untyped-call]
        (copy.deepcopy(traced).half() if half else traced).save(tmp_path / "scripted.pt")
    loaded = load_checkpoint(tmp_path / "scripted.pt", trust=True)
    assert isinstance(loaded.model, torch.jit.ScriptModule)
    assert loaded.how.startswith("ElsewhereResNet20, run as it is (TorchScript archive)")
    assert all(parameter.is_leaf for parameter in copy.deepcopy(loaded.model).parameters())
    assert loaded.num_classes == 10
    with torch.inference_mode():
        assert torch.allclose(loaded.model(images), elsewhere(images), atol=0.05 if half else 1e-5)
    ours = load_checkpoint(tmp_path / "scripted.pt", architectures=ARCHITECTURES)
    assert "recognised from the names and shapes of 116 tensors (TorchScript archive)" in ours.how
    with pytest.raises(UserError, match=r"of a script only the weights are read, --trust-checkpoint"):
        load_checkpoint(tmp_path / "scripted.pt")
    assert not isinstance(ours.model, torch.jit.ScriptModule)
    assert torch.allclose(
        ours.model.get_parameter("conv1.weight"), elsewhere.conv1.weight, atol=1e-3 if half else 0
    )


def test_whole_module_only_when_trusted(elsewhere: ElsewhereResNet20, images: Tensor, tmp_path: Path) -> None:
    loaded = load(tmp_path / "whole.pt", {"net": nn.DataParallel(elsewhere)}, trust=True)
    assert isinstance(loaded.model, ElsewhereResNet20)
    assert "a pickled module, trusted" in loaded.how
    with torch.inference_mode():
        assert torch.equal(loaded.model(images), elsewhere(images))


def test_pruned_pairs_become_weights_and_mask(images: Tensor, tmp_path: Path) -> None:
    model = ElsewhereResNet20().eval()
    for module in (model.conv1, model.layer2[1].conv1):
        prune.l1_unstructured(module, "weight", amount=0.75)  # type: ignore[no-untyped-call]
    loaded = load(
        tmp_path / "pruned.pt", {"state_dict": renamed(model.state_dict(), lambda n: f"module.{n}")}
    )
    assert loaded.mask is not None
    assert sorted(loaded.mask) == ["conv1.weight", "layer2.1.conv1.weight"]
    assert torch.equal(loaded.mask["conv1.weight"], model.get_buffer("conv1.weight_mask").bool())
    assert torch.equal(loaded.model.get_parameter("conv1.weight"), model.conv1.weight)
    with torch.inference_mode():
        assert torch.allclose(loaded.model(images), model(images), atol=1e-5)


def test_masks_beside_the_weights_count_where_they_fit(elsewhere: ElsewhereResNet20, tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in elsewhere.state_dict().items()}
    state["conv1.weight"][:, 0] = 0
    kept = (state["conv1.weight"] != 0).float()
    content = {"state_dict": renamed(state, lambda name: f"module.{name}"), "masks": {"conv1.weight": kept}}
    mask = load(tmp_path / "a.pt", content).mask
    assert mask is not None
    assert torch.equal(mask["conv1.weight"], kept.bool())
    content["masks"] = {"conv1.weight": 1 - kept}  # would deny weights that are there
    assert load(tmp_path / "b.pt", content).mask is None


def test_our_own_form(tmp_path: Path) -> None:
    from landscape.checkpoint.format import Checkpoint, encode

    model = ARCHITECTURES["resnet20"](num_classes=7, widths=(4, 8, 16))
    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    mask = {"conv1.weight": torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.3}
    state["conv1.weight"] *= mask["conv1.weight"]
    content = encode(
        Checkpoint(
            architecture="resnet20",
            arguments={"num_classes": 7, "widths": [4, 8, 16], "shortcut": "A"},
            state_dict=state,
            mask=mask,
            data={"name": "mine", "num_classes": 7},
            config={"epochs": 3},
            metrics={"test_accuracy": 0.5},
        )
    )
    loaded = load(tmp_path / "final.pt", content)
    assert loaded.how == "resnet20(num_classes=7, widths=[4, 8, 16], shortcut=A), named in the checkpoint"
    assert loaded.mask is not None
    assert torch.equal(loaded.mask["conv1.weight"], mask["conv1.weight"])
    assert all(torch.equal(value, state[name]) for name, value in loaded.model.state_dict().items())
    assert (loaded.num_classes, loaded.data) == (7, {"name": "mine", "num_classes": 7})
    assert (loaded.config, loaded.metrics) == ({"epochs": 3}, {"test_accuracy": 0.5})
    assert load(tmp_path / "final.pt", content, model="resnet20").arguments == loaded.arguments


def test_loading_leaves_global_random_numbers_alone(elsewhere: ElsewhereResNet20, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    load(tmp_path / "a.pt", elsewhere.state_dict())
    assert torch.equal(torch.random.get_rng_state(), before)
