"""A result at a path, and until it is there the state of the unfinished run at ``PATH.partial``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from landscape.errors import UserError
from landscape.keeping.keeper import Keeper
from landscape.keeping.settings import check_settings

SUFFIX = ".partial"

State = dict[str, Any]
Result = TypeVar("Result")
Read = TypeVar("Read", covariant=True)


class Form(Protocol[Read]):
    """How results and states of one kind lie in files. Whatever can't be read is a UserError."""

    @property
    def holds(self) -> str:
        """What the files do, as "holds a spectrum"."""

    def read(self, path: Path) -> tuple[Mapping[str, Any], Read]:
        """Settings and result."""

    def read_state(self, path: Path) -> tuple[Mapping[str, Any], State]:
        """Settings and state."""

    def write_state(self, path: Path, settings: Mapping[str, Any], state: State) -> None:
        """In one step."""


class PartialKeeper(Generic[Result]):
    """What an earlier run has left, and the saves of this one.

    Parameters
    ----------
    path
        None keeps nothing.
    settings
        Everything that determines the result; JSON types.
    form
        Of the files.
    overwrite
        Begin anew and replace whatever is there.

    Attributes
    ----------
    finished
        The result, where it is there already.
    state
        That of an unfinished run, where there is one.

    Raises
    ------
    UserError
        For a result or a state with other settings, or a file that is neither.
    """

    def __init__(
        self, path: Path | None, settings: Mapping[str, Any], form: Form[Result], *, overwrite: bool = False
    ) -> None:
        self.path, self.settings, self._form = path, dict(settings), form
        self.finished: Result | None = None
        self.state: State | None = None
        self._keeper = Keeper(path)
        if path is None or overwrite:
            return
        if path.exists():
            self.finished = self._accepted(path, *form.read(path))
            self._remove_state(path)  # of a run that was killed after its last write
        elif state_path(path).exists():
            self.state = self._accepted(state_path(path), *form.read_state(state_path(path)))

    @contextmanager
    def keeping(self, state: Callable[[], State]) -> Iterator[Callable[[], None]]:
        """As `Keeper.keeping`, by the work's present state; an empty one isn't worth a file."""

        def save(path: Path) -> None:
            if now := state():
                self._form.write_state(state_path(path), self.settings, now)

        with self._keeper.keeping(save) as sometimes:
            yield sometimes

    def restore(self, take: Callable[[State], object]) -> None:
        """Hand the stored state to a run, if there is one; UserError where it isn't of such a run."""
        if self.state is None or self.path is None:
            return
        try:
            take(self.state)
        except (UserError, KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
            raise UserError(
                f"{state_path(self.path)}: not the state of such a run ({error}); remove it"
            ) from error

    def finish(self, write: Callable[[Path], object]) -> None:
        """Write the result, then remove the state."""
        if self.path is not None:
            self._keeper.save(write)
            self._remove_state(self.path)

    def _remove_state(self, path: Path) -> None:
        with suppress(OSError):
            state_path(path).unlink(missing_ok=True)

    def _accepted(self, path: Path, settings: Mapping[str, Any], found: Any) -> Any:
        check_settings(f"{path} {self._form.holds}", settings, self.settings)
        return found


def state_path(path: Path) -> Path:
    """Where the state of a run with this result is kept."""
    return path.with_name(path.name + SUFFIX)
