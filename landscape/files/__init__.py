"""Files that are always whole: written beside the target, synced, then renamed over it."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from landscape.errors import UserError

LEFTOVER_SECONDS = 600.0  # no write takes as long; an older temporary file belongs to a killed process
LARGEST_TEXT = 64 << 20  # bytes of a file of settings
LARGEST_TOML = 256 << 10  # dozens of times the longest spec that ships
MOST_DOTS = 200  # in a line of TOML: the parser keeps every beginning of a dotted key


def check_regular(path: str | os.PathLike[str]) -> int:
    """Size in bytes of a regular file, told before it is opened: a pipe would block, a device never ends.

    Raises
    ------
    OSError
        When there is none, or something else stands there.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return found.st_size


def read_text(path: str | os.PathLike[str], largest: int = LARGEST_TEXT) -> str:
    """What a UTF-8 file of at most `largest` bytes says.

    Raises
    ------
    OSError, ValueError
        When it is missing, larger, no regular file or not UTF-8.
    """
    if check_regular(path) > largest:
        raise OSError(errno.EFBIG, f"Larger than {largest >> 10} KiB", os.fspath(path))
    return Path(path).read_text(encoding="utf-8")


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises
    ------
    OSError, ValueError
        When it can't be read, or isn't TOML.
    """
    text = read_text(path, LARGEST_TOML)
    if max(line.count(".") for line in text.split("\n")) > MOST_DOTS:
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `target`; when the block ends well, it replaces `target` in one step.

    On any exception, an interrupt included, the temporary file is removed and `target` stays as it was.
    After a kill the target is still whole; at most a ``.NAME.….tmp`` file is left beside it, until the same
    file is written again ten minutes later or more.

    Raises
    ------
    UserError
        When the folder can't be written or the disk is full, or when `target` is something that no file may
        take the place of: a folder, a device, a pipe.
    """
    path = Path(target)
    check_replaceable(path)
    temporary = path.with_name(f".{_short(path.name)}.{secrets.token_hex(4)}.tmp")
    try:
        _check_name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        kept = f"; the earlier {path.name} is unchanged" if os.path.exists(path) else ""
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {_shown(path)}: {reason}{kept}; free space or choose another path"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed processes left half-written, of this name and of those with the same beginning."""
    stem = path.name.partition(".")[0] or path.name  # net.png and net.html beside net.surface.h5
    for leftover in _leftovers(path.parent.resolve()):
        if leftover.startswith(f".{_short(stem)}."):
            with suppress(OSError):  # another process may sweep at the same time
                path.with_name(leftover).unlink()


@cache
def _leftovers(folder: Path) -> list[str]:
    """Old temporary files of a folder; looked for once, since a folder of ten thousand files is no rarity."""
    oldest = time.time() - LEFTOVER_SECONDS
    with suppress(OSError), os.scandir(folder) as entries:
        named = [entry for entry in entries if entry.name.startswith(".") and entry.name.endswith(".tmp")]
        return [entry.name for entry in named if entry.stat(follow_symlinks=False).st_mtime < oldest]
    return []


def _short(name: str) -> str:
    """The beginning of a name, whole letters of at most 80 bytes."""
    short = name[:80]
    while len(os.fsencode(short)) > 80:
        short = short[:-1]
    return short


def _check_name(path: Path) -> None:
    """Refuse a name that the file system won't take, before anything is written under another."""
    with suppress(FileNotFoundError):
        os.lstat(path)


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def check_replaceable(path: Path) -> None:
    """Refuse what no file may take the place of; who may write to /dev would lose ``/dev/null`` for everyone.

    Links are followed: ``/dev/stdout`` is what it stands for, and so is a file that standard output or
    standard error goes to.

    Raises
    ------
    UserError
        Naming the kind of thing that is there.
    """
    if not path.name:
        raise UserError(f"cannot write {_shown(path)}: it is a folder; expected the name of a file")
    try:
        there = path.stat()
    except (OSError, ValueError):  # not there, or said when it is written
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(there.st_mode)), None)
    if kind is None and any(_is_open_as(number, there) for number in (1, 2)):
        kind = "where this command prints"
    if kind is None and path.is_symlink() and path.parent.resolve() == Path("/dev"):
        kind = "a device"  # wherever it leads at the moment
    if kind is not None:
        raise UserError(f"cannot write {_shown(path)}: it is {kind}; expected the name of a file")


def _is_open_as(descriptor: int, there: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), there)
    except OSError:  # closed
        return False


def check_target(path: Path, *others: str) -> None:
    """Refuse a path that can't become a file, by itself or with one of the other suffixes behind it.

    Raises
    ------
    UserError
        When the name is too long, or no name at all for this file system, or that of a folder, a device or
        a pipe.
    """
    check_replaceable(path)
    for one in ("", *others):
        try:
            _check_name(path.with_name(path.name + one))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"cannot write {_shown(path)}: {reason}; choose another path") from error


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 120 else f"{text[:60]} … {text[-40:]}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)  # Windows flushes only what may be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
