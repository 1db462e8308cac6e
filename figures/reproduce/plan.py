"""The commands of a reproduction, in order, and which of them are done."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from figures import figure1, figure3
from figures.reproduce.made import made
from figures.reproduce.scale import Scale
from figures.results import SUFFIX
from landscape.commandline.cluster_options import ClusterOptions
from landscape.files import sha256

_RUN = re.compile(r"-seed[0-9]+$")  # how a run's name ends; not that of a copy beside it


@dataclass(frozen=True)
class Options:
    """What all commands are told; on which device, those of `jobs` are told when they start."""

    data: str | None
    data_root: Path | None
    device: str
    jobs: int
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    lanes: int = 1

    @property
    def arguments(self) -> list[str]:
        """Where the data are."""
        found = [] if self.data is None else [f"--data={self.data}"]
        return found + ([] if self.data_root is None else [f"--data-root={self.data_root}"])


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes
    ----------
    kind, name
        "surface" and a run's name, say; jobs of a kind take about as long as each other.
    command
        To be run.
    product
        The file that it leaves.
    somewhere
        Whether the command takes ``--device``.
    asked
        What the product must say of how it was made, where it says so (`figures.reproduce.made`).
    """

    kind: str
    name: str
    command: Sequence[str]
    product: Path
    somewhere: bool = True
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.kind} {self.name}"

    def on(self, device: str) -> list[str]:
        """The command line on a device."""
        return [*self.command, *([f"--device={device}"] if self.somewhere else [])]

    @property
    def done(self) -> bool:
        """Whether the product is there, finished, and of this checkpoint and these settings."""
        found = made(self.product)
        return found is not None and all(found.get(key) in (None, one) for key, one in self.asked.items())


def sweep_commands(scale: Scale, root: Path, options: Options) -> list[list[str]]:
    """Training: one command a spec; each knows what is finished."""
    shared = [f"--output={root / 'runs'}", f"--device={options.device}"]
    alone = f"--lanes={options.lanes}" if options.lanes > 1 else f"--jobs={options.jobs}"
    shared += options.cluster.words or [alone]
    return [_python("training.sweep", spec, *options.arguments, *shared) for spec in scale.sweeps]


def jobs(scale: Scale, root: Path, options: Options) -> list[Job]:
    """Everything after training, for runs that are finished; what the figures need comes first, in turn."""
    there = sorted((root / "runs").glob(f"{escape(scale.network)}-*/final.pt"))
    trained = {path.parent.name: path for path in there if path.is_file() and _RUN.search(path.parent.name)}
    shown = cells_shown()
    figures = sorted((name for name in trained if _cell(scale, name) in shown), key=_turn)
    others = sorted((name for name in trained if name not in figures), key=_turn)
    studied = [
        name
        for name in [*figures, *others]
        if any(fnmatchcase(_cell(scale, name), pattern) for pattern in scale.studies.runs)
    ]
    dense = [name for name in _names(scale, scale.studies.dense) if name in trained]
    exact = [name for name in _names(scale, scale.studies.exact) if name in trained]
    step = [name for name in _names(scale, [scale.step.run]) if name in trained]
    return [
        *(_surface(scale, root, options, name, trained[name]) for name in figures),
        *(_step(scale, root, options, name, trained[name]) for name in step),
        *(_hessian(scale, root, options, name, trained[name]) for name in figures),
        *(_sharpness(scale, root, options, name, trained[name]) for name in figures),
        *(study for name in studied for study in _spans(scale, root, options, name, trained[name])),
        *(_dense(scale, root, options, name, trained[name]) for name in dense),
        *(_exact(scale, root, options, name, trained[name]) for name in exact),
        *(_surface(scale, root, options, name, trained[name]) for name in others),
        *(_hessian(scale, root, options, name, trained[name]) for name in others),
        *(_sharpness(scale, root, options, name, trained[name]) for name in others),
    ]


def cells_shown() -> list[str]:
    """METHOD-SPARSITY-OPTIMIZER of what Figures 1 and 3 show."""
    cells = [
        *(f"{m}-{s:g}-sgd" for m in figure1.METHODS for s in figure1.SPARSITIES),
        *(f"{m}-{s:g}-{o}" for m in figure3.METHODS for s in figure3.SPARSITIES for o in figure3.PAIR),
    ]
    return list(dict.fromkeys(cells))


def _cell(scale: Scale, name: str) -> str:
    """METHOD-SPARSITY-OPTIMIZER of a run."""
    return name.removeprefix(f"{scale.network}-").rpartition("-seed")[0]


def _turn(name: str) -> tuple[int, float]:
    """When it is a run's turn: every method of a seed and a sparsity, then the next; dense ones first."""
    rest, _, seed = name.rpartition("-seed")
    return int(seed), _sparsity(rest)


def _sparsity(name: str) -> float:
    for word in name.split("-"):
        with suppress(ValueError):
            return float(word)
    return 0.0


def _names(scale: Scale, cells: Iterable[str]) -> list[str]:
    return [f"{scale.network}-{cell}-seed0" for cell in cells]


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", module, *arguments]


