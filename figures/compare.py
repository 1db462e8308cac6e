"""A panel figure of several surfaces on one loss scale, from one camera, with Ra and its interval.

``python -m figures.compare a.surface.h5 b.surface.h5 -o compare.pdf``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from matplotlib.figure import Figure

from analysis.roughness import Roughness, roughness
from analysis.roughness.conventions import conventions, differences
from figures.style import DOUBLE, PAPER
from landscape.commandline.command import run_command
from landscape.commandline.console import note, out
from landscape.commandline.options import OUTPUT, Int, own_group, shown
from landscape.commandline.outputs import check_unread
from landscape.errors import UserError
from landscape.plot import Kind, plot_surfaces, save_figure
from landscape.plot.layout import Layout
from landscape.plot.text import interval_text
from landscape.surface import Surface, load_surface

SHOWN = ("mask", "normalization", "directions", "data", "examples", "span", "grid", "batch norm")
ABOUT = "A panel figure of loss surfaces: one loss scale, one camera, Ra with interval."
EPILOGUE = """Examples:

- `python -m figures.compare dense.surface.h5 sparse.surface.h5 -o compare.pdf`
- `python -m figures.compare *.surface.h5 -o surfaces.png --kind surface --columns 3`
"""
_LOG = {"auto": None, "log": True, "linear": False}


@Parameter(name="*", group=own_group("Panels"))
@dataclass(frozen=True)
class PanelOptions:
    """What the panels show."""

    kind: Annotated[Kind | None, shown("both, or lines for one-dimensional surfaces")] = None
    """3D views, contours, both or lines."""

    metric: str = "loss"
    """What to draw."""

    split: Annotated[str | None, shown("each file's first")] = None
    """Which examples."""

    scale: Literal["auto", "log", "linear"] = "auto"
    """Of the values; `auto` takes logarithms where they span more than a factor of 30."""

    clip: Annotated[float | None, shown("none")] = None
    """Draw larger values as this one."""

    columns: Int = 3
    """Panels in a row."""

    width: float = DOUBLE
    """Of the figure in inches."""


def draw(
    surfaces: Sequence[Surface],
    *,
    kind: Kind | None = None,
    metric: str = "loss",
    split: str | None = None,
    log: bool | None = None,
    clip: float | None = None,
    columns: int = 3,
    width: float = DOUBLE,
) -> Figure:
    """One panel per surface, `width` inches in all; what they have in common stands once, below.

    Raises
    ------
    UserError
        As `landscape.plot.plot_surfaces`, and for an unfinished surface: it has no Ra.
    """
    found = [roughness(surface, split=split) for surface in surfaces]
    made = _made(surfaces, split)
    different = differences(made)
    if columns < 1:
        raise UserError(f"columns must be at least 1, got {columns}")
    columns = min(columns, len(surfaces))
    fixed = Layout(contour=kind != "surface", columns=columns, column=0).width
    return plot_surfaces(
        surfaces,
        kind=kind,
        metric=metric,
        split=split,
        log=log,
        clip=clip,
        metrics=[{"Ra": _ra(one)} for one in found],
        columns=columns,
        column_width=(width - fixed) / columns,
        notes=["\u00a0· ".join(_fact(name, one) for name in SHOWN if name in different) for one in made],
        footer=_footer(made, clip),
        style=PAPER,
    )


def _made(surfaces: Sequence[Surface], split: str | None) -> list[dict[str, str]]:
    return [conventions(surface, split or surface.splits[0]) for surface in surfaces]


def _footer(made: Sequence[dict[str, str]], clip: float | None) -> str:
    """What all panels share, and that the intervals are 95 % ones."""
    different = differences(made)
    parts = [_fact(name, made[0]) for name in SHOWN if name in made[0] and name not in different]
    parts += [f"drawn up to {clip:g}"] if clip is not None else []
    return f"All panels: {', '.join(parts)}. Ra with 95 % intervals."


def _fact(name: str, made: dict[str, str]) -> str:
    return f"{name} {made.get(name, 'unknown')}".replace("seed ", "seed\u00a0")


def _ra(found: Roughness) -> tuple[float, float, float] | str:
    """Ra with its interval; where the network diverged, at which radius, and Ra inside of it."""
    if found.diverged_radius is None:
        return found.ra.value, found.ra.low, found.ra.high
    text = f"not finite: diverged from radius {found.diverged_radius:.2g}"
    if found.finite is None:
        return text
    inside = found.finite.ra
    return f"{text}; {interval_text((inside.value, inside.low, inside.high))} within ±{found.finite_span:g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""

    def command(
        surfaces: Annotated[list[Path], Parameter(name="FILE")],
        /,
        *,
        output: Annotated[Path, Parameter(name=["--output", "-o"], group=OUTPUT)],
        panels: PanelOptions = PanelOptions(),
    ) -> None:
        """Draw a figure.

        Parameters
        ----------
        surfaces
            Surface files (`.surface.h5`).
        output
            Figure to write: `.pdf`, `.png` or `.svg`.
        """
        check_unread("--output", output, surfaces)
        found = [load_surface(path) for path in surfaces]
        figure = draw(
            found,
            kind=panels.kind,
            metric=panels.metric,
            split=panels.split,
            log=_LOG[panels.scale],
            clip=panels.clip,
            columns=panels.columns,
            width=panels.width,
        )
        save_figure(figure, output)
        _warn(_made(found, panels.split))
        out(output)

    run_command("figures.compare", ABOUT, EPILOGUE, command, arguments)


def _warn(made: Sequence[dict[str, str]]) -> None:
    """The paper compares Ra only between surfaces that were made alike."""
    different = differences([{name: text for name, text in one.items() if name != "mask"} for one in made])
    if different:
        note(f"warning: the panels weren't made alike; they differ in {', '.join(different)}")


if __name__ == "__main__":
    main()
