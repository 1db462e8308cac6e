"""The page of surfaces that are still being computed: it refines itself while it is open.

A small server on this machine (`landscape.viewer.serve`) hands the ordinary page out, with one script more,
and tells it what changed. What is shown comes from the surface files, which are brought up to date every few
seconds and are always whole; so it makes no difference whether this process computes them or another one
does. Files are read only while a page is open, in a thread of its own that takes `SHARE` of the time at most.

Examples
--------
>>> from pathlib import Path
>>> with LivePage([Path("nothing.surface.h5")], port=0) as live:
...     live.address.startswith("http://127.0.0.1:")
True
"""

from __future__ import annotations

import html
import json
import os
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType

from landscape.commandline.console import leave, note
from landscape.progress import Listener, Progress
from landscape.surface import Surface, load_surface
from landscape.viewer import heading, render, source_hash, told_apart
from landscape.viewer.page_data import Json, numbered
from landscape.viewer.serve import PORT, Feed, LocalServer
from landscape.viewer.watched import Watched, stamp_of

TICK_SECONDS = 0.5  # between looks at the files and at the progress
SHARE = 0.05  # of the time that reading files may take
AGAIN = "setTimeout(() => location.reload(), 1000)"  # <meta http-equiv="refresh"> stops at a fragment
WAITING = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src '{hash}'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>{title}</title>
<body style="font: 16px/1.5 system-ui, sans-serif; margin: 18vh auto; max-width: 36em; padding: 0 1em">
<h1 style="font-size: 22px">{title}</h1><p>Waiting for the first points …</p><script>{again}</script>
"""


class LivePage:
    """Serves the page of surface files that may be unfinished, or not there yet, until the block ends.

    Parameters
    ----------
    paths
        The files, in the order shown.
    title
        Heading; default made from the surfaces.
    anew
        The files that are there now are about to be overwritten: don't show them.
    port
        Preferred port; any other where it is taken.
    """

    def __init__(
        self, paths: Sequence[Path], title: str | None = None, *, anew: bool = False, port: int = PORT
    ) -> None:
        self._slots = [Watched(path, stamp_of(path) if anew else None) for path in paths]
        self._title = title
        self._progress: Json = {"state": "computing", "name": "", "done": 0}
        self._ours = False  # whether this process computes, and tells more than the files do
        self._computing: tuple[int, Progress] | None = None
        self._feed = Feed()
        self._server = LocalServer(self._feed, self.page, port)
        self._reading, self._ended = Lock(), Event()
        self._read_at = 0.0
        self._labels: dict[int, str] = {}  # told so far
        self._finished = False
        self._tell(())
        self.address = self._server.address

    def __enter__(self) -> LivePage:
        self._server.start()
        Thread(target=self._watch, name="live page: files", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self._end("stopped")
        with suppress(Exception):  # as in _end
            self._feed.end()
            self._server.close()

    def announce(self, show: bool = False) -> None:
        """Say on standard error where the page is, and with `show` open it in the browser."""
        note(f"live page: {self.address}")
        if "SSH_CONNECTION" in os.environ or "SLURM_JOB_ID" in os.environ:
            port = self._server.port
            note(f"from elsewhere, first: ssh -L {port}:127.0.0.1:{port} {gethostname()}")
        if show:
            self._feed.expect_reader()
            with suppress(webbrowser.Error, OSError):
                webbrowser.open(self.address)

    def listener(self, number: int) -> Listener:
        """For the computation in this process of file `number` (from 0): takes its progress."""
        self._ours = True

        def told(state: Progress) -> None:
            self._computing = (number, state)

        return told

    def finish(self, surfaces: Sequence[Surface] = (), page: Path | None = None) -> None:
        """All is computed: open pages get the last state, and hear where the static `page` lies.

        The surfaces, one per path, save reading the files; without them these are read once more.
        """
        self._finished = True
        self._end("finished", surfaces, page)

    def wait(self) -> None:
        """Wait until every file is there and complete: for files that another process computes."""
        while True:
            self._refresh(patient=True)
            if all(slot.surface is not None and slot.surface.complete for slot in self._slots):
                return
            self._ended.wait(TICK_SECONDS)

    def page(self) -> str:
        """The document as of now."""
        self._refresh(patient=False)
        with self._reading:
            found = [number for number, slot in enumerate(self._slots) if slot.surface is not None]
            self._feed.expect_reader()  # the waiting page comes again by itself
            if not found:
                title = html.escape(self._title or "Loss landscape")
                return WAITING.format(title=title, again=AGAIN, hash=source_hash(AGAIN))
            live = {"version": self._feed.version, "slots": found, "title": self._heading()}
            return render(
                self._heading(), self._data() | {"live": live | {"progress": self._progress}}, live=True
            )

    def _watch(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            if self._feed.wanted:
                with suppress(Exception):  # the page shows the run: nothing of it may end the run
                    self._refresh(patient=True)

    def _refresh(self, *, patient: bool) -> None:
        """Tell the feed what is new; if patient, leave the files alone until it is their time."""
        with self._reading:
            began = monotonic()
            read = began >= self._read_at or not patient
            new = [number for number, slot in enumerate(self._slots) if read and slot.read()]
            if read:
                self._read_at = began + (monotonic() - began) / SHARE
            if self._progress["state"] == "computing":
                self._progress = {"state": "computing", **self._progress_now()}
            self._tell(new)

    def _tell(self, new: Iterable[int]) -> None:
        new = set(new)
        entries = self._entries() if new else {}
        labels = {number: str(entry["label"]) for number, entry in entries.items()}
        told: Json = {
            f"surface-{number}": entry
            for number, entry in entries.items()
            if number in new or labels[number] != self._labels.get(number)
        }
        if told:
            self._labels = labels
            told |= {"columns": self._data()["columns"], "title": self._heading()}
        told["progress"] = self._progress
        self._feed.put({name: json.dumps(value, allow_nan=False) for name, value in told.items()})

    def _end(self, state: str, surfaces: Sequence[Surface] = (), page: Path | None = None) -> None:
        """Tell the last there is to tell; the surfaces only if there is anybody to see them."""
        self._ended.set()
        try:
            if self._feed.wanted:
                self._refresh(patient=False)
            else:
                surfaces = ()
            with self._reading:
                for slot, surface in zip(self._slots, surfaces, strict=False):
                    slot.show(surface, stamp_of(slot.path))
                self._progress = {"state": state, "page": None if page is None else str(page)}
                self._tell(range(len(surfaces)))
        except Exception as error:  # the page shows the run: nothing of it may end the run
            note(f"the live page couldn't be brought up to date: {error}")

    def _shown(self) -> list[Surface]:
        """What is there, under the labels that the static page would give."""
        slots = [slot for slot in self._slots if slot.surface is not None]
        return told_apart([slot.path for slot in slots], [slot.surface for slot in slots if slot.surface])

    def _heading(self) -> str:
        return self._title or heading(self._shown())

    def _entries(self) -> dict[int, Json]:
        """What the page is told of each surface, by the number of its slot."""
        numbers = [number for number, slot in enumerate(self._slots) if slot.surface is not None]
        surfaces = self._shown()
        for number, surface in zip(numbers, surfaces, strict=True):
            self._slots[number].call(surface)
        return {
            number: self._slots[number].data["surfaces"][0] | {"label": label}
            for number, label in zip(numbers, numbered(surfaces), strict=True)
        }

    def _data(self) -> Json:
        """As `payload` of all surfaces together."""
        entries = self._entries()
        shown = [self._slots[number].data for number in entries]
        columns = dict.fromkeys(name for one in shown for name in one["columns"])
        return shown[0] | {"columns": list(columns), "surfaces": list(entries.values())}

    def _progress_now(self) -> Json:
        if not self._ours:
            return self._progress_of_files()
        if self._computing is None:
            return {}
        number, state = self._computing
        return {
            "name": self._slots[number].path.name.removesuffix(".h5").removesuffix(".surface"),
            "number": number + 1,
            "of": len(self._slots),
            "done": state.done,
            "expected": state.expected,
            "plane": state.plane,
            "planes": state.planes,
            "error": state.error if 0 <= state.error < float("inf") else None,
            "left": max(0, state.expected - state.done) * state.seconds_per_point,
        }

    def _progress_of_files(self) -> Json:
        surfaces = [slot.surface for slot in self._slots if slot.surface is not None]
        of, complete = len(self._slots), sum(surface.complete for surface in surfaces)
        return {
            "name": f"{complete} of {of} files complete" if of > 1 else "",
            "done": sum(int(plane.computed.sum()) for surface in surfaces for plane in surface.planes),
            "changed": max(
                (slot.stamp[1] / 1e9 for slot in self._slots if slot.stamp is not None), default=0
            ),
        }


def follow(paths: Sequence[Path], title: str | None, show: bool, write: Callable[[], Path]) -> None:
    """Serve the page of files that other processes compute, until all are complete.

    Parameters
    ----------
    paths, title
        As for `LivePage`.
    show
        Open the page in the browser.
    write
        Writes the static page at the end, and says where.

    Raises
    ------
    UserError
        When a file is there, but no surface file; or from `write`.
    SystemExit
        With 128 and the signal's number when stopped.
    """
    for path in paths:
        if path.exists():
            load_surface(path)
    try:
        with LivePage(paths, title) as live:
            live.announce(show)
            live.wait()
            live.finish(page=write())
    except KeyboardInterrupt as error:
        leave(error, "; the files are as their writers left them")
