"""Losses that break their contract are refused at once; whatever keeps to it gives the right value."""

from __future__ import annotations

import functools
import itertools
from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_network import EXAMPLES, examples, small_network
from torch import Tensor, nn
from torch.nn.utils import prune

from analysis.hessian import hessian_spectrum
from analysis.sharpness import sharpness
from landscape.compute import compute_surface
from landscape.engine import Engine
from landscape.engine.contract import first_batches
from landscape.errors import UserError
from landscape.examples import Examples
from landscape.losses import classification
from landscape.surface import Surface


def surface(model: Any, data: Any, loss: Any = None, **options: Any) -> Surface:
    given = {} if loss is None else {"loss": loss}
    return compute_surface(model, data, points=3, device="cpu", **given, **options)


def plain(model: nn.Module) -> float:
    inputs, labels = examples()
    with torch.no_grad():
        return float(F.cross_entropy(model.eval()(inputs), labels))


def batches() -> list[tuple[Tensor, Tensor]]:
    inputs, labels = examples()
    return list(zip(torch.split(inputs, 6), torch.split(labels, 6), strict=True))


def reduced(reduction: str, model: Any, batch: Any) -> Any:
    return F.cross_entropy(model(batch[0]), batch[1], reduction=reduction), len(batch[1])


def times_count(model: Any, batch: Any) -> Any:
    mean, count = reduced("mean", model, batch)
    return mean * count, count


def mean_metric(model: Any, batch: Any) -> Any:
    scores = model(batch[0])
    right = (scores.argmax(1) == batch[1]).float().mean()
    return F.cross_entropy(scores, batch[1], reduction="none"), len(scores), {"right": right}


class Object:
    """Keeps what it computed, and how often; neither makes a difference."""

    def __init__(self) -> None:
        self.scores, self.calls = torch.zeros(0), list[int]()

    def __call__(self, model: Any, batch: Any) -> Any:
        self.calls.append(1)
        self.scores = model(batch[0])
        return F.cross_entropy(self.scores, batch[1], reduction="none"), len(batch[1])

    def method(self, model: Any, batch: Any) -> Any:
        return self(model, batch)


@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(reduced, "none"),
        functools.partial(reduced, "sum"),
        times_count,
        Object(),
        Object().method,
        lambda model, batch: (
            F.cross_entropy(model(batch[0]), batch[1], reduction="none"),
            np.int64(len(batch[1])),
        ),
    ],
)
@pytest.mark.parametrize("data", [examples(), batches()], ids=["tensors", "batches"])
def test_losses_of_every_form(loss: Any, data: Any) -> None:
    model = small_network()
    assert surface(model, data, loss).loss[1, 1] == pytest.approx(plain(model), rel=1e-5)


@pytest.mark.parametrize("data", [examples(), batches()], ids=["tensors", "batches"])
def test_a_mean_is_not_taken_for_a_sum(data: Any) -> None:
    for loss, name in ((functools.partial(reduced, "mean"), "loss"), (mean_metric, "right")):
        with pytest.raises(UserError, match=f"a mean as '{name}'.*mean \\* count, or one value per example"):
            surface(small_network(), data, loss)


