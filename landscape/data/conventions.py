"""The usual ways to normalize pixels, tried on a network of which nobody says how it was trained.

Loss and accuracy tell: a network fed otherwise than in training does worse. The trial takes a few hundred
images and a dozen forward passes of each, once per network; it draws nothing at random, so that a resumed
computation finds the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.data.normalization import Channels, Normalization, per_channel
from landscape.gpu_numerics import gpu_numerics
from landscape.images import CIFAR10_STATISTICS, IMAGENET_STATISTICS

TRIAL_EXAMPLES = 256
_ENOUGH = 100  # with fewer images, being no better than chance says little
_BATCH = 64
_SIGMAS = 3.0  # how far beyond chance a difference has to be before it counts
_FAR_BELOW = 0.05  # accuracy; a smaller gap isn't worth a warning, however certain

# Those that a few hundred images can't tell from one of these (CLIP's, CIFAR-100's) are left out.
_COLOUR: dict[str, Normalization] = {
    "ImageNet's": IMAGENET_STATISTICS,
    "0.5/0.5": ((0.5,), (0.5,)),
    "0..1": ((0.0,), (1.0,)),
    "0..255": ((0.0,), (1 / 255,)),
    "-0.5..0.5": ((0.5,), (1.0,)),
}
_GREY: dict[str, Normalization] = {
    "0.5/0.5": ((0.5,), (0.5,)),
    "0..1": ((0.0,), (1.0,)),
    "0..255": ((0.0,), (1 / 255,)),
    "-0.5..0.5": ((0.5,), (1.0,)),
    "MNIST's": ((0.1307,), (0.3081,)),
}
_OTHER_CIFAR10: Normalization = (CIFAR10_STATISTICS[0], (0.2023, 0.1994, 0.2010))
"""Widespread too; the deviations are means of those within single images."""


@dataclass(frozen=True)
class Trial:
    """How the network does under one convention: mean loss, and correct answers as a share."""

    name: str
    mean: Channels
    std: Channels
    loss: float
    accuracy: float

    @property
    def text(self) -> str:
        """Name, accuracy and loss."""
        return f"{self.name} {100 * self.accuracy:.1f} % ({self.loss:.3g})"


@dataclass(frozen=True)
class Settled:
    """The normalization to use, and how it was found.

    Attributes
    ----------
    normalization, source
        To use, and where it comes from in a few words.
    lines
        To be said: what was tried; what gives reason to doubt.
    trials, examples
        Every convention in order of loss, and on how many images.
    """

    normalization: Normalization
    source: str
    lines: tuple[str, ...]
    trials: tuple[Trial, ...]
    examples: int

    @property
    def record(self) -> dict[str, Any]:
        """For result files: JSON types; a loss that isn't finite is None."""
        tried = [
            {**asdict(one), "loss": one.loss if math.isfinite(one.loss) else None} for one in self.trials
        ]
        return {"source": self.source, "examples": self.examples, "tried": tried}


def conventions(
    channels: int,
    first: tuple[str, Normalization],
    size: tuple[int, ...],
    more: Mapping[str, Normalization] | None = None,
) -> dict[str, Normalization]:
    """Candidates by name, for images of so many channels and of size ``(height, width)``.

    `first` leads, `more` follow, then the usual ones.
    """
    usual = dict(_COLOUR if channels == 3 else _GREY)
    if channels == 3 and size == (32, 32):
        usual |= {"CIFAR-10's": CIFAR10_STATISTICS}
        usual |= {"CIFAR-10's means, deviations 0.20": _OTHER_CIFAR10}
    name, numbers = first
    found: dict[str, Normalization] = {}
    means = {f"mean of {name} only": (numbers[0], (1.0,) * len(numbers[0]))}
    means |= {f"mean of {name} only, 0..255": (numbers[0], (1 / 255,) * len(numbers[0]))}
    for key, value in ({name: numbers} | dict(more or {}) | usual | means).items():
        expanded = per_channel(value, channels)
        if expanded not in found.values():
            found[key] = expanded
    return found


