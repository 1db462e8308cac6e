"""Curves between networks: closed forms, end points, masks, going on after a stop."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from connectivity_cases import CURVATURE, Point, quadratic, ring, targets
from torch import Tensor, nn

from analysis.connectivity import Training, barrier, connect
from analysis.connectivity.bend import BendTraining
from analysis.connectivity.ends import prepare_ends
from landscape.checkpoint.format import decode
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.keeping import pace
from landscape.losses import classification
from landscape.progress import Progress
from landscape.provenance import digest

A, B = (-1.0, 0.0), (1.0, 0.0)
LONG = Training(steps=1500, batch_size=8, lr=0.2, momentum=0.9)
EXACT: Any = {"dtype": "float64", "device": "cpu"}


def network(seed: int, pruned: float = 0.0) -> nn.Module:
    """Convolution, batch norm with statistics of its own, three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
        )
        norm: Any = model[1]
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.3, 0.8)
        with torch.no_grad():
            for value in model.parameters():
                if value.dim() > 1:
                    value.mul_(torch.rand(value.shape) >= pruned)
    return model


def images(count: int = 23) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 5, 5, generator=generator), torch.arange(count) % 3


def test_a_quadratic_has_no_barrier_and_its_closed_form() -> None:
    data = targets()
    found = connect(Point(*A), Point(*B), (data,), loss=quadratic, curves=("linear",), **EXACT)
    surface = found.surfaces["linear"]
    for t, loss in zip(surface.alpha, surface.loss[:, 0], strict=True):
        point = torch.tensor([2 * t - 1, 0.0], dtype=torch.float64)
        expected = ((point - data).square() * CURVATURE).sum(1).mean() / 2
        assert loss == pytest.approx(float(expected), rel=1e-12)
    assert barrier(surface).height.value == 0


def test_the_bend_of_a_quadratic_is_at_its_closed_form() -> None:
    # E[2t(1−t) (φ(t) − c)] = 0 with E[t(1−t)³] = 1/20, E[t²(1−t)²] = 1/30, E[t(1−t)] = 1/6.
    data = targets()
    bend = connect(
        Point(*A), Point(*B), (data,), loss=quadratic, curves=("bezier",), training=LONG, **EXACT
    ).bend
    assert bend is not None
    expected = 2.5 * data.mean(0) - 0.75 * (torch.tensor(A).double() + torch.tensor(B))
    torch.testing.assert_close(bend["w"], expected, atol=0.1, rtol=0)


def test_a_curve_follows_a_valley_that_a_line_leaves() -> None:
    found = connect(Point(*A), Point(*B), (targets(),), loss=ring, training=LONG, **EXACT)
    line, curve = (barrier(found.surfaces[name]) for name in ("linear", "bezier"))
    assert line.height.value == pytest.approx(1.0)  # (1/4 − 5/4)² half-way
    assert line.t == 0.5
    assert curve.height.value < 0.05


