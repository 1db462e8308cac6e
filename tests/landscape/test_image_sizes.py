"""Batches and splits needn't be of one image size: whatever was laid out for the first holds for all."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from engine_cases import PreActivation, Tangled, vgg_like
from torch import Tensor, nn

from landscape.compute import compute_surface
from landscape.errors import UserError
from training.models.cifar_resnet import CifarResNet


def narrow() -> nn.Module:
    """Few channels, for which the fused convolutions take two columns at a time."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )


def batches(*sizes: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [
        (torch.randn(3 + number, 3, *size), torch.randint(5, (3 + number,)))
        for number, size in enumerate(sizes)
    ]


def plain(model: nn.Module, parts: list[tuple[Tensor, Tensor]]) -> float:
    exact = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        sums = [float(F.cross_entropy(exact(x.double()), y, reduction="sum")) for x, y in parts]
    return sum(sums) / sum(len(y) for _, y in parts)


def network(kind: str, sparse: bool) -> nn.Module:
    torch.manual_seed(0)
    made = {
        "narrow": narrow,
        "resnet": lambda: CifarResNet(1, (4, 8, 16), "B", 5),
        "preactivation": PreActivation,
        "tangled": Tangled,
        "vgg": vgg_like,
    }[kind]()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, 0.0, 0.3)
        elif isinstance(module, nn.Conv2d) and sparse:
            module.weight.data[torch.rand(module.weight.shape) < 0.8] = 0
    return made.eval()


@pytest.mark.parametrize("sizes", [[(8, 8), (8, 7), (12, 9)], [(9, 7), (8, 8)]], ids=["even", "odd"])
@pytest.mark.parametrize("sparse", ["off", "auto", "on"])
@pytest.mark.parametrize("kind", ["narrow", "resnet", "preactivation", "tangled", "vgg"])
def test_sizes_that_differ(
    kind: str, sparse: Literal["off", "auto", "on"], sizes: list[tuple[int, int]]
) -> None:
    model = network(kind, sparse != "off")
    given = batches(*sizes)
    splits = {"a": given, "b": given[:1], "c": given[1:]}
    if sparse == "on":
        with pytest.raises(UserError, match="the batches are of different shapes"):
            compute_surface(model, splits, points=1, device="cpu", sparse=sparse)
        return
    found = compute_surface(model, splits, points=1, device="cpu", sparse=sparse)
    for name, parts in splits.items():
        loss = found.planes[0].splits[name].metrics["loss"].values[0, 0]
        assert loss == pytest.approx(plain(model, parts), rel=1e-5), name
