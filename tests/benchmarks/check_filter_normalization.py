"""Filter-normalized directions and the surface along them, against Li et al.'s rule computed anew.

The rule (Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018, section 4): every filter of a
Gaussian direction gets the norm of the network's; biases and batch norm get 0. Here it is written filter
by filter in NumPy and float64, and the loss is that of a plain float64 network at each point. Both start
from the same Gaussian numbers, first inside the mask, then of all weights. `--authors net_plotter.py` runs
the authors' own functions, of a clone of github.com/tomgoldstein/loss-landscape, on these numbers, too.

    python tests/benchmarks/check_filter_normalization.py [--authors loss-landscape/net_plotter.py]
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import landscape
from landscape.data import load_data
from landscape.planes import RandomPlane
from landscape.planes.directions import apply_mask, random_direction
from training.models import ARCHITECTURES

SHIPPED = Path(__file__).resolve().parents[2] / "examples" / "checkpoints" / "resnet20-cifar10-erk90.pt"
SEED = 5

Params = dict[str, Tensor]


def by_the_paper(raw: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Params:
    """Filter by filter."""
    found = {}
    for name, value in raw.items():
        direction, weight = value.double().numpy().copy(), weights[name].detach().double().numpy()
        if direction.ndim <= 1:
            direction[...] = 0
        else:
            for one, other in zip(direction, weight, strict=True):
                length = np.sqrt(np.square(one).sum())
                one *= np.sqrt(np.square(other).sum()) / length if length else 0
        found[name] = torch.from_numpy(direction)
    return found


def by_the_authors(source: Path, raw: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Params:
    """By the functions of their file, whose other modules aren't needed."""
    for name in ("h5_util", "model_loader"):
        sys.modules.setdefault(name, types.ModuleType(name))
    spec = importlib.util.spec_from_file_location("net_plotter", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    direction = [value.clone() for value in raw.values()]
    module.normalize_directions_for_weights(direction, [weights[name].detach() for name in raw])
    return dict(zip(raw, direction, strict=True))


def losses(
    model: nn.Module, axis: np.ndarray, plane: Sequence[Params], inputs: Tensor, targets: Tensor
) -> np.ndarray:
    """Mean loss on the grid, in float64."""
    model = copy.deepcopy(model).double().eval()
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    found = np.empty((len(axis), len(axis)))
    with torch.no_grad():
        for (i, alpha), (j, beta) in ((a, b) for a in enumerate(axis) for b in enumerate(axis)):
            for name, value in model.named_parameters():
                value.copy_(start[name] + alpha * plane[0][name] + beta * plane[1][name])
            found[i, j] = float(F.cross_entropy(model(inputs), targets))
    return found


def largest(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Largest difference of an entry, relative to the largest entry of its tensor."""
    return max(
        float((ours[name].double() - other.double()).abs().max() / other.abs().max().clamp_min(1e-30))
        for name, other in theirs.items()
    )


def main() -> None:
    """Compare directions and losses, and print the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--authors", type=Path, help="net_plotter.py of a clone of theirs")
    options = parser.parse_args()
    loaded = landscape.load_checkpoint(options.checkpoint, architectures=ARCHITECTURES)
    data = load_data(options.data, split="train", examples=options.examples, stored=loaded.data)
    inputs, targets, model = data.normalized().double(), data.targets, loaded.model.eval()
    weights = dict(model.named_parameters())
    print(f"{loaded.how}; {data.how}; torch {torch.__version__}")
    for title, mask in (("inside the mask", loaded.mask), ("all weights", None)):
        raw = [apply_mask(random_direction(weights, SEED, axis), mask) for axis in range(2)]
        surface = landscape.compute_surface(
            model, (inputs, targets), plane=RandomPlane(SEED), mask=mask or "none", points=options.points,
            exact_grid=True, dtype="float64", keep_directions=True,
        )  # fmt: skip
        ours = [{k: torch.from_numpy(v) for k, v in one.items()} for one in surface.planes[0].directions]
        rules = {"the paper's rule in float64": [by_the_paper(one, weights) for one in raw]}
        if options.authors:
            rules["the authors' functions"] = [by_the_authors(options.authors, one, weights) for one in raw]
        for name, plane in rules.items():
            expected = losses(model, surface.alpha, plane, inputs, targets)
            off = max(largest(*pair) for pair in zip(ours, plane, strict=True))
            loss = float(np.abs(surface.loss / expected - 1).max())
            print(
                f"{title}, {name}: directions {off:.1e}, losses {loss:.1e} off at most "
                f"({expected.size} points, loss {expected.min():.3g} to {expected.max():.3g})",
                flush=True,
            )


if __name__ == "__main__":
    main()
