"""Whatever stops the command, the file is whole, and the same command ends with the same bits."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from command import save_images, save_network, slow_linear, start, start_child, surface

from landscape.engine import Engine
from landscape.surface import load_surface

QUIET = ["--data", "npz:images.npz", "--examples", "10", "--threads", "1", "--no-page", "--no-plot"]
SMALL = ["net.pt", *QUIET, "--points", "3"]
ADAPTIVE = ["net.pt", *QUIET, "--points", "11"]
SLOW = ["linear.pt", "--model", "command:slow_linear", *QUIET, "--points", "9", "--exact"]
KILLS = 12


def prepared(folder: Path) -> Path:
    """A folder with a network, a slow one and data."""
    folder.mkdir()
    save_network(folder / "net.pt")
    torch.save(slow_linear().state_dict(), folder / "linear.pt")
    save_images(folder / "images.npz")
    return folder


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where uninterrupted runs happen."""
    return prepared(tmp_path_factory.mktemp("whole") / "origin")


@pytest.fixture
def place(origin: Path, tmp_path: Path) -> Path:
    """A folder with the same inputs."""
    for name in ("net.pt", "linear.pt", "images.npz"):
        (tmp_path / name).symlink_to(origin / name)
    return tmp_path


def everything(path: Path) -> dict[str, Any]:
    """Every dataset's bytes and every attribute but the provenance, read by plain h5py."""
    found: dict[str, Any] = {}

    def add(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = (node.dtype.str, node.shape, node[()].tobytes())
        found.update({f"{name}@{key}": repr(value) for key, value in node.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(add)
        found |= {key: file.attrs[key] for key in ("settings", "complete")}
    return found


def points(path: Path) -> int:
    """Evaluated points in a file that must be readable."""
    assert everything(path)
    return sum(int(plane.computed.sum()) for plane in load_surface(path).planes)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def state_of(path: Path) -> tuple[int, int] | None:
    """What changes whenever a file is replaced."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def wait_for_change(path: Path, before: tuple[int, int] | None, child: ForkServerProcess) -> None:
    while state_of(path) == before and child.is_alive():
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_a_dozen_times_it_ends_with_the_same_bits(origin: Path, place: Path) -> None:
    arguments = [*ADAPTIVE, "--planes", "2", "--split", "both"]
    assert surface(*arguments, folder=origin).code == 0
    folder, target = place / "surfaces", place / "surfaces" / "net.surface.h5"
    draw, before, killed_at_work = random.Random(0), 0, 0
    for number in range(KILLS):
        earlier = state_of(target)
        child = start_child(*arguments, folder=place, pause=0.02)
        if number % 4:  # somewhere in the work; the others anywhere, starting included
            wait_for_change(target, earlier, child)
        time.sleep(draw.uniform(0.0, 0.2))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, (place / "child.err").read_text()
        if target.exists():
            found = points(target)
            assert found >= before
            killed_at_work += found > before
            before = found
    assert killed_at_work >= KILLS // 2
    assert len(leftovers(folder)) <= KILLS
    assert not load_surface(target).complete
    last = surface(*arguments, folder=place)
    assert last.code == 0
    assert f"is there, with {before} computed points" in last.err
    assert everything(target) == everything(origin / "surfaces" / "net.surface.h5")


def test_temporary_files_of_dead_runs_are_swept(place: Path) -> None:
    folder = place / "surfaces"
    folder.mkdir()
    names = [".net.surface.h5.0a1b2c3d.tmp", ".net.html.0a1b2c3d.tmp", ".other.png.0a1b2c3d.tmp"]
    for name in [*names, ".net.png.00000000.tmp"]:
        (folder / name).write_bytes(b"half")
    for name in names:
        os.utime(folder / name, (0, 0))
    assert surface(*SMALL, folder=place).code == 0
    # What may belong to a living run stays, and so does another surface's.
    assert {path.name for path in leftovers(folder)} == {names[2], ".net.png.00000000.tmp"}


def interrupted(running: subprocess.Popen[str], target: Path) -> tuple[int, str]:
    while not target.exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    return running.returncode, err


@pytest.mark.slow
def test_ctrl_c_says_where_it_stopped_and_how_to_go_on(origin: Path, place: Path) -> None:
    target = place / "surfaces" / "linear.surface.h5"
    code, err = interrupted(start(*SLOW, folder=place), target)
    assert code == 130, err
    found = points(target)
    assert 0 < found < 81
    assert err.splitlines()[-1] == (
        f"stopped by Ctrl-C after {found} of about 81 points; surfaces/linear.surface.h5 keeps what was "
        "computed; give the same command to go on"
    )
    assert "Traceback" not in err
    assert surface(*SLOW, folder=place).code == 0
    assert surface(*SLOW, folder=origin).code == 0
    assert everything(target) == everything(origin / "surfaces" / "linear.surface.h5")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_batch_systems_and_a_terminals_end_are_like_ctrl_c(place: Path, number: signal.Signals) -> None:
    target = place / "surfaces" / "net.surface.h5"
    child = start_child(*ADAPTIVE, "--overwrite", folder=place, pause=0.05)
    wait_for_change(target, None, child)
    assert child.pid is not None
    os.kill(child.pid, number)
    child.join()
    err = (place / "child.err").read_text()
    assert child.exitcode == 128 + number, err
    assert f"stopped by {number.name} after {points(target)} of about" in err
    assert err.splitlines()[-1].endswith("give the same command without --overwrite to go on")
    assert leftovers(target.parent) == []


def test_stopped_before_the_first_point(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "evaluate", stop)
    outcome = surface(*ADAPTIVE, folder=place)
    assert outcome.code == 130
    last = outcome.err.splitlines()[-1]
    assert last == "stopped by Ctrl-C before the first new point; give the same command to go on"
    monkeypatch.setattr("landscape.checkpoint.load_checkpoint", stop)
    outcome = surface(*ADAPTIVE, folder=place)
    assert (outcome.code, outcome.err) == (130, "stopped by Ctrl-C; give the same command to go on\n")
    assert list((place / "surfaces").iterdir()) == []


def test_a_quota_leaves_the_earlier_file_whole(place: Path) -> None:
    assert surface(*SMALL, folder=place).code == 0
    target = place / "surfaces" / "net.surface.h5"
    earlier = target.read_bytes()
    child = start_child(*ADAPTIVE, "--overwrite", folder=place, pause=0.0, file_limit=len(earlier) // 2)
    child.join()
    assert child.exitcode == 2
    assert (place / "child.err").read_text().splitlines()[-1] == (
        "error: cannot write surfaces/net.surface.h5: File too large; the earlier net.surface.h5 is "
        "unchanged; free space or choose another path"
    )
    assert target.read_bytes() == earlier
    assert leftovers(target.parent) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system; the quota test covers the same")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"can't mount a small file system here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_in_one_line(place: Path, small_disk: Path) -> None:
    assert surface(*SMALL, "-o", small_disk, folder=place).code == 0
    target = small_disk / "net.surface.h5"
    earlier = target.read_bytes()
    with contextlib.suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1024))
    outcome = surface(*ADAPTIVE, "-o", small_disk, "--overwrite", folder=place)
    assert f"cannot write {target}: {os.strerror(errno.ENOSPC)}" in outcome.error
    assert "the earlier net.surface.h5 is unchanged" in outcome.error
    assert target.read_bytes() == earlier
    assert leftovers(small_disk) == []
