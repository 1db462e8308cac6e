"""Whatever users call data, labels and a model gives the plain value, or one line."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_network import examples, small_network
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import landscape
from landscape.errors import UserError
from landscape.examples.forms import as_examples

INPUTS, LABELS = examples()
PAIRS = list(zip(torch.split(INPUTS, 6), torch.split(LABELS, 6), strict=True))


class Samples(Dataset[Any]):
    """Of a tensor and a Python integer, as torchvision's are."""

    def __init__(self, count: int = len(LABELS)) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return INPUTS[index], int(LABELS[index])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(PAIRS)


def expected(model: nn.Module) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model.eval()(INPUTS), LABELS))


def computed(data: Any, model: Any = None, **options: Any) -> float:
    model = small_network() if model is None else model
    return float(landscape.compute_surface(model, data, points=3, device="cpu", **options).loss[1, 1])


GOOD: dict[str, Any] = {
    "tuple": lambda: (INPUTS, LABELS),
    "list": lambda: [INPUTS, LABELS],
    "arrays": lambda: (INPUTS.numpy(), LABELS.numpy()),
    "array and tensor": lambda: (INPUTS.numpy(), LABELS),
    "double and int32": lambda: (INPUTS.double(), LABELS.int()),
    "read-only, strided, uint8": lambda: (
        np.asfortranarray(INPUTS.numpy()),
        np.frombuffer(LABELS.numpy().astype(np.uint8).tobytes(), np.uint8),
    ),
    "tensor data set": lambda: TensorDataset(INPUTS, LABELS),
    "data set": Samples,
    "subset": lambda: ConcatDataset([Subset(Samples(), range(10)), Subset(Samples(), range(10, 23))]),
    "loader": lambda: DataLoader(Samples(), batch_size=7),
    "shuffled loader": lambda: DataLoader(Samples(), batch_size=7, shuffle=True),
    "stream of batches": Stream,
    "loader of batches": lambda: DataLoader(Stream(), batch_size=None),
    "batches of lists and arrays": lambda: [[x, y.numpy()] for x, y in PAIRS],
    "iterators": lambda: zip(torch.split(INPUTS, 6), torch.split(LABELS, 6), strict=True),
    "an empty batch among others": lambda: [*PAIRS, (INPUTS[:0], LABELS[:0])],
    "splits": lambda: {"a": (INPUTS, LABELS), "b": iter(PAIRS)},
}


@pytest.mark.parametrize("name", GOOD)
def test_forms_of_data(name: str) -> None:
    assert computed(GOOD[name]()) == pytest.approx(expected(small_network()), rel=1e-5)


