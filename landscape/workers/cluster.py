"""The workers of a Dask scheduler. Whoever names one trusts it: its messages are unpickled."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from landscape.errors import UserError
from landscape.workers.crew import Parcel, digests_of
from landscape.workers.there import LostPartError, Names, do_several, keep_parts, silent

if TYPE_CHECKING:
    import distributed

CONNECT_SECONDS = 30.0
WRITE_SECONDS = 2.0  # a scheduler's file may be half there
LOOK_SECONDS = 2.0  # how old the known number of workers may be
WAIT_SECONDS = 5.0
MOMENT_SECONDS = 0.5  # a free worker takes a parcel in less
PATIENCE_SECONDS = 600.0  # without any worker: a batch system may take its time, but not for ever
ENDED = 3  # times as many workers as there are, that ended before they had what they need
SILENT_SECONDS = 30.0  # a worker gives a sign of life several times in as long, whatever it computes
GONE_SECONDS = 10.0  # a scheduler that doesn't answer for so long is gone

LOGGERS = ("distributed", "distributed.client", "tornado.application", "asyncio")
INSTALL = "install the extra: pip install 'sharpscape[cluster]'"


@dataclass(eq=False)
class _Sent:
    """A parcel under way: what it holds by digest, and for each worker's address whether it has it by now.

    Two works of the same parts (copies of a checkpoint) are one parcel, of two users.
    """

    contents: dict[str, bytes]
    keeps: dict[str, Future[Any]] = field(default_factory=dict)
    users: int = 0

    def has(self, address: str) -> bool:
        """Whether a worker has it."""
        keep = self.keeps.get(address)
        return keep is not None and keep.done() and not keep.cancelled() and keep.exception() is None


@dataclass(eq=False)
class _Given:
    """A task of items that a worker was given; since when it is at it, and whether it is late with it."""

    address: str
    items: int
    task: Future[Any]
    since: float = math.inf
    late: bool = False


class Cluster(Executor):
    """A Dask cluster as an executor, to whose workers the parts of a work are sent once.

    `compute_surface(executor=cluster)` and its like take one; so does whatever takes an executor.

    Parameters
    ----------
    client
        Connected; whoever made it closes it.
    name
        What messages call the scheduler.
    at_once
        So many workers have items at a time; others stand by, without the parts of any work, in case one of
        them dies or hangs. None for all.
    """

    def __init__(self, client: distributed.Client, name: str, at_once: int | None = None) -> None:
        self.client, self.name, self._at_once = client, name, at_once
        self._sent: dict[Names, _Sent] = {}
        self._shared: dict[str, Any] = {}  # data on the cluster, by digest
        self._threads: dict[str, int] = {}  # of workers, by address
        self._working: list[str] = []  # addresses of those that have items
        self._late: dict[str, Future[Any]] = {}  # by address, what shows that one is through with its task
        self._silent = frozenset[str]()
        self._given: list[_Given] = []  # in turn, where others stand by
        self._turns = count()
        self._asked = -LOOK_SECONDS
        self._seen = time.monotonic()  # when there was a worker

    def submit(self, work: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        """As `concurrent.futures.Executor.submit`."""
        theirs = self.client.submit(work, *arguments, pure=False, **more)
        ours: Future[Any] = Future()
        ours.add_done_callback(lambda done: theirs.release())  # what was cancelled isn't begun there
        self.client.loop.add_callback(self._arrive, theirs, ours)
        return ours

    async def _arrive(self, theirs: Any, ours: Future[Any]) -> None:
        """Pass on what comes; the package's own executor waits for ever where a worker dies just then."""
        with suppress(InvalidStateError):  # cancelled meanwhile
            try:
                ours.set_result(await self.client.gather(theirs, asynchronous=True))
            except InvalidStateError:
                raise
            except BaseException as error:
                ours.set_exception(error)

    def there(self, now: bool = False) -> frozenset[str]:
        """See `landscape.workers.crew.Crew.there`."""
        if now:
            self._asked = -LOOK_SECONDS
        self._look()
        return frozenset(self._threads)

    def width(self) -> int:
        """Threads of all workers that have items at a time, at least 1."""
        self._look()
        return max(1, sum(self._threads.get(one, 0) for one in self._working))

    def send(self, contents: Sequence[bytes]) -> Parcel:
        """To every worker that gets items, from one to the next; what was sent last is known already.

        Waits for one that has it, and some seconds for the others; those that come later get it when they are
        seen, and an item that reaches one before is done again. Beside another parcel it waits a moment only:
        who has items of that takes nothing before they are done.

        Raises
        ------
        UserError
            When there is nobody for long, or worker after worker ends before it has them.
        """
        digests = digests_of(contents)
        self._shared = {
            key: one for key, one in self._shared.items() if key in digests or key in self._wanted
        }
        sent = self._sent.setdefault(digests, _Sent(dict(zip(digests, contents, strict=True))))
        sent.users += 1
        self._asked = -LOOK_SECONDS
        parcel = Parcel("cluster", digests, digests)
        try:
            self._wait_for(sent, math.inf if len(self._sent) == 1 else time.monotonic() + MOMENT_SECONDS)
        except BaseException:
            self.forget(parcel)  # else it is brought to whoever comes
            raise
        return parcel

    def _wait_for(self, sent: _Sent, until: float) -> None:
        """Until all who work have it, or that time has come, or some have had it for a while."""
        seen = set[str]()
        while not all(map(sent.has, self._working)) or not self._working:
            self.check()
            seen.update(self._threads)
            if any(map(sent.has, self._working)):
                until = min(until, time.monotonic() + WAIT_SECONDS)
            elif (gone := len(seen.difference(self._threads))) >= ENDED * max(1, len(self._threads)):
                raise UserError(
                    f"{gone} workers {self.name} ended before they had network and examples: too little "
                    "memory? Fewer workers have more each"
                )
            if time.monotonic() > until:
                break
            time.sleep(0.02)

    def send_again(self, parcel: Parcel, error: LostPartError) -> None:
        """To the worker that has it no more, or to who works since another one has gone."""
        sent = self._sent[parcel.digests]
        if sent.has(error.worker):
            del sent.keeps[error.worker]
        self._bring(sent)

    def forget(self, parcel: Parcel) -> None:
        """The data stay on the cluster until the next parcel, which may have the same examples."""
        sent = self._sent.get(parcel.digests)
        if sent is None:  # closed meanwhile
            return
        sent.users -= 1
        if not sent.users:
            del self._sent[parcel.digests]
            for keep in sent.keeps.values():  # of workers that had no time for it
                keep.cancel()

    def several(self, parcel: Parcel, items: Sequence[Any]) -> Future[list[Any]]:
        """See `landscape.workers.crew.Crew.several`.

        Where others stand by, Dask isn't to choose: it knows neither who these are nor who hangs, also when a
        worker has died and its tasks go to another one. So each task is one worker's, and lost with it.
        """
        work = do_several, parcel.kind, parcel.names, parcel.digests, items
        if self._at_once is None:
            return self.submit(*work)
        items_of = Counter[str]()
        for one in self._given:
            items_of[one.address] += 0 if one.task.done() else one.items
        address = min(self._working, key=lambda address: items_of[address], default="")
        task = self._submit_to(address, *work) if address else Future[list[Any]]()
        self._given.append(_Given(address, len(items), task))
        return task

    def _submit_to(self, address: str, work: Any, *arguments: Any) -> Future[Any]:
        """In turn: Dask promises an order only where priorities differ."""
        return self.submit(work, *arguments, workers=[address], priority=-next(self._turns))

    def replaced(self, tasks: Collection[Future[Any]], seconds: float) -> Mapping[Future[Any], bool]:
        """See `landscape.workers.crew.Crew.replaced`. Who comes back stands by."""
        for address, one in self._at().items():
            late = one.task in tasks and one.since < time.monotonic() - seconds
            if late and address in self._working and self._ready().difference(self._working):
                one.late = True
                self._late[address] = self._submit_to(address, int)
                self._choose()
        replaced = self._threads.keys() - self._working
        return {
            one.task: one.late and one.address not in self._silent
            for one in self._given
            if one.address in replaced
        }

    def _at(self) -> dict[str, _Given]:
        """What each worker is at, by address: they take what they are given in turn."""
        self._given = [one for one in self._given if not one.task.done()]
        found: dict[str, _Given] = {}
        for one in self._given:
            if found.setdefault(one.address, one) is one:
                one.since = min(one.since, time.monotonic())
        return found

    def _ready(self) -> set[str]:
        """Those that would do at once what they are given, as far as is known."""
        return self._threads.keys() - self._silent - self._late.keys()

    def check(self) -> None:
        """UserError when the scheduler is gone, or has had no worker for long."""
        until = time.monotonic() + GONE_SECONDS
        while self.client.status != "running":
            if self.client.status in ("closed", "closing") or time.monotonic() > until:
                raise self._gone()
            time.sleep(0.1)
        self._look()
        if time.monotonic() - self._seen > PATIENCE_SECONDS:
            raise UserError(
                f"{self.name} has had no worker for {PATIENCE_SECONDS:.0f} s; start some "
                "(dask worker …), and give the same command"
            )

    def explained(self, error: BaseException, what: str) -> UserError | None:
        """See `landscape.workers.crew.Crew.explained`."""
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            return UserError(
                f"{error.allowed_failures + 1} workers died while they had {what}, the last of them "
                f"{error.last_worker.address}: out of memory, or does the network end its process there? "
                "What was computed is kept; the same command tries again"
            )
        if isinstance(error, CancelledError | CommClosedError):
            return self._gone()
        return None

    def blames(self, error: BaseException) -> bool:
        """See `landscape.workers.crew.Crew.blames`."""
        from distributed.scheduler import KilledWorker

        return isinstance(error, KilledWorker)

    def close(self) -> None:
        """Forget what was sent, and what is under way."""
        self._sent.clear()
        self._shared.clear()

    @property
    def _wanted(self) -> set[str]:
        return {digest for digests in self._sent for digest in digests}

    def _look(self) -> None:
        """See which workers there are, now and then, and bring new ones what they need."""
        if time.monotonic() - self._asked < LOOK_SECONDS:
            return
        self._see()
        self._asked = time.monotonic()
        if self._threads:
            self._seen = self._asked
            self._lose()
        self._choose()

    def _see(self) -> None:
        """Who is there, and of whom nothing is heard where others could replace them."""
        with suppress(OSError, CancelledError):
            self._threads = self.client.nthreads()
            if self._at_once is not None:
                self._silent = frozenset(self.client.run_on_scheduler(silent, SILENT_SECONDS))

    def _lose(self) -> None:
        """What workers had that have gone is lost; who is through with its task is late no more."""
        for address in [one for one, end in self._late.items() if end.done() or one not in self._threads]:
            self._late.pop(address).cancel()
        for one in self._given:
            if one.address not in self._threads:
                with suppress(InvalidStateError):  # it has just come
                    one.task.set_exception(LostPartError(one.address))

    def _choose(self) -> None:
        """Who works, and bring them what they need.

        Who works goes on doing so, since another one would have to get everything first, unless it hangs:
        then parts that were to come from it, or by way of it, come anew.
        """
        known = self._ready() or self._threads.keys() - self._silent or self._threads
        in_turn = sorted(known, key=lambda one: (one not in self._working, one))
        before, self._working = self._working, in_turn[: self._at_once]
        if self._threads.keys() & set(before).difference(self._working):
            self._shared.clear()
            for sent in self._sent.values():
                for address in [one for one in sent.keeps if not sent.has(one)]:
                    sent.keeps.pop(address).cancel()
        for sent in self._sent.values():
            self._bring(sent)

    def _bring(self, sent: _Sent) -> None:
        """Parts to the workers that have items and lack them."""
        for address in self._working:
            keep = sent.keeps.get(address)
            if keep is not None and keep.done() and not keep.cancelled():
                error = keep.exception()
                if isinstance(error, UserError):
                    raise error
            if keep is None or (keep.done() and not sent.has(address)):
                try:
                    data = [self._data(*one, address) for one in sent.contents.items()]
                except (
                    OSError,
                    KeyError,
                    TimeoutError,
                    CancelledError,
                ):  # its worker has just died, or hangs
                    return
                sent.keeps[address] = self.submit(keep_parts, tuple(sent.contents), *data, workers=[address])

    def _data(self, digest: str, content: bytes, address: str) -> Any:
        """On one of the workers, the first that needs it or any, from which the others fetch it."""
        found = self._shared.get(digest)
        if found is None or found.status != "finished":
            name = f"sharpscape-{uuid4().hex}"
            found = self._shared[digest] = self._scattered({name: content}, address)[name]
        return found

    def _scattered(self, data: dict[str, bytes], address: str) -> dict[str, Any]:
        """Data on any worker, on this one where others could replace it; TimeoutError when it hangs then.

        Dask itself waits for a worker that hangs for as long as its connection lasts. What comes after all is
        released again, since nobody holds it; it would stay if we stopped waiting for it.
        """
        to = None if self._at_once is None else [address]
        coming = asyncio.run_coroutine_threadsafe(
            self.client.scatter(data, workers=to, timeout=5, asynchronous=True),
            self.client.loop.asyncio_loop,
        )
        while not wait([coming], LOOK_SECONDS).done:
            if self.client.status != "running":
                raise OSError(f"{self.name} doesn't answer")
            self._see()
            others = self._threads.keys() - self._silent
            if to is not None and address not in others and (others or address not in self._threads):
                raise TimeoutError
        found: dict[str, Any] = coming.result()
        return found

    def _gone(self) -> UserError:
        return UserError(
            f"the scheduler {self.name} is gone, or was started anew; what was computed is kept: give the "
            "same command again when there is one"
        )


