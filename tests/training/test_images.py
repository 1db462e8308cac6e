"""Readers of image data: what they return, and what they say about bad input."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import landscape.images
from landscape.errors import UserError
from landscape.images import SAMPLE_FOLDER, from_sheet, read_images, to_sheet

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


def save_npz(path: Path, **changes: object) -> Path:
    """A valid little file, with some arrays replaced or (None) left out."""
    arrays = {
        "train_x": np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3),
        "train_y": np.array([0, 1, 2, 1]),
        "test_x": np.zeros((1, 2, 3, 3), np.uint8),
        "test_y": np.array([2], np.int32),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_npz(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "mine.npz")
    train, test = read_images(f"npz:{path}", "train"), read_images(f"npz:{path}", "test")
    assert (train.name, train.split, len(train), train.num_classes) == ("mine", "train", 4, 3)
    assert train.images[1, 0, 2].tolist() == [24, 25, 26]
    assert test.labels.dtype == np.int64
    named = save_npz(tmp_path / "named.npz", classes=np.array(["a", "b", "c", "d"]))
    assert read_images(f"npz:{named}", "test").classes == ("a", "b", "c", "d")
    assert read_images(f"npz:{named}", "test").num_classes == 4
    few = read_images(f"npz:{path}", "train", choose=lambda labels: np.flatnonzero(labels == 1)[::-1])
    assert few.images[:, 0, 0, 0].tolist() == [54, 18]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_y": None}, "no train_y"),
        ({"train_x": np.zeros((4, 2, 3, 3))}, "float64"),
        ({"train_x": np.zeros((4, 3, 2, 2), np.uint8)}, r"expected uint8 of shape \(N, height, width, 3\)"),
        ({"train_y": np.zeros(3, int)}, r"expected integers of shape \(4,\)"),
        ({"train_y": np.zeros(4)}, "labels are float64"),
        ({"train_y": np.array([0, 1, -1, 0])}, "from -1 to 1"),
        ({"classes": np.array(["a"])}, "expected 0 to 0"),
        ({"train_x": np.zeros((0, 2, 3, 3), np.uint8), "train_y": np.zeros(0, int)}, "empty"),
        ({"train_y": np.array([0, 1, "x", None], dtype=object)}, "can't be read as .npz"),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict, message: str) -> None:
    path = save_npz(tmp_path / "bad.npz", **changes)
    with pytest.raises(UserError, match=message):
        read_images(f"npz:{path}", "train")


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    whole = save_npz(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("cut.npz", "empty.npz", "array.npy"):
        with pytest.raises(UserError, match=r"can't be read as \.npz"):
            read_images(f"npz:{tmp_path / name}", "train")
    with pytest.raises(UserError, match="no file"):
        read_images(f"npz:{tmp_path / 'none.npz'}", "train")


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("cifar-10", "did you mean cifar10"),
        ("npz", "did you mean npz:PATH"),
        ("zebra", "unknown data 'zebra'; known"),
    ],
)
def test_unknown_names(spec: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        read_images(spec, "train")


def write_tree(root: Path, sizes: list[tuple[int, int]]) -> None:
    for name, colour in (("ant", 10), ("bee", 200)):
        (root / name).mkdir(parents=True)
        for number, size in enumerate(sizes):
            Image.new("RGB", size, (colour, number, 0)).save(root / name / f"{number}.png")


def test_image_folder(tmp_path: Path) -> None:
    write_tree(tmp_path / "train", [(8, 6), (8, 6)])
    write_tree(tmp_path / "photos" / "val", [(300, 400), (400, 300), (256, 256)])
    train = read_images(f"imagefolder:{tmp_path}", "train")
    test = read_images(f"imagefolder:{tmp_path / 'photos'}", "test")
    assert train.images.shape == (4, 6, 8, 3)  # one size: as they are
    assert train.classes == ("ant", "bee")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.images[3, 0, 0].tolist() == [200, 1, 0]
    assert test.images.shape == (6, 224, 224, 3)  # mixed sizes; test falls back to val
    one = read_images(f"imagefolder:{tmp_path / 'photos'}", "test", choose=lambda labels: np.array([4]))
    assert one.labels.tolist() == [1]
    assert one.images[0, 5, 5].tolist() == [200, 1, 0]
    (tmp_path / "photos" / "test").mkdir()
    with pytest.raises(UserError, match="is no image folder"):
        read_images(f"imagefolder:{tmp_path / 'photos'}", "test")


def test_image_folder_without_splits(tmp_path: Path) -> None:
    write_tree(tmp_path, [(4, 4)])
    assert len(read_images(f"imagefolder:{tmp_path}", "train")) == 2
    assert len(read_images(f"imagefolder:{tmp_path}", "test")) == 2
    (tmp_path / "ant" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png can't be decoded"):
        read_images(f"imagefolder:{tmp_path}", "test")


def test_image_folder_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        read_images(f"imagefolder:{tmp_path / 'none'}", "train")
    write_tree(tmp_path / "val", [(4, 4)])
    with pytest.raises(UserError, match="has val but no train folder"):
        read_images(f"imagefolder:{tmp_path}", "train")


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's layout with four images a batch; the checksums that it knows are replaced."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import calculate_md5

    folder = root / CIFAR10.base_folder
    folder.mkdir()
    files = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    for number, name in enumerate(files):
        pixels = np.full((4, 3, 32, 32), number, np.uint8)
        pixels[:, 1] = np.arange(32, dtype=np.uint8)[:, None]  # green says the row
        (folder / name).write_bytes(pickle.dumps({"data": pixels.reshape(4, -1), "labels": [3, 1, 0, 2]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b", "c", "d"]}))

    def md5(name: str) -> str:
        return calculate_md5(folder / name)

    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(name)] for name, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[name, md5(name)] for name, _ in CIFAR10.test_list])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5("batches.meta")})


def test_cifar_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    train, test = (read_images("cifar10", split, tmp_path) for split in ("train", "test"))
    assert train.images.shape == (20, 32, 32, 3)
    assert train.images[4, 7, 0].tolist() == [1, 7, 1]
    assert test.images[0, 0, 0].tolist() == [5, 0, 5]
    assert test.labels.tolist() == [3, 1, 0, 2]
    assert (train.name, train.classes) == ("cifar10", ("a", "b", "c", "d"))
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(UserError, match="incomplete or damaged"):
        read_images("cifar10", "train", tmp_path)


def test_cifar_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cifar-100-python does not exist"):
        read_images("cifar100", "train", tmp_path)


def test_shipped_sample() -> None:
    train, test = read_images("sample", "train"), read_images("sample", "test")
    for data in (train, test):
        assert data.images.shape == (1000, 32, 32, 3)
        assert np.array_equal(data.labels, np.arange(1000) % 10)
        assert data.num_classes == 10
        assert len(np.unique(data.images.reshape(1000, -1), axis=0)) == 1000
    assert sum(file.stat().st_size for file in SAMPLE_FOLDER.iterdir()) <= 4_000_000
    assert test.images.mean() / 255 == pytest.approx(0.473, abs=0.02)  # mean of CIFAR-10's three channels


def test_damaged_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sample"
    shutil.copytree(SAMPLE_FOLDER, folder)
    monkeypatch.setattr(landscape.images, "SAMPLE_FOLDER", folder)
    sheet = np.array(Image.open(folder / "test.webp").convert("RGB"))
    sheet[5, 5] ^= 1
    Image.fromarray(sheet).save(folder / "test.webp", lossless=True)
    with pytest.raises(UserError, match=r"test\.webp is damaged"):
        read_images("sample", "test")
    (folder / "test.webp").unlink()
    with pytest.raises(UserError, match="sample can't be read"):
        read_images("sample", "test")


def test_sheet_round_trip() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    sheet = to_sheet(images)
    assert sheet.shape == (96, 320, 3)
    assert np.array_equal(sheet[32:64, 64:96], images[12])
    assert np.array_equal(from_sheet(sheet, 30), images)


def test_importing_and_reading_the_sample_needs_no_torch() -> None:
    code = "import sys; from landscape.images import read_images; read_images('sample', 'test'); "
    code += "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="the whole CIFAR-10 is not here")
def test_sample_images_are_those_of_the_test_split() -> None:
    """Decode the original's test part by other means and look the sample's images up by their indices."""
    import io
    import zipfile

    chosen = json.loads((SAMPLE_FOLDER / "sample.json").read_text())["splits"]["test"]["indices"]
    sample = read_images("sample", "test")
    with zipfile.ZipFile(SHARED / "cifar10" / "test.zip") as archive:
        for index, image in list(zip(chosen, sample.images, strict=True))[::97]:
            label, number = divmod(index, 1000)
            sheets = sorted(
                name for name in archive.namelist() if name.startswith(f"{sample.classes[label]}/")
            )
            column = np.asarray(Image.open(io.BytesIO(archive.read(sheets[number // 125]))).convert("RGB"))
            assert np.array_equal(column.reshape(-1, 32, 32, 3)[number % 125], image)
