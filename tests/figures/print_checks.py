"""What must hold of every printed figure: sizes of text, nothing on top of each other or off the page."""

from __future__ import annotations

import re
from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

SMALLEST, SUBSCRIPT, HAIR = 8.0, 0.7, 0.5  # points; share of the size; overlap in pixels that rounding makes


def texts_of(figure: Figure) -> list[Text]:
    """All that is drawn; tick labels outside their axis don't count."""
    FigureCanvasAgg(figure).draw()
    found = []
    for axes in figure.axes:
        if axes.name == "3d":
            assert not any(label.get_text() for label in (*axes.get_xticklabels(), *axes.get_zticklabels()))
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and _on_axis(text, figure):
            found.append(text)
    return found


def _on_axis(text: Text, figure: Figure) -> bool:
    """False for tick labels beyond the ends of their axis, which exist but aren't drawn."""
    axes = text.axes
    if axes is None:  # of the figure itself, or of a tick that the axis keeps for later
        return text in figure.texts
    if axes.name == "3d":
        return True
    for axis in (axes.xaxis, axes.yaxis):
        ticks = {id(label) for tick in axis.get_major_ticks() for label in (tick.label1, tick.label2)}
        if id(text) in ticks:
            low, high = sorted(axis.get_view_interval())
            spot = text.get_position()[0 if axis is axes.xaxis else 1]
            return axes.axison and bool(low - 1e-9 <= spot <= high + 1e-9)
    return True


def check_print(figure: Figure) -> None:
    """Width of the page, sizes, overlaps, edges."""
    assert figure.get_size_inches()[0] == 7.0
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = texts_of(figure)
    assert len(texts) > 8
    for text in texts:
        share = SUBSCRIPT if re.search(r"\$.*_.*\$", text.get_text()) else 1.0
        assert text.get_fontsize() * share >= SMALLEST, text
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    page = figure.bbox
    for words, box in boxes:
        assert box.x0 >= page.x0 and box.y0 >= page.y0 and box.x1 <= page.x1 and box.y1 <= page.y1, words  # noqa: PT018
    for (first, one), (second, other) in combinations(boxes, 2):
        wide = min(one.x1, other.x1) - max(one.x0, other.x0)
        high = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(wide, high) <= HAIR, f"{first!r} overlaps {second!r}"


def words_of(figure: Figure) -> str:
    """All text in one line."""
    return " ".join(text.get_text() for text in texts_of(figure))
