"""Where nobody says how pixels are normalized, the network's own answers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape.checkpoint import LoadedCheckpoint
from landscape.commandline.options import DataOptions
from landscape.commandline.subject import load_examples
from landscape.data.conventions import conventions, settle
from landscape.data.normalization import Normalization, per_channel
from landscape.errors import UserError

CLASSES, PER_CLASS = 4, 70
MEASURED = "measured on the train split"
LEVELS = np.array([[40, 90, 150], [90, 60, 120], [130, 150, 60], [180, 110, 90]])


class Nearest(nn.Module):
    """Names the class whose typical colour, normalized in one particular way, is nearest."""

    def __init__(self, normalization: Normalization, levels: Any = LEVELS) -> None:
        super().__init__()
        mean, std = (torch.tensor(one) for one in per_channel(normalization, levels.shape[1]))
        self.typical = nn.Parameter((torch.tensor(levels) / 255 - mean) / std)
        self.width = float((0.06 / std).mean())

    def forward(self, inputs: Tensor) -> Tensor:
        distance = (inputs.mean((2, 3))[:, None] - self.typical) / self.width
        return -distance.square().sum(2)


def pictures(levels: Any = LEVELS) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    labels = np.tile(np.arange(CLASSES), PER_CLASS)
    noise = np.random.default_rng(0).normal(0, 14, (len(labels), 1, 1, levels.shape[1]))
    pixels = np.clip(levels[labels][:, None, None] + noise, 0, 255).round().astype(np.uint8)
    return np.broadcast_to(pixels, (len(labels), 8, 8, levels.shape[1])).copy(), labels


def measured(pixels: np.ndarray[Any, Any]) -> Normalization:
    flat = pixels.reshape(-1, pixels.shape[-1]) / 255
    return tuple(flat.mean(0).tolist()), tuple(flat.std(0).tolist())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHARPSCAPE_DATA", raising=False)
    pixels, labels = pictures()
    np.savez("mine.npz", train_x=pixels, train_y=labels, test_x=pixels[:40], test_y=labels[:40])
    return "npz:mine.npz"


def loaded(model: nn.Module, **stored: Any) -> LoadedCheckpoint:
    return LoadedCheckpoint(
        model.eval(), None, "net", "mine", "given", CLASSES, "0" * 64, data=stored or None
    )


NAMES = list(conventions(3, (MEASURED, measured(pictures()[0])), (8, 8)))


def test_the_usual_ones_are_tried() -> None:
    assert {"ImageNet's", "0.5/0.5", "0..1", "0..255", "-0.5..0.5", f"mean of {MEASURED} only"} < set(NAMES)
    small = conventions(3, ("x", ((0.1,) * 3, (0.1,) * 3)), (32, 32))
    assert "CIFAR-10's" in small
    assert "MNIST's" in conventions(1, ("x", ((0.1,), (0.1,))), (28, 28))
    assert len(set(small.values())) == len(small)


@pytest.mark.parametrize("name", NAMES)
def test_the_one_it_was_trained_with_is_found(
    data: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = conventions(3, (MEASURED, measured(pictures()[0])), (8, 8))[name]
    _, about = load_examples(loaded(Nearest(truth)), DataOptions(data=data))
    assert about["data"]["mean"] == pytest.approx(truth[0])
    assert about["data"]["std"] == pytest.approx(truth[1])
    tried = about["data"]["normalization"]["tried"]
    assert tried[0]["name"] == name
    assert {one["name"] for one in tried} == set(NAMES)
    assert tried[0]["accuracy"] > 0.9
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("normalization")]
    assert len(said) == 1
    for one in tried:
        assert f"{one['name']} {100 * one['accuracy']:.1f} %" in said[0]


def test_losses_and_accuracies_are_those_of_the_definition(data: str) -> None:
    pixels, labels = pictures()
    model = Nearest(((0.5,), (0.5,)))
    images, targets = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)
    settled = settle(model, images, targets, (MEASURED, measured(pixels)), stated=False)
    for trial in settled.trials:
        shift, scale = (torch.tensor(one).reshape(1, -1, 1, 1) for one in (trial.mean, trial.std))
        scores = model((images / 255 - shift) / scale).detach()
        assert trial.loss == pytest.approx(float(nn.functional.cross_entropy(scores, targets)), rel=1e-4)
        assert trial.accuracy == float((scores.argmax(1) == targets).double().mean())


def test_the_choice_does_not_depend_on_the_examples(data: str) -> None:
    """The same on resume, for every split and number: results of one network agree."""
    model = loaded(Nearest(((0.5,), (0.5,))))
    choices = [
        load_examples(model, DataOptions(data=data, **more))[1]["data"]["normalization"]  # type: ignore[arg-type]
        for more in ({}, {"split": "test"}, {"examples": 3}, {"split": "both", "example_seed": 4})
    ]
    assert all(one == choices[0] for one in choices)


def test_grey_images_have_their_own(tmp_path: Path) -> None:
    levels = LEVELS[:, :1]
    pixels, labels = pictures(levels)
    images, targets = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)
    model = Nearest(((0.1307,), (0.3081,)), levels)
    settled = settle(model, images, targets, ("x", measured(pixels)), stated=False)
    assert settled.normalization == ((0.1307,), (0.3081,))


def test_what_user_or_checkpoint_say_is_taken(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    half: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    model = Nearest(((0.5,), (0.5,)))
    _, about = load_examples(loaded(model), DataOptions(data=data, **half))
    assert about["data"]["mean"] == half["mean"]
    assert about["data"]["normalization"]["source"] == "as given"
    assert "warning" not in capsys.readouterr().err
    _, about = load_examples(loaded(model, **half), DataOptions(data=data))
    assert about["data"]["normalization"] == {"source": "the checkpoint's"}
    assert capsys.readouterr().err.endswith("normalization: the checkpoint's\n")


def test_a_stated_one_far_below_the_others_is_warned_of(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: dict[str, Any] = {"mean": (0.0,), "std": (1.0,)}
    _, about = load_examples(loaded(Nearest(((0.5,), (0.5,)))), DataOptions(data=data, **wrong))
    assert about["data"]["mean"] == (0.0,) * 3
    warning = capsys.readouterr().err.splitlines()[-1]
    assert warning.startswith("warning: ")
    assert "with 0.5/0.5 (--mean 0.5 0.5 0.5 --std 0.5 0.5 0.5)" in warning


def test_an_untrained_network_keeps_the_likeliest_and_is_warned_of(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Constant(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.zeros(len(inputs), CLASSES) + 1e-9 * inputs.mean()

    _, about = load_examples(loaded(Constant()), DataOptions(data=data))
    assert about["data"]["mean"] == pytest.approx(measured(pictures()[0])[0])
    assert "better than chance; check that images, labels" in capsys.readouterr().err


def test_a_convention_that_overflows_is_not_taken(data: str) -> None:
    class Picky(Nearest):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) + torch.where(inputs.max() > 20, float("nan"), 0.0)

    _, about = load_examples(loaded(Picky(((0.5,), (0.5,)))), DataOptions(data=data))
    assert about["data"]["mean"] == (0.5,) * 3
    assert about["data"]["normalization"]["tried"][-1]["loss"] is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": (0.5,)}, "--mean and --std go together"),
        ({"std": (0.5,)}, "--mean and --std go together"),
        ({"mean": (0.5,), "std": (0.5, 0.5, 0.5)}, "--mean has 1 numbers, --std 3"),
        (
            {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
            "scaled to 0..1 first; divide both by 255",
        ),
    ],
)
def test_half_a_normalization_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataOptions(**given).check()


def test_wrong_number_of_channels(data: str) -> None:
    with pytest.raises(UserError, match="1 or 3 channels"):
        load_examples(loaded(nn.Flatten()), DataOptions(data=data, mean=(0.5, 0.5), std=(0.5, 0.5)))