def settle(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    first: tuple[str, Normalization],
    more: Mapping[str, Normalization] | None = None,
    *,
    stated: bool,
    device: str = "cpu",
) -> Settled:
    """Choose among the usual conventions by loss, or check the one that is stated.

    Parameters
    ----------
    model
        In evaluation mode; maps normalized images to scores ``[N, classes]``.
    images, targets
        uint8 pixels ``[N, C, H, W]`` and labels ``[N]``.
    first
        Name and numbers of what is stated, or of the likeliest.
    more
        Further candidates beside the usual ones.
    stated
        Whether the user or the model's makers say it: then it is used in any case. Otherwise the convention
        with the lowest loss is, among those whose answers are better than chance, or `first` where none is.
    device
        Where to try.
    """
    candidates = conventions(images.shape[1], first, tuple(images.shape[2:]), more)
    results = _evaluate(model, images, targets, list(candidates.values()), device)
    rows = [
        Trial(name, *numbers, loss, float(correct.mean()))
        for (name, numbers), (loss, correct) in zip(candidates.items(), results, strict=True)
    ]
    chance = _beyond_chance(targets)
    better = [number for number, row in enumerate(rows) if row.accuracy > chance and row.loss < math.inf]
    lowest = min(better, key=lambda number: rows[number].loss, default=0)
    taken = 0 if stated else lowest
    order = sorted(range(len(rows)), key=lambda number: (rows[number].loss, number))
    name, count = rows[taken].name, len(targets)
    tried = ", ".join(rows[number].text for number in order)
    lines = []
    if not stated:
        lines.append(
            f"normalization: neither user nor checkpoint says it; taken: {name}; accuracy (loss) of the "
            f"usual ones on {count} images: {tried}; --mean and --std choose another"
        )
    if not better and count >= _ENOUGH:
        lines.append(
            f"warning: with no usual normalization are the answers on {count} images better than chance; "
            "check that images, labels and preprocessing are what the network was trained on"
        )
    elif _far_below([correct for _, correct in results], taken):
        best = max(rows, key=lambda row: row.accuracy)
        lines.append(
            f"warning: {100 * rows[taken].accuracy:.1f} % of {count} images are right with the normalization "
            f"{name}, {100 * best.accuracy:.1f} % with {best.name} (--mean {_words(best.mean)} "
            f"--std {_words(best.std)})"
        )
    source = name if stated else f"{name}, of the usual ones that with the lowest loss"
    source = source if stated or better else f"{name}; none of the usual ones beats chance"
    numbers = rows[taken].mean, rows[taken].std
    return Settled(numbers, source, tuple(lines), tuple(rows[number] for number in order), count)


def _evaluate(
    model: nn.Module, images: Tensor, targets: Tensor, candidates: Sequence[Normalization], device: str
) -> list[tuple[float, NDArray[np.bool_]]]:
    """Mean loss (inf where it isn't finite) and the right answers ``[N]``, for each candidate."""
    place = torch.device(device)
    network = model if place.type == "cpu" else copy.deepcopy(model).to(place)
    found = []
    with gpu_numerics(tf32=False) if place.type == "cuda" else nullcontext(), torch.no_grad():
        for mean, std in candidates:
            shape = (1, -1, *[1] * (images.dim() - 2))
            shift, scale = (torch.tensor(one, device=place).reshape(shape) for one in (mean, std))
            losses, correct = [], []
            for start in range(0, len(images), _BATCH):
                pixels = images[start : start + _BATCH].to(place).float() / 255
                labels = targets[start : start + _BATCH].to(place)
                scores = network((pixels - shift) / scale).float()
                losses.append(F.cross_entropy(scores, labels, reduction="none").double().cpu())
                correct.append((scores.argmax(1) == labels).cpu())
            loss = float(torch.cat(losses).mean())
            # Seven digits hold on every machine; a tie goes to the more usual one.
            rounded = float(f"{loss:.6g}") if math.isfinite(loss) else math.inf
            found.append((rounded, torch.cat(correct).numpy()))
    return found


def _beyond_chance(targets: Tensor) -> float:
    """Accuracy that always naming the commonest class would hardly reach."""
    share = float(torch.bincount(targets).max()) / len(targets)
    return share + _SIGMAS * math.sqrt(share * (1 - share) / len(targets))


def _words(numbers: Channels) -> str:
    return " ".join(f"{one:.6g}" for one in numbers)


def _far_below(correct: Sequence[NDArray[np.bool_]], taken: int) -> bool:
    """Whether another convention gives certainly (by the images on which they differ) and much more."""
    best = max(correct, key=lambda one: int(one.sum()))
    gained, lost = int((best & ~correct[taken]).sum()), int((correct[taken] & ~best).sum())
    gap = gained - lost
    return gap > _FAR_BELOW * len(best) and gap > _SIGMAS * math.sqrt(gained + lost)
