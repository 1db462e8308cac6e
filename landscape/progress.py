"""What a running computation tells, and a terminal bar that shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Progress:
    """State of a computation after a point.

    Attributes
    ----------
    done, expected
        Points evaluated so far and the number expected in all, over all planes. The second is an estimate
        while sampling adaptively.
    plane, planes
        Which plane is being worked on (from 1) and how many there are.
    error
        Stated interpolation error so far as a share of the loss range; NaN while unknown or when exact.
    seconds_per_point
        Mean so far in this process.
    """

    done: int
    expected: int
    plane: int
    planes: int
    error: float
    seconds_per_point: float


Listener = Callable[[Progress], None]
Watch = Listener | Literal["auto"] | None
"""What functions take as `progress`: "auto" shows a bar where somebody looks, in a terminal or a notebook."""


@contextmanager
def watching(progress: Watch, title: str, unit: str = "points") -> Iterator[Listener | None]:
    """The listener that `progress` stands for: with "auto" a bar, or None where nobody would see it."""
    from landscape.errors import UserError

    if progress is None or callable(progress):
        yield progress
        return
    if progress != "auto":
        raise UserError(f"progress={progress!r}: expected 'auto', None or a function of a Progress")
    if _notebook() is not None:
        with notebook_bar(title, unit) as listener:
            yield listener
    elif sys.stderr is not None and sys.stderr.isatty():
        with terminal_bar(title, unit) as listener:
            yield listener
    else:
        yield None


def _notebook() -> Any:
    """IPython's shell where this runs in a notebook's kernel, else None."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if shell is not None and "IPKernelApp" in shell.config else None


@contextmanager
def notebook_bar(title: str, unit: str = "points") -> Iterator[Listener]:
    """A bar below the cell, which is gone when the work is done."""
    from html import escape
    from time import monotonic

    from IPython.display import HTML, display  # a kernel has it

    handle, last = display(HTML(""), display_id=True), -1.0

    def show(state: Progress) -> None:
        nonlocal last
        if monotonic() - last < 0.25:
            return
        last = monotonic()
        left = max(0, state.expected - state.done) * state.seconds_per_point
        words = f"{title}: {state.done}/{state.expected} {unit}{_note(state)}, ETA {left:.0f} s"
        bar = f'<progress value="{state.done}" max="{max(1, state.expected)}"></progress>'
        handle.update(HTML(f"<small>{bar} {escape(words)}</small>"))

    try:
        yield show
    finally:
        handle.update(HTML(""))


def counted(listener: Listener, expected: int) -> Callable[[int], None]:
    """What tells a listener of work that comes in portions; `expected` is how much there will be, about."""
    from time import perf_counter

    began, done = perf_counter(), 0

    def tell(portion: int) -> None:
        nonlocal done
        done += portion
        seconds = (perf_counter() - began) / done
        listener(Progress(done, max(expected, done), 1, 1, float("nan"), seconds))

    return tell


_passing: list[Callable[[int], None]] = []


def passed(examples: int) -> None:
    """Tell whoever shows progress that so many more examples went through the network; from any thread."""
    for tell in list(_passing):
        tell(examples)


@contextmanager
def _told_of_examples(show: Callable[[int], None]) -> Iterator[None]:
    """Inside, `show` gets how many examples have passed so far."""
    from threading import Lock

    total, lock = 0, Lock()

    def add(examples: int) -> None:
        nonlocal total
        with lock:
            total += examples
            show(total)

    _passing.append(add)
    try:
        yield
    finally:
        _passing.remove(add)


@contextmanager
def terminal_bar(title: str, unit: str = "points") -> Iterator[Listener]:
    """A Rich progress bar on standard error with points, stated error, elapsed time and ETA.

    Where standard error is no terminal (a batch job's log), a plain line every half minute instead; in a
    quiet command nothing.
    """
    from landscape.commandline.console import is_quiet, terminal
    from landscape.escaping import plain

    if is_quiet():
        yield lambda state: None
        return
    console, title = terminal(stderr=True), plain(title)
    with _bar(console, title) if console.is_terminal else _lines(console, title, unit) as listener:
        yield listener


@contextmanager
def _bar(console: object, title: str) -> Iterator[Listener]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("{task.fields[examples]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Bar(*columns, console=console, transient=True) as bar:  # type: ignore[arg-type]
        task, passing = bar.add_task(title, total=None, note="", examples=""), _Passing()

        def show(state: Progress) -> None:
            passing.item()
            note = _note(state)
            bar.update(task, completed=state.done, total=state.expected, note=note, examples=passing.words())

        def examples(count: int) -> None:
            passing.count = count
            bar.update(task, examples=passing.words())

        with _told_of_examples(examples):
            yield show


@contextmanager
def _lines(console: object, title: str, unit: str) -> Iterator[Listener]:
    from time import monotonic

    last, latest, passing = monotonic(), "", _Passing()

    def line() -> None:
        nonlocal last
        if monotonic() - last >= 30:
            last = monotonic()
            words = ", ".join(filter(None, (latest, passing.words())))
            console.print(f"{title}: {words}", markup=False)  # type: ignore[attr-defined]

    def show(state: Progress) -> None:
        nonlocal latest
        passing.item()
        left = (state.expected - state.done) * state.seconds_per_point
        latest = f"{state.done}/{state.expected} {unit}{_note(state)}, ETA {left:.0f} s"
        line()

    def examples(count: int) -> None:
        passing.count = count
        line()

    with _told_of_examples(examples):
        yield show


@dataclass
class _Passing:
    """Examples that have passed through the network of this process; nothing where workers do that."""

    count: int = 0
    before: int = 0
    elsewhere: bool = False

    def item(self) -> None:
        """A point, a product, a step has come."""
        self.elsewhere, self.before = self.count == self.before, self.count

    def words(self) -> str:
        """For a line."""
        return f"{self.count:,} examples" if self.count and not self.elsewhere else ""


def _note(state: Progress) -> str:
    plane = f" plane {state.plane}/{state.planes}" if state.planes > 1 else ""
    error = f" error {100 * state.error:.2f} %" if state.error == state.error else ""
    return plane + error
