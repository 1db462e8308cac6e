"""What a reader must know of a figure's surfaces: in short below the figure, in full in a file beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from analysis.roughness.conventions import conventions, differences
from figures.panels import ra_text
from figures.results import DENSE, Cell, Results, Run, accuracy_in
from landscape.escaping import markdown

SHOWN = ("data", "examples", "span", "grid", "directions", "normalization", "mask", "batch norm")
SHORT = ("data", "examples", "span", "grid", "directions", "normalization", "mask")


def made(runs: Sequence[Run]) -> list[dict[str, str]]:
    """How each surface was made (`analysis.roughness.conventions`); splits stand beside the counts."""
    found = []
    for run in runs:
        one = conventions(run.surface, run.ra.split)
        found.append({**one, "examples": f"{one['examples']} ({run.ra.split})"})
    return found


def runs_of(cells: Iterable[Cell]) -> list[Run]:
    """All runs, cell by cell."""
    return [run for cell in cells for run in cell.runs]


def ra_name(cells: Iterable[Cell]) -> str:
    """Ra, or what it is of where that isn't the loss itself."""
    return next((cell.ra_name for cell in cells if cell.runs), "Ra")


def ra_axis(results: Results) -> str:
    """The same with its unit, for an axis; a logarithm has none."""
    return f"{ra_name(results.drawn)}{'' if results.log else ' (nats)'}"


def unlike(cells: Iterable[Cell]) -> list[str]:
    """Names of the conventions in which surfaces differ that are compared.

    Masks may differ between dense networks and sparse ones, not within either. Sets of examples may differ
    between training seeds, which hold out other images, not within one.
    """
    found = list(cells)
    dense = [cell.method == DENSE for cell in found for _ in cell.runs]
    runs = runs_of(found)
    ways = made(runs)
    groups: dict[str, Sequence[object]] = {"mask": dense, "example set": [run.seed for run in runs]}
    return [
        name for name in differences(ways) if name not in groups or _differ_within(name, ways, groups[name])
    ]


def _differ_within(name: str, ways: Sequence[Mapping[str, str]], group: Sequence[object]) -> bool:
    """Whether surfaces of one group differ in that."""
    parts = [[way for way, one in zip(ways, group, strict=True) if one == key] for key in set(group)]
    return any(name in differences(part) for part in parts)


def footer(cells: Sequence[Cell], network: str, what: str, *, below: bool = True) -> str:
    """The small print in the figure; `below`: Ra stands below the panels."""
    ways = made(runs_of(cells))
    different = differences(ways)
    shared = [
        f"{name} {ways[0][name]}" for name in SHORT if ways and name in ways[0] and name not in different
    ]
    parts = [f"{what} Network {network}{', ' + ', '.join(shared) if shared else ''}."]
    parts += [f"Masks differ: {'; '.join(different['mask'])}."] if "mask" in different else []
    parts += [f"The surfaces differ in {', '.join(unlike(cells))}." if unlike(cells) else ""]
    if below and any(cell.diverged_radius is not None for cell in cells):
        parts.append(
            "Where the loss diverges, r is the smallest distance from the checkpoint at which it does."
        )
    counts = sorted({len(cell.runs) for cell in cells if cell.runs})
    name = ra_name(cells)
    if counts and not below:
        parts.append(f"{sum(len(cell.runs) for cell in cells)} runs.")
    elif counts == [1]:
        parts.append(f"Below each: {name} and its 95 % interval, one training seed.")
    elif counts:
        seeds = "–".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
        parts.append(
            f"Below each: mean {name} and its 95 % interval over {seeds} training seeds; first seed drawn."
        )
    gone = sum(len(cell.missing) for cell in cells)
    parts += [f"Missing: {gone} of {gone + sum(len(cell.runs) for cell in cells)} runs." if gone else ""]
    return " ".join(part for part in parts if part)


def caption(title: str, cells: Sequence[Cell], network: str, what: str, extra: Sequence[str] = ()) -> str:
    """The file beside the figure, as Markdown."""
    runs = runs_of(cells)
    ways = made(runs)
    different = differences(ways)
    lines = [f"# {title}", "", what, "", f"- network: {markdown(network)}"]
    if runs:
        lines += [
            f"- {name}: {markdown(text_of(name, ways, different))}"
            for name in dict.fromkeys((*SHOWN, *unlike(cells)))
            if any(name in one for one in ways)
        ]
        seeds = sorted({run.seed for run in runs})
        lines += [f"- training seeds: {', '.join(map(str, seeds))}; the first of each panel is drawn"]
        lines += [f"- points: {_points(runs)}"]
    lines += [
        "- intervals: 95 %. One seed: over examples, directions and interpolation. Several: over the seeds."
    ]
    warn = unlike(cells)
    lines += [f"- **not made alike**: the surfaces differ in {', '.join(warn)}"] if warn else []
    lines += [
        "",
        f"| panel | n | {ra_name(cells)}, 95 % interval | test accuracy | surfaces |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [_row(cell) for cell in cells]
    lines += ["", *extra] if extra else []
    gone = {name: why for cell in cells for name, why in cell.missing.items()}
    if gone:
        lines += ["", f"Missing, {len(gone)} of {len(gone) + len(runs)} runs:", ""]
        lines += [f"- {markdown(name)}: {markdown(why)}" for name, why in gone.items()]
    return "\n".join(lines) + "\n"


def text_of(name: str, ways: Sequence[dict[str, str]], different: dict[str, list[str]]) -> str:
    """What all surfaces have in common there, or every value."""
    if name not in different:
        return ways[0][name]
    return "differs: " + "; ".join(different[name])


def _points(runs: Sequence[Run]) -> str:
    """How many were computed, and what the interpolation may be off by."""
    counts = sorted(int(plane.computed.sum()) for run in runs for plane in run.surface.planes)
    total = runs[0].surface.planes[0].computed.size
    errors = [
        plane.splits[run.ra.split].metrics["loss"].error for run in runs for plane in run.surface.planes
    ]
    known = [error for error in errors if isfinite(error)]
    computed = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    text = f"{computed} of {total} computed on each plane"
    if counts[0] < total:
        text += ", the others interpolated"
        text += f" (largest estimated error of a loss {max(known):.2g})" if known else ""
    return text


def _row(cell: Cell) -> str:
    ra = _ra(cell)
    accuracies = [accuracy_in(run.row) for run in cell.runs]
    accuracy = ", ".join(f"{100 * one:.2f} %" for one in accuracies if one is not None) or "–"
    names = markdown(", ".join(run.name for run in cell.runs)) or "–"
    return f"| {markdown(cell.title)} | {len(cell.runs)} | {ra} | {accuracy} | {names} |"


def _ra(cell: Cell) -> str:
    if not cell.runs:
        return "–"
    if cell.diverged_radius is None:
        return "{} ({})".format(*ra_text(cell.ra))
    text = f"not finite: diverged from radius {cell.diverged_radius:.2g}"
    found = cell.runs[0].ra
    if found.finite is None or len(cell.runs) > 1:
        return text
    return text + "; {} ({}) within ±{:g}".format(*ra_text(found.finite.ra), found.finite_span)
