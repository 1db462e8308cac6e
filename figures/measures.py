"""Sharpness of a run beside its Ra: eigenvalue, trace and what `analysis.sharpness` measured. No torch.

``RESULTS/hessian/RUN.json`` is of ``python -m analysis.hessian --json``, ``RESULTS/sharpness/RUN.csv`` of
``python -m analysis.sharpness --csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Measured:
    """A number, its 95 % interval (NaN where unknown), and what must be said beside it."""

    value: float
    low: float = nan
    high: float = nan
    note: str = ""


def measures_of(root: Path, run: str) -> dict[str, Measured]:
    """What was computed of that run, by key.

    Raises
    ------
    UserError
        When a file isn't one of the commands named above.
    """
    return {**_hessian(root / "hessian" / f"{run}.json"), **_sharpness(root / "sharpness" / f"{run}.csv")}


def _hessian(path: Path) -> dict[str, Measured]:
    try:
        if not path.is_file():
            return {}
        content = read_json(path, "JSON of analysis.hessian")
        one = content[0] if isinstance(content, list) else content
        first, trace = one["top"][0], one.get("trace")
        value, residual = _known(first["value"], "value"), _known(first["residual"], "residual", 0)
        note = "" if first["converged"] else f"not converged, residual {residual:.2g}"
        found = {"lambda_max": Measured(value, value - residual, value + residual, note)}
        return found | ({} if trace is None or trace["value"] is None else {"trace": _around(trace)})
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _unreadable(path, error, "analysis.hessian CHECKPOINT --json") from error


def _around(estimate: Any) -> Measured:
    value = _known(estimate["value"], "value")
    error = number_or_none(estimate["error"], "error", 0)
    return Measured(value) if error is None else Measured(value, value - float(error), value + float(error))


def _known(value: Any, name: str, least: float | None = None) -> float:
    found = number_or_none(value, name, least)
    if found is None:
        raise ValueError(f"{name} is unknown")
    return found


def _sharpness(path: Path) -> dict[str, Measured]:
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8") as file:
            return {row["measure"]: _measured(row) for row in csv.DictReader(file, strict=True)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise _unreadable(path, error, "analysis.sharpness CHECKPOINT --csv") from error


def _measured(row: Mapping[str, str]) -> Measured:
    value, low, high = _number(row["value"]), _number(row["low"]), _number(row["high"])
    if None in row or row["settings"] is None or low > high:
        raise ValueError(f"{row['measure']}: {value} with the interval [{low}, {high}]")
    return Measured(value, low, high, row["settings"])


def _number(text: str) -> float:
    return float(text) if text else nan


def _unreadable(path: Path, error: Exception, command: str) -> UserError:
    return UserError(
        f"{path}: can't be read ({type(error).__name__}: {error}); make it anew with python -m {command}"
    )
