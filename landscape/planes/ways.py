"""Which checkpoints belong to which training: files and folders to one path for each run, never two in one.

===========================================  ==========================================================
places                                       paths
===========================================  ==========================================================
files                                        one, in the order given; one per folder where at least two
                                             files come from each of several folders
a run's folder, or its ``trajectory``        one, in the order of the numbers in the names
several such folders                         one each
a folder whose subfolders are runs           one for each of them
a folder with files of several runs          one for each beginning of the names (``sgd-1``, ``sam-1``), or
                                             for each first number where no number rises throughout
===========================================  ==========================================================

In a folder, names without a number, or alone with their beginning, have no place in an order: they are left
out where others have one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from landscape.errors import UserError

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")
FOLDER = "trajectory"  # where training keeps the snapshots of a run
FINAL = "final.pt"  # and its last network, beside that folder
_NUMBERS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Way:
    """The checkpoints of one training, in order.

    Attributes
    ----------
    name
        Of the run.
    files
        At least one.
    left_out
        Files of the same folder that have no place in the order.
    """

    name: str
    files: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()


def ways_of(places: Sequence[Path]) -> list[Way]:
    """One path for each training that `places` hold; see the module.

    Raises
    ------
    UserError
        When a file is missing, files stand beside folders, or a folder holds no checkpoint.
    """
    folders = [one for one in places if one.is_dir()]
    if not folders:
        for one in places:
            if not one.is_file():
                raise UserError(
                    f"no file {one}; expected checkpoints of a trajectory, or a folder of them for each run"
                )
        return _named(_of_files(list(places)))
    if len(folders) < len(places):
        file = next(one for one in places if not one.is_dir())
        raise UserError(
            f"{folders[0]} is a folder, {file} is not; a trajectory is checkpoint files in order, or "
            "folders, one for each run"
        )
    return _named([way for folder in folders for way in _of_folder(folder)])


def _of_files(files: list[Path]) -> list[Way]:
    """In the order given."""
    by_folder = _groups(files, lambda one: str(one.parent))
    if len(by_folder) > 1 and all(len(group) > 1 for group in by_folder):
        return [way for group in by_folder for way in _of_files(group)]
    several = [group for group in _runs(files) if len(group) > 1]
    if len(several) > 1 and sum(map(len, several)) == len(files):
        return [Way(_beginning(group), tuple(group)) for group in several]
    return [Way(_run_of(files[0].parent), tuple(files))]


def _of_folder(folder: Path) -> list[Way]:
    inner = folder / FOLDER
    own = _checkpoints(inner) if inner.is_dir() else _checkpoints(folder)
    if own:
        return _of_names(own, _run_of(folder))
    runs = sorted((one for one in folder.iterdir() if (one / FOLDER).is_dir()), key=_by_number)
    found = [way for run in runs if _checkpoints(run / FOLDER) for way in _of_folder(run)]
    if not found:
        raise UserError(
            f"{inner if inner.is_dir() else folder} holds no checkpoint of a trajectory; train with "
            "--record-every, or name the files"
        )
    return found


def _of_names(files: list[Path], run: str) -> list[Way]:
    """Of one folder, by the numbers in the names."""
    ordered = sorted(files, key=_by_number)
    several = [group for group in _runs(ordered) if len(group) > 1]
    if not several:  # each has a name of its own
        return [Way(run, tuple(ordered))]
    placed = {file for group in several for file in group}
    left_out = tuple(file for file in ordered if file not in placed)
    if len(several) == 1:
        return [Way(run, tuple(several[0]), left_out)]
    return [
        Way(_beginning(group), tuple(group), left_out if not n else ()) for n, group in enumerate(several)
    ]


def _runs(files: list[Path]) -> list[list[Path]]:
    """Numbered files by the text in their names, and further where the numbers are those of several runs."""
    numbered = [one for one in files if _numbers(one)]
    groups = _groups(numbered, lambda one: _NUMBERS.sub("#", one.name))
    return [run for group in groups for run in _by_rising_number(group, 0)]


def _by_rising_number(files: list[Path], field: int) -> list[list[Path]]:
    """One run where some number rises throughout; else apart by the first number in which they differ."""
    rows = sorted(_numbers(one) for one in files)
    columns = list(zip(*rows, strict=True))[field:]
    if len(files) < 2 or any(all(a < b for a, b in pairwise(column)) for column in columns):
        return [files]
    for place, column in enumerate(columns, field):
        if len(set(column)) > 1:
            parts = _groups(files, lambda one, place=place: str(_numbers(one)[place]))  # type: ignore[misc]
            return [run for part in parts for run in _by_rising_number(part, place + 1)]
    return [files]


def _groups(files: list[Path], key: Callable[[Path], str]) -> list[list[Path]]:
    """In the order in which each first appears."""
    found: dict[str, list[Path]] = {}
    for one in files:
        found.setdefault(key(one), []).append(one)
    return list(found.values())


def _checkpoints(folder: Path) -> list[Path]:
    """A run's own result and state among them are no snapshots."""
    run = (folder / "run.json").is_file()
    return [
        one
        for one in folder.iterdir()
        if one.suffix in SUFFIXES and one.name[0] != "." and not (run and one.name in (FINAL, "last.pt"))
    ]


def _numbers(path: Path) -> list[int]:
    return [int(one) for one in _NUMBERS.findall(path.name)]


def _by_number(path: Path) -> list[tuple[int, str]]:
    parts = _NUMBERS.split(path.name)
    return [(int(part), "") if _NUMBERS.fullmatch(part) else (-1, part) for part in parts]


def _beginning(files: Sequence[Path]) -> str:
    """What the names have in common before the numbers that differ; or behind them, where that is nothing."""
    parts = [_NUMBERS.split(one.stem) for one in files]
    same = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        same.append(column[0])
    for text in ("".join(same), _NUMBERS.sub("", files[0].stem)):
        bare = re.sub(r"(?i:step|epoch|iter|iteration|checkpoint|ckpt)$", "", text.strip("-_=. "))
        if bare.strip("-_=. "):
            return bare.strip("-_=. ")
    return _run_of(files[0].parent)


def _run_of(folder: Path) -> str:
    """A folder's name; the run's for its ``trajectory``."""
    whole = folder.resolve()
    return (whole.parent if whole.name == FOLDER else whole).name


def _named(ways: list[Way]) -> list[Way]:
    """Each with a name of its own."""
    names = [way.name for way in ways]
    if len(set(names)) == len(names):
        return ways
    folders = [f"{way.files[0].parent}" for way in ways]
    fresh = (
        folders if len(set(folders)) == len(folders) else [f"{n}: {name}" for n, name in enumerate(names, 1)]
    )
    return [Way(name, way.files, way.left_out) for name, way in zip(fresh, ways, strict=True)]