BAD: dict[str, tuple[Any, str]] = {
    "inputs alone": (INPUTS, "the data are one Tensor of shape"),
    "a batch": ({"x": INPUTS, "y": LABELS}, "give a batch that is a dict as"),
    "None": (None, "the data are of type NoneType; expected"),
    "number": (3, "the data are of type int"),
    "text": ("cifar10", "the data are of type str"),
    "without end": (itertools.cycle(PAIRS), "the data never end"),
    "used up": (iter(()), r"an iterator can be read only once"),
    "empty": ([], "no examples"),
    "empty arrays": ((np.zeros((0, 1, 6, 6)), np.zeros(0)), "no examples"),
    "empty data set": (Samples(0), "no examples: the data set is empty"),
    "empty batches": ([(INPUTS[:0], LABELS[:0])], "no examples: every batch is empty"),
    "lengths": ((INPUTS, LABELS[:-1]), r"lengths \[23, 22\]"),
    "texts": ((INPUTS.numpy(), np.array(["a"] * 23)), "an array holds <U1; expected numbers"),
    "objects": ((INPUTS.numpy(), np.array([None] * 23)), "an array holds object"),
    "one-hot": ((INPUTS, F.one_hot(LABELS, 3)), r"labels \[16\], so make labels of one-hot|argmax"),
    "soft": ((INPUTS, F.one_hot(LABELS, 3).float()), r"float32 .*landscape\.regression or"),
    "columns": ((INPUTS, LABELS[:, None]), r"\.squeeze\(1\)"),
    "too large": ((INPUTS, LABELS + 1), "the largest label is 3, and the network has 3 classes"),
    "too large, later": ([*PAIRS, (INPUTS[:2], LABELS[:2] + 9)], "the largest label is 1"),
    "negative": ((INPUTS, LABELS - 1), "the smallest label is -1"),
    "ignored": ((INPUTS, torch.full_like(LABELS, -100)), "every label is -100"),
    "float labels": ((INPUTS, LABELS.float()), r"landscape\.binary_classification"),
    "three parts": ((INPUTS, LABELS, LABELS), "takes pairs"),
    "dicts": ([{"x": INPUTS, "y": LABELS}], "a batch is a dict with 'x', 'y'; the loss classification"),
    "bytes": (((INPUTS * 9).byte(), LABELS), r"fails on the first examples: .*holds uint8 \["),
    "channels": ((INPUTS.repeat(1, 2, 1, 1), LABELS), r"fails on the first examples: .*float32 \["),
    "samples": (
        [(x, int(y)) for x, y in zip(INPUTS, LABELS, strict=True)],
        "the targets of a batch are a int",
    ),
    "split names": ({"a/b": PAIRS}, "a split is called 'a/b'"),
    "NaN": (
        (INPUTS.index_fill(0, torch.tensor([17]), torch.nan), LABELS),
        r"example 17 \(from 0\) of 'data'",
    ),
    "infinity": (
        [PAIRS[0], (PAIRS[1][0].index_fill(0, torch.tensor([2]), torch.inf), PAIRS[1][1])],
        r"batch 1 \(from 0\) of 'data' holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_other_data_are_refused(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(UserError, match=words) as error:
        computed(data)
    assert "\n" not in str(error.value)


def test_a_loss_without_a_number_is_said_at_once() -> None:
    def loss(model: Any, batch: Any) -> Any:
        values, count, *_ = landscape.classification(model, batch)
        return torch.where(batch[0].sum((1, 2, 3)) == INPUTS[9].sum(), torch.nan, values), count

    told: list[Any] = []
    with pytest.raises(UserError, match=r"1 of 23 examples of 'data' give nan, the first is number 9"):
        computed((INPUTS, LABELS), loss=loss, progress=told.append)
    assert not told


def test_labels_that_do_not_count() -> None:
    labels = LABELS.clone()
    labels[::2] = -100
    with torch.no_grad():
        right = float(F.cross_entropy(small_network().eval()(INPUTS), labels))
    assert computed((INPUTS, labels)) == pytest.approx(right, rel=1e-5)
    split = list(zip(torch.split(INPUTS, 6), torch.split(labels, 6), strict=True))
    assert computed(split) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
def test_labels_of_unsigned_types(kind: Any) -> None:
    labels = LABELS.numpy().astype(kind)
    right = pytest.approx(expected(small_network()), rel=1e-5)
    assert computed((INPUTS.numpy(), labels)) == right
    assert computed([(INPUTS[:9], torch.from_numpy(labels[:9])), (INPUTS[9:].numpy(), labels[9:])]) == right
    with pytest.raises(UserError, match="the largest label is 7, and the network has 3 classes"):
        computed((INPUTS, labels + kind(5)))
    most = np.iinfo(kind).max
    with pytest.raises(UserError, match=f"label is {most}"):
        computed((INPUTS, np.full_like(labels, most)))
    with pytest.raises(UserError, match=r"the targets are complex64"):
        computed((INPUTS, torch.complex(LABELS.float(), LABELS.float())))


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16])
def test_an_unsigned_label_that_looks_like_the_one_that_does_not_count(kind: torch.dtype) -> None:
    """Torch compares 156 in a byte with -100 as equal."""
    classes = 200 if kind == torch.uint8 else 65536
    labels = torch.full_like(LABELS, 156 if kind == torch.uint8 else 65436)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, classes, bias=False))
    with torch.no_grad():
        right = float(F.cross_entropy(model(INPUTS), labels))
        found = landscape.classification(model, (INPUTS, labels.to(kind)))
    assert found[1] == len(labels)
    assert float(found[0].mean()) == pytest.approx(right, rel=1e-5)
    assert computed((INPUTS, labels.to(kind)), model) == pytest.approx(right, rel=1e-5)


