"""Sizes, colours and fonts of the paper's figures: one look for all of them."""

from __future__ import annotations

from typing import Any

# Inches: one column and the full width of a two-column page.
SINGLE, DOUBLE = 3.35, 6.9

PAPER: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6.5,
}

# What must be readable in print: the full width of a two-column page, no text below 8 points.
PAGE, SMALLEST = 7.0, 8.0
# Perceptually uniform, with a lightness that rises all the way: it survives greyscale and colour blindness.
COLOR_MAP = "viridis"

PRINT: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": SMALLEST,
    "axes.labelsize": SMALLEST,
    "axes.linewidth": 0.6,
    "axes.unicode_minus": True,
    "mathtext.fontset": "dejavusans",
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": SMALLEST,
}

# How methods and optimizers are called in print.
METHOD_NAMES = {
    "dense": "dense",
    "random": "random",
    "magnitude": "magnitude",
    "lt": "LT",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "set": "SET",
    "dsr": "DSR",
    "rigl": "RigL",
    "mest_em": "MEST (EM)",
    "mest_ems": "MEST (EM&S)",
    "safe": "SAFE",
    "chex": "CHEX",
    "chase": "Chase",
}
OPTIMIZER_NAMES = {"sgd": "original", "s2sam": "S2-SAM", "sam": "SAM"}
