"""What has to be equal for two surfaces to be compared: span, grid, examples, directions, mask, precision.

The tolerance of interpolated points isn't among them: it shows in the error of Ra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landscape.intervals import listed
from landscape.surface import Surface


def conventions(surface: Surface, split: str) -> dict[str, str]:
    """How a surface was made, as short texts by what they are about, in the order of a caption.

    Planes that were made differently are told with all their values: "checkpoint; none".
    """
    settings = surface.settings
    digests = settings.get("examples")
    found = {
        "span": span_text(surface),
        "grid": "×".join(str(count) for count in surface.shape[: surface.dim]),
        "data": _text(surface.about.get("data")),
        "image scaling": _scaling(surface.about.get("data")),
        "examples": f"{surface.planes[0].splits[split].examples:,}",
        "example set": _text(digests.get(split)) if isinstance(digests, Mapping) else "",
        "loss": _text(settings.get("loss")),
        "directions": _directions(surface),
        "normalization": _of_planes(surface, "normalize"),
        "mask": _of_planes(surface, "mask"),
        "moving parameters": _moving(surface.about.get("moving")),
        "batch norm": _text(_nested(settings, "engine", "batch_norm")),
        "dtype": _text(_nested(settings, "engine", "dtype")),
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


def _of_planes(surface: Surface, key: str) -> str:
    """What the planes say, each value once."""
    return "; ".join(filter(None, dict.fromkeys(_text(plane.about.get(key)) for plane in surface.planes)))


def _scaling(data: Any) -> str:
    """Mean and standard deviation by which images are scaled: "mean 0.5, 0.5, 0.5, std 0.2, 0.2, 0.2"."""
    known = data if isinstance(data, Mapping) else {}
    parts = [(name, known.get(name)) for name in ("mean", "std")]
    return ", ".join(f"{name} {_listed(value)}" for name, value in parts if value is not None)


def _moving(moving: Any) -> str:
    """The rule of which parameters the directions move: "trainable"."""
    return _listed(moving.get("rule") or []) if isinstance(moving, Mapping) else ""


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


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