@contextmanager
def connected(scheduler: str) -> Iterator[Cluster]:
    """The cluster of a scheduler: an address such as ``tcp://host:8786``, or a file that it has written.

    Raises
    ------
    UserError
        When `distributed` isn't installed, the file is none, or nobody answers.
    """
    distributed = needed()
    told: dict[str, Any] = {"address": scheduler}
    if "://" not in scheduler:
        if not Path(scheduler).is_file():
            raise UserError(
                f"--scheduler {scheduler}: no such file; expected tcp://HOST:PORT, or the file that "
                "`dask scheduler --scheduler-file` writes"
            )
        told = {"address": _address_in(Path(scheduler))}
    with unlogged():
        try:
            client = distributed.Client(
                **told, timeout=CONNECT_SECONDS, set_as_default=False, name="sharpscape"
            )
        except (OSError, TimeoutError, ValueError, KeyError, AssertionError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise UserError(f"--scheduler {scheduler}: no Dask scheduler answers there ({reason})") from error
        with closed(client, scheduler) as cluster:
            yield cluster


def _address_in(file: Path) -> str:
    """Which `dask scheduler --scheduler-file` wrote, or is writing; UserError for another file."""
    until = time.monotonic() + WRITE_SECONDS
    while True:
        try:
            address = json.loads(file.read_text(encoding="utf-8"))["address"]
            if not isinstance(address, str) or "://" not in address:
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, json.JSONDecodeError) and time.monotonic() < until:
                time.sleep(0.05)
                continue
            raise UserError(
                f"--scheduler {file}: no file that `dask scheduler --scheduler-file` has written, which "
                "names an address"
            ) from None
        return address


@contextmanager
def closed(client: distributed.Client, name: str, at_once: int | None = None) -> Iterator[Cluster]:
    """Around the use of a client, which is closed in the end, whatever the scheduler does; see `Cluster`."""
    cluster = Cluster(client, name, at_once)
    try:
        yield cluster
    finally:
        cluster.close()
        with suppress(Exception):  # the scheduler may be gone
            client.close(timeout=5)


@contextmanager
def unlogged() -> Iterator[None]:
    """Inside, Dask logs nothing: what fails is told in one line by who waits for it."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


def needed() -> Any:
    """The package distributed; UserError where it isn't installed."""
    try:
        import distributed
    except ImportError as error:
        raise UserError(f"a cluster needs the package distributed; {INSTALL}") from error
    return distributed
