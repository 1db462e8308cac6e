"""Photographs in files: what each becomes, whoever decodes it; broken ones; the same from any step on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from loop_helpers import CPU
from PIL import Image
from torchvision import transforms

from landscape.checkpoint.format import decode
from landscape.data import load_data
from landscape.errors import UserError
from landscape.images import IMAGENET_STATISTICS, read_images
from landscape.images.prepare import Change
from training.__main__ import main
from training.data import Images, TrainingData, generator_for
from training.photographs import Photographs, Reading, _context, photographs, read_training_data

LINE = "--model resnet20 --widths 2 3 4 --image-size 16 --batch-size 4 --threads 1 --device cpu --workers 0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 pictures to train on and 4 to test, of two classes and as many sizes as there are pictures."""
    root, draw = tmp_path_factory.mktemp("photos") / "few", np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                size = (20 + 3 * number, 41 - 2 * number, 3)
                pixels = draw.integers(0, 256, size).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.jpg", quality=95)
    return root


def read(folder: Path, workers: int = 0, **more: object) -> TrainingData:
    reading = Reading(workers=workers)
    return read_training_data(f"imagefolder:{folder}", 0.2, 3, CPU, reading, image_size=16, **more)  # type: ignore[arg-type]


def batches(data: Images, epoch: int = 0, **more: object) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(data.shuffled(3, generator_for(0, "epoch", epoch), augmented=True, **more))  # type: ignore[arg-type]


def test_augmentation_is_that_of_torchvision(folder: Path) -> None:
    data = read(folder).train
    assert isinstance(data, Photographs)
    generator = generator_for(0, "epoch", 2)
    found = list(data.shuffled(3, generator, augmented=True))
    order = torch.randperm(8, generator=generator_for(0, "epoch", 2)).tolist()
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(16),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(*IMAGENET_STATISTICS),
        ]
    )
    images = torch.cat([one for one, _ in found])
    with torch.random.fork_rng(devices=[]):
        for place, number in enumerate(order):
            torch.manual_seed(generator_for(generator.initial_seed(), "picture", number).initial_seed())
            with Image.open(data.files.path(number)) as picture:
                assert torch.allclose(images[place], theirs(picture.convert("RGB")), atol=1e-6)
    names = [data.files.path(number).parent.name for number in order]
    assert torch.cat([labels for _, labels in found]).tolist() == [name == "dog" for name in names]


