"""A spec (TOML) to the list of its runs.

===================  =================================================================================
key                  value
===================  =================================================================================
name                 of the sweep
output               folder of the runs and of the table, relative to where the command is given
seeds                list of integers; ``[0]`` by default
[recipe]             any option of ``python -m training``: of the run, or of the methods and optimizers
[[matrix]]           ``methods`` × ``sparsities`` × ``optimizers``, and a ``recipe`` of its own
[method.NAME]        options of one method, [optimizer.NAME] of one optimizer
===================  =================================================================================

What is more special wins: a method's or an optimizer's table, then the matrix' recipe, then the recipe.
A method that takes no sparsity (dense) is run once, whatever the sparsities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.files import read_toml
from training.optimizers import OPTIMIZERS
from training.sparsity import METHODS
from training.sweep.matrix import Block, check_recipe
from training.sweep.planned import PlannedRun
from training.sweep.settings import check_known, list_of, normalized, option_names, table

MOST_RUNS = 10_000  # of a spec; lists of a few kilobytes multiply to millions
SPECS = Path(__file__).parents[1] / "specs"

_KEYS = {"name", "output", "seeds", "recipe", "matrix", "method", "optimizer"}


@dataclass(frozen=True)
class Plan:
    """A sweep: all its runs, and the folder that they are in."""

    name: str
    output: Path
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Overrides:
    """What the command line says instead of the spec; None leaves it as it is."""

    output: Path | None = None
    seeds: Sequence[int] | None = None
    data: str | None = None


def in_turn(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """In an order in which a sweep that is broken off has results: every method of a sparsity, then the next.

    Seed by seed, in each network by network with its data, in each sparsity by sparsity, the spec's first one
    first and networks without one before.
    """
    networks = list(dict.fromkeys((run.config.model, run.settings["data"]) for run in runs))
    sparsities = [None, *dict.fromkeys(_sparsity(run) for run in runs)]
    seeds = list(dict.fromkeys(run.config.seed for run in runs))

    def turn(run: PlannedRun) -> tuple[int, int, int]:
        network = run.config.model, run.settings["data"]
        return seeds.index(run.config.seed), networks.index(network), sparsities.index(_sparsity(run))

    return sorted(runs, key=turn)


def _sparsity(run: PlannedRun) -> float | None:
    found: float | None = getattr(run.config.method, "sparsity", None)
    return found


def load_plan(spec: str, overrides: Overrides = Overrides()) -> Plan:
    """The plan of a spec: a path, or the name of a shipped one.

    Raises
    ------
    UserError
        When the spec can't be read, or says something that isn't known or doesn't fit.
    """
    path = spec_path(spec)
    try:
        content = read_toml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as TOML: {error}") from error
    return make_plan(content, path.name, overrides)


def spec_path(spec: str) -> Path:
    """Path of a spec that is given as a path or by a shipped one's name."""
    path, shipped = Path(spec), {file.stem: file for file in SPECS.glob("*.toml")}
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise UserError(f"no spec {path}; give a .toml file or one of {', '.join(sorted(shipped))}")
    check_known([spec], shipped, "spec", "name")
    return shipped[spec]


def make_plan(content: Mapping[str, Any], source: str, overrides: Overrides = Overrides()) -> Plan:
    """The plan of a spec's content; `source` stands in messages. See :func:`load_plan`."""
    check_known(content, _KEYS, source, "key")
    seeds = overrides.seeds or content.get("seeds", [0])
    seeds = list_of(seeds, int, source, "seeds")
    matrices = content.get("matrix")
    if (
        not isinstance(matrices, list)
        or not all(isinstance(one, Mapping) for one in matrices)
        or not matrices
    ):
        raise UserError(f"{source}: no [[matrix]]; give one with methods, sparsities and optimizers")
    blocks = [
        Block(content, matrix, f"{source}: matrix {number}", overrides.data)
        for number, matrix in enumerate(matrices, 1)
    ]
    methods = {name for block in blocks for name in block.methods}
    optimizers = {name for block in blocks for name in block.optimizers}
    check_recipe(table(content, "recipe", source), methods, optimizers, source)
    _check_options(content, "method", METHODS, methods, source)
    _check_options(content, "optimizer", OPTIMIZERS, optimizers, source)
    count = len(seeds) * sum(block.count for block in blocks)
    if count > MOST_RUNS:
        raise UserError(
            f"{source}: {count:,} runs; expected at most {MOST_RUNS:,}: divide it into several specs"
        )
    runs = [run for seed in seeds for block in blocks for run in block.runs(seed)]
    _refuse_equal_names(runs, source)
    output = overrides.output or content.get("output")
    if not isinstance(output, str | Path) or not str(output):
        raise UserError(f"{source}: output {output!r}: expected a folder; give it here or with --output")
    return Plan(str(content.get("name", Path(source).stem)), Path(output), tuple(runs))


def _check_options(
    content: Mapping[str, Any], what: str, kinds: Mapping[str, type], used: set[str], source: str
) -> None:
    """Refuse a [method.X] or [optimizer.X] that no run uses, or whose options aren't X's."""
    given = table(content, what, source)
    for name in given:
        where = f"{source}: {what}.{name}"
        check_known([name], kinds, source, what)
        if name not in used:
            raise UserError(f"{where}: no [[matrix]] has this {what}; remove it or add the {what}")
        options = option_names(kinds[name]) - {"sparsity"}
        check_known(normalized(table(given, name, where)), options, where, "option")


def _refuse_equal_names(runs: Sequence[PlannedRun], source: str) -> None:
    seen: set[str] = set()
    for run in runs:
        if run.name in seen:
            raise UserError(
                f"{source}: two runs are named {run.name}; a name has model, data, method, sparsity, "
                "optimizer and seed: make these differ, or remove one"
            )
        seen.add(run.name)
