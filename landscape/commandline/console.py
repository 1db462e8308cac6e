"""Where commands print: tables, lines, and outputs that end early."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from landscape.errors import UserError, exit_with
from landscape.escaping import plain
from landscape.keeping.signals import exit_code, name_of, raised_signals, speaks

if TYPE_CHECKING:
    from rich.console import Console

NARROWEST = 20  # COLUMNS=0, as some batch systems set it, is no width
USUAL = 80
PIPE_WIDTH = 1_000
PATIENCE = 60.0  # seconds in which the first of several processes says why they end: imports differ in speed
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def terminal(*, stderr: bool = False, quiet: bool = False, file: TextIO | End | None = None) -> Console:
    """Standard output, or `file`, on the terminal's width; in a pipe or a file nothing is folded.

    Whatever is printed is shown: control characters and the like in names stand as their escapes, and
    brackets and ``:names:`` are neither markup nor pictures.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Shown(Console):
        """Escapes the text of what it prints, never the codes of its own styles."""

        def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
            for part in super().render(*arguments, **options):
                text = part.text
                yield part if part.control or text == "\n" else part._replace(text=_lines(text))

    where: dict[str, Any] = {"stderr": stderr, "quiet": quiet, "file": file, "markup": False, "emoji": False}
    console = Shown(**where)
    if not console.is_terminal:
        return Shown(**where, width=PIPE_WIDTH)
    return console if console.width >= NARROWEST else Shown(**where, width=USUAL)


def out(line: object = "") -> None:
    """A line of results on standard output, whatever is in it."""
    print(plain(str(line)))


def note(line: str, *, urgent: bool = False) -> None:
    """A line beside the results, on standard error, whatever is in it; a quiet command prints urgent ones."""
    if urgent or not _quiet.get():
        print(plain(line), file=sys.stderr, flush=True)


def leave(error: KeyboardInterrupt, text: str) -> NoReturn:
    """End a command that a signal has stopped, with its exit code and a line: what it was, and `text`."""
    if speaks():
        note(f"stopped by {name_of(error)}{text}", urgent=True)
    raise SystemExit(exit_code(error)) from None


def refuse(error: UserError | str) -> NoReturn:
    """End a command with one line and exit code 2; of processes that train together the first prints it."""
    if not speaks():
        time.sleep(PATIENCE)  # torchrun ends all as soon as one ends: the first one must get to its line
        raise SystemExit(2)
    exit_with(error)


def is_quiet() -> bool:
    """Whether nothing but results and errors is to be printed."""
    return _quiet.get()


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Print nothing but results and errors inside the block, where `quiet`."""
    before = _quiet.set(quiet)
    try:
        yield
    finally:
        _quiet.reset(before)


@contextmanager
def guarded_command() -> Iterator[None]:
    """Around a whole command: no failure of the outside world is a traceback.

    Standard output and error may end before the command does, and it goes on with its files. A reader that
    has enough (``| head -1``) is no fault. Any other failure, such as a full disk behind ``>``, is one line
    and exit code 2 when the command has done its work. So is a file system that refuses what no
    check foresaw (a name that is too long), and a number that no computer counts to.

    Where an output is closed from the start (``>&-``, some daemons), what would go there goes nowhere. Ctrl-C
    and its like end the command in one line, wherever nothing more is said.
    """
    _occupy_closed()
    before = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    ends = End(before[0]), End(before[1])
    sys.stdout, sys.stderr = ends
    try:
        with raised_signals():
            yield
    except KeyboardInterrupt as error:
        leave(error, "; give the same command to go on")
    except UserError as error:
        refuse(error)
    except OSError as error:
        about = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        refuse(f"{about}{error.strerror or error}")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which may not be loaded
            raise
        refuse(
            "the GPU's memory is full; end what else computes there, or give a smaller --batch-size (train: "
            "a larger --accumulate); what was saved is kept"
        )
    except OverflowError as error:
        refuse(f"a number is too large ({error})")
    finally:
        for end in ends:
            end.flush()
        sys.stdout, sys.stderr = before
        _silence(ends)
    if ends[0].failure is not None:
        exit_with(f"cannot write to standard output: {ends[0].failure}")


def _occupy_closed() -> None:
    """Open the closed ones of the descriptors 0 to 2, or the next file would get one and be printed into."""
    for wanted in range(3):
        try:
            os.fstat(wanted)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != wanted:
                os.dup2(opened, wanted)
                os.close(opened)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")


class End:
    """A stream that notes its first failure and then takes everything without a word."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.broken = False
        self.failure: str | None = None

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Any, *arguments: Any) -> None:
        if self.broken:
            return
        try:
            act(*arguments)
        except BrokenPipeError:
            self.broken = True
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self._try(act, arguments[0].encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self.broken, self.failure = True, error.strerror or str(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _silence(ends: Iterable[End]) -> None:
    """What a broken stream still holds must not fail once more when the process ends."""
    for end in ends:
        if end.broken:
            with suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, end.fileno())
                os.close(nowhere)


def _lines(text: str) -> str:
    return "\n".join(map(plain, text.split("\n"))) if "\n" in text else plain(text)
