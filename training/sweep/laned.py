"""Runs that take turns in a process of a GPU, from outside: each looks like a process of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from landscape.commandline.jobs import GRACE_SECONDS, last_line
from landscape.errors import UserError

TAKEN = 75  # the code of a run at which another process is
_READ_SECONDS = 1.0  # for what a process said before its end; what it started may keep the pipe open


def check_lanes(lanes: int, jobs: int, device: str) -> None:
    """Refuse `--lanes` where it can't work or means two things; UserError says what to give."""
    if lanes == 1:
        return
    if jobs != 1:
        raise UserError(f"--lanes {lanes} and --jobs {jobs} exclude each other; give one of them")
    if device == "cpu":
        raise UserError(f"--lanes {lanes}: of a GPU, and --device is cpu; give --jobs there")
    import torch  # takes seconds

    if not torch.cuda.is_available():
        raise UserError(f"--lanes {lanes}: of a GPU, and there is none here; give --jobs")


class LaneProcess:
    """A process of `training.sweep.lane_server`.

    Parameters
    ----------
    command
        Its command line.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._ends: dict[int, tuple[int, str]] = {}
        self._count, self._asked, self._words = 0, False, ""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # see `landscape.commandline.jobs.start`
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                encoding="utf-8",
                start_new_session=not group,
                creationflags=group,
            )
        except OSError as error:
            self._said.close()
            raise UserError(f"can't start {command[0]}: {error.strerror or error}") from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def give(self, words: Sequence[str], log: Path) -> Lane:
        """Order a run; its log must be free to be locked."""
        self._count += 1
        order = {"number": self._count, "words": list(words), "log": str(log.resolve())}
        with suppress(OSError):  # it has just ended: the lane says so
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        return Lane(self, self._count)

    @property
    def alive(self) -> bool:
        """Whether it takes orders."""
        return self.process.poll() is None

    def end(self, number: int) -> tuple[int, str] | None:
        """Exit code and, if known, why: by itself or with the process; None while it goes on."""
        if number not in self._ends and not self.alive:
            self._reader.join(_READ_SECONDS)  # what was answered until then counts
            code = self.process.returncode or 1
            return self._ends.get(number, (code, self.last_words() if code > 0 else ""))
        return self._ends.get(number)

    def stop(self, number: int) -> None:
        """Send it a signal, once: it stops all runs."""
        if not self._asked:
            self._asked = True
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, and wait for that."""
        self.process.kill()
        self.process.wait()

    def last_words(self) -> str:
        """The last line that it printed; empty where there is none."""
        if not self._said.closed:
            self._said.seek(0)
            self._words = last_line(self._said.read())
        return self._words

    def close(self) -> None:
        """Take nothing back and give nothing more: it ends as soon as its runs have, which is waited for."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(_READ_SECONDS)
        self.last_words()  # for those of its runs that weren't looked at yet
        self._said.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers, suppress(ValueError):  # cut in the middle of a line
            for line in answers:
                answer = json.loads(line)
                self._ends[int(answer["number"])] = int(answer["code"]), str(answer.get("told", ""))


class Lane:
    """One run of such a process, as `subprocess.Popen`, as far as `landscape.commandline.jobs` needs it.

    Attributes
    ----------
    returncode
        None while it waits or runs.
    told
        Why it failed, in a line; empty where its log alone says that.
    """

    def __init__(self, process: LaneProcess, number: int) -> None:
        self.returncode: int | None = None
        self.told = ""
        self._process, self._number = process, number

    def poll(self) -> int | None:
        """Its exit code; None while it waits or runs."""
        if self.returncode is None and (end := self._process.end(self._number)) is not None:
            self.returncode, self.told = end
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Ask all runs of the process to stop."""
        self._process.stop(number)

    def kill(self) -> None:
        """End the process."""
        self._process.kill()

    def wait(self) -> int | None:
        """Its exit code, once the process has ended."""
        return self.poll()
