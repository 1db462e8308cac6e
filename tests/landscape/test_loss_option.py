"""``--loss``: losses that ship by name, and a user's own, on a factory's examples of whatever kind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.append(str(Path(__file__).parent))

from command import surface

from analysis.hessian.__main__ import main as hessian
from landscape import load_surface

SMALL = ("--points", "3", "--span", "0.1", "--no-page", "--no-plot", "-o", "out")
MINE = """
import torch
from torch import nn
from torch.nn import functional

def line():
    return nn.Linear(4, 1)

def tokens():
    return nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7), Classes())

class Classes(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)

def numbers(split):
    drawn = torch.Generator().manual_seed(int(split == "test"))
    inputs = torch.randn(30, 4, generator=drawn)
    return inputs, inputs.sum(1, keepdim=True)

def texts(split):
    words = torch.arange(60).reshape(12, 5) % 7
    return words, (words + 1) % 7

def pixels(split):
    return torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.arange(4) % 2

def absolute(model, batch):
    inputs, targets = batch
    return (model(inputs) - targets).abs().mean(1), len(targets)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine_for_loss.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(0)
    torch.save(nn.Linear(4, 1).state_dict(), tmp_path / "line.pt")
    embedding, linear = nn.Embedding(7, 5), nn.Linear(5, 7)
    state = nn.Sequential(embedding, linear).state_dict()
    torch.save(state, tmp_path / "tokens.pt")
    return tmp_path


def centre(folder: Path, name: str) -> float:
    found = load_surface(folder / "out" / f"{name}.surface.h5")
    assert found.center is not None
    return float(found.loss[found.center])


def line(folder: Path) -> tuple[Tensor, Tensor, nn.Module]:
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 4, generator=drawn)
    model = nn.Linear(4, 1)
    model.load_state_dict(torch.load(folder / "line.pt"))
    return model(inputs).detach(), inputs.sum(1, keepdim=True), model


def run(folder: Path, *arguments: object) -> Any:
    data = ("--data", "mine_for_loss:numbers", "--model", "mine_for_loss:line")
    return surface("line.pt", *data, *arguments, *SMALL, folder=folder)


def test_regression_and_a_loss_of_ones_own(folder: Path) -> None:
    assert run(folder, "--loss", "regression").code == 0
    found, wanted, _ = line(folder)
    assert centre(folder, "line") == pytest.approx(float((found - wanted).square().mean()), rel=1e-5)
    assert run(folder, "--loss", "mine_for_loss:absolute", "--overwrite").code == 0
    assert centre(folder, "line") == pytest.approx(float((found - wanted).abs().mean()), rel=1e-5)
    again = run(folder, "--loss", "regression")
    assert again.code == 2
    assert "other settings" in again.err


def test_texts_have_integer_targets_of_any_shape(folder: Path) -> None:
    data = ("--data", "mine_for_loss:texts", "--model", "mine_for_loss:tokens", "--loss", "classification")
    outcome = surface("tokens.pt", *data, *SMALL, folder=folder)
    assert outcome.code == 0, outcome.err
    words = torch.arange(60).reshape(12, 5) % 7
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7))
    model.load_state_dict(torch.load(folder / "tokens.pt"))
    scores = model(words).transpose(1, 2)
    expected = functional.cross_entropy(scores, (words + 1) % 7).item()
    assert centre(folder, "tokens") == pytest.approx(expected, rel=1e-5)


def test_the_hessian_is_of_that_loss(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of mean squared error of a line: 2 XᵀX / N, X with a column of ones."""
    from analysis.hessian import load_spectrum

    monkeypatch.chdir(folder)
    data = ["--data", "mine_for_loss:numbers", "--model", "mine_for_loss:line", "--loss", "regression"]
    hessian(["line.pt", *data, "--top", "1", "--bottom", "0", "--density-probes", "0", "--quiet"])
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.cat([torch.randn(30, 4, generator=drawn), torch.ones(30, 1)], 1).double().numpy()
    expected = np.linalg.eigvalsh(2 * inputs.T @ inputs / 30)[-1]
    assert load_spectrum(folder / "hessians" / "line.hessian.h5").top.values[0] == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--loss", "regresion"], "unknown loss 'regresion'; expected classification, binary_classification"),
        (["--loss", "mine_for_loss:none"], "mine_for_loss has no 'none'"),
        ([], "expected one integer class label for each example"),
    ],
)
def test_refusals_are_one_line(folder: Path, given: list[str], message: str) -> None:
    outcome = run(folder, *given)
    assert outcome.code == 2
    assert message in outcome.err.splitlines()[-1]
