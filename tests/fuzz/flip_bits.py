"""Flip single random bits in files of every kind and count what their readers make of it.

``python tests/fuzz/flip_bits.py [KIND …] [--flips 1000] [--seed 0]``: exit code 1 when any flip gives other
values without a word, a traceback, a hang or a crash. The kinds are those in the ``KINDS`` of the modules
``kinds_*.py`` beside this one: functions that make a good file in a folder and return it with its reader.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flips import survey

Make = Callable[[Path], tuple[Path, Callable[[Path], object]]]


def kinds() -> dict[str, Make]:
    """Every kind of file by name."""
    found: dict[str, Make] = {}
    for file in sorted(Path(__file__).parent.glob("kinds_*.py")):
        found |= importlib.import_module(file.stem).KINDS
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the survey of each kind; returns the exit code."""
    known = kinds()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--flips", type=int, default=1000, help="bits per kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which bits (default: %(default)s)")
    options = parser.parse_args(arguments)
    unknown = set(options.kinds) - set(known)
    if unknown:
        parser.error(f"unknown kind {min(unknown)}; known: {', '.join(known)}")
    bad = False
    for kind in options.kinds or known:
        with tempfile.TemporaryDirectory() as folder:
            path, read = known[kind](Path(folder))
            started = time.perf_counter()
            found = survey(path, read, options.flips, seed=options.seed, isolated=True)
            size, seconds = path.stat().st_size, time.perf_counter() - started
        print(f"{kind} ({size} bytes): {found}; {seconds:.0f} s")
        print("".join(f"  {line}\n" for line in found.faults), end="")
        bad |= bool(found.faults)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
