"""What a sweep shows: live bars with epochs and ETA on a terminal, a line per ended run everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from landscape.commandline.console import terminal
from training.sweep.estimate import duration


@dataclass(frozen=True)
class Running:
    """A run in progress."""

    name: str
    epoch: int
    epochs: int


class Display:
    """Progress on standard error; use it as a context manager."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.console = console or terminal(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.all = self.bar.add_task("runs", total=total, note="")
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, done: int, running: Sequence[Running], eta: float | None) -> None:
        """Show what is running now; `eta` in seconds, None while unknown."""
        note = "" if eta is None else f"ETA {duration(eta)}"
        self.bar.update(self.all, completed=done, note=note)
        for name in set(self.tasks) - {run.name for run in running}:
            self.bar.remove_task(self.tasks.pop(name))
        for run in running:
            if run.name not in self.tasks:
                self.tasks[run.name] = self.bar.add_task(run.name, total=run.epochs, note="epochs")
            self.bar.update(self.tasks[run.name], completed=run.epoch)
