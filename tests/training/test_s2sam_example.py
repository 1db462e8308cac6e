"""The example runs, learns, is short, and really takes its gradients at perturbed weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from training.optimizers import S2SAM

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "s2sam_in_your_loop.py"


def test_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    specification = importlib.util.spec_from_file_location("s2sam_in_your_loop", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    made: list[S2SAM] = []

    def noted(base: torch.optim.Optimizer, rho: float) -> S2SAM:
        made.append(S2SAM(base, rho))
        return made[-1]

    monkeypatch.setattr(example, "S2SAM", noted)
    with torch.random.fork_rng(devices=[]):
        accuracy = example.main()
    assert accuracy > 0.95
    assert capsys.readouterr().out.startswith("accuracy ")
    (optimizer,) = made
    assert optimizer.steps == 300
    weight = optimizer.param_groups[0]["params"][0]
    before = weight.detach().clone()
    with optimizer.perturbed():
        assert not torch.equal(weight, before)
    assert torch.equal(weight, before)


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 40
