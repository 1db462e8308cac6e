"""Whether an earlier result belongs to this loss, this network and these examples.

Digests of weights and examples don't say what is computed from them. A result that is to be resumed or
returned must come from the same functions, so

1. `Functions` describes the code of loss and network and all that it refers to. A result keeps
   `Functions.about` in its settings, under `landscape.keeping.settings.FUNCTIONS`, where they are compared.
2. The loss at a point that is known already (and its metrics, for a Hessian the gradient) is evaluated anew,
   and `check_same` refuses a difference beyond rounding.

The second sees whatever the first can't: C++ extensions, files that are read, values behind dynamic names.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

from landscape.checks.description import describe, summary
from landscape.errors import UserError

if TYPE_CHECKING:
    from landscape.engine.totals import Totals

Json = dict[str, Any]

ROUNDING: Mapping[str, float] = {"float64": 1e-9, "float32": 1e-4, "tf32": 2e-2, "bfloat16": 1e-1}
"""Largest relative difference at one point that other threads, batches or machines explain, by dtype."""


class Functions:
    """The functions that make a result: of the network, and the loss.

    Make it before anything is called, and ask `about` after the loss was called: what the calls changed
    (counters, caches, logs) is state and no part of a function.

    Parameters
    ----------
    model, loss
        As the user gave them.
    more
        Other functions by name.
    """

    def __init__(self, model: nn.Module, loss: Any, **more: Any) -> None:
        self._values = {"network": model, "loss": loss, **more}
        self._before = describe(**self._values)

    def about(self) -> Json:
        """Digests by name, for a result's settings; JSON types."""
        after = describe(**self._values)
        changed = {place for place, text in self._before.items() if after.get(place) != text}
        lasting = {
            place: text
            for place, text in self._before.items()
            if not any(_within(place, other) for other in changed)
        }
        return {
            "python": ".".join(platform.python_version_tuple()[:2]),  # code is comparable within one
            **{name: summary(_part(lasting, name)) for name in self._values},
        }


def check_same(
    what: str,
    stored: npt.ArrayLike,
    found: npt.ArrayLike,
    dtype: str,
    *,
    digits: int = 52,
    advice: str = "overwrite it",
    turned: float = 0.0,
) -> None:
    """Refuse an earlier result whose numbers at a known point aren't those of the present functions.

    Parameters
    ----------
    what
        The earlier result and its number, as "x.h5: the loss at the checkpoint".
    stored, found
        Numbers or arrays of one shape; compared relative to the largest. What is equally not finite agrees.
    dtype
        "float64", "float32", "tf32" or "bfloat16", in which they were computed: how much rounding explains.
    digits
        Binary ones behind the leading one, to which they were stored.
    advice
        What else to do than to find out why.
    turned
        A difference that rounding explains, too; see `landscape.engine.Totals.turned`.

    Raises
    ------
    UserError
        When they differ by more.

    >>> check_same("a.h5: the loss at the checkpoint", 1.0, 1.0 + 1e-7, "float32")
    """
    old, new = np.asarray(stored, np.float64), np.asarray(found, np.float64)
    difference = relative_difference(old, new, turned)
    if difference > max(ROUNDING[dtype], 2.0**-digits):
        shown = (
            f" was {old.item():.6g} and is now {new.item():.6g}"
            if old.size == new.size == 1
            else f" differ by {difference:.1e} of their size from what they are now"
        )
        raise UserError(
            f"{what}{shown}: loss, network or examples aren't those that it was made with; "
            f"choose another output path, or {advice}"
        )


def check_means(
    source: object,
    split: str,
    stored: Mapping[str, float],
    found: Totals,
    dtype: str,
    *,
    place: str = "",
    advice: str = "overwrite it",
) -> None:
    """Refuse earlier means that aren't those of the present functions: the loss, and where it is finite, all.

    Parameters
    ----------
    source, split, place
        What they are of: "x.h5", "test", " at a point that it holds".
    stored, found
        Means by name, and what gives them now.
    dtype, advice
        As of `check_same`.

    Raises
    ------
    UserError
        When one differs, or other metrics come.
    """
    if stored.keys() != found.sums.keys():
        raise UserError(
            f"{source} has {', '.join(stored)} of {split!r}, and this run gives {', '.join(found.sums)}: its "
            f"loss isn't the one that it was made with; choose another output path, or {advice}"
        )
    finite = np.isfinite(stored["loss"])
    for name, old in stored.items() if finite else [("loss", stored["loss"])]:
        loss = name == "loss"
        check_same(
            f"{source}: the {'loss' if loss else f'metric {name!r}'} of {split!r}{place}",
            old,
            found.mean(name),
            dtype,
            advice=advice,
            turned=0.0 if loss else found.turned(name, ROUNDING[dtype]),
        )


def relative_difference(
    old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], turned: float = 0.0
) -> float:
    """Largest difference as a share of the largest number; inf where shapes or finite places differ.

    Differences up to `turned` count as none.
    """
    if old.shape != new.shape:
        return float("inf")
    finite = np.isfinite(old)
    if not np.array_equal(finite, np.isfinite(new)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(old[finite]).max()), float(np.abs(new[finite]).max()), np.finfo(np.float64).tiny)
    largest = float(np.abs(old - new)[finite].max())
    return 0.0 if largest <= turned * (1 + 1e-9) else largest / scale


def _part(description: Mapping[str, str], name: str) -> dict[str, str]:
    return {place: text for place, text in description.items() if _within(place, name)}


def _within(place: str, whole: str) -> bool:
    return place == whole or place.startswith((f"{whole}.", f"{whole}["))
