"""Claim: every computed point equals a plain evaluation: to 1e-5 in float32, far better in float64.

    python tests/benchmarks/check_points.py [--examples 1000] [--only VGG]

The surface is computed as a user would (`landscape.compute_surface`, the engine choosing everything) on
images of the shipped CIFAR-10 sample. The oracle is a plain loop: weights written by hand at each point,
batch norm unfolded, batches of 300 (so that the last one is shorter), in float64. Networks: the shipped
ResNet-20, the same behind a data-dependent branch, which can't be traced and folded, and a VGG-19 with random
weights whose batch norm has seen the images.
Printed: the largest relative difference of the loss over all points.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import landscape
from landscape.data import load_data
from landscape.surface import Surface
from training.models import ARCHITECTURES, build_model

SHIPPED = Path(__file__).resolve().parents[2] / "examples" / "checkpoints" / "resnet20-cifar10-erk90.pt"


class Branching(nn.Module):
    """The same network behind a decision that depends on the data, which no tracer can follow."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The network's output."""
        return self.network(x) if x.abs().sum() > 0 else self.network(x + 1)


def plain_losses(model: nn.Module, surface: Surface, inputs: Tensor, targets: Tensor) -> np.ndarray:
    """Mean loss at every computed point, in float64, written as plainly as can be."""
    model = copy.deepcopy(model).double().eval()
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    first, second = (
        {k: torch.from_numpy(v).double() for k, v in one.items()} for one in surface.planes[0].directions
    )
    losses = np.full(surface.shape, np.nan)
    with torch.no_grad():
        for i, j in np.argwhere(surface.planes[0].computed):
            for name, value in model.named_parameters():
                value.copy_(start[name] + surface.alpha[i] * first[name] + surface.beta[j] * second[name])
            sums = [
                F.cross_entropy(model(inputs[at : at + 300]), targets[at : at + 300], reduction="sum")
                for at in range(0, len(targets), 300)
            ]
            losses[i, j] = float(sum(sums)) / len(targets)
    return losses


def vgg19(inputs: Tensor) -> nn.Module:
    """Random weights, running statistics of the images."""
    torch.manual_seed(0)
    model = build_model("vgg19", num_classes=10)
    with torch.no_grad():
        for _ in range(3):
            model(inputs[:200].float())
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--points", type=int, nargs=2, help="grid points per axis, instead of the case's own")
    options = parser.parse_args()
    loaded = landscape.load_checkpoint(SHIPPED, architectures=ARCHITECTURES)
    data = load_data(
        "sample",
        root=None,
        split="train",
        examples=options.examples,
        seed=0,
        stored=loaded.data,
        num_classes=10,
    )
    inputs, targets = data.normalized().double(), data.targets
    cases = [
        ("ResNet-20", loaded.model, (7, 3)),
        ("ResNet-20, can't be folded", Branching(loaded.model), (7, 3)),
        ("VGG-19", vgg19(inputs), (3, 3)),
    ]
    for name, model, usual in cases:
        if options.only not in name:
            continue
        points = tuple(options.points or usual)
        for dtype in ("float32", "float64"):
            surface = landscape.compute_surface(
                model, (inputs, targets), points=points, exact_grid=True, dtype=dtype, keep_directions=True
            )
            expected = plain_losses(model, surface, inputs, targets)
            worst = float(np.abs(surface.loss / expected - 1).max())
            engine = surface.about["engine"]
            print(
                f"{name}, {dtype}, {points[0]}×{points[1]} points, {len(targets)} examples: "
                f"largest relative difference {worst:.1e} "
                f"(loss {expected.min():.3g} to {expected.max():.3g}, folded {engine['folded']}, "
                f"batch {engine['batch_size']})",
                flush=True,
            )


if __name__ == "__main__":
    main()
