"""Pictures of any mode and size become what they show, whichever others are drawn with them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import surface
from PIL import Image
from torch import nn
from torchvision.datasets.folder import default_loader

from landscape.data import load_data
from landscape.errors import UserError
from landscape.images import read_images
from landscape.images.prepare import PHOTOGRAPHS, Change, Preparation, decode, usual_preparation
from landscape.surface import load_surface


def draw(seed: int, height: int, width: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)


def write(root: Path, sizes: list[tuple[int, int]], classes: tuple[str, ...] = ("a", "b")) -> Path:
    """In each class a picture of each (height, width)."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number, size in enumerate(sizes):
            draw(100 * label + number, *size).save(root / name / f"{number:03}.png")
    return root


def as_it_is(height: int, width: int) -> Preparation:
    return Preparation((height, width), (0, 0))


# One rule for every draw


def test_one_picture_of_another_size_changes_no_other(tmp_path: Path) -> None:
    write(tmp_path / "train", [(32, 32)] * 9 + [(40, 48)])
    spec = f"imagefolder:{tmp_path}"
    whole = read_images(spec, "train")
    assert whole.images.shape == (20, 32, 32, 3)
    alone = np.asarray(draw(3, 32, 32))
    assert np.array_equal(whole.images[3], alone)
    seen = 0
    for seed in range(6):
        for count in (2, 5, 19):
            part = load_data(spec, split="train", examples=count, seed=seed)
            assert part.inputs.shape[1:] == (3, 32, 32)
            assert np.array_equal(part.inputs.permute(0, 2, 3, 1).numpy(), whole.images[part.indices])
            seen += 9 in part.indices
            assert part.preparation == whole.preparation
    assert 0 < seen < 18
    assert "images 32×32 (others: short side to 32, middle cut out, bilinear; that of 90 %" in part.how


def test_the_odd_picture_is_scaled_to_cover_and_cut(tmp_path: Path) -> None:
    Image.new("RGB", (100, 50), (10, 200, 30)).save(tmp_path / "wide.png")
    assert (decode(tmp_path / "wide.png", as_it_is(20, 30)) == (10, 200, 30)).all()
    assert decode(tmp_path / "wide.png", as_it_is(20, 30)).shape == (20, 30, 3)


def test_without_a_common_size_all_are_photographs(tmp_path: Path) -> None:
    write(tmp_path / "train", [(30, 40), (40, 30), (35, 35), (64, 64)])
    for count in (2, 8):
        data = load_data(f"imagefolder:{tmp_path}", split="train", examples=count)
        assert data.inputs.shape[1:] == (3, 224, 224)
        assert data.preparation == PHOTOGRAPHS


def test_large_pictures_of_one_size_are_photographs(tmp_path: Path) -> None:
    write(tmp_path, [(300, 400)] * 2)
    assert read_images(f"imagefolder:{tmp_path}", "test").images.shape == (4, 224, 224, 3)


def test_both_splits_are_treated_alike(tmp_path: Path) -> None:
    write(tmp_path / "train", [(16, 16)] * 3)
    write(tmp_path / "val", [(20, 20)] * 3)
    assert read_images(f"imagefolder:{tmp_path}", "test").images.shape[1:] == (16, 16, 3)


def test_many_pictures_are_looked_at_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscape.images.prepare.LOOKED_AT", 4)
    paths = sorted(write(tmp_path, [(8, 8)] * 5 + [(9, 9)]).rglob("*.png"))
    found = usual_preparation(paths)
    assert found.size == (8, 8)
    assert found.source == "that of 75 % of 4 images"


