"""Commands in processes that are forked from one that has loaded everything: a start costs milliseconds.

What a command starts itself (a sweep its trainings, a reproduction all others) is forked, too, so that whole
sweeps can be killed by the hundred.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from landscape.keeping.signals import stop_at_once

MODULES = (
    *("torch._dynamo", "torchvision", "scipy.interpolate", "scipy.spatial", "h5py", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "mpl_toolkits.mplot3d"),
    *("landscape.surface.__main__", "landscape.surface.surface_report", "landscape.viewer.__main__"),
    *("landscape.compute", "landscape.sparse.batch", "training.__main__", "training.loop"),
    *("training.photographs", "training.sweep.__main__", "figures.__main__", "figures.reproduce.__main__"),
    *("figures.compare", "analysis.hessian.__main__", "analysis.sharpness.__main__"),
    *("analysis.curvature.__main__", "analysis.connectivity.__main__", "analysis.robustness.__main__"),
    *("analysis.compare.__main__", "analysis.roughness.__main__", "analysis.robustness.measuring"),
)
"""What takes long to load."""


def warm() -> None:
    """Load what commands load."""
    for name in MODULES:
        importlib.import_module(name)
    import sharpscape
    from landscape.viewer import _plotly

    _plotly()  # packs Plotly's four megabytes
    sharpscape.version()  # which results carry; a commit meanwhile would change it


@dataclass(frozen=True)
class Ended:
    """How a process ended; `code` is minus the signal's number where one ended it."""

    code: int
    out: str
    err: str

    @property
    def wrong(self) -> str:
        """What of it is no proper end; "" where the code is a known one, with one line for an error."""
        last = (self.err.splitlines() or [""])[-1]
        if "Traceback" in self.err:
            return self.err[-1500:]
        if self.code == 2 and not last.startswith("error: "):
            return f"code 2 without a line: {self.err[-500:]!r}"
        return "" if self.code in (0, 1, 2, 3, 129, 130, 143) else f"code {self.code}: {self.err[-500:]!r}"


class Running:
    """A command in a forked process, in a folder of its own, what it prints in files beside that folder."""

    def __init__(
        self,
        module: str,
        words: Sequence[str],
        folder: Path,
        inside: Callable[[ExitStack], object] = lambda stack: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._prints = [folder.with_name(f"{folder.name}.{one}") for one in ("out", "err")]
        self.pid = _forked()
        if not self.pid:
            _become(module, words, folder, self._prints, inside)

    def signal(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def ended(self) -> Ended:
        """Wait for its end."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        out, err = (one.read_text(encoding="utf-8", errors="replace") for one in self._prints)
        return Ended(code, out, err)


def _forked() -> int:
    """As `os.fork`; signals wait until the command listens to them, as one does from its first moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become(
    module: str,
    words: Sequence[str],
    folder: Path,
    prints: Sequence[Path],
    inside: Callable[[ExitStack], object],
) -> None:
    """In the child: never returns."""
    code = 70
    try:
        _alone()
        os.chdir(folder)
        for number, path in enumerate(prints, 1):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
        with ExitStack() as stack:
            stack.enter_context(patch.object(subprocess, "Popen", forked_or_started))
            inside(stack)
            code = command(module, words)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _alone() -> None:
    """What a fresh process would have: usual signals, one thread, streams on the descriptors."""
    import torch

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
    torch.set_num_threads(1)  # a pool of threads doesn't survive a fork
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def command(module: str, words: Sequence[str]) -> int:
    """Run it in this process; its exit code."""
    sys.argv[:] = [module, *words]
    stop_at_once("give the same command to go on")  # as `sharpscape` does while it loads modules
    try:
        entry(module)(list(words))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def entry(module: str) -> Callable[[list[str]], object]:
    """What ``python -m MODULE`` calls."""
    if module == "figures":
        from figures.__main__ import PRODUCTS, main

        return lambda words: main(PRODUCTS, words)
    found = importlib.import_module(module)
    return (importlib.import_module(f"{module}.__main__") if hasattr(found, "__path__") else found).main  # type: ignore[no-any-return]


_started: type[subprocess.Popen[Any]] = subprocess.Popen


def forked_or_started(line: Sequence[str], **options: Any) -> Any:
    """In the place of `subprocess.Popen`: ``python -m MODULE …`` of ours is forked."""
    words = [str(one) for one in line]
    if "-m" in words and words[0] == sys.executable:
        at = words.index("-m")
        return Forked(words[at + 1], words[at + 2 :], options)
    return _started(line, **options)


class Forked:
    """As much of a `subprocess.Popen` as sweeps and reproductions use."""

    def __init__(self, module: str, words: Sequence[str], options: Mapping[str, Any]) -> None:
        self.args, self.returncode = [module, *words], None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = _forked()
        if self.pid:
            return
        code = 70
        try:
            if options.get("start_new_session"):
                os.setsid()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for number, wanted in ((1, options.get("stdout")), (2, options.get("stderr"))):
                if wanted is not None:
                    os.dup2(nowhere if wanted == subprocess.DEVNULL else wanted, number)
            _alone()
            code = command(module, words)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        while self.poll() is None:
            time.sleep(0.005)
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """By SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()
