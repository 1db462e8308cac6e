"""The optimizer steps that Figure 2 shows, as numbers: ``RESULTS/figure2/step.json``. Needs no torch.

::

    {
      "format": "sharpscape.step",
      "version": 1,
      "what": "one sentence: which network, data and batch, at which step",
      "learning_rate": 0.1,
      "rho": 0.05,
      "steps": {
        "s2sam": {
          "surface": "s2sam.surface.h5",
          "axes": ["w₁", "w₂"],
          "points": {"w_t-2": [a, b], "w_t-1": [a, b], "u_t": [a, b], "w_t": [a, b]},
          "gradients": [
            {"at": [a, b], "vector": [a, b], "reused": true},
            {"at": [a, b], "vector": [a, b], "reused": false}
          ],
          "off_plane": 0.0
        },
        "sam": {}
      }
    }

``steps`` has "s2sam" and "sam", with the same keys. ``surface`` is a file beside this one with the loss of
the step's batch on a plane; both steps may name the same. Its two directions are orthogonal and equally
long, so that angles in the picture are those between weights. Points are coordinates on its grid. A
gradient's ``vector`` is such that ``point - learning_rate * vector`` is the step that it causes, in the
same coordinates; its arrow begins ``at`` u_t or w_t-1, where it was taken, or, when ``reused`` from the
step before, at w_t-2, whose step it caused. ``off_plane`` is the largest distance of a point from the
plane, in the unit of the coordinates. It can be 0: without momentum and weight decay S2-SAM's ``w_t-2``,
``w_t-1`` and ``u_t`` lie on one line, and ``w_t`` beside it. ``what``, ``axes`` and everything else are
required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.files.json_files import number_or_none, read_json
from landscape.surface import Surface, load_surface

FORMAT, VERSION = "sharpscape.step", 1
POINTS = ("w_t-2", "w_t-1", "u_t", "w_t")
OPTIMIZERS = ("s2sam", "sam")

Place = tuple[float, float]


@dataclass(frozen=True)
class Gradient:
    """Where its arrow begins, the vector, and whether the step before had computed it."""

    at: Place
    vector: Place
    reused: bool

    def end(self, learning_rate: float) -> Place:
        """Where the step that it causes leads from `at`."""
        return self.at[0] - learning_rate * self.vector[0], self.at[1] - learning_rate * self.vector[1]


@dataclass(frozen=True)
class Step:
    """One optimizer's step on its slice; the names are those of the file."""

    optimizer: str
    surface: Surface
    axes: tuple[str, str]
    points: Mapping[str, Place]
    gradients: tuple[Gradient, ...]
    off_plane: float


@dataclass(frozen=True)
class Steps:
    """What the file holds."""

    what: str
    learning_rate: float
    rho: float
    steps: tuple[Step, ...]


def read_steps(path: Path) -> Steps:
    """The steps, checked.

    Raises
    ------
    UserError
        When the file is missing, of another format or version, lacks a key, or a point lies off its slice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; figures.steps says what Figure 2 needs there")
    try:
        content = read_json(path, "the steps of Figure 2, see figures.steps")
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise UserError(f"{path}: {content['format']} {content['version']}; expected {FORMAT} {VERSION}")
        rate = _number(content["learning_rate"])
        return Steps(
            str(content["what"]),
            rate,
            _number(content["rho"]),
            tuple(_step(name, content["steps"][name], path, rate) for name in OPTIMIZERS),
        )
    except KeyError as error:
        raise UserError(f"{path}: the key {error} is missing; figures.steps lists them all") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: can't be read ({error}); figures.steps says what it must hold") from error


def _step(name: str, content: Mapping[str, Any], path: Path, rate: float) -> Step:
    if Path(content["surface"]).name != content["surface"]:
        raise ValueError(f"the surface {content['surface']!r} isn't the name of a file beside this one")
    surface = load_surface(path.parent / content["surface"])
    if surface.dim != 2 or not surface.complete:
        raise UserError(f"{path.parent / content['surface']}: expected a finished surface of two dimensions")
    first, second = content["axes"]
    step = Step(
        name,
        surface,
        (str(first), str(second)),
        {point: _place(content["points"][point]) for point in POINTS},
        tuple(
            Gradient(_place(one["at"]), _place(one["vector"]), bool(one["reused"]))
            for one in content["gradients"]
        ),
        _number(content["off_plane"]),
    )
    ends = {f"gradient {number}": one for number, one in enumerate(step.gradients, 1)}
    places = {**step.points, **{f"the arrow of {key}": one.end(rate) for key, one in ends.items()}}
    for point, (alpha, beta) in places.items():
        inside = (
            surface.alpha[0] <= alpha <= surface.alpha[-1] and surface.beta[0] <= beta <= surface.beta[-1]
        )
        if not inside:
            raise UserError(f"{path}: {name}: {point} reaches ({alpha:g}, {beta:g}), off its slice; widen it")
    return step


def _place(pair: Any) -> Place:
    first, second = pair
    return _number(first), _number(second)


def _number(value: Any) -> float:
    found = number_or_none(value, "a number")
    if found is None:
        raise ValueError("a number is missing")
    return found