@torch.no_grad()
def plain(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Loss and accuracy by the plainest evaluation."""
    scores = copy.deepcopy(model).double().eval()(data[0].double())
    return float(F.cross_entropy(scores, data[1])), float((scores.argmax(1) == data[1]).double().mean())


def recalibrated(model: nn.Module, data: tuple[Tensor, Tensor]) -> nn.Module:
    """Statistics of one batch of everything, as PyTorch takes them in training."""
    model = copy.deepcopy(model).double()
    norm: Any = model[1]  # type: ignore[index]
    norm.reset_running_stats()
    norm.momentum = 1.0
    model.train()(data[0].double())
    return model.eval()


@pytest.mark.parametrize("batch_norm", ["recalibrate", "interpolate"])
@pytest.mark.parametrize("pruned", [0.0, 0.6])
def test_the_ends_are_the_networks(batch_norm: Any, pruned: float) -> None:
    data, ends = images(), [network(0, pruned), network(1, pruned)]
    before = [digest(dict(one.state_dict())) for one in ends]
    found = connect(
        ends[0], ends[1], data, training=Training(steps=5, batch_size=7), batch_norm=batch_norm, points=3
    )
    for surface in found.surfaces.values():
        for index, model in ((0, ends[0]), (-1, ends[1])):
            same = recalibrated(model, data) if batch_norm == "recalibrate" else model
            loss, accuracy = plain(same, data)
            assert surface.loss[index, 0] == pytest.approx(loss, abs=1e-6)
            assert surface.accuracy[index, 0] == pytest.approx(accuracy)
    assert [digest(dict(one.state_dict())) for one in ends] == before


@pytest.mark.parametrize("batch_norm", ["recalibrate", "interpolate"])
def test_points_of_the_curve_are_what_the_formula_says(batch_norm: Any) -> None:
    data, first, second = images(), network(0), network(1)
    found = connect(
        first, second, data, training=Training(steps=8, batch_size=7), batch_norm=batch_norm, points=5
    )
    assert found.bend is not None
    at, start, end = copy.deepcopy(first), dict(first.state_dict()), dict(second.state_dict())
    for t, loss in zip(found.surfaces["bezier"].alpha, found.surfaces["bezier"].loss[:, 0], strict=True):
        for name, value in at.state_dict().items():
            if name in found.bend:
                bent = 2 * t * (1 - t) * found.bend[name]
                value.copy_((1 - t) ** 2 * start[name] + bent + t**2 * end[name])
            elif value.is_floating_point():
                value.copy_((1 - t) * start[name] + t * end[name])
        same = recalibrated(at, data) if batch_norm == "recalibrate" else at
        assert loss == pytest.approx(plain(same, data)[0], abs=1e-5)


def test_a_network_is_connected_with_itself() -> None:
    found = connect(network(0), network(0), images(), training=Training(steps=0), points=5)
    for surface in found.surfaces.values():
        assert np.ptp(surface.loss) == 0
        assert barrier(surface).height.value == 0
        assert barrier(surface, metric="accuracy").height.value == 0


def test_steps_are_those_of_torch_sgd() -> None:
    first, second, data = network(0).double(), network(1).double(), images()
    training = Training(steps=6, batch_size=23, lr=0.3, momentum=0.8, weight_decay=0.02, seed=4)
    ends = prepare_ends(first, second)
    run = BendTraining(ends, Examples.from_tensors(*data), classification, training, dtype=torch.float64)
    bend = {name: nn.Parameter(value.clone()) for name, value in ends.middle.items()}
    optimizer = torch.optim.SGD(bend.values(), lr=0.3, momentum=0.8, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    model = copy.deepcopy(first).train()
    for step in range(6):
        t = np.random.default_rng([4, 1, step]).uniform()
        now = {
            name: (1 - t) ** 2 * ends.start[name] + 2 * t * (1 - t) * value + t**2 * ends.end[name]
            for name, value in bend.items()
        }
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(model, now, data[0].double()), data[1]).backward()
        optimizer.step()
        schedule.step()
        run.advance()
    for name, value in run.weights().items():
        torch.testing.assert_close(value, bend[name].detach(), atol=1e-10, rtol=1e-10)


def test_every_example_is_used_once_a_pass_in_a_new_order() -> None:
    seen: list[Tensor] = []

    def loss(model: Any, batch: Any) -> Any:
        seen.append(batch[0][:, 0].clone())
        return quadratic(model, batch)

    data = torch.arange(24, dtype=torch.float64)[:, None].expand(24, 2)
    ends = prepare_ends(Point(*A), Point(*B))
    training = Training(steps=6, batch_size=8, lr=1e-6)
    run = BendTraining(ends, Examples.from_tensors(data), loss, training, dtype=torch.float64)
    while not run.done:
        run.advance()
    passes = [torch.cat(seen[:3]), torch.cat(seen[3:])]
    for one in passes:
        assert sorted(one.tolist()) == list(range(24))
    assert passes[0].tolist() != passes[1].tolist()


def test_the_bend_keeps_to_the_weights_of_either_end() -> None:
    first, second = network(0, 0.7), network(1, 0.7)
    training = Training(steps=4, batch_size=8)
    bend = connect(first, second, images(), curves=("bezier",), training=training, points=3).bend
    free = connect(
        first, second, images(), curves=("bezier",), training=training, points=3, masks=("none", "auto")
    ).bend
    assert bend is not None
    assert free is not None
    weights = [dict(one.named_parameters()) for one in (first, second)]
    for name in ("0.weight", "4.weight"):
        kept = (weights[0][name] != 0) | (weights[1][name] != 0)
        assert 0 < int((~kept).sum()) < kept.numel()
        assert bool((bend[name][~kept] == 0).all())
        assert bool((bend[name][kept] != 0).all())
        assert bool((free[name][~kept] != 0).any())


def bits(found: Any) -> list[object]:
    planes = [surface.planes[0].splits["data"].metrics for surface in found.surfaces.values()]
    values = [metric.values.tobytes() for plane in planes for metric in plane.values()]
    blocks = [plane["accuracy"].blocks.tobytes() for plane in planes]
    return [digest(found.bend), values, blocks]


class Stop:
    """Interrupts at the given count of the given phase."""

    def __init__(self, phase: str, at: int) -> None:
        self.phase, self.at, self.seen = phase, at, 0

    def __call__(self, phase: str, state: Progress) -> None:
        assert 0 < state.done <= state.expected
        self.seen += phase == self.phase
        if self.seen == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("phase", "at", "left", "dtype"),
    [
        ("linear", 2, ["one.linear.surface.h5"], "float32"),
        ("bend", 1, ["one.bend.pt.partial", "one.linear.surface.h5"], "float32"),
        ("bend", 7, ["one.bend.pt.partial", "one.linear.surface.h5"], "float64"),
        ("bezier", 2, ["one.bend.pt", "one.bezier.surface.h5", "one.linear.surface.h5"], "float64"),
    ],
)
def test_a_stopped_run_ends_with_the_same_bits(
    tmp_path: Path, phase: str, at: int, left: list[str], dtype: str
) -> None:
    def run(**more: Any) -> Any:
        training = Training(steps=9, batch_size=8)
        ends = network(0, 0.5), network(1, 0.5)
        return connect(*ends, images(), training=training, points=4, dtype=dtype, **more)

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(path=tmp_path / "one", progress=Stop(phase, at))
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    ended = run(path=tmp_path / "one")
    assert bits(ended) == bits(whole)
    again = run(path=tmp_path / "one", progress=Stop("bend", 1))  # nothing is left to do
    assert bits(again) == bits(whole)
    assert not (tmp_path / "one.bend.pt.partial").exists()


def test_a_state_in_the_middle_of_a_change_is_not_saved(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(pace, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(pace, "SHARE", float("inf"))
    training = Training(steps=5, batch_size=8)

    def broken(self: BendTraining) -> None:
        if self.step == 3:
            self.whole = False
            self.bend.zero_()
            raise KeyboardInterrupt
        advance(self)

    advance = BendTraining.advance
    monkeypatch.setattr(BendTraining, "advance", broken)
    with pytest.raises(KeyboardInterrupt):
        connect(network(0), network(1), images(), training=training, points=3, path=tmp_path / "one")
    monkeypatch.setattr(BendTraining, "advance", advance)
    ended = connect(network(0), network(1), images(), training=training, points=3, path=tmp_path / "one")
    assert bits(ended) == bits(connect(network(0), network(1), images(), training=training, points=3))


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    def run(**more: Any) -> Any:
        options: dict[str, Any] = {"training": Training(steps=2), "points": 3, "path": tmp_path / "one"}
        return connect(network(0), network(1), images(), **{**options, **more})

    run()
    with pytest.raises(UserError, match=r"bend.pt holds a bend made with other settings \(training"):
        run(training=Training(steps=3))
    with pytest.raises(UserError, match=r"other settings \(points"):
        run(points=4)
    assert len(run(points=4, training=Training(steps=3), overwrite=True).surfaces["linear"].alpha) == 4
    (tmp_path / "one.bend.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="can't be read"):
        run(points=4, training=Training(steps=3))


def test_the_bend_is_a_checkpoint(tmp_path: Path) -> None:
    first, second = network(0, 0.7), network(1, 0.7)
    found = connect(first, second, images(), training=Training(steps=3), points=3, path=tmp_path / "one")
    stored = decode(torch.load(tmp_path / "one.bend.pt", weights_only=True))
    assert found.bend is not None
    for name, value in found.bend.items():
        assert torch.equal(stored.state_dict[name], value)
    model = network(2)
    model.load_state_dict(stored.state_dict)
    expected: Any = recalibrated(model, images())[1]  # type: ignore[index]
    torch.testing.assert_close(stored.state_dict["1.running_mean"], expected.running_mean.float())
    assert set(stored.mask) == {"0.weight", "4.weight"}
    assert [path.name for path in found.files] == [
        "one.linear.surface.h5", "one.bend.pt", "one.bezier.surface.h5",
    ]  # fmt: skip


def test_given_batches_are_used_as_they_are() -> None:
    batches = [tuple(part) for part in zip(*(one.split(8) for one in images()), strict=True)]
    found = connect(network(0), network(1), batches, training=Training(steps=5), points=3)
    whole = connect(network(0), network(1), images(), curves=("linear",), points=3, batch_norm="interpolate")
    parts = connect(network(0), network(1), batches, curves=("linear",), points=3, batch_norm="interpolate")
    np.testing.assert_allclose(parts.surfaces["linear"].loss, whole.surfaces["linear"].loss, atol=1e-6)
    assert np.isfinite(found.surfaces["bezier"].loss).all()
    assert found.surfaces["bezier"].planes[0].about["bend"]["batches"] == 3


def test_masks_that_leave_out_used_weights_are_refused_before_training(tmp_path: Path) -> None:
    first, second = network(0), network(1)
    mask = {"4.weight": torch.arange(108).reshape(3, 36) % 2 == 0}
    with pytest.raises(UserError, match=r"leave out weights of '4.weight' that aren't 0"):
        connect(first, second, images(), masks=(mask, mask), path=tmp_path / "one")
    assert not list(tmp_path.iterdir())


def test_batch_norm_of_single_examples_is_refused() -> None:
    def flat(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(25, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))

    with torch.random.fork_rng(devices=[]):
        ends = flat(0), flat(1)
    training = Training(steps=2, batch_size=1)
    with pytest.raises(UserError, match=r"statistics of a single example; .*--train-batch-size"):
        connect(*ends, images(), training=training, points=3)
    connect(*ends, images(), training=training, points=3, batch_norm="interpolate")


def test_a_bend_that_is_not_finite_after_the_last_step_is_refused() -> None:
    def steep(model: Any, batch: Any) -> Any:
        values, count = quadratic(model, batch)
        return 1e12 * values, count

    with pytest.raises(UserError, match="bend isn't finite after step 1; choose a lower --lr"):
        connect(
            Point(*A), Point(*B), (targets(),), loss=steep, training=Training(steps=1, lr=1e30), device="cpu"
        )


def test_other_buffers_that_differ_are_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.linear = nn.Linear(25, 3)
            self.register_buffer("scale", torch.tensor(scale))

        def forward(self, inputs: Tensor) -> Any:
            return self.scale * self.linear(inputs.flatten(1))

    connect(Scaled(2.0), Scaled(2.0), images(), curves=("linear",), points=3)
    with pytest.raises(UserError, match="buffers 'scale' differ"):
        connect(Scaled(1.0), Scaled(2.0), images(), curves=("linear",), points=3)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"curves": ()}, "expected linear, bezier or both"),
        ({"curves": 5}, "curves 5; expected linear, bezier or both"),
        ({"curves": None}, "curves None; expected linear, bezier or both"),
        ({"curves": "straight"}, "curves straight; expected linear, bezier or both"),
        ({"points": 2}, "at least 3"),
        ({"points": "7"}, "points must be a whole number, got '7'"),
        ({"points": 5.5}, "points must be a whole number, got 5.5"),
        ({"batch_size": 2.5}, "batch size must be a whole number"),
        ({"names": ("a",)}, "expected two, of the first and of the second"),
        ({"masks": "none"}, "expected two, of the first and of the second"),
        ({"masks": ({"0.bias": None}, "auto")}, "a NoneType; expected a bool tensor|no parameter"),
        ({"training": {"steps": 3}}, "training is a dict; expected an analysis.connectivity.Training"),
        ({"training": Training(steps="3")}, "steps must be a whole number, got '3'"),
        ({"training": Training(steps=2.5)}, "steps must be a whole number, got 2.5"),
        ({"training": Training(batch_size=2.5)}, "batch_size must be a whole number"),
        ({"training": Training(seed=1.5)}, "seed must be a whole number"),
        ({"training": Training(lr="x")}, "lr must be a number"),
        ({"dtype": "bfloat16"}, "float32 or float64"),
        ({"batch_norm": "fixed"}, "expected recalibrate or interpolate"),
        ({"training": Training(lr=-1.0)}, "lr -1.0"),
        ({"training": Training(momentum=1.0)}, "momentum 1.0"),
        ({"training": Training(steps=50, lr=1e30)}, "choose a lower --lr"),
        ({"training": Training(lr=1e45)}, "lr 1e\\+45: expected a positive number"),
        ({"training": Training(weight_decay=1e45)}, "weight_decay 1e\\+45"),
        ({"masks": ({"4.weight": torch.ones(2, 2, dtype=torch.bool)}, "auto")}, "4.weight"),
    ],
)
def test_bad_arguments_are_refused(more: Any, text: str) -> None:
    with pytest.raises(UserError, match=text):
        connect(network(0), network(1), images(), **more)


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UserError, match="can't be connected: the other checkpoint lacks"):
        connect(network(0), Point(1.0), images())


def test_statistics_out_of_reach_are_refused() -> None:
    with pytest.warns(FutureWarning, match="jit"):
        scripted = torch.jit.script(network(0).eval())
    with pytest.raises(UserError, match="TorchScript"):
        connect(scripted, scripted, images())
