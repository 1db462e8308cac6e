"""Which channels belong together, and networks without those that nothing reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import SqueezeExcitation

from landscape.channels import Group, channel_groups, shrink
from landscape.errors import UserError
from training.models import build_model


class Branches(nn.Module):
    """A residual sum, a gate, two branches side by side, a depthwise convolution, runs of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.inner = nn.Conv2d(6, 5, 1)
        self.back = nn.Conv2d(5, 6, 3, padding=1)
        self.gate = SqueezeExcitation(6, 2)
        self.left = nn.Conv2d(6, 4, 1)
        self.right = nn.Conv2d(6, 3, 1)
        self.apart = nn.Conv2d(7, 7, 3, padding=1, groups=7)
        self.unused = nn.Conv2d(7, 2, 1)
        self.head = nn.Linear(7 * 4, 8)
        self.classes = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.back(F.relu6(self.inner(x)))
        x = self.gate(x)
        x = torch.cat([self.left(x), torch.sigmoid(self.right(x))], 1)
        x = F.adaptive_avg_pool2d(self.apart(x), 2).flatten(1)
        return self.classes(F.relu(self.head(x)))


IMAGE = torch.zeros(1, 3, 8, 8)


def seen_by_nan(model: nn.Module, maker: str, channel: int) -> dict[str, list[int]]:
    """Positions at which layers read a channel: those that get NaN when its filter is NaN."""
    probed, found = copy.deepcopy(model).eval(), {}

    def clean(name: str) -> Callable[[nn.Module, Any], Any]:
        def hook(module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
            bad = given[0].isnan().transpose(0, 1).flatten(1).any(1)
            if bool(bad.any()) and getattr(module, "groups", 1) == 1:
                found[f"{name}.weight"] = bad.nonzero().flatten().tolist()
            return given if getattr(module, "groups", 1) > 1 else (given[0].nan_to_num(),)

        return hook

    for name, module in probed.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(clean(name))
    probed.get_submodule(maker).weight.data[channel] = torch.nan  # type: ignore[union-attr, operator]
    with torch.no_grad():
        probed(torch.randn(1, 3, 8, 8))
    return found


def read_by(groups: list[Group], maker: str, channel: int) -> dict[str, list[int]]:
    """The same as the groups have it."""
    group = next(one for one in groups if maker in one.makers)
    place = next(one for one in group.having("filter") if one.name == f"{maker}.weight")
    chosen = torch.zeros(group.size, dtype=torch.bool)
    chosen[place.channels[channel]] = True
    found: dict[str, list[int]] = {}
    for one in group.having("input"):
        if positions := one.of(chosen).nonzero().flatten().tolist():
            found[one.name] = sorted({*found.get(one.name, []), *positions})
    return found


@pytest.mark.parametrize("build", [Branches, lambda: build_model("resnet20", widths=(4, 6, 8))])
def test_readers_are_those_that_nan_reaches(build: Callable[[], nn.Module]) -> None:
    """Every layer's every filter; the gate's product joins channels, which NaN sees, too."""
    model = build()
    groups = channel_groups(model, IMAGE)
    checked = 0
    for group in groups:
        for maker in group.makers if not group.held else ():
            for channel in range(len(model.get_submodule(maker).weight)):  # type: ignore[arg-type]
                expected = seen_by_nan(model, maker, channel)
                found = read_by(groups, maker, channel)
                # A sum's channels are made by several layers: what one of them reaches, all of the group cut.
                assert expected.items() <= found.items()
                assert len(group.makers) > 1 or expected == found
                checked += 1
    assert checked >= 28


def test_groups_by_hand() -> None:
    groups = {tuple(one.makers): one for one in channel_groups(Branches(), IMAGE)}
    assert set(groups) == {
        ("stem", "back", "gate.fc2"),
        ("inner",),
        ("gate.fc1",),
        ("left",),
        ("right",),
        ("head",),
        ("classes",),
    }
    assert {one.held for names, one in groups.items() if names != ("classes",)} == {""}
    assert groups[("classes",)].held == "they are the network's output"
    right = groups[("right",)]
    assert [(one.name, one.dim, one.role) for one in right.places] == [
        ("right.weight", 0, "filter"),
        ("right.bias", 0, "bias"),
        ("apart.weight", 0, "depthwise"),
        ("apart.bias", 0, "bias"),
        ("head.weight", 1, "input"),
    ]
    assert right.places[2].channels.tolist() == [-1, -1, -1, -1, 0, 1, 2]
    assert right.places[4].channels.tolist() == [-1] * 16 + [0] * 4 + [1] * 4 + [2] * 4


class Odd(nn.Module):
    """Two convolutions with something between."""

    def __init__(self, between: Callable[[Tensor], Tensor], groups: int = 1) -> None:
        super().__init__()
        self.first, self.between = nn.Conv2d(3, 4, 3, padding=1), between
        self.second = nn.Conv2d(4, 4, 3, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


@pytest.mark.parametrize(
    ("between", "groups", "reason"),
    [
        (F.relu, 2, "they go into Conv2d second, a grouped convolution"),
        (lambda x: x.softmax(1), 1, "they go into softmax"),
        (lambda x: x.view(-1, 4, 8, 8), 1, "they go into view"),
        (lambda x: F.pad(x[:, :2], (0, 0, 0, 0, 1, 1)), 1, "they go into getitem"),
        (lambda x: F.pad(F.max_pool3d(x, (2, 1, 1)), (0, 0, 0, 0, 1, 1)), 1, "they go into "),
        (lambda x: x.mean(1, keepdim=True) + x, 1, "they go into mean"),
        (lambda x: x + x.mean((0, 1)), 1, "they go into mean"),
        (nn.GroupNorm(2, 4), 1, "they go into GroupNorm between"),
    ],
)
def test_unknown_operations_hold_channels(
    between: Callable[[Tensor], Tensor], groups: int, reason: str
) -> None:
    held = {one.makers[0]: one.held for one in channel_groups(Odd(between, groups), IMAGE)}
    assert held["first"].startswith(reason)


def test_weights_used_elsewhere_hold_channels() -> None:
    class Tied(Odd):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.first.weight.mean()

    shared = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1))
    shared[1].weight = shared[0].weight
    for model in (Tied(F.relu), shared):
        assert "is used elsewhere, too" in channel_groups(model, IMAGE)[0].held


