"""Surfaces of the same runs made otherwise: another span, dense directions, every point computed. No torch.

``RESULTS/studies/RUN.KEY.surface.h5`` with KEY one of ``span0.25`` (any number), ``dense`` (directions that
aren't masked) and ``exact`` (the whole grid evaluated on the first plane).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import isfinite, nan

from analysis.roughness import Roughness, roughness, roughness_by_plane
from analysis.statistics.uncertainty import Estimate
from figures.results import SUFFIX, Results, Run
from landscape.surface import Surface, load_surface

_FILE = re.compile(r"(?P<run>.+)\.(?P<kind>span|dense|exact)(?P<value>[0-9.]*)")


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
        """By file name; of runs of the network that have a surface."""
        runs = {run.name: run for run in self.results.runs}
        found = []
        for path in sorted((self.results.root / "studies").glob(f"*{SUFFIX}")):
            match = _FILE.fullmatch(path.name.removesuffix(SUFFIX))
            if match is None or match["run"] not in runs:
                continue
            surface = load_surface(path)
            if surface.complete:
                value = float(match["value"]) if match["value"] else nan
                found.append(
                    Study(
                        runs[match["run"]],
                        match["kind"],
                        value,
                        surface,
                        roughness(surface, log=self.results.log),
                    )
                )
        return found

    def of(self, kind: str) -> list[Study]:
        """Those of one kind."""
        return [study for study in self.all if study.kind == kind]

    @cached_property
    def spans(self) -> Mapping[str, list[tuple[float, Estimate]]]:
        """Ra by span for every run with more than one, its main surface among them."""
        found: dict[str, list[tuple[float, Estimate]]] = {}
        for study in self.of("span"):
            main = (float(study.run.surface.alpha[-1]), study.run.ra.ra)
            found.setdefault(study.run.name, [main]).append((study.value, study.ra.ra))
        return {name: sorted(points, key=lambda point: point[0]) for name, points in found.items()}

    @cached_property
    def masks(self) -> list[tuple[Run, Estimate, Estimate]]:
        """Runs with Ra on masked and on dense directions of the same seeds."""
        return [
            (
                study.run,
                ra_of(study.run.surface, range(len(study.surface.planes)), self.results.log),
                study.ra.ra,
            )
            for study in self.of("dense")
        ]

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


def ra_of(surface: Surface, planes: Iterable[int], log: bool = False) -> Estimate:
    """Ra, or that of log loss, over some of the planes."""
    chosen = replace(surface, planes=tuple(surface.planes[number] for number in planes))
    return roughness(chosen, log=log).ra


def _agreement(study: Study, log: bool) -> Agreement:
    adaptive = ra_of(study.run.surface, [0], log)
    computed = study.run.surface.planes[0].computed
    return Agreement(
        study.run.name,
        ra_of(study.surface, [0], log).value,
        adaptive.value,
        adaptive.error_interpolation,
        int(computed.sum()),
        computed.size,
    )
