"""Where work goes: one group of options, with one meaning for every command whose work has many parts."""

# Annotations are objects here (no ``from __future__``); see `landscape.commandline.options`.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from landscape.commandline.console import note
from landscape.commandline.options import at_least, shown, whole
from landscape.errors import UserError

if TYPE_CHECKING:
    from landscape.workers.cluster import Cluster

CLUSTER = Group("Workers", sort_key=8)


@Parameter(name="*", group=CLUSTER)
@dataclass(frozen=True)
class ClusterOptions:
    """Who computes: this process by default. Results are the same bits (needs the extra `cluster`)."""

    scheduler: Annotated[str | None, shown("none")] = None
    """Workers of a running Dask cluster: `tcp://HOST:PORT`, or the file that `dask scheduler
    --scheduler-file FILE.json` writes. Only of one that you trust: its messages can run code here."""

    workers: Annotated[int | None, shown("none", converter=whole)] = None
    """So many processes on this machine, of one CPU thread each (`--threads` gives them more), gone in the
    end."""

    devices: Annotated[str | None, shown("none")] = None
    """A process on this machine for each of these GPUs: `all`, or numbers as in `0,2`."""

    @property
    def used(self) -> bool:
        """Whether work goes to workers."""
        return self.scheduler is not None or self.workers is not None or self.devices is not None

    @property
    def words(self) -> list[str]:
        """The same for another command's line."""
        told = {"scheduler": self.scheduler, "workers": self.workers, "devices": self.devices}
        return [f"--{name}={value}" for name, value in told.items() if value is not None]

    def check_jobs(self, jobs: int, lanes: int, device: str) -> None:
        """As `check`, for a command that starts others: as many at a time as there are workers."""
        self.check(device)
        for name, count in (("jobs", jobs), ("lanes", lanes)):
            if count < 1:
                raise UserError(f"--{name} {count}: expected 1 or more")
            if self.used and count != 1:
                given = self.words[0].partition("=")[0]
                raise UserError(f"--{name} {count} and {given} exclude each other; give one of them")

    def check(self, device: str = "auto") -> None:
        """Refuse what can't work or means two things; UserError names the option.

        Parameters
        ----------
        device
            What `--device` says.
        """
        names = ("scheduler", "workers", "devices")
        given = [f"--{name}" for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} exclude each other; give one of them")
        at_least("--workers", self.workers, 1)
        if self.devices is None:
            return
        if device not in ("auto", "cuda"):
            raise UserError(f"--devices gives each worker its GPU; leave out --device {device}")
        words = self.devices.split(",")
        if self.devices != "all" and not all(word.isascii() and word.isdigit() for word in words):
            raise UserError(f"--devices {self.devices}: expected all, or numbers such as 0,2")
        if len(set(map(int, words if self.devices != "all" else ()))) < len(words) * (self.devices != "all"):
            raise UserError(f"--devices {self.devices}: expected each number once")


@contextmanager
def working(options: ClusterOptions, threads: int | None = None) -> Iterator["Cluster | None"]:
    """The workers that the options name, for a command; None for this process.

    Parameters
    ----------
    options
        Checked.
    threads
        What `--threads` says: of each local worker.

    Raises
    ------
    UserError
        When they can't be had.
    """
    if not options.used:
        yield None
        return
    from landscape.workers.cluster import connected
    from landscape.workers.local import local_cluster

    if options.scheduler is not None:
        with connected(options.scheduler) as cluster:
            some = f"{cluster.width()} threads of workers" if cluster.there(now=True) else "no worker yet"
            note(f"{some} at {options.scheduler}")
            yield cluster
        return
    devices = _devices(options.devices) if options.devices is not None else ()
    with local_cluster(options.workers or len(devices), threads=threads or 1, devices=devices) as cluster:
        yield cluster


def _devices(chosen: str) -> list[int]:
    """Numbers of the GPUs; UserError for one that isn't there."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UserError(f"--devices {chosen}: no GPU is found on this machine; use --workers N for its cores")
    numbers = list(range(count)) if chosen == "all" else [int(word) for word in chosen.split(",")]
    for number in numbers:
        if number >= count:
            there = "GPU 0 is" if count == 1 else f"GPUs 0 to {count - 1} are"
            raise UserError(f"--devices {chosen}: only {there} here")
    return numbers
