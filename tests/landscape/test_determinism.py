"""A loss must be a function of the weights: what isn't is refused with its reason, and nothing else is."""

from __future__ import annotations

import copy
import math
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from landscape.checks.determinism import check_determined
from landscape.checks.draws import extreme, state_of, steered
from landscape.errors import UserError


class Net(nn.Module):
    """Linear, and whatever a case does with its output."""

    def __init__(self, then: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.then = nn.Linear(3, 4), then
        self.norm = nn.BatchNorm1d(4)
        self.calls, self.mean, self.queue = 0, None, list[Tensor]()
        self.register_buffer("average", torch.zeros(4))

    def forward(self, x: Tensor) -> Any:
        return self.then(self, self.layer(x))


def counting(net: Any, x: Tensor) -> Any:
    net.calls += 1
    return x * (1 + 1e-6 * net.calls)


def averaging(net: Any, x: Tensor) -> Any:
    net.average.mul_(0.9).add_(0.1 * x.detach().mean(0))
    return x - net.average


def remembering_the_first(net: Any, x: Tensor) -> Any:
    if net.mean is None:
        net.mean = x.mean(0)
    return x - net.mean


def queueing(net: Any, x: Tensor) -> Any:
    net.queue.append(x.mean())
    return x / len(net.queue)


def normalizing_by_the_batch(net: Any, x: Tensor) -> Any:
    net.norm.train()
    net.norm(x)
    net.norm.eval()
    return net.norm(x)


def caching(net: Any, x: Tensor) -> Any:
    """Harmless: always the same."""
    if net.mean is None:
        net.mean = torch.ones(4)
    net.calls += 1
    return x * net.mean


def seeded(net: Any, x: Tensor) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return x + torch.randn(4)


def own_generator(net: Any, x: Tensor) -> Any:
    return x + torch.randn(4, generator=torch.Generator().manual_seed(0))


def loss(model: Any, batch: Any) -> Mapping[str, Tensor]:
    return {"loss": F.cross_entropy(model(batch[0]), batch[1], reduction="none")}


def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(8, 3), torch.randint(4, (8,))) for _ in range(2)]


def check(model: nn.Module, loss: Any = loss, **options: Any) -> bool:
    model.eval()
    untouched = copy.deepcopy(model)
    with torch.no_grad():
        return check_determined(loss, model, *batches(), loss=loss, fresh=lambda: untouched, **options)