def test_pictures_depend_on_seed_epoch_and_number_alone(folder: Path) -> None:
    """Not on who decodes them, on the process that trains, or on where a run goes on."""
    data = read(folder).train
    whole, beside = batches(data), batches(read(folder, workers=2).train)
    assert [len(labels) for _, labels in whole] == [3, 3, 2]
    for one, two in zip(whole, beside, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
    (last,) = batches(data, start=2)
    assert torch.equal(last[0], whole[2][0])
    parts = [batches(data, part=lambda one, rank=rank: one.tensor_split(2)[rank]) for rank in (0, 1)]
    for one, two, both in zip(*parts, whole, strict=True):
        assert torch.equal(torch.cat([one[0], two[0]]), both[0])
    other = torch.cat([images for images, _ in batches(data, epoch=1)])
    assert not torch.equal(other, torch.cat([images for images, _ in whole]))
    before = torch.random.get_rng_state()
    batches(data)
    assert torch.equal(before, torch.random.get_rng_state())


def test_evaluation_cuts_out_the_middle(folder: Path) -> None:
    data = read(folder)
    expected = read_images(f"imagefolder:{folder}", "test", change=Change(16)).images
    images = torch.cat([one for one, _ in data.test.in_order(3)])
    assert torch.equal(images, data.test.normalized(torch.from_numpy(expected)))
    with Image.open(folder / "val/cat/0.jpg") as picture:
        middle = transforms.CenterCrop(16)(transforms.Resize(18)(picture))  # 256 for 224
    assert np.array_equal(np.asarray(middle), expected[0])
    assert torch.equal(data.test.head(2), images[:2])
    assert torch.equal(data.test.first(2).head(9), images[:2])
    drawn, labels = data.train.draw_balanced(2, torch.Generator().manual_seed(0))
    assert (tuple(drawn.shape), labels.tolist()) == ((4, 3, 16, 16), [0, 1, 0, 1])
    assert (len(data.train), len(data.validation), data.held_out.tolist()) == (8, 2, data.held_out.tolist())


def test_which_folders_are_streamed(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small" / "train" / "a"
    small.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (8, 8)).save(small / f"{number}.png")
    assert photographs(f"imagefolder:{folder}", None)
    assert not photographs(f"imagefolder:{tmp_path / 'small'}", None)
    assert photographs(f"imagefolder:{tmp_path / 'small'}", 16)
    with pytest.raises(
        UserError, match=r"image-size 16: images of sample have a size; it is for imagefolder"
    ):
        photographs("sample", 16)


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    """The same folder with one picture cut off and one that is none."""
    root = tmp_path / "few"
    shutil.copytree(folder, root)
    content = (root / "train/dog/1.jpg").read_bytes()
    (root / "train/dog/1.jpg").write_bytes(content[: len(content) // 2])
    (root / "val/cat/1.jpg").write_text("no picture")
    return root


def test_a_broken_picture_is_refused(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{LINE} --epochs 1 --validation 0 --data imagefolder:{broken} --output {tmp_path / 'run'}"
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert re.search(
        r"train/dog/1\.jpg can't be decoded: .*; repair or remove it, or give --skip-broken", said
    )


def test_decoders_are_not_forked_beside_threads_of_torch_distributed(folder: Path, tmp_path: Path) -> None:
    expected = [images for images, _ in read(folder).train.in_order(3)]
    assert _context().get_start_method() == "fork"
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)  # type: ignore[no-untyped-call]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert _context().get_start_method() == "forkserver"
        found = [images for images, _ in read(folder, workers=1).train.in_order(3)]
    finally:
        torch.distributed.destroy_process_group()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_surface_of_other_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    line = f"{LINE} --epochs 1 --validation 0 --data imagefolder:{folder} --output {tmp_path / 'run'}"
    main(line.split())
    others = tmp_path / "others"
    shutil.copytree(folder, others)
    for split in ("train", "val"):
        (others / split / "dog").rename(others / split / "owl")
    stored = decode(torch.load(tmp_path / "run" / "final.pt", weights_only=True)).data
    assert load_data(f"imagefolder:{folder}", stored=stored).num_classes == 2
    with pytest.raises(UserError, match="class 1 of the model is dog, of others owl"):
        load_data(f"imagefolder:{others}", stored=stored)


def test_broken_pictures_are_left_out_and_counted(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{LINE} --epochs 1 --validation 0 --data imagefolder:{broken} --output {tmp_path / 'run'}"
    main([*line.split(), "--skip-broken"])
    said = capsys.readouterr().err
    assert "train: 1 of 10 pictures left out, broken: dog/1.jpg" in said
    assert "test: 1 of 4 pictures left out, broken: cat/1.jpg" in said
    found = decode(torch.load(tmp_path / "run" / "final.pt", weights_only=True))
    assert found.data["left_out"] == {"train": 1, "test": 1}
    assert found.data["classes"] == ["cat", "dog"]
    assert found.data["selection"]["trained"].tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert (found.metrics["examples_trained"], found.metrics["test_examples"]) == (9, 3)
    with pytest.raises(SystemExit):  # another set of images than the finished run's
        main(line.split())
    assert "finished run of other few images" in capsys.readouterr().err


def test_classes_that_do_not_match(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "few"
    shutil.copytree(folder, root)
    (root / "val/dog").rename(root / "val/wolf")
    with pytest.raises(SystemExit):
        main(f"{LINE} --data imagefolder:{root} --output {tmp_path / 'run'}".split())
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "val has the class 'wolf'" in said
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit):
        main(["--data", "sample", "--skip-broken", "--output", str(tmp_path / "run")])
    assert "sample holds no photographs" in capsys.readouterr().err


def test_a_process_that_decodes_dies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.photographs.decode", lambda *rest: __import__("os")._exit(1))
    with pytest.raises(UserError, match=r"a process that decodes pictures is gone .*give fewer --workers"):
        batches(read(folder, workers=1).train)
