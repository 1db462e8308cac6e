"""Directions from a file, for ``--directions``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checkpoint.read import read_file
from landscape.errors import UserError
from landscape.planes import GivenPlane
from landscape.planes.directions import Normalization
from landscape.surface import load_surface


def read_directions(path: Path, normalize: Normalization) -> GivenPlane:
    """A plane along stored directions.

    Parameters
    ----------
    path
        A surface file written with ``--keep-directions`` (its first plane), or a file of `torch.save` with a
        list of dicts of tensors by parameter name, one per axis.

    Raises
    ------
    UserError
        When the file is missing, isn't one of these, or holds no directions, or two that are the same but for
        their length.
    """
    given = _from_surface(path) if path.suffix == ".h5" else _from_torch(path)
    if len(given) == 2 and _parallel(*given):
        raise UserError(
            f"{path}: its directions are the same but for their length, so they span no plane; store another "
            "one, or one alone for a line (--dim 1)"
        )
    label = path.name.removesuffix(".pt").removesuffix(".h5").removesuffix(".surface")
    return GivenPlane(given, normalize, label)


def _from_surface(path: Path) -> list[dict[str, Tensor]]:
    directions = load_surface(path).planes[0].directions
    if not directions:
        raise UserError(f"{path} holds no directions; compute it with --keep-directions")
    return [{name: torch.from_numpy(value) for name, value in one.items()} for one in directions]


def _from_torch(path: Path) -> list[dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"no file {path}; expected directions for --directions")
    try:
        content: Any = read_file(path).content
    except UserError as error:
        raise UserError(f"{path} can't be read as directions: {error}") from error
    if not _is_directions(content):
        raise UserError(f"{path}: expected a list of dicts of tensors by parameter name, one per axis")
    return list(content)


def _is_directions(content: object) -> bool:
    return (
        isinstance(content, list | tuple)
        and len(content) > 0
        and all(isinstance(one, dict) and one for one in content)
        and all(isinstance(value, Tensor) for one in content for value in one.values())
    )


def _parallel(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two directions differ by a factor only, up to float32's rounding."""
    if any(value.is_complex() for one in (first, second) for value in one.values()):
        return False  # refused where they are used
    if any(first[name].shape != second[name].shape for name in first.keys() & second.keys()):
        return False  # likewise

    def product(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        shared = one.keys() & other.keys()
        return sum(float(one[name].double().flatten() @ other[name].double().flatten()) for name in shared)

    across = product(first, second) ** 2
    return across > 0 and across >= (1 - 1e-12) * product(first, first) * product(second, second)
