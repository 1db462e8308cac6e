"""Directions: scale, mask, seeds, and what is refused."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from landscape.engine import own_copy
from landscape.errors import UserError
from landscape.kept_weights import resolve_mask
from landscape.parameters import moving_params
from landscape.planes import BetweenPlane, GivenPlane, RandomPlane
from landscape.planes.directions import (
    Normalization,
    Params,
    apply_mask,
    checked,
    direction_between,
    filter_norms,
    given_direction,
    normalize,
    random_direction,
)
from landscape.provenance import digest

SHAPES = {
    "conv.weight": (6, 3, 3, 3),
    "conv.bias": (6,),
    "norm.weight": (6,),
    "head.weight": (4, 6),
    "scale": (),
}


def network(seed: int = 0, scale: float = 1.0) -> Params:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def sparse(params: Params, share: float, seed: int = 1) -> tuple[Params, Params]:
    """The network with `share` of its prunable weights at zero, and its mask; one filter wholly pruned."""
    generator = torch.Generator().manual_seed(seed)
    mask = {
        name: torch.rand(value.shape, generator=generator) >= share
        for name, value in params.items()
        if value.dim() > 1
    }
    mask["conv.weight"][2] = False
    pruned = {name: value * mask[name] if name in mask else value for name, value in params.items()}
    return pruned, mask


def slices(tensor: Tensor) -> list[np.ndarray]:
    """Filters as float64 vectors, by numpy alone."""
    array = tensor.double().numpy()
    return [array[i].ravel() for i in range(len(array))] if array.ndim else [array.reshape(1)]


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 0.97), scale=st.sampled_from([1e-4, 1.0, 1e3]))
def test_filter_norms_equal_the_weights_and_zeros_are_exact(seed: int, share: float, scale: float) -> None:
    params, mask = sparse(network(seed, scale), share, seed)
    first, second = RandomPlane(seed, "filter", skip_vectors=False).directions(params, mask, 2)
    for direction in (first, second):
        for name, value in direction.items():
            assert value.dtype == torch.float32
            for ours, theirs in zip(slices(value), slices(params[name]), strict=True):
                np.testing.assert_allclose(np.linalg.norm(ours), np.linalg.norm(theirs), rtol=1e-6, atol=0)
            if name in mask:
                assert torch.count_nonzero(value[~mask[name]]) == 0
                assert bool((value[mask[name]] != 0).all())


def test_wholly_pruned_filter_has_a_zero_direction() -> None:
    params, mask = sparse(network(), 0.5)
    direction = RandomPlane(3).directions(params, mask, 1)[0]
    assert torch.count_nonzero(direction["conv.weight"][2]) == 0
    assert bool(torch.isfinite(direction["conv.weight"]).all())
    assert torch.count_nonzero(direction["conv.weight"][0]) > 0


def test_zero_filter_without_a_mask_has_a_zero_direction() -> None:
    params, _ = sparse(network(), 0.0)
    assert torch.count_nonzero(RandomPlane(3).directions(params, None, 1)[0]["conv.weight"][2]) == 0


def test_masking_comes_before_normalizing() -> None:
    params, mask = sparse(network(), 0.3)
    raw = apply_mask(random_direction(params, 5, 0), mask)
    found = RandomPlane(5).directions(params, mask, 1)[0]["head.weight"]
    for got, drawn, weights in zip(
        *map(slices, (found, raw["head.weight"], params["head.weight"])), strict=True
    ):
        np.testing.assert_allclose(got, drawn * np.linalg.norm(weights) / np.linalg.norm(drawn), rtol=1e-6)


@pytest.mark.parametrize("how", get_args(Normalization))
def test_only_kept_weights_count_where_a_mask_hides_others(how: Normalization) -> None:
    """Pruning by hooks keeps the pruned weights and hides them; a caller's mask may lie on any weights."""
    params, mask = sparse(network(), 0.7)
    hidden = {
        name: torch.where(mask[name], one, 3.0) if name in mask else one for name, one in params.items()
    }
    drawn = random_direction(params, 2, 0)
    planes = (RandomPlane(2, how), GivenPlane([drawn], how), BetweenPlane(network(5), normalize=how))
    for plane in planes:
        axes = 2 if isinstance(plane, BetweenPlane) else 1
        ours, theirs = (plane.directions(one, mask, axes)[-1] for one in (hidden, params))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_networks_pruned_at_present_have_the_directions_of_those_whose_pruning_is_final() -> None:
    torch.manual_seed(0)
    live = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    for place in (0, 2):
        prune.l1_unstructured(live[place], "weight", 0.8)
    final = own_copy(live)
    for place in (0, 2):
        prune.remove(final[place], "weight")
    found = []
    for model in (live, final):
        params = moving_params(model)
        mask, _ = resolve_mask("auto", None, params)
        found.append(RandomPlane().directions(params, mask, 1)[0])
    assert torch.equal(found[0]["0.weight_orig"], found[1]["0.weight"])
    assert torch.equal(found[0]["2.weight_orig"], found[1]["2.weight"])


