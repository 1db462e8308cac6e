"""How large a reproduction is: ``figures/scales/NAME.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from landscape.errors import UserError

FOLDER = Path(__file__).parents[1] / "scales"
T = TypeVar("T")


@dataclass(frozen=True)
class SurfaceScale:
    """Options of `landscape.surface` for every run."""

    examples: int
    points: int
    planes: int
    tolerance: float
    max_points: int


@dataclass(frozen=True)
class HessianScale:
    """Options of `analysis.hessian` for every run."""

    examples: int
    top: int
    tolerance: float
    max_products: int


@dataclass(frozen=True)
class SharpnessScale:
    """Options of `analysis.sharpness` for every run."""

    examples: int
    measures: list[str]


@dataclass(frozen=True)
class StudyScale:
    """Which runs, METHOD-SPARSITY-OPTIMIZER, get surfaces of other spans, dense directions, every point."""

    runs: list[str]
    spans: list[float]
    planes: int
    exact: list[str]


@dataclass(frozen=True)
class StepScale:
    """Figure 2: from which run, on how many examples, with which learning rate and rho."""

    run: str
    examples: int
    rate: float
    rho: float


@dataclass(frozen=True)
class Scale:
    """A whole scale.

    Attributes
    ----------
    name
        Of the file.
    network
        MODEL-DATA whose figures are drawn.
    sweeps
        Specs of `training.sweep`, in this order.
    surface, hessian, sharpness, studies, step
        The tables of the file.
    """

    name: str
    network: str
    sweeps: list[str]
    surface: SurfaceScale
    hessian: HessianScale
    sharpness: SharpnessScale
    studies: StudyScale
    step: StepScale


def load_scale(name: str) -> Scale:
    """A shipped scale, or a TOML file of the same form.

    Raises
    ------
    UserError
        When there is no such scale, or a key is missing or unknown.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    known = ", ".join(sorted(one.stem for one in FOLDER.glob("*.toml")))
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"unknown scale {name!r}; expected {known} or a .toml file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}") from error
    parts = {
        key: _table(kind, content.pop(key, {}), f"{path}: [{key}]")
        for key, kind in (
            ("surface", SurfaceScale),
            ("hessian", HessianScale),
            ("sharpness", SharpnessScale),
            ("studies", StudyScale),
            ("step", StepScale),
        )
    }
    return _table(Scale, {"name": path.stem, **content, **parts}, str(path))


def _table(kind: type[T], content: Any, where: str) -> T:
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(content, dict) or set(content) != set(names):
        found = ", ".join(content) if isinstance(content, dict) else repr(content)
        raise UserError(f"{where} has {found or 'nothing'}; expected {', '.join(names)}")
    return kind(**content)
