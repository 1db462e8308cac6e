"""`hessian_spectrum`: a network and examples in; eigenvalues, trace, norm and density out, resumable."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from analysis.hessian.keeper import SpectrumForm, check_centre
from analysis.hessian.krylov import FloatArray, random_unit
from analysis.hessian.lanczos import Eigenpairs, Wanted
from analysis.hessian.operator import HessianOperator
from analysis.hessian.result import Pairs, Spectrum
from analysis.hessian.sampled import spread_over_examples
from analysis.hessian.spectrum_file import save_spectrum
from analysis.hessian.spectrum_run import Plan, SpectrumRun, State
from landscape.checks.identity import Functions, check_same
from landscape.compute import Data, as_examples, choose_mask
from landscape.devices import kind_of
from landscape.engine.modes import own_modes
from landscape.examples import Examples
from landscape.keeping.label import labelled
from landscape.keeping.lock import owned
from landscape.keeping.partial import PartialKeeper
from landscape.keeping.points import nothing_ahead
from landscape.keeping.settings import FUNCTIONS
from landscape.kept_weights import density
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice, moving_params
from landscape.progress import Listener, Progress, Watch, watching
from landscape.provenance import describe_run, digest
from landscape.workers.evaluator import workers
from landscape.workers.side_by_side import Steps, side_by_side
from landscape.workers.there import this_worker

Json = dict[str, Any]
_SPREAD_PROBES = 4


@own_modes()
def hessian_spectrum(
    model: nn.Module,
    data: Data,
    *,
    loss: Loss = classification,
    mask: Mapping[str, Tensor] | Literal["auto", "none"] | None = "auto",
    mask_source: str = "given",
    params: ParamsChoice = TRAINABLE,
    top: int = 5,
    bottom: int = 1,
    tolerance: float = 1e-3,
    max_products: int = 300,
    trace_tolerance: float = 0.05,
    max_probes: int = 100,
    density_probes: int = 4,
    density_steps: int = 30,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int | None = None,
    memory: float | None = None,
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    keep_vectors: bool = False,
    label: str = "",
    about: Mapping[str, Any] | None = None,
    progress: Watch = "auto",
) -> Spectrum:
    """Eigenvalues, trace, Frobenius norm and density of the Hessian of a network's mean loss.

    The model is never modified. With a `path` the state of the run is kept beside it; the same call after an
    interruption goes on where it stopped and ends with the same bits.

    Parameters
    ----------
    model, data, loss, batch_size, device, dtype, memory
        See `HessianOperator`.
    mask, mask_source
        Kept weights by parameter name (True = kept), whose space the Hessian is restricted to; "auto" takes
        them from exact zeros, "none" or None is the full space. What the file calls a mask given as tensors.
    params
        Which parameters span the space; see `HessianOperator`.
    top, bottom, tolerance, max_products
        Eigenvalues to find; see `analysis.hessian.lanczos.eigenpairs`.
    trace_tolerance, max_probes
        Probes are drawn until the trace's standard error is this share of it, at least 8, at most so many.
    density_probes, density_steps
        Of the spectral density; 0 probes leave it out.
    seed
        Of every random vector.
    path, overwrite, keep_vectors
        HDF5 file for the result; whether to compute it anew and replace what is there; whether it holds
        eigenvectors.
    label, about
        Name for tables, and provenance to store. A finished file takes a new label, and keeps its provenance.
    progress
        "auto" shows a bar in a terminal or a notebook, nothing elsewhere; None shows nothing; or a function
        that is called with a `landscape.progress.Progress` after every product.

    Raises
    ------
    UserError
        For unusable arguments, weights or losses that aren't finite, or a file at `path` with other settings.
    """
    plan = Plan(
        Wanted(top, bottom, tolerance, max_products),
        trace_tolerance,
        max_probes,
        density_probes,
        density_steps,
        seed,
    )
    steps = spectrum_steps(
        model,
        data,
        plan=plan,
        loss=loss,
        mask=mask,
        mask_source=mask_source,
        params=params,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        memory=memory,
        path=path,
        overwrite=overwrite,
        keep_vectors=keep_vectors,
        label=label,
        about=about,
        progress=progress,
    )
    return side_by_side([steps], 1)[0]


def spectrum_steps(
    model: nn.Module,
    data: Data,
    *,
    plan: Plan,
    loss: Loss,
    mask: Mapping[str, Tensor] | Literal["auto", "none"] | None,
    mask_source: str,
    params: ParamsChoice,
    device: str,
    dtype: str,
    batch_size: int | None,
    memory: float | None,
    path: str | os.PathLike[str] | None,
    overwrite: bool,
    keep_vectors: bool,
    label: str,
    about: Mapping[str, Any] | None,
    progress: Watch,
    executor: Executor | None = None,
) -> Steps[Spectrum]:
    """As `hessian_spectrum`; in one of an executor's workers where there is one, and yields while it waits.

    What a worker is at isn't kept before it is finished.
    """
    moving = moving_params(model, params)
    kept, source = choose_mask(mask, mask_source, moving)
    examples, functions = as_examples(data), Functions(model, loss)
    operator = HessianOperator(
        model,
        examples,
        loss=loss,
        mask=kept,
        params=params,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        memory=memory,
    )
    settings: Json = {
        "network": digest({**dict(model.named_parameters()), **dict(model.named_buffers())}),
        **moving.settings(),
        "examples": examples.digest(),
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "mask": {"source": source, "digest": digest(kept or {})},
        "eigenvalues": asdict(plan.wanted),
        "trace": {"tolerance": plan.trace_tolerance, "max_probes": plan.max_probes},
        "density": {"probes": plan.density_probes, "steps": plan.density_steps},
        "seed": plan.seed,
        "operator": {
            "device": kind_of(operator.about["device"]),
            **{name: operator.about[name] for name in ("dtype", "batch_size", "folded")},
        },
        "keep_vectors": keep_vectors,
        FUNCTIONS: functions.about(),
    }
    facts = {
        "label": label,
        "mask": source,
        "density_of_weights": None if kept is None else density(kept),
        **describe_run(moving.every, operator.about),
        **moving.about(),
        **(about or {}),
    }
    with owned(path), watching(progress, label or "Hessian", "products") as listener:
        form = SpectrumForm()
        keeper = PartialKeeper(None if path is None else Path(path), settings, form, overwrite=overwrite)
        mean_loss, gradient = operator.gradient()
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
        check_centre(keeper, mean_loss, norm, operator.about["dtype"])
        if keeper.finished is not None:
            return labelled(
                keeper.finished,
                label,
                lambda now: keeper.finish(lambda there: save_spectrum(now, there, vectors=keep_vectors)),
            )
        if executor is None:
            run = SpectrumRun(operator, plan)
            seconds = _work(run, keeper, np.array([mean_loss, norm]), listener)
            result = _result(operator, run, seconds, settings, facts)
        else:
            told: Json = {"mask": kept, "params": params, "batch_size": batch_size, "device": device}
            told |= {"dtype": dtype, "memory": memory, "derivatives": operator.about["derivatives"]}
            work = SpectrumWork(told, plan, keeper.state, mean_loss, norm)
            parts = [(model, loss), examples, work]
            found = yield from _in_a_worker(executor, parts, None if path is None else Path(path), label)
            result = replace(found, settings=settings, about=facts)
        keeper.finish(lambda there: save_spectrum(result, there, vectors=keep_vectors))
    return result


@dataclass(frozen=True)
class SpectrumWork:
    """Makes a worker's operator: its other arguments, the plan, an unfinished state, and what is known."""

    arguments: Mapping[str, Any]
    plan: Plan
    state: State | None
    loss: float
    norm: float

    def begin(self, network: tuple[nn.Module, Loss], data: Examples) -> Callable[[str], Spectrum]:
        """See `landscape.workers.there.Work.begin`."""
        operator = HessianOperator(network[0], data, loss=network[1], **self.arguments)
        mean_loss, gradient = operator.gradient()
        now = np.array([mean_loss, float(np.linalg.norm(gradient.astype(np.float64)))])
        what, known = f"{this_worker()}: loss and gradient at the weights", np.array([self.loss, self.norm])
        check_same(what, known, now, operator.about["dtype"], advice="other workers")

        @own_modes()
        def spectrum(_: str) -> Spectrum:
            run, keeper = SpectrumRun(operator, self.plan), PartialKeeper[Spectrum](None, {}, SpectrumForm())
            keeper.state = self.state
            if self.state is not None:
                run.restore(self.state)
            return _result(operator, run, _work(run, keeper, known, None), {}, {})

        return spectrum


