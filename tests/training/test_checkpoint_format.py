"""The sparse checkpoint dict: round trip, size, refusals."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.checkpoint.format import Checkpoint, decode, encode, is_checkpoint
from landscape.checkpoint.integrity import sealed
from landscape.errors import UserError
from training.checkpoint import load_dict


def make(shape: tuple[int, ...], density: float, seed: int, dtype: torch.dtype = torch.float32) -> Checkpoint:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < density
    weight = torch.randn(shape, generator=generator).to(dtype).masked_fill_(~mask, 0)
    return Checkpoint(
        "resnet20",
        {"widths": [1, 2, 3]},
        {"bias": torch.randn(3, generator=generator), "weight": weight, "count": torch.tensor(7)},
        {"weight": mask},
        {"name": "cifar10"},
        {"lr": 0.1},
        {"test_accuracy": 0.5},
        {"torch": "2"},
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    st.sampled_from([0.0, 0.01, 0.03, 0.1, 0.5, 1.0]),
    st.integers(0, 2**31),
    st.sampled_from([torch.float32, torch.float64, torch.float16]),
)
def test_round_trip(shape: tuple[int, ...], density: float, seed: int, dtype: torch.dtype) -> None:
    original = make(shape, density, seed, dtype)
    back = decode(encode(original))
    assert list(back.state_dict) == list(original.state_dict)
    for name, tensor in original.state_dict.items():
        assert back.state_dict[name].dtype == tensor.dtype
        assert torch.equal(back.state_dict[name], tensor)
    assert torch.equal(back.mask["weight"], original.mask["weight"])
    assert back.mask["weight"].dtype == torch.bool
    plain = ("architecture", "arguments", "data", "config", "metrics", "environment")
    assert all(getattr(back, name) == getattr(original, name) for name in plain)


@pytest.mark.parametrize(("density", "key"), [(0.02, "indices"), (0.5, "bits")])
def test_the_smaller_form_is_stored_and_read_safely(tmp_path: Path, density: float, key: str) -> None:
    original = make((64, 64, 3, 3), density, 0)
    content = encode(original)
    assert key in content["sparse"]["weight"]
    path = tmp_path / "c.pt"
    torch.save(content, path)
    back = decode(torch.load(path, weights_only=True))
    assert torch.equal(back.state_dict["weight"], original.state_dict["weight"])
    values, form = 4 * int(original.mask["weight"].sum()), min(4 * density, 1 / 8) * 36_864
    assert path.stat().st_size < values + 1.1 * form + 4096


def test_kept_zeros_and_views_survive() -> None:
    """A kept weight may be 0; a view must not drag its whole storage into the file."""
    base = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    weight, mask = torch.zeros(2, 2), torch.tensor([[True, False], [True, True]])
    back = encode(Checkpoint("m", {}, {"weight": weight, "bias": base[:2]}, {"weight": mask}))
    assert torch.equal(decode(back).mask["weight"], mask)
    assert back["state_dict"]["bias"].untyped_storage().nbytes() == 2 * 4 * 4


@pytest.mark.parametrize("value", [1e-30, float("nan"), float("inf")])
def test_weights_outside_the_mask_are_refused(value: float) -> None:
    weight, mask = torch.tensor([1.0, value]), torch.tensor([True, False])
    with pytest.raises(UserError, match="outside the mask"):
        encode(Checkpoint("m", {}, {"weight": weight}, {"weight": mask}))


def test_masks_that_do_not_fit_are_refused() -> None:
    for mask in (torch.ones(3, dtype=torch.bool), torch.ones(2)):
        with pytest.raises(UserError, match="mask of weight"):
            encode(Checkpoint("m", {}, {"weight": torch.ones(2)}, {"weight": mask}))
    with pytest.raises(UserError, match="missing"):
        encode(Checkpoint("m", {}, {}, {"weight": torch.ones(2, dtype=torch.bool)}))


def damaged(**changes: object) -> dict:
    content = encode(make((20, 20), 0.02, 0))
    packed = content["sparse"]["weight"]
    for key, value in changes.items():
        (packed if key in ("values", "indices", "shape") else content)[key] = value
    return sealed(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "not a sharpscape.checkpoint"),
        (damaged(format_version=3), "version 3"),
        (damaged(metrics=None), "metrics missing"),
        (damaged(values=torch.ones(1)), "values for"),
        (damaged(indices=torch.tensor([500], dtype=torch.int32)), "out of range"),
        (damaged(indices=torch.tensor([3, 3], dtype=torch.int32)), "not ascending"),
        (damaged(shape=None), "damaged"),
        (damaged(architecture={"name": "m"}), "arguments"),
        (damaged(order=["weight"]), "differ"),
        (damaged(state_dict={"bias": "no tensor", "count": 1}), "differ"),
    ],
)
def test_foreign_or_damaged_dicts(content: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode(content)


def test_is_checkpoint() -> None:
    assert is_checkpoint(encode(make((2, 2), 1.0, 0)))
    assert not is_checkpoint([1])
    assert not is_checkpoint({"format": "other"})


@pytest.mark.parametrize("content", [b".", b"", b"PK\x03\x04", b"\x80\x02}q\x00X"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "final.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"final\.pt can't be read: .*remove it"):
        load_dict(path)
