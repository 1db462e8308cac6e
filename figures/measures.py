"""Sharpness of a run beside its Ra: eigenvalue, trace and what `analysis.sharpness` measured. No torch.

``RESULTS/hessian/RUN.json`` is of ``python -m analysis.hessian --json``, ``RESULTS/sharpness/RUN.csv`` of
``python -m analysis.sharpness --csv``; each of that run's checkpoint alone, on training images.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from analysis.roughness.conventions import differences
from figures.belonging import contradiction
from figures.networks import run_parts
from landscape.errors import UserError
from landscape.files import check_regular
from landscape.files.json_files import number_or_none, read_json

# What the report shows; analysis.sharpness, which needs torch, has more.
NAMES = {
    "lambda_max": "λmax",
    "trace": "trace",
    "sam": "SAM sharpness",
    "asam": "ASAM sharpness",
    "gaussian_filter": "Gaussian sharpness, by filter",
    "fisher_rao": "Fisher-Rao norm",
}


SPLIT = "train"
MASK = "mask"
EXACT = ("float32", "float64")  # either gives the eigenvalue to what is stated beside it


@dataclass(frozen=True)
class Measured:
    """A number, its 95 % interval (NaN where unknown), and what must be said beside it.

    Attributes
    ----------
    made
        How it was measured, as short texts by what they are about; what is compared has to have them alike.
    """

    value: float
    low: float = nan
    high: float = nan
    note: str = ""
    made: Mapping[str, str] = field(default_factory=dict)


def unlike(found: Iterable[Measured]) -> list[str]:
    """In what values of one measure weren't measured alike, as "rho 0.05; 0.5"; empty where they were."""
    different = differences([one.made for one in found])
    return [f"{name} {'; '.join(values)}" for name, values in different.items()]


def measures_of(
    root: Path, run: str, checkpoint: str = "", row: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Measured]:
    """What was computed of that run, by key.

    Parameters
    ----------
    root, run
        The folder of results, and the run's name.
    checkpoint
        SHA-256 of the run's checkpoint, where it is known: other ones are refused.
    row
        Of ``results.csv``: a checkpoint with other metrics is refused, too.

    Raises
    ------
    UserError
        When a file isn't one of the commands named above, or holds several checkpoints or splits, another
        checkpoint, or other images than training ones.
    """
    return {
        **_hessian(root / "hessian" / f"{run}.json", checkpoint, row),
        **_sharpness(root / "sharpness" / f"{run}.csv", run),
    }


def _hessian(path: Path, checkpoint: str, row: Mapping[str, str]) -> dict[str, Measured]:
    try:
        if not path.is_file():
            return {}
        content = read_json(path, "JSON of analysis.hessian")
        if isinstance(content, list) and len(content) > 1:
            raise ValueError(f"{len(content)} checkpoints or splits; expected the run's alone")
        one = content[0] if isinstance(content, list) else content
        _check_source(one, checkpoint, row)
        first, trace = one["top"][0], one.get("trace")
        value, residual = _known(first["value"], "value"), _known(first["residual"], "residual", 0)
        note = "" if first["converged"] else f"not converged, residual {residual:.2g}"
        made = _made(one)
        found = {"lambda_max": Measured(value, value - residual, value + residual, note, made)}
        known = trace is not None and trace["value"] is not None
        return found | ({"trace": replace(_around(trace), made=made)} if known else {})
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _unreadable(path, error, "analysis.hessian CHECKPOINT --json") from error


def _check_source(one: Any, checkpoint: str, row: Mapping[str, str]) -> None:
    """Raise ValueError for a Hessian of another split or checkpoint."""
    split = one.get("split") or _nested(one, "about").get("split") or SPLIT
    if split != SPLIT:
        raise ValueError(f"of the split {split}; expected {SPLIT}")
    found = _nested(one, "about", "checkpoint").get("sha256")
    if found and checkpoint and found != checkpoint:
        raise ValueError("of another checkpoint than the run's surface")
    unlike = "" if found and checkpoint else contradiction(_nested(one, "about"), row)
    if unlike:
        raise ValueError(f"of another checkpoint than the run's: {unlike}")


def _made(one: Any) -> dict[str, str]:
    """Number of examples, loss, mask and a low precision, where the file tells them."""
    settings, operator = _nested(one, "settings"), _nested(one, "settings", "operator")
    count = one.get("examples", settings.get("examples"))
    parts = {
        "examples": count if isinstance(count, int) else None,
        "loss": settings.get("loss"),
        MASK: _nested(one, "settings", "mask").get("source"),
        "dtype": None if operator.get("dtype") in EXACT else operator.get("dtype"),
    }
    return {name: str(value) for name, value in parts.items() if value is not None}


def _nested(one: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping at the end of these keys; empty where there is none."""
    for key in keys:
        one = one.get(key) if isinstance(one, Mapping) else None
    return one if isinstance(one, Mapping) else {}


def _around(estimate: Any) -> Measured:
    value = _known(estimate["value"], "value")
    error = number_or_none(estimate["error"], "error", 0)
    return Measured(value) if error is None else Measured(value, value - float(error), value + float(error))


def _known(value: Any, name: str, least: float | None = None) -> float:
    found = number_or_none(value, name, least)
    if found is None:
        raise ValueError(f"{name} is unknown")
    return found


def _sharpness(path: Path, run: str) -> dict[str, Measured]:
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            check_distinct(reader.fieldnames or (), "the column")
            rows = list(reader)
        _check_rows(rows, run)
        return {row["measure"]: _measured(row) for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise _unreadable(path, error, "analysis.sharpness CHECKPOINT --csv") from error


def _check_rows(rows: Sequence[Mapping[str, str]], run: str) -> None:
    """Raise ValueError where not all are of one checkpoint, the run's, and of training images."""
    for key in ("checkpoint", "file", "split", "measure"):
        values = [row[key] for row in rows if row.get(key)]
        distinct = list(dict.fromkeys(values))
        if key == "measure":
            check_distinct(values, "the measure")
        if key != "measure" and len(distinct) > 1:
            raise ValueError(f"several of {key}: {', '.join(distinct[:4])}; expected the run's alone")
        if key == "split" and distinct not in ([], [SPLIT]):
            raise ValueError(f"of the split {distinct[0]}; expected {SPLIT}")
        folder = PurePath(distinct[0]).parent.name if key == "file" and distinct else ""
        if folder != run and run_parts(folder) is not None:
            raise ValueError(f"of the run {folder}; expected {run}")


def check_distinct(names: Sequence[str], what: str) -> None:
    """Raise ValueError where one is there twice: nothing says which of them counts."""
    for one in dict.fromkeys(names):
        if names.count(one) > 1:
            raise ValueError(f"{what} {one} is there {names.count(one)} times")


def _measured(row: Mapping[str, str]) -> Measured:
    """A number within its interval, if it has one; inf, where the loss diverges, may be an end of it."""
    value, low, high = _number(row["value"]), _number(row["low"]), _number(row["high"])
    alone = isnan(low) and isnan(high)
    if None in row or row["settings"] is None or not (alone or low <= value <= high):
        raise ValueError(f"{row['measure']}: {value} with the interval [{low}, {high}]")
    settings = row["settings"]
    return Measured(value, low, high, settings, {"settings": settings} if settings else {})


def _number(text: str) -> float:
    return float(text) if text else nan


def _unreadable(path: Path, error: Exception, command: str) -> UserError:
    return UserError(
        f"{path}: can't be read ({type(error).__name__}: {error}); make it anew with python -m {command}"
    )
