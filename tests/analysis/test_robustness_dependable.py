"""Whose answers a file holds, and networks whose answers hang on more than image and weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from analysis.robustness import CifarFiles, GeneratedImages, Robustness, read, robustness_file
from analysis.robustness.measuring import robustness
from landscape.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
VERSIONS = GeneratedImages(IMAGES, np.arange(20) % 10)


def network(*layers: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), *layers, nn.Linear(48, 10))


def negated() -> nn.Sequential:
    model = network()
    with torch.no_grad():
        model[2].weight.neg_()
    return model


def ask(model: nn.Module, versions: Any = VERSIONS, **options: Any) -> Robustness:
    numbers: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "corruptions": ["contrast"]}
    return robustness(model, versions, **{**numbers, "progress": None, **options})


@pytest.mark.parametrize("other", [negated(), network(nn.Tanh())])
def test_another_networks_answers_are_not_taken_over(tmp_path: Path, other: nn.Module) -> None:
    path = tmp_path / "r.h5"
    first = ask(network(), path=path)
    assert np.array_equal(ask(network(), path=path).correct, first.correct)
    with pytest.raises(UserError, match="made with other settings"):
        ask(other, path=path)
    found = ask(other, path=path, overwrite=True)
    assert np.array_equal(found.correct, ask(other).correct)


def test_another_buffer_is_another_network(tmp_path: Path) -> None:
    model = network(nn.BatchNorm1d(48))
    ask(model, path=tmp_path / "r.h5")
    model[2].running_mean += 1
    with pytest.raises(UserError, match="weights: the file has"):
        ask(model, path=tmp_path / "r.h5")


def test_a_finished_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    found = ask(network(), path=path)
    robustness_file.save(replace(found, correct=~found.correct), path)
    with pytest.raises(UserError, match="answers are others now"):
        ask(network(), path=path)


def test_clean_answers_alone_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    found = ask(network(), path=path)
    assert found.clean is not None
    robustness_file.save(replace(found, done=np.zeros_like(found.done), clean=~found.clean), path)
    with pytest.raises(UserError, match="the clean images: 20 of 20 answers are others now"):
        ask(network(), path=path)


def test_older_files_are_known_by_their_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    found = ask(network(), path=path, sha256="a" * 64)
    older = {key: value for key, value in found.settings.items() if key != "weights"}
    robustness_file.save(replace(found, settings=older), path)
    assert np.array_equal(ask(network(), path=path, sha256="a" * 64).correct, found.correct)
    with pytest.raises(UserError, match="network: the file has"):
        ask(network(), path=path, sha256="b" * 64)
    robustness_file.save(replace(found, sha256="", settings=older | {"network": ""}), path)
    with pytest.raises(UserError, match="made without a digest of its weights"):
        ask(network(), path=path)
    assert read(path).finished  # tables may have it all the same


class Dropping(nn.Module):
    """Dropout that no mode turns off."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.dropout(inputs, 0.5)


class Counting(nn.Module):
    """Gives something else at every call."""

    calls = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return inputs * self.calls


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Dropping(), "no function of image and weights: .* dropout stays on in evaluation mode"),
        (Counting(), "no function of image and weights: .* changes from call to call"),
        (nn.BatchNorm1d(48, track_running_stats=False), "depend on the others in its batch"),
    ],
)
def test_answers_depend_on_image_and_weights_alone(tmp_path: Path, layer: nn.Module, words: str) -> None:
    path = tmp_path / "r.h5"
    with pytest.raises(UserError, match=words):
        ask(network(copy.deepcopy(layer)), path=path)
    assert not path.exists()


def test_published_files_without_clean_images_are_checked_too(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.tile(np.arange(20) % 10, 5))
    np.save(tmp_path / "contrast.npy", np.concatenate([IMAGES] * 5))
    files = CifarFiles(tmp_path, 10, ("contrast",))
    assert ask(network(), files).finished
    with pytest.raises(UserError, match="dropout stays on"):
        ask(network(Dropping()), files)


def test_a_single_image_is_enough() -> None:
    assert len(ask(network(), GeneratedImages(IMAGES[:1], np.array([9])))) == 1


def test_what_the_network_raises_is_one_line() -> None:
    with pytest.raises(UserError, match=r"fails on the first images, \[16, 3, 32, 32\]: RuntimeError"):
        ask(nn.Linear(5, 10))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": -1}, "batch size must be at least 1"),
        ({"batch_size": 1.5}, "batch size must be a whole number"),
        ({"std": (0, 0, 0)}, "std 0.0: expected a positive"),
        ({"std": (1, float("nan"), 1)}, "std nan"),
        ({"mean": (float("inf"), 0, 0)}, "mean inf: expected a finite number"),
        ({"mean": ("x", 0, 0)}, "mean must be a number"),
        ({"mean": 0.5}, "expected three numbers each"),
        ({"corruptions": []}, "no corruption"),
    ],
)
def test_arguments_that_are_none_are_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ask(network(), **options)


def test_labels_outside_the_classes_are_refused() -> None:
    for labels, classes in ((np.array([-100, 1]), 0), (np.array([0, 3]), 3)):
        with pytest.raises(UserError, match="labels run from"):
            GeneratedImages(IMAGES[:2], labels, classes=classes)


def test_one_name_of_a_corruption_is_enough() -> None:
    assert ask(network(), corruptions="fog").corruptions == ("fog",)


def test_a_name_that_cannot_be_kept_is_refused_before_it_computes(tmp_path: Path) -> None:
    model, asked = network(), []
    model.register_forward_hook(lambda *one: asked.append(one))
    with pytest.raises(UserError, match=r"name is 'org/net'; expected one without separators"):
        ask(model, path=tmp_path / "r.h5", name="org/net")
    assert asked == []
    assert ask(network(), name="org/net").name == "org/net"
