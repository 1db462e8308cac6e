"""Random networks with masks, for the sparse kernels' tests."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from torch import Tensor, nn

from landscape.sparse import machine


def machines() -> list[machine.Machine]:
    """What this processor can run: as it is, and with AVX2 alone."""
    found = [machine.host()]
    if found[0].vector_bytes == 64:
        found.append(machine.Machine(found[0].triple, "x86-64-v3", "", 32, 16))
    return found


@dataclass(frozen=True)
class Layer:
    """One convolution with what follows it."""

    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: int
    grouped: str
    norm: bool
    bias: bool
    relu: bool
    residual: bool
    pool: str


layers = st.builds(
    Layer,
    channels=st.sampled_from([1, 2, 3, 4, 6, 8]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    grouped=st.sampled_from(["no", "no", "no", "two", "depthwise"]),
    norm=st.booleans(),
    bias=st.booleans(),
    relu=st.booleans(),
    residual=st.booleans(),
    pool=st.sampled_from(["", "", "", "average", "largest", "padded"]),
)


class RandomNet(nn.Module):
    """Layers one after the other, as far as the map reaches, then a mean (or not) and a linear layer."""

    def __init__(self, size: tuple[int, int], channels: int, built: list[Layer], flat: bool) -> None:
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        self.built: list[Layer] = []
        self.residual: list[bool] = []
        self.flat = flat
        x = torch.zeros(1, channels, *size)
        for layer in built:
            groups = {"no": 1, "two": 2, "depthwise": x.shape[1]}[layer.grouped]
            if x.shape[1] % groups:
                groups = 1
            wide = layer.channels * groups if layer.grouped != "no" else layer.channels
            wide = x.shape[1] if layer.residual else wide
            conv = nn.Conv2d(
                *(x.shape[1], wide, layer.kernel, layer.stride, layer.padding, layer.dilation, groups),
                bias=layer.bias,
            )
            try:
                wide_map = conv(x)
                y = self.pooled(wide_map, layer)
            except RuntimeError:  # the map is too small for it
                continue
            self.convs.append(conv)
            self.norms.append(nn.BatchNorm2d(wide) if layer.norm else nn.Identity())
            self.built.append(layer)
            self.residual.append(layer.residual and wide_map.shape == x.shape)
            x = y
        self.head = nn.Linear(x[0].numel() if flat else x.shape[1], 3)

    def pooled(self, x: Tensor, layer: Layer) -> Tensor:
        if layer.pool == "average":
            return F.avg_pool2d(x, 2)
        if layer.pool == "largest":
            return F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) if layer.pool == "padded" else x

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(self.convs, self.norms, self.built, self.residual, strict=True)
        for conv, norm, layer, residual in parts:
            y = norm(conv(x))
            if residual:
                y = y + x
            if layer.relu:
                y = F.relu(y)
            x = self.pooled(y, layer)
        return self.head(x.flatten(1) if self.flat else x.mean((2, 3)))


def prepare(net: nn.Module, density: float, seed: int) -> dict[str, Tensor]:
    """Random weights, running statistics and a mask; some output channels stay empty. The mask."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    with torch.no_grad():
        for name, one in net.named_parameters():
            one.copy_(torch.randn(one.shape, generator=generator) / max(1, one[0].numel()) ** 0.5)
            if one.dim() > 1:
                kept[name] = torch.rand(one.shape, generator=generator) < density
                kept[name][torch.rand(len(one), generator=generator) < 0.2] = False
                one.mul_(kept[name])
        for norm in (one for one in net.modules() if isinstance(one, nn.BatchNorm2d)):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator))
            norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
    return kept


def exact(net: nn.Module) -> nn.Module:
    """A copy in float64."""
    return copy.deepcopy(net).double()
