"""Points evaluated by the workers of a `concurrent.futures.Executor`, with the bits of this process.

Whatever an engine is made of travels once to every worker; afterwards only coordinates do, and sums back. A
worker's engine must be this process's: it is told the choices that were made here, and refused where it makes
others or gives another loss at the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks.identity import check_means
from landscape.engine import Engine, Totals
from landscape.engine.modes import own_modes
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.keeping.points import Evaluator, OneByOne, Point
from landscape.keeping.points import point_name as point_name
from landscape.losses import Loss
from landscape.workers.evaluator import workers
from landscape.workers.there import this_worker

TOLD = ("device", "dtype", "batch_norm", "batch_size")  # of `Engine.about`, as its arguments
SAME = (*TOLD, "folded", "fused", "sparse")  # what decides the last bits

Found = Mapping[str, Totals]


@dataclass(frozen=True)
class EngineWork:
    """Makes a worker's engine: its directions, what it is to be like, and the sums at the centre."""

    directions: Sequence[Mapping[str, Tensor]]
    about: Mapping[str, Any]
    centre: Found

    def begin(
        self, network: tuple[nn.Module, Loss], data: Mapping[str, Examples]
    ) -> Callable[[Point], Found]:
        """See `landscape.workers.there.Work.begin`."""
        return _There(self, *network, data)

    @own_modes()
    @torch.no_grad()
    def engine(self, model: nn.Module, loss: Loss, data: Mapping[str, Examples]) -> Engine:
        """Built here, and seen to be the same; UserError where it is another."""
        told = {name: self.about[name] for name in TOLD}
        sparse = "on" if self.about["sparse"] else "off"
        engine = Engine(model, data, loss, self.directions, **told, sparse=sparse)  # type: ignore[arg-type]
        for name in SAME:
            if engine.about[name] != self.about[name]:
                raise UserError(
                    f"{this_worker()} computes otherwise ({name}: {engine.about[name]}, expected "
                    f"{self.about[name]}); give workers the same kind of machine and versions"
                )
        self.check(engine)
        return engine

    @own_modes()
    @torch.no_grad()
    def turn(self, engine: Engine) -> bool:
        """Give an engine of another plane of the network these directions; False where it isn't as told."""
        if any(engine.about[name] != self.about[name] for name in SAME):
            return False
        if not engine.set_directions(self.directions):
            return False
        self.check(engine)
        return True

    def check(self, engine: Engine) -> None:
        """UserError where loss or metrics of the network itself are others here."""
        for name, totals in engine.evaluate([0.0] * engine.axes).items():
            here = {key: self.centre[name].mean(key) for key in self.centre[name].sums}
            check_means(this_worker(), name, here, totals, self.about["dtype"], advice="other workers")


class _There:
    """A worker's engine, for plane after plane of a network."""

    def __init__(self, work: EngineWork, model: nn.Module, loss: Loss, data: Mapping[str, Examples]) -> None:
        self._engine = work.engine(model, loss, data)

    def turned(self, work: EngineWork) -> bool:
        """See `landscape.workers.there.Work.begin`."""
        return isinstance(work, EngineWork) and work.turn(self._engine)

    def __call__(self, point: Point) -> Found:
        with own_modes(), torch.no_grad():
            return self._engine.evaluate(point)


@contextmanager
def evaluator_of(
    engine: Engine,
    executor: Executor | None,
    made_of: tuple[nn.Module, Mapping[str, Examples], Loss, Sequence[Mapping[str, Tensor]]],
    centre: Found,
    beside: Path | None,
) -> Iterator[Evaluator[Found]]:
    """The engine itself, or the executor's workers with engines like it.

    Parameters
    ----------
    engine, made_of
        And its arguments: model, examples, loss and directions.
    executor
        None for this process.
    centre
        Sums at the network itself.
    beside
        The output: files that workers can read are put beside it, and removed in the end. Among temporary
        files for None. A `landscape.workers.cluster.Cluster` needs none.

    Raises
    ------
    UserError
        When model, loss or examples can't be sent to another process, or such a file can't be written.
    """
    if executor is None:
        yield OneByOne(engine.evaluate)
        return
    model, data, loss, directions = made_of
    parts = (model, loss), data, EngineWork(directions, engine.about, centre)
    with workers(executor, parts, beside, point_name) as evaluator:
        yield evaluator
