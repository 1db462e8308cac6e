"""The result's HDF5 file.

The schema is specified in ``docs/hessian-format.md``; `FORMAT_VERSION` names the version written.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import torch

from analysis.hessian.density import SpectralDensity
from analysis.hessian.result import Pairs, Spectrum
from analysis.hessian.trace import Estimate
from landscape.errors import UserError
from landscape.files import atomic_path

Found = TypeVar("Found")

FORMAT = "sharpscape.hessian"
FORMAT_VERSION = 1

_ESTIMATES = ("trace", "frobenius", "effective_rank")
_NUMBERS = ("n", "full_size", "examples", "loss", "gradient_norm", "products", "seconds")


def save_spectrum(spectrum: Spectrum, path: str | os.PathLike[str], *, vectors: bool = False) -> Path:
    """Write the HDF5 file in one step, with the eigenvectors if asked for."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
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
                    group.attrs[part] = getattr(estimate, part)
        for name, pairs in (("top", spectrum.top), ("bottom", spectrum.bottom)):
            _write_pairs(file.create_group(name), pairs, vectors)
        if spectrum.density is not None:
            _write_density(file.create_group("density"), spectrum.density)
    write_whole(Path(path), buffer)
    return Path(path)


def load_spectrum(path: str | os.PathLike[str]) -> Spectrum:
    """Read a result.

    Raises
    ------
    UserError
        When the file is missing, is no such file, is damaged, or was written by a newer version.
    """
    return opened(Path(path), FORMAT, _read_spectrum)


def opened(path: Path, form: str, read: Callable[[h5py.File], Found]) -> Found:
    """What `read` makes of an HDF5 file of this format; anything wrong with it is a `UserError`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected one written by analysis.hessian")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != form:
                raise UserError(f"{path}: an HDF5 file, but not one of analysis.hessian")
            version = int(file.attrs["format_version"])
            if version > FORMAT_VERSION:
                raise UserError(
                    f"{path}: format version {version}, this program reads up to {FORMAT_VERSION}"
                )
            return read(file)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        # h5py has no exception of its own: damaged metadata shows as any of these.
        raise UserError(f"{path}: not a readable file of analysis.hessian ({error})") from error


def write_whole(path: Path, buffer: io.BytesIO) -> None:
    """Replace the file in one step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _write_pairs(group: h5py.Group, pairs: Pairs, vectors: bool) -> None:
    group["values"], group["residuals"], group["converged"] = pairs.values, pairs.residuals, pairs.converged
    for number, direction in enumerate(pairs.directions if vectors else ()):
        for name, tensor in direction.items():
            packed = {"compression": "gzip", "shuffle": True} if tensor.dim() else {}
            group.create_dataset(f"directions/{number}/{name}", data=tensor.numpy(), **packed)


def _write_density(group: h5py.Group, density: SpectralDensity) -> None:
    group["known"] = density.known
    group["lengths"] = np.array([len(one) for one in density.nodes], dtype=np.int64)
    group["nodes"] = np.concatenate([np.zeros(0), *density.nodes])
    group["weights"] = np.concatenate([np.zeros(0), *density.weights])
    group["grid"], group["smooth"], group["smooth_stderr"] = density.smooth()


def _read_spectrum(file: h5py.File) -> Spectrum:
    numbers = {name: file.attrs[name].item() for name in _NUMBERS}
    estimates: dict[str, Any] = {
        name: Estimate(*(float(file[name].attrs[part]) for part in ("value", "stderr", "error")))
        if name in file
        else None
        for name in _ESTIMATES
    }
    return Spectrum(
        top=_read_pairs(file["top"]),
        bottom=_read_pairs(file["bottom"]),
        density=_read_density(file["density"], numbers["n"]) if "density" in file else None,
        settings=json.loads(file.attrs["settings"]),
        about=json.loads(file.attrs["about"]),
        **estimates,
        **numbers,
    )


def _read_pairs(group: h5py.Group) -> Pairs:
    directions = group.get("directions", {})
    return Pairs(
        group["values"][()],
        group["residuals"][()],
        group["converged"][()],
        tuple(_read_tensors(directions[number]) for number in sorted(directions, key=int)),
    )


def _read_tensors(group: h5py.Group) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):  # a group, where a parameter's name holds a slash
            found[name] = torch.from_numpy(np.asarray(item[()]))

    group.visititems(add)
    return found


def _read_density(group: h5py.Group, size: int) -> SpectralDensity:
    edges = np.cumsum(group["lengths"][()])[:-1]
    nodes, weights = (
        np.split(group[name][()], edges) if len(group["lengths"]) else [] for name in ("nodes", "weights")
    )
    return SpectralDensity(size, group["known"][()], nodes, weights)
