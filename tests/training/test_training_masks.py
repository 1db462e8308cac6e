"""Masks and layer densities: exact counts, published numbers, untouched tensors."""

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_cases import FakeSource
from torch import nn

from landscape.errors import UserError
from training import masks
from training.models import build_model
from training.sparsity import METHODS, Dense, Random
from training.sparsity.base import MaskedMethod
from training.sparsity.chex import Chex
from training.sparsity.distribution import DENSITIES, layer_counts

SMALL = {"a": (10, 10), "b": (100, 100), "c": (10, 100)}


class NoSource:
    """Images that nothing may look at."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("a data-free method looked at data")

    draw_balanced = draw


class Noise:
    """Images of noise in four classes."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(count, 3, 8, 8, generator=generator), torch.arange(count) % 4

    def draw_balanced(self, per_class: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return self.draw(4 * per_class, generator)


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [(0.9, (0.672727, 0.067273, 0.37)), (0.8, (1.0, 0.136774, 0.752258))],
)
def test_erk_reference_densities(sparsity: float, expected: tuple[float, ...]) -> None:
    assert list(DENSITIES["erk"](SMALL, 1 - sparsity).values()) == pytest.approx(expected, abs=1e-6)


def test_erk_on_the_papers_resnet32() -> None:
    """Values computed by the method's released code at 98 %."""
    shapes = {name: tuple(w.shape) for name, w in masks.prunable(build_model("resnet32_wide")).items()}
    densities = DENSITIES["erk"](shapes, 0.02)
    found = [densities[f"{name}.weight"] for name in ("conv1", "layer1.0.conv1", "layer3.1.conv1", "linear")]
    assert found == pytest.approx([0.34977, 0.05598, 0.01310, 0.79466], abs=1e-5)
    assert sum(math.prod(shape) for shape in shapes.values()) == 1_855_584


def test_er_ignores_the_kernel() -> None:
    """Density proportional to (in + out) / (in · out), by hand for two layers of equal channels."""
    densities = DENSITIES["er"]({"a": (8, 8, 3, 3), "b": (8, 8, 1, 1)}, 0.2)
    assert densities["a"] == pytest.approx(densities["b"])


def test_uniform_plus() -> None:
    shapes = {"first": (16, 3, 3, 3), "middle": (64, 64, 3, 3), "last": (10, 64)}
    densities = DENSITIES["uniform+"](shapes, 0.1)
    assert densities["first"] == 1
    assert densities["last"] == 0.2
    assert densities["middle"] == pytest.approx((0.1 * 37936 - 432 - 128) / 36864)
    with pytest.raises(UserError, match="first and last layer"):
        layer_counts(shapes, 0.99, "uniform+")


def test_uniform_plus_beside_dense_layers() -> None:
    """What is kept dense anyway has no rule, and no other layer takes its place."""
    shapes = {"one": (64, 64, 3, 3), "two": (64, 64, 3, 3), "last": (10, 64)}
    counts = layer_counts(shapes, 0.9, "uniform+", dense=("first",))
    assert counts["last"] == 128
    assert counts["one"] == pytest.approx(counts["two"], abs=1)
    assert sum(counts.values()) == round(0.1 * (2 * 36864 + 640))
    del shapes["last"]
    assert layer_counts(shapes, 0.9, "uniform+", dense=("first", "last")) == {"one": 3687, "two": 3686}


@pytest.mark.parametrize("name", ["mest_em", "mest_ems", "dsr", "set", "snip", "magnitude", "safe", "lt"])
def test_methods_know_which_layers_are_first_and_last(name: str) -> None:
    """Of the network, not of those that they mask."""
    kind = METHODS[name]
    own = "ranking" if any(one.name == "ranking" for one in fields(kind)) else "distribution"
    settings: dict[str, Any] = {own: "uniform+", "keep_dense": ("first", "last")}
    if name == "magnitude":
        settings |= {"begin": 0, "end": 0}
    method = kind(0.8, **settings)  # type: ignore[arg-type]
    model = build_model("resnet20", widths=(8, 8, 8))
    mask = method.init_mask(model, FakeSource(), torch.Generator().manual_seed(0))
    if name == "lt":
        mask = method.next_round(model, mask, method.cuts)  # type: ignore[attr-defined]
    if name == "safe":
        mask = {key: one != 0 for key, one in method.projected(dict(method.maskable(model))).items()}  # type: ignore[attr-defined]
    wanted = 0.25 if name == "mest_ems" else 0.2
    assert [float(part.float().mean()) for part in mask.values()] == pytest.approx(
        [wanted] * len(mask), abs=2e-3
    )


shapes_strategy = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3), st.just(3)),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(shapes_strategy, st.floats(0, 0.999), st.sampled_from(["uniform", "er", "erk"]))
def test_counts_are_exact(shapes: list[tuple[int, ...]], sparsity: float, distribution: str) -> None:
    """The total is exact, no layer overflows, and each count is next to its ideal value."""
    named = {f"layer{number}": shape for number, shape in enumerate(shapes)}
    total = sum(math.prod(shape) for shape in shapes)
    counts = layer_counts(named, sparsity, distribution)
    ideal = DENSITIES[distribution](named, 1 - sparsity)
    assert sum(counts.values()) == round((1 - sparsity) * total)
    for name, shape in named.items():
        assert 0 <= counts[name] <= math.prod(shape)
        assert abs(counts[name] - ideal[name] * math.prod(shape)) < 1 + 1e-6


