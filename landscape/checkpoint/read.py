"""A checkpoint file's bytes to Python objects, without running code from the file.

Recognised by content, not by name: PyTorch's zip and legacy files, TorchScript archives, safetensors. This is
the one place where files of tensors are read; what each form can tell about damage stands in `containers`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from landscape.checkpoint import containers
from landscape.checkpoint.containers import UNCHECKED, ForeignCodeError, NotTorchError
from landscape.errors import UserError
from landscape.factories import current_folder_importable
from landscape.files.archives import UnreadableError

Form = Literal["PyTorch file", "TorchScript archive", "safetensors file"]

_KNOWN_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"\x93NUM": "a NumPy array",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (git lfs pull fetches it)",
    b"<": "a web page or XML",
}
_LONGEST_HEADER = 100_000_000
"""Bytes of JSON that safetensors allows; a file begins with that length and ``{``."""


class FileContent(NamedTuple):
    """What a file held.

    ``content`` is nested dicts and tensors, or a module where the file is trusted. ``notes`` say what
    couldn't be checked; ``tied`` are names that a safetensors file left out, with those of the same tensors.
    """

    content: object
    form: Form
    notes: tuple[str, ...] = ()
    tied: Mapping[str, str] = {}


def read_file(path: Path, *, trust: bool = False) -> FileContent:
    """Load a checkpoint file onto the CPU.

    Parameters
    ----------
    trust
        Unpickle whole modules and load scripts as such, which runs whatever code the file contains. Without
        it, a script is read as the tensors in it.

    Raises
    ------
    UserError
        When the file is missing, a folder, empty, truncated or damaged, no checkpoint at all, unpacks to far
        more than its size, or needs code to be run while `trust` is False.
    """
    head = _head(path)
    with _problems_named(path):
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LONGEST_HEADER:
            tensors, tied = containers.read_safetensors(path)
            return FileContent(tensors, "safetensors file", (UNCHECKED,), tied)
        if head.startswith(b"PK\x03\x04"):
            if containers.is_torchscript(path):
                if trust:
                    return FileContent(_loaded_script(path), "TorchScript archive")
                return FileContent(*_with_form(containers.read_script(path), "TorchScript archive"))
            if trust:
                return FileContent(_loaded(path, zipped=True), "PyTorch file")
            return FileContent(*_with_form(containers.read_zip(path), "PyTorch file"))
        if head[:1] == b"\x80" and head[1:2] <= b"\x05":
            content = _loaded(path, zipped=False) if trust else containers.read_legacy(path)
            return FileContent(content, "PyTorch file", (UNCHECKED,))
    kinds = (name for magic, name in _KNOWN_MAGIC.items() if head.startswith(magic))
    raise UserError(
        f"{path} is not a checkpoint but {next(kinds, 'an unknown kind of file')}; "
        "expected a PyTorch, safetensors or TorchScript file"
    )


def _with_form(read: tuple[object, tuple[str, ...]], form: Form) -> tuple[object, Form, tuple[str, ...]]:
    content, notes = read
    return content, form, notes


@contextmanager
def _problems_named(path: Path) -> Iterator[None]:
    """Turn what containers raise into one line with the file's name."""
    try:
        yield
    except UnreadableError as error:
        raise _damaged(path, str(error)) from error
    except ForeignCodeError as error:
        raise _refused(path, error.names) from error
    except NotTorchError as error:
        raise _not_torch(path) from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path} can't be read: {reason}") from error
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise _damaged(path, error) from error  # of torch, for geometries that it finds too large


def _head(path: Path) -> bytes:
    try:
        if not path.exists():
            raise UserError(f"no file {path}; expected a checkpoint (.pt, .pth, .safetensors)")
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise UserError(f"{path} is {kind}; expected a checkpoint file (.pt, .pth, .safetensors)")
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path} is empty (0 bytes); expected a checkpoint: fetch or save it again")
    return head


def printable(text: object, most: int = 120) -> str:
    """Text from a file for a message: one line, without control characters, not too long.

    >>> printable("conv" + chr(27) + "[2J")
    'conv\\\\x1b[2J'
    """
    escaped = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text)
    )
    return escaped if len(escaped) <= most else f"{escaped[:most]}…"


def quoted(name: object) -> str:
    """A name from a file for a message, in quotation marks."""
    return f"'{printable(name)}'"


def _damaged(path: Path, error: Exception | str) -> UserError:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return UserError(f"{path} is truncated or damaged ({printable(reason, 200)}); fetch or save it again")


def _not_torch(path: Path) -> UserError:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped:
        return UserError(f"{path} is not a checkpoint: a zip archive without PyTorch's data.pkl")
    return UserError(
        f"{path} is a pickle in a form that can't be read without running it; save a state_dict with "
        "torch.save, or pass --trust-checkpoint (trust=True) if you trust its maker"
    )


def _refused(path: Path, wanted: list[str]) -> UserError:
    more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
    return UserError(
        f"{path} is refused: its pickle would run code, it wants {printable(wanted[0])}{more}; save a "
        "state_dict, or pass --trust-checkpoint (trust=True) if you trust its maker"
    )


def _loaded_script(path: Path) -> torch.nn.Module:
    """A trusted script, which runs its ``__setstate__`` while it is loaded."""
    containers.check_archive(path)
    with warnings.catch_warnings():
        # Deprecated for writing; the archives that people have still load.
        warnings.filterwarnings("ignore", message=".*torch.jit.load", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.load", category=DeprecationWarning)
        try:
            return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call,no-any-return]
        except Exception as error:  # malformed bytes raise almost anything, here and below
            raise _damaged(path, error) from error


def _loaded(path: Path, *, zipped: bool) -> Any:
    """A trusted pickle, with whatever code it names."""
    if zipped:
        containers.check_archive(path)
    try:
        with current_folder_importable():
            return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise _unpickled(path, error) from error


def _unpickled(path: Path, error: Exception) -> UserError:
    """What went wrong where the file's code was allowed to run."""
    if isinstance(error, (AttributeError, ImportError)):
        return UserError(f"{path} needs code that isn't here ({error}); run where it can be imported")
    if "magic number" in str(error):
        return UserError(f"{path} is a pickle that torch.save didn't write; expected a PyTorch file")
    return _damaged(path, error)
