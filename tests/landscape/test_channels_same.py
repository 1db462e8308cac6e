"""Networks with fewer channels compute the same, or are refused: whatever their forward does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.channels import shrink
from landscape.errors import UserError

IMAGE = torch.zeros(1, 3, 8, 8)


class Net(nn.Module):
    """Three convolutions, things to put between, and a way through them.

    Nothing reads the first layer's channels 2 and 6, nor the second one's 5 and 6.
    """

    def __init__(self, way: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 4, 3)
        self.norm, self.apart = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.instance, self.group = nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(2, 8)
        self.layer, self.slopes = nn.LayerNorm([8, 8, 8]), nn.PReLU(8)
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))
        self.one, self.other, self.response = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.LocalResponseNorm(3)
        self.other.weight = self.one.weight
        for one in (self.norm, self.one, self.other):
            for value in (one.weight, one.bias, one.running_mean, one.running_var):
                assert value is not None
                nn.init.uniform_(value, 0.5, 1.5)
        with torch.no_grad():
            self.second.weight[:, [2, 6]] = self.third.weight[:, [5, 6]] = 0
        self.way = way

    def forward(self, x: Tensor) -> Any:
        return self.way(self, x)


def twice(what: Callable[[Net, Tensor], Tensor]) -> Callable[[Net, Tensor], Tensor]:
    """The same after the first layer and after the second."""
    return lambda net, x: net.third(F.relu(what(net, net.second(F.relu(what(net, net.first(x)))))))


def after_first(what: Callable[[Tensor], Any]) -> Callable[[Net, Tensor], Tensor]:
    """The second layer sees its result."""
    return lambda net, x: net.second(what(F.relu(net.first(x))))


def unpacked(x: Tensor) -> Tensor:
    _, channels, _, _ = x.shape
    return x / channels


def of_the_sides(x: Tensor) -> Tensor:
    """Sizes of no channels: the second one is there, and nothing uses it."""
    images, _, high, wide = x.shape
    x = x / (high * wide * images) + x.size(-1) + x.size(dim=2)
    return F.interpolate(x, size=x.shape[-2:]) + x.shape[2:][0] + x.dim() + x.ndim


def by_parameters(net: Net, x: Tensor) -> Tensor:
    return F.batch_norm(x, net.norm.running_mean, net.norm.running_var, net.norm.weight, net.norm.bias)


def beside(what: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Net, Tensor], Tensor]:
    """The third layer sees what becomes of the first one's channels and the second one's."""

    def way(net: Net, x: Tensor) -> Tensor:
        x = net.first(x)
        return net.third(what(x, net.second(x)))

    return way


def mixed(x: Tensor) -> Tensor:
    """Over neighbouring channels, which its labels don't say."""
    return F.avg_pool3d(x, 3, 1, 1)


