"""Hooks that only watch don't run at every point; those that act, or whose catch the loss reads, do."""

from __future__ import annotations

import cProfile
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_network import examples, small_network
from torch import Tensor, nn

from analysis.hessian import hessian_spectrum
from analysis.sharpness import sharpness
from landscape.compute import compute_surface
from landscape.engine.hooks import has_branch
from landscape.errors import UserError


def center(model: nn.Module, **options: Any) -> float:
    return float(compute_surface(model, examples(), points=5, device="cpu", **options).loss[2, 2])


def plain(model: nn.Module) -> float:
    inputs, labels = examples()
    with torch.no_grad():
        return float(F.cross_entropy(model.eval()(inputs), labels))


@pytest.mark.parametrize("place", [0, 2, None])
@pytest.mark.parametrize("before", [True, False])
def test_watching_hooks_run_twice(place: int | None, before: bool) -> None:
    model = small_network()
    expected, caught = plain(model), list[Tensor]()
    layer = model if place is None else model[place]  # type: ignore[index]
    register = layer.register_forward_pre_hook if before else layer.register_forward_hook
    register(lambda module, inputs, *output: caught.append(inputs[0].detach()))
    assert center(model) == pytest.approx(expected, rel=1e-5)
    assert len(caught) == 2
    assert len([*model._forward_hooks, *model._forward_pre_hooks]) == (place is None)  # the user's stay