def _surface(scale: Scale, root: Path, options: Options, name: str, checkpoint: Path) -> Job:
    product = root / "surfaces" / f"{name}{SUFFIX}"
    asked = _plane(scale, scale.surface.planes) | {"split": scale.surface.split}
    more = [f"--split={scale.surface.split}", *_sampling(scale)]
    return _surface_job("surface", scale, options, name, checkpoint, product, asked, more)


def _spans(scale: Scale, root: Path, options: Options, name: str, checkpoint: Path) -> list[Job]:
    return [
        _study(scale, root, options, name, checkpoint, f"span{span:g}", {"span": span})
        for span in scale.studies.spans
    ]


def _dense(scale: Scale, root: Path, options: Options, name: str, checkpoint: Path) -> Job:
    return _study(scale, root, options, name, checkpoint, "dense", {"mask": "none"})


def _study(
    scale: Scale,
    root: Path,
    options: Options,
    name: str,
    checkpoint: Path,
    key: str,
    unlike: Mapping[str, Any],
) -> Job:
    """A surface that differs from the run's main one in what is named, and in its planes."""
    product = root / "studies" / f"{name}.{key}{SUFFIX}"
    asked = {**_plane(scale, scale.studies.planes), **unlike}
    more = [*_sampling(scale), *(["--mask=none"] if asked.get("mask") == "none" else [])]
    return _surface_job("study", scale, options, f"{name}.{key}", checkpoint, product, asked, more)


def _digest(checkpoint: Path) -> str:
    found = checkpoint.stat()
    return _digest_of(checkpoint, found.st_mtime_ns, found.st_size)


@cache
def _digest_of(checkpoint: Path, changed: int, size: int) -> str:
    """Read once for all jobs of a checkpoint, until it is another."""
    return sha256(checkpoint)


def _plane(scale: Scale, planes: int) -> dict[str, Any]:
    sampling = {"tolerance": scale.surface.tolerance, "max_points": scale.surface.max_points}
    return {"span": scale.surface.span, "planes": planes, **sampling}


def _sampling(scale: Scale) -> list[str]:
    return [f"--tolerance={scale.surface.tolerance}", f"--max-points={scale.surface.max_points}"]


def _exact(scale: Scale, root: Path, options: Options, name: str, checkpoint: Path) -> Job:
    product = root / "studies" / f"{name}.exact{SUFFIX}"
    asked = {"span": scale.surface.span, "planes": 1}
    return _surface_job("exact", scale, options, f"{name}.exact", checkpoint, product, asked, ["--exact"])


def _surface_job(
    kind: str,
    scale: Scale,
    options: Options,
    name: str,
    checkpoint: Path,
    product: Path,
    asked: Mapping[str, Any],
    more: Sequence[str],
) -> Job:
    """A surface file without page and picture; the command refuses to write over one of other settings."""
    asked = {"examples": scale.surface.examples, "points": scale.surface.points, **asked}
    arguments = [
        str(checkpoint),
        *options.arguments,
        f"--examples={asked['examples']}",
        f"--points={asked['points']}",
        f"--planes={asked['planes']}",
        f"--span={asked['span']:g}",
        "--no-page",
        "--no-plot",
        f"--output={product}",
    ]
    line = _python("landscape.surface", *arguments, *more)
    return Job(kind, name, line, product, asked={"checkpoint": _digest(checkpoint), **asked})


def _hessian(scale: Scale, root: Path, options: Options, name: str, checkpoint: Path) -> Job:
    product = root / "hessian" / f"{name}.json"
    arguments = [
        str(checkpoint),
        *options.arguments,
        f"--examples={scale.hessian.examples}",
        f"--top={scale.hessian.top}",
        f"--tolerance={scale.hessian.tolerance:g}",
        f"--max-products={scale.hessian.max_products}",
        *("--bottom=0", "--density-probes=0", "--trace-tolerance=0.2", "--max-probes=8"),
        f"--output={product.with_suffix('.hessian.h5')}",
        f"--json={product}",
    ]
    asked = {"checkpoint": _digest(checkpoint), **vars(scale.hessian)}
    return Job("hessian", name, _python("analysis.hessian", *arguments), product, asked=asked)


def _sharpness(scale: Scale, root: Path, options: Options, name: str, checkpoint: Path) -> Job:
    product = root / "sharpness" / f"{name}.csv"
    arguments = [
        str(checkpoint),
        *options.arguments,
        f"--examples={scale.sharpness.examples}",
        "--measures",
        *scale.sharpness.measures,
        f"--output={product.with_suffix('.json')}",
        f"--csv={product}",
    ]
    asked = {"checkpoint": _digest(checkpoint), "measures": set(scale.sharpness.measures)}
    return Job("sharpness", name, _python("analysis.sharpness", *arguments), product, asked=asked)


def _step(scale: Scale, root: Path, options: Options, name: str, checkpoint: Path) -> Job:
    step = scale.step
    arguments = [
        str(checkpoint),
        *options.arguments,
        f"--examples={step.examples}",
        f"--rate={step.rate:g}",
        f"--rho={step.rho:g}",
        f"--name={name}",
        f"--output={root / 'figure2'}",
    ]
    asked = {"rate": step.rate, "rho": step.rho}
    product = root / "figure2" / "step.json"
    return Job("step", name, _python("figures.step", *arguments), product, somewhere=False, asked=asked)
