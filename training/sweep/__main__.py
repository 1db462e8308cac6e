"""The command ``python -m training.sweep``: a spec to finished runs and one table of their results."""

# Annotations are objects here (no ``from __future__``): the parser reads those of a function inside another.

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from landscape.commandline.cluster_options import ClusterOptions, working
from landscape.commandline.command import run_command
from landscape.commandline.console import note, out, terminal
from landscape.commandline.duration import parse_duration
from landscape.commandline.gpus import check_device, devices_for
from landscape.commandline.options import SEVERAL, Flag, Int, shown
from landscape.cores import cores
from landscape.errors import UserError
from landscape.keeping.signals import Interrupted, exit_code, name_of
from training.sweep.display import Display
from training.sweep.images import Images
from training.sweep.laned import check_lanes
from training.sweep.plan import SPECS, Overrides, Plan, in_turn, load_plan
from training.sweep.planned import PlannedRun
from training.sweep.schedule import Limits, Sweep
from training.sweep.status import Runs
from training.sweep.table import rows, show_table, table_path, write_table

TRAINING = (sys.executable, "-P", "-m", "training")

SHIPPED = ", ".join(sorted(path.stem for path in SPECS.glob("*.toml")))

HELP = f"""Train a matrix of methods, sparsities, optimizers and seeds, each in a process of its own.

The spec is a TOML file or the name of one that is shipped: {SHIPPED}.
Finished runs are skipped and interrupted ones go on when the same command is given again. The folder gets one
folder per run and results.csv, rewritten after each run.
"""

EPILOGUE = """Examples:

python -m training.sweep figure3-mini --dry-run

python -m training.sweep figure3-mini --data npz:cifar10.npz --jobs 2 --time-budget 45m

python -m training.sweep --table results/mini/runs

Exit codes: 0 all finished, 1 some runs failed, 2 bad input, 3 the time budget ended it, 130 stopped
(128 and its number for another signal).
"""


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What the command line says about a sweep.

    Attributes
    ----------
    output
        Folder of the runs and the table; the spec's by default.
    only
        Only runs whose name fits this pattern, like `*-grasp-*`.
    seeds
        Of the trainings.
    data
        Instead of the spec's: cifar10, cifar100, sample, npz:PATH or imagefolder:PATH.
    data_root
        Folder that holds cifar-10-batches-py or cifar-100-python; ./data by default.
    download
        Let torchvision download CIFAR when it isn't there.
    device
        auto, cpu, cuda or cuda:N; auto and cuda spread jobs over all GPUs here.
    jobs
        Runs at a time, each in a process of its own, which gets its share of the CPU cores.
    lanes
        Runs that take turns in one process on each GPU, which computes their small steps side by side.
    cluster
        Who runs them.
    time_budget
        As 45m, 2h or 1h30m: no run starts that can't be expected to end in time, running ones are stopped
        at the end, and keep their last epoch.
    record_every
        Keep the weights of every so many steps, sparsely, in each run's folder trajectory/; 0 keeps none.
    keep_state
        Keep last.pt of finished runs.
    dry_run
        Only print the runs and where they stand.
    table
        Only rewrite and print the table of this folder.
    """

    output: Annotated[Path | None, Parameter(alias="-o")] = None
    only: str | None = None
    seeds: Annotated[tuple[Int, ...], shown("the spec's", **SEVERAL)] = ()
    data: str | None = None
    data_root: Path | None = None
    download: Flag = False
    device: str = "auto"
    jobs: Int = 1
    lanes: Int = 1
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    time_budget: str | None = None
    record_every: Int = 0
    keep_state: Flag = False
    dry_run: Flag = False
    table: Path | None = None


def main(arguments: Sequence[str] | None = None, training: Sequence[str] = TRAINING) -> None:
    """Run the command and leave with its exit code; `training` starts the command of one run."""

    def command(spec: str | None = None, *, options: Options = Options()) -> None:
        """Run a sweep.

        Parameters
        ----------
        spec
            A .toml file, or the name of a shipped spec.
        """
        if (spec is None) == (options.table is None):
            raise UserError("expected either a spec or --table FOLDER; see --help")
        code = run(spec, options, training) if spec is not None else table_only(options.table)
        if code:
            raise SystemExit(code)

    run_command("training.sweep", HELP, EPILOGUE, command, arguments)


def table_only(root: Path | None) -> int:
    """Rewrite and print the table of a folder."""
    if root is None or not root.is_dir():
        raise UserError(f"no folder {root}; name one that a sweep has written")
    runs = Runs(root)
    write_table(runs)
    show_table(rows(runs, (), {}), terminal())
    out(f"table: {table_path(root)}")
    return 0


def run(spec: str, options: Options, training: Sequence[str]) -> int:
    """Run a spec's sweep and return the exit code."""
    plan = load_plan(spec, Overrides(options.output, options.seeds or None, options.data))
    fitting = [run for run in plan.runs if options.only is None or fnmatchcase(run.name, options.only)]
    chosen = in_turn(fitting)
    if not chosen:
        raise UserError(f"--only {options.only!r} fits none of {len(plan.runs)} runs, as {plan.runs[0].name}")
    check_device(options.device)
    options.cluster.check_jobs(options.jobs, options.lanes, options.device)
    check_lanes(options.lanes, options.jobs, options.device)
    if options.record_every < 0:
        raise UserError(f"record-every {options.record_every}: expected a number of steps, or 0 for none")
    budget = math.inf if options.time_budget is None else parse_duration(options.time_budget)
    runs = Runs(plan.output)
    if options.dry_run:
        _show(runs, plan, chosen, {})
        return 0
    devices = devices_for(options.device, max(options.jobs, options.lanes))
    jobs = options.jobs if options.lanes == 1 else options.lanes * len(devices)
    with working(options.cluster) as cluster, Display(len(chosen)) as display:
        limits = Limits(jobs, time.monotonic() + budget, options.keep_state, devices, cluster, options.lanes)
        command, images = partial(_command, plan, options, training), Images(options.data_root)
        sweep = Sweep(runs, plan.runs, chosen, command, limits, display, images)
        sweep.run()
    _show(runs, plan, chosen, sweep.errors)
    out(f"results: {table_path(plan.output)}")
    return _ending(sweep, options)


