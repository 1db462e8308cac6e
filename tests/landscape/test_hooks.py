"""Hooks that only watch don't run at every point; those that act, or whose catch the loss reads, do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_network import examples, small_network
from torch import Tensor, nn

from landscape.compute import compute_surface


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
