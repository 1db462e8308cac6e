"""What a training shows: a live bar with ETA on a terminal, one line per epoch everywhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from landscape.commandline.console import terminal


class TrainingProgress:
    """A reporter for the loop; use it as a context manager."""

    def __init__(self, console: Console | None = None, silent: bool = False) -> None:
        self.console = console or terminal(stderr=True, quiet=silent)
        self.epochs = 0
        self.saved_epochs = 0
        self._noted: set[str] = set()
        self.bar = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn(
                "loss {task.fields[loss]:.3f}, validation {task.fields[accuracy]}, "
                "sparsity {task.fields[sparsity]}"
            ),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(
            "", total=None, epoch=1, epochs="–", loss=float("nan"), accuracy="–", sparsity="–"
        )

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, epochs: int, done: int) -> None:
        """Learn how long the run is and how much of it is saved."""
        self.epochs, self.saved_epochs = epochs, done
        self.bar.update(self.task, epochs=epochs)

    def note(self, text: str) -> None:
        """Print a remark, the first time that it's made."""
        if text not in self._noted:
            self._noted.add(text)
            self.console.print(f"note: {text}", highlight=False, soft_wrap=True)

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        done = (epoch - 1) * steps + step
        if self.bar.tasks[self.task].total is None:  # a resumed run must not count old steps in its speed
            self.bar.update(self.task, total=self.epochs * steps, completed=(epoch - 1) * steps)
        self.bar.update(self.task, completed=done, epoch=epoch, loss=loss)

    def epoch(self, record: dict[str, Any]) -> None:
        """Print the epoch's line."""
        self.saved_epochs = record["epoch"]
        known = record["validation_accuracy"] is not None
        accuracy = f"{100 * record['validation_accuracy']:.2f} %" if known else "none"
        validation = (
            f"validation loss {record['validation_loss']:.4f}, accuracy {accuracy}"
            if known
            else "no validation"
        )
        sparsity = f"{100 * record['sparsity']:.2f} %"
        self.bar.update(self.task, accuracy=accuracy, sparsity=sparsity)
        self.console.print(
            f"epoch {record['epoch']}/{self.epochs}  loss {record['train_loss']:.4f}  "
            f"{validation}  "
            f"sparsity {sparsity}  {record['seconds']:.0f} s",
            highlight=False,
            soft_wrap=True,
        )
