"""Sparse kernels behind the engine: same values as without, the choice, the file, going on."""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import pytest
import torch
from engine_cases import NETWORKS, directions, examples, images, network, plain_values, unchanged
from torch import Tensor, nn

pytest.importorskip("llvmlite", reason="the extra 'sparse' isn't installed")

from landscape import compute_surface
from landscape.engine import Engine
from landscape.errors import UserError
from landscape.losses import classification
from landscape.sparse import choice
from landscape.sparse.machine import Machine
from landscape.sparse.trace import trace
from landscape.surface import Surface
from training.models import build_model

COORDINATES = [(0.0, 0.0), (0.3, -0.2), (-1.0, 1.0)]


def pruned(name: str, kept: float = 0.3) -> tuple[nn.Module, dict[str, Tensor]]:
    """One of the engine's test networks with a mask."""
    model, generator = network(name), torch.Generator().manual_seed(1)
    mask = {}
    with torch.no_grad():
        for key, one in model.named_parameters():
            if one.dim() > 1:
                mask[key] = torch.rand(one.shape, generator=generator) < kept
                one.mul_(mask[key])
    return model, mask


def inside(mask: dict[str, Tensor], model: nn.Module) -> list[dict[str, Tensor]]:
    """Directions that keep what is pruned at zero."""
    return [
        {name: one * mask[name] if name in mask else one for name, one in way.items()}
        for way in directions(model)
    ]


@pytest.mark.parametrize("name", [name for name, (_, folds) in NETWORKS.items() if folds])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_values_of_the_plain_loop(name: str, dtype: torch.dtype) -> None:
    model, mask = pruned(name)
    along = inside(mask, model)
    with unchanged(model):
        engine = Engine(model, examples(), classification, along, dtype=dtype, sparse="auto")
        found = [engine.evaluate(coordinates)["test"] for coordinates in COORDINATES]
        again = engine.evaluate(COORDINATES[0])["test"]
    assert engine.about["sparse"]["density"] < 0.5
    assert engine.about["dense_because"] is None
    assert np.array_equal(again.sums["loss"], found[0].sums["loss"])
    for coordinates, totals in zip(COORDINATES, found, strict=True):
        losses, right = plain_values(copy.deepcopy(model), along, coordinates, torch.float64)
        bound = 1e-9 if dtype == torch.float64 else 2e-5
        assert totals.mean("loss") == pytest.approx(float(losses.mean()), rel=bound)
        assert totals.mean("accuracy") == pytest.approx(float(right.mean()), abs=0.021)


@pytest.mark.parametrize("kept", [0.3, 0.999])  # with the kernels, and too dense for them
def test_other_directions_with_the_bits_of_an_engine_made_for_them(kept: float) -> None:
    model, mask = pruned("vgg", kept)
    first = inside(mask, model)
    others = [{name: -0.5 * one for name, one in way.items()} for way in reversed(first)]
    engine, fresh = (Engine(model, examples(), classification, one) for one in (first, others))
    assert (engine.about["sparse"] is not None) == (kept < 0.5)
    for coordinates in COORDINATES:
        engine.evaluate(coordinates)
    assert engine.set_directions(others)
    for coordinates in COORDINATES:
        totals = [one.evaluate(coordinates)["test"].sums["loss"] for one in (engine, fresh)]
        assert np.array_equal(*totals)
    opened = [{name: one + 1 for name, one in way.items()} for way in others]  # what was pruned, too
    assert not engine.set_directions(opened)


def test_what_batch_norm_was_estimated_at_last_decides_nothing() -> None:
    model, mask = pruned("vgg")
    engine = Engine(model, examples(), classification, inside(mask, model), batch_norm="recalibrate")
    assert not engine.set_directions(inside(mask, model))


