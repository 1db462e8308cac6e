"""The largest Hessian eigenvalue of a run, from ``RESULTS/hessian/RUN.json``. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.errors import UserError


@dataclass(frozen=True)
class TopEigenvalue:
    """An eigenvalue of the mean loss, the norm of its residual, and whether that met the tolerance."""

    value: float
    residual: float
    converged: bool


def top_eigenvalue(root: Path, run: str) -> TopEigenvalue | None:
    """Of that run; None where it wasn't computed.

    Raises
    ------
    UserError
        When the file isn't one of ``python -m analysis.hessian --json``.
    """
    path = root / "hessian" / f"{run}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        first = _first(content)
        return TopEigenvalue(float(first["value"]), float(first["residual"]), bool(first["converged"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"{path}: can't be read ({type(error).__name__}: {error}); make it anew with "
            "python -m analysis.hessian CHECKPOINT --json"
        ) from error


def _first(content: Any) -> Any:
    one = content[0] if isinstance(content, list) else content
    return one["top"][0]
