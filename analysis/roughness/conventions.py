"""What has to be equal for two surfaces to be compared: span, grid, examples, directions, mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landscape.intervals import listed
from landscape.surface import Surface


def conventions(surface: Surface, split: str) -> dict[str, str]:
    """How a surface was made, as short texts by what they are about, in the order of a caption."""
    plane = surface.planes[0].about
    settings = surface.settings
    digests = settings.get("examples")
    found = {
        "span": span_text(surface),
        "grid": "×".join(str(count) for count in surface.shape[: surface.dim]),
        "data": _text(surface.about.get("data")),
        "examples": f"{surface.planes[0].splits[split].examples:,}",
        "example set": _text(digests.get(split)) if isinstance(digests, Mapping) else "",
        "loss": _text(settings.get("loss")),
        "directions": _directions(surface),
        "normalization": _text(plane.get("normalize")),
        "mask": _text(plane.get("mask")),
        "batch norm": _text(_nested(settings, "engine", "batch_norm")),
    }
    return {name: text for name, text in found.items() if text}


def differences(made: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """What isn't the same in all of them: the distinct values by name, in order of appearance."""
    names = dict.fromkeys(name for one in made for name in one)
    values = {name: list(dict.fromkeys(one.get(name, "unknown") for one in made)) for name in names}
    return {name: distinct for name, distinct in values.items() if len(distinct) > 1}


def _directions(surface: Surface) -> str:
    """Their kind and the seeds: "random, seeds 0 to 9"."""
    kinds = dict.fromkeys(_text(plane.about.get("kind")) for plane in surface.planes)
    seeds = [plane.about["seed"] for plane in surface.planes if plane.about.get("seed") is not None]
    words = [*(kind for kind in kinds if kind)]
    words += [f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"] if seeds else []
    return ", ".join(words)


def span_text(surface: Surface) -> str:
    """The square: "±1" where it is centred, else the ranges of alpha and beta."""
    axes = [surface.alpha, surface.beta][: surface.dim]
    return range_text([(float(axis[0]), float(axis[-1])) for axis in axes])


def range_text(ranges: Sequence[tuple[float, float]]) -> str:
    """Short form of coordinate ranges: "±1" for equal ones around zero, else each of them."""
    low, high = ranges[0]
    if all(one == (low, high) for one in ranges) and low == -high:
        return f"±{high:g}"
    return " × ".join(f"[{low:g}, {high:g}]" for low, high in ranges)


def _text(value: Any) -> str:
    """A short text for a setting of any JSON type."""
    if isinstance(value, Mapping):
        return " ".join(_text(part) for part in value.values() if isinstance(part, str))
    return "" if value is None else str(value)


def _nested(settings: Mapping[str, Any], outer: str, inner: str) -> Any:
    part = settings.get(outer)
    return part.get(inner) if isinstance(part, Mapping) else None
