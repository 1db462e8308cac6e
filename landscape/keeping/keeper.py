"""Around any work: saved at a pace, and once more whatever stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from landscape.keeping.lock import check_owned
from landscape.keeping.pace import Pace
from landscape.keeping.signals import held_back


class Keeper:
    """Saves one output while it is in the making.

    Parameters
    ----------
    path
        The output, or None where nothing is kept. Whoever computes it has a lock on it: see
        `landscape.keeping.lock.owned`.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._pace = Pace()

    @contextmanager
    def keeping(self, save: Callable[[Path], object]) -> Iterator[Callable[[], None]]:
        """Around work: yields what the work calls wherever its state is whole, and what saves if it is time.

        Whatever stops the work, a signal or a failure, `save` is called once more.

        Parameters
        ----------
        save
            Given the path, replaces the file in one step by one of the present state, which must be whole
            wherever the work can be stopped; see `landscape.keeping.signals.held_back`.
        """

        def sometimes() -> None:
            if self._pace.due:
                self.save(save)

        try:
            yield sometimes
        except BaseException:
            self.save(save)
            raise

    def save(self, save: Callable[[Path], object]) -> None:
        """Save now; a signal that comes meanwhile waits.

        Raises
        ------
        UserError
            When it can't be written, or another process has taken over.
        """
        if self.path is None:
            return
        with held_back(), self._pace.saving():
            check_owned(self.path)
            save(self.path)