def _command(
    plan: Plan, options: Options, training: Sequence[str], run: PlannedRun, device: str
) -> list[str]:
    """The command line of one run on a device."""
    own = () if options.lanes > 1 else training  # else it's no process of its own
    line = [*own, *run.arguments, f"--output={plan.output / run.name}", f"--device={device}"]
    if not options.cluster.used:  # whose workers know how many threads they have
        line.append(f"--threads={max(1, cores() // options.jobs)}")
    if options.data_root is not None:
        line.append(f"--data-root={options.data_root}")
    if options.record_every:
        line.append(f"--record-every={options.record_every}")
    return [*line, "--download"] if options.download else line


def _show(runs: Runs, plan: Plan, chosen: Sequence[PlannedRun], errors: dict[str, str]) -> None:
    names = {run.name for run in chosen}
    show_table([row for row in rows(runs, plan.runs, errors) if row["run"] in names], terminal())


def _ending(sweep: Sweep, options: Options) -> int:
    """Say how to go on, and give the exit code."""
    total, left = len(sweep.chosen), sweep.left
    if sweep.signals:
        stop = Interrupted(sweep.signals[0])
        note(f"stopped by {name_of(stop)}: {left} of {total} runs are left; the same command goes on")
        return exit_code(stop)
    if left:
        note(
            f"time budget {options.time_budget}: {left} of {total} runs are left; the same command goes on "
            "(a longer budget, where not even one run fits)"
        )
        return 3
    if sweep.errors:
        note(f"{len(sweep.errors)} of {total} runs failed; the same command tries them again")
        return 1
    return 0


if __name__ == "__main__":
    main()
