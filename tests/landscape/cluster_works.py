"""Works for workers that need no torch: what goes through a cluster is seen without waiting for networks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from landscape.errors import UserError


@dataclass(frozen=True)
class Squares:
    """The sum of squares, after some seconds; every call leaves a line in a folder, by point and process."""

    folder: str
    seconds: float = 0.0

    def begin(self, factor: float) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""

        def work(point: Sequence[float]) -> float:
            time.sleep(self.seconds)
            name = "_".join(f"{one:g}" for one in point)
            with (Path(self.folder) / name).open("a") as file:
                file.write(f"{os.getpid()}\n")
            return factor * sum(one**2 for one in point)

        return work

    def calls(self) -> dict[str, int]:
        """How often each point was finished."""
        return {one.name: len(one.read_text().splitlines()) for one in Path(self.folder).iterdir()}


@dataclass(frozen=True)
class Deadly(Squares):
    """Ends its process at one point."""

    at: tuple[float, ...] = ()

    def begin(self, factor: float) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""
        usual = super().begin(factor)

        def work(point: Sequence[float]) -> float:
            if tuple(point) == self.at:
                os._exit(9)
            return usual(point)

        return work


class Unloadable:
    """A part that no worker can unpickle."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("none",)


class Whose:
    """The address of the worker, after a hundredth of a second."""

    def begin(self) -> Callable[[Sequence[float]], str]:
        """See `landscape.workers.there.Work.begin`."""
        from distributed import get_worker

        def work(_: Sequence[float]) -> str:
            time.sleep(0.01)
            return str(get_worker().address)

        return work


@dataclass(frozen=True)
class HungryOnce(Squares):
    """Takes more memory than there is at one point, the first time; a file beside the folder says so."""

    at: tuple[float, ...] = ()

    def begin(self, factor: float) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""
        usual, mark = super().begin(factor), Path(self.folder).parent / "hungry"

        def work(point: Sequence[float]) -> float:
            if tuple(point) == self.at and not mark.exists():
                mark.touch()
                held = []
                while True:
                    held.append(bytearray(b"x" * (8 << 20)))
                    time.sleep(0.02)  # who watches the memory looks ten times a second
            return usual(point)

        return work


@dataclass(frozen=True)
class Refusing(Squares):
    """Finds that this worker won't do."""

    def begin(self, factor: float) -> Callable[[Sequence[float]], float]:
        """See `landscape.workers.there.Work.begin`."""
        raise UserError("the worker 7 on that host computes otherwise")
