"""S2-SAM notices gradients that were computed at other weights than the perturbed ones, and nothing else."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from test_optimizers_use import batches, network, train
from torch import Tensor, nn

from landscape.errors import UserError
from training.optimizers import S2SAM, SAM


def test_wrong_order_is_refused() -> None:
    """Each of these would quietly be a step of the base optimizer, or worse."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = S2SAM(torch.optim.SGD([weight], lr=0.1))
    weight.sum().backward()
    with pytest.raises(UserError, match=r"inside `with optimizer\.perturbed"):
        optimizer.step()
    with optimizer.perturbed(), pytest.raises(UserError, match="after leaving"):
        optimizer.step()
    with optimizer.perturbed(), pytest.raises(UserError, match="perturbed"), optimizer.perturbed():
        pass
    with pytest.raises(UserError, match=r"unperturbed weights: call backward\(\) inside `with"):
        optimizer.step()
    optimizer.zero_grad()
    with optimizer.perturbed():
        weight.sum().backward()
    optimizer.step()
    with pytest.raises(UserError, match="inside"):
        optimizer.step()


def _backward_outside(net: nn.Module, optimizer: S2SAM, loss: Callable[[], Tensor]) -> None:
    with optimizer.perturbed():
        pass
    loss().backward()  # type: ignore[no-untyped-call]


def _backward_before(net: nn.Module, optimizer: S2SAM, loss: Callable[[], Tensor]) -> None:
    loss().backward()  # type: ignore[no-untyped-call]
    with optimizer.perturbed():
        loss()


def _two_backwards(net: nn.Module, optimizer: S2SAM, loss: Callable[[], Tensor]) -> None:
    with optimizer.perturbed():
        loss().backward()  # type: ignore[no-untyped-call]
    loss().backward()  # type: ignore[no-untyped-call]


def _first_of_two(net: nn.Module, optimizer: S2SAM, loss: Callable[[], Tensor]) -> None:
    loss().backward()  # type: ignore[no-untyped-call]
    with optimizer.perturbed():
        loss().backward()  # type: ignore[no-untyped-call]


def _another_part(net: nn.Module, optimizer: S2SAM, loss: Callable[[], Tensor]) -> None:
    sum(one.sum() for one in net.parameters() if one.ndim == 1).backward()  # type: ignore[union-attr]
    with optimizer.perturbed():
        sum(one.sum() for one in net.parameters() if one.ndim > 1).backward()  # type: ignore[union-attr]


Way = Callable[[nn.Module, S2SAM, Callable[[], Tensor]], None]
WHOLE: list[Way] = [_backward_outside, _backward_before]
PART: list[Way] = [_two_backwards, _first_of_two, _another_part]


@pytest.mark.parametrize("way", WHOLE + PART)
def test_gradients_of_the_unperturbed_weights_are_noticed(way: Way) -> None:
    """In the third step, too, whatever the steps before it left."""
    net, (images, labels) = network(), batches(1)[0]
    optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1))

    def loss() -> Tensor:
        return F.cross_entropy(net(images), labels)

    train(net, optimizer, batches(2))
    optimizer.zero_grad()
    way(net, optimizer, loss)
    before = [one.detach().clone() for one in net.parameters()]
    if way in WHOLE:
        with pytest.raises(UserError, match=r"^the gradient was computed at unperturbed weights: .* `with"):
            optimizer.step()
        assert all(torch.equal(one, old) for one, old in zip(net.parameters(), before, strict=True))
    else:
        with pytest.warns(UserWarning, match="a part of the gradient was computed at unperturbed weights"):
            optimizer.step()
    train(net, optimizer, batches(2))


def test_closures_without_backward_are_noticed() -> None:
    net, (images, labels) = network(), batches(1)[0]
    for optimizer in (
        S2SAM(torch.optim.SGD(net.parameters())),
        SAM(torch.optim.SGD(net.parameters()), model=net),
    ):
        loss = F.cross_entropy(net(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        with pytest.raises(UserError, match=r"call backward\(\) inside"):
            optimizer.step(lambda loss=loss: loss.detach())  # type: ignore[misc]
        net.zero_grad()


@pytest.mark.parametrize("zero", ["model to none", "model in place", "inside", "inside in place", "by hand"])
def test_gradients_of_others_that_are_zeroed_are_no_alarm(zero: str) -> None:
    """As where a generator is trained through its critic, or where gradients are put there by hand."""
    net, data = network(), batches(4)
    optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1))
    for images, labels in data:
        net(images).square().mean().backward()
        if zero.startswith("model"):
            net.zero_grad(set_to_none=zero.endswith("none"))
        with optimizer.perturbed():
            if zero.startswith("inside"):
                net.zero_grad(set_to_none=zero == "inside")
            loss = F.cross_entropy(net(images), labels)
            if zero == "by hand":
                params = list(net.parameters())
                for one, gradient in zip(params, torch.autograd.grad(loss, params), strict=True):
                    one.grad = gradient
            else:
                loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


def test_optimizers_that_are_gone_do_not_listen() -> None:
    net = network()
    for _ in range(3):
        optimizer = S2SAM(torch.optim.SGD(net.parameters()))
        copy.deepcopy(optimizer)
        pickle.dumps(net)
    del optimizer
    gc.collect()
    assert all(not one._post_accumulate_grad_hooks for one in net.parameters())
