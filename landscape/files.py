"""Files that are always whole: written beside the target, synced, then renamed over it."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from landscape.errors import UserError


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `target`; when the block ends well, it replaces `target` in one step.

    On any exception, an interrupt included, the temporary file is removed and `target` stays as it was.
    After a kill the target is still whole; at most a ``.NAME.….tmp`` file is left beside it.

    Raises
    ------
    UserError
        When the folder can't be written or the disk is full.
    """
    path = Path(target)
    temporary = path.with_name(f".{_short(path.name)}.{secrets.token_hex(4)}.tmp")
    try:
        _check_name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
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


def check_target(path: Path, *others: str) -> None:
    """Refuse a path that can't become a file, by itself or with one of the other suffixes behind it.

    Raises
    ------
    UserError
        When the name is too long, or no name at all for this file system.
    """
    for one in ("", *others):
        try:
            _check_name(path.with_name(path.name + one))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"{_shown(path)}: {reason}; choose another path") from error


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
