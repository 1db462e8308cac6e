"""Paths of several trainings on one plane: never joined, each with its name and colour."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from command import save_images, save_network, surface
from matplotlib.colors import to_hex

from landscape.errors import UserError
from landscape.planes.trajectory import trajectory_plane
from landscape.planes.ways import ways_of
from landscape.plot import plot_surfaces
from landscape.plot.panels import PATH_COLORS
from landscape.surface import Path2D, Surface, load_surface
from landscape.viewer.page_data import _path

QUICK = ["--data", "npz:images.npz", "--examples", "10", "--points", "5"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ways(*places: Path) -> dict[str, list[str]]:
    return {way.name: [one.name for one in way.files] for way in ways_of(places)}


STEPS = ("step-1.pt", "step-2.pt", "step-10.pt")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (STEPS, {"here": list(STEPS)}),
        (("sgd-step-1.pt", "sam-step-1.pt", "sgd-step-2.pt", "sam-step-2.pt"), {
            "sam": ["sam-step-1.pt", "sam-step-2.pt"], "sgd": ["sgd-step-1.pt", "sgd-step-2.pt"]}),
        (("net20-1.pt", "net20-2.pt", "net56-1.pt", "net56-2.pt"), {
            "net20": ["net20-1.pt", "net20-2.pt"], "net56": ["net56-1.pt", "net56-2.pt"]}),
        (("s0_epoch1.pt", "s0_epoch5.pt", "s1_epoch1.pt", "s1_epoch5.pt"), {
            "s0": ["s0_epoch1.pt", "s0_epoch5.pt"], "s1": ["s1_epoch1.pt", "s1_epoch5.pt"]}),
        (("1-a.pt", "2-a.pt", "1-b.pt", "2-b.pt"), {
            "a": ["1-a.pt", "2-a.pt"], "b": ["1-b.pt", "2-b.pt"]}),
        # One training in the manners of Lightning, with several numbers that rise or don't.
        (("epoch=1-step=10.ckpt", "epoch=2-step=20.ckpt"), {
            "here": ["epoch=1-step=10.ckpt", "epoch=2-step=20.ckpt"]}),
        (("epoch=1-step=10.ckpt", "epoch=1-step=20.ckpt", "epoch=2-step=30.ckpt"), {
            "here": ["epoch=1-step=10.ckpt", "epoch=1-step=20.ckpt", "epoch=2-step=30.ckpt"]}),
        (("epoch=1-loss=0.52.ckpt", "epoch=2-loss=0.31.ckpt"), {
            "here": ["epoch=1-loss=0.52.ckpt", "epoch=2-loss=0.31.ckpt"]}),
        ((*STEPS, "best.pt", "last.pt"), {"here": list(STEPS)}),
        (("begin.pt", "end.pt"), {"here": ["begin.pt", "end.pt"]}),
        (("trajectory/step-1.pt", "trajectory/step-2.pt", "final.pt", "last.pt"), {
            "here": ["step-1.pt", "step-2.pt"]}),
        (("a/trajectory/step-1.pt", "a/trajectory/step-2.pt", "a/final.pt", "b/trajectory/step-3.pt"), {
            "a": ["step-1.pt", "step-2.pt"], "b": ["step-3.pt"]}),
        (("run.json", "final.pt", "last.pt", *STEPS), {"here": list(STEPS)}),
    ],
)  # fmt: skip
def test_a_folder_is_read_by_a_rule(
    tmp_path: Path, names: tuple[str, ...], expected: dict[str, list[str]]
) -> None:
    folder = touch(tmp_path / "here", *names)
    assert ways(folder) == expected
    if (folder / "trajectory").is_dir():
        assert ways(folder / "trajectory") == expected


def test_several_folders_and_files(tmp_path: Path) -> None:
    for run in ("sgd", "s2sam"):
        touch(tmp_path / run / "trajectory", *STEPS)
    both = {"sgd": list(STEPS), "s2sam": list(STEPS)}
    assert ways(tmp_path / "sgd", tmp_path / "s2sam") == both
    assert ways(tmp_path / "sgd" / "trajectory", tmp_path / "s2sam") == both
    files = [tmp_path / run / "trajectory" / name for run in both for name in STEPS]
    assert ways(*files) == both
    single = [touch(tmp_path / f"checkpoint-{step}", "model.pt") / "model.pt" for step in (1, 2)]
    assert [way.files for way in ways_of(single)] == [tuple(single)]  # one of each folder: one training
    backwards = [files[2], files[0]]
    assert [way.files for way in ways_of(backwards)] == [tuple(backwards)]
    names = [way.name for way in ways_of([tmp_path / "sgd", tmp_path / "sgd"])]
    assert len(set(names)) == 2


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    [way] = ways_of([touch(tmp_path, *STEPS, "best.pt", "swa-3.pt")])
    assert sorted(one.name for one in way.left_out) == ["best.pt", "swa-3.pt"]
    folders = [touch(tmp_path / name, *STEPS) for name in ("a", "b")]
    with pytest.raises(UserError, match=r"a is a folder, .*step-1\.pt is not"):
        ways_of([folders[0], folders[1] / "step-1.pt"])
    with pytest.raises(UserError, match=r"no file .*nowhere"):
        ways_of([folders[0] / "step-1.pt", tmp_path / "nowhere"])
    with pytest.raises(UserError, match="holds no checkpoint of a trajectory"):
        ways_of([folders[0], touch(tmp_path / "empty", "notes.txt")])


def random_networks(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {"a": torch.randn(4, 3, generator=generator), "b": torch.randn(3, generator=generator)}
        for _ in range(count)
    ]


def test_the_plane_is_that_of_all_networks() -> None:
    """Against a singular value decomposition of both trainings' displacements together."""
    first, second = random_networks(4, 0), random_networks(5, 1)
    center = first[-1]
    plane = trajectory_plane(center, {"one": first, "other": second})
    rows = torch.stack(
        [
            torch.cat([(one[key] - center[key]).double().flatten() for key in ("a", "b")])
            for one in first + second
        ]
    )
    _, values, right = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    found = np.stack([plane.path.alpha, plane.path.beta], axis=1)
    np.testing.assert_allclose(np.abs(found), (rows @ right[:2].T).abs().numpy(), atol=1e-5)
    shares = (values**2 / (values**2).sum())[:2]
    np.testing.assert_allclose(plane.explained_variance, shares.numpy(), rtol=1e-5)
    assert plane.path.parts == (("one", 4), ("other", 5))
    assert (found[3] == 0).all()  # where the surface's own network is
    each = plane.path.each()
    assert [(name, len(path.labels)) for name, path in each] == [("one", 4), ("other", 5)]
    np.testing.assert_array_equal(each[1][1].alpha, plane.path.alpha[4:])
    assert plane.about()["paths"] == ["one", "other"]
    with pytest.raises(UserError, match="holds no network"):
        trajectory_plane(center, {"one": first, "other": []})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs of three snapshots and a final network each."""
    save_images(tmp_path / "images.npz", 20, 10)
    for number, run in enumerate(("sgd", "sam")):
        (tmp_path / run / "trajectory").mkdir(parents=True)
        for step in range(3):
            save_network(tmp_path / run / "trajectory" / f"step-{step}.pt", 10 * number + step + 1)
        save_network(tmp_path / run / "final.pt", 10 * number)
    return tmp_path


def test_the_command_draws_a_path_for_each_run(folder: Path) -> None:
    done = surface("sgd/final.pt", "--trajectory", "sgd", "sam", *QUICK, folder=folder)
    assert done.code == 0, done.err
    assert (
        "trajectories of 4 networks, sgd: step 0 to sgd: final; 4 networks, sam: step 0 to sam: f" in done.err
    )
    [file] = folder.glob("surfaces/*.surface.h5")
    path = load_surface(file).planes[0].path
    assert path is not None
    assert path.parts == (("sgd", 4), ("sam", 4))
    assert (path.alpha[3], path.beta[3]) == (0, 0)
    assert (path.alpha[7], path.beta[7]) != (0, 0)
    page = next(folder.glob("surfaces/*.html")).read_text()
    assert '"parts":[["sgd",4],["sam",4]]' in page.replace(" ", "")
    apart = surface("sgd/final.pt", "--trajectory", ".", *QUICK, "--no-page", folder=folder)
    assert apart.code == 2 or "trajectories of 4 networks" in apart.err


def test_a_network_beside_all_paths_is_told(folder: Path) -> None:
    save_network(folder / "third.pt", 99)
    done = surface("third.pt", "--trajectory", "sgd", "sam", *QUICK, "--no-page", "--no-plot", folder=folder)
    assert done.code == 0, done.err
    assert "none of these trajectories ends at third, which is at (0, 0)" in done.err


def test_pictures_show_each_path_in_a_colour_of_its_own(folder: Path) -> None:
    done = surface(
        "sgd/final.pt", "--trajectory", "sgd", "sam", *QUICK, "--no-page", "--no-plot", folder=folder
    )
    assert done.code == 0, done.err
    found = load_surface(next(folder.glob("surfaces/*.surface.h5")))
    figure = plot_surfaces([found])
    lines = [line for axes in figure.axes for line in axes.get_lines() if len(line.get_xdata()) == 4]  # type: ignore[arg-type]
    assert [to_hex(line.get_color()) for line in lines] == list(PATH_COLORS[:2])  # type: ignore[arg-type]
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert [one for one in texts if one.startswith("path")] == ["path of sgd", "path of sam"]


def test_pages_know_where_a_path_ends() -> None:
    path = Path2D(np.arange(3.0), np.zeros(3), ("a", "b", "c"), (("one", 1), ("other", 2)))
    assert _path(path)["parts"] == [["one", 1], ["other", 2]]  # type: ignore[index,call-overload]
    assert _path(dataclasses.replace(path, parts=()))["parts"] == [["", 3]]  # type: ignore[index,call-overload]


def test_files_keep_the_parts(folder: Path) -> None:
    done = surface(
        "sgd/final.pt", "--trajectory", "sgd", "sam", *QUICK, "--no-page", "--no-plot", folder=folder
    )
    assert done.code == 0, done.err
    file = next(folder.glob("surfaces/*.surface.h5"))
    found: Surface = load_surface(file)
    plane = found.planes[0]
    assert plane.path is not None
    for parts in ((), (("x", 8),), (("x", 1), ("y", 7))):
        changed = dataclasses.replace(
            found, planes=(dataclasses.replace(plane, path=dataclasses.replace(plane.path, parts=parts)),)
        )
        changed.save(folder / "again.surface.h5")
        again = load_surface(folder / "again.surface.h5").planes[0].path
        assert again is not None
        assert again.parts == parts
    for wrong in ((("x", 7),), (("x", 9),), (("x", 0), ("y", 8)), (("x", -1), ("y", 9))):
        changed = dataclasses.replace(
            found, planes=(dataclasses.replace(plane, path=dataclasses.replace(plane.path, parts=wrong)),)
        )
        changed.save(folder / "wrong.surface.h5")
        with pytest.raises(UserError, match="parts aren't names and numbers of the 8 networks"):
            load_surface(folder / "wrong.surface.h5")