class LanguageModel(nn.Module):
    """As Hugging Face's: an object with a mean over the tokens that count."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.predict = nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, input_ids: Tensor, labels: Tensor) -> Any:
        logits = self.predict(self.embed(input_ids))
        return UserDict(loss=F.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits=logits)


def test_a_mean_shows_though_the_first_batch_holds_one_example() -> None:
    inputs, labels = examples()
    edges = [0, 1, 2, 9, len(labels)]
    apart = [(inputs[a:b], labels[a:b]) for a, b in itertools.pairwise(edges)]
    with pytest.raises(UserError, match="the loss returned a mean as 'loss'"):
        surface(small_network(), apart, functools.partial(reduced, "mean"))
    found = surface(small_network(), apart, functools.partial(reduced, "sum"))
    assert found.loss[1, 1] == pytest.approx(plain(small_network()), rel=1e-5)
    alone = apart[:2]
    assert (
        first_batches(Examples.from_batches(alone), torch.device("cpu"), torch.float32)[1][1] == alone[1][1]
    )


def test_a_models_own_mean_over_tokens() -> None:
    """Also where padding gives examples different weights: the mean lies between those of the halves."""
    torch.manual_seed(0)
    ids = torch.randint(20, (8, 6))
    for padding in (0, 3):
        labels = ids.clone()
        labels[:3, 6 - padding :] = -100
        data = [UserDict(input_ids=ids, labels=labels)]
        model = LanguageModel()

        def mean(model: Any, batch: Any) -> Any:
            return model(**batch)["loss"], len(batch["labels"])

        def summed(model: Any, batch: Any) -> Any:
            return model(**batch)["loss"] * len(batch["labels"]), len(batch["labels"])

        with pytest.raises(UserError, match=r"for 8 examples and .* for half of them"):
            surface(model, data, mean)
        with torch.no_grad():
            expected = float(model(**data[0])["loss"])
        assert surface(model, data, summed).loss[1, 1] == pytest.approx(expected, rel=1e-5)


def test_means_and_numbers_of_other_things_than_examples() -> None:
    """A mean over tokens with their number, and a number that stays what it is."""
    torch.manual_seed(0)
    ids = torch.randint(20, (8, 6))
    model, data = LanguageModel(), [UserDict(input_ids=ids, labels=ids)] * 2

    def tokens(model: Any, batch: Any) -> Any:
        return model(**batch)["loss"], batch["labels"].numel()

    def summed(model: Any, batch: Any) -> Any:
        return model(**batch)["loss"] * batch["labels"].numel(), batch["labels"].numel()

    def constant(model: Any, batch: Any) -> Any:
        return model(**batch)["loss"] * len(batch["labels"]), 16

    def fixed(model: Any, batch: Any) -> Any:
        """Right where every batch has 8."""
        return model(**batch)["loss"] * len(batch["labels"]), 8

    def fixed_mean(model: Any, batch: Any) -> Any:
        return model(**batch)["loss"], 8

    def means_of_batches(model: Any, batch: Any) -> Any:
        return model(**batch)["loss"], 1

    with pytest.raises(UserError, match=r"a mean as 'loss': .* for 48 examples and .* for half of them"):
        surface(model, data, tokens)
    with pytest.raises(UserError, match="16 as the number of examples, and again for half of them"):
        surface(model, data, constant)
    with torch.no_grad():
        expected = float(model(**data[0])["loss"])
    with pytest.raises(UserError, match=r"a mean as 'loss'.*with the count of the batch"):
        surface(model, data, fixed_mean)
    with pytest.raises(UserError, match="8 as the number of examples, and again for half of them"):
        surface(model, [*data, UserDict(input_ids=ids[:5], labels=ids[:5])], fixed)
    for loss in (summed, means_of_batches, fixed):
        assert surface(model, data, loss).loss[1, 1] == pytest.approx(expected, rel=1e-5)


def test_sums_that_are_no_means_pass() -> None:
    def contrastive(model: Any, batch: Any) -> Any:
        """Depends on the whole batch, and is a sum."""
        scores = model(batch[0])
        return F.cross_entropy(scores @ scores.T, torch.arange(len(scores)), reduction="sum"), len(scores)

    def negative(model: Any, batch: Any) -> Any:
        return -model(batch[0]).square().sum(), len(batch[1])

    def nothing(model: Any, batch: Any) -> Any:
        return model(batch[0]).sum() * 0, len(batch[1])

    for loss in (contrastive, negative, nothing):
        assert np.isfinite(surface(small_network(), batches(), loss).loss).all()


def result(then: Any) -> Any:
    def loss(model: Any, batch: Any) -> Any:
        return then(F.cross_entropy(model(batch[0]), batch[1], reduction="none"), len(batch[1]))

    return loss


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (lambda values, count: (values, count, {"loss": values}), "a metric 'loss', a name that is taken"),
        (lambda values, count: (values, count, {"loss_stderr": values}), "'loss_stderr', a name that is"),
        (lambda values, count: (values, count, {"x_blocks": values}), "'x_blocks', a name that is taken"),
        (lambda values, count: (values, count, {"block_counts": values}), "'block_counts', a name that is"),
        (lambda values, count: (values, count, {"a/b": values}), "'a/b'; expected a name without slashes"),
        (lambda values, count: (values, count, {"": values}), "''; expected a name without slashes"),
        (lambda values, count: (values, count, {3: values}), "3; expected a name without slashes"),
        (lambda values, count: (values, count, [values]), "a list as third value"),
        (
            lambda values, count: (values, torch.tensor(count)),
            "as the number of examples; expected an integer",
        ),
        (lambda values, count: (values.sum(), -1), "-1 as the number of examples"),
        (lambda values, count: (values.sum().item(), count), "float as 'loss'"),
        (lambda values, count: (values.numpy(), count), "ndarray as 'loss'"),
        (lambda values, count: values, "returned Tensor; expected"),
        (lambda values, count: (values + 1j, count), "torch.complex64 as 'loss'; expected real numbers"),
    ],
)
def test_results_that_break_the_contract(then: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        surface(small_network(), examples(), result(then))
    assert "\n" not in str(error.value)


def test_losses_that_cannot_be_meant() -> None:
    other = small_network(1)

    def closing(model: Any, batch: Any) -> Any:
        return F.cross_entropy(other(batch[0]), batch[1], reduction="none"), len(batch[1])

    def emptying(model: Any, batch: Any) -> Any:
        return reduced("none", model, (batch.pop("x"), batch["y"]))

    def training(model: Any, batch: Any) -> Any:
        model.train()
        return reduced("none", model, batch)

    dicts = [{"x": x, "y": y} for x, y in batches()]
    for loss, data, words in (
        (closing, examples(), "doesn't use the model that it is given"),
        (emptying, dicts, "fails when it is called again: KeyError: 'x'"),
        (training, examples(), "depends on the others in its batch"),
        (nn.CrossEntropyLoss(), examples(), r"the loss is CrossEntropyLoss; expected a function of \(model"),
        (F.cross_entropy, examples(), "the loss is cross_entropy; expected a function"),
        ("mse", examples(), "the loss is str; expected a function"),
    ):
        with pytest.raises(UserError, match=words) as error:
            surface(small_network(), data, loss)
        assert "\n" not in str(error.value)


def test_dropout_that_stays_on_and_state_are_refused() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.inner(x), 0.5)

    with pytest.raises(UserError, match="dropout stays on in evaluation mode"):
        surface(Noisy(), examples())


class PowerIteration(nn.Module):
    """Spectral normalization made at home: each call improves what it keeps, which has settled at w*."""

    def __init__(self, kept: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.head = nn.Parameter(torch.randn(12, 36)), nn.Linear(12, 3)
        start = F.normalize(torch.randn(12), dim=0)
        if kept == "buffer":
            self.register_buffer("u", start)
        else:
            self.u = nn.Parameter(start, requires_grad=False)
        for _ in range(300):
            self(torch.zeros(1, 36))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            v = F.normalize(self.w.t() @ self.u, dim=0)
            self.u.copy_(F.normalize(self.w @ v, dim=0))
        return self.head(F.relu(x.flatten(1) @ (self.w / (self.u @ (self.w @ v))).t()))


@pytest.mark.parametrize("kept", ["buffer", "parameter"])
@pytest.mark.parametrize("count", [1, 40])
def test_state_that_has_settled_at_the_network_itself_is_refused(kept: str, count: int) -> None:
    model, few = PowerIteration(kept), tuple(one[:count] for one in examples())
    direction = {"w": torch.randn(12, 36)}
    words = "called (again, at weights beside these|twice on the same batch), .*the network's 'u' changes"
    with pytest.raises(UserError, match=words):
        surface(model, few)
    with pytest.raises(UserError, match=words):
        Engine(model, {"data": Examples.from_tensors(*few)}, classification, [direction])


def test_an_embedding_that_keeps_its_norm_bounded_is_none_the_worse() -> None:
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.head = nn.Embedding(10, 6, max_norm=1.0), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x).mean(1))

    torch.manual_seed(1)
    tokens, labels = torch.randint(10, (40, 4)), torch.randint(3, (40,))
    found = [surface(Bounded(), (tokens, labels), exact_grid=True, batch_size=size).loss for size in (3, 40)]
    np.testing.assert_allclose(*found, rtol=1e-6)
    for seed in range(6):  # in a low precision the bound's rounding shows in the loss
        torch.manual_seed(seed)
        surface(Bounded(), (torch.randint(10, (40, 4)), labels), dtype="bfloat16")


def test_a_plain_zero_for_a_batch_in_which_nothing_counts_is_no_sum() -> None:
    torch.manual_seed(0)
    model, inputs, labels = nn.Linear(4, 3), torch.randn(30, 4), torch.arange(30) % 3
    labels[10:20] = -100

    def loss(asked: Any, batch: Any) -> Any:
        kept = batch[1] >= 0
        if not kept.any():
            return torch.zeros(()), 0
        return F.cross_entropy(asked(batch[0][kept]), batch[1][kept], reduction="none"), int(kept.sum())

    three = [(inputs[start : start + 10], labels[start : start + 10]) for start in (0, 10, 20)]
    found, expected = (surface(model, given, loss=loss) for given in (three, three[::2]))
    (one,), (two,) = found.splits, expected.splits
    blocks = [each.planes[0].splits[one].metrics["loss"].blocks for each in (found, expected)]
    assert one == two
    np.testing.assert_array_equal(*blocks)


def test_batch_norm_without_statistics_needs_batches_of_ones_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(UserError, match=r"depends on the others in its batch .*batches of your own"):
        surface(model, examples())
    expected = plain(model)
    assert surface(model, [examples()]).loss[1, 1] == pytest.approx(expected, rel=1e-5)
    assert surface(model, examples(), batch_size=EXAMPLES).loss[1, 1] == pytest.approx(expected, rel=1e-5)


def test_wrapped_networks() -> None:
    """Compiled, and pruned live, whose weights a hook computes."""
    model = small_network()
    compiled = torch.compile(model, backend="eager")
    found = surface(compiled, examples(), params="*.weight")
    assert found.loss[1, 1] == pytest.approx(plain(model), rel=1e-5)
    assert found.about["engine"]["folded"]
    pruned = small_network()
    prune.l1_unstructured(pruned[5], "weight", 0.5)  # type: ignore[index, no-untyped-call]
    found = surface(pruned, examples())
    assert found.loss[1, 1] == pytest.approx(plain(pruned), rel=1e-5)
    assert np.unique(found.loss).size == 9


def learned() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A network that has no errors, and a hinge loss of 0, on each of its batches."""
    torch.manual_seed(0)
    inputs = torch.randn(128, 4)
    inputs[:, 0] += inputs[:, 0].sign()
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].weight[0, 0], model[0].weight[1, 0] = 2.0, -2.0
        model[2].weight[1, 0], model[2].weight[0, 1] = 2.0, 2.0
    labels = (inputs[:, 0] > 0).long()
    return model, [(inputs[start : start + 32], labels[start : start + 32]) for start in range(0, 128, 32)]


