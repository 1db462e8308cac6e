"""Single flipped bits in a file, and what a reader makes of each: the right values, one line, or a fault.

``flip_bits.py`` runs it at length; tests run fewer flips. `survey` knows nothing of any
kind of file: it takes a function that reads one and returns what has to stay the same.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from landscape.errors import UserError

READ_SECONDS = 30.0
FAULTS = ("silent", "traceback", "hang", "crash")


@dataclass
class Survey:
    """Bits by outcome.

    ``right``: read as before. ``refused``: a UserError of one line. ``silent``: other values without a word.
    ``traceback``: another exception, or several lines. ``hang``: no end within the time. ``crash``: a signal.
    """

    bits: dict[str, list[int]] = field(default_factory=dict)
    messages: dict[int, str] = field(default_factory=dict)

    def note(self, bit: int, outcome: str, message: str) -> None:
        self.bits.setdefault(outcome, []).append(bit)
        self.messages[bit] = message

    @property
    def faults(self) -> list[str]:
        """A line for each flip that ended in anything but the right values or one line."""
        return [
            f"bit {bit}: {kind} {self.messages[bit]}" for kind in FAULTS for bit in self.bits.get(kind, [])
        ]

    def __str__(self) -> str:
        return ", ".join(f"{len(bits)} {kind}" for kind, bits in sorted(self.bits.items()))


def survey(
    original: Path,
    read: Callable[[Path], object],
    flips: int,
    *,
    seed: int = 0,
    isolated: bool = False,
    seconds: float = READ_SECONDS,
) -> Survey:
    """Flip `flips` random bits of a file, each in a fresh copy beside it, and read every copy.

    Parameters
    ----------
    original
        A good file. The copy has its name in a folder ``flipped`` beside it.
    read
        Reads the copy; its return value's ``==`` with the original's decides about "right".
    isolated
        Read each copy in a forked process, which may hang or crash; needs `os.fork`.
    """
    whole = original.read_bytes()
    folder = original.parent / "flipped"
    folder.mkdir(exist_ok=True)
    copy = folder / original.name
    copy.write_bytes(whole)
    wanted = read(copy)
    found = Survey()
    draw = random.Random(seed)
    for bit in draw.sample(range(8 * len(whole)), min(flips, 8 * len(whole))):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        copy.write_bytes(changed)
        outcome, message = (_forked if isolated else _judged)(copy, read, wanted, seconds)
        found.note(bit, outcome, message)
    return found


def _judged(
    copy: Path, read: Callable[[Path], object], wanted: object, seconds: float = 0.0
) -> tuple[str, str]:
    try:
        same = read(copy) == wanted
    except UserError as error:
        return ("traceback" if "\n" in str(error) else "refused"), str(error)
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return ("right" if same else "silent"), ""


def _forked(copy: Path, read: Callable[[Path], object], wanted: object, seconds: float) -> tuple[str, str]:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        os.write(sending, "\0".join(_judged(copy, read, wanted)).encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(sending)
    until = time.monotonic() + seconds
    done, status = 0, 0
    while not done and time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            time.sleep(0.002)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    text = os.read(receiving, 4000).decode("utf-8", "replace")
    os.close(receiving)
    if not done:
        return "hang", f"no end within {seconds:g} s"
    if os.WIFSIGNALED(status):
        return "crash", f"signal {os.WTERMSIG(status)}"
    outcome, _, message = text.partition("\0")
    return outcome or "crash", message
