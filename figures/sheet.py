"""A figure whose axes and texts are placed in inches from its upper left corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from figures.style import SMALLEST
from landscape.escaping import plain
from landscape.plot.text import wrap

LEADING = 1.3  # distance of lines in units of the font size
LINE = SMALLEST * LEADING / 72  # height of a line


@dataclass(frozen=True)
class Sheet:
    """An empty figure of that size in inches."""

    figure: Figure
    width: float
    height: float

    @classmethod
    def of(cls, width: float, height: float) -> Sheet:
        """A white one."""
        return cls(Figure(figsize=(width, height), facecolor="white"), width, height)

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Any:
        """Axes whose box is there."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, **options)

    def text(self, left: float, top: float, text: str, **options: Any) -> None:
        """One line as it is: no mathematics between dollars, controls as escapes.

        Its upper edge is at `top`; centred on `left` unless told otherwise.
        """
        options = {"ha": "center", "va": "top", "size": SMALLEST, "parse_math": False, **options}
        self.figure.text(left / self.width, 1 - top / self.height, plain(text), **options)

    def lines(self, left: float, top: float, lines: list[str], **options: Any) -> None:
        """Lines one under another."""
        for number, line in enumerate(lines):
            self.text(left, top + number * LINE, line, **options)


def wrapped(text: str, width: float) -> list[str]:
    """Lines of the smallest print no wider than that."""
    return wrap(text, width, SMALLEST, family=mpl.rcParams["font.family"][0])
