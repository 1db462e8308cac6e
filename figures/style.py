"""Sizes, colours and fonts of the paper's figures: one look for all of them."""

from __future__ import annotations

from typing import Any

# Inches: one column and the full width of a two-column page.
SINGLE, DOUBLE = 3.35, 6.9

# Okabe and Ito's colours, told apart by colour-blind readers too; a method keeps its colour everywhere.
COLORS = {
    "dense": "#000000",
    "random": "#999999",
    "magnitude": "#e69f00",
    "snip": "#56b4e9",
    "grasp": "#009e73",
    "rigl": "#0072b2",
    "mest": "#d55e00",
}

PAPER: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6.5,
}