def hinge(reduction: str) -> Any:
    def loss(model: Any, batch: Any) -> Any:
        return F.multi_margin_loss(model(batch[0]), batch[1], reduction=reduction), len(batch[0])

    return loss


def errors(mean: bool) -> Any:
    def loss(model: Any, batch: Any) -> Any:
        scores = model(batch[0])
        wrong = (scores.argmax(1) != batch[1]).float()
        values = F.cross_entropy(scores, batch[1], reduction="none")
        return values, len(wrong), {"error": wrong.mean() if mean else wrong.sum()}

    return loss


def test_a_mean_that_is_0_at_the_network_is_found_elsewhere() -> None:
    """There sums and means are alike; a hinge loss, or errors, of what has learned its examples."""
    model, batches = learned()
    whole = tuple(torch.cat(part) for part in zip(*batches, strict=True))
    assert not bool(hinge("sum")(model, whole)[0])
    for data in (batches, whole):
        for loss, name in ((hinge("mean"), "loss"), (errors(True), "error")):
            for compute in (compute_surface, hessian_spectrum, sharpness):
                with pytest.raises(UserError, match=f"a mean as '{name}'|as '{name}' for a batch"):
                    compute(model, data, loss=loss)
    expected = compute_surface(model, batches, loss=hinge("none"), points=5, device="cpu").loss
    found = compute_surface(model, batches, loss=hinge("sum"), points=5, device="cpu").loss
    assert found == pytest.approx(expected, rel=1e-6)
    compute_surface(model, batches, loss=errors(False), points=3, device="cpu")
