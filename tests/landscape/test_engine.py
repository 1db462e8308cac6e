"""Every point of the engine equals a plain, independent evaluation."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from engine_cases import NETWORKS, directions, examples, images, network, plain_values, unchanged
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.engine import Engine
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import classification

GRID = [(alpha, beta) for alpha in (-1.0, 0.0, 0.7) for beta in (-0.4, 0.9)]


def relative(got: float, expected: float) -> float:
    return abs(got - expected) / abs(expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-11)])
def test_equals_plain_loop(name: str, dtype: str, tolerance: float) -> None:
    model = network(name)
    along = directions(model)
    engine = Engine(model, examples(), classification, along, dtype=dtype, batch_size=13)
    assert engine.about["folded"] is NETWORKS[name][1], engine.about
    for point in GRID:
        with unchanged(model):
            totals = engine.evaluate(point)["test"]
        losses, correct = plain_values(network(name), along, point, getattr(torch, dtype))
        assert relative(totals.mean("loss"), float(losses.mean())) < tolerance
        assert totals.mean("accuracy") == pytest.approx(float(correct.mean()), abs=1e-12)
        assert relative(totals.stderr("loss"), float(losses.std()) / len(losses) ** 0.5) < 10 * tolerance


def test_everything_is_fused_that_can_be() -> None:
    def about(name: str) -> dict[str, object]:
        model = network(name)
        return Engine(model, examples(), classification, directions(model)).about

    if not torch.backends.mkldnn.is_available():
        assert about("vgg")["fused"] == 0
        return
    assert about("resnet option A")["fused"] == 13
    assert about("resnet option B")["fused"] == 15
    assert about("tangled")["fused"] == 4  # padding="same" stays


def test_bfloat16_is_a_preview() -> None:
    model = network("vgg")
    along = directions(model)
    engine = Engine(model, examples(), classification, along, dtype="bfloat16")
    losses, _ = plain_values(model, along, (0.5, 0.5))
    assert relative(engine.evaluate((0.5, 0.5))["test"].mean("loss"), float(losses.mean())) < 0.03
    assert engine.about["dtype"] == "bfloat16"


@pytest.mark.parametrize("count", [1, 2, 19, 50])
def test_blocks_are_contiguous_and_near_equal(count: int) -> None:
    model = network("vgg")
    along = directions(model, 1)
    totals = Engine(model, examples(count), classification, along, batch_size=7).evaluate([0.3])["test"]
    losses, _ = plain_values(model, along, [0.3], count=count)
    edges = [count * part // min(20, count) for part in range(min(20, count) + 1)]
    assert totals.counts.tolist() == np.diff(edges).tolist()
    assert totals.examples == count
    means = [float(losses[a:b].mean()) for a, b in pairwise(edges)]
    np.testing.assert_allclose(totals.block_means("loss"), means, rtol=1e-5)
    assert np.isnan(totals.stderr("loss")) == (count == 1)


def test_two_splits_and_own_number_of_blocks() -> None:
    model = network("vgg")
    data = {"train": examples(40)["test"], "test": examples(50)["test"]}
    found = Engine(model, data, classification, directions(model), blocks=3).evaluate((0.0, 0.0))
    assert list(found) == ["train", "test"]
    assert [len(one.counts) for one in found.values()] == [3, 3]
    assert found["train"].examples == 40


@pytest.mark.parametrize("name", ["resnet option A", "undecided"])
def test_same_point_same_bits_in_any_order(name: str) -> None:
    model = network(name)
    along = directions(model)
    forward = Engine(model, examples(), classification, along)
    backward = Engine(model, examples(), classification, along)
    first = [forward.evaluate(point)["test"] for point in GRID]
    second = [backward.evaluate(point)["test"] for point in reversed(GRID)][::-1]
    for one, two in zip(first, second, strict=True):
        for metric in one.sums:
            assert one.sums[metric].tobytes() == two.sums[metric].tobytes()
            assert one.squares[metric] == two.squares[metric]


def test_chosen_batch_size_can_be_given_back() -> None:
    model = network("resnet option B")
    along = directions(model)
    chosen = Engine(model, examples(), classification, along)
    given_back = Engine(model, examples(), classification, along, batch_size=chosen.about["batch_size"])
    point = (0.2, 0.1)
    assert chosen.evaluate(point)["test"].sums["loss"].tobytes() == (
        given_back.evaluate(point)["test"].sums["loss"].tobytes()
    )


def test_directions_may_name_only_some_parameters() -> None:
    model = network("vgg")
    along = [{"1.weight": torch.ones(8), "1.bias": torch.ones(8)}, {"12.bias": torch.ones(5)}]
    engine = Engine(model, examples(), classification, along)
    for point in ((0.4, 0.0), (0.0, -2.0), (0.3, 1.0)):
        losses, _ = plain_values(model, along, point)
        assert relative(engine.evaluate(point)["test"].mean("loss"), float(losses.mean())) < 1e-5


def test_no_direction_evaluates_the_network_itself() -> None:
    model = network("vgg")
    losses, _ = plain_values(model, [], [])
    assert relative(
        Engine(model, examples(), classification, []).evaluate([])["test"].mean("loss"), float(losses.mean())
    ) < (1e-5)


def test_torchscript() -> None:
    model = network("vgg").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, its files remain
        script = torch.jit.trace(model, images(2)[0])
    along = directions(model)
    losses, _ = plain_values(model, along, (0.4, 0.2))
    found = Engine(script, examples(), classification, along).evaluate((0.4, 0.2))["test"]
    assert relative(found.mean("loss"), float(losses.mean())) < 1e-5


def test_uint8_images_are_normalized_per_channel() -> None:
    model = network("vgg")
    pixels = torch.randint(
        0, 256, (50, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    labels = images()[1]
    floats = (pixels.float() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    point = (0.2, 0.3)
    found = [
        Engine(model, {"test": one}, classification, directions(model)).evaluate(point)["test"].mean("loss")
        for one in (
            Examples.from_images(pixels, labels, mean, std),
            Examples.from_tensors(floats, labels),
        )
    ]
    assert relative(found[0], found[1]) < 1e-6


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70))
def test_batches_cover_all_examples_in_order(count: int, size: int) -> None:
    cut = Examples.from_tensors(torch.arange(count)).batches(size)
    lengths = [len(part) for (part,) in cut]
    assert torch.cat([part for (part,) in cut]).tolist() == list(range(count))
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_digest_tells_examples_apart() -> None:
    inputs, labels = images()
    base = Examples.from_tensors(inputs, labels)
    assert base.digest() == Examples.from_tensors(inputs.clone(), labels.clone()).digest()
    assert base.digest() != Examples.from_tensors(inputs + 1e-3, labels).digest()
    assert base.digest() != Examples.from_batches([(inputs[:10], labels[:10])]).digest()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "float8"}, "unknown dtype"),
        ({"dtype": "tf32"}, "needs a CUDA device"),
        ({"batch_size": 0}, "at least 1"),
        ({"blocks": 0}, "at least 1"),
        ({"batch_norm": "frozen"}, "unknown batch norm"),
    ],
)
def test_unusable_settings(wrong: dict[str, object], message: str) -> None:
    model = network("vgg")
    with pytest.raises(UserError, match=message):
        Engine(model, examples(), classification, directions(model), **wrong)  # type: ignore[arg-type]


def test_directions_must_fit() -> None:
    model = network("vgg")
    with pytest.raises(UserError, match=r"'nowhere'"):
        Engine(model, examples(), classification, [{"nowhere": torch.ones(1)}])
    with pytest.raises(UserError, match=r"shape \[3\] for '1.weight'"):
        Engine(model, examples(), classification, [{"1.weight": torch.ones(3)}])
    with pytest.raises(UserError, match="1 coordinates for 2"):
        Engine(model, examples(), classification, directions(model)).evaluate([0.0])


def test_examples_must_be_some_and_equally_many() -> None:
    with pytest.raises(UserError, match="empty"):
        Examples.from_tensors(torch.ones(0, 2))
    with pytest.raises(UserError, match=r"\[3, 2\]"):
        Examples.from_tensors(torch.ones(3), torch.ones(2))
    with pytest.raises(UserError, match="empty"):
        Examples.from_batches([])
    with pytest.raises(UserError, match="per channel"):
        Examples.from_images(torch.zeros(2, 3, 4, 4), torch.zeros(2), (0.5,), (0.5,))
    with pytest.raises(UserError, match="no split"):
        Engine(network("vgg"), {}, classification, [])
