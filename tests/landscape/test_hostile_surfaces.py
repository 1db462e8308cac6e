"""Surface files from strangers: whatever HDF5 can do besides holding numbers is refused in one line."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile_results import SECRET, edited, surface_cases

from analysis.roughness import roughness
from landscape.errors import UserError
from landscape.hdf5 import read
from landscape.hdf5.seal import LENGTH
from landscape.surface import Metric, Plane, Split, Surface, load_surface
from landscape.surface.glance import cells_of, one_line
from landscape.surface.summary import metrics
from landscape.viewer.page_data import payload


def small() -> Surface:
    loss = Metric(np.ones((3, 2)), np.zeros((3, 2)), 0.0, np.ones((3, 2, 4)))
    accuracy = Metric(np.full((3, 2), 0.5), np.zeros((3, 2)), 0.0)
    split = Split(4, {"loss": loss, "accuracy": accuracy}, np.ones(4, np.int64))
    plane = Plane({"seed": 0}, np.ones((3, 2), bool), {"test": split})
    return Surface(np.arange(3.0) - 1, np.arange(2.0), (plane,), {"points": 3}, {"label": "net"})


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret").write_bytes(SECRET)
    with h5py.File(folder / "secret.h5", "w") as file:
        file["values"] = np.frombuffer(SECRET[:480], np.float64)
    return small().save(folder / "good.surface.h5")


CASES = surface_cases(Path("secret"))


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 150


@pytest.mark.parametrize("case", CASES)
def test_hostile_file_is_refused(good: Path, case: str) -> None:
    target = edited(good, good.with_name("bad.surface.h5"), surface_cases(good.with_name("secret"))[case])
    with pytest.raises(UserError) as error:
        load_surface(target)
    assert "\n" not in str(error.value)
    assert "SECRET" not in str(error.value)


def test_the_same_without_a_change_is_read(good: Path) -> None:
    loaded = load_surface(edited(good, good.with_name("old.surface.h5"), lambda file: None))
    np.testing.assert_array_equal(loaded.loss, small().loss)


NOTHING: dict[str, tuple[str, str, object]] = {
    "timing": ("/", "about", {"timing": None}),
    "seconds": ("/", "about", {"timing": {"seconds": 2.0, "points": None}}),
    "curvature": ("/", "about", {"curvature": None, "data": None, "checkpoint": None, "units": None}),
    "mask": ("/", "settings", {"mask": None, "params": None, "examples": None, "planes": None}),
    "interpolation": ("planes/0", "about", {"interpolation": None}),
    "ends": ("planes/0", "about", {"alpha_to": None, "beta_to": None, "axes": None, "seed": None}),
}


@pytest.mark.parametrize("case", NOTHING)
def test_null_says_no_more_than_nothing(tmp_path: Path, case: str) -> None:
    place, attribute, content = NOTHING[case]
    surface = small()
    (plane,) = surface.planes
    computed = np.array([[True, True], [True, False], [True, True]])
    good = replace(surface, planes=(replace(plane, computed=computed),)).save(tmp_path / "a.surface.h5")

    def change(file: h5py.File) -> None:
        attrs = file[place].attrs
        attrs[attribute] = json.dumps(json.loads(attrs[attribute]) | content)

    loaded = load_surface(edited(good, tmp_path / "b.surface.h5", change))
    assert "Surface(" in one_line(loaded)
    plane_text = dict(cells_of(loaded, metrics(loaded)))["plane"]
    assert "towards" not in plane_text
    assert "seed None" not in plane_text
    assert roughness(loaded).ra.value == 0
    assert payload([loaded], [metrics(loaded)])


def test_a_worker_that_ends_is_replaced(good: Path) -> None:
    load_surface(good)
    process = read._reader()._process
    assert process is not None
    process.kill()
    process.wait()
    assert load_surface(good).label == "net"


def test_without_a_worker_files_are_read_here(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_start", lambda: None)
    monkeypatch.setattr(read, "_READERS", [])
    assert load_surface(good).label == "net"
    with pytest.raises(UserError, match="not a readable surface file"):
        load_surface(edited(good, good.with_name("bad.surface.h5"), CASES["alpha: a soft link"]))


def test_a_lock_that_another_program_holds_is_no_hindrance(good: Path) -> None:
    with good.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(OSError, match="lock"):
            h5py.File(good, "r", locking=True)
        assert load_surface(good).label == "net"


def test_a_large_declared_file_takes_neither_time_nor_memory(good: Path) -> None:
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(UserError, match="larger than a file of"):
        load_surface(edited(good, good.with_name("bad.surface.h5"), CASES["alpha: 80 GB declared"]))
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 1 << 20  # KiB


def test_digest_is_required_from_version_2(good: Path) -> None:
    cut = good.with_name("cut.surface.h5")
    cut.write_bytes(good.read_bytes()[:-LENGTH])
    with pytest.raises(UserError, match="digest at the end is missing"):
        load_surface(cut)


def test_other_tools_read_a_sealed_file(good: Path) -> None:
    with h5py.File(good, "r") as file:
        assert file["planes/0/splits/test/loss"].shape == (3, 2)


@pytest.mark.parametrize("name", ["x" * 300 + ".surface.h5", "nul\0.surface.h5", "."])
def test_impossible_names_are_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as error:
        load_surface(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.surface.h5")
    with pytest.raises(UserError, match="Not a regular file"):
        load_surface(tmp_path / "pipe.surface.h5")
