"""A folder of results: which runs there are, their surfaces, Ra and accuracy. Needs no torch.

::

    RESULTS/scale.toml                     how large it is and what its figures state; absent for one's own
    RESULTS/runs/results.csv               the table of `training.sweep`, a row per run; may be absent
    RESULTS/runs/RUN/                      the runs themselves; not read here
    RESULTS/surfaces/RUN.surface.h5        a run's surface (docs/surface-format.md)
    RESULTS/studies/RUN.KEY.surface.h5     the same run otherwise: another span, no mask (`figures.studies`)
    RESULTS/hessian/RUN.json               its Hessian's eigenvalues and trace (`analysis.hessian --json`)
    RESULTS/sharpness/RUN.csv              its sharpness (`analysis.sharpness --csv`)
    RESULTS/robustness/RUN.robustness.h5   its accuracy under corruptions (`analysis.robustness`)
    RESULTS/structured/structured.csv      speed of networks without their lost channels (`figures.table3`)
    RESULTS/throughput/NAME.json           images per second of optimizers in turn (`figures.throughput`)
    RESULTS/figure2/step.json              the steps that Figure 2 shows (`figures.steps`)
    RESULTS/figures/                       what the commands of this package write, unless told otherwise

RUN is ``MODEL-DATA-METHOD-SPARSITY-OPTIMIZER-seedN``, or ``MODEL-DATA-dense-OPTIMIZER-seedN``; MODEL-DATA is
called the network here. A figure is of one network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from analysis.robustness.robustness_file import is_path
from analysis.roughness import Roughness, roughness
from analysis.statistics.uncertainty import Estimate, estimate
from figures.belonging import contradiction, other_network, sha256_told
from figures.measures import Measured, measures_of
from figures.networks import DATA, MODELS
from figures.reproduce.scale import load_scale
from figures.style import METHOD_NAMES, OPTIMIZER_NAMES
from landscape.errors import UserError
from landscape.files import sha256
from landscape.files.runs_table import read_runs
from landscape.surface import Surface, load_surface

SUFFIX = ".surface.h5"
DENSE = "dense"
EARLIER = "an earlier checkpoint"
_NAME = re.compile(
    r"(?P<network>.+)-(?P<method>[a-z0-9_]+)-(?P<sparsity>[0-9.e-]+)-(?P<optimizer>[a-z0-9]+)-seed(?P<seed>\d+)"
)
_PLAIN = re.compile(  # of dense runs, and of methods that know no sparsity
    r"(?P<network>.+)-(?P<method>[a-z0-9_]+)-(?P<optimizer>[a-z0-9]+)-seed(?P<seed>\d+)"
)


@dataclass(frozen=True)
class Name:
    """What a run's name says; the sparsity is 0 where it tells none."""

    network: str
    method: str
    sparsity: float
    optimizer: str
    seed: int


@dataclass(frozen=True)
class Run:
    """A trained network with a finished surface.

    Attributes
    ----------
    name, seed
        Of the run, and its training seed.
    surface, ra
        Its loss surface, and the roughness of the first split.
    row
        Its row of ``results.csv``; empty without one.
    """

    name: str
    seed: int
    surface: Surface
    ra: Roughness
    row: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One panel of a figure: all seeds of one method, sparsity and optimizer.

    Attributes
    ----------
    method, sparsity, optimizer
        As runs are named.
    runs
        Those with a finished surface, by seed; the first is drawn.
    missing
        Every other run of the cell by name, and what is missing of it.
    """

    method: str
    sparsity: float
    optimizer: str
    runs: tuple[Run, ...]
    missing: Mapping[str, str]

    @property
    def ra_name(self) -> str:
        """What Ra is of, where it isn't the loss itself."""
        return "Ra of log loss" if self.runs and self.runs[0].ra.quantity == "log loss" else "Ra"

    @property
    def title(self) -> str:
        """For people: "GraSP 0.9 S2-SAM"."""
        method = METHOD_NAMES.get(self.method, self.method)
        return f"{method} {self.sparsity:g} {OPTIMIZER_NAMES.get(self.optimizer, self.optimizer)}"

    @property
    def ra(self) -> Estimate:
        """Ra with its 95 % interval; inf where a surface diverges, NaN where there is none.

        One seed: the surface's own interval, over examples, directions and interpolation. Several: the mean
        over them, and an interval from their spread (Student's t) plus the interpolation error; it says
        nothing of other examples or directions than those that they share.
        """
        found = [run.ra.ra for run in self.runs]
        if not found:
            return Estimate(nan)
        if len(found) == 1:
            return found[0]
        values = np.array([one.value for one in found])
        if not np.isfinite(values).all():
            return Estimate(inf)
        error = float(np.mean([one.error_interpolation for one in found]))
        return estimate(values, np.empty((len(values), 0)), np.empty(0, np.int64), error=error)

    @property
    def diverged_radius(self) -> float | None:
        """Distance to the nearest diverged point on any of the surfaces; None where all are finite."""
        radii = [run.ra.diverged_radius for run in self.runs]
        return min((radius for radius in radii if radius is not None), default=None)


