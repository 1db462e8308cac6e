"""Computing the parts of a connection, each kept in a file of its own: surfaces of curves, and the bend."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from analysis.connectivity.bend import BendTraining, trained_module
from analysis.connectivity.bend_files import BendForm, Identity, save_bend
from analysis.connectivity.curve import Evaluation, curve_surface
from analysis.connectivity.ends import Ends
from analysis.connectivity.recipe import Curve, Training
from landscape.devices import kind_of
from landscape.engine import DTYPES
from landscape.engine.batch_norm import BATCH_SIZE, Recalibration
from landscape.engine.cuda_graph import numerics
from landscape.engine.failing import in_one_line
from landscape.examples import Examples
from landscape.keeping.lock import owned
from landscape.keeping.partial import PartialKeeper, State, state_path
from landscape.keeping.settings import FUNCTIONS
from landscape.kept_weights import density
from landscape.planes.directions import Params
from landscape.progress import Listener, Progress, watching
from landscape.provenance import digest
from landscape.surface import Surface

SUFFIX = ".surface.h5"
BEND_SUFFIX = ".bend.pt"
Watcher = Callable[[str, Progress], None] | Literal["auto"] | None


@dataclass
class Work:
    """One connection in the making.

    Attributes
    ----------
    ends, evaluation
        Between which networks, and how the loss along a curve is evaluated.
    base
        Start of every file's name, or None.
    names, identity, about
        See `analysis.connectivity.connection.connect`.
    watcher
        Called with "linear", "bend" or "bezier" and how far that is; or "auto" or None as in
        `landscape.progress.watching`.
    files
        What was written so far, in order.
    """

    ends: Ends
    evaluation: Evaluation
    base: Path | None
    names: tuple[str, str]
    identity: Identity
    about: dict[str, Any]
    watcher: Watcher
    files: list[Path] = field(default_factory=list)

    def surface(self, curve: Curve, bend: Params | None, about: Mapping[str, Any]) -> Surface:
        """The loss along a curve, computed or read."""
        path = _beside(self.base, f".{curve}{SUFFIX}")
        with self._watching(curve, "points") as listener:
            found = curve_surface(
                self.ends,
                self.evaluation,
                bend,
                names=self.names,
                path=path,
                label=f"{self.names[0]} → {self.names[1]}, {curve}",
                about=self.about,
                plane_about=about,
                progress=listener,
            )
        self.files += [path] if path else []
        return found

    def bend(self, examples: Examples, training: Training) -> Params:
        """The middle point: trained, trained to the end, or read where it is finished."""
        ends, evaluation = self.ends, self.evaluation
        path = _beside(self.base, BEND_SUFFIX)
        settings = _settings(ends, evaluation, examples, training)
        self.files += [path] if path else []
        with owned(path):
            keeper = PartialKeeper(path, settings, BendForm())
            if keeper.finished is not None:
                return {name: keeper.finished[name] for name in ends.start if name not in ends.statistics}
            kind = DTYPES[evaluation.dtype]
            run = BendTraining(ends, examples, evaluation.loss, training, evaluation.device, kind)
            keeper.restore(run.restore)
            with self._watching("bend", "steps") as listener:
                _train(run, keeper, listener)
            bend = run.weights()
            module = _with_statistics(ends, bend, evaluation)
            keeper.finish(lambda there: save_bend(there, module, ends.kept, self.identity, settings))
        return bend

    def _watching(self, phase: str, unit: str) -> AbstractContextManager[Listener | None]:
        told = partial(self.watcher, phase) if callable(self.watcher) else self.watcher
        return watching(told, phase, unit)


def _settings(ends: Ends, evaluation: Evaluation, examples: Examples, training: Training) -> dict[str, Any]:
    """Everything that determines a bend."""
    return {
        **ends.settings(),
        "mask": digest(ends.kept or {}),
        "examples": examples.digest(),
        "loss": getattr(evaluation.loss, "__qualname__", type(evaluation.loss).__name__),
        "batch_norm": ends.batch_norm,
        "training": asdict(training),
        **({} if evaluation.functions is None else {FUNCTIONS: evaluation.functions.about()}),
        "device": kind_of(evaluation.device),
        "dtype": evaluation.dtype,
    }


def _train(run: BendTraining, keeper: PartialKeeper[Params], progress: Listener | None) -> None:
    """All steps that are left; whatever stops them, the state is kept."""
    first, began, steps = run.step, time.perf_counter(), run.training.steps

    def state() -> State:
        return run.state() if run.step and run.whole else {}

    with keeper.keeping(state) as sometimes:
        while not run.done:
            run.advance()
            if progress is not None:
                seconds = (time.perf_counter() - began) / (run.step - first)
                progress(Progress(run.step, steps, 1, 1, float("nan"), seconds))
            sometimes()


def _with_statistics(ends: Ends, bend: Params, evaluation: Evaluation) -> nn.Module:
    """The bend as a network; running statistics are its own with "recalibrate", else half-way."""
    module = trained_module(ends, bend)
    if ends.batch_norm == "recalibrate":
        module = module.to(evaluation.device)
        dtype = next(one.dtype for one in module.parameters() if one.is_floating_point())
        batches = evaluation.recalibration.to(evaluation.device, dtype).batches(BATCH_SIZE)
        with in_one_line("the loss fails at the bend"), numerics(torch.device(evaluation.device), False):
            Recalibration(module, evaluation.loss, batches).run()
    return module


def about_bend(ends: Ends, training: Training, examples: Examples) -> dict[str, Any]:
    """What the surface of a trained curve says about its plane."""
    number = (
        {"examples": len(examples.tensors[0])} if examples.rebatchable else {"batches": len(examples.given)}
    )
    mask = None if ends.kept is None else density(ends.kept)
    kept = "all weights" if mask is None else "weights that one of the ends keeps"
    return {
        "label": f"Bézier curve, bend trained for {training.steps} steps on {kept}",
        "bend": asdict(training) | number | {"kept": kept, "density_of_masked": mask},
    }


def remove(base: Path | None, curves: Sequence[Curve]) -> None:
    """What is computed anew: else a stopped run would meet files of other settings when it goes on."""
    bend = _beside(base, BEND_SUFFIX)
    old = [_beside(base, f".{curve}{SUFFIX}") for curve in curves]
    old += [bend, None if bend is None else state_path(bend)] if "bezier" in curves else []
    for one in old:
        if one is not None:
            one.unlink(missing_ok=True)


def _beside(base: Path | None, suffix: str) -> Path | None:
    return None if base is None else base.with_name(base.name + suffix)
