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
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        kept = f"; the earlier {path.name} is unchanged" if path.exists() else ""
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}{kept}; free space or choose another path") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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