# What each is, the way, and how many channels the first layer has afterwards; 0: refused.
WAYS: dict[str, tuple[Callable[[Any, Tensor], Any], int]] = {
    "norm": (twice(lambda net, x: net.norm(x)), 7),
    "depthwise": (twice(lambda net, x: net.apart(x)), 7),
    "norm, by keyword": (twice(lambda net, x: net.norm(input=x)), 7),
    "a layer, by keyword": (lambda net, x: net.second(input=F.relu(input=net.first(x))), 6),
    "instance norm": (twice(lambda net, x: net.instance(x)), 8),
    "group norm": (twice(lambda net, x: net.group(x)), 8),
    "layer norm": (twice(lambda net, x: net.layer(x)), 8),
    "PReLU": (twice(lambda net, x: net.slopes(x)), 8),
    "layer": (lambda net, x: net.third(net.second(F.relu(net.second(net.first(x))))), 7),
    "functional norm": (twice(by_parameters), 8),
    "functional and layer": (lambda net, x: net.second(by_parameters(net, net.norm(net.first(x)))), 8),
    "functional depthwise": (twice(lambda net, x: F.conv2d(x, net.apart.weight, groups=8)), 8),
    "scale": (twice(lambda net, x: x * net.scale), 8),
    "a function of the scale": (twice(lambda net, x: x * torch.sigmoid(net.scale)), 8),
    "scale of one name": (lambda net, x: net.third(net.other(net.second(net.one(net.first(x))))), 8),
    "shape[1]": (after_first(lambda x: x / x.shape[1]), 8),
    "shape[-3]": (after_first(lambda x: x / x.shape[-3]), 8),
    "shape[:2]": (after_first(lambda x: x / x.shape[:2][1]), 8),
    "size(1)": (after_first(lambda x: x / x.size(1)), 8),
    "size(dim=1)": (after_first(lambda x: x / x.size(dim=1)), 8),
    "size()[1]": (after_first(lambda x: x / x.size()[1]), 8),
    "numel()": (after_first(lambda x: x / x.numel()), 8),
    "shape.numel()": (after_first(lambda x: x / x.shape.numel()), 8),
    "unpacked": (after_first(unpacked), 8),
    "flatten(1).shape[1]": (after_first(lambda x: x / x.flatten(1).shape[1]), 8),
    "afterwards": (lambda net, x: net.second(y := net.first(x)) / y.shape[1], 8),
    "sides": (after_first(of_the_sides), 6),
    "mean(1)": (after_first(lambda x: x - x.mean(1, keepdim=True)), 8),
    "var(1)": (after_first(lambda x: x / (1 + x.var(1, keepdim=True))), 8),
    "std": (after_first(lambda x: x / (1 + torch.std(x, 1, keepdim=True))), 8),
    "norm(1)": (after_first(lambda x: x / (1 + x.norm(dim=1, keepdim=True))), 8),
    "softmax": (after_first(lambda x: x.softmax(1)), 8),
    "response norm": (twice(lambda net, x: net.response(x)), 8),
    "channel shuffle": (after_first(lambda x: F.channel_shuffle(x, 2)), 8),
    "pixel shuffle": (after_first(lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2)), 8),
    "data": (after_first(lambda x: x.data.flip(1)), 8),
    "mT": (after_first(lambda x: x.mT), 8),
    "clamp": (beside(lambda x, y: torch.clamp(x, min=y)), 7),
    "clamp, all by keyword": (beside(lambda x, y: torch.clamp(input=x, min=-y.abs(), max=y.abs())), 7),
    "add": (beside(lambda x, y: torch.add(x, other=y, alpha=2)), 7),
    "where": (beside(lambda x, y: torch.where(x > 0, x, y)), 8),
    "lerp": (beside(lambda x, y: torch.lerp(x, end=y, weight=0.3)), 8),
    "addcmul": (beside(lambda x, y: torch.addcmul(x, tensor1=y, tensor2=y, value=0.5)), 8),
    "hardtanh": (beside(lambda x, y: F.hardtanh(x, -0.5, 0.5) + y), 7),
    "one by keyword alone": (beside(lambda x, y: torch.maximum(input=x, other=y)), 7),
    "cat by keyword": (lambda net, x: net.second(torch.cat(tensors=[net.first(x)], dim=1)), 6),
    "a view by keyword": (after_first(lambda x: x.reshape(shape=(-1, 8, 8, 8))), 8),
    "dropout that always drops": (after_first(lambda x: F.dropout(x, 0.5)), 8),
    "the layer's own number": (lambda net, x: net.second(net.first(x)) / net.first.out_channels, 0),
    "a pool over channels": (after_first(mixed), 0),
    "a pad that moves channels": (after_first(lambda x: F.pad(x, (0, 0, 0, 0, 1, -1))), 0),
}


@pytest.mark.parametrize("name", WAYS)
def test_same_outputs_whatever_forward_does(name: str) -> None:
    way, channels = WAYS[name]
    model = Net(way).eval()
    if not channels:
        with pytest.raises(UserError, match=r"this Net without .*channels.*use the network as it is$"):
            shrink(model, IMAGE)
        return
    small = shrink(model, IMAGE)
    assert small.after.get("first", 8) == channels
    images = torch.randn(3, 3, 8, 8).double()
    torch.manual_seed(1)
    expected = model.double()(images)
    torch.manual_seed(1)
    torch.testing.assert_close(small.model.double()(images), expected, rtol=1e-9, atol=1e-9)


