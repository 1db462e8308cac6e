"""Surfaces of the same runs made otherwise: another span, dense directions, every point computed. No torch.

``RESULTS/studies/RUN.KEY.surface.h5`` with KEY one of ``span0.25`` (any number), ``dense`` (directions that
aren't masked) and ``exact`` (the whole grid evaluated on the first plane). Planes are compared with those of
the same direction seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import isclose, isfinite, nan
from pathlib import Path

from analysis.roughness import Roughness, roughness, roughness_by_plane
from analysis.roughness.conventions import conventions, differences, span_text
from analysis.statistics.uncertainty import Estimate
from figures.belonging import sha256_told
from figures.results import SUFFIX, Results, Run
from landscape.errors import UserError
from landscape.surface import Plane, Surface, load_surface

PlaneKey = tuple[str, str]

_FILE = re.compile(
    r"(?P<run>.+)\.(?:(?P<span>span)(?P<value>\d+(?:\.\d+)?(?:e-?\d+)?)|(?P<kind>dense|exact))"
)
MEANT = {  # what a study has otherwise than its run's surface
    "span": ("span", "grid", "directions"),
    "dense": ("mask", "directions"),
    "exact": ("directions",),
}


@dataclass(frozen=True)
class Study:
    """One such surface.

    Attributes
    ----------
    run
        The run whose surface it varies.
    kind, value
        "span", "dense" or "exact"; the span, else NaN.
    surface, ra
        As those of `figures.results.Run`.
    """

    run: Run
    kind: str
    value: float
    surface: Surface
    ra: Roughness


@dataclass(frozen=True)
class Agreement:
    """Ra of one plane computed twice: every grid point, and adaptively.

    Attributes
    ----------
    run
        Whose surface.
    exact, adaptive
        Ra of the same plane and examples.
    stated
        What the adaptive one may be off by, as it says itself.
    computed, points
        How many points it evaluated, of how many.
    """

    run: str
    exact: float
    adaptive: float
    stated: float
    computed: int
    points: int

    @property
    def difference(self) -> float:
        """Absolute difference of the two."""
        return abs(self.exact - self.adaptive)

    @property
    def agree(self) -> bool:
        """Whether they do, within what is stated."""
        return self.difference <= self.stated


@dataclass(frozen=True)
class Studies:
    """All of a folder's, unfinished ones left out."""

    results: Results

    @cached_property
    def all(self) -> list[Study]:
        """By file name; of runs of the network that have a surface.

        Raises
        ------
        UserError
            When a file's name says another span than its surface has, or it was made otherwise than the run's
            surface in more than it is a study of.
        """
        runs = {run.name: run for run in self.results.runs}
        found = []
        for path in sorted((self.results.root / "studies").glob(f"*{SUFFIX}")):
            match = _FILE.fullmatch(path.name.removesuffix(SUFFIX))
            if match is None or match["run"] not in runs:
                continue
            surface = load_surface(path)
            if surface.complete:
                run, kind = runs[match["run"]], match["kind"] or "span"
                value = float(match["value"]) if match["value"] else nan
                _check(path, surface, run, kind, value)
                ra = roughness(surface, log=self.results.log)
                found.append(Study(run, kind, value, surface, ra))
        return found

    def of(self, kind: str) -> list[Study]:
        """Those of one kind."""
        return [study for study in self.all if study.kind == kind]

    @cached_property
    def spans(self) -> Mapping[str, list[tuple[float, Estimate]]]:
        """Ra by span for every run with several, its main surface among them, over planes that all have."""
        studied: dict[str, list[Study]] = {}
        for study in self.of("span"):
            studied.setdefault(study.run.name, []).append(study)
        found = {}
        for name, studies in studied.items():
            main = studies[0].run.surface
            surfaces = {study.value: study.surface for study in studies} | {float(main.alpha[-1]): main}
            planes = shared_planes(surfaces.values(), name)
            found[name] = [
                (span, ra_of(surface, planes_of(surface, planes), self.results.log))
                for span, surface in sorted(surfaces.items())
            ]
        return found

    @cached_property
    def masks(self) -> list[tuple[Run, Estimate, Estimate]]:
        """Runs with Ra on masked and on dense directions of the same seeds."""
        return [(study.run, *self._pair(study)) for study in self.of("dense")]

    def _pair(self, study: Study) -> tuple[Estimate, Estimate]:
        """Ra of the run's surface and of the study over the planes that both have."""
        surfaces = study.run.surface, study.surface
        planes = shared_planes(surfaces, study.run.name)
        before, after = (ra_of(one, planes_of(one, planes), self.results.log) for one in surfaces)
        return before, after

    @cached_property
    def seeds(self) -> list[tuple[Run, list[float]]]:
        """Ra per direction seed as a share of the run's mean, for runs with several finite ones."""
        found = []
        for run in self.results.runs:
            values = roughness_by_plane(run.surface, log=self.results.log).tolist()
            mean = sum(values) / len(values)
            if len(values) > 1 and all(map(isfinite, values)) and mean > 0:
                found.append((run, [value / mean for value in values]))
        return found

    @cached_property
    def agreements(self) -> list[Agreement]:
        """Every exact surface beside the first plane of the run's main one."""
        return [_agreement(study, self.results.log) for study in self.of("exact")]


