"""Who writes an output: a file beside it that only one process can make, and that says which one did.

No `flock`, which network file systems lack or forget: the file is made with O_EXCL. Its owner touches it
twice a minute. What a dead process left is taken over: at once where that can be seen (same machine), after
ten silent minutes elsewhere. Before every save the owner looks whether the file is still its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.keeping.signals import held_back

BEAT_SECONDS = 30.0
SILENT_SECONDS = 600.0  # of an owner that can't be looked at: it is dead, or has stood still for that long
FILLED_SECONDS = 0.5  # between making a lock and writing into it
TWICE_SECONDS = 0.05  # in which two that take over the same lock have both done so
LARGEST = 4096  # bytes of a lock

Owner = Mapping[str, Any]

# Not the package filelock (4.3 looked at): its FileLock is flock; its SoftFileLease has our sign of life, but
# contenders wait for a whole lease whatever became of the owner. A run that was killed could not go on at
# once on the same machine; with a lease so short that it could, a machine that slept would lose its lock.


class Lock:
    """A lock of this process; see `owned`."""

    def __init__(self, output: Path) -> None:
        self.output, self.path = output, lock_path(output)
        self.owner = _this_process()
        self.thread, self.depth = threading.get_ident(), 1
        self._ended = threading.Event()

    def take(self) -> None:
        """Make the file, in the place of a dead owner's too.

        Raises
        ------
        UserError
            Naming the process that has it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while not self._made():
                self._take_over()
        except OSError:  # nobody can write there, or the disk is full: said when the output is written
            return
        threading.Thread(target=self._beat, name="lock", daemon=True).start()

    def check(self) -> None:
        """UserError when another process has taken over meanwhile, as after a machine has slept."""
        found = _read(self.path)
        if found and not self._is_ours(found):
            raise UserError(
                f"cannot write {self.output}: {_named(found)} has taken it over, because this process gave "
                "no sign for long; let that one finish, or choose another path"
            )

    def release(self) -> None:
        """Remove the file, if it is ours."""
        self._ended.set()
        if self._is_ours(_read(self.path)):
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _made(self) -> bool:
        """Whether the file is there and ours; False where another one is in the way."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return self._is_ours(_read(self.path))
        try:
            os.write(descriptor, json.dumps(self.owner).encode())
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return True

    def _take_over(self) -> None:
        """Put our file into the place of a dead owner's; there is always one, so nobody slips in between."""
        found = _read(self.path)
        if found == {}:
            time.sleep(FILLED_SECONDS)  # its maker is about to write it, or has died there
            found = _read(self.path)
        if found is None:
            return
        if found and not _is_dead(found, self.path):
            raise UserError(_refusal(self, found))
        beside = self.path.with_name(f"{self.path.name}.{self.owner['token']}.tmp")
        beside.write_text(json.dumps(self.owner), encoding="utf-8")
        os.replace(beside, self.path)
        time.sleep(TWICE_SECONDS)  # of several that saw the same dead owner, the last one stays

    def _is_ours(self, found: Owner | None) -> bool:
        return found is not None and found.get("token") == self.owner["token"]

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            if self._is_ours(_read(self.path)):
                with suppress(OSError):
                    os.utime(self.path)


_held: dict[str, Lock] = {}
_changing = threading.Lock()


@contextmanager
def owned(output: str | os.PathLike[str] | None) -> Iterator[None]:
    """Inside, no other process writes `output`; blocks of one thread may lie within each other.

    Where no lock can be made because nothing can be written there, the block runs without: writing says so.

    Raises
    ------
    UserError
        Naming process, host and time, when another one is at it.
    """
    if output is None:
        yield
        return
    lock: Lock | None = None
    try:
        with held_back():
            lock = _entered(Path(output))
        yield
    finally:
        if lock is not None:
            with held_back():
                _left(lock)


def check_owned(output: Path) -> None:
    """Before a save: UserError when the lock of `output` was ours and is another's by now."""
    lock = _held.get(os.path.realpath(output))
    if lock is not None:
        lock.check()


def lock_path(output: Path) -> Path:
    """Where the lock of an output lies; UserError for a name such as "." and "/"."""
    if not (name := output.name):
        raise UserError(f"{output}: a folder; expected the name of a file")
    if len(os.fsencode(name)) > 200:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return output.with_name(f".{name}.lock")


def _entered(output: Path) -> Lock:
    key = os.path.realpath(output)
    with _changing:
        lock = _held.get(key)
        if lock is None:
            lock = Lock(output)
            lock.take()
            _held[key] = lock
        elif lock.thread == threading.get_ident():
            lock.depth += 1
        else:
            raise UserError(_refusal(lock, lock.owner))
        return lock


def _left(lock: Lock) -> None:
    with _changing:
        lock.depth -= 1
        if lock.depth == 0:
            lock.release()
            _held.pop(os.path.realpath(lock.output), None)


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "born": _born(os.getpid()),
        "token": secrets.token_hex(8),
    }


def _machine() -> list[str]:
    """What processes share that can see each other: host, its last start, the numbering of processes."""
    found = [platform.node()]
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        found.append(os.readlink("/proc/self/ns/pid"))
    return found


def _born(pid: int) -> str | None:
    """When a process started, in ticks since the machine did: a number is given again, a birth isn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, ValueError, IndexError):
        return None


def _is_dead(owner: Owner, path: Path) -> bool:
    """Whether the process that a lock names has ended, or is silent where it can't be looked at."""
    here, there, pid = _machine(), owner.get("machine"), owner.get("pid")
    if there == here and isinstance(pid, int):
        born = _born(pid)
        ours = pid == os.getpid()  # it couldn't be removed: what is held was looked for before
        if ours or not _exists(pid) or (born is not None and born != owner.get("born")):
            return True
        if born is not None:
            return False
    elif isinstance(there, list) and len(there) > 1 and there[:1] == here[:1] and there[1:2] != here[1:2]:
        return True  # the machine has been started anew since
    return _silent(path) > SILENT_SECONDS


def _exists(pid: int) -> bool:
    if os.name != "posix":  # elsewhere asking would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def _silent(path: Path) -> float:
    """Seconds since the owner last touched its lock, by the clock of the file system that it lies on."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.clock.", suffix=".tmp") as now:
            return os.stat(now.name).st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> Owner | None:
    """What a lock says; an empty mapping where it says nothing, None where it is gone."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(LARGEST))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _named(owner: Owner) -> str:
    if "pid" not in owner:
        return "another process"
    since = str(owner.get("since")).replace("T", " ").replace("+00:00", " UTC")
    return f"process {owner['pid']} on {owner.get('host')}, since {since},"


def _refusal(lock: Lock, owner: Owner) -> str:
    return (
        f"{lock.output} is being written by {_named(owner)} as {lock.path} says; wait for it, or choose "
        "another output path"
    )
