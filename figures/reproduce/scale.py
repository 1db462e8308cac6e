"""How large a reproduction is: ``figures/scales/NAME.toml``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from landscape.errors import UserError
from landscape.files import read_toml

FOLDER = Path(__file__).parents[1] / "scales"
MAY_GROW = ("sweeps", "sharpness.measures", "studies.runs", "studies.spans", "studies.dense", "studies.exact")
"""Lists of what is computed: with more in them, what there is stays as it was."""
T = TypeVar("T")


@dataclass(frozen=True)
class SurfaceScale:
    """Options of `landscape.surface` for every run, and whether figures state Ra of its logarithm.

    Attributes
    ----------
    examples, split, points, span, planes, tolerance, max_points
        As the command's options.
    log
        Whether figures and report state Ra of log loss instead of Ra of the loss.
    """

    examples: int
    split: str
    points: int
    span: float
    planes: int
    tolerance: float
    max_points: int
    log: bool


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
    """Which runs get surfaces of other spans, of dense directions, of every point.

    Attributes
    ----------
    runs, spans, planes
        METHOD-SPARSITY-OPTIMIZER as shell patterns (``*`` is every run), half-widths, and planes of each.
    dense, exact
        METHOD-SPARSITY-OPTIMIZER of the first seed's runs.
    """

    runs: list[str]
    spans: list[float]
    planes: int
    dense: list[str]
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
    name, path
        Of the file.
    network
        MODEL-DATA whose figures are drawn.
    sweeps
        Specs of `training.sweep`, in this order.
    registered
        Whether the claims are tested as docs/preregistration.md lays down; else all pairs are explored.
    surface, hessian, sharpness, studies, step
        The tables of the file.
    """

    name: str
    path: Path
    network: str
    sweeps: list[str]
    registered: bool
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
        When there is no such scale, a key is missing or unknown, or a word is none of its kind.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    known = ", ".join(sorted(one.stem for one in FOLDER.glob("*.toml")))
    try:
        content = _content(path)
    except FileNotFoundError:
        raise UserError(f"unknown scale {name!r}; expected {known} or a .toml file") from None
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
    scale = _table(Scale, {"name": path.stem, "path": path, **content, **parts}, str(path))
    _check_words(scale)
    return scale


def check_same_scale(scale: Scale, kept: Path) -> None:
    """Refuse to go on by another scale than the one that a folder of results was begun with.

    What an older version didn't write there isn't compared, and what is asked for may grow: see `MAY_GROW`.

    Raises
    ------
    UserError
        Naming the first setting that differs, or when `kept` can't be read.
    """
    if not kept.is_file() or kept.samefile(scale.path):
        return
    if changed := _difference(_content(kept), _content(scale.path)):
        raise UserError(
            f"{kept}: {changed}; expected the scale that these results were begun with: "
            f"go on with --scale {kept} --output {kept.parent}, or choose another --output"
        )


def _content(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}") from error


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], inside: str = "") -> str | None:
    """The first setting of both that differs, as ``surface.points 51, now 11``."""
    for key in [key for key in old if key in new]:
        before, now = old[key], new[key]
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            if found := _difference(before, now, f"{inside}{key}."):
                return found
        elif before != now and not (f"{inside}{key}" in MAY_GROW and _holds(now, before)):
            return f"{inside}{key} {before}, now {now}"
    return None


def _holds(now: Any, before: Any) -> bool:
    """Whether a list has all of an earlier one, and more."""
    return isinstance(now, list) and isinstance(before, list) and all(one in now for one in before)


def _check_words(scale: Scale) -> None:
    """Refuse words that a command line or a folder would take for something else: an option, say."""
    if not scale.network.isprintable() or not re.fullmatch(r"[^-./\\][^/\\]*", scale.network):
        raise UserError(
            f"{scale.path}: network = {scale.network[:60]!r}; expected MODEL-DATA, as runs' names begin"
        )
    for spec in scale.sweeps:
        if not re.fullmatch(r"\w[\w-]*|[^-].*\.toml", spec):
            raise UserError(
                f"{scale.path}: sweeps has {spec[:60]!r}; expected a shipped spec's name or a .toml file"
            )
    for measure in scale.sharpness.measures:
        if not re.fullmatch(r"\w+", measure):
            raise UserError(
                f"{scale.path}: measures has {measure[:60]!r}; expected names of analysis.sharpness' measures"
            )


def _table(kind: type[T], content: Any, where: str) -> T:
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(content, dict) or set(content) != set(names):
        found = ", ".join(content) if isinstance(content, dict) else repr(content)
        raise UserError(f"{where} has {found or 'nothing'}; expected {', '.join(names)}")
    for name, hint in get_type_hints(kind).items():
        if not _fits(content[name], hint):
            wanted = getattr(hint, "__name__", hint) if get_origin(hint) is None else hint
            raise UserError(f"{where}: {name} = {str(content[name])[:60]!r}; expected {wanted}")
    return kind(**content)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a TOML file is what a field says; whole numbers are numbers, too."""
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(one, get_args(hint)[0]) for one in value)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # neither inf nor nan
    return type(value) is hint if hint in (int, str, bool) else isinstance(value, hint)