def test_training_and_evaluation_see_the_same(tmp_path: Path) -> None:
    """A checkpoint stores how its images were prepared, and is evaluated so."""
    import torch

    from training.data import load_splits as load_training_data

    write(tmp_path / "train", [(16, 16)] * 5)
    write(tmp_path / "test", [(24, 20)] * 2)
    spec = f"imagefolder:{tmp_path}"
    data = load_training_data(spec, 0.0, 0, torch.device("cpu"))
    assert data.images == {**as_it_is(16, 16).record, "source": "that of all of the images"}
    other = {"images": {**data.images, "size": [12, 12]}}
    assert load_data(spec, stored=other).inputs.shape[2:] == (12, 12)
    with pytest.raises(UserError, match="preparation of images"):
        load_data(spec, stored={"images": {"size": [0, 4], "resize": [1, 1], "mode": "center"}})


def test_what_the_user_says(tmp_path: Path) -> None:
    spec = f"imagefolder:{write(tmp_path / 'pictures', [(32, 32)] * 3)}"
    data = load_data(spec, change=Change(size=16, crop=0.8, interpolation="bicubic"))
    picture = Image.open(tmp_path / "pictures" / "a" / "000.png").resize((20, 20), Image.Resampling.BICUBIC)
    first = data.inputs[data.indices.tolist().index(0)].permute(1, 2, 0).numpy()
    assert np.array_equal(first, np.asarray(picture)[2:18, 2:18])
    assert data.preparation is not None
    assert Preparation.of(data.preparation.record) == data.preparation
    assert load_data(spec, change=Change(interpolation="nearest")).inputs.shape[2:] == (32, 32)
    cifar = load_data("sample", examples=4, change=Change(size=64))
    assert cifar.inputs.shape == (4, 3, 64, 64)
    assert cifar.preparation is not None


# Modes


def test_sixteen_bits_of_grey_are_scaled(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    expected = np.round(values / 65535 * 255).astype(np.uint8)
    for name in ("grey.png", "grey.tiff"):
        Image.fromarray(values).save(tmp_path / name)
        found = decode(tmp_path / name, as_it_is(8, 8))
        assert np.array_equal(found, np.repeat(expected[..., None], 3, axis=2)), name


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.arange(64, dtype=np.int32) * 1000, 255 / 65535),
        (np.arange(64, dtype=np.int32) * 4, 1.0),
        (np.arange(64, dtype=np.float32) / 63, 255.0),
        (np.arange(64, dtype=np.float32) * 4, 1.0),
    ],
)
def test_integers_and_floating_point(tmp_path: Path, values: Any, scale: float) -> None:
    Image.fromarray(values.reshape(8, 8)).save(tmp_path / "grey.tiff")
    expected = np.floor(values.astype(np.float64) * scale + 0.5).astype(np.uint8).reshape(8, 8)
    assert np.array_equal(decode(tmp_path / "grey.tiff", as_it_is(8, 8))[..., 1], expected)


@pytest.mark.parametrize("worst", [-1.0, 300.0, float("nan"), float("inf")])
def test_floating_point_of_no_known_range_is_refused(tmp_path: Path, worst: float) -> None:
    values = np.full((8, 8), 0.5, np.float32)
    values[2, 2] = worst
    Image.fromarray(values).save(tmp_path / "grey.tiff")
    with pytest.raises(UserError, match=r"grey.tiff: grey values of .* don't say what is white"):
        decode(tmp_path / "grey.tiff", as_it_is(8, 8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "PA"])
def test_other_modes_are_as_torchvision_reads_them(tmp_path: Path, mode: str) -> None:
    picture = draw(5, 9, 7, 4 if mode == "RGBA" else 3).convert(mode)
    name = {"CMYK": "a.jpg", "YCbCr": "a.jpg", "PA": "a.tiff"}.get(mode, "a.png")
    try:
        picture.save(tmp_path / name)
    except OSError:
        pytest.skip(f"no file format of Pillow holds {mode}")
    expected = np.asarray(default_loader(str(tmp_path / name)))
    assert np.array_equal(decode(tmp_path / name, as_it_is(9, 7)), expected)


