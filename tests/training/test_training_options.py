"""Options of the command line that only show together: names, precision, compilation, accumulation."""

import dataclasses
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from loop_helpers import CPU, SMALL, assert_same, fit

from landscape.errors import UserError
from training import loop
from training.__main__ import Machine
from training.config import Recipe, run_name
from training.data import TrainingData, balanced_subset, load_splits
from training.optimizers import OPTIMIZERS
from training.sparsity import METHODS


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_two_options_share_a_name(method: str, optimizer: str) -> None:
    """The command line would give the value to one of them and say nothing."""
    groups = (Recipe, METHODS[method], OPTIMIZERS[optimizer], Machine)
    names = [item.name for group in groups for item in fields(group)]
    assert len(names) == len(set(names))


def test_names_of_runs_are_pinned() -> None:
    assert run_name(SMALL.to_dict("tiny")) == "resnet20-tiny-random-0.7-sgd-seed0"


@pytest.mark.parametrize("accumulate", [2, 16, 40])
def test_any_number_of_pieces_trains(data: TrainingData, tmp_path: Path, accumulate: int) -> None:
    """Also one per image, and more than there are."""
    config = dataclasses.replace(
        SMALL, epochs=1, accumulate=accumulate, optimizer=OPTIMIZERS["s2sam"](lr=0.1)
    )
    checkpoint = fit(config, data, tmp_path)
    assert checkpoint.metrics["train_loss"] > 0
    assert checkpoint.config["accumulate"] == accumulate


def test_a_piece_counts_by_its_images(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batch norm out of the way, pieces of unequal size add up to the gradient of the whole batch."""
    found = {}
    for accumulate in (1, 3):
        original = loop.train_step

        def watched(run: loop.Run, *rest: object) -> None:
            for module in run.model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
            original(run, *rest)  # type: ignore[arg-type]  # noqa: B023

        monkeypatch.setattr(loop, "train_step", watched)
        config = dataclasses.replace(SMALL, epochs=1, accumulate=accumulate)
        found[accumulate] = fit(config, data, tmp_path / str(accumulate)).state_dict
        monkeypatch.undo()
    for name, value in found[1].items():
        assert torch.allclose(value.double(), found[3][name].double(), rtol=1e-3, atol=1e-5), name


def test_compiled_runs_train_the_same(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def eager(module: torch.nn.Module) -> torch.nn.Module:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", eager)
    plain = fit(SMALL, data, tmp_path / "plain")
    assert not compiled
    assert_same(plain, fit(SMALL, data, tmp_path / "compiled", extras=loop.Extras(compiled=True)))
    assert len(compiled) == 1


def test_precision(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="precision tf32: a format of GPUs"):
        fit(dataclasses.replace(SMALL, precision="tf32"), data, tmp_path / "tf32")
    assert not (tmp_path / "tf32").exists()
    half = fit(dataclasses.replace(SMALL, epochs=1, precision="bfloat16"), data, tmp_path / "half")
    full = fit(dataclasses.replace(SMALL, epochs=1), data, tmp_path / "full")
    assert all(value.dtype == full.state_dict[name].dtype for name, value in half.state_dict.items())
    assert half.metrics["train_loss"] == pytest.approx(full.metrics["train_loss"], rel=0.05)
    assert half.metrics["train_loss"] != full.metrics["train_loss"]


def test_examples_are_balanced_and_held_out_ones_stay_out(tiny_npz: Path) -> None:
    whole = load_splits(f"npz:{tiny_npz}", 0.1, 0, CPU)
    part = load_splits(f"npz:{tiny_npz}", 0.1, 0, CPU, examples=30)
    assert part.train.labels.bincount().tolist() in ([8, 8, 7, 7], [8, 7, 8, 7], [7, 8, 7, 8], [7, 7, 8, 8])
    assert part.held_out.tolist() == whole.held_out.tolist()
    seen = {tuple(one.flatten().tolist()) for one in part.train.pixels}
    assert seen <= {tuple(one.flatten().tolist()) for one in whole.train.pixels}
    assert not seen & {tuple(one.flatten().tolist()) for one in whole.validation.pixels}
    for count in (0, 73):
        with pytest.raises(UserError, match=f"examples {count}: expected 1 to the 72"):
            load_splits(f"npz:{tiny_npz}", 0.1, 0, CPU, examples=count)


def test_small_classes_give_all_they_have() -> None:
    labels = torch.tensor([0] * 10 + [1] * 2 + [2] * 10).numpy()
    chosen = balanced_subset(labels, torch.arange(22).numpy(), 14, 0)
    assert torch.from_numpy(labels[chosen]).bincount().tolist() == [6, 2, 6]


def test_a_small_class_leaves_the_others_theirs(data: TrainingData) -> None:
    """Of two images, in a draw of five from each class."""
    labels = torch.tensor([0] * 10 + [1] * 10 + [2] * 2)
    images = dataclasses.replace(data.train, labels=labels, pixels=data.train.pixels[:22])
    _, drawn = images.draw_balanced(5, torch.Generator().manual_seed(0))
    assert drawn.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 0, 1]
    assert len(images.draw(10**19, torch.Generator())[1]) == 22


def test_balanced_draws(data: TrainingData) -> None:
    images, labels = data.train.draw_balanced(3, torch.Generator().manual_seed(0))
    assert labels.tolist() == [0, 1, 2, 3] * 3
    assert images.shape == (12, 3, 8, 8)
    again, _ = data.train.draw_balanced(3, torch.Generator().manual_seed(0))
    assert torch.equal(images, again)
    assert len(data.train.draw_balanced(1000, torch.Generator())[1]) == 72
