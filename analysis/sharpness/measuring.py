"""Measuring the sharpness of a command's checkpoints, with a file that keeps every finished measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.sharpness import MEASURES, Objective, Settings, Sharpness, sharpness_file
from analysis.sharpness.sharpness_file import Entry
from landscape.checks.identity import Functions, check_same
from landscape.commandline.console import leave, note
from landscape.commandline.results import prepare_folder
from landscape.errors import UserError
from landscape.keeping.keeper import Keeper
from landscape.keeping.lock import owned
from landscape.keeping.points import nothing_ahead
from landscape.keeping.settings import FUNCTIONS, result_difference
from landscape.progress import counted, terminal_bar
from landscape.workers.evaluator import workers
from landscape.workers.side_by_side import Steps
from landscape.workers.there import this_worker

if TYPE_CHECKING:
    from torch import nn

    from analysis.sharpness.sharpness_options import SharpnessOptions
    from landscape.commandline.subject import Subject
    from landscape.examples import Examples
    from landscape.losses import Loss

SUFFIX = ".sharpness.json"


class KeptEntries:
    """The output file: what it held by checkpoint digest and split, kept up to date.

    Parameters
    ----------
    path
        None keeps nothing. A new file is begun at once, so that one that can't be written is refused early.
    overwrite
        Whether what it holds of these checkpoints is computed anew.
    """

    def __init__(self, path: Path | None, overwrite: bool) -> None:
        self.path, self.overwrite = path, overwrite
        self._entries: dict[tuple[str, str], Entry] = {}
        self._keeper = Keeper(path)
        self._alone = False
        if path is None:
            return
        prepare_folder(path)
        with self.alone():
            if not path.exists():
                self.save()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process writes the file; what it holds is read first. May be nested."""
        if self._alone:
            yield
            return
        with owned(self.path):
            if self.path is not None and self.path.exists():
                self._read(self.path)
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    def _read(self, path: Path) -> None:
        try:
            found = sharpness_file.load(path)
        except UserError:
            if not self.overwrite:
                raise
            found = []
        self._entries = {(one.sha256, one.split): one for one in found}

    def continued(self, fresh: Entry, wanted: Sequence[str]) -> Entry:
        """`fresh` with the measures that the file holds, if they were measured alike; takes its place."""
        key = fresh.sha256, fresh.split
        found = None if self.overwrite else self._entries.get(key)
        self._entries[key] = fresh
        if found is None:
            return fresh
        used = {"examples", "mask", "dtype", "params"}.union(
            *(MEASURES[name].uses for name in found.measures if name in MEASURES)
        )
        differing = [key for key in used if found.settings.get(key) != fresh.settings.get(key)]
        if differing:
            parts = ", ".join(
                f"{key} {found.settings.get(key)} there, {fresh.settings.get(key)} now"
                for key in sorted(differing)
            )
            raise self._other(fresh, f"settings ({parts})")
        functions = result_difference(*({FUNCTIONS: one.settings.get(FUNCTIONS)} for one in (found, fresh)))
        if functions is not None:
            raise self._other(fresh, f"functions ({functions})")
        known = [one for one in wanted if one in found.measures]
        if known:
            note(f"{fresh.name}, {fresh.split}: {', '.join(known)} from {self.path}")
        fresh.measures.update(found.measures)
        fresh.about = found.about | fresh.about
        return fresh

    def save(self) -> None:
        """Replace the file by what is known now."""
        self._keeper.save(lambda path: sharpness_file.save(list(self._entries.values()), path))

    def _other(self, fresh: Entry, what: str) -> UserError:
        return UserError(
            f"{self.path} holds {fresh.name} with other {what}; name another --output, or give --overwrite"
        )


def measure(
    subject: Subject,
    data: Mapping[str, Examples],
    about: Mapping[str, Any],
    options: SharpnessOptions,
    kept: KeptEntries,
    executor: Executor | None = None,
) -> Steps[list[Entry]]:
    """Every chosen measure of one checkpoint, an entry per split; goes on with what `kept` has.

    Yields where it waits for workers of an executor.
    """
    functions = Functions(subject.model, subject.loss)
    facts = {**about, "mask": subject.mask_source, "density": subject.density} | subject.params.about()
    loaded, wanted = subject.loaded, options.chosen.names()
    done: list[Entry] = []
    with kept.alone():
        for split, examples in data.items():
            settings = _settings(options, subject, examples, functions)
            fresh = Entry(subject.name, str(subject.path), loaded.sha256, split, settings, dict(facts))
            entry = kept.continued(fresh, wanted)
            left = [one for one in wanted if one not in entry.measures]
            if left or entry.measures:
                objective = Objective(subject.model, examples, **subject.arguments)
                _check_centre(entry, objective, kept.path)
            if left:
                entry.about |= {"kept_weights": objective.size, "loss": objective.center.mean("loss")}
                evaluated = _evaluated(objective, left, subject, examples, options, executor, kept.path)
                yield from _compute(objective, entry, left, options, kept, executor, evaluated)
            done.append(entry)
    return done


