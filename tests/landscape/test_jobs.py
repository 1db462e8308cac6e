"""Commands that run others, asked to stop."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from landscape.commandline.claims import claim
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
