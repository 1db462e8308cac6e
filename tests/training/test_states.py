"""``last.pt`` as it can't be: each is refused with one line before anything of it is used."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import CPU, SMALL, Silent, Stop, fit
from torch import Tensor

from landscape.checkpoint.integrity import sealed
from landscape.checkpoint.read import read_file
from landscape.errors import UserError
from training.checkpoint import save
from training.config import RunConfig
from training.data import TrainingData, load_splits
from training.optimizers import OPTIMIZERS
from training.sparsity.dsr import Dsr
from training.sparsity.lt import LotteryTicket

State = dict[str, Any]
CONV = "layer1.0.conv1.weight"


@pytest.fixture(scope="module")
def data(tiny_npz: Path) -> TrainingData:
    return load_splits(f"npz:{tiny_npz}", SMALL.validation, SMALL.seed, CPU)


def stopped(config: RunConfig, data: TrainingData, folder: Path, epochs: int = 1) -> State:
    """The state of a run that was interrupted after so many epochs."""
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, folder, Stop(epochs))
    content = read_file(folder / "last.pt").content
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="module")
def good(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, stopped(SMALL, data, folder)


def at(*path: Any, value: Any) -> Callable[[State], None]:
    """Put `value` at a path of keys."""

    def change(state: State) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


def without(*path: Any) -> Callable[[State], None]:
    """Remove what stands at a path of keys."""

    def change(state: State) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


def filled(*path: Any, value: float, at_mask: bool | None = None) -> Callable[[State], None]:
    """Put a number into the first element of a tensor, or where the mask is so."""

    def change(state: State) -> None:
        tensor: Any = state
        for key in path:
            tensor = tensor[key]
        place = 0 if at_mask is None else int((state["mask"][path[-1]].reshape(-1) == at_mask).nonzero()[0])
        tensor[torch.unravel_index(torch.tensor(place), tensor.shape)] = value

    return change


IMPOSSIBLE: dict[str, tuple[Callable[[State], None], str]] = {
    "epoch 99": (at("epoch", value=99), "its epoch is 99, expected 1 to 3"),
    "epoch -1": (at("epoch", value=-1), "its epoch is -1"),
    "epoch 0": (at("epoch", value=0), "its epoch is 0"),
    "epoch '2'": (at("epoch", value="2"), "its epoch is a str, expected a int"),
    "epoch 1.0": (at("epoch", value=1.0), "its epoch is a float"),
    "epoch True": (at("epoch", value=True), "its epoch is a bool"),
    "epoch 2 of one": (at("epoch", value=2), "its history has 1 epochs, expected 2"),
    "epoch of 2**400": (at("epoch", value=1 << 400), "its epoch is"),
    "no epoch": (without("epoch"), "it has no epoch"),
    "no history": (at("history", value=[]), "its history has 0 epochs"),
    "a history of texts": (at("history", value=["a"]), "the record of epoch 1 is no dict"),
    "a record of another epoch": (at("history", 0, "epoch", value=2), "the record of epoch 1 says 2"),
    "a loss that is a text": (at("history", 0, "train_loss", value="low"), "no number for train_loss"),
    "a loss of NaN": (at("history", 0, "train_loss", value=math.nan), "training loss of epoch 1 is nan"),
    "notes of numbers": (at("notes", value=[1]), "its notes aren't texts"),
    "a tensor missing": (without("model", CONV), f"its model lacks {CONV}"),
    "a tensor too many": (at("model", "extra", value=torch.ones(1)), "its model has extra"),
    "no tensors": (at("model", value={}), "its model lacks "),
    "another shape": (at("model", CONV, value=torch.zeros(4, 4, 3)), "[4, 4, 3], expected"),
    "another type": (at("model", "bn1.bias", value=torch.zeros(4, dtype=torch.float64)), "float64"),
    "a number for a tensor": (at("model", CONV, value=1), f"its model's {CONV} is a int"),
    "a weight of NaN": (
        filled("model", CONV, value=math.nan, at_mask=True),
        f"its model's {CONV} isn't finite",
    ),
    "a negative variance": (filled("model", "bn1.running_var", value=-1.0), "variances below 0"),
    "a pruned weight": (
        filled("model", CONV, value=0.5, at_mask=False),
        f"{CONV} has weights outside the mask",
    ),
    "an empty mask": (at("mask", value={}), "its mask lacks "),
    "a mask missing": (without("mask", CONV), f"its mask lacks {CONV}"),
    "a mask of numbers": (at("mask", CONV, value=torch.ones(4, 4, 3, 3)), "expected torch.bool"),
    "a mask that keeps more": (filled("mask", CONV, value=1, at_mask=False), "its mask has sparsity"),
    "a mask of what can't be pruned": (
        at("mask", "bn1.weight", value=torch.ones(4) > 0),
        "its mask has bn1.weight",
    ),
    "kept but never active": (filled("ever_active", CONV, value=0, at_mask=True), "that never were active"),
    "a memory of NaN": (at("memory", "threshold", value=math.nan), "its memory of 'threshold'"),
    "a memory of lists": (at("memory", "threshold", value=[]), "its memory of 'threshold'"),
    "weights to rewind to": (at("rewind", value={"a": torch.ones(1)}), "weights to rewind to, too early"),
    "no optimizer": (at("optimizer", value={}), "its optimizer isn't of the kind"),
    "an optimizer without groups": (at("optimizer", "param_groups", value=[]), "has other groups"),
    "a momentum of 2": (
        at("optimizer", "param_groups", 0, "momentum", value=2.0),
        "optimizer's momentum is 2.0",
    ),
    "a rate of -1": (at("optimizer", "param_groups", 0, "lr", value=-1.0), "optimizer's lr is -1.0"),
    "a rate that is a text": (
        at("optimizer", "param_groups", 0, "lr", value="0.1"),
        "optimizer's lr is '0.1'",
    ),
    "a parameter 999": (at("optimizer", "state", 999, value={}), "a state for the parameter 999"),
    "a momentum of another shape": (
        at("optimizer", "state", 0, "momentum_buffer", value=torch.ones(7)),
        "momentum_buffer of parameter 0 is of shape [7]",
    ),
    "a momentum of NaN": (filled("optimizer", "state", 0, "momentum_buffer", value=math.nan), "isn't finite"),
    "a momentum that is a text": (at("optimizer", "state", 0, "momentum_buffer", value="a"), "is a str"),
    "gradients of nothing": (at("gradients", value={"a": torch.ones(1)}), "it has gradients of a"),
    "gradients that are a list": (at("gradients", value=[1]), "gradients"),
    "a fingerprint that is a number": (at("data_sha256", value=3), "its data_sha256 is a int"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_states_are_refused(case: str, good: tuple[Path, State], data: TrainingData) -> None:
    folder, state = good
    change, message = IMPOSSIBLE[case]
    changed = copy.deepcopy(state)
    change(changed)
    save(sealed(changed), folder / "last.pt")
    with pytest.raises(UserError) as caught:
        fit(SMALL, data, folder)
    assert message in str(caught.value)
    assert "last.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "final.pt").exists()


def test_values_that_were_changed_are_noticed(good: tuple[Path, State], data: TrainingData) -> None:
    """By the digest, where everything fits."""
    folder, state = good
    changed = copy.deepcopy(state)
    filled("model", "bn1.bias", value=0.125)(changed)
    save(changed, folder / "last.pt")
    with pytest.raises(UserError, match=r"aren't those that were written \(SHA-256\)"):
        fit(SMALL, data, folder)


def test_states_of_earlier_versions_have_no_digest(
    good: tuple[Path, State], data: TrainingData, tmp_path: Path
) -> None:
    folder, state = good
    for name in ("run.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    save({key: value for key, value in state.items() if key != "digest"}, tmp_path / "last.pt")
    heard = Silent()
    fit(SMALL, data, tmp_path, heard)
    assert [one["epoch"] for one in heard.records] == [2, 3]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_true_states_of_every_optimizer_are_taken(optimizer: str, data: TrainingData, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, epochs=2, optimizer=OPTIMIZERS[optimizer]())
    stopped(config, data, tmp_path)
    heard = Silent()
    fit(config, data, tmp_path, heard)
    assert [one["epoch"] for one in heard.records] == [2]


def test_states_of_methods_that_remember_or_rewind(data: TrainingData, tmp_path: Path) -> None:
    """What DSR and a lottery ticket save is taken; the ticket's early weights may not be missing."""
    config = dataclasses.replace(SMALL, method=Dsr(0.7))
    stopped(config, data, tmp_path / "dsr", 2)
    fit(config, data, tmp_path / "dsr")
    config = dataclasses.replace(SMALL, warmup=0.0, method=LotteryTicket(0.36, search_epochs=1))
    state = stopped(config, data, tmp_path / "lt")
    assert isinstance(state["rewind"]["conv1.weight"], Tensor)
    save(sealed({**state, "rewind": {}}), tmp_path / "lt" / "last.pt")
    with pytest.raises(UserError, match="it has no weights to rewind to"):
        fit(config, data, tmp_path / "lt")
    save(state, tmp_path / "lt" / "last.pt")
    fit(config, data, tmp_path / "lt")
