"""What a training shows: a live bar with ETA on a terminal, one line per epoch everywhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from landscape.commandline.console import terminal

_LINE_EVERY = 60.0  # seconds, in a log


class TrainingProgress:
    """A reporter for the loop; use it as a context manager."""

    def __init__(
        self, console: Console | None = None, silent: bool = False, images: int = 0, batch: int = 1
    ) -> None:
        self.images, self.batch = images, batch
        self.saved_step, self._line = 0, time.monotonic()
        self.console = console or terminal(stderr=True, quiet=silent)
        self.epochs = 0
        self.saved_epochs = 0
        self._noted: set[str] = set()
        self.bar = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.fields[images]}"),
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
            "", total=None, epoch=1, epochs="–", images="", loss=float("nan"), accuracy="–", sparsity="–"
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
        self.bar.update(self.task, epochs=epochs, images="")

    def note(self, text: str) -> None:
        """Print a remark, the first time that it is made."""
        if text not in self._noted:
            self._noted.add(text)
            self.console.print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        done = (epoch - 1) * steps + step
        if self.bar.tasks[self.task].total is None:  # a resumed run must not count old steps in its speed
            self.bar.update(self.task, total=self.epochs * steps, completed=(epoch - 1) * steps)
        seen = f"{min(step * self.batch, self.images):,}/{self.images:,} images" if self.images else ""
        self.bar.update(self.task, completed=done, epoch=epoch, loss=loss, images=seen)
        if not self.console.is_terminal and step < steps and time.monotonic() - self._line >= _LINE_EVERY:
            self._line = time.monotonic()
            self.console.print(
                f"epoch {epoch}/{self.epochs}  {seen or f'step {step}/{steps}'}  loss {loss:.4f}",
                highlight=False,
                soft_wrap=True,
            )

    def looked(self, done: int, total: int) -> None:
        """Show how many pictures were looked at, before the training."""
        self.bar.update(self.task, images=f"{done:,}/{total:,} pictures checked", total=total, completed=done)

    def saved(self, epochs: int, step: int) -> None:
        """Learn what a run that is stopped now goes on from."""
        self.saved_epochs, self.saved_step = epochs, step

    def epoch(self, record: dict[str, Any]) -> None:
        """Print the epoch's line."""
        self.saved_epochs, self.saved_step, self._line = record["epoch"], 0, time.monotonic()
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