def change_of_ra(original: Cell, other: Cell) -> float:
    """Relative change of Ra from one cell to another; NaN unless finite, and of trainings of equal length."""
    for first, second in zip(original.runs[:1], other.runs[:1], strict=False):
        if other_length(first.row, second.row):
            return nan
    before, after = original.ra.value, other.ra.value
    return after / before - 1 if isfinite(before) and isfinite(after) and before > 0 else nan


class Results:
    """A folder of results; every surface is read and measured once.

    Parameters
    ----------
    root
        The folder described above.
    network
        MODEL-DATA, the beginning of the runs' names; may be left out where there is only one.

    Raises
    ------
    UserError
        When there is no such folder, no run in it, two names of one run (``seed0`` and ``seed00``), a row
        that is a copy of another row, seeds of one kind of run that were trained for different lengths, or
        `network` is needed or unknown. Later, when two runs' surfaces are of one checkpoint. A run whose row
        is of another than it is named after is left out, and said to be missing.
    """

    def __init__(self, root: Path, network: str | None = None) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; expected one with surfaces/ and runs/results.csv")
        self.root = root
        self._table = read_runs(root / "runs" / "results.csv", "repeat the sweep to write it anew")
        self._files = {
            path.name.removesuffix(SUFFIX): path for path in sorted((root / "surfaces").glob(f"*{SUFFIX}"))
        }
        self._names = _by_meaning({**self._files, **self._table})
        self._misnamed = _misnamed(self._names, self._table)
        for name in self._misnamed:
            del self._table[name]
            self._files.pop(name, None)
        _check_copies(self._names, self._table)
        _check_seeds_alike(self._names, self._table)
        self._network = network
        plan = root / "scale.toml"
        self.scale = load_scale(str(plan)) if plan.is_file() else None
        self._runs: dict[str, Run | str] = {}
        self._checkpoints: dict[str, str] = {}
        self._measures: dict[str, dict[str, Measured]] = {}

    @property
    def log(self) -> bool:
        """Whether Ra here is that of log loss."""
        return self.scale is not None and self.scale.surface.log

    @property
    def registered(self) -> bool:
        """Whether the claims are tested as docs/preregistration.md lays down."""
        return self.scale is not None and self.scale.registered

    @cached_property
    def network(self) -> str:
        """MODEL-DATA of the runs; UserError as above."""
        known = sorted(_networks(self._files) or _networks(self._table))
        for name, why in self._misnamed.items() if not known else ():
            raise UserError(f"{self.root}: {name} is left out, {why}")
        if not known:
            raise UserError(
                f"{self.root}: no surfaces/RUN{SUFFIX} and no run in runs/results.csv; train and compute"
            )
        if self._network is None and len(known) > 1:
            raise UserError(
                f"{self.root}: runs of {', '.join(known)}; choose with --network, e.g. --network {known[0]}"
            )
        if self._network not in (None, *known):
            raise UserError(
                f"{self.root}: no runs of the network {self._network!r}; it has {', '.join(known)}"
            )
        return self._network or known[0]

    @cached_property
    def names(self) -> dict[Name, str]:
        """Every run of the network, trained or planned, dense ones among them."""
        network = self.network
        return {one: name for one, name in self._names.items() if one.network == network}

    @cached_property
    def seeds(self) -> list[int]:
        """Training seeds of any run of the network with a sparsity, trained or planned."""
        return sorted({one.seed for one, name in self.names.items() if _NAME.fullmatch(name)})

    @property
    def rows(self) -> dict[Name, Mapping[str, str]]:
        """Rows of ``results.csv`` that are of the network, dense runs among them; names say of which run."""
        return {one: self._table[name] for one, name in self.names.items() if name in self._table}

    def name_of(self, one: Name) -> str:
        """The run's name, or the one that it would have."""
        kind = DENSE if one.method == DENSE else f"{one.method}-{one.sparsity:g}"
        return self.names.get(one, f"{one.network}-{kind}-{one.optimizer}-seed{one.seed}")

    def row(self, name: str) -> Mapping[str, str]:
        """Of ``results.csv``; empty without one."""
        return self._table.get(name, {})

    def begun(self, name: str) -> bool:
        """Whether that run was trained, in part or whole, or has a surface."""
        return name in self._files or self.row(name).get("state", "missing") != "missing"

    @property
    def every_row(self) -> list[Mapping[str, str]]:
        """Rows of ``results.csv``, of whatever network."""
        return list(self._table.values())

    @property
    def cells(self) -> list[Cell]:
        """Every cell with a run that is trained, planned or has a surface, by method, sparsity, optimizer."""
        keys = {
            (one.method, one.sparsity, one.optimizer)
            for one, name in self.names.items()
            if _NAME.fullmatch(name)
        }
        return [self.cell(*key) for key in sorted(keys)]

    @property
    def dense(self) -> list[Cell]:
        """Runs without any pruning, for comparison; no cell of the paper's figures."""
        optimizers = {one.optimizer for one in self.names if one.method == DENSE}
        return [self._cell(DENSE, 0.0, one) for one in sorted(optimizers)]

    @property
    def runs(self) -> list[Run]:
        """Every run with a finished surface, cell by cell."""
        return [run for cell in self.cells for run in cell.runs]

    @property
    def drawn(self) -> list[Cell]:
        """Cells with a run, without what is missing: for figures of whatever is there."""
        return [replace(cell, missing={}) for cell in self.cells if cell.runs]

    def cell(self, method: str, sparsity: float, optimizer: str) -> Cell:
        """Every seed of one kind of run."""
        return self._cell(method, sparsity, optimizer)

    def _cell(self, method: str, sparsity: float, optimizer: str) -> Cell:
        runs: list[Run] = []
        missing: dict[str, str] = {}
        for seed in self.seeds:
            name = self.name_of(Name(self.network, method, sparsity, optimizer, seed))
            found = self._run(name, seed)
            if isinstance(found, Run):
                runs.append(found)
            else:
                missing[name] = found
        return Cell(method, sparsity, optimizer, tuple(runs), missing)

    def measures(self, run: str) -> dict[str, Measured]:
        """What else was computed of that run (`figures.measures`); its files are read once."""
        if run not in self._measures:
            self._measures[run] = measures_of(self.root, run, self._checkpoint(run), self.row(run))
        return self._measures[run]

    def _checkpoint(self, run: str) -> str:
        """SHA-256 of the run's checkpoint, as its surface tells it; empty where it doesn't."""
        found = self._runs.get(run)
        return sha256_told(found.surface.about) if isinstance(found, Run) else ""

    def _run(self, name: str, seed: int) -> Run | str:
        """The run, or what is missing of it."""
        if name not in self._runs:
            self._runs[name] = self._load(name, seed)
        return self._runs[name]

    def _load(self, name: str, seed: int) -> Run | str:
        if name in self._misnamed:
            return self._misnamed[name]
        row = self._table.get(name, {})
        if name not in self._files:
            state = row.get("state", "missing")
            return {"finished": "no surface yet", "missing": "not trained"}.get(state, f"training {state}")
        if row.get("state") in ("interrupted", "failed"):  # nothing that a surface could be of
            return f"training {row['state']}, the surface is of an earlier one"
        surface = load_surface(self._files[name])
        if not surface.complete or np.isnan(surface.loss).any():
            return "surface unfinished"
        if surface.dim != 2:
            raise UserError(f"{self._files[name]}: a line; the figure needs a plane, computed with --dim 2")
        why = self.not_of(name, surface.about)
        if why:
            return f"surface of {why}"
        self._check_once(name, sha256_told(surface.about))
        return Run(name, seed, surface, roughness(surface, log=self.log), row)

    def _check_once(self, name: str, told: str) -> None:
        """Raise UserError where another run's surface is of the same checkpoint."""
        first = self._checkpoints.setdefault(told, name) if told else name
        if first != name:
            raise UserError(
                f"{first} and {name}: their surfaces are of one checkpoint ({told[:12]}…), which would count "
                "twice; compute the surface of each run's own checkpoint, or remove one"
            )

    def not_of(self, name: str, about: Mapping[str, Any], told: str = "") -> str:
        """Whose a result is, where it isn't that run's: its checkpoint's, or a known row's; empty otherwise.

        `about` is what the result says of itself, `told` the SHA-256 of its checkpoint where it isn't there.
        """
        found, checkpoint = told or sha256_told(about), self.root / "runs" / name / "final.pt"
        if found and not is_path(name) and _is_file(checkpoint):
            return "" if sha256(checkpoint) == found else EARLIER
        one = _meaning(name)
        row = self.row(name)
        unlike = contradiction(about, row) if row.get("state") == "finished" else ""
        unlike = unlike or (other_network(about, one.network) if one else "")
        return f"another checkpoint: {unlike}" if unlike else ""