def test_positions_that_do_not_count_in_some_batches() -> None:
    """As `cross_entropy` over all: a batch without padding counts its positions, too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9), Transposed())
    tokens = torch.randint(9, (10, 6))
    targets = tokens.clone()
    targets[6:, 2:] = -100
    with torch.no_grad():
        right = float(F.cross_entropy(model(tokens), targets))
    for data in ((tokens, targets), [(tokens[:5], targets[:5]), (tokens[5:], targets[5:])]):
        surface = landscape.compute_surface(model, data, points=3, device="cpu")
        assert surface.loss[1, 1] == pytest.approx(right, rel=1e-5)
        assert surface.planes[0].splits["data"].examples == 6 * 6 + 4 * 2


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_regression_and_binary_targets() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    with torch.no_grad():
        logits = model(INPUTS)[:, 0]
    goals = (LABELS > 1).float()
    for targets in (goals, goals[:, None], goals.int()):
        found = computed((INPUTS, targets), model, loss=landscape.binary_classification)
        right = float(F.binary_cross_entropy_with_logits(logits, goals))
        assert found == pytest.approx(right, rel=1e-5)
        found = computed((INPUTS, targets), model, loss=landscape.regression)
        assert found == pytest.approx(float(F.mse_loss(logits, goals)), rel=1e-5)
    refused: list[tuple[Any, Any, str]] = [
        (goals, landscape.classification, "landscape.regression or landscape.binary_classification"),
        (goals[:, None], landscape.classification, "landscape.regression or landscape.binary_classification"),
        (goals.long() * 0, landscape.classification, "gives .* one score per example"),
        (LABELS, landscape.binary_classification, "lie between 0 and 2"),
        (
            torch.zeros(23, 2),
            landscape.regression,
            r"gives \[16, 1\] for targets of shape|takes equal shapes",
        ),
    ]
    for targets, loss, words in refused:
        with pytest.raises(UserError, match=words):
            computed((INPUTS, targets), model, loss=loss)


def test_networks_without_numbers() -> None:
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    cases: list[tuple[Any, str]] = [
        (lazy, "'1.weight' belongs to a lazy layer that was never run"),
        (small_network().to("meta"), "'0.weight' is on the device 'meta'"),
        (lambda x: x, "the model is a function; expected a torch.nn.Module"),
        (nn.Linear, "the model is a Linear; expected a torch.nn.Module; call the class"),
    ]
    for model, words in cases:
        with pytest.raises(UserError, match=words):
            computed((INPUTS, LABELS), model)
    lazy(INPUTS)
    assert np.isfinite(computed((INPUTS, LABELS), lazy))


def test_the_default_device_does_not_matter() -> None:
    model = small_network()
    right = expected(model)
    torch.set_default_device("meta")
    try:
        for data in ((INPUTS, LABELS), Samples()):
            assert computed(data, model) == pytest.approx(right, rel=1e-5)
    finally:
        torch.set_default_device("cpu")


class Noisy(Dataset[Any]):
    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Any:
        drawn = self.noise * torch.randn(4) if self.noise else torch.zeros(4)
        return torch.full((4,), float(index)) + drawn, index % 3


@pytest.mark.parametrize("given", [Noisy(), DataLoader(Noisy(), batch_size=4)])
def test_reading_leaves_the_global_generator_alone(given: Any) -> None:
    before = torch.get_rng_state()
    as_examples(given)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "given", [Noisy(1.0), DataLoader(Noisy(1.0)), DataLoader(Noisy(), batch_size=4, shuffle=True)]
)
def test_what_samples_draw_is_what_torch_alone_draws(given: Any) -> None:
    """Their numbers, and that they are others the next time."""
    loader: Any = given if isinstance(given, DataLoader) else DataLoader(given, batch_size=9)
    torch.manual_seed(3)
    expected = [torch.cat([inputs for inputs, _ in loader]) for _ in range(2)]
    torch.manual_seed(3)
    for one in expected:
        found = as_examples(given)
        inputs = found.tensors[0] if found.rebatchable else torch.cat([inputs for inputs, _ in found.given])
        assert torch.equal(inputs, one)