def test_a_layer_that_is_called_twice() -> None:
    """What it reads and what it makes is one group then."""
    again = nn.Conv2d(4, 4, 1)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), again, nn.ReLU(), again, nn.Conv2d(4, 2, 1))
    groups = channel_groups(model, IMAGE)
    assert [one.makers for one in groups] == [["0", "1"], ["4"]]
    assert [one.name for one in groups[0].having("input")] == ["1.weight", "4.weight"]


def test_what_cant_be_followed_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match=r"channels of this Branching can't be followed: .*torch.fx can trac"):
        channel_groups(Branching(), IMAGE)


def pruned(model: nn.Module, share: float = 0.5) -> tuple[nn.Module, int]:
    """Statistics as after a training; the readers of random channels zeroed; how many."""
    model.eval()
    count = 0
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_var, 0.5)):
                assert value is not None
                nn.init.uniform_(value, low, low + 1)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for group in channel_groups(model, torch.zeros(1, 3, 32, 32)):
            gone = torch.rand(group.size) < share
            for place in group.having("input") if not group.held else ():
                parameters[place.name].movedim(place.dim, 0)[place.of(gone)] = 0
            count += 0 if group.held else int(gone.sum())
    return model, count


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: build_model("resnet20"),
    "vgg19": lambda: build_model("vgg19"),
    "resnet50": models.resnet50,
    "mobilenet_v2": models.mobilenet_v2,
    "efficientnet_b0": models.efficientnet_b0,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_outputs_with_fewer_channels(name: str) -> None:
    """Within 1e-6 in float64 and 1e-5 in float32, of outputs of the size of 1."""
    torch.manual_seed(0)
    model, count = pruned(NETWORKS[name]())
    before = sum(one.numel() for one in model.parameters())
    images = torch.randn(2, 3, 32, 32)
    small = shrink(model, images[:1])
    makers = {maker for maker, channels in small.before.items() if channels > small.after[maker]}
    assert count > 100
    assert len(makers) >= 9
    assert sum(one.numel() for one in small.model.parameters()) < 0.6 * before
    with torch.no_grad():
        model(images)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
            expected = model.to(dtype)(images.to(dtype))
            difference = (small.model.to(dtype)(images.to(dtype)) - expected).abs().max()
            assert difference <= tolerance * max(1.0, float(expected.abs().max()))
            assert expected.std() > 0
    layers = {name: module for name, module in small.model.named_modules() if isinstance(module, nn.Conv2d)}
    assert all(one.weight.shape[0] == one.out_channels for one in layers.values())
    assert all(one.weight.shape[1] * one.groups == one.in_channels for one in layers.values())


def test_the_network_itself_is_left_alone() -> None:
    model, _ = pruned(build_model("resnet20", widths=(4, 6, 8)))
    model.train()
    before = copy.deepcopy(model.state_dict())
    small = shrink(model, torch.zeros(1, 3, 32, 32))
    assert model.training
    assert small.model.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert all(name in before for name in small.shapes)


def test_one_channel_stays_and_masks_are_cut_along() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    mask = {"0.weight": torch.ones(4, 3, 1, 1, dtype=torch.bool), "2.weight": torch.zeros(2, 4, 1, 1).bool()}
    mask["0.weight"][0, 0] = mask["0.weight"][3, 1] = False
    model[2].weight.data.zero_()  # type: ignore[operator, union-attr]
    small = shrink(model, IMAGE, mask)
    assert small.after == {"0": 1}
    assert small.mask["0.weight"].flatten().tolist() == [False, True, True]
    assert small.mask["2.weight"].shape == (2, 1, 1, 1)
