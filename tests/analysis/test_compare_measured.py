"""``analysis.compare`` on checkpoints: what they store, and what it computes on request."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.compare.__main__ import main
from analysis.hessian import HessianOperator
from analysis.sharpness import sharpness

OPTIONS = ["--model", "test_compare_measured:tiny", "--data", "npz:images.npz", "--dtype", "float64"]
MEASURED = ["--hessian", "--sharpness", "--measures", "sam", "lambda_max", "-o", "measured"]


class Tiny(nn.Module):
    """A classifier of images with a few weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs[:, :, ::2, ::2].flatten(1))  # type: ignore[no-any-return]


def tiny() -> Tiny:
    """For ``--model``."""
    return Tiny()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (23, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(23) % 3
    np.savez(tmp_path / "images.npz", train_x=images, train_y=labels, test_x=images, test_y=labels)
    for number, word in enumerate(("sgd", "s2sam")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            model = tiny()
            with torch.no_grad():
                model.linear.weight[:, ::2] = 0
        path = tmp_path / f"set-{word}" / "final.pt"
        path.parent.mkdir()
        torch.save(model.state_dict(), path)
    return tmp_path


def run(folder: Path, *arguments: object) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main([str(one) for one in arguments])
    return out.getvalue(), err.getvalue()


def test_checkpoints_are_measured_once_and_paired(folder: Path) -> None:
    files = ["set-sgd/final.pt", "set-s2sam/final.pt"]
    command = [*files, *OPTIONS, *MEASURED, "--pair", "sgd", "s2sam", "--json", "-"]
    out, err = run(folder, *command)
    assert "warning" not in err
    content = json.loads(out)
    assert [one["name"] for one in content["networks"]] == ["set-sgd", "set-s2sam"]
    cells = content["networks"][0]["cells"]
    assert cells["sparsity"]["value"] == pytest.approx(0.5)
    model = tiny()
    model.load_state_dict(torch.load(folder / files[0], weights_only=True))
    with np.load(folder / "images.npz") as arrays:
        pixels, targets = arrays["train_x"] / 255, torch.from_numpy(arrays["train_y"])
    scaled = ((pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))).transpose(0, 3, 1, 2)
    images = torch.from_numpy(scaled).contiguous(), targets
    mask = {"linear.weight": model.linear.weight.detach() != 0}
    operator = HessianOperator(model, images, mask=mask, dtype="float64")
    values = np.linalg.eigvalsh(operator @ np.eye(operator.size))
    assert cells["lambda_max"]["value"] == pytest.approx(values[-1], rel=1e-3)
    assert cells["lambda_max (sharpness)"]["value"] == pytest.approx(values[-1], rel=1e-3)
    assert cells["trace"]["low"] <= values.sum() * 1.001
    assert cells["trace"]["high"] >= values.sum() * 0.999
    found = sharpness(model, images, mask=mask, measures=["sam"], dtype="float64")["sam"]
    assert cells["sam"]["value"] == pytest.approx(found.value, rel=1e-3)
    assert {one["column"]: one["test"]["n"] for one in content["tests"]}["sam"] == 1
    again, err = run(folder, *command)
    assert json.loads(again) == content
    assert "sam, lambda_max from measured/set-sgd.sharpness.json" in err


def test_results_on_disk_join_their_checkpoint(folder: Path) -> None:
    run(folder, "set-sgd/final.pt", *OPTIONS, *MEASURED, "--json", "-")
    files = ["set-sgd/final.pt", "measured/set-sgd.sharpness.json", "measured/set-sgd.hessian.h5"]
    out, _ = run(folder, *files, *OPTIONS, "--json", "-")
    (row,) = json.loads(out)["networks"]
    assert row["name"] == "set-sgd"
    assert {"sparsity", "lambda_max", "trace", "sam"} <= row["cells"].keys()
    assert row["files"] == ["set-sgd/final.pt", "measured/set-sgd.hessian.h5"]
