"""Points evaluated by the workers of a `concurrent.futures.Executor`, with the bits of this process.

Whatever an engine is made of lies in one file that every worker reads once; afterwards only coordinates
travel there, and sums back. A worker's engine must be this process's: it is told the choices that were made
here, and refused where it makes others or gives another loss at the network itself.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import platform
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks.identity import check_same
from landscape.engine import Engine, Totals
from landscape.engine.modes import own_modes
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.keeping.points import Evaluator, OneByOne, Point
from landscape.losses import Loss

TOLD = ("device", "dtype", "batch_norm", "batch_size")  # of `Engine.about`, as its arguments
SAME = (*TOLD, "folded", "sparse")  # what decides the last bits
ENGINES = 2  # that a worker keeps: of the present plane, and of another computation

Found = Mapping[str, Totals]


@dataclass(frozen=True)
class Parcel:
    """What a worker needs: the engine's arguments, what it is to be like, the sums at the network itself."""

    model: nn.Module
    data: Mapping[str, Examples]
    loss: Loss
    directions: Sequence[Mapping[str, Tensor]]
    about: Mapping[str, Any]
    centre: Found

    def engine(self) -> Engine:
        """Built here, and seen to be the same; UserError where it is another."""
        told = {name: self.about[name] for name in TOLD}
        sparse = "on" if self.about["sparse"] else "off"
        engine = Engine(self.model, self.data, self.loss, self.directions, **told, sparse=sparse)  # type: ignore[arg-type]
        for name in SAME:
            if engine.about[name] != self.about[name]:
                raise UserError(
                    f"{_worker()} computes otherwise ({name}: {engine.about[name]}, expected "
                    f"{self.about[name]}); give workers the same kind of machine and versions"
                )
        for name, totals in engine.evaluate([0.0] * engine.axes).items():
            what, expected = f"{_worker()}: the loss of {name!r}", self.centre[name].mean("loss")
            check_same(what, expected, totals.mean("loss"), self.about["dtype"], advice="other workers")
        return engine


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
        The output: a file that workers can read is put beside it, and removed in the end. Among temporary
        files for None.

    Raises
    ------
    UserError
        When model, loss or examples can't be sent to another process, or that file can't be written.
    """
    if executor is None:
        yield OneByOne(engine.evaluate)
        return
    content = _packed(Parcel(*made_of, about=engine.about, centre=centre))
    name = _written(content, beside)
    try:
        yield Workers(executor, name, hashlib.sha256(content).hexdigest())
    finally:
        with suppress(OSError):
            os.unlink(name)


@dataclass(frozen=True)
class Workers:
    """Evaluates in the workers of an executor, all points of a call at a time.

    Attributes
    ----------
    executor
        Any: of processes here, of MPI, of a batch system.
    parcel, digest
        The file that workers read, and its SHA-256.
    """

    executor: Executor
    parcel: str
    digest: str

    def evaluate_many(self, points: Sequence[Point]) -> Generator[tuple[int, Found], None, None]:
        """As `landscape.keeping.points.Evaluator.evaluate_many`."""
        futures: dict[Future[Found], int] = {}
        try:
            for number, point in enumerate(points):
                futures[self.executor.submit(evaluate, self.parcel, self.digest, point)] = number
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenExecutor as error:
            raise UserError(
                f"the executor lost a worker ({error}): out of memory? What was computed is kept where a "
                "path was given; the same call with a new executor goes on"
            ) from error
        finally:
            for future in futures:
                future.cancel()


_turn = threading.Lock()  # an engine has one set of weights: threads of a process take turns


def evaluate(parcel: str, digest: str, point: Point) -> Found:
    """What a worker does: evaluate one point, with the engine of a parcel that it reads the first time."""
    with _turn, own_modes(), torch.no_grad():
        return _engine(parcel, digest).evaluate(point)


@lru_cache(ENGINES)
def _engine(parcel: str, digest: str) -> Engine:
    try:
        content = Path(parcel).read_bytes()
    except OSError as error:
        raise UserError(
            f"{_worker()} can't read {parcel} ({error.strerror}): its folder must be one that workers see; "
            "give a path in such a folder"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{_worker()}: {parcel} isn't what was written; begin again")
    try:
        found = pickle.loads(content)
    except Exception as error:
        raise UserError(
            f"{_worker()} can't load model, loss or examples ({type(error).__name__}: {error}); define them "
            "in a module that workers can import"
        ) from error
    assert isinstance(found, Parcel)
    return found.engine()


def _packed(parcel: Parcel) -> bytes:
    buffer = io.BytesIO()
    try:
        pickle.dump(parcel, buffer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise UserError(
            f"model, loss or examples can't be sent to other processes ({type(error).__name__}: {error}); "
            "define them at the top level of a module"
        ) from error
    return buffer.getvalue()


def _written(content: bytes, beside: Path | None) -> str:
    """A file that no other user can read; its absolute name."""
    prefix, folder = (".parcel.", None) if beside is None else (f".{beside.name[:60]}.", beside.parent)
    name = None
    try:
        descriptor, name = tempfile.mkstemp(".tmp", prefix, folder)
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        with suppress(OSError):
            os.unlink(name or "")
        where = folder or tempfile.gettempdir()
        raise UserError(f"cannot write what workers are to read into {where}: {error.strerror}") from error
    return os.path.abspath(name)


def _worker() -> str:
    return f"the worker {os.getpid()} on {platform.node()}"