def _check_centre(entry: Entry, objective: Objective, path: Path | None) -> None:
    """Compare earlier measures' loss at the weights with what it is now; UserError for another."""
    known = entry.about.get("loss")
    if entry.measures and isinstance(known, int | float):
        what = f"{path}: the loss of {entry.name} at the weights"
        now = objective.center.mean("loss")
        check_same(what, known, now, objective.dtype, advice="overwrite it with --overwrite")


def _settings(
    options: SharpnessOptions, subject: Subject, examples: Examples, functions: Functions
) -> dict[str, Any]:
    from landscape.provenance import digest

    return {
        **asdict(options.chosen.settings()),
        "examples": examples.digest(),
        "mask": digest(subject.mask) if subject.mask else None,
        **subject.params.settings(),
        FUNCTIONS: functions.about(),
        "dtype": options.computation.dtype,
    }


@dataclass(frozen=True)
class MeasuresWork:
    """Makes a worker's objective: its other arguments, the settings, and the loss at the weights."""

    arguments: Mapping[str, Any]
    settings: Settings
    loss: float

    def begin(self, network: tuple[nn.Module, Loss], data: Examples) -> Callable[[str], Sharpness]:
        """See `landscape.workers.there.Work.begin`."""
        objective = Objective(network[0], data, loss=network[1], **self.arguments)
        what, now = f"{this_worker()}: the loss at the weights", objective.center.mean("loss")
        check_same(what, self.loss, now, objective.dtype, advice="other workers")
        return lambda name: MEASURES[name].compute(objective, self.settings)


def _evaluated(
    objective: Objective,
    left: Sequence[str],
    subject: Subject,
    examples: Examples,
    options: SharpnessOptions,
    executor: Executor | None,
    path: Path | None,
) -> Iterator[tuple[str, Sharpness] | None]:
    """Name and result of each measure; None while waiting for workers."""
    settings = options.chosen.settings()
    if executor is None:
        yield from ((name, MEASURES[name].compute(objective, settings)) for name in left)
        return
    arguments = dict(subject.arguments)
    parts = (subject.model, arguments.pop("loss")), examples
    work = MeasuresWork(arguments, settings, objective.center.mean("loss"))
    with (
        workers(executor, [*parts, work], path, lambda name: f"the measure {name}") as evaluator,
        closing(evaluator.coming(left, nothing_ahead, 0.0)) as results,
    ):
        yield from (None if one is None else (left[one[0]], one[1]) for one in results)


def _compute(
    objective: Objective,
    entry: Entry,
    left: Sequence[str],
    options: SharpnessOptions,
    kept: KeptEntries,
    executor: Executor | None,
    evaluated: Iterator[tuple[str, Sharpness] | None],
) -> Steps[None]:
    """What came is kept; beside others, in workers, a checkpoint has no bar of its own."""
    settings = options.chosen.settings()
    expected = sum(MEASURES[name].passes(settings) for name in left)
    try:
        with nullcontext() if executor is not None else terminal_bar(entry.name) as bar:
            objective.listener = None if bar is None else counted(bar, expected)
            for one in evaluated:
                if one is None:
                    yield
                    continue
                found = entry.measures | {one[0]: one[1]}
                entry.measures = {name: found[name] for name in sorted(found, key=_place)}
                kept.save()
    except KeyboardInterrupt as error:
        where = "nothing is kept without --output"
        if kept.path is not None:
            where = f"{kept.path} keeps what was finished; give the same command to go on"
        wanted = options.chosen.names()
        finished = sum(name in entry.measures for name in wanted)
        leave(error, f" after {finished} of {len(wanted)} measures of {entry.name}; {where}")


def _place(name: str) -> int:
    """Measures stand in the order of their table, whichever came first; unknown ones of a file at the end."""
    return list(MEASURES).index(name) if name in MEASURES else len(MEASURES)