@lru_cache(maxsize=1)
def studies_of(results: Results) -> Studies:
    """Read and measured once for all figures of one call."""
    return Studies(results)


def shared_planes(surfaces: Iterable[Surface], name: str) -> list[PlaneKey]:
    """Planes that all of these have, in the first one's order; UserError where there is none."""
    first, *others = [[plane_key(plane) for plane in surface.planes] for surface in surfaces]
    found = [one for one in first if all(one in other for other in others)]
    if not found:
        raise UserError(
            f"{name}: its studies and its surface share no direction seed; compute the studies again"
        )
    return found


def planes_of(surface: Surface, keys: Iterable[PlaneKey]) -> list[int]:
    """Where those planes stand."""
    places = [plane_key(plane) for plane in surface.planes]
    return [places.index(key) for key in keys]


def plane_key(plane: Plane) -> PlaneKey:
    """Kind and seed of its directions."""
    return str(plane.about.get("kind")), str(plane.about.get("seed"))


def _check(path: Path, surface: Surface, run: Run, kind: str, value: float) -> None:
    """UserError where a study isn't what its name says."""
    ends = [float(end) for axis in (surface.alpha, surface.beta) for end in (-axis[0], axis[-1])]
    if kind == "span" and not all(isclose(end, value, rel_tol=1e-6) for end in ends):
        raise UserError(
            f"{path}: its name says span {value:g}, its surface is over {span_text(surface)}; rename it, or "
            "compute it again"
        )
    split = run.ra.split
    if split not in surface.splits:
        raise UserError(
            f"{path}: over {', '.join(surface.splits)}, the run's surface over {split}; compute it again"
        )
    different = differences([conventions(one, split) for one in (run.surface, surface)])
    wrong = [f"{name} {' and '.join(texts)}" for name, texts in different.items() if name not in MEANT[kind]]
    checkpoints = [sha256_told(one.about) for one in (run.surface, surface)]
    if all(checkpoints) and len(set(checkpoints)) > 1:
        wrong = [f"of the checkpoints {' and '.join(one[:12] for one in checkpoints)}", *wrong]
    if wrong:
        raise UserError(
            f"{path}: made otherwise than the run's surface: {'; '.join(wrong)}; compute it again"
        )


def ra_of(surface: Surface, planes: Iterable[int], log: bool = False) -> Estimate:
    """Ra, or that of log loss, over some of the planes."""
    chosen = replace(surface, planes=tuple(surface.planes[number] for number in planes))
    return roughness(chosen, log=log).ra


def _agreement(study: Study, log: bool) -> Agreement:
    key = plane_key(study.surface.planes[0])
    shared_planes(
        [replace(study.surface, planes=study.surface.planes[:1]), study.run.surface], study.run.name
    )
    (place,) = planes_of(study.run.surface, [key])
    adaptive = ra_of(study.run.surface, [place], log)
    computed = study.run.surface.planes[place].computed
    return Agreement(
        study.run.name,
        ra_of(study.surface, [0], log).value,
        adaptive.value,
        adaptive.error_interpolation,
        int(computed.sum()),
        computed.size,
    )