def test_a_parameter_without_entries_has_a_direction_without() -> None:
    params = {"weight": torch.ones(3, 2), "none": torch.ones(0, 4), "flat": torch.ones(0)}
    for how in get_args(Normalization):
        found = RandomPlane(normalize=how, skip_vectors=False).directions(params, None, 1)[0]
        assert found["none"].shape == (0, 4)
        assert found["flat"].shape == (0,)


def test_vectors_are_skipped_by_default() -> None:
    direction = RandomPlane(0).directions(network(), None, 1)[0]
    for name, shape in SHAPES.items():
        assert (torch.count_nonzero(direction[name]) == 0) == (len(shape) <= 1)


def test_layer_normalization_gives_the_norm_of_the_tensor() -> None:
    params = network()
    direction = normalize(random_direction(params, 1, 0), params, "layer", skip_vectors=False)
    for name, value in direction.items():
        np.testing.assert_allclose(
            np.linalg.norm(value.double().numpy()), np.linalg.norm(params[name].double().numpy()), rtol=1e-6
        )


def test_weight_normalization_gives_each_entry_the_size_of_its_weight() -> None:
    params, mask = sparse(network(), 0.5)
    raw = random_direction(params, 1, 0)
    for name, value in normalize(apply_mask(raw, mask), params, "weight", skip_vectors=False).items():
        assert torch.equal(value.abs(), params[name].abs())
        kept = params[name] != 0
        assert torch.equal(value[kept].sign(), raw[name][kept].sign())


def test_no_normalization_changes_nothing() -> None:
    params = network()
    raw = random_direction(params, 1, 0)
    for name, value in normalize(raw, params, "none", skip_vectors=False).items():
        assert torch.equal(value, raw[name])


def test_every_normalization_is_tested_and_others_are_refused() -> None:
    assert set(get_args(Normalization)) == {"filter", "layer", "weight", "none"}
    with pytest.raises(UserError, match="unknown normalization 'model'; expected one of filter"):
        normalize(network(), network(), "model")  # type: ignore[arg-type]


def test_filter_norms_are_in_float64() -> None:
    assert filter_norms(torch.full((2, 3), 2.0)).tolist() == pytest.approx([12**0.5] * 2, rel=1e-15)
    assert filter_norms(torch.tensor(-3.0)).tolist() == [3.0]


@given(st.integers(0, 2**31), st.integers(0, 1))
@settings(max_examples=10)
def test_same_seed_same_bits(seed: int, axis: int) -> None:
    params = network()
    before = torch.get_rng_state()
    first = random_direction(params, seed, axis)
    torch.randn(3)
    assert digest(first) == digest(random_direction(params, seed, axis))
    torch.set_rng_state(before)
    random_direction(params, seed, axis)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_and_axes_give_different_directions() -> None:
    params = {"w": torch.zeros(3, 3)}
    found = {digest(random_direction(params, seed, axis)) for seed in range(50) for axis in range(3)}
    assert len(found) == 150


