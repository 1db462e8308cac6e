"""The result's HDF5 file.

The schema is specified in ``docs/hessian-format.md``; `FORMAT_VERSION` names the version written.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from analysis.hessian.density import SpectralDensity
from analysis.hessian.result import Pairs, Spectrum
from analysis.hessian.trace import Estimate
from landscape.hdf5 import MalformedError, Tree, fields, read_tree, write_sealed

if TYPE_CHECKING:
    import h5py

FORMAT = "sharpscape.hessian"
FORMAT_VERSION = 2
PROGRAM = "analysis.hessian"

_ESTIMATES = ("trace", "frobenius", "effective_rank")
_NUMBERS = ("n", "full_size", "examples", "loss", "gradient_norm", "products", "seconds")
_COUNTS = {"n": 1, "full_size": 1, "examples": 1, "products": 0}
_MOST_PAIRS = 100_000
_WEIGHTS_SUM = 1e-6  # how far a probe's weights may be from adding up to 1


def save_spectrum(spectrum: Spectrum, path: str | os.PathLike[str], *, vectors: bool = False) -> Path:
    """Write the HDF5 file in one step, with the eigenvectors if asked for."""

    def fill(file: h5py.File) -> None:
        file.attrs["format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        file.attrs["settings"] = json.dumps(spectrum.settings, sort_keys=True)
        file.attrs["about"] = json.dumps(spectrum.about, sort_keys=True)
        for name in _NUMBERS:
            file.attrs[name] = getattr(spectrum, name)
        for name in _ESTIMATES:
            estimate = getattr(spectrum, name)
            if estimate is not None:
                group = file.create_group(name)
                for part in ("value", "stderr", "error"):
                    group.attrs[part] = float(getattr(estimate, part))
        file["trace"].attrs["over_examples"] = float(spectrum.trace_over_examples)
        for name, pairs in (("top", spectrum.top), ("bottom", spectrum.bottom)):
            _write_pairs(file.create_group(name), pairs, vectors)
        if spectrum.density is not None:
            _write_density(file.create_group("density"), spectrum.density)

    return write_sealed(path, fill)


def load_spectrum(path: str | os.PathLike[str]) -> Spectrum:
    """Read a result.

    Nothing in a file can do anything but hold numbers: see `landscape.hdf5`.

    Raises
    ------
    UserError
        When the file is missing, is no such file, is damaged, or was written by a newer version.
    """
    tree, sealed = read_tree(path, "file of analysis.hessian", PROGRAM)
    spectrum: Spectrum = fields.readable(path, "file of analysis.hessian", lambda: spectrum_of(tree, sealed))
    return spectrum


def spectrum_of(tree: Tree, sealed: bool) -> Spectrum:
    """The spectrum in a file's content; `sealed` says whether a digest vouches for it.

    Raises
    ------
    MalformedError
        Where it isn't as the schema says.
    """
    fields.check_version(tree, FORMAT, FORMAT_VERSION, sealed, PROGRAM)
    counts = {name: fields.integer(tree.attrs, name, least) for name, least in _COUNTS.items()}
    if counts["full_size"] < counts["n"]:
        raise MalformedError(f"full_size {counts['full_size']} is below n {counts['n']}")
    trace, frobenius = (_estimate(fields.group(tree, name), name) for name in _ESTIMATES[:2])
    rank = fields.optional(tree, _ESTIMATES[2])
    top, bottom = (_pairs(fields.group(tree, name), name, counts["n"]) for name in ("top", "bottom"))
    if not len(top.values) + len(bottom.values):
        raise MalformedError("it holds no eigenvalue")
    density = fields.optional(tree, "density")
    about, settings = (fields.told(fields.mapping(tree.attrs, name), _TOLD) for name in ("about", "settings"))
    _check_texts(about, settings)
    return Spectrum(
        top=top,
        bottom=bottom,
        trace=trace,
        frobenius=frobenius,
        effective_rank=None if rank is None else _estimate(rank, _ESTIMATES[2]),
        density=None if density is None else _density(density, counts["n"]),
        loss=fields.number(tree.attrs, "loss"),
        gradient_norm=fields.number(tree.attrs, "gradient_norm", 0),
        seconds=fields.number(tree.attrs, "seconds", 0),
        settings=settings,
        about=about,
        trace_over_examples=_trace_spread(fields.group(tree, "trace")),
        **counts,
    )


def _trace_spread(group: Tree) -> float:
    return fields.number(group.attrs, "over_examples", 0) if "over_examples" in group.attrs else math.nan


def _write_pairs(group: h5py.Group, pairs: Pairs, vectors: bool) -> None:
    group["values"] = np.asarray(pairs.values, np.float64)
    group["residuals"] = np.asarray(pairs.residuals, np.float64)
    group["converged"] = np.asarray(pairs.converged, np.bool_)
    if len(pairs.over_examples):
        group["over_examples"] = np.asarray(pairs.over_examples, np.float64)
    for number, direction in enumerate(pairs.directions if vectors else ()):
        for name, tensor in direction.items():
            packed = {"compression": "gzip", "shuffle": True} if tensor.dim() else {}
            group.create_dataset(f"directions/{number}/{name}", data=tensor.numpy(), **packed)


def _write_density(group: h5py.Group, density: SpectralDensity) -> None:
    group["known"] = np.asarray(density.known, np.float64)
    group["lengths"] = np.array([len(one) for one in density.nodes], dtype=np.int64)
    group["nodes"] = np.concatenate([np.zeros(0), *density.nodes])
    group["weights"] = np.concatenate([np.zeros(0), *density.weights])
    group["grid"], group["smooth"], group["smooth_stderr"] = density.smooth()


_TOLD = ("label", "mask", "split", "checkpoint", "data", "engine")  # null, they aren't there


def _check_texts(about: dict[str, Any], settings: dict[str, Any]) -> None:
    """What tables and comparisons read of the provenance."""
    for name in ("label", "mask", "split"):
        fields.one_of(about.get(name), [str], f"about.{name}")
    for name in ("checkpoint", "data"):
        fields.one_of(about.get(name), [dict, str], f"about.{name}")
    checkpoint = about.get("checkpoint")
    if isinstance(checkpoint, dict):
        fields.one_of(checkpoint.get("sha256"), [str], "about.checkpoint.sha256")
    density = about.get("density_of_weights")
    fields.one_of(density, [int, float], "about.density_of_weights")
    if density is not None and not 0 <= density <= 1:
        raise MalformedError(f"about.density_of_weights is {density}; expected 0 to 1")
    fields.one_of(about.get("engine"), [dict], "about.engine")
    fields.one_of(settings.get("mask"), [dict], "settings.mask")


def _estimate(group: Tree, name: str) -> Estimate:
    value = fields.number(group.attrs, "value")
    stderr, error = (fields.number(group.attrs, part, 0) for part in ("stderr", "error"))
    if name != "trace" and value < 0:
        raise MalformedError(f"{name} is {value}; it can't be negative")
    return Estimate(value, stderr, error)


def _pairs(group: Tree, name: str, n: int) -> Pairs:
    values = fields.array(group, "values", "float64", (None,))
    residuals = fields.array(group, "residuals", "float64", values.shape)
    converged = fields.array(group, "converged", "bool", values.shape)
    steps = np.diff(values) * (-1 if name == "top" else 1)
    if len(values) > n or not np.isfinite(values).all() or (steps < 0).any():
        raise MalformedError(f"{name}/values aren't at most {n} finite eigenvalues, the outermost first")
    fields.not_negative(residuals, f"{name}/residuals")
    listed = fields.optional(group, "directions") or Tree()
    numbered = fields.numbered(listed, f"{name}/directions", len(values))
    spread = np.zeros(0)
    if fields.has_array(group, "over_examples"):
        spread = fields.array(group, "over_examples", "float64", values.shape)
        fields.not_negative(spread, f"{name}/over_examples")
    return Pairs(values, residuals, converged, tuple(map(_tensors, numbered)), spread)


def _tensors(group: Tree) -> dict[str, torch.Tensor]:
    found = {}
    for name, values in group.flat():
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise MalformedError(f"the direction's {name} doesn't hold finite numbers")
        found[name] = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
    return found


def _density(group: Tree, size: int) -> SpectralDensity:
    known = fields.array(group, "known", "float64", (None,))
    lengths = fields.array(group, "lengths", "int64", (None,))
    if not np.isfinite(known).all() or len(known) > size or (lengths < 1).any():
        raise MalformedError("density/known or density/lengths hold what can't be")
    total = sum(int(one) for one in lengths)
    nodes, weights = (fields.array(group, name, "float64", (total,)) for name in ("nodes", "weights"))
    fields.not_negative(weights, "density/weights")
    edges = np.cumsum(lengths)[:-1]
    parts = [np.split(values, edges) if len(lengths) else [] for values in (nodes, weights)]
    if not np.isfinite(nodes).all() or any(not abs(one.sum() - 1) <= _WEIGHTS_SUM for one in parts[1]):
        raise MalformedError("density/nodes aren't finite, or density/weights don't add up to 1")
    return SpectralDensity(size, known, parts[0], parts[1])
