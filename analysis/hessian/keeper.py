"""The files of a spectrum: how result and unfinished state are read and written, whether they belong here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.hessian.result import Spectrum
from analysis.hessian.spectrum_file import FORMAT_VERSION, PROGRAM, load_spectrum
from analysis.hessian.spectrum_run import State
from landscape.checks.identity import check_same
from landscape.hdf5 import MalformedError, Tree, fields, read_tree, write_sealed
from landscape.keeping.partial import PartialKeeper, state_path

if TYPE_CHECKING:
    import h5py

STATE_FORMAT = "sharpscape.hessian.state"


class SpectrumForm:
    """As `landscape.keeping.partial.Form`; a state has the run's arrays, loss and gradient, the seconds."""

    holds = "holds a spectrum"

    def read(self, path: Path) -> tuple[Mapping[str, Any], Spectrum]:
        """A finished one."""
        found = load_spectrum(path)
        return found.settings, found

    def read_state(self, path: Path) -> tuple[Mapping[str, Any], State]:
        """Of an unfinished run."""
        what = "state of analysis.hessian"
        tree, sealed = read_tree(path, what, PROGRAM)
        found: tuple[Mapping[str, Any], State] = fields.readable(path, what, lambda: _state_of(tree, sealed))
        return found

    def write_state(self, path: Path, settings: Mapping[str, Any], state: State) -> None:
        """In one step."""

        def fill(file: h5py.File) -> None:
            file.attrs["format"], file.attrs["format_version"] = STATE_FORMAT, FORMAT_VERSION
            file.attrs["settings"] = json.dumps(settings, sort_keys=True)
            file.attrs["seconds"] = float(state["seconds"])
            for name, value in state.items():
                if name != "seconds":
                    file[name] = value

        write_sealed(path, fill)


def check_centre(keeper: PartialKeeper[Spectrum], loss: float, gradient_norm: float, dtype: str) -> None:
    """Compare an earlier result, or state, with what loss and gradient are now.

    Raises
    ------
    UserError
        When they differ beyond rounding: another loss, network or other examples made it.
    """
    if keeper.path is None:
        return
    if keeper.finished is not None:
        known, path = np.array([keeper.finished.loss, keeper.finished.gradient_norm]), keeper.path
    elif keeper.state is not None and len(keeper.state.get("centre", ())) == 2:
        known, path = keeper.state["centre"], state_path(keeper.path)
    else:
        return
    what, now = f"{path}: loss and gradient at the weights", np.array([loss, gradient_norm])
    check_same(what, known, now, dtype, advice="overwrite it with --overwrite")


def _state_of(tree: Tree, sealed: bool) -> tuple[Mapping[str, Any], State]:
    fields.check_version(tree, STATE_FORMAT, FORMAT_VERSION, sealed, PROGRAM)
    if tree.groups:
        raise MalformedError("it holds groups")
    seconds = np.array(fields.number(tree.attrs, "seconds", 0))
    return fields.mapping(tree.attrs, "settings"), {**tree.arrays, "seconds": seconds}
