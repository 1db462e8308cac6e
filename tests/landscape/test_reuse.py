"""An earlier result is returned or resumed only where the present functions give its numbers."""

from __future__ import annotations

import subprocess
import sys
from collections import UserDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_network import bits
from torch import Tensor, nn

from analysis.connectivity import connect
from analysis.hessian import hessian_spectrum, load_spectrum
from landscape.checks.identity import check_means
from landscape.compute import compute_surface
from landscape.engine import Totals
from landscape.errors import UserError
from landscape.losses import regression
from landscape.progress import Progress
from landscape.surface import Surface, load_surface


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


@pytest.mark.parametrize("complete", [True, False])
def test_metrics_are_looked_at_as_the_loss_is(complete: bool, tmp_path: Path) -> None:
    """The loss alone would say nothing: only the metric depends on a value that no description sees."""
    path, factor, more = tmp_path / "x.surface.h5", tmp_path / "factor", tmp_path / "more"

    def loss(model: Any, batch: Any) -> Any:
        values, count = powered(2.0)(model, batch)
        extra = {"more": values} if more.exists() else {}
        return values, count, {"score": torch.full((count,), float(factor.read_text())), **extra}

    given, options = [Batch(*data())], {"exact_grid": True, "progress": None if complete else stop}
    factor.write_text("1")
    with nullcontext() if complete else pytest.raises(KeyboardInterrupt):
        compute(path, loss, given, **options)
    before = path.read_bytes()
    factor.write_text("2")
    with pytest.raises(UserError, match=r"the metric 'score' of 'data' at a .* was 1 and is now 2") as error:
        compute(path, loss, given, exact_grid=True)
    assert "\n" not in str(error.value)
    factor.write_text("1")
    more.write_text("")
    with pytest.raises(UserError, match=r"has .*score of 'data', and this run gives loss, score, more"):
        compute(path, loss, given, exact_grid=True)
    assert path.read_bytes() == before
    more.unlink()
    assert compute(path, loss, given, exact_grid=True).complete


def test_an_accuracy_may_differ_by_an_example_that_rounding_turns() -> None:
    def totals(right: int, count: int = 400, *, known: bool = True) -> Totals:
        sums = {"loss": np.array([float(count)]), "accuracy": np.array([float(right)])}
        squares = {"loss": float(count), "accuracy": float(right) if known else float("nan")}
        return Totals(np.array([count]), sums, squares)

    for known in (True, False):
        for right in (0, 1, 100, 399):
            stored = {"loss": 1.0, "accuracy": right / 400}
            check_means("x.h5", "data", stored, totals(right + 1, known=known), "float32")
            with pytest.raises(UserError, match="the metric 'accuracy' of 'data'"):
                check_means("x.h5", "data", stored, totals(right + 3, known=known), "float32")
    check_means("x.h5", "data", {"loss": 1.0, "accuracy": 0.01}, totals(10, known=True), "tf32")


def test_a_metric_that_changes_on_the_way_is_noticed(tmp_path: Path) -> None:
    def loss(model: Any, batch: Any) -> Any:
        values, count = powered(2.0)(model, batch)
        return values, count, {"score": torch.full((count,), float(factor.read_text()))}

    factor = tmp_path / "factor"
    factor.write_text("1")

    def change(progress: Progress) -> None:
        if progress.done == 9:
            factor.write_text("2")

    with pytest.raises(UserError, match=r"the score of 'data' at the network itself was 1 before all"):
        compute(tmp_path / "x.surface.h5", loss, [Batch(*data())], progress=change)


def test_a_curves_metrics_are_looked_at(tmp_path: Path) -> None:
    factor = tmp_path / "factor"
    factor.write_text("1")

    def loss(model: Any, batch: Any) -> Any:
        values = (model(batch[0]) - batch[1]).square().mean(1)
        return values, len(values), {"score": torch.full((len(values),), float(factor.read_text()))}

    def line() -> Any:
        base = tmp_path / "x"
        return connect(
            model(), other, data(), loss=loss, curves=["linear"], points=3, device="cpu", path=base
        )

    other = model()
    with torch.no_grad():
        other[0].weight += 0.1  # type: ignore[index, operator]
    line()
    factor.write_text("2")
    with pytest.raises(UserError, match=r"the metric 'score' of 'data' at a .* was 1 and is now 2"):
        line()


def test_a_finished_surface_takes_another_label_and_no_other_bits(tmp_path: Path) -> None:
    path, given, loss = tmp_path / "x.surface.h5", [Batch(*data())], powered(2.0)
    first = compute(path, loss, given, label="A")
    untouched = path.read_bytes()
    for label in ("", "A"):
        assert compute(path, loss, given, label=label).label == "A"
        assert path.read_bytes() == untouched
    again = compute(path, loss, given, label="B")
    assert again.label == load_surface(path).label == "B"
    assert bits(again) == bits(first) == bits(load_surface(path))
    assert {**again.about, "label": "A"} == {**first.about}


def test_a_finished_spectrum_takes_another_label(tmp_path: Path) -> None:
    def spectrum(label: str) -> Any:
        told: Any = {"top": 1, "bottom": 0, "density_probes": 0, "max_probes": 8, "label": label}
        return hessian_spectrum(model(), data(), loss=regression, path=tmp_path / "x.h5", **told)

    first, again = spectrum("A"), spectrum("B")
    assert again.label == load_spectrum(tmp_path / "x.h5").label == spectrum("").label == "B"
    assert again.top.values.tolist() == first.top.values.tolist()


def test_a_finished_curve_takes_other_names(tmp_path: Path) -> None:
    def line(**names: Any) -> Surface:
        told: Any = {"loss": regression, "curves": ["linear"], "points": 3, "path": tmp_path / "x", **names}
        return connect(model(), model(), data(), device="cpu", **told).surfaces["linear"]

    first, again = line(names=("p", "q")), line(names=("r", "s"))
    for one in (again, line(), load_surface(tmp_path / "x.linear.surface.h5")):
        assert (one.label, one.planes[0].about["ends"]) == ("r → s, linear", ["r", "s"])
        np.testing.assert_array_equal(one.loss, first.loss)


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