BAD: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "functional dropout": (lambda net, x: F.dropout(x, 0.5), "dropout stays on .* training=self.training"),
    "alpha dropout": (lambda net, x: F.alpha_dropout(x, 0.5, training=True), "dropout stays on"),
    "noise": (lambda net, x: x + 1e-3 * torch.randn_like(x), r"random numbers are drawn \(randn_like\)"),
    "reparametrized": (lambda net, x: torch.normal(x, 0.1), "random numbers are drawn"),
    "NumPy's noise": (lambda net, x: x * (1 + np.random.rand()), "NumPy's generator"),
    "Python's noise": (lambda net, x: x * (1 + random.random()), "Python's random"),
    "a permutation": (lambda net, x: x[torch.randperm(len(x))], "randperm"),
    "a counter": (counting, "the network's 'calls' changes from call to call"),
    "an average": (averaging, "the network's 'average' changes"),
    "the first batch": (remembering_the_first, "called after another batch first, .*the network's 'mean'"),
    "a queue": (queueing, "the network's 'queue'"),
    "batch norm in training": (normalizing_by_the_batch, "the network's 'norm.running_mean'"),
}
GOOD: dict[str, tuple[Callable[[Any, Tensor], Any], bool]] = {
    "plain": (lambda net, x: x, False),
    "dropout of an evaluated network": (lambda net, x: F.dropout(x, 0.5, training=net.training), False),
    "a cache and a counter": (caching, True),
    "seeded inside": (seeded, True),
    "a generator of its own": (own_generator, True),
    "NaN": (lambda net, x: x * torch.nan, False),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_function_of_the_weights(name: str) -> None:
    then, words = BAD[name]
    state = torch.get_rng_state()
    with pytest.raises(UserError, match=f"the loss is no function of the weights: .*{words}") as error:
        check(Net(then))
    assert "\n" not in str(error.value)
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_one(name: str) -> None:
    then, draws = GOOD[name]
    assert check(Net(then)) == draws


@pytest.mark.parametrize(
    "layer",
    [
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        nn.LSTM(4, 4, batch_first=True),
        nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.RReLU(), nn.Softmax(1)),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_torch_are_functions(layer: nn.Module) -> None:
    def then(net: Any, x: Tensor) -> Any:
        if isinstance(layer, nn.LSTM | nn.TransformerEncoderLayer):
            found = layer(x[:, None])
            return (found[0] if isinstance(found, tuple) else found)[:, 0]
        return layer(x)

    layer.eval()
    assert check(Net(then)) is False


def test_losses_that_keep_or_change() -> None:
    calls = []

    def growing(model: Any, batch: Any) -> Mapping[str, Tensor]:
        calls.append(0)
        return {"loss": loss(model, batch)["loss"] * len(calls)}

    def overwriting(model: Any, batch: Any) -> Mapping[str, Tensor]:
        return {"loss": loss(model, (batch[0].mul_(0.9), batch[1]))["loss"]}

    for bad, words in ((growing, "the loss's closure 'calls'"), (overwriting, "the batch itself changes")):
        with pytest.raises(UserError, match=words):
            check(Net(lambda net, x: x), bad)


def test_rounding_of_kernels_without_an_order_is_no_alarm() -> None:
    turn = [0]

    def unordered(net: Any, x: Tensor) -> Any:
        turn[0] += 1
        return x * (1 + 2e-7 * (turn[0] % 2))

    assert check(Net(unordered)) is False


def test_the_check_does_not_import_pytorchs_compiler() -> None:
    """It would take seconds, more than a small surface."""
    code = (
        "import sys, torch; from landscape.compute import compute_surface; "
        "compute_surface(torch.nn.Linear(2, 2), (torch.ones(3, 2), torch.tensor([0, 1, 0])), points=1); "
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("drawn", [random.random, np.random.rand, lambda: float(torch.rand(()))])
@pytest.mark.parametrize("rare", [0.001, 0.999])
def test_layers_that_are_rarely_skipped(drawn: Callable[[], float], rare: float) -> None:
    """No pair of calls would show it. What is drawn and makes no difference is let alone."""

    def call(model: Any, batch: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"loss": model(batch).sum(1)}

    batch = torch.ones(4, 3)
    skipping = Net(lambda net, x: x * (2.0 if drawn() < rare else 1.0))
    before = random.getstate(), torch.get_rng_state()
    with pytest.raises(UserError, match="random numbers are drawn"):
        check_determined(call, skipping, batch)
    assert check_determined(call, Net(lambda net, x: x * (1.0 if drawn() >= 0 else 0.0)), batch)
    random.setstate(before[0])
    torch.set_rng_state(before[1])


def drawing(model: Any, batch: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return {"loss": model(batch).sum(1)}


def seed_all() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


UNHEARD: dict[str, Callable[[Tensor], Tensor]] = {
    "unused": lambda x: (torch.randn(3), x)[1],
    "nothing of a normal": lambda x: x + 0 * torch.randn_like(x),
    "nothing of a logarithm": lambda x: x + 0 * -torch.log(-torch.log(torch.rand_like(x))),
    "nothing of NumPy's logarithm": lambda x: x + 0 * float(-np.log(-np.log(np.random.rand()))),
    "nothing of Python's logarithm": lambda x: x + 0 * math.log(random.random()),
    "nothing of a quotient": lambda x: x + 0 / torch.rand_like(x),
    "nothing of a distribution": lambda x: x + 0 * torch.distributions.Beta(0.5, 0.5).sample(x.shape),
    "always kept": lambda x: x * torch.bernoulli(torch.ones_like(x)),
    "clamped": lambda x: x * torch.rand(4).clamp(2, 3),
    "a permutation undone": lambda x: x[order := torch.randperm(len(x))][torch.argsort(order)],
    "one choice": lambda x: x + torch.randint(1, (4,)) + random.choice([0]) + np.random.choice(1),
}


@pytest.mark.parametrize("name", UNHEARD)
def test_draws_without_effect_are_no_alarm(name: str) -> None:
    """Generators move on as the loss moves them, and no further."""
    seed_all()
    then = UNHEARD[name]
    assert check_determined(drawing, Net(lambda net, x: then(x)), torch.ones(4, 3))


def rare_branches() -> dict[str, Callable[[], bool]]:
    """Each acts in one of about twenty calls, through generators of the process and of the loss's own."""
    own, new, old, plain = (
        torch.Generator(),
        np.random.default_rng(0),
        np.random.RandomState(0),
        random.Random(0),
    )
    return {
        "in the middle": lambda: 0.5 < float(torch.rand(())) < 0.55,
        "in NumPy's middle": lambda: 0.6 < np.random.rand() < 0.65,
        "one of twenty": lambda: int(torch.randint(20, ())) == 7,
        "one of Python's": lambda: random.choice("abcdefghijklmnopqrst") == "h",
        "one of NumPy's": lambda: bool(np.random.choice(20) == 7),
        "first of a permutation": lambda: int(torch.randperm(20)[0]) == 7,
        "the hundredth number": lambda: bool(torch.rand(100)[-1] < 0.05),
        "a tail": lambda: float(torch.randn(())) > 1.7,
        "own generator of torch": lambda: bool(torch.rand((), generator=own) < 0.001),
        "own generator of NumPy": lambda: new.random() < 0.001,
        "own generator of NumPy, old": lambda: old.rand() < 0.001,
        "own generator of Python": lambda: plain.random() > 0.999,
    }


@pytest.mark.parametrize("name", rare_branches())
def test_rare_branches_are_found(name: str) -> None:
    seed_all()
    acts = rare_branches()[name]
    with pytest.raises(UserError, match="random numbers are drawn") as error:
        check_determined(drawing, Net(lambda net, x: x * (2.0 if acts() else 1.0)), torch.ones(4, 3))
    if name.startswith("own"):
        assert "the network's then.closure 'acts'.closure" in str(error.value) or "(rand)" in str(error.value)


def test_generators_return() -> None:
    """Those of the loss, too; a generator that nobody draws from counts for nothing."""
    new, plain = np.random.default_rng(0), random.Random(0)
    own = [torch.Generator(), new, np.random.RandomState(0), plain]
    before = [state_of(one) for one in own]
    with steered(own) as steer:
        for high in (False, True):
            steer(extreme(high))
            first = [float(torch.rand((), generator=own[0])), new.random(), own[2].rand(), plain.random()]  # type: ignore[attr-defined,call-overload]
            assert all(abs(one - high) < 1e-5 and 0 < one < 1 for one in first)
    assert [state_of(one) for one in own] == before
    assert check_determined(drawing, Net(lambda net, x: x * (1.0 if own else 0.0)), torch.ones(4, 3)) is False