def test_orientation_and_frames_are_as_torchvision_reads_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    draw(1, 6, 9).save(tmp_path / "turned.jpg", exif=exif)
    frames = [draw(seed, 6, 9) for seed in (1, 2)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    transparent = draw(3, 6, 9).convert("P")
    transparent.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    for name in ("turned.jpg", "moving.gif", "palette.png"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.asarray(default_loader(str(tmp_path / name)))
        assert np.array_equal(decode(tmp_path / name, as_it_is(6, 9)), expected), name


# Odd folders


@pytest.mark.parametrize("cut", [3, 60, 150])
def test_a_broken_picture_is_one_line(tmp_path: Path, cut: int) -> None:
    write(tmp_path, [(20, 20)] * 2)
    draw(0, 20, 20).save(tmp_path / "a" / "broken.jpg")
    whole = (tmp_path / "a" / "broken.jpg").read_bytes()
    (tmp_path / "a" / "broken.jpg").write_bytes(whole[:cut])
    with pytest.raises(UserError, match=r"broken.jpg can't be decoded") as caught:
        read_images(f"imagefolder:{tmp_path}", "test")
    assert "\n" not in str(caught.value)


def test_a_class_that_a_split_lacks_shifts_no_label(tmp_path: Path) -> None:
    write(tmp_path / "train", [(8, 8)] * 2, ("ant", "bee", "cat"))
    write(tmp_path / "val", [(8, 8)] * 2, ("ant", "cat"))
    assert read_images(f"imagefolder:{tmp_path}", "test").labels.tolist() == [0, 0, 2, 2]
    assert load_data(f"imagefolder:{tmp_path}").num_classes == 3
    write(tmp_path / "val" / "..", [(8, 8)], ("val/dog",))
    with pytest.raises(UserError, match=r"has the class 'dog', .*train hasn't"):
        read_images(f"imagefolder:{tmp_path}", "test")


def test_empty_classes_hidden_folders_and_numbers_are_said(tmp_path: Path) -> None:
    write(tmp_path, [(8, 8)] * 2, ("1", "2", "10", "ü n"))
    (tmp_path / "nothing").mkdir()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    found = read_images(f"imagefolder:{tmp_path}", "test")
    assert found.classes == ("1", "10", "2", "nothing", "ü n")
    assert found.remark == "no picture of class nothing"
    numbers = write(tmp_path / "numbers", [(8, 8)], ("0", "1", "2", "10"))
    assert "sorted as text, as torchvision does: 0, 1, 10, 2" in load_data(f"imagefolder:{numbers}").how
    assert "sorted" not in load_data(f"imagefolder:{write(tmp_path / 'few', [(8, 8)], ('0', '1'))}").how


def test_a_link_that_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "loop", [(8, 8)])
    (tmp_path / "loop" / "a" / "up").symlink_to("..")
    with pytest.raises(UserError, match=r"a.up.* leads by a link to pictures that are there already"):
        read_images(f"imagefolder:{tmp_path / 'loop'}", "test")
    write(tmp_path / "elsewhere", [(8, 8)], ("c",))
    write(tmp_path / "linked", [(8, 8)])
    (tmp_path / "linked" / "c").symlink_to(tmp_path / "elsewhere" / "c")
    assert len(read_images(f"imagefolder:{tmp_path / 'linked'}", "test")) == 3


@pytest.mark.parametrize(
    ("size", "labels", "message"),
    [
        (8, np.array([0, 10**12]), "largest label is 1000000000000"),
        (8, np.array([0, 2**63 + 1], dtype=np.uint64), "expected class numbers from 0"),
        (0, np.array([0, 1]), "no pixels"),
    ],
)
def test_arrays_that_are_no_images_or_labels(tmp_path: Path, size: int, labels: Any, message: str) -> None:
    np.savez(tmp_path / "a.npz", test_x=np.zeros((2, size, 8, 3), np.uint8), test_y=labels)
    with pytest.raises(UserError, match=message):
        load_data(f"npz:{tmp_path / 'a.npz'}", split="test")


def test_labels_from_one_are_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", test_x=np.zeros((2, 8, 8, 3), np.uint8), test_y=np.array([1, 2]))
    assert (
        "no image has label 0; labels count from 0"
        in load_data(f"npz:{tmp_path / 'a.npz'}", split="test").how
    )


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="no picture in its 1 folders"):
        read_images(f"imagefolder:{tmp_path}", "test")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_picture_that_is_a_program_is_not_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow tells formats by the content and gives PostScript to Ghostscript."""
    from PIL import EpsImagePlugin

    called: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *all, **named: called.append(all))
    path = tmp_path / name
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="can't be decoded"):
        decode(path, as_it_is(8, 8))
    assert not called


# Broken pictures that are skipped when the user says so


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two classes of eight pictures, of which two and one are cut off."""
    write(tmp_path, [(20, 20)] * 8)
    for name, size in (("a/001.png", 3), ("a/005.png", 60), ("b/002.png", 200)):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:size])
    return tmp_path