def _in_a_worker(
    executor: Executor, parts: Sequence[object], path: Path | None, label: str
) -> Steps[Spectrum]:
    with (
        workers(executor, parts, path, lambda _: f"the spectrum of {label or 'the network'}") as evaluator,
        closing(evaluator.coming(["spectrum"], nothing_ahead, 0.0)) as results,
    ):
        for one in results:
            if one is not None:
                return cast(Spectrum, one[1])
            yield
    raise AssertionError("workers answer or fail")


def _work(
    run: SpectrumRun, keeper: PartialKeeper[Spectrum], centre: FloatArray, progress: Listener | None
) -> float:
    """All products that are left; whatever stops them, the state is kept. Gives the seconds in all."""
    keeper.restore(run.restore)
    before = 0.0 if keeper.state is None else float(keeper.state["seconds"])
    began, start = time.perf_counter(), run.products

    def seconds() -> float:
        return before + time.perf_counter() - began

    def state() -> State:
        if not run.products or not run.whole:
            return {}
        return run.state() | {"centre": centre, "seconds": np.array(seconds())}

    with keeper.keeping(state) as sometimes:
        while not run.done:
            run.advance()
            if progress is not None:
                progress(
                    Progress(
                        done=run.products,
                        expected=max(run.products, run.expected()),
                        plane=1,
                        planes=1,
                        error=math.nan,
                        seconds_per_point=(seconds() - before) / (run.products - start),
                    )
                )
            sometimes()
    return seconds()


