"""The network itself, evaluated before and after: is the loss finite there, and still what it was?"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from landscape.checks.identity import ROUNDING, check_means, check_same, relative_difference
from landscape.engine import Engine, Totals
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.keeping.settings import OTHERWISE, check_settings
from landscape.surface import Json, Split, Surface, load_surface
from landscape.surface.plane_record import BLOCK_DIGITS, Index

MAPPED = ("lambda_max", "lambda_min", "lambda_ratio")  # what a curvature map adds to a surface's metrics


def evaluate_centre(engine: Engine, splits: Mapping[str, Examples]) -> dict[str, Totals]:
    """Sums at the network itself.

    Raises
    ------
    UserError
        When the loss of some examples isn't finite there: no mean would be finite, and each point be wasted.
        A network whose loss isn't finite for any of them has diverged, and its surface says so.
    """
    here = [0.0] * engine.axes
    found = engine.evaluate(here)
    for name, totals in found.items():
        if not math.isfinite(totals.mean("loss")):
            losses = engine.losses(here)[name]
            if np.isfinite(losses).any():
                raise UserError(_not_finite(name, losses, splits[name]))
    return found


def check_flat(
    engine: Engine,
    centre: Mapping[str, Totals],
    directions: Sequence[Mapping[str, Tensor]],
    params: Mapping[str, Tensor],
    place: Sequence[float],
) -> None:
    """Refuse a plane on which nothing happens since a whole tensor is zero, as LoRA's B before training.

    A normalized direction leaves it alone, and what moves is multiplied by it. The surface would be flat to
    the bit and its Ra exactly 0. One point more is evaluated, and only where there is such a tensor.

    Parameters
    ----------
    engine, centre
        On the plane, and what it gave at the network itself.
    directions, params
        By name; those that move.
    place
        Of the other point.
    """
    still = [
        name
        for name, one in params.items()
        if one.dim() > 1
        and one.numel()
        and not bool(one.any())
        and not any(name in way and bool(way[name].any()) for way in directions)
    ]
    if not still or not any(place):
        return
    found = engine.evaluate(place)
    if all(np.array_equal(found[name].sums["loss"], one.sums["loss"]) for name, one in centre.items()):
        raise UserError(
            f"nothing on this plane changes the loss: {still[0]!r} is zero everywhere (an adapter before its "
            "training?), so a normalized direction leaves it alone, and what moves is multiplied by it; "
            "train first, or take RandomPlane(normalize='none') (--normalize none)"
        )


def check_steady(engine: Engine, before: Mapping[str, Totals]) -> None:
    """Evaluate the network itself once more; UserError when something crept in since `before`."""
    share = ROUNDING[engine.about["dtype"]]
    for name, totals in engine.evaluate([0.0] * engine.axes).items():
        for key in totals.sums:
            old, new = before[name].mean(key), totals.mean(key)
            turned = 0.0 if key == "loss" else totals.turned(key, share)
            if relative_difference(np.asarray(old), np.asarray(new), turned) > share:
                raise UserError(
                    f"the {key} of {name!r} at the network itself was {old:.6g} before all points and is "
                    f"{new:.6g} after them: it is no function of the weights; let nothing be kept between "
                    "calls"
                )


def earlier_surface(
    path: str | os.PathLike[str] | None,
    settings: Json,
    overwrite: bool,
    drawn: bool = False,
    but: Sequence[str] = (),
) -> Surface | None:
    """What there is to resume from, as far as settings tell; with `overwrite` nothing is.

    `drawn` says that the examples came in batches of the user's, which may be others each time; `but` names
    settings that aren't known yet.

    Raises
    ------
    UserError
        For other settings.
    """
    if path is None or overwrite or not os.path.exists(path):
        return None
    earlier = load_surface(path)
    redrawn = drawn and earlier.settings.get("examples") != settings["examples"]
    hint = "; a loader that shuffles or augments draws anew, so list its batches once and keep them"
    stored = {name: value for name, value in earlier.settings.items() if name not in but}
    check_settings(f"{path} holds a surface", stored, settings, OTHERWISE + hint if redrawn else OTHERWISE)
    return earlier


def check_earlier(
    path: str | os.PathLike[str] | None, earlier: Surface, engine: Engine, centre: Mapping[str, Totals]
) -> None:
    """Evaluate two points of an earlier surface's first plane anew, nearest to the network and farthest.

    Parameters
    ----------
    path, earlier
        The surface and where it lies.
    engine
        Of the present functions, on that plane.
    centre
        What it gave at the network itself.

    Raises
    ------
    UserError
        When the numbers aren't the file's, or other metrics come.
    """
    plane = earlier.planes[0] if earlier.planes else None
    if plane is None or not plane.computed.any():
        return
    for index in _ends(earlier, plane.computed):
        here = [float(earlier.alpha[index[0]]), float(earlier.beta[index[1]])][: engine.axes]
        found = centre if not any(here) else engine.evaluate(here)
        for name, split in plane.splits.items():
            if name not in found:
                raise UserError(
                    f"{path} holds a split {name!r}, which this run hasn't; choose another output path, or "
                    "overwrite it with --overwrite"
                )
            _check_point(path, name, split, index, found[name], engine.about["dtype"])


def _check_point(
    path: str | os.PathLike[str] | None, name: str, split: Split, index: Index, totals: Totals, dtype: str
) -> None:
    """Compare what a file holds of a split at a point: its means, and those of the loss over blocks."""
    loss = split.metrics["loss"]
    if np.isnan(loss.values[index]):
        return
    stored = {key: float(one.values[index]) for key, one in split.metrics.items() if key not in MAPPED}
    place, advice = " at a point that it holds", "overwrite it with --overwrite"
    check_means(path, name, stored, totals, dtype, place=place, advice=advice)
    blocks = loss.blocks
    if blocks is None or blocks.shape[2] != len(totals.counts) or np.isnan(blocks[index]).any():
        return
    what, now = f"{path}: the loss of {name!r}{place}", totals.block_means("loss")
    check_same(what, blocks[index], now, dtype, digits=BLOCK_DIGITS, advice=advice)


def _ends(surface: Surface, computed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[Index]:
    """Of the computed points, the one nearest to the network and the farthest."""
    places = np.argwhere(computed)
    distance = surface.alpha[places[:, 0]] ** 2 + surface.beta[places[:, 1]] ** 2
    ends = {int(distance.argmin()), int(distance.argmax())}
    return [(int(places[one][0]), int(places[one][1])) for one in sorted(ends)]


def _not_finite(name: str, losses: np.ndarray[tuple[int], np.dtype[np.float64]], examples: Examples) -> str:
    bad = np.flatnonzero(~np.isfinite(losses))
    whole = examples.rebatchable and len(losses) == len(examples.tensors[0])
    unit = "examples" if whole or len(losses) > len(examples.given) else "batches"
    first = int(bad[0])
    inside = whole and any(
        not bool(torch.isfinite(one[first]).all()) for one in examples.tensors if one.is_floating_point()
    )
    hint = "its data hold NaN or infinity" if inside else "check its data, their scale and the loss"
    return (
        f"the loss isn't finite at the network itself, before anything is moved: {len(bad)} of {len(losses)} "
        f"{unit} of {name!r} give {losses[first]}, the first is number {first} (from 0); {hint}"
    )
