"""What runs in a worker. Imports nothing heavy: a Dask scheduler loads this module, too."""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from landscape.errors import UserError

WORKS = 2  # that a worker keeps: of the present computation, and of another one

Kind = Literal["file", "cluster"]
Names = tuple[str, ...]


class LostPartError(Exception):
    """A worker of a cluster has a part no more, or never got it: it is to be sent again.

    Attributes
    ----------
    worker
        Its address.
    """

    def __init__(self, worker: str) -> None:
        super().__init__(worker)
        self.worker = worker


class Work(Protocol):
    """The last part of a parcel: makes of the others what does one item after the other."""

    def begin(self, *parts: Any) -> Callable[[Any], Any]:
        """Called once in a worker; UserError where this worker wouldn't give what the others give.

        What is returned may have a method ``turned(work)``: to do another work on the same parts from then
        on, which is quicker than to begin that one. False where it can't, and is not used again then.
        """
        ...


_turn = threading.Lock()  # networks have one set of weights: threads of a process take turns
_works: dict[Names, Callable[[Any], Any]] = {}  # by digests, the newest last
_parts: dict[str, Any] = {}


def do(kind: Kind, names: Names, digests: Names, item: Any) -> Any:
    """One item of the work that a parcel holds, which is fetched and built the first time.

    Parameters
    ----------
    kind, names
        Where the parts are: in files of these names, or here already (see `keep_parts`).
    digests
        SHA-256 of each.
    item
        What its work takes.
    """
    with _turn:
        return _work(kind, names, digests)(item)


def do_several(kind: Kind, names: Names, digests: Names, items: Sequence[Any]) -> list[Any]:
    """What `do` gives for each of some items."""
    return [do(kind, names, digests, item) for item in items]


def _work(kind: Kind, names: Names, digests: Names) -> Callable[[Any], Any]:
    if digests not in _works:
        parts = [_part(kind, *one) for one in zip(names, digests, strict=True)]
        before = _make_room(digests)
        if before is not None and not before.turned(parts[-1]):
            before = None  # before another one is made
        _works[digests] = before or parts[-1].begin(*parts[:-1])
    return _works[digests]


def _make_room(digests: Names) -> Any:
    """Another work on the same network goes first (both may not fit a device), else the oldest of many.

    Returned is the one that may be turned to the new work.
    """
    before = None
    for known in [one for one in _works if one[:-1] == digests[:-1]]:
        before = _works.pop(known)
    while len(_works) >= WORKS:
        del _works[next(iter(_works))]
    needed = {*digests}.union(*_works)
    for digest in [one for one in _parts if one not in needed]:
        del _parts[digest]
    return before if hasattr(before, "turned") else None


def _part(kind: Kind, name: str, digest: str) -> Any:
    if digest in _parts:
        return _parts[digest]
    if kind == "cluster":
        from distributed import get_worker

        raise LostPartError(get_worker().address)
    return _kept(digest, _of_file(name), name)


def keep_parts(digests: Names, *contents: bytes) -> None:
    """Keep the parts of a parcel that a cluster brings, for what `do` is asked for."""
    with _turn:
        for digest, content in zip(digests, contents, strict=True):
            if digest not in _parts:
                _kept(digest, content, "what was sent")


def _kept(digest: str, content: bytes, name: str) -> Any:
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{this_worker()}: {name} isn't what was written; begin again")
    try:
        _parts[digest] = pickle.loads(content)
    except Exception as error:
        raise UserError(
            f"{this_worker()} can't load model, loss or examples ({type(error).__name__}: {error}); define "
            "them in a module that workers can import"
        ) from error
    return _parts[digest]


def _of_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UserError(
            f"{this_worker()} can't read {name} ({error.strerror}): its folder must be one that workers "
            "see; give a path in such a folder"
        ) from error


def silent(seconds: float, dask_scheduler: Any = None) -> set[str]:
    """On a scheduler: the addresses of workers of which it has heard nothing for so long."""
    since = time.time() - seconds
    return {address for address, one in dask_scheduler.workers.items() if one.last_seen < since}


def this_worker() -> str:
    """What messages call this process."""
    return f"the worker {os.getpid()} on {platform.node()}"


def packed(parts: Sequence[object]) -> list[bytes]:
    """Each part as what travels; UserError for what can't."""
    try:
        return [pickle.dumps(one, protocol=pickle.HIGHEST_PROTOCOL) for one in parts]
    except Exception as error:
        raise UserError(
            f"model, loss or examples can't be sent to other processes ({type(error).__name__}: {error}); "
            "define them at the top level of a module"
        ) from error
