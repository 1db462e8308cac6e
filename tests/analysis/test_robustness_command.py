"""``python -m analysis.robustness``: table, JSON, CSV, going on after a stop, bad input."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from robustness_cases import drawn
from test_robustness_files import cifar_folder, imagenet_folder

from analysis.robustness import CORRUPTIONS, read, robustness_file
from analysis.robustness.__main__ import _reference, main
from analysis.robustness.generated import corrupt
from analysis.robustness.measuring import robustness
from analysis.robustness.robustness_options import RobustnessOptions
from analysis.robustness.versions import GeneratedImages
from landscape.errors import UserError

MODEL = ["--model", "test_robustness_command:tiny"]
DATA = ["--data", "npz:images.npz"]
TWO = ["--corruptions", "contrast", "snow"]
COUNT = 12


class Tiny(torch.nn.Module):
    """A classifier of 32×32 images by a few of their pixels."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(48, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs[:, :, ::8, ::8].flatten(1))  # type: ignore[no-any-return]


def tiny() -> Tiny:
    """For ``--model test_robustness_command:tiny``."""
    return Tiny()


class Outcome:
    """How a command ended and what it said."""

    def __init__(self, *arguments: object, folder: Path) -> None:
        out, err, self.code = io.StringIO(), io.StringIO(), 0
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([str(one) for one in arguments])
            except SystemExit as stop:
                self.code = int(stop.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    arrays = {
        f"{split}_{part}": value
        for split in ("train", "test")
        for part, value in (
            ("x", draw.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)),
            ("y", np.arange(COUNT) % 10),
        )
    }
    np.savez(tmp_path / "images.npz", **arrays)  # type: ignore[arg-type]
    for number, name in enumerate("ab"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            torch.save(tiny().state_dict(), tmp_path / f"{name}.pt")
    return tmp_path


def test_table_json_and_csv_say_that_images_are_generated(folder: Path) -> None:
    options = [*MODEL, *DATA, *TWO, "--json", "out.json", "--csv", "out.csv"]
    done = Outcome("a.pt", "b.pt", *options, folder=folder)
    assert done.code == 0, done.err
    assert "contrast *" in done.out
    assert "generated here: no published number can be compared with these" in done.out
    assert "generated here" in done.err
    assert "none: plain mean error" in done.out
    rows = list(csv.DictReader(io.StringIO((folder / "out.csv").read_text())))
    assert {row["source"] for row in rows} == {"generated"}
    assert [row["severity"] for row in rows if row["corruption"] == "snow"] == list("12345") * 2
    content = json.loads((folder / "out.json").read_text())
    assert [one["name"] for one in content["results"]] == ["a", "b"]
    first = content["results"][0]
    assert first["source"] == "generated"
    assert first["comparable_with_published"] is False
    assert first["about"]["deviations"] == {
        "snow": "ImageMagick's motion blur by its formula, in floating point, not by ImageMagick"
    }
    kept = read(folder / "robustness" / "a.robustness.h5")
    assert kept.finished
    assert kept.sources == ("generated", "generated")
    assert first["corruptions"]["snow"]["accuracy"][4]["value"] == kept.accuracy("snow", 5).value


def test_answers_are_the_networks(folder: Path) -> None:
    Outcome("a.pt", *MODEL, *DATA, *TWO, "--batch-size", "5", folder=folder)
    found = read(folder / "robustness" / "a.robustness.h5")
    with np.load(folder / "images.npz") as arrays:
        pixels, mean = arrays["test_x"], arrays["train_x"].mean((0, 1, 2)) / 255
        std, labels = arrays["train_x"].std((0, 1, 2)) / 255, arrays["test_y"]
    model = tiny()
    model.load_state_dict(torch.load(folder / "a.pt", weights_only=True))
    images = corrupt(pixels[found.places], "snow", 4, places=found.places)
    inputs = torch.from_numpy(((images / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    answers = model(inputs).argmax(1).numpy() == labels[found.places]
    assert np.array_equal(found.correct[found.corruptions.index("snow"), 3], answers)


def test_a_stopped_run_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.robustness import measuring

    options = [*MODEL, *DATA, *TWO]
    Outcome("a.pt", *options, "-o", "whole", folder=folder)
    usual, calls = measuring._Asker.answers, []

    def sometimes(self: Any, parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return usual(self, parts)

    monkeypatch.setattr(measuring._Asker, "answers", sometimes)
    stopped = Outcome("a.pt", *options, folder=folder)
    assert stopped.code == 130
    assert "give the same command to go on" in stopped.err
    path = folder / "robustness" / "a.robustness.h5"
    assert read(path).done.sum() == 3  # and the clean images
    again = Outcome("a.pt", *options, folder=folder)
    assert again.code == 0, again.err
    assert len(calls) == 5 + 1 + 7  # one is answered again, and what was left
    first, second = read(path), read(folder / "whole" / "a.robustness.h5")
    assert np.array_equal(first.correct, second.correct)
    assert np.array_equal(first.clean, second.clean)
    assert first.about["pixels"] == second.about["pixels"]
    done = Outcome("a.pt", *options, folder=folder)
    assert "is there and finished" in done.err
    assert len(calls) == 14  # one is answered again here, too


def test_more_corruptions_join_those_that_are_there(folder: Path) -> None:
    Outcome("a.pt", *MODEL, *DATA, "--corruptions", "snow", folder=folder)
    Outcome("a.pt", *MODEL, *DATA, "--corruptions", "contrast", folder=folder)
    found = read(folder / "robustness" / "a.robustness.h5")
    assert found.corruptions == ("snow", "contrast")
    assert found.finished


def test_another_seed_is_another_result(folder: Path) -> None:
    Outcome("a.pt", *MODEL, *DATA, *TWO, folder=folder)
    other = Outcome("a.pt", *MODEL, *DATA, *TWO, "--corruption-seed", "1", folder=folder)
    assert other.code == 2
    assert "made with other settings (recipe" in other.err
    assert "--overwrite" in other.err
    assert (
        Outcome("a.pt", *MODEL, *DATA, *TWO, "--corruption-seed", "1", "--overwrite", folder=folder).code == 0
    )


def test_other_answers_to_known_images_are_noticed(folder: Path) -> None:
    Outcome("a.pt", *MODEL, *DATA, "--corruptions", "snow", folder=folder)
    path = folder / "robustness" / "a.robustness.h5"
    found = read(path)
    found.correct[0, 0] = ~found.correct[0, 0]
    robustness_file.save(found, path)
    done = Outcome("a.pt", *MODEL, *DATA, *TWO, folder=folder)
    assert done.code == 2
    assert "answers are others now" in done.err


def test_the_published_layout_is_read(folder: Path) -> None:
    made = cifar_folder(folder / "c", CORRUPTIONS)
    done = Outcome("a.pt", *MODEL, "--data", "cifar10c:c", "--json", "-", folder=folder)
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)["results"]
    assert entry["source"] == "files"
    assert entry["comparable_with_published"] is False  # six images aren't all
    assert "no clean images of CIFAR-10" in done.err
    assert entry["mce_reference"] == "none: plain mean error"
    assert entry["mce"]["value"] == pytest.approx(1 - entry["mean_15"]["value"])
    model = tiny()
    model.load_state_dict(torch.load(folder / "a.pt", weights_only=True))
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    inputs = ((made["fog"][6:12] / 255 - mean) / std).transpose(0, 3, 1, 2)
    right = model(torch.from_numpy(inputs).float()).argmax(1).numpy() == np.arange(6)
    assert entry["corruptions"]["fog"]["accuracy"][1]["value"] == pytest.approx(right.mean())


def test_a_reference_is_named(folder: Path) -> None:
    options = [*MODEL, *DATA, "--examples", "4"]
    Outcome("b.pt", *options, folder=folder)
    kept = "robustness/b.robustness.h5"
    done = Outcome("a.pt", *options, "--reference", kept, "--json", "-", folder=folder)
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)["results"]
    assert entry["mce_reference"] == "b, on the same images"
    own = Outcome("b.pt", *options, "--reference", kept, "--json", "-", folder=folder)
    assert json.loads(own.out)["results"][0]["mce"]["value"] == pytest.approx(1)
    few = Outcome(
        "a.pt", *MODEL, *DATA, *TWO, "--examples", "3", "-o", "few", "--reference", kept, folder=folder
    )
    assert few.code == 2
    assert "other images" in few.err


@pytest.mark.parametrize(
    ("classes", "size", "alexnet"), [(1000, 224, True), (200, 64, False), (2, 224, False)]
)
def test_alexnet_is_the_reference_of_imagenets_classes_alone(classes: int, size: int, alexnet: bool) -> None:
    one = drawn(0)
    one = replace(one, sources=("files",) * 15)
    one.about["data"] = {"classes": classes, "size": [size, size]}
    options = RobustnessOptions()
    options = replace(options, data=replace(options.data, data="imagenetc:c"))
    assert ("AlexNet" in _reference([one], options).name) == alexnet


def test_imagenet_c_of_two_classes_is_divided_by_nothing(folder: Path) -> None:
    imagenet_folder(folder / "c", ("fog", "snow"))
    options = ["--model", "test_robustness_command:two", "--data", "imagenetc:c"]
    done = Outcome("two.pt", *options, "--corruptions", "fog", folder=folder)
    assert done.code == 2
    with torch.random.fork_rng(devices=[]):
        torch.save(two().state_dict(), folder / "two.pt")
    done = Outcome("two.pt", *options, "--corruptions", "fog", folder=folder)
    assert done.code == 0, done.err
    assert "AlexNet" not in done.out  # whose errors are those on 1,000 classes
    assert "generated" not in done.out
    wrong = Outcome("a.pt", *MODEL, "--data", "imagenetc:c", "--corruptions", "fog", folder=folder)
    assert wrong.code == 2
    assert "the model has 10 classes, c (class folders) has 2" in wrong.err


def two() -> Tiny:
    """For two classes, of any size of image."""

    class Any224(Tiny):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs[:, :, :32, :32])

    return Any224(2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--corruptions", "rain"], "unknown corruption 'rain'; expected one of gaussian_noise"),
        (["--data", "cifar10c:"], "expected cifar10c:PATH"),
        (["--data", "cifar10c:none"], "no folder none"),
        (["--data", "cifar100c:none"], "the model has 10 classes, cifar100c has 100"),
        (["--clean", "cifar10"], "--clean goes with published corrupted images"),
        (["--generate-missing"], "--generate-missing goes with published files"),
        (["--loss", "regression"], "--loss: robustness counts right answers"),
        (["--corruption-seed", "-1"], "--corruption-seed -1: expected at least 0"),
        (["--reference", "none.h5"], "none.h5: no such file"),
        (["--csv", "a.pt"], "--csv a.pt would overwrite"),
    ],
)
def test_bad_input_is_one_line(folder: Path, options: list[str], words: str) -> None:
    data = [] if "--data" in options else DATA
    narrow = [] if "--corruptions" in options else TWO
    done = Outcome("a.pt", *MODEL, *data, *narrow, *options, folder=folder)
    assert done.code == 2
    assert words in done.err.splitlines()[-1]


def test_small_images_are_refused(folder: Path) -> None:
    arrays = {
        f"{split}_{part}": value
        for split in ("train", "test")
        for part, value in (("x", np.zeros((10, 28, 28, 3), np.uint8)), ("y", np.arange(10)))
    }
    np.savez(folder / "small.npz", **arrays)  # type: ignore[arg-type]
    done = Outcome("a.pt", *MODEL, "--data", "npz:small.npz", "--mean", "0", "--std", "1", folder=folder)
    assert done.code == 2
    assert "images of 28×28: corruptions are published for 32×32" in done.err


def test_the_function_refuses_what_does_not_fit() -> None:
    images = GeneratedImages(np.zeros((4, 32, 32, 3), np.uint8), np.arange(4), classes=4)
    numbers: dict[str, Any] = {"mean": [0, 0, 0], "std": [1, 1, 1], "progress": None}
    with pytest.raises(UserError, match="the model has 10 classes, images has 4"):
        robustness(Tiny(), images, **numbers)
    with pytest.raises(UserError, match="expected three numbers"):
        robustness(Tiny(4), images, mean=[0], std=[1], progress=None)
    with pytest.raises(UserError, match="dtype 'half'"):
        robustness(Tiny(4), images, dtype="half", **numbers)
    found = robustness(Tiny(4), images, corruptions=["fog"], **numbers)
    assert found.corruptions == ("fog",)
    assert found.clean is not None


def test_nan_is_no_answer() -> None:
    images = GeneratedImages(np.zeros((3, 32, 32, 3), np.uint8), np.zeros(3, int), classes=4)
    model = Tiny(4)
    with torch.no_grad():
        model.linear.bias[1] = torch.nan
    found = robustness(model, images, corruptions=["fog"], mean=[0] * 3, std=[1] * 3, progress=None)
    assert not found.clean_accuracy().value
