"""Who does the work: workers of any `concurrent.futures.Executor`, which read what they need from files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from landscape.errors import UserError
from landscape.workers.there import Kind, LostPartError, Names, do_several, packed


@dataclass(frozen=True)
class Parcel:
    """Where workers find the parts of a work; see `landscape.workers.there.do`."""

    kind: Kind
    names: Names
    digests: Names


class Crew(Protocol):
    """Workers that can be sent a parcel and then items."""

    def there(self, now: bool = False) -> frozenset[str]:
        """Who is there, some seconds ago or `now`; empty where nobody knows."""
        ...

    def width(self) -> int | None:
        """How many items are worked on at a time; None where nobody knows, and all may be sent at once."""
        ...

    def send(self, contents: Sequence[bytes]) -> Parcel:
        """Bring the parts of a work to where workers find them."""
        ...

    def send_again(self, parcel: Parcel, error: LostPartError) -> None:
        """Bring it to a worker that has it no more."""
        ...

    def forget(self, parcel: Parcel) -> None:
        """It is needed no more."""
        ...

    def several(self, parcel: Parcel, items: Sequence[Any]) -> Future[list[Any]]:
        """Have some done, by one worker."""
        ...

    def replaced(self, tasks: Collection[Future[Any]], seconds: float) -> Mapping[Future[Any], bool]:
        """Have others work in place of those who have been at one of these for so long, if any stand by.

        Returned are all tasks of workers that have been replaced, also of other works: whether the worker is
        late with that very task, which may come yet. The others wait behind it, or nothing is heard of the
        worker.
        """
        ...

    def check(self) -> None:
        """UserError where no result can come any more; asked now and then while waiting."""
        ...

    def explained(self, error: BaseException, what: str) -> UserError | None:
        """What is to be said of a failure that is none of the work's own; None for any other.

        `what` names the item that it happened to, such as "the point (0, 0.1)".
        """
        ...

    def blames(self, error: BaseException) -> bool:
        """Whether workers died while they had an item: of it, or of another one that they had as well."""
        ...


@dataclass(frozen=True)
class OfExecutor:
    """The workers of an executor of processes, of MPI, of a batch system.

    Attributes
    ----------
    executor
        Any.
    beside
        The output: files that workers read are put beside it, and removed in the end. Among temporary files
        for None.
    """

    executor: Executor
    beside: Path | None

    def there(self, now: bool = False) -> frozenset[str]:
        """Nobody knows."""
        return frozenset()

    def width(self) -> None:
        """Nobody knows."""

    def send(self, contents: Sequence[bytes]) -> Parcel:
        """Write files that no other user can read; UserError where that can't be."""
        names = list[str]()
        try:
            for content in contents:
                names.append(_written(content, self.beside))
        except BaseException:
            _remove(names)
            raise
        return Parcel("file", tuple(names), digests_of(contents))

    def send_again(self, parcel: Parcel, error: LostPartError) -> None:
        """Files don't get lost."""
        raise error

    def forget(self, parcel: Parcel) -> None:
        """Remove the files."""
        _remove(parcel.names)

    def several(self, parcel: Parcel, items: Sequence[Any]) -> Future[list[Any]]:
        """See `Crew.several`."""
        return self.executor.submit(do_several, parcel.kind, parcel.names, parcel.digests, items)

    def replaced(self, tasks: Collection[Future[Any]], seconds: float) -> Mapping[Future[Any], bool]:
        """Nobody knows who has what."""
        return {}

    def check(self) -> None:
        """A broken executor fails its futures."""

    def explained(self, error: BaseException, what: str) -> UserError | None:
        """See `Crew.explained`."""
        if not isinstance(error, BrokenExecutor):
            return None
        return UserError(
            f"the executor lost a worker ({error}): out of memory? What was computed is kept where a path "
            "was given; the same call with a new executor goes on"
        )

    def blames(self, error: BaseException) -> bool:
        """A broken executor has no worker left on which to try."""
        return False


def check_executor(executor: object) -> None:
    """UserError for what can't be given work; None is this process."""
    if executor is None or (not isinstance(executor, type) and callable(getattr(executor, "submit", None))):
        return
    kind = f"the class {executor.__name__}" if isinstance(executor, type) else f"a {type(executor).__name__}"
    raise UserError(
        f"the executor is {kind}; expected a concurrent.futures.Executor, such as ProcessPoolExecutor(4)"
    )


@contextmanager
def sent(crew: Crew, parts: Sequence[object]) -> Iterator[Parcel]:
    """The parcel of some parts, the last of them a `landscape.workers.there.Work`."""
    parcel = crew.send(packed(parts))
    try:
        yield parcel
    finally:
        crew.forget(parcel)


def digests_of(contents: Sequence[bytes]) -> Names:
    """SHA-256 of each."""
    return tuple(hashlib.sha256(one).hexdigest() for one in contents)


def _written(content: bytes, beside: Path | None) -> str:
    """The absolute name of a new file."""
    prefix, folder = (".parcel.", None) if beside is None else (f".{beside.name[:60]}.", beside.parent)
    name = None
    try:
        descriptor, name = tempfile.mkstemp(".tmp", prefix, folder)
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        _remove([name or ""])
        where = folder or tempfile.gettempdir()
        raise UserError(f"cannot write what workers are to read into {where}: {error.strerror}") from error
    return os.path.abspath(name)


def _remove(names: Sequence[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.unlink(name)
