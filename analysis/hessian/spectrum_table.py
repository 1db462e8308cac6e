"""Spectra as a table on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.hessian.result import Pairs, Spectrum
from analysis.hessian.trace import Estimate
from landscape.commandline.console import terminal
from landscape.files.json_files import finite, sealed

if TYPE_CHECKING:
    from rich.table import Table

NOT_CONVERGED = "not converged"


def print_table(spectra: Sequence[Spectrum]) -> None:
    """On standard output."""
    terminal().print(table(spectra))


def table(spectra: Sequence[Spectrum]) -> Table:
    """A column per spectrum: eigenvalues with their residuals, then what was sampled with its error."""
    from rich.table import Table
    from rich.text import Text

    caption = (
        "± the larger of what the computation leaves open and what other examples would change: residual of "
        "an eigenvalue, interval of the trace over probes (in brackets); and the 95 % interval over examples"
    )
    result = Table(show_edge=False, pad_edge=False, caption=caption)
    result.add_column("")
    cells = [_cells(one) for one in spectra]
    for spectrum in spectra:
        result.add_column(Text(spectrum.label), justify="right", overflow="fold")
    for name in dict.fromkeys(key for one in cells for key in one):
        result.add_row(name, *(Text(one.get(name, "–")) for one in cells))  # not str: brackets are markup
    return result


def to_json(spectra: Sequence[Spectrum], paths: Sequence[Path]) -> str:
    """A list with an object per spectrum; what isn't known is null."""
    rows = [_row(spectrum, path) for spectrum, path in zip(spectra, paths, strict=True)]
    return json.dumps([sealed(finite(one)) for one in rows], indent=2, allow_nan=False) + "\n"


def _cells(spectrum: Spectrum) -> dict[str, str]:
    top = {f"λ{number}": _pair(spectrum.top, number - 1) for number in range(1, len(spectrum.top.values) + 1)}
    count = len(spectrum.bottom.values)
    bottom = {
        "λmin" if number == 0 else f"λmin+{number}": _pair(spectrum.bottom, number)
        for number in reversed(range(count))
    }
    share = "" if spectrum.n == spectrum.full_size else f" of {spectrum.full_size:,}"
    about = spectrum.about
    return {
        **top,
        **bottom,
        "trace": _trace(spectrum),
        "Frobenius norm": _estimate(spectrum.frobenius),
        "stable rank": _estimate(spectrum.stable_rank),
        "effective rank": "–" if spectrum.effective_rank is None else _estimate(spectrum.effective_rank),
        "loss": f"{spectrum.loss:.4g}",
        "gradient norm": f"{spectrum.gradient_norm:.3g}",
        "weights": f"{spectrum.n:,}{share}, mask: {about.get('mask')}",
        "examples": f"{spectrum.examples:,}",
        **_derivatives(spectrum),
        "products": f"{spectrum.products}",
        "time": f"{spectrum.seconds:.1f} s",
    }


def _trace(spectrum: Spectrum) -> str:
    probes, examples = spectrum.trace.error, spectrum.trace_over_examples
    if not isfinite(examples):
        return _estimate(spectrum.trace)
    larger = max(probes, examples) if isfinite(probes) else examples
    return f"{spectrum.trace.value:.4g} ± {larger:.2g} ({probes:.1g})"


def _derivatives(spectrum: Spectrum) -> dict[str, str]:
    """Where products weren't automatic differentiation's."""
    engine = spectrum.about.get("engine", {})
    if engine.get("derivatives") != "differences":
        return {}
    return {"products are": f"differences of gradients, since {engine.get('differences_because')}"}


def _pair(pairs: Pairs, place: int) -> str:
    missed = "" if pairs.converged[place] else f", {NOT_CONVERGED}"
    value, residual = pairs.values[place], pairs.residuals[place]
    return f"{value:.5g} ± {pairs.errors()[place]:.2g} ({residual:.1g}{missed})"


def _estimate(estimate: Estimate) -> str:
    if not isfinite(estimate.error):
        return f"{estimate.value:.4g} ± ?"
    return f"{estimate.value:.4g} ± {estimate.error:.2g}"


def _row(spectrum: Spectrum, path: Path) -> dict[str, Any]:
    effective = spectrum.effective_rank
    return {
        "label": spectrum.label,
        "file": str(path),
        "top": _pairs(spectrum.top),
        "bottom": _pairs(spectrum.bottom),
        "converged": spectrum.converged,
        "trace": _numbers(spectrum.trace) | {"over_examples": spectrum.trace_over_examples},
        "frobenius": _numbers(spectrum.frobenius),
        "stable_rank": _numbers(spectrum.stable_rank),
        "effective_rank": None if effective is None else _numbers(effective),
        "loss": spectrum.loss,
        "gradient_norm": spectrum.gradient_norm,
        "n": spectrum.n,
        "full_size": spectrum.full_size,
        "examples": spectrum.examples,
        "products": spectrum.products,
        "seconds": spectrum.seconds,
        "settings": spectrum.settings,
        "about": spectrum.about,
    }


def _pairs(pairs: Pairs) -> list[dict[str, Any]]:
    known = pairs.over_examples if len(pairs.over_examples) else [nan] * len(pairs.values)
    rows = zip(pairs.values, pairs.residuals, known, pairs.converged, strict=True)
    return [
        {
            "value": float(value),
            "residual": float(residual),
            "over_examples": float(spread),
            "converged": bool(converged),
        }
        for value, residual, spread, converged in rows
    ]


def _numbers(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "stderr": estimate.stderr, "error": estimate.error}
