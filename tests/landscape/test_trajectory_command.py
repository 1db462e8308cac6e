"""``python -m landscape.surface final.pt --trajectory FOLDER``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import network, save_images, save_network, surface

from landscape.planes.snapshots import Snapshots
from landscape.planes.ways import ways_of
from landscape.surface import load_surface

QUICK = ["--data", "npz:images.npz", "--examples", "10", "--points", "5", "--no-page"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A final checkpoint and three before it; names that sort wrongly as text."""
    save_images(tmp_path / "images.npz", 20, 10)
    save_network(tmp_path / "final.pt", 0)
    (tmp_path / "way").mkdir()
    for seed, step in ((3, 0), (2, 9), (1, 10)):
        save_network(tmp_path / "way" / f"step-{step}.pt", seed)
    return tmp_path


def test_a_folder_of_snapshots_becomes_a_path(folder: Path) -> None:
    done = surface("final.pt", "--trajectory", "way", *QUICK, folder=folder)
    assert done.code == 0, done.err
    assert "trajectory of 4 networks, step 0 to final: its components have" in done.err
    found = load_surface(folder / "surfaces" / "final.surface.h5")
    path, about = found.planes[0].path, found.planes[0].about
    assert path is not None
    assert path.labels == ("step 0", "step 9", "step 10", "final")
    assert about["kind"] == "trajectory"
    assert about["networks"] == 4
    assert found.settings["engine"]["batch_norm"] == "recalibrate"
    for axis, coordinates in ((found.alpha, path.alpha), (found.beta, path.beta)):
        assert axis[0] < coordinates.min()
        assert coordinates.max() < axis[-1]
        assert 0.0 in axis
    # Distances between the networks can't be larger in the plane than in the whole space.
    weights = [
        torch.cat([one.detach().reshape(-1) for one in network(seed).parameters()]) for seed in (3, 2, 1, 0)
    ]
    for index in range(3):
        whole = float((weights[index] - weights[3]).norm())
        assert np.hypot(path.alpha[index], path.beta[index]) <= whole * (1 + 1e-6)
    assert (folder / "surfaces" / "final.png").exists()


def test_files_in_order_and_the_same_command_again(folder: Path) -> None:
    files = [f"way/step-{step}.pt" for step in (0, 9, 10)]
    first = surface("final.pt", "--trajectory", *files, *QUICK, "--no-plot", folder=folder)
    assert first.code == 0, first.err
    again = surface("final.pt", "--trajectory", "way", *QUICK, "--no-plot", folder=folder)
    assert again.code == 0, again.err
    assert "is there and finished" in again.err


def test_a_run_folder_stands_for_its_trajectory(folder: Path) -> None:
    shutil.move(folder / "way", folder / "trajectory")
    [way] = ways_of([folder])
    names = [path.name for path in way.files]
    assert names == ["step-0.pt", "step-9.pt", "step-10.pt"]


def test_any_digit_may_stand_in_a_name(tmp_path: Path) -> None:
    for name in ("1²3.pt", "1²12.pt"):
        (tmp_path / name).touch()
    [way] = ways_of([tmp_path])
    assert [one.name for one in way.files] == ["1²3.pt", "1²12.pt"]


def test_labels_are_short_and_distinct() -> None:
    def labels(*names: str) -> list[str]:
        return Snapshots([Path(name) for name in names], None).labels  # type: ignore[arg-type]

    assert labels("t/step-00000000.pt", "t/epoch_010.pt", "t/a.b.pt") == ["step 0", "epoch 10", "a.b"]
    assert labels("a/final.pt", "b/final.pt") == ["a/final.pt", "b/final.pt"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["final.pt", "--trajectory", "nowhere"], "no file nowhere"),
        (["final.pt", "--trajectory", "empty"], "empty holds no checkpoint of a trajectory"),
        (["final.pt", "--trajectory", "way", "final.pt"], "way is a folder, final.pt is not"),
        (["final.pt", "--trajectory", "final.pt"], "all equal the final one"),
        (["final.pt", "--trajectory", "way/step-9.pt"], "lie on one line"),
        (["final.pt", "--trajectory", "wide.pt", "final.pt"], "wide: the other checkpoint has shape"),
        (["final.pt", "--trajectory", "images.npz"], "images.npz"),
        (["final.pt", "way/step-9.pt", "--trajectory", "way"], "leads to one network, 2 checkpoints"),
        (["final.pt", "--trajectory", "way", "--planes", "2"], "leave out --planes"),
        (["final.pt", "--trajectory", "way", "--normalize", "filter"], "leave out --normalize"),
        (["final.pt", "--trajectory", "way", "--between", "final.pt"], "leave out --between"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments: list[str], text: str) -> None:
    (folder / "empty").mkdir()
    torch.save(network(0, (3, 4, 8)).state_dict(), folder / "wide.pt")
    done = surface(*arguments, *QUICK, folder=folder)
    assert text in done.error
    assert not list(folder.glob("surfaces/*.h5"))
