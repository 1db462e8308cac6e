"""What a command writes beside its results: tables, JSON, pictures; where it may, and how. Needs no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

from landscape.commandline.console import note
from landscape.errors import UserError
from landscape.files import atomic_path, check_target

NOT_TEXT = (
    *(".h5", ".hdf5", ".pt", ".pth", ".ckpt", ".safetensors"),
    *(".npz", ".npy", ".pkl", ".pickle", ".toml"),
)
RESULTS = (".surface.h5", ".hessian.h5", ".robustness.h5", ".sharpness.json")
"""Endings of what commands go on with, or refuse to replace but for ``--overwrite``."""
DATA_FILES = ("npz", "imagefolder", "cifar10c", "cifar100c", "imagenetc")
"""What stands before a path in options that name data."""
CONFIG_FILE: ContextVar[str | None] = ContextVar("config", default=None)
"""The file of ``--config``, which every command reads that was given one."""


def check_text_outputs(outputs: Mapping[str, str | Path | None], inputs: Sequence[str | Path] = ()) -> None:
    """Refuse, before anything is computed, texts and pictures that can't be written or would cost a file.

    Parameters
    ----------
    outputs
        Paths by option; ``-`` is standard output, None is not wanted.
    inputs
        Files and folders that the command reads.

    Raises
    ------
    UserError
        Naming the option: for a result's or a checkpoint's name, a file that is read, two options that name
        one file, a folder, a device, a name that can't be.
    """
    seen: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        place = "-" if str(path) == "-" else os.path.realpath(path)
        if place in seen:
            where = "standard output" if place == "-" else "the same file"
            raise UserError(f"{seen[place]} and {option} both go to {where}; name one for each")
        seen[place] = option
        if place == "-":
            continue
        if Path(path).suffix.lower() in NOT_TEXT:
            raise UserError(
                f"{option} {path} would overwrite a result or a checkpoint, data or settings; choose another"
            )
        check_unread(option, path, inputs)
        if not str(path) or os.path.isdir(path):
            shown = str(path) or "''"
            raise UserError(f"{option} {shown} is a folder; name a file in it")
        try:
            check_target(Path(path))
        except UserError as error:
            raise UserError(f"{option}: {error}") from error


def check_unread(
    option: str, path: str | Path | None, inputs: Sequence[str | Path] = (), kept: tuple[str, ...] = ()
) -> None:
    """Refuse to write a file over one that the command reads, or over one in a folder that it reads.

    Parameters
    ----------
    option, path, inputs
        As for `check_text_outputs`.
    kept
        Endings of files that may lie in such a folder: the command's own results, which it goes on with.

    Raises
    ------
    UserError
        Naming the option.
    """
    if path is None or os.path.isdir(path):
        return
    place, config = os.path.realpath(path), CONFIG_FILE.get()
    for one in [*inputs, *([] if config is None else [config])]:
        read = os.path.realpath(one)
        inside = os.path.isdir(read) and place.startswith(os.path.join(read, "")) and os.path.exists(place)
        if place == read or (inside and not place.endswith(kept)):
            raise UserError(f"{option} {path} would overwrite what this command reads; name another file")


def write_texts(texts: Iterable[tuple[str | Path | None, Callable[[], str]]]) -> bool:
    """Write each text that is wanted: to a file, or to standard output for ``-``.

    Returns
    -------
    bool
        Whether one went to standard output, where a table would now be in the way.
    """
    printed = False
    for path, text in texts:
        if path is None:
            continue
        if str(path) == "-":
            sys.stdout.write(text())
            printed = True
            continue
        with atomic_path(path) as temporary:
            temporary.write_text(text(), encoding="utf-8", errors="backslashreplace")
    return printed


def say_written(paths: Iterable[str | Path | None]) -> None:
    """A line beside the results for each file."""
    for path in paths:
        if path is not None and str(path) != "-":
            note(f"wrote {path}")