def in_place(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.mul_(0.5)


def returning(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * 0.5


def clamping(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Changes nothing at the network itself."""
    return output.clamp(max=6.0)


def weighing(module: Any, inputs: Any) -> None:
    module.weight = module.raw * 2


def test_acting_hooks_are_part_of_the_network() -> None:
    for hook in (in_place, returning, clamping):
        model = small_network()
        model[5].register_forward_hook(hook)  # type: ignore[index]
        expected = plain(model)
        assert center(model) == pytest.approx(expected, rel=1e-5)
    model = small_network()
    model[5].register_forward_hook(clamping)  # type: ignore[index]
    far = compute_surface(model, examples(), points=3, span=30.0, device="cpu").loss
    free = compute_surface(small_network(), examples(), points=3, span=30.0, device="cpu").loss
    assert (far[0] < free[0]).all()


def test_hooks_that_compute_weights_stay() -> None:
    model = small_network()
    layer: Any = model[5]  # type: ignore[index]
    layer.raw = nn.Parameter(layer.weight.detach() / 2)
    del layer.weight
    layer.weight = layer.raw.detach() * 2
    layer.register_forward_pre_hook(weighing)
    found = compute_surface(model, examples(), points=3, device="cpu", params="5.raw").loss
    assert found[1, 1] == pytest.approx(plain(small_network()), rel=1e-5)
    assert np.unique(found).size == 9


def test_what_hooks_catch_may_be_read_by_the_loss() -> None:
    model, caught = small_network(), dict[str, Tensor]()
    model[3].register_forward_hook(  # type: ignore[index]
        lambda module, inputs, output: caught.update(features=output)
    )

    def loss(model: Any, batch: Any) -> Any:
        values = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return values + caught["features"].flatten(1).square().mean(1), len(values)

    inputs, labels = examples()
    with torch.no_grad():
        model.eval()(inputs)
        expected = float(loss(model, (inputs, labels))[0].mean())
    assert center(model, loss=loss) == pytest.approx(expected, rel=1e-5)


def clipping(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
    return output.clamp(max=6.0) if output.max() > 6 else None


def clipping_inside(module: nn.Module, inputs: Any, output: Tensor) -> None:
    def clip(value: Tensor) -> None:
        if value.max() > 6:
            value.clamp_(max=6.0)

    clip(output)


def clipping_in_place(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.data.clamp_(max=6.0)


def clipping_by_index(module: nn.Module, inputs: Any, output: Tensor) -> Any:
    return (lambda value: None, lambda value: value.clamp(max=6.0))[int(output.max() > 6)](output)


@pytest.mark.parametrize("hook", [clipping, clipping_inside, clipping_in_place, clipping_by_index])
def test_hooks_that_act_only_sometimes_stay(hook: Any) -> None:
    """At the network itself they do nothing; far from it they clip as the one does that always returns."""
    networks = small_network(), small_network()
    for model, one in zip(networks, (hook, clamping), strict=True):
        model[5].register_forward_hook(one)  # type: ignore[index]
    found, expected = (
        compute_surface(one, examples(), points=3, span=30.0, device="cpu").loss for one in networks
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_ways_that_hang_on_values() -> None:
    def watches(values: list[Tensor], output: Tensor) -> None:
        with torch.no_grad():
            values.append(output.clone())

    def asks(values: list[Tensor], output: Tensor) -> None:
        if len(values) < 5:
            values.append(output)

    def repeats(values: list[Tensor], output: list[Tensor]) -> None:
        for one in output:
            values.append(one)

    def kinds(module: nn.Module, output: Any) -> None:
        output = output[0] if isinstance(output, (tuple, list)) else output
        if output is not None and not module.training:
            print(output)

    def kinds_and_values(module: nn.Module, output: Any) -> Any:
        return output * 2 if not isinstance(output, tuple) and output.max() > 2 else None

    found = [has_branch(one.__code__) for one in (watches, asks, repeats, kinds, kinds_and_values)]
    assert found == [False, True, True, False, True]


def test_a_profiler_of_the_callers_goes_on() -> None:
    profile = cProfile.Profile()
    model = small_network()
    model[5].register_forward_hook(lambda *passing: None)  # type: ignore[index]
    profile.enable()
    try:
        before = sys.getprofile()
        compute_surface(model, examples(), points=3, device="cpu")
        assert sys.getprofile() is before
    finally:
        profile.disable()


class Counts(nn.Module):
    """A hook counts on the original what the copy names, but doesn't compute with."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.steps = nn.Linear(4, 2), 0

        def count(*passing: Any) -> None:
            self.steps += 1

        self.body.register_forward_hook(count)

    def forward(self, x: Tensor) -> Tensor:
        _ = f"step {self.steps}"
        found: Tensor = self.body(x)
        return found


def test_what_the_copy_reads_and_does_not_compute_with_is_no_fault() -> None:
    data = torch.randn(64, 4), torch.randint(0, 2, (64,))
    model = Counts()
    found = compute_surface(model, data, points=3, device="cpu").loss
    with torch.no_grad():
        assert found[1, 1] == pytest.approx(float(F.cross_entropy(model(data[0]), data[1])), rel=1e-5)


class Logs(nn.Module):
    """A loss that keeps a log of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []

    def forward(self, model: Any, batch: Any) -> Any:
        self.log.append(len(batch[1]))
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none"), len(batch[1])


def test_what_the_callers_own_loss_writes_stays() -> None:
    loss = Logs()
    compute_surface(small_network(), examples(), loss=loss, points=3, device="cpu")
    assert len(loss.log) > 9


class Stores(nn.Module):
    """A hook that keeps what passes on the network that it was made for, whatever copy of it is called."""

    def __init__(self, how: str, reads: bool) -> None:
        super().__init__()
        self.body, self.head, self.reads = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 2), reads
        self.features, self.caught = torch.zeros(1, 8), list[Tensor]()

        def attribute(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.features = output

        def content(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.caught.append(output)

        self.body.register_forward_hook(attribute if how == "attribute" else content)

    def forward(self, x: Tensor) -> Tensor:
        passing = self.body(x)
        if self.reads:
            passing = self.caught[-1] if self.caught else self.features
        found: Tensor = self.head(passing)
        return found


@pytest.mark.parametrize("how", ["attribute", "content"])
def test_copies_that_read_what_hooks_write_into_the_original_are_refused(how: str) -> None:
    torch.manual_seed(0)
    data = torch.randn(64, 4), torch.randint(0, 2, (64,))
    batches = [(data[0][start : start + 16], data[1][start : start + 16]) for start in range(0, 64, 16)]
    model = Stores(how, reads=True)
    model(data[0][-16:])
    features, caught = model.features, [*model.caught]
    for compute in (compute_surface, hessian_spectrum, sharpness):
        with pytest.raises(UserError, match="into the model itself, and the copy whose weights move reads"):
            compute(model, batches)
        assert model.features is features
        assert len(model.caught) == len(caught)
    model = Stores(how, reads=False)
    found = compute_surface(model, data, points=3, device="cpu").loss
    with torch.no_grad():
        assert found[1, 1] == pytest.approx(float(F.cross_entropy(model(data[0]), data[1])), rel=1e-5)


def test_what_an_idle_hook_writes_into_the_original_is_put_back() -> None:
    data = torch.randn(64, 4), torch.randint(0, 2, (64,))
    for how in ("attribute", "content"):
        model = Stores(how, reads=False)
        features = model.features
        compute_surface(model, data, points=3, device="cpu")
        assert model.features is features
        assert not model.caught