SKIP = Change(skip_broken=True)


def test_broken_pictures_are_left_out_counted_and_named(damaged: Path) -> None:
    spec = f"imagefolder:{damaged}"
    found = load_data(spec, change=SKIP)
    assert "3 of 16 pictures left out, broken: a/001.png, a/005.png, b/002.png" in found.chosen
    assert len(found.inputs) == len(found.targets) == len(found.indices) == 13
    good = [path for path in sorted(damaged.rglob("*.png")) if path.stem not in ("001", "005", "002")]
    for index, pixels, label in zip(found.indices, found.inputs, found.targets, strict=True):
        path = sorted(damaged.rglob("*.png"))[index]
        assert label == "ab".index(path.parent.name)
        with Image.open(path) as picture:
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(picture))
        good = [one for one in good if one != path]
    assert all(path.stem in ("001", "005", "002") for path in good)
    some = load_data(spec, examples=6, change=SKIP)
    assert set(some.indices) <= set(found.indices)  # the choice doesn't depend on what is broken


def test_they_are_refused_by_default_and_told_how_not_to_be(damaged: Path) -> None:
    with pytest.raises(
        UserError, match=r"001.png can't be decoded.*; --skip-broken leaves such pictures out"
    ):
        load_data(f"imagefolder:{damaged}")
    with pytest.raises(UserError, match="can't be decoded") as caught:  # training has no such option
        read_images(f"imagefolder:{damaged}", "test")
    assert "skip" not in str(caught.value)


def test_skipping_changes_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "whole", [(20, 20)] * 3)
    spec = f"imagefolder:{tmp_path / 'whole'}"
    plain, skipping = load_data(spec), load_data(spec, change=SKIP)
    assert plain.chosen == skipping.chosen
    assert plain.preparation == skipping.preparation
    with pytest.raises(UserError, match="only pictures of an image folder can be skipped"):
        load_data("sample", change=SKIP)
    for name in ("a", "b"):
        for path in (tmp_path / "whole" / name).iterdir():
            path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="none of the 6 pictures can be decoded"):
        load_data(spec, change=SKIP)


NET = """
from torch import nn

def small(num_classes=2):
    return nn.Sequential(nn.Flatten(), nn.Linear(1200, num_classes))
"""


def test_the_command_skips_them_and_says_so(damaged: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("command")
    (folder / "skipnets.py").write_text(NET)
    with torch.random.fork_rng(devices=[]):
        torch.save(nn.Sequential(nn.Flatten(), nn.Linear(1200, 2)).state_dict(), folder / "net.pth")
    words = ("net.pth", "--model", "skipnets:small", "--data", f"imagefolder:{damaged}", "--points", 3)
    words = (*words, "--dim", 1, "--split", "test", "--examples", 0, "--no-plot", "--no-page")
    assert "--skip-broken leaves such pictures out" in surface(*words, folder=folder).error
    done = surface(*words, "--skip-broken", folder=folder)
    assert done.code == 0, done.err
    assert "3 of 16 pictures left out, broken: a/001.png" in done.out + done.err
    found = load_surface(folder / "surfaces/net.surface.h5")
    assert found.planes[0].splits["test"].examples == 13
