"""CIFAR-10-C, CIFAR-100-C and ImageNet-C as they are published, made small; and what isn't like that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from analysis.robustness import BENCHMARK, robustness
from analysis.robustness.__main__ import main
from analysis.robustness.cifar_files import CifarFiles
from analysis.robustness.imagenet_files import ImageNetFiles
from analysis.robustness.remembered import Remembered
from analysis.robustness.versions import GeneratedImages
from landscape.errors import UserError

COUNT = 6
TWO = ("snow", "fog")


def cifar_folder(folder: Path, names: tuple[str, ...] = TWO, count: int = COUNT) -> dict[str, Any]:
    """Random pixels in the published layout; gives what was written."""
    draw = np.random.default_rng(0)
    made = {one: draw.integers(0, 256, (5 * count, 32, 32, 3), dtype=np.uint8) for one in names}
    made["labels"] = np.tile(np.arange(count, dtype=np.uint8) % 10, 5)
    folder.mkdir(exist_ok=True)
    for name, values in made.items():
        np.save(folder / f"{name}.npy", values)
    return made


def imagenet_folder(folder: Path, names: tuple[str, ...] = TWO, *, group: str = "") -> list[Path]:
    """Two classes with two pictures each, at five severities; grey is 40 for each severity. All paths."""
    made = []
    for number, name in enumerate(names):
        for severity in range(1, 6):
            for wnid in ("n01", "n02"):
                place = folder / group / name / str(severity) / wnid
                place.mkdir(parents=True, exist_ok=True)
                for picture in ("a.JPEG", "b.JPEG"):
                    grey = np.full((224, 224, 3), 40 * severity + number, np.uint8)
                    Image.fromarray(grey).save(place / picture)
                    made.append(place / picture)
    return made


def whole(parts: Any) -> Any:
    return np.concatenate(list(parts))


def test_severities_are_stacked(tmp_path: Path) -> None:
    made = cifar_folder(tmp_path)
    chosen = np.array([4, 0, 3])
    found = CifarFiles(tmp_path, 10, TWO, chosen=chosen)
    for severity in (1, 3, 5):
        wanted = made["fog"][(severity - 1) * COUNT : severity * COUNT][chosen]
        assert np.array_equal(whole(found.corrupted("fog", severity)), wanted)
    assert list(found.labels) == [4, 0, 3]
    assert found.source("fog") == "files"
    assert found.source("frost") is None
    assert found.clean() is None
    assert "6 images at each severity, 10,000 in the published files" in found.remarks[""]


def test_missing_files_can_be_generated(tmp_path: Path) -> None:
    cifar_folder(tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    clean = GeneratedImages(images, np.arange(COUNT) % 10, name="cifar10", classes=10)
    names = (*TWO, "contrast")
    with pytest.raises(UserError, match=r"contrast.npy: no such file.*--generate-missing.*--corruptions"):
        CifarFiles(tmp_path, 10, names, clean=clean)
    found = CifarFiles(tmp_path, 10, names, clean=clean, generate=True)
    assert [found.source(one) for one in names] == ["files", "files", "generated"]
    assert np.array_equal(whole(found.corrupted("contrast", 2)), whole(clean.corrupted("contrast", 2)))
    other = GeneratedImages(images, np.zeros(COUNT, int), name="other", classes=10)
    with pytest.raises(UserError, match="the clean images other have other labels"):
        CifarFiles(tmp_path, 10, TWO, clean=other)


def test_a_file_that_is_another_one_now_is_seen_wherever_it_is(tmp_path: Path) -> None:
    made = cifar_folder(tmp_path)
    torch.manual_seed(0)
    model, path = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), tmp_path / "x.robustness.h5"

    def measured(**more: Any) -> Any:
        versions = CifarFiles(tmp_path, 10, TWO)
        told: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.2] * 3, "progress": None, "path": path}
        return robustness(model, versions, corruptions=TWO, **told, **more)

    first = measured()
    assert np.array_equal(measured().correct, first.correct)
    np.save(tmp_path / "snow.npy", made["snow"][::-1])  # the second of them: fog comes later in the table
    np.save(tmp_path / "fog.npy", np.roll(made["fog"], 7, axis=0))
    with pytest.raises(UserError, match="measured on other pixels than there are now"):
        measured()
    np.save(tmp_path / "snow.npy", made["snow"])
    with pytest.raises(UserError, match="fog at severity 1 was measured on other pixels than there are now"):
        measured()
    measured(overwrite=True)
    assert measured().done.all()


def test_one_more_than_there_is_room_for_is_made_anew() -> None:
    images = np.random.default_rng(1).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    made = GeneratedImages(images, np.arange(COUNT) % 10, name="cifar10", classes=10)
    kept = Remembered(made, 1)
    for severity in range(1, 6):
        whole(kept.corrupted("contrast", severity))
    for one in ("fog", "contrast", "fog"):  # fog: what an earlier run answered
        assert np.array_equal(whole(kept.corrupted(one, 1)), whole(made.corrupted(one, 1)))


@pytest.mark.parametrize(
    "word", ["--image-size=128", "--crop=0.5", "--interpolation=bicubic", "--skip-broken"]
)
def test_published_images_are_not_prepared_otherwise(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["net.pt", "--data", "cifar10c:.", word])
    assert stopped.value.code == 2
    assert f"{word.split('=')[0]}: published corrupted images are taken as" in capsys.readouterr().err


def test_what_is_no_array_of_pixels_is_refused(tmp_path: Path) -> None:
    made = cifar_folder(tmp_path)
    fog = tmp_path / "fog.npy"

    def refusal() -> str:
        with pytest.raises(UserError) as caught:
            CifarFiles(tmp_path, 10, TWO)
        text = str(caught.value)
        assert "\n" not in text
        assert str(fog) in text
        return text

    np.save(fog, made["fog"][:-1])
    assert "(29, 32, 32, 3); expected uint8 of shape (30, 32, 32, 3)" in refusal()
    np.save(fog, made["fog"].astype(np.float32))
    assert "float32" in refusal()
    np.save(fog, np.array([object()], dtype=object), allow_pickle=True)
    assert "pickled Python objects, which could run code" in refusal()
    made["fog"].dump(fog)
    assert "perhaps a pickle" in refusal()
    np.save(fog, made["fog"])
    fog.write_bytes(fog.read_bytes()[:-100])
    assert "can't be read" in refusal()
    fog.unlink()
    assert "no such file" in refusal()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(28) % 10, r"int64 of shape \(28,\); expected integers, as many for each of 5"),
        (np.arange(30) % 10, "labels differ between severities"),
        (np.tile(np.arange(6) + 8, 5), "labels run from 8 to 13; expected 0 to 9"),
        (np.zeros((30, 1), int), r"shape \(30, 1\)"),
        (np.zeros(30), "float64"),
        (np.tile(np.arange(8), 5), r"expected uint8 of shape \(40, 32, 32, 3\): 8 images"),
    ],
)
def test_wrong_labels_are_refused(tmp_path: Path, labels: Any, words: str) -> None:
    cifar_folder(tmp_path)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(UserError, match=words):
        CifarFiles(tmp_path, 10, TWO)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels.npy: no such file"):
        CifarFiles(tmp_path, 10)
    with pytest.raises(UserError, match="no folder"):
        CifarFiles(tmp_path / "none", 10)


@pytest.mark.parametrize("group", ["", "weather"])
def test_imagenets_folders_are_read(tmp_path: Path, group: str) -> None:
    imagenet_folder(tmp_path, group=group)
    found = ImageNetFiles(tmp_path, TWO, choose=lambda labels: np.flatnonzero(labels == 1))
    assert (found.classes, found.count, list(found.labels)) == (2, 4, [1, 1])
    pixels = whole(found.corrupted("fog", 3))
    assert pixels.shape == (2, 224, 224, 3)
    assert np.abs(pixels.astype(int) - 121).max() <= 1
    assert found.source("fog") == "files"


def test_imagenets_clean_pictures_are_those_of_the_same_names(tmp_path: Path) -> None:
    imagenet_folder(tmp_path / "c")
    clean = tmp_path / "whole" / "val"
    for wnid in ("n01", "n02"):
        (clean / wnid).mkdir(parents=True)
        for picture in ("a.JPEG", "b.JPEG"):
            Image.fromarray(np.full((300, 256, 3), 200, np.uint8)).save(clean / wnid / picture)
    found = ImageNetFiles(tmp_path / "c", TWO, clean=clean.parent)
    parts = found.clean()
    assert parts is not None
    assert whole(parts).shape == (4, 224, 224, 3)
    assert "recipe" not in found.settings  # nothing is made here, though two of nineteen are asked for
    (clean / "n02" / "b.JPEG").unlink()
    with pytest.raises(UserError, match=r"n02/b.JPEG: no such clean picture"):
        ImageNetFiles(tmp_path / "c", TWO, clean=clean)


def test_pictures_of_one_other_size_are_taken_as_they_are(tmp_path: Path) -> None:
    for path in imagenet_folder(tmp_path):
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    found = ImageNetFiles(tmp_path, TWO)
    assert whole(found.corrupted("fog", 1)).shape == (4, 64, 64, 3)
    assert "64×64, 224×224 in the published data" in found.remarks[""]
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / "fog" / "3" / "n02" / "a.JPEG")
    with pytest.raises(UserError, match="JPEG is of 32×64 pixels, others of 64×64"):
        whole(found.corrupted("fog", 3))


def test_clean_pictures_of_another_size_than_corrupted_ones_are_refused(tmp_path: Path) -> None:
    for path in imagenet_folder(tmp_path / "c"):
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
        (tmp_path / "clean" / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((70, 64, 3), np.uint8)).save(
            tmp_path / "clean" / path.parent.name / path.name
        )
    found = ImageNetFiles(tmp_path / "c", TWO, clean=tmp_path / "clean")
    with pytest.raises(UserError, match="is of 70×64 pixels, others of 64×64"):
        whole(found.clean())


def test_clean_images_in_another_order_are_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    labels = np.zeros(8, int)
    np.save(tmp_path / "labels.npy", np.zeros(40, np.uint8))
    np.save(tmp_path / "fog.npy", np.concatenate([images // 2 + 60] * 5))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    told: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.2] * 3, "progress": None, "corruptions": "fog"}
    for order, right in ((images, True), (images[::-1], False)):
        clean = GeneratedImages(order, labels, classes=10)
        versions = CifarFiles(tmp_path, 10, ("fog",), clean=clean)
        if right:
            assert robustness(model, versions, **told).finished
        else:
            with pytest.raises(UserError, match="the clean images aren't those of fog in cifar10c"):
                robustness(model, versions, **told)


def test_pictures_that_are_others_now_are_seen(tmp_path: Path) -> None:
    imagenet_folder(tmp_path / "c")
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    told: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.2] * 3, "progress": None, "corruptions": TWO}
    path = tmp_path / "x.robustness.h5"
    robustness(model, ImageNetFiles(tmp_path / "c", TWO), path=path, **told)
    robustness(model, ImageNetFiles(tmp_path / "c", TWO), path=path, **told)
    Image.fromarray(np.zeros((224, 224, 3), np.uint8)).save(tmp_path / "c" / "fog" / "4" / "n01" / "b.JPEG")
    with pytest.raises(UserError, match="fog at severity 4 was measured on other pixels than there are now"):
        robustness(model, ImageNetFiles(tmp_path / "c", TWO), path=path, **told)


def test_other_pictures_at_a_severity_are_refused(tmp_path: Path) -> None:
    imagenet_folder(tmp_path)
    extra = tmp_path / "fog" / "4" / "n02" / "c.JPEG"
    Image.fromarray(np.zeros((224, 224, 3), np.uint8)).save(extra)
    with pytest.raises(UserError, match=r"fog/4 has other pictures.*n02/c.JPEG is only in the former"):
        ImageNetFiles(tmp_path, TWO)
    extra.unlink()
    (tmp_path / "fog" / "5").rename(tmp_path / "fog" / "6")
    with pytest.raises(UserError, match=r"fog/5: no such folder"):
        ImageNetFiles(tmp_path, TWO)
    with pytest.raises(UserError, match="frost: no such file or folder"):
        ImageNetFiles(tmp_path, ("frost",))
    with pytest.raises(UserError, match="no folder"):
        ImageNetFiles(tmp_path / "none")
    broken = tmp_path / "snow" / "1" / "n01" / "a.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UserError, match=r"n01/a.JPEG can't be decoded"):
        whole(ImageNetFiles(tmp_path, ("snow",)).corrupted("snow", 1))


def test_generated_images_are_checked() -> None:
    good = np.zeros((3, 32, 32, 3), np.uint8)
    with pytest.raises(UserError, match="images are float64"):
        GeneratedImages(good / 1.0, np.zeros(3, int))
    with pytest.raises(UserError, match=r"labels are int64 of shape \(4,\)"):
        GeneratedImages(good, np.zeros(4, int))
    with pytest.raises(UserError, match="images of 16×16"):
        GeneratedImages(good[:, :16, :16], np.zeros(3, int))
    assert GeneratedImages(good, np.array([0, 1, 4])).classes == 5
    assert len(BENCHMARK) == 15
