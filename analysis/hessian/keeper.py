"""The files of a run: the state of an unfinished one, until the result takes its place."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from analysis.hessian.result import FloatArray, Spectrum
from analysis.hessian.spectrum_file import FORMAT_VERSION, PROGRAM, load_spectrum, save_spectrum
from analysis.hessian.spectrum_run import SpectrumRun
from landscape.checks.identity import check_same, result_difference
from landscape.errors import UserError
from landscape.hdf5 import MalformedError, Tree, fields, read_tree, write_sealed

if TYPE_CHECKING:
    import h5py

Found = TypeVar("Found")

STATE_FORMAT = "sharpscape.hessian.state"
STATE_SUFFIX = ".partial"
SAVE_EVERY_SECONDS = 5.0
SAVE_SHARE = 0.05  # of the time that saving may take where the basis is large


class Keeper:
    """The files of one run: the result at `path`, the state at ``PATH.partial`` until then.

    Parameters
    ----------
    path
        None keeps nothing.
    settings
        Of this run; files with others are refused.
    overwrite
        Begin anew and replace whatever is there.

    Attributes
    ----------
    finished
        The result, where it is there already.

    Raises
    ------
    UserError
        For a result or a state with other settings, or a file that is neither.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any], overwrite: bool) -> None:
        self.path, self.settings = path, dict(settings)
        self.finished: Spectrum | None = None
        self._state: dict[str, Any] | None = None
        self._centre: FloatArray = np.zeros(0)
        self._save_at = time.monotonic() + SAVE_EVERY_SECONDS
        if path is None or overwrite:
            return
        if path.exists():
            self.finished = self._accepted(load_spectrum(path), lambda one: one.settings, path)
        state = state_path(path)
        if self.finished is None and state.exists():
            self._state = self._accepted(_read_state(state), lambda one: one["settings"], state)

    def check_centre(self, loss: float, gradient_norm: float, dtype: str) -> None:
        """Compare an earlier result, or state, with what loss and gradient are now.

        Raises
        ------
        UserError
            When they differ beyond rounding: another loss, network or other examples made it.
        """
        self._centre = np.array([loss, gradient_norm])
        if self.path is None:
            return
        if self.finished is not None:
            known, path = np.array([self.finished.loss, self.finished.gradient_norm]), self.path
        elif self._state is not None and len(self._state["arrays"].get("centre", ())) == 2:
            known, path = self._state["arrays"]["centre"], state_path(self.path)
        else:
            return
        what = f"{path}: loss and gradient at the weights"
        check_same(what, known, self._centre, dtype, advice="overwrite it with --overwrite")

    def resume(self, run: SpectrumRun) -> float:
        """Put the stored state into the run; gives the seconds that it has taken so far."""
        if self._state is None:
            return 0.0
        try:
            run.restore(self._state["arrays"])
        except (KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
            where = "" if self.path is None else state_path(self.path)
            raise UserError(f"{where}: not the state of such a run ({error}); remove it") from error
        return float(self._state["seconds"])

    def save_sometimes(self, run: SpectrumRun, seconds: float) -> None:
        """Save if the last time is long enough ago."""
        if time.monotonic() >= self._save_at:
            self.save(run, seconds)

    def save(self, run: SpectrumRun, seconds: float) -> None:
        """Replace the state on disk by the present one, in one step."""
        if self.path is None or not run.products:
            return
        began = time.monotonic()

        def fill(file: h5py.File) -> None:
            file.attrs["format"], file.attrs["format_version"] = STATE_FORMAT, FORMAT_VERSION
            file.attrs["settings"] = json.dumps(self.settings, sort_keys=True)
            file.attrs["seconds"] = seconds
            for name, value in run.state().items():
                file[name] = value
            file["centre"] = self._centre

        write_sealed(state_path(self.path), fill)
        now = time.monotonic()
        self._save_at = now + max(SAVE_EVERY_SECONDS, (now - began) / SAVE_SHARE)

    def finish(self, spectrum: Spectrum) -> None:
        """Write the result and remove the state."""
        if self.path is None:
            return
        save_spectrum(spectrum, self.path, vectors=bool(self.settings.get("keep_vectors")))
        state_path(self.path).unlink(missing_ok=True)

    def _accepted(self, found: Found, settings: Callable[[Found], Mapping[str, Any]], path: Path) -> Found:
        difference = result_difference(dict(settings(found)), self.settings)
        if difference is None:
            return found
        raise UserError(
            f"{path} holds a spectrum made with other settings ({difference}); "
            "choose another output path, or overwrite it with --overwrite"
        )


def state_path(path: Path) -> Path:
    """Where the state of a run with this result is kept."""
    return path.with_name(path.name + STATE_SUFFIX)


def _read_state(path: Path) -> dict[str, Any]:
    tree, sealed = read_tree(path, "state of analysis.hessian", PROGRAM)
    found: dict[str, Any] = fields.readable(
        path, "state of analysis.hessian", lambda: _state_of(tree, sealed)
    )
    return found


def _state_of(tree: Tree, sealed: bool) -> dict[str, Any]:
    fields.check_version(tree, STATE_FORMAT, FORMAT_VERSION, sealed, PROGRAM)
    if tree.groups:
        raise MalformedError("it holds groups")
    return {
        "settings": fields.mapping(tree.attrs, "settings"),
        "seconds": fields.number(tree.attrs, "seconds", 0),
        "arrays": dict(tree.arrays),
    }