def _is_file(path: Path) -> bool:
    """Whether it is there; a name that is too long is no file's."""
    try:
        return path.is_file()
    except OSError:
        return False


def _meaning(name: str) -> Name | None:
    """What a run's name says; None for one that isn't a run's."""
    found = _NAME.fullmatch(name) or _PLAIN.fullmatch(name)
    if found is None:
        return None
    try:
        sparsity, seed = float(found.groupdict().get("sparsity") or 0.0), int(found["seed"])
    except ValueError:  # dots and dashes, or digits without end, that are no number
        return None
    return Name(found["network"], found["method"], sparsity, found["optimizer"], seed)


def _by_meaning(names: Iterable[str]) -> dict[Name, str]:
    """Every run's name by what it says; UserError where two say the same."""
    found: dict[Name, str] = {}
    for name in names:
        one = _meaning(name)
        if one is not None and found.setdefault(one, name) != name:
            raise UserError(
                f"{found[one]} and {name} name the same run, which would count twice; remove or rename one"
            )
    return found


def _misnamed(names: Mapping[Name, str], table: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Runs whose rows are of others than they are named after, and why."""
    found = {name: _unlike(one, table[name]) for one, name in names.items() if name in table}
    remedy = "rename its folder and files, and repeat the sweep"
    return {name: f"its row of results.csv says {why}; {remedy}" for name, why in found.items() if why}


def _unlike(one: Name, row: Mapping[str, str]) -> str:
    """The first in which a name says otherwise than its row; empty where there is none."""
    for key, told, number in (("seed", "seed", one.seed), ("sparsity", "sparsity_asked", one.sparsity)):
        if row.get(told) and float(row[told]) != number:
            return f"{key} {row[told]}, its name {number}"
    model = (row.get("model") or "").replace(":", "-")
    label, _, data = one.network.removeprefix(model).partition("-")
    parts = (
        ("network", model, f"{model}{label}" if one.network.startswith(model) else one.network, MODELS),
        ("data", row.get("data"), data if model else "", DATA),
        ("method", row.get("method"), one.method, METHOD_NAMES),
        ("optimizer", row.get("optimizer"), one.optimizer, OPTIMIZER_NAMES),
    )
    for key, there, named, known in parts:
        if there and named and not _named_after(named, there, known):
            return f"{key} {there}, its name {named}"
    return ""


def _named_after(part: str, told: str, known: Iterable[str]) -> bool:
    """Whether a part of a name is what the row says, or that with a label: rigl_uniform, s2sam2."""
    return part == told or (part.startswith(told) and part not in known)


def _check_copies(names: Mapping[Name, str], table: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse copies of a row; UserError names two."""
    known: dict[tuple[str, ...], str] = {}
    for name in names.values():
        row = table.get(name, {})
        results = tuple(row.get(key, "") for key in ("seconds", "test_loss", "test_accuracy"))
        if all(results) and known.setdefault(results, name) != name:
            raise UserError(
                f"{known[results]} and {name} have equal seconds, test loss and accuracy in results.csv: one "
                "training, which would count twice; repeat the sweep to write the table anew"
            )


def _check_seeds_alike(names: Mapping[Name, str], table: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse means over seeds that were trained for different lengths; UserError names two."""
    known: dict[Name, str] = {}
    for one, name in names.items():
        if table.get(name, {}).get("state") != "finished":
            continue
        first = known.setdefault(replace(one, seed=0), name)
        unlike = other_length(table[first], table[name])
        if unlike:
            raise UserError(
                f"{first} and {name} were trained for {unlike}: a mean over their seeds would be of neither; "
                "train them alike, or keep them in folders of their own"
            )


def other_length(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """How two rows of ``results.csv`` differ in the length of their training; empty where they don't.

    What a table of an earlier version lacks counts as equal, and so do examples up to a fifth: broken
    pictures are left out where a seed holds none of them out.
    """
    for key, share in (("epochs", 0.0), ("examples_trained", 0.2)):
        here, there = (float(row.get(key) or "nan") for row in (first, second))
        if abs(here - there) > share * max(here, there):
            return f"{here:,.0f} and {there:,.0f} {key.removesuffix('_trained')}"
    return ""


def accuracy_in(row: Mapping[str, str]) -> float | None:
    """Test accuracy of a finished run, as a fraction; None of any other, or where the row doesn't say."""
    text = row.get("test_accuracy") if row.get("state") == "finished" else ""
    return float(text) if text else None


def _networks(names: Iterable[str]) -> set[str]:
    """Of every name that is a run's with a sparsity."""
    found = [_meaning(name) for name in names if _NAME.fullmatch(name)]
    return {one.network for one in found if one is not None}
