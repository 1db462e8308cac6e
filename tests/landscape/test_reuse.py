"""An earlier result is returned or resumed only where the present functions give its numbers."""

from __future__ import annotations

import subprocess
import sys
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import bits
from torch import Tensor, nn

from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.progress import Progress
from landscape.surface import Surface


@dataclass
class Batch:
    x: Tensor
    y: Tensor


def data(shift: float = 0.0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(20, 3), torch.randn(20, 2) + shift


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def powered(power: float) -> Callable[[Any, Any], Any]:
    def loss(model: Any, batch: Any) -> Any:
        x, y = (batch.x, batch.y) if isinstance(batch, Batch) else (batch["x"], batch["y"])
        return (model(x) - y).abs().pow(power).mean(1), len(x)

    return loss


def compute(path: Path, loss: Any, batches: Any, network: Any = None, **options: Any) -> Surface:
    network = model() if network is None else network
    return compute_surface(network, batches, loss=loss, path=path, points=5, device="cpu", **options)


def stop(progress: Progress) -> None:
    if progress.done == 4:
        raise KeyboardInterrupt


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("kind", [Batch, lambda x, y: UserDict(x=x, y=y), lambda x, y: {"x": x, "y": y}])
def test_other_losses_and_batches_are_refused(kind: Any, complete: bool, tmp_path: Path) -> None:
    path, given = tmp_path / "x.surface.h5", [kind(*data())]
    if complete:
        first = compute(path, powered(2.0), given)
    else:
        with pytest.raises(KeyboardInterrupt):
            compute(path, powered(2.0), given, progress=stop)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"the loss: the file has another function.*or overwrite it") as error:
        compute(path, powered(1.0), given)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"\(examples: the file has"):
        compute(path, powered(2.0), [kind(*data(1.0))])
    assert path.read_bytes() == before
    again = compute(path, powered(2.0), given)
    assert again.complete
    if complete:
        assert bits(again) == bits(first)


def test_what_descriptions_cannot_see_the_numbers_do(tmp_path: Path) -> None:
    """A value from a file that is read anew at each call."""
    path, factor = tmp_path / "x.surface.h5", tmp_path / "factor"

    def loss(model: Any, batch: Any) -> Any:
        values, count = powered(2.0)(model, batch)
        return values * float(factor.read_text()), count

    given = [Batch(*data())]
    factor.write_text("1")
    with pytest.raises(KeyboardInterrupt):
        compute(path, loss, given, progress=stop)
    factor.write_text("1.01")
    with pytest.raises(UserError, match="aren't those that it was made with"):
        compute(path, loss, given)
    factor.write_text("1")
    finished = compute(path, loss, given)
    factor.write_text("1.01")
    with pytest.raises(UserError, match=r"the loss of 'data' at a point that it holds was .* and is now"):
        compute(path, loss, given)
    assert finished.complete


def test_a_loss_that_changes_on_the_way_is_noticed(tmp_path: Path) -> None:
    factor = tmp_path / "factor"
    factor.write_text("1")

    def loss(model: Any, batch: Any) -> Any:
        values, count = powered(2.0)(model, batch)
        return values * float(factor.read_text()), count

    def change(progress: Progress) -> None:
        if progress.done == 9:
            factor.write_text("2")

    with pytest.raises(UserError, match=r"at the network itself was .* before all points and is .* after"):
        compute(tmp_path / "x.surface.h5", loss, [Batch(*data())], progress=change)


def test_files_from_before_functions_were_described_go_on(tmp_path: Path) -> None:
    path, given = tmp_path / "x.surface.h5", [Batch(*data())]
    first = compute(path, powered(2.0), given)
    del first.settings["functions"]
    first.save(path)
    assert bits(compute(path, powered(2.0), given)) == bits(first)
    with pytest.raises(UserError, match="at a point that it holds was"):
        compute(path, powered(1.0), given)


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat, self.layer = nn.Flatten(), nn.Linear(3072, 10)

    def forward(self, x):
        return self.layer(self.flat(x)) * 1.0
"""


def test_an_edited_model_file(tmp_path: Path) -> None:
    """Also where the numbers at the points that are evaluated anew are the same."""
    torch.manual_seed(0)
    torch.save({"layer.weight": torch.randn(10, 3072) / 50, "layer.bias": torch.zeros(10)}, tmp_path / "n.pt")
    code = tmp_path / "mynet.py"
    run = (
        f"{sys.executable} -m landscape.surface n.pt --model mynet:Net --data sample --examples 20 --points 3"
    )
    for source, code_expected in (
        (NET, 0),
        (NET.replace("* 1.0", ".clamp(max=50)"), 2),
        (NET + "\n# a comment\n", 0),
    ):
        code.write_text(source)
        outcome = subprocess.run(
            [*run.split(), "--no-page", "--no-plot"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == code_expected, outcome.stderr
        assert ("the network: the file has another function" in outcome.stderr) == bool(code_expected)
