"""What a pickle would call, found without calling it; and plain data that may stand beside tensors."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

_PLAIN = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.(storage\.)?\w+Storage|torch\.\w*Size|"
    r"torch\.(float|int|uint|bool|bfloat|complex)\w*|torch\.device|torch\._tensor\.\w+|torch\.nn\.parameter\.Parameter|argparse\.Namespace|"
    r"numpy\.(_?core\.multiarray\.\w+|ndarray|dtype|dtypes\.\w+)|_codecs\.encode"
)


def unsafe_globals(path: Path) -> list[str] | None:
    """Classes and functions beyond plain data that a pickle file names, in order, as ``module.name``.

    Returns None where the pickle breaks off before it names one. Nothing is imported or called.
    """
    found: list[str] = []
    with _pickles(path) as file:
        whole = _inspect(file, found)
    wanted = [name for name in dict.fromkeys(found) if not _PLAIN.fullmatch(name)]
    return wanted if wanted or whole else None


@contextmanager
def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The stream of pickles in a PyTorch zip or in the file itself."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        yield io.BytesIO(archive.read(name))


def _inspect(file: IO[bytes], found: list[str]) -> bool:
    """Walk through the pickles at the head of a file; False where one of them breaks off."""
    # A legacy file is a row of pickles (magic, version, machine, content); raw storage bytes follow it.
    for _ in range(4):
        start = file.tell()
        if not file.read(1):
            return start > 0
        file.seek(start)
        try:
            _Inspector(file, found).load()
        except Exception:  # whatever malformed pickles raise; what they named so far is noted
            return False
    return True


class _Inert:
    """Stands in for every class and function of an inspected pickle, and does nothing."""

    def __new__(cls, *positional: object, **named: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *positional: object, **named: object) -> None: ...

    def __call__(self, *positional: object, **named: object) -> _Inert:
        return self

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None: ...

    def extend(self, values: object) -> None: ...


class _Inspector(pickle.Unpickler):
    """Walks through a pickle and notes the globals that it names; none is imported or called."""

    def __init__(self, file: IO[bytes], found: list[str]) -> None:
        super().__init__(file)
        self._found = found

    def find_class(self, module: str, name: str) -> type[_Inert]:
        self._found.append(f"{module}.{name}")
        return _Inert

    def persistent_load(self, pid: object) -> _Inert:
        return _Inert()


@contextmanager
def harmless_globals() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` also read what training scripts store beside the weights.

    NumPy arrays and scalars and argparse's Namespace: plain data, whose construction runs no foreign code.
    """
    rebuild_array: Any = np.zeros(0).__reduce__()[0]
    rebuild_scalar: Any = np.float64(0).__reduce__()[0]
    harmless: list[Any] = [argparse.Namespace, np.ndarray, np.dtype]
    harmless += [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since NumPy 2
        harmless += [(rebuild_array, f"{module}._reconstruct"), (rebuild_scalar, f"{module}.scalar")]
    with torch.serialization.safe_globals(harmless), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
        yield