def parts(net: Net, x: Tensor) -> Any:
    y = net.first(x)
    return {"size": math.prod(x.shape[2:]), "two": (net.second(y), [net.third(y).clamp(max=0)]), "no": None}


@pytest.mark.parametrize(
    ("way", "channels"),
    [
        (lambda net, x: (parts(net, x)["two"][0].float(), None), 7),
        (lambda net, x: net.second(net.first(x)) * 0, 6),
        (lambda net, x: net.second(net.first(x)).sqrt(), 6),  # NaN here and there
        (lambda net, x: net.second(net.first(x)) + torch.rand_like(x[:, :1]), 6),  # of no channel
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outputs_of_any_form_are_compared(
    way: Callable[[Any, Tensor], Any], channels: int, dtype: torch.dtype
) -> None:
    model = Net(way).to(dtype)
    state = torch.get_rng_state()
    small = shrink(model, IMAGE)
    assert small.after["first"] == channels
    assert torch.equal(torch.get_rng_state(), state)


def test_outputs_in_containers() -> None:
    """One channel is unread by both readers. A part of the outputs that differs is seen."""
    assert shrink(Net(parts), IMAGE).after["first"] == 7

    def wrong(net: Net, x: Tensor) -> Any:
        return parts(net, x) | {"size": net.second(mixed(net.first(x))).mean((1, 2, 3))}

    with pytest.raises(UserError, match=r"differs by 0\.\d+ of its outputs"):
        shrink(Net(wrong), IMAGE)

    def number(net: Net, x: Tensor) -> Any:
        return parts(net, x) | {"size": net.first.out_channels}

    with pytest.raises(UserError, match=r"calls output\(.*7, .* instead of output\("):
        shrink(Net(number), IMAGE)


@dataclass
class Scores:
    """What some networks return."""

    scores: Tensor
    auxiliary: Tensor | None = None


def test_outputs_in_a_class_of_their_own() -> None:
    assert shrink(Net(lambda net, x: Scores(net.second(net.first(x)))), IMAGE).after["first"] == 6
    with pytest.raises(UserError, match="differs by"):
        shrink(Net(lambda net, x: Scores(x, net.second(mixed(net.first(x))))), IMAGE)


def test_a_network_of_one_format_only() -> None:
    """What can't be computed in float64 is compared as it is."""

    def way(net: Net, x: Tensor, between: Callable[[Tensor], Tensor] = F.relu) -> Tensor:
        return net.second(between(net.first(x)).float())

    assert shrink(Net(way), IMAGE).after["first"] == 6
    with pytest.raises(UserError, match="differs by"):
        shrink(Net(lambda net, x: way(net, x, mixed)), IMAGE)


def test_nothing_is_taken_for_the_same_where_nothing_can_be_compared() -> None:
    """Numbers of an unread channel count once they aren't finite: 0 times infinity is NaN."""
    model = Net(after_first(lambda x: x))
    model.first.weight.data[2] = torch.inf
    with pytest.raises(UserError, match="finite"):
        shrink(model, IMAGE)
    model.second.bias.data[:] = torch.nan  # type: ignore[union-attr]
    with pytest.raises(UserError, match="finite"):
        shrink(model, IMAGE)


def test_a_network_that_cant_be_computed_is_refused() -> None:
    class Fails(nn.Module):
        """Takes shapes, not numbers."""

        def forward(self, x: Tensor) -> Tensor:
            torch._assert(x.device.type == "meta", "no numbers, please")
            return x

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), Fails())
    model[2].weight.data[:, 1] = 0  # type: ignore[operator, union-attr]
    with pytest.raises(UserError, match="no numbers, please"):
        shrink(model, IMAGE)

    def way(net: Net, x: Tensor) -> Tensor:
        assert net.first.out_channels == 8, "eight, please"
        return net.second(net.first(x))

    with pytest.raises(UserError, match="eight, please"):
        shrink(Net(way), IMAGE)


@pytest.mark.parametrize("hooked", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_weights_that_are_computed_stay(hooked: Callable[[nn.Module], nn.Module]) -> None:
    model = Net(after_first(F.relu)).eval()
    hooked(model.first)
    assert "first" not in shrink(model, IMAGE).after
