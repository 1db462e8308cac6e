"""A result's HDF5 file, kept up to date while it is being computed, and read again. Needs no torch.

``clean`` and ``correct`` are bool and compressed, 1 for an image that was answered right; ``done`` says which
corruptions and severities were computed, so that an unfinished file is a whole one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.robustness.corruption_names import CORRUPTIONS, SEVERITIES
from analysis.robustness.result import Robustness, Source
from landscape.errors import UserError
from landscape.hdf5 import MalformedError, Tree, fields, read_tree, write_sealed

if TYPE_CHECKING:
    import h5py

FORMAT = "sharpscape.robustness"
FORMAT_VERSION = 2  # of the first files: from 2 on a digest is asked for
PROGRAM = "analysis.robustness"
KIND = "file of analysis.robustness"
SUFFIX = ".robustness.h5"
_ABOUT = ("run", "checkpoint", "data", "deviations", "pixels", "stamps")
_RUN = ("method", "sparsity", "optimizer", "seed", "recipe")
_PACKED = {"compression": "gzip", "compression_opts": 9}


def check_name(name: str) -> None:
    """UserError for a name that is a path: results are joined with the folders of runs by their names."""
    if is_path(name):
        raise UserError(f"the result's name is {name[:60]!r}; expected one without separators: rename it")


def is_path(name: str) -> bool:
    """Whether a name is that of no folder in another one; files of older versions have such, too."""
    return name in ("", ".", "..") or any(one in name for one in "/\\")


def save(result: Robustness, path: str | os.PathLike[str]) -> Path:
    """Write the file in one step: it is always whole.

    Raises
    ------
    UserError
        When the result's name is a path.
    """
    check_name(result.name)

    def fill(file: h5py.File) -> None:
        file.attrs["format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        for name in ("name", "file", "sha256"):
            file.attrs[name] = getattr(result, name)
        for name in ("corruptions", "sources"):
            file.attrs[name] = json.dumps(getattr(result, name))
        for name in ("settings", "about"):
            file.attrs[name] = json.dumps(getattr(result, name), sort_keys=True)
        for name in ("places", "labels"):
            file.create_dataset(name, data=getattr(result, name).astype(np.int64), shuffle=True, **_PACKED)
        file["done"] = result.done
        file.create_dataset("correct", data=result.correct, **_PACKED)
        if result.clean is not None:
            file.create_dataset("clean", data=result.clean, **_PACKED)

    return write_sealed(path, fill)


def read(path: str | os.PathLike[str]) -> Robustness:
    """Read a result, finished or not.

    Raises
    ------
    UserError
        When the file is missing, is no such file, is damaged, or was written by a newer version.
    """
    tree, sealed = read_tree(path, KIND, PROGRAM)
    result: Robustness = fields.readable(path, KIND, lambda: _result(tree, sealed))
    return result


def _result(tree: Tree, sealed: bool) -> Robustness:
    fields.check_version(tree, FORMAT, FORMAT_VERSION, sealed, PROGRAM)
    names = fields.names(tree.attrs, "corruptions")
    unknown = [one for one in names if one not in CORRUPTIONS]
    sources = fields.names(tree.attrs, "sources", distinct=False)
    if unknown or len(sources) != len(names) or not set(sources) <= {"files", "generated"}:
        raise MalformedError("corruptions or sources hold what can't be")
    labels = fields.array(tree, "labels", "int64", (None,))
    count, severities = len(labels), len(SEVERITIES)
    if not count or (labels < 0).any():
        raise MalformedError("labels aren't those of one image or more")
    done = fields.array(tree, "done", "bool", (len(names), severities))
    clean = fields.array(tree, "clean", "bool", (count,)) if fields.has_array(tree, "clean") else None
    settings = fields.mapping(tree.attrs, "settings")
    about = fields.told(fields.mapping(tree.attrs, "about"), _ABOUT)
    _check_about(about)
    found: tuple[Source, ...] = tuple("files" if one == "files" else "generated" for one in sources)
    return Robustness(
        _text(tree, "name"),
        _text(tree, "file"),
        _text(tree, "sha256"),
        names,
        found,
        fields.array(tree, "places", "int64", (count,)),
        labels,
        clean,
        fields.array(tree, "correct", "bool", (len(names), severities, count)),
        done,
        settings,
        about,
    )


def _check_about(about: dict[str, Any]) -> None:
    """What tables and comparisons read of the provenance."""
    for name in _ABOUT:
        fields.one_of(about.get(name), [dict], f"about.{name}")
    fields.one_of(about.get("architecture"), [str], "about.architecture")
    for name, text in about.get("deviations", {}).items():
        fields.one_of(text, [str], f"about.deviations.{name}")
    run = fields.told(about.get("run", {}), _RUN)
    if "run" in about:
        about["run"] = run
    for name in ("method", "optimizer"):
        fields.one_of(run.get(name), [str], f"about.run.{name}")
    fields.one_of(run.get("seed"), [int], "about.run.seed")
    fields.finite(run.get("sparsity"), "about.run.sparsity", 0)
    if run.get("sparsity", 0) > 1:
        raise MalformedError(f"about.run.sparsity is {run['sparsity']}; expected 0 to 1")
    fields.one_of(run.get("recipe"), [dict], "about.run.recipe")
    metrics = about.get("checkpoint", {}).get("metrics")
    fields.one_of(metrics, [dict], "about.checkpoint.metrics")
    epochs = {"epochs_trained": (metrics or {}).get("epochs_trained")}
    for name, value in {**epochs, **run.get("recipe", {})}.items():
        if type(value) in (int, float):
            fields.finite(value, f"about: {name}")


def _text(tree: Tree, name: str) -> str:
    value = fields.attribute(tree.attrs, name)
    if not isinstance(value, str):
        raise MalformedError(f"{name} is {value!r}; expected a text")
    return value
