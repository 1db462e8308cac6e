"""Mask inference from exact zeros, and the choice between stored and inferred masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from landscape.errors import UserError
from landscape.kept_weights import density, infer_mask, resolve_mask
from landscape.parameters import moving_params


def weight(rows: int, columns: int, zeros: int, seed: int = 0) -> Tensor:
    """A matrix without zeros but for `zeros` entries at random places."""
    generator = torch.Generator().manual_seed(seed)
    value = torch.rand(rows * columns, generator=generator) + 0.5
    value[torch.randperm(rows * columns, generator=generator)[:zeros]] = 0
    return value.reshape(rows, columns)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 1000))
def test_mask_is_exactly_where_weights_are_not_zero(rows: int, columns: int, share: float, seed: int) -> None:
    zeros = round(share * rows * columns)
    value = weight(rows, columns, zeros, seed)
    mask = infer_mask({"w": value})
    empty = value.eq(0).all(1)
    padding = int(empty.sum()) == 1 and bool(value[~empty].all())
    if 10 * zeros > rows * columns and zeros < rows * columns and not padding:
        assert mask is not None
        assert torch.equal(mask["w"], value.ne(0))
        assert density(mask) == pytest.approx(1 - zeros / (rows * columns))
    else:
        assert mask is None


def test_vectors_and_dense_weights_have_no_mask() -> None:
    params = {"dense": weight(10, 10, 10), "sparse": weight(10, 10, 11), "bias": torch.zeros(10)}
    mask = infer_mask(params)
    assert mask is not None
    assert list(mask) == ["sparse"]


def test_params_that_need_gradients_are_fine() -> None:
    mask = infer_mask({"w": torch.nn.Parameter(weight(4, 4, 8))})
    assert mask is not None
    assert not mask["w"].requires_grad


def test_auto_takes_the_stored_mask_first() -> None:
    params = {"w": weight(4, 4, 8)}
    stored = {"w": torch.ones(4, 4, dtype=torch.bool)}
    mask, source = resolve_mask("auto", stored, params)
    assert source == "checkpoint"
    assert mask is not None
    assert bool(mask["w"].all())
    inferred, source = resolve_mask("zeros", stored, params)
    assert source == "zeros"
    assert inferred is not None
    assert int(inferred["w"].sum()) == 8


@pytest.mark.parametrize(
    ("choice", "zeros", "source"),
    [("auto", 8, "zeros"), ("auto", 0, "none"), ("zeros", 0, "none"), ("none", 8, "none")],
)
def test_without_a_stored_mask(choice: str, zeros: int, source: str) -> None:
    mask, found = resolve_mask(choice, None, {"w": weight(4, 4, zeros)})
    assert found == source
    assert (mask is None) == (source == "none")


def test_bad_masks_are_refused() -> None:
    params = {"w": weight(4, 4, 8)}
    with pytest.raises(UserError, match="stores no mask"):
        resolve_mask("checkpoint", None, params)
    with pytest.raises(UserError, match=r"unknown mask 'some'.*auto"):
        resolve_mask("some", None, params)
    with pytest.raises(UserError, match="'v', which is no parameter"):
        resolve_mask("auto", {"v": torch.ones(4, 4, dtype=torch.bool)}, params)
    with pytest.raises(UserError, match=r"shape \(4, 3\); expected torch.bool of shape \(4, 4\)"):
        resolve_mask("auto", {"w": torch.ones(4, 3, dtype=torch.bool)}, params)


def test_density_counts_weights_not_tensors() -> None:
    mask = {"a": torch.zeros(1, 30, dtype=torch.bool), "b": torch.ones(2, 5, dtype=torch.bool)}
    assert density(mask) == 0.25
    assert density({}) == 1.0


def test_masks_may_be_arrays_and_what_is_no_mask_is_refused() -> None:
    params = {"w": weight(4, 4, 8)}
    kept = np.arange(16).reshape(4, 4) % 3 > 0
    found, _ = resolve_mask("auto", {"w": kept}, params)  # type: ignore[dict-item]
    assert found is not None
    assert found["w"].dtype == torch.bool
    assert torch.equal(found["w"], torch.tensor(kept))
    for wrong, words in (
        ([[True] * 4] * 4, r"the mask of 'w' is a list; expected a bool tensor of shape \(4, 4\)"),
        (None, "a NoneType; expected a bool tensor"),
        (kept.astype(np.int64), "an array of int64; expected a bool tensor"),
        (kept[:, :3], r"shape \(4, 3\); expected torch.bool of shape \(4, 4\)"),
    ):
        with pytest.raises(UserError, match=words):
            resolve_mask("auto", {"w": wrong}, params)  # type: ignore[dict-item]


def test_a_layer_pruned_at_present_hides_no_zeros_of_others() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    for layer in model:
        prune.l1_unstructured(layer, "weight", 0.8)
    live, _ = resolve_mask("auto", None, moving_params(model))
    prune.remove(model[1], "weight")
    mixed, source = resolve_mask("auto", None, moving_params(model))
    assert live is not None
    assert mixed is not None
    assert source == "checkpoint"
    assert torch.equal(mixed["1.weight"], live["1.weight_orig"])
    only, _ = resolve_mask("checkpoint", None, moving_params(model))
    assert list(only or {}) == ["0.weight_orig"]