def _result(
    operator: HessianOperator, run: SpectrumRun, seconds: float, settings: Json, about: Json
) -> Spectrum:
    top, bottom = run.search.pairs()
    loss, gradient = operator.gradient()
    found = run.density()
    *spread, trace = _over_examples(operator, run, torch.cat([top.vectors, bottom.vectors]))
    return Spectrum(
        top=_named(operator, top, spread[: len(top.values)]),
        bottom=_named(operator, bottom, spread[len(top.values) :]),
        trace=run.probing.trace(),
        frobenius=run.probing.frobenius(),
        effective_rank=None if found is None else found.effective_rank(),
        density=found,
        n=operator.size,
        full_size=operator.space.full_size,
        examples=operator.examples,
        loss=loss,
        gradient_norm=float(np.linalg.norm(gradient.astype(np.float64))),
        products=run.products,
        seconds=seconds,
        settings=settings,
        about=about,
        trace_over_examples=trace,
    )


def _over_examples(operator: HessianOperator, run: SpectrumRun, vectors: Tensor) -> list[float]:
    """Half-widths of 95 % intervals over the examples: of each eigenvalue, last of the trace.

    The trace of a block of examples is estimated by the forms of the known eigenvectors, which make most of
    it, and of a few random vectors beside them.
    """
    basis = torch.linalg.qr(vectors.double().T)[0].to(vectors)  # of equal eigenvalues, too
    probes = []
    for number in range(_SPREAD_PROBES if operator.size > len(vectors) else 0):
        probe = random_unit(operator, run.plan.seed, 4, number)
        for _ in range(2):
            probe = probe - basis @ (basis.T @ probe)
        probes.append(probe / probe.norm())
    forms, counts = operator.forms(torch.stack([*vectors, *basis.T, *probes], 1))
    known = len(vectors)
    rest = forms[:, 2 * known :].mean(1) * (operator.size - known) if probes else 0.0
    trace = forms[:, known : 2 * known].sum(1) + rest
    found = spread_over_examples(np.column_stack([forms[:, :known], trace]), counts)
    return [one.error for one in found]


def _named(operator: HessianOperator, pairs: Eigenpairs, spread: Sequence[float]) -> Pairs:
    directions = tuple(operator.to_directions(vector) for vector in pairs.vectors)
    return Pairs(
        pairs.values, pairs.residuals, pairs.converged, directions, np.array(spread, dtype=np.float64)
    )
