"""Commands that are killed, stopped and failed at random moments, until their files are as they should be."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from file_faults import fault
from forking import Ended, Running
from operation_faults import FAULTS, Survey, after, finished, hasty
from tiny_commands import WORKS, Work, prepare, words_of

MOST_FAULTS = 6  # of one piece of work, before it may end
FROM_OUTSIDE = {"SIGKILL": signal.SIGKILL, "SIGTERM outside": signal.SIGTERM, "SIGINT": signal.SIGINT}
EVERY = (*FROM_OUTSIDE, "full once", "full", "over quota", "broken disk", "read-only", "SIGTERM")


@dataclass
class Tally:
    """What was done: pieces of work that were finished, faults that met one by kind, and what went wrong."""

    finished: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    wrong: list[str] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "finished": dict(self.finished),
            "faults": dict(self.faults),
            "came too late": self.missed,
            "wrong": self.wrong,
        }


class Mixed:
    """Pieces of work in turn, each met by faults.

    Parameters
    ----------
    inputs, folder
        What commands read, and where they work.
    names
        Of the commands.
    kinds
        Of the faults.
    seed
        Of everything that is drawn.
    """

    def __init__(
        self, inputs: Path, folder: Path, names: Sequence[str], kinds: Sequence[str], seed: int
    ) -> None:
        self.inputs, self.folder, self.names, self.kinds = inputs, folder, names, kinds
        self.draw, self.tally = random.Random(seed), Tally()
        self.seconds = dict[str, float]()
        began = time.monotonic()
        self.survey = Survey(inputs, folder / "whole", names)
        for name in names:
            self.seconds[name] = (time.monotonic() - began) / len(names)

    def run(self, until: float, faults: int) -> Tally:
        """Until a time on the monotonic clock, or so many faults."""
        number = 0
        while time.monotonic() < until and self.tally.faults.total() < faults:
            self._piece(self.names[number % len(self.names)], self.folder / f"{number}")
            number += 1
        return self.tally

    def _piece(self, name: str, here: Path) -> None:
        """One piece of work from its beginning to its end."""
        work, known = WORKS[name], 0
        for _ in range(self.draw.randint(1, MOST_FAULTS)):
            kind = self.draw.choice(self.kinds)
            ended = self._met(name, work, here, kind)
            bad = after(ended, "killed" if kind == "SIGKILL" else kind, here / "out")
            now = kept(here / "out")
            bad += [f"{known - now} lost of {known}"] if now < known else []
            known = now
            self._note(name, kind, bad)
        began = time.monotonic()
        bad = finished(work, self.inputs, here, self.survey.wanted[name])
        self.seconds[name] = 0.8 * self.seconds[name] + 0.2 * (time.monotonic() - began)
        self._note(name, "none", bad)
        self.tally.finished[name] += 1
        if bad:
            here.rename(here.with_name(f"wrong-{here.name}"))
        else:
            shutil.rmtree(here)

    def _met(self, name: str, work: Work, here: Path, kind: str) -> Ended:
        """How it ends under a fault."""
        at = self.draw.randint(1, self.survey.counts[name])
        after_seconds = self.draw.uniform(0.0, 1.1 * self.seconds[name])
        chosen = FAULTS.get(kind)

        def inside(stack: ExitStack) -> None:
            hasty(stack)
            if chosen is not None:
                stack.enter_context(fault(at, chosen.act, chosen.onwards))

        running = Running(work.module, words_of(work, self.inputs), prepare(work, self.inputs, here), inside)
        sender = None
        if kind in FROM_OUTSIDE:
            sender = threading.Timer(after_seconds, _send, [running.pid, FROM_OUTSIDE[kind]])
            sender.start()
        try:
            ended = running.ended()
        finally:
            if sender is not None:
                sender.cancel()
                sender.join()
        if ended.code:
            self.tally.faults[kind] += 1
        else:
            self.tally.missed += 1
        return ended

    def _note(self, name: str, kind: str, bad: Sequence[str]) -> None:
        self.tally.wrong += [f"{name}, {kind}: {one}" for one in bad]


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kept(folder: Path) -> int:
    """Points, products, answers and epochs that the files below a folder hold; no fault may lower it."""
    from analysis.hessian.keeper import SpectrumForm
    from analysis.hessian.spectrum_file import load_spectrum
    from analysis.robustness.robustness_file import read
    from landscape.surface import load_surface

    count = 0
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            continue
        if path.name.endswith(".surface.h5"):
            found = load_surface(path)
            count += sum(int(plane.computed.sum()) for plane in found.planes) + _mapped(found.about)
        elif path.name.endswith(".hessian.h5"):
            count += load_spectrum(path).products
        elif path.name.endswith(".hessian.h5.partial") and not path.with_suffix("").exists():
            count += int(SpectrumForm().read_state(path)[1]["products"][0])
        elif path.name.endswith(".robustness.h5"):
            count += int(read(path).done.sum())
        elif path.name == "metrics.jsonl":
            count += len(path.read_text().splitlines())
        elif path.name.endswith((".json", "final.pt")):
            count += 1
    return count


def _mapped(about: Any) -> int:
    """Points of the curvature maps in a surface file."""
    maps = about.get("curvature", {})
    return sum(len(plane.get("points", [])) for split in maps.values() for plane in split.values())


def save(content: object, path: Path) -> None:
    """A small JSON file."""
    from landscape.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
