"""Commands that run others, here and in a worker, asked to stop."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from landscape.commandline.claims import claim
from landscape.commandline.elsewhere import run_there
from landscape.commandline.jobs import start


@pytest.mark.parametrize(
    ("here", "ended_by"), [(signal.default_int_handler, signal.SIGINT), (signal.SIG_IGN, signal.SIGTERM)]
)
def test_a_job_of_the_background_is_asked_too(tmp_path: Path, here: object, ended_by: signal.Signals) -> None:
    """A shell's ``&`` and nohup leave Ctrl-C ignored, here and in what is started from here."""
    before = signal.signal(signal.SIGINT, here)  # type: ignore[arg-type]
    try:
        log = tmp_path / "job.log"
        descriptor = claim(log)
        assert descriptor is not None
        process = start(None, log, descriptor, ["sleep", "60"], 0.0)
        process.interrupt()
        assert process.process.wait() == -ended_by
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("here", "ended_by"), [(signal.default_int_handler, signal.SIGINT), (signal.SIG_IGN, signal.SIGTERM)]
)
def test_a_worker_of_the_background_asks_too(tmp_path: Path, here: object, ended_by: signal.Signals) -> None:
    before = signal.signal(signal.SIGINT, here)  # type: ignore[arg-type]
    try:
        (tmp_path / ".job.log.stop").touch()
        found = run_there(["sleep", "60"], str(tmp_path / "job.log"), str(tmp_path), prints=False)
        assert found == -ended_by
    finally:
        signal.signal(signal.SIGINT, before)
