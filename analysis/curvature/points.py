"""Eigenvalues at one point of a plane: the network moved there, its Hessian, both ends of the spectrum."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from analysis.curvature.extremes import DIVERGED, Extremes, extremes
from analysis.hessian.krylov import random_unit
from analysis.hessian.operator import DTYPES, Derivatives, HessianOperator
from landscape.checks.identity import check_same
from landscape.engine import own_copy
from landscape.engine.batch_norm import BATCH_SIZE, Recalibration
from landscape.engine.cuda_graph import numerics
from landscape.engine.executors import point_name
from landscape.engine.failing import FailsError, in_one_line
from landscape.engine.modes import own_modes
from landscape.engine.precision import in_precision
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.keeping.points import Evaluator, OneByOne, Point
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice
from landscape.planes.directions import Params
from landscape.workers.evaluator import workers
from landscape.workers.there import this_worker


@dataclass(frozen=True, eq=False)
class PointSolver:
    """What all points of a plane share.

    Attributes
    ----------
    model
        At the centre; it is copied, never touched.
    directions
        One per axis.
    examples
        Behind the mean loss.
    loss, mask, params, device, dtype, batch_size, memory
        See `analysis.hessian.HessianOperator`.
    recalibrated_on
        Examples on which batch norm is estimated anew at every point, or None: the model's statistics.
    derivatives
        How products are computed; to be checked once, at the centre.
    tolerance, max_products, seed
        See `extremes`.
    """

    model: nn.Module
    directions: Sequence[Params]
    examples: Examples
    loss: Loss = classification
    mask: Mapping[str, Tensor] | None = None
    params: ParamsChoice = TRAINABLE
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int | None = None
    memory: float | None = None
    recalibrated_on: Examples | None = None
    derivatives: Derivatives = "exact"
    tolerance: float = 0.01
    max_products: int = 200
    seed: int = 0

    def operator(self, coordinates: Sequence[float]) -> HessianOperator:
        """The Hessian at a point, for the kept weights."""
        return HessianOperator(
            self._moved(coordinates),
            self.examples,
            loss=self.loss,
            mask=self.mask,
            params=self.params,
            batch_size=self.batch_size,
            device=self.device,
            dtype=self.dtype,
            memory=self.memory,
            derivatives=self.derivatives,
        )

    def solve(self, coordinates: Sequence[float]) -> Extremes:
        """Both eigenvalues; `DIVERGED` where loss, gradient or a product isn't finite."""
        try:
            with in_one_line("the loss fails"):
                operator = self.operator(coordinates)
        except UserError as error:
            raise UserError(f"{point_name(coordinates)}: {error}") from error
        try:
            operator.gradient()
        except FailsError as error:
            raise UserError(f"{point_name(coordinates)}: {error}") from error
        except UserError:  # only for a loss or gradient that isn't finite
            return DIVERGED
        return extremes(operator, tolerance=self.tolerance, max_products=self.max_products, seed=self.seed)

    def seconds_per_product(self) -> float:
        """Of a second product at the centre; the first builds the graphs."""
        operator = self.operator([0.0] * len(self.directions))
        vector = random_unit(operator, self.seed)
        _arrived(operator.multiply(vector))
        began = time.perf_counter()
        _arrived(operator.multiply(vector))
        return time.perf_counter() - began

    def _moved(self, coordinates: Sequence[float]) -> nn.Module:
        """The network at a point: a copy, moved in float64 and rounded once."""
        module, dtype = own_copy(self.model), DTYPES[self.dtype]
        with torch.no_grad():
            for name, value in module.named_parameters():
                if not value.is_floating_point():
                    continue
                start = value.detach().cpu().double()
                for coordinate, direction in zip(coordinates, self.directions, strict=True):
                    if name in direction:
                        start = start + coordinate * direction[name].cpu().double()
                value.data = start.to(self.device, dtype)
        module = in_precision(module, self.device, dtype).eval()
        if self.recalibrated_on is not None:
            batches = self.recalibrated_on.to(self.device, dtype).batches(BATCH_SIZE)
            with numerics(torch.device(self.device), False):
                Recalibration(module, self.loss, batches).run()
        return module


@dataclass(frozen=True)
class SolverWork:
    """Makes a worker's solver: the fields of one but for network and examples, and the loss at the centre."""

    fields: Mapping[str, Any]
    loss_there: float

    def begin(
        self, network: tuple[nn.Module, Loss], examples: tuple[Examples, Examples | None]
    ) -> Callable[[Point], Extremes]:
        """See `landscape.workers.there.Work.begin`."""
        model, loss = network
        solver = PointSolver(
            model, examples=examples[0], loss=loss, recalibrated_on=examples[1], **self.fields
        )
        what, advice = f"{this_worker()}: the loss at the centre", "other workers"
        check_same(what, self.loss_there, _loss_at_centre(solver), solver.dtype, advice=advice)
        return own_modes()(solver.solve)


@contextmanager
def solved_by(
    solver: PointSolver, executor: Executor | None, beside: Path | None
) -> Iterator[Evaluator[Extremes]]:
    """The solver itself, or the executor's workers with solvers like it; see `landscape.engine.executors`."""
    if executor is None:
        yield OneByOne(solver.solve)
        return
    apart = {"model", "examples", "loss", "recalibrated_on"}
    told = {one.name: getattr(solver, one.name) for one in fields(solver) if one.name not in apart}
    parts = (solver.model, solver.loss), (solver.examples, solver.recalibrated_on)
    work = SolverWork(told, _loss_at_centre(solver))
    with workers(executor, [*parts, work], beside, point_name) as evaluator:
        yield evaluator


def _loss_at_centre(solver: PointSolver) -> float:
    return solver.operator([0.0] * len(solver.directions)).gradient()[0]


def _arrived(product: Tensor) -> None:
    """Wait for a product: a GPU's is only begun when the call returns."""
    float(product[0])
