"""A checkpoint file's bytes to Python objects, without running code from the file.

Recognised by content, not by name: PyTorch's zip and legacy files, TorchScript archives, safetensors.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from landscape.checkpoint.pickles import harmless_globals, unsafe_globals
from landscape.errors import UserError
from landscape.factories import current_folder_importable

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
    """What a file held: nested dicts and tensors, a module, and the form it came in."""

    content: object
    form: Form


def read_file(path: Path, *, trust: bool = False) -> FileContent:
    """Load a checkpoint file onto the CPU.

    Raises
    ------
    UserError
        When the file is missing, a folder, empty, truncated or damaged, no checkpoint at all, or needs
        code to be run while `trust` is False.
    """
    head = _head(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LONGEST_HEADER:
        return FileContent(_read_safetensors(path), "safetensors file")
    if head.startswith(b"PK\x03\x04"):
        if _is_torchscript(path):
            return FileContent(_read_torchscript(path), "TorchScript archive")
        return FileContent(_read_torch(path, trust), "PyTorch file")
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return FileContent(_read_torch(path, trust), "PyTorch file")
    kinds = (name for magic, name in _KNOWN_MAGIC.items() if head.startswith(magic))
    raise UserError(
        f"{path} is not a checkpoint but {next(kinds, 'an unknown kind of file')}; "
        "expected a PyTorch, safetensors or TorchScript file"
    )


def _head(path: Path) -> bytes:
    if not path.exists():
        raise UserError(f"no file {path}; expected a checkpoint (.pt, .pth, .safetensors)")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise UserError(f"{path} is {kind}; expected a checkpoint file (.pt, .pth, .safetensors)")
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path} is empty (0 bytes); expected a checkpoint: fetch or save it again")
    return head


def _damaged(path: Path, error: Exception | str) -> UserError:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    return UserError(f"{path} is truncated or damaged ({reason}); fetch or save it again")


def _is_torchscript(path: Path) -> bool:
    """Look into the zip archive; every PyTorch archive has ``data.pkl``, scripted ones ``constants.pkl``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if "data.pkl" not in names:
        raise UserError(f"{path} is not a checkpoint: a zip archive without PyTorch's data.pkl")
    return "constants.pkl" in names


def _read_torchscript(path: Path) -> torch.nn.Module:
    with warnings.catch_warnings():
        # Deprecated for writing; the archives that people have still load.
        warnings.filterwarnings("ignore", message=".*torch.jit.load", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.load", category=DeprecationWarning)
        try:
            return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call,no-any-return]
        except Exception as error:  # malformed bytes raise almost anything, here and below
            raise _damaged(path, error) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except Exception as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path, trust: bool) -> Any:
    try:
        with harmless_globals(), current_folder_importable():
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:
        if trust:
            raise _unpickled(path, error) from error
        refused = isinstance(error, pickle.UnpicklingError)
        raise (_refused(path) if refused else _damaged(path, error)) from error


def _unpickled(path: Path, error: Exception) -> UserError:
    """What went wrong where the file's code was allowed to run."""
    if isinstance(error, (AttributeError, ImportError)):
        return UserError(f"{path} needs code that isn't here ({error}); run where it can be imported")
    if "magic number" in str(error):
        return UserError(f"{path} is a pickle that torch.save didn't write; expected a PyTorch file")
    return _damaged(path, error)


def _refused(path: Path) -> UserError:
    wanted = unsafe_globals(path)
    if wanted is None:
        return _damaged(path, "its pickle breaks off")
    if not wanted:
        return UserError(
            f"{path} is a pickle in a form that can't be read without running it; save a state_dict with "
            "torch.save, or pass --trust-checkpoint (trust=True) if you trust its maker"
        )
    more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
    return UserError(
        f"{path} is refused: its pickle would run code, it wants {wanted[0]}{more}; save a state_dict, "
        "or pass --trust-checkpoint (trust=True) if you trust its maker"
    )