def test_ties_are_broken_by_order() -> None:
    assert layer_counts({"a": (1, 3), "b": (1, 3)}, 0.5, "uniform") == {"a": 2, "b": 1}


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(UserError, match="at least 0 and below 1"):
        layer_counts(SMALL, sparsity, "erk")


@pytest.mark.parametrize("distribution", list(DENSITIES))
def test_random_mask(distribution: str) -> None:
    model = build_model("resnet20")
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def draw_mask(seed: int) -> masks.Mask:
        method = Random(sparsity=0.9, distribution=distribution)
        return method.init_mask(model, NoSource(), torch.Generator().manual_seed(seed))

    mask, again, other = draw_mask(1), draw_mask(1), draw_mask(2)
    masks.check(model, mask)
    assert masks.kept(mask) == round(0.1 * 268_336)
    assert all(torch.equal(mask[name], again[name]) for name in mask)
    assert any(not torch.equal(mask[name], other[name]) for name in mask)
    assert {name: int(part.sum()) for name, part in mask.items()} == {
        name: int(part.sum()) for name, part in other.items()
    }
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_prunable_are_convolutions_and_linear_layers_only() -> None:
    model = build_model("resnet20", shortcut="B")
    names = set(masks.prunable(model))
    assert {"conv1.weight", "linear.weight", "layer2.0.shortcut.0.weight"} <= names
    assert not any("bn" in name or name.endswith("bias") or "shortcut.1" in name for name in names)
    assert list(masks.prunable(nn.Linear(2, 3))) == ["weight"]


def test_applying_touches_nothing_else() -> None:
    model = build_model("resnet20")
    mask = Random(0.9).init_mask(model, NoSource(), torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))).sum().backward()
    optimizer.step()
    dead = next(iter(mask))
    model.get_parameter(dead).data[~mask[dead]] = torch.nan
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks.apply_to_weights(model, mask)
    masks.AppliedMask(model, mask).to_gradients()
    masks.apply_to_state(optimizer, model, mask)
    for name, value in model.state_dict().items():
        keep = mask.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value[keep], before[name][keep])
        assert (value[~keep] == 0).all()
    for name, part in mask.items():
        parameter = model.get_parameter(name)
        momentum = optimizer.state[parameter]["momentum_buffer"]
        assert parameter.grad is not None
        assert (parameter.grad[~part] == 0).all()
        assert (momentum[~part] == 0).all()
        assert (momentum[part] != 0).any()


def test_wrong_masks_are_refused() -> None:
    model = build_model("resnet20")
    with pytest.raises(ValueError, match="not a prunable"):
        masks.check(model, {"bn1.weight": torch.ones(16, dtype=torch.bool)})
    with pytest.raises(ValueError, match="expected bool"):
        masks.check(model, {"linear.weight": torch.ones(10, 64)})
    with pytest.raises(ValueError, match="expected bool"):
        masks.check(model, {"linear.weight": torch.ones(64, 10, dtype=torch.bool)})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_contract(name: str) -> None:
    """Masks of prunable weights, the sparsity asked for or a stated other, model and torch as they were."""
    model = build_model("resnet20", num_classes=4, widths=(4, 6, 8))
    random_state = torch.random.get_rng_state()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    method = METHODS[name]()
    mask = method.init_mask(model, Noise(), torch.Generator().manual_seed(0))
    again = method.init_mask(model, Noise(), torch.Generator().manual_seed(0))
    assert all(torch.equal(part, again[key]) for key, part in mask.items())
    masks.check(model, mask)
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    if isinstance(method, MaskedMethod):
        assert list(mask) == list(masks.prunable(model, method.published_dense()))
        assert masks.sparsity(mask) == pytest.approx(STARTS.get(name, method.sparsity), abs=1e-3)
        with pytest.raises(UserError, match="sparsity 1"):
            METHODS[name](sparsity=1.0)  # type: ignore[call-arg]
    elif isinstance(method, Chex):
        assert 0 < masks.sparsity(mask) < method.sparsity
    else:
        assert method == Dense()
        assert not mask


STARTS = {"lt": 0.0, "magnitude": 0.0, "mest_ems": 0.85, "safe": 0.0}
"""Sparsity of the first mask where it isn't the one asked for (0.9)."""


@pytest.mark.parametrize("name", [name for name in METHODS if issubclass(METHODS[name], MaskedMethod)])
def test_layers_that_stay_dense(name: str) -> None:
    model = build_model("resnet20", num_classes=4, widths=(4, 6, 8), shortcut="B")
    method = METHODS[name](sparsity=0.5, keep_dense=("first", "last", "shortcut"))  # type: ignore[call-arg]
    mask = method.init_mask(model, Noise(), torch.Generator().manual_seed(0))
    left_out = set(masks.prunable(model)) - set(mask)
    assert left_out == {
        "conv1.weight",
        "layer2.0.shortcut.0.weight",
        "layer3.0.shortcut.0.weight",
        "linear.weight",
    }
