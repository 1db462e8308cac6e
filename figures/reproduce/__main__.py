"""The command ``python -m figures.reproduce``."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from figures.__main__ import PRODUCTS
from figures.product_command import main as draw
from figures.reproduce.plan import Options, jobs, sweep_commands
from figures.reproduce.runner import Outcome, run_jobs
from figures.reproduce.scale import Scale, check_same_scale, load_scale
from landscape.commandline.cluster_options import ClusterOptions, working
from landscape.commandline.command import run_command
from landscape.commandline.console import note
from landscape.commandline.duration import parse_duration
from landscape.commandline.gpus import check_device, devices_for
from landscape.commandline.options import Flag, Int, shown
from landscape.files import atomic_path, read_text
from landscape.keeping.signals import Interrupted, exit_code, name_of

ABOUT = """Train, or find trained, the runs of Figures 1 and 3; compute surfaces, eigenvalues and Figure 2's
steps; draw the figures; write tables and report.

What is done is skipped: stopped in whatever way, the same command goes on.
"""
EPILOGUE = """Examples:

- `python -m figures.reproduce --scale smoke`
- `python -m figures.reproduce --scale mini --data npz:cifar10.npz --jobs 2`
- `python -m figures.reproduce --scale mini --skip-training --time-budget 45m`

Exit codes: 0 done, 1 some commands failed, 2 bad input, 3 the time budget ended it, 130 stopped
(Ctrl-C; 143 SIGTERM, 129 SIGHUP). Figures and report are drawn of what there is, except after 2 and a stop;
python -m figures all RESULTS does it then.
"""

_FOR_TRAINING = 2 / 3  # of the time left


@Parameter(name="*")
@dataclass(frozen=True)
class ReproduceOptions:
    """What the command can be told."""

    scale: str = "mini"
    """`smoke`, `mini`, `paper` or a `.toml` file."""

    output: Annotated[Path | None, shown("results/SCALE", name=["--output", "-o"])] = None
    """Folder of results."""

    data: Annotated[str | None, shown("the specs'")] = None
    """Instead of the specs': `npz:PATH`, `imagefolder:PATH`, `cifar10`, …"""

    data_root: Annotated[Path | None, shown("./data")] = None
    """Folder of the data sets."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; `auto` and `cuda` spread jobs over all GPUs here."""

    jobs: Int = 1
    """Commands at a time; each gets its share of cores."""

    lanes: Int = 1
    """Trainings that take turns in one process on each GPU, in place of `--jobs` of them."""

    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    """Who runs them."""

    time_budget: Annotated[str | None, shown("none")] = None
    """As `45m`, `2h`, `1h30m`. Two thirds of what is left are for training, the rest for what is computed of
    it, by turns: every method of a seed and a sparsity comes before the next."""

    skip_training: Flag = False
    """Use the runs that are finished."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it all and leave with the exit code."""

    def command(*, options: ReproduceOptions = ReproduceOptions()) -> None:
        """Reproduce."""
        raise SystemExit(reproduce(options))

    run_command("figures.reproduce", ABOUT, EPILOGUE, command, arguments)


def reproduce(options: ReproduceOptions) -> int:
    """What the command does; its exit code."""
    scale = load_scale(options.scale)
    budget = math.inf if options.time_budget is None else parse_duration(options.time_budget)
    deadline = time.monotonic() + budget
    root = options.output or Path("results") / scale.name
    check_device(options.device)
    options.cluster.check_jobs(options.jobs, options.lanes, options.device)
    told = Options(
        options.data, options.data_root, options.device, options.jobs, options.cluster, options.lanes
    )
    check_same_scale(scale, root / "scale.toml")
    with atomic_path(root / "scale.toml") as temporary:  # figures of these files are drawn by it
        temporary.write_text(read_text(scale.path), encoding="utf-8")
    code = 0
    try:
        code, outcome = _by_turns(scale, root, told, deadline, options.skip_training)
        if code == 2:
            return code
    except KeyboardInterrupt as error:
        outcome = Outcome(stopped=error)
    code = _ending(outcome, code)
    if outcome.stopped:  # at once: a batch system waits seconds, drawing takes a minute
        return code
    try:
        draw(PRODUCTS, ["all", str(root), f"--network={scale.network}"])
    except SystemExit as error:  # figures whose files don't exist yet; each has said so
        code = code or (1 if error.code else 0)
    return code


def _by_turns(scale: Scale, root: Path, told: Options, deadline: float, trained: bool) -> tuple[int, Outcome]:
    """Train, unless that is done, and compute; by turns where the time is bounded.

    The worst exit code of training, and what became of the rest.
    """
    devices, share = devices_for(told.device, told.jobs), _FOR_TRAINING
    code, failed, before = 0, dict[str, str](), _finished(root)
    while True:
        if not trained:
            now = time.monotonic()
            code = _train(scale, root, told, now + share * (deadline - now))
            if code == 2:
                return code, Outcome()
        todo = [job for job in jobs(scale, root, told) if job.title not in failed]
        with working(told.cluster if todo else ClusterOptions()) as cluster:
            outcome = run_jobs(todo, root / "logs", deadline, told.jobs, devices, cluster)
        failed |= outcome.failed
        outcome = replace(outcome, failed=failed)
        finished = _finished(root)
        if code != 3 or outcome.left or outcome.stopped or time.monotonic() >= deadline:
            return code, outcome
        if finished == before and share == 1:
            return code, outcome
        share = 1.0 if finished == before else _FOR_TRAINING
        before = finished


def _finished(root: Path) -> int:
    return len(list((root / "runs").glob("*/final.pt")))


def _train(scale: Scale, root: Path, told: Options, deadline: float) -> int:
    """Every sweep; the worst of their exit codes."""
    worst = 0
    for command in sweep_commands(scale, root, told):
        left = deadline - time.monotonic()
        budget = [] if math.isinf(left) else [f"--time-budget={max(1, int(left))}s"]
        code = _waited([*command, *budget])
        if code > 128:
            raise Interrupted(code - 128)
        if code == 2:
            return 2
        worst = max(worst, code)
    return worst


def _waited(command: Sequence[str]) -> int:
    """Exit code of a sweep, which a signal reaches as well: it ends its trainings, and that is waited for."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt as error:
            if name_of(error) != "Ctrl-C":  # which a terminal sends to both
                process.terminate()
            process.wait()
            raise


def _ending(outcome: Outcome, code: int) -> int:
    """Say what isn't done, and give the exit code."""
    for name, line in outcome.failed.items():
        note(f"failed: {name}: {line}")
    if outcome.stopped:
        note(f"stopped by {name_of(outcome.stopped)}; the same command goes on", urgent=True)
        return exit_code(outcome.stopped)
    if outcome.left:
        note(f"time budget: {len(outcome.left)} commands weren't started; the same command goes on")
        return 3
    return 1 if outcome.failed else code


if __name__ == "__main__":
    main()
