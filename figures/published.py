"""Numbers that others published and that tables repeat beside ours, each with where it was read. No torch.

Only what stands in a text that anyone can read is here. The S2-SAM paper's own tables are pictures; the
baselines that its Table 1 takes over were nowhere found as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHASE = "README of github.com/luuyin/chase, commit 58a277f"
CHEX = "README of github.com/zejiangh/Filter-GaP, commit 06ed51d"
RIGL = "README of github.com/google-research/rigl, commit 17c8075"


@dataclass(frozen=True)
class Published:
    """One line of a table: all trained with SGD.

    Attributes
    ----------
    network, method
        As our runs are named, and as tables call the method.
    source
        Where it was read.
    accuracy
        Top-1 accuracy as a fraction, by sparsity or by what was removed.
    flops
        Shares of the dense network's FLOPs, of an image and of the training, by sparsity.
    """

    network: str
    method: str
    source: str
    accuracy: Mapping[float | str, float]
    flops: Mapping[float, tuple[float, float]] = field(default_factory=dict)


IMAGENET = "torchvision-resnet50-imagenet"
UNSTRUCTURED = (
    Published(IMAGENET, "SET", CHASE, {0.8: 0.729, 0.9: 0.696}, {0.8: (0.23, 0.23), 0.9: (0.10, 0.10)}),
    Published(IMAGENET, "DSR", CHASE, {0.8: 0.733, 0.9: 0.716}, {0.8: (0.40, 0.40), 0.9: (0.30, 0.30)}),
    Published(
        IMAGENET, "RigL, ERK", RIGL, {0.8: 0.7512, 0.9: 0.7307}, {0.8: (0.42, 0.42), 0.9: (0.24, 0.24)}
    ),
    Published(
        IMAGENET, "RigL, uniform", RIGL, {0.8: 0.7460, 0.9: 0.7202}, {0.8: (0.23, 0.23), 0.9: (0.13, 0.13)}
    ),
    Published(IMAGENET, "MEST", CHASE, {0.8: 0.7539, 0.9: 0.7258}, {0.8: (0.21, 0.23), 0.9: (0.11, 0.12)}),
    Published(
        IMAGENET,
        "Chase, no channels removed",
        CHASE,
        {0.8: 0.7587, 0.9: 0.7470},
        {0.8: (0.34, 0.37), 0.9: (0.21, 0.24)},
    ),
)
STRUCTURED = (
    Published("torchvision-resnet34-imagenet", "CHEX", CHEX, {"2 GFLOPs": 0.735}),
    Published(IMAGENET, "CHEX", CHEX, {"3 GFLOPs": 0.779, "2 GFLOPs": 0.774, "1 GFLOPs": 0.760}),
    Published(
        IMAGENET,
        "Chase, 30 % of channels removed",
        CHASE,
        {"80 % of weights": 0.7562, "90 % of weights": 0.7435},
    ),
    Published(
        IMAGENET,
        "Chase, 40 % of channels removed",
        CHASE,
        {"80 % of weights": 0.7527, "90 % of weights": 0.7403},
    ),
)
DENSE = (Published(IMAGENET, "dense", CHASE, {"": 0.768}),)
