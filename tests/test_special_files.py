"""Pipes, devices and folders where a file is expected: none is waited for, read without end or replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from analysis.compare.read import read_results
from analysis.hessian.spectrum_file import load_spectrum
from analysis.sharpness.sharpness_file import load
from figures.measures import _sharpness
from figures.reproduce.scale import load_scale
from landscape.errors import UserError
from landscape.files import atomic_path, read_text
from landscape.files.archives import read_npz
from landscape.files.runs_table import read_runs
from landscape.images.prepare import Preparation, decode
from landscape.surface import load_surface
from training.checkpoint import RunFolder
from training.sweep.status import Runs

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
READERS: dict[str, Callable[[Path], object]] = {
    "scale.toml": lambda path: load_scale(str(path)),
    "data.npz": lambda path: read_npz(path, ("train_x",)),
    "results.csv": lambda path: read_runs(path, "remove it"),
    "sharpness.csv": lambda path: _sharpness(path, "run"),
    "sharpness.json": load,
    "results.json": read_results,
    "picture.png": lambda path: decode(path, Preparation((8, 8), (8, 8))),
    "net.surface.h5": load_surface,
    "net.hessian.h5": load_spectrum,
    "run.json": lambda path: RunFolder(path.parent, {}).claim(),
    "settings of run.json": lambda path: Runs(path.parents[1]).settings(path.parent.name),
}


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """An alarm for what would wait for ever."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("waited")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("name", READERS)
def test_nobody_waits_at_a_pipe(name: str, tmp_path: Path) -> None:
    path = tmp_path / name.rpartition(" ")[2]
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"(?i)not a regular file"):
        READERS[name](path)


@pytest.mark.parametrize("name", ["results.json", "net.surface.h5", "data.npz", "results.csv"])
def test_a_folder_is_called_one(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.mkdir()
    with pytest.raises(UserError, match=r"(?i)is a directory"):
        READERS[name](path)


def test_a_device_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "endless.json"
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="Not a regular file"):
        load(path)


def test_text_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text("x" * 2_000_000)
    with pytest.raises(OSError, match="Larger than 1024 KiB"):
        read_text(path, 1 << 20)


def test_an_output_replaces_files_only(tmp_path: Path) -> None:
    """Renamed over it, a file would take the place of the device for every program of the machine."""
    pipe, folder = tmp_path / "pipe.csv", tmp_path / "folder.csv"
    os.mkfifo(pipe)
    folder.mkdir()
    (device := tmp_path / "null.csv").symlink_to(os.devnull)
    for target in (pipe, folder, device):
        before = os.lstat(target)
        with (
            pytest.raises(UserError, match=r"it is (a folder|a pipe|a device|a socket)"),
            atomic_path(target) as new,
        ):
            new.write_text("x")
        assert os.lstat(target).st_ino == before.st_ino
    assert sorted(tmp_path.iterdir()) == sorted([pipe, folder, device])


def test_an_output_replaces_a_link_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    (link := tmp_path / "link.csv").symlink_to("old.csv")
    with atomic_path(link) as new:
        new.write_text("new")
    assert link.read_text() == "new"
