"""What a figure is and what is written of it: PDF, PNG, the interactive page and the caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from figures.results import Cell, Results
from landscape.files import atomic_path
from landscape.plot import save_figure
from landscape.surface import Surface
from landscape.viewer import view


@dataclass(frozen=True)
class Product:
    """One of the paper's figures.

    Attributes
    ----------
    name
        Of its files, "figure1".
    title
        Of page and caption.
    draw, caption, surfaces
        From results to the figure, the text of the caption and the surfaces of the page.
    unlike
        From results to the conventions in which its surfaces differ and mustn't.
    """

    name: str
    title: str
    draw: Callable[[Results], Figure]
    caption: Callable[[Results], str]
    surfaces: Callable[[Results], list[Surface]]
    unlike: Callable[[Results], list[str]]

    def write(self, results: Results, folder: Path) -> list[Path]:
        """Every file, each in one step; equal results give equal bytes.

        Without any surface there is no page.
        """
        figure = self.draw(results)
        paths = [save_figure(figure, folder / f"{self.name}.{form}") for form in ("pdf", "png")]
        paths.append(folder / f"{self.name}.md")
        with atomic_path(paths[-1]) as temporary:
            temporary.write_text(self.caption(results), encoding="utf-8", errors="backslashreplace")
        surfaces, page = self.surfaces(results), folder / f"{self.name}.html"
        if surfaces:
            paths.append(view(surfaces, title=self.title).save(page))
        else:
            page.unlink(missing_ok=True)  # one of an earlier call would show other surfaces
        return paths


def drawn(cells: Sequence[Cell]) -> list[Surface]:
    """The surface of every panel, named as the panel is."""
    return [named(cell.runs[0].surface, cell.title) for cell in cells if cell.runs]


def named(surface: Surface, label: str) -> Surface:
    """The same surface under another name."""
    return replace(surface, about={**surface.about, "label": label})