def test_an_axis_does_not_depend_on_the_others() -> None:
    params = network()
    line = RandomPlane(7).directions(params, None, 1)
    plane = RandomPlane(7).directions(params, None, 2)
    assert digest(line[0]) == digest(plane[0])


def test_axes_are_nearly_orthogonal_and_gaussian() -> None:
    params = {"w": torch.zeros(100, 100)}
    first, second = (random_direction(params, 0, axis)["w"].double().flatten() for axis in range(2))
    assert abs(float(first @ second)) / 1e4 < 0.04  # four standard errors
    assert abs(float(first.mean())) < 0.04
    assert abs(float(first.std()) - 1) < 0.04


def test_directions_do_not_depend_on_the_default_dtype() -> None:
    expected = digest(random_direction(network(), 0, 0))
    torch.set_default_dtype(torch.float64)
    try:
        assert digest(random_direction(network(), 0, 0)) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_one_direction_is_pinned() -> None:
    """A platform or a release of torch on which a seed means another direction shows here."""
    params = {"w": torch.zeros(4, 3, 3, 3), "b": torch.zeros(4)}
    assert digest(random_direction(params, 0, 0)) == "04ada191d0b3a7c9"


def test_between_two_networks() -> None:
    start, end = network(0), network(1)
    direction = direction_between(start, end)
    for name, value in direction.items():
        torch.testing.assert_close(start[name] + value, end[name])


def test_half_precision_networks_differ_in_float32() -> None:
    start = {"w": torch.tensor([1.0], dtype=torch.bfloat16)}
    end = {"w": torch.tensor([2.0**-9], dtype=torch.bfloat16)}
    assert direction_between(start, end)["w"].tolist() == [2.0**-9 - 1]


def test_networks_of_other_architectures_are_refused() -> None:
    start = network()
    without = {name: value for name, value in start.items() if name != "scale"}
    with pytest.raises(UserError, match="lacks the parameter 'scale'"):
        direction_between(start, without)
    with pytest.raises(UserError, match="extra parameter 'scale'"):
        direction_between(without, start)
    with pytest.raises(UserError, match=r"shape \(2,\) for 'conv.bias', expected \(6,\)"):
        direction_between(start, {**start, "conv.bias": torch.zeros(2)})


def test_given_direction_is_completed_with_zeros() -> None:
    direction = given_direction(network(), {"head.weight": torch.ones(4, 6, dtype=torch.float64)})
    assert list(direction) == list(SHAPES)
    assert bool((direction["head.weight"] == 1).all())
    assert sum(int(torch.count_nonzero(value)) for value in direction.values()) == 24


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("other", torch.zeros(2), "names 'other', which is no parameter"),
        ("scale", torch.zeros(2), r"has shape \(2,\) for 'scale', expected \(\)"),
        ("scale", torch.tensor(float("nan")), "isn't finite in 'scale'"),
    ],
)
def test_unusable_given_directions_are_refused(name: str, value: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        given_direction(network(), {name: value})


def test_parameters_that_need_gradients_are_left_alone() -> None:
    model = nn.Conv2d(2, 3, 3)
    before = digest(dict(model.named_parameters()))
    params = dict(model.named_parameters())
    direction = normalize(random_direction(params, 0, 0), params)
    assert not any(value.requires_grad for value in direction.values())
    assert not any(value.requires_grad for value in direction_between(params, params).values())
    assert digest(dict(model.named_parameters())) == before


def test_complex_directions_are_refused() -> None:
    params = network()
    one = {name: torch.complex(value, value) for name, value in params.items()}
    with pytest.raises(UserError, match="complex"):
        checked([one], params)
