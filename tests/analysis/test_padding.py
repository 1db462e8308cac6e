"""Examples that don't count: whatever of them comes first, numbers are those of the others alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sharpness_cases import classifier, labelled
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.connectivity import Training, connect
from analysis.hessian import HessianOperator, hessian_spectrum
from analysis.hessian.counted import first_counted
from analysis.sharpness import MEASURES, Settings, sharpness
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import IGNORED, LossResult

FEW = Settings(draws=2, steps=2, starts=2)
SMALL: dict[str, Any] = {"top": 1, "bottom": 1, "density_probes": 0, "dtype": "float64", "progress": None}


def padded(where: slice, count: int = 23) -> tuple[Tensor, Tensor]:
    inputs, targets = labelled(count=count)
    targets[where] = IGNORED
    return inputs, targets


def counting(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    kept = data[1] != IGNORED
    return data[0][kept], data[1][kept]


def batched(data: tuple[Tensor, Tensor], size: int = 4) -> list[tuple[Tensor, Tensor]]:
    return list(zip(data[0].split(size), data[1].split(size), strict=True))


def masked_sum(model: Any, batch: Any) -> LossResult:
    """A user's own: sums, and a constant where nothing counts."""
    inputs, targets = batch
    kept = targets != IGNORED
    if not kept.any():
        return torch.zeros(()), 0
    return F.cross_entropy(model(inputs[kept]), targets[kept], reduction="sum"), int(kept.sum())


def touching_sum(model: Any, batch: Any) -> LossResult:
    """Sums that hang on the model everywhere."""
    inputs, targets = batch
    return F.cross_entropy(model(inputs), targets, reduction="sum"), int((targets != IGNORED).sum())


GIVEN: list[Callable[[Any], Any]] = [lambda data: data, batched]


@pytest.mark.parametrize("given", GIVEN, ids=["tensors", "batches"])
@pytest.mark.parametrize("where", [slice(0, 6), slice(0, 20), slice(8, 12)])
def test_hessian_and_sharpness_are_those_of_what_counts(where: slice, given: Callable[[Any], Any]) -> None:
    data, model = padded(where), classifier()
    found, alone = (hessian_spectrum(model, one, **SMALL) for one in (given(data), counting(data)))
    np.testing.assert_allclose(found.top.values, alone.top.values, rtol=1e-8)
    assert found.trace.value == pytest.approx(alone.trace.value, rel=1e-8)
    measured, known = (
        sharpness(model, one, settings=FEW, dtype="float64", progress=None)
        for one in (given(data), counting(data))
    )
    assert list(measured) == list(MEASURES)
    for name, one in measured.items():
        assert one.value == pytest.approx(known[name].value, rel=1e-6), name


@pytest.mark.parametrize("derivatives", ["checked", "differences"])
@pytest.mark.parametrize(("loss", "where"), [(masked_sum, slice(8, 12)), (touching_sum, slice(0, 8))])
def test_batches_of_which_nothing_counts_change_nothing(derivatives: Any, loss: Any, where: slice) -> None:
    data, model = padded(where), classifier()
    options: dict[str, Any] = {"dtype": "float64", "derivatives": derivatives}
    found = HessianOperator(model, batched(data), loss=loss, **options)
    alone = HessianOperator(model, counting(data), **options)
    vector = np.random.default_rng(0).normal(size=found.size)
    np.testing.assert_allclose(found.matvec(vector), alone.matvec(vector), atol=1e-7)
    forms, counts = found.forms(torch.from_numpy(vector)[:, None])
    assert int(counts.sum()) == len(counting(data)[0])
    assert (counts > 0).all()
    assert np.isfinite(forms).all()
    for name in ("sam", "gaussian"):
        one, two = (
            sharpness(model, given, loss=loss, measures=[name], settings=FEW, dtype="float64", progress=None)
            for given in (batched(data), batched(counting(data)))
        )
        assert one[name].value == pytest.approx(two[name].value, rel=1e-8)
        assert one[name].stderr_examples == pytest.approx(two[name].stderr_examples, rel=1e-6)


def test_where_nothing_counts_at_all_there_is_nothing_to_measure() -> None:
    data = batched(padded(slice(None)))
    for derivatives in ("exact", "differences", "checked"):
        with pytest.raises(UserError, match="nothing in it counts"):
            HessianOperator(classifier(), data, loss=touching_sum, derivatives=derivatives).gradient()  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing in it counts"):
        sharpness(classifier(), data, loss=touching_sum, measures=["sam"], progress=None)


def test_the_first_that_count_are_found_among_many() -> None:
    targets = torch.full((1000,), IGNORED)
    targets[777:] = 1
    examples = Examples.from_tensors(torch.arange(1000), targets)
    asked: list[int] = []

    def counted(part: Examples) -> int:
        asked.append(len(part.tensors[0]))
        return int((part.tensors[1] != IGNORED).sum())

    few = first_counted(examples, 4, counted)
    assert len(few.tensors[0]) <= 4
    assert few.tensors[0][-1] == 777 or 777 in few.tensors[0]
    assert len(asked) < 70
    assert max(asked) == 16  # whatever memory they need, a first look needs it, too
    assert first_counted(examples.pick(slice(0, 50)), 4, counted).tensors[0].tolist() == [0, 1, 2, 3]


def test_a_bend_passes_over_batches_in_which_nothing_counts() -> None:
    first, second = classifier(0), classifier(1)
    training = Training(steps=30, batch_size=4, lr=0.01)
    data = padded(slice(8, 18))
    for loss in (None, masked_sum):
        more: dict[str, Any] = {} if loss is None else {"loss": loss, "batch_size": 5}
        given = data if loss is None else batched(data)
        found = connect(
            first,
            second,
            given,
            points=3,
            training=training,
            device="cpu",
            dtype="float64",
            progress=None,
            **more,
        )
        assert np.isfinite(found.surfaces["bezier"].loss).all()
    with pytest.raises(UserError, match="every label is -100"):
        connect(
            first, second, data, train_data=padded(slice(None)), points=3, training=training, progress=None
        )