@pytest.mark.parametrize("sparse", ["auto", "off"])
def test_a_loss_that_fails_beside_the_centre_of_another_plane(sparse: Literal["auto", "off"]) -> None:
    model, mask = pruned("vgg")

    def small(network: Any, batch: Any) -> tuple[Tensor, int]:
        found = nn.functional.cross_entropy(network(batch[0]), batch[1], reduction="none")
        if float(found.max()) > 50:
            raise FloatingPointError("a large loss")
        return found, len(found)

    far = [{name: 1e4 * one for name, one in way.items()} for way in inside(mask, model)]
    engine = Engine(model, examples(), small, inside(mask, model), sparse=sparse)
    assert not engine.set_directions(far)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sparse": "off"}, "switched off"),
        ({"dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_dense_with_a_reason(settings: dict[str, str], reason: str) -> None:
    model, mask = pruned("vgg")
    engine = Engine(model, examples(), classification, inside(mask, model), **settings)  # type: ignore[arg-type]
    assert engine.about["sparse"] is None
    assert reason in engine.about["dense_because"]


def test_dense_directions_are_dense() -> None:
    model, _ = pruned("vgg")
    engine = Engine(model, examples(), classification, directions(model))
    assert engine.about["dense_because"] == "no weight is pruned"
    model, _ = pruned("vgg", kept=0.99)
    engine = Engine(model, examples(), classification, [{}])
    assert "dense ones are faster" in engine.about["dense_because"]
    assert Engine(model, examples(), classification, [{}], sparse="on").about["sparse"] is not None


@pytest.mark.parametrize("name", ["undecided", "perceptron"])
def test_asked_for_and_impossible_is_refused(name: str) -> None:
    model, mask = pruned(name)
    with pytest.raises(UserError, match=r"sparse on: .*; choose auto or off"):
        Engine(model, examples(), classification, inside(mask, model), sparse="on")
    assert Engine(model, examples(), classification, inside(mask, model)).about["sparse"] is None


def test_without_the_extra_everything_is_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "missing", lambda: "llvmlite is not installed")
    model, mask = pruned("vgg")
    engine = Engine(model, examples(), classification, inside(mask, model))
    assert engine.about["dense_because"] == "llvmlite is not installed"


def test_one_weight_that_one_direction_moves_is_computed_with() -> None:
    """What counts is being zero on the whole plane, not at the centre."""
    model, mask = pruned("vgg")
    along = inside(mask, model)
    name = next(iter(mask))
    place = tuple(int(i) for i in (~mask[name]).nonzero()[0])
    along[1][name] = along[1][name].clone()
    along[1][name][place] = 2.0
    engine = Engine(model, examples(), classification, along)
    losses, _ = plain_values(model, along, (0.5, 1.0), torch.float64)
    assert engine.evaluate((0.5, 1.0))["test"].mean("loss") == pytest.approx(float(losses.mean()), rel=2e-5)


def surface(model: nn.Module, mask: dict[str, Tensor], path=None, **more):
    return compute_surface(model, images(30), mask=mask, points=4, exact_grid=True, path=path, **more)


def losses(found: Surface) -> Any:
    return found.planes[0].splits["data"].metrics["loss"].values


def test_the_file_says_so_and_goes_on_as_it_began(tmp_path, monkeypatch) -> None:
    model, mask = pruned("resnet option A")
    whole = surface(model, mask, tmp_path / "a.surface.h5")
    used = whole.settings["sparse"]
    assert set(used) == {"lanes", "kernels"}
    assert whole.about["engine"]["sparse"]["density"] < 0.5
    dense = surface(model, mask, sparse="off")
    assert "sparse" not in dense.settings
    assert np.allclose(losses(whole), losses(dense), rtol=1e-5)

    def stop(state) -> None:
        if state.done == 6:
            raise KeyboardInterrupt

    for sparse, expected in (("auto", whole), ("off", dense)):
        path = tmp_path / f"{sparse}.surface.h5"
        with pytest.raises(KeyboardInterrupt):
            surface(model, mask, path, sparse=sparse, progress=stop)
        resumed = surface(model, mask, path)  # "auto" keeps to what there is
        assert np.array_equal(
            resumed.planes[0].splits["data"].metrics["loss"].values,
            expected.planes[0].splits["data"].metrics["loss"].values,
        )

    with pytest.raises(KeyboardInterrupt):
        surface(model, mask, tmp_path / "b.surface.h5", progress=stop)
    monkeypatch.setattr(choice, "missing", lambda: "llvmlite is not installed")
    with pytest.raises(UserError, match="sparse: the file has"):
        surface(model, mask, tmp_path / "b.surface.h5")
    with pytest.raises(UserError, match="expected auto, on or off"):
        surface(model, mask, sparse="perhaps")


def test_recalibrated_points_too() -> None:
    model, mask = pruned("resnet option B")
    along = inside(mask, model)
    found = [
        Engine(model, examples(), classification, along, batch_norm="recalibrate", sparse=sparse)
        .evaluate((0.2, 0.1))["test"]
        .mean("loss")
        for sparse in ("auto", "off")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(
    ("processor", "name", "low", "high"),
    [
        (Machine("x86_64", "znver5", "", 64, 32), "resnet20", 0.94, 0.96),
        (Machine("x86_64", "znver5", "", 64, 32), "resnet32_wide", 0.64, 0.66),
        (Machine("x86_64", "icelake-server", "", 64, 32), "resnet20", 0.59, 0.61),
        (Machine("x86_64", "znver3", "", 32, 16), "resnet20", 0.75, 0.9),
        (Machine("aarch64", "neoverse-n1", "", 16, 32), "resnet20", 0.49, 0.51),
    ],
)
def test_the_choice_is_a_function_of_shapes_and_processor(
    processor: Machine, name: str, low: float, high: float
) -> None:
    traced = trace(build_model(name).eval(), torch.randn(1, 3, 32, 32))
    assert low < choice.break_even(processor, traced) < high
    assert choice.density(traced, {}) == 1
    half = {"linear.weight": torch.zeros(10, 128 if "wide" in name else 64, dtype=torch.bool)}
    assert 0.999 < choice.density(traced, half) < 1
