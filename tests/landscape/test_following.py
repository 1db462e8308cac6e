"""The engine's copy of a network must compute with the weights that move, and with these alone."""

from __future__ import annotations

import copy
import functools
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm

from analysis.connectivity import connect
from analysis.hessian import hessian_spectrum
from analysis.sharpness import sharpness
from landscape.compute import compute_surface
from landscape.errors import UserError
from landscape.losses import classification
from landscape.planes import GivenPlane, RandomPlane


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(30, 4), torch.randint(3, (30,))


def surface(model: nn.Module, loss: Any = classification, **options: Any) -> Any:
    return compute_surface(model, data(), loss=loss, points=3, device="cpu", **options)


class Adapter(nn.Module):
    """Merged into the frozen weight on entering evaluation mode, as loralib does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 4), requires_grad=False)
        self.a, self.b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(3, 2))
        self.merged = False

    def train(self, mode: bool = True) -> Adapter:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.b.data @ self.a.data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        whole = self.weight if self.merged else self.weight + self.b @ self.a
        return F.linear(x, whole)


class Cached(nn.Module):
    """Keeps what it made of its weights in its first call in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.kept = nn.Linear(4, 3), dict[str, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and "weight" not in self.kept:
            self.kept["weight"] = 2 * self.layer.weight.detach()
        return F.linear(x, self.layer.weight if self.training else self.kept["weight"])


class Holding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = inner = network()
        self.call = lambda x: inner(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def patched() -> nn.Module:
    """As wrappers do: the new forward holds the old one, of this very network."""
    model = network()
    before = model.forward
    model.forward = functools.wraps(before)(lambda x: before(x))  # type: ignore[method-assign]
    return model


ALL: list[Callable[[nn.Module], object]] = [
    surface,
    lambda model: hessian_spectrum(model, data(), top=1, density_probes=0),
    lambda model: sharpness(model, data(), measures=["sam"]),
]


@pytest.mark.parametrize("compute", ALL, ids=["surface", "hessian", "sharpness"])
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Adapter, "doesn't follow its weights"),
        (lambda: Adapter().eval(), "doesn't use any of the weights that move .a, b."),
        (Cached, "doesn't follow its weights"),
        (Holding, "'inner.0.weight' of the model itself"),
        (patched, "'0.weight' of the model itself"),
    ],
)
def test_networks_that_compute_with_other_weights(compute: Any, model: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        compute(model())
    assert "\n" not in str(error.value)


class Untrained(nn.Module):
    """LoRA at its start: B is zero, so A makes no difference yet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 4), requires_grad=False)
        self.a, self.b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.b @ self.a)


def test_adapters_before_their_training() -> None:
    with pytest.raises(UserError, match=r"nothing on this plane changes the loss: 'b' is zero everywhere"):
        surface(Untrained())
    assert np.ptp(surface(Untrained(), plane=RandomPlane(normalize="none")).loss) > 0.1


def test_a_path_between_merged_adapters() -> None:
    with pytest.raises(UserError, match="doesn't use any of the weights that move"):
        connect(Adapter(), Adapter(), data(), curves=["linear"], points=3, device="cpu", params=["a", "b"])


def test_a_loss_that_reads_the_model_outside() -> None:
    model = network()
    start = copy.deepcopy(model)

    def decayed(of: nn.Module, given: Any, batch: Any) -> Any:
        values, count, _ = classification(given, batch)  # type: ignore[misc]
        return values + torch.stack([one.square().sum() for one in of.parameters()]).sum(), count

    with pytest.raises(UserError, match=r"'0.weight' of the model itself.*copy.deepcopy for what shall stay"):
        surface(model, functools.partial(decayed, model))
    assert np.isfinite(surface(model, functools.partial(decayed, start)).loss).all()


def aliased(how: str) -> nn.Module:
    model = network()
    first, last = model[0], model[2]  # type: ignore[index]
    if how == "data":
        last = model[2] = nn.Linear(4, 4)  # type: ignore[index]
        last.weight.data = first.weight.data
    elif how == "transposed":
        last = model[2] = nn.Linear(4, 4)  # type: ignore[index]
        last.weight = nn.Parameter(first.weight.t())
    elif how == "buffer":
        model.register_buffer("view", first.weight.data[1:])
    elif how == "attribute":
        model.views = [first.weight.data]  # type: ignore[assignment]
    elif how == "expanded":
        first.bias = nn.Parameter(torch.zeros(1).expand(4))
    return model


@pytest.mark.parametrize("how", ["data", "transposed", "buffer", "attribute", "expanded"])
def test_weights_in_memory_of_others(how: str) -> None:
    for compute in ALL:
        with pytest.raises(UserError, match="in the same memory") as error:
            compute(aliased(how))
        assert "\n" not in str(error.value)


def test_parametrizations_that_are_cached() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)))
    with parametrize.cached(), pytest.raises(UserError, match="leave that block first"):
        surface(model)


def test_a_copy_that_is_none() -> None:
    class Single(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Single:
            return self

    model = nn.Sequential(Single(4, 3))
    with pytest.raises(UserError, match=r"its copy is its own .*__deepcopy__"):
        surface(model)


def pruned() -> nn.Module:
    model = network()
    prune.l1_unstructured(model[0], "weight", 0.5)  # type: ignore[index, no-untyped-call]
    return model


def tied() -> nn.Module:
    model = network()
    model.append(nn.Linear(3, 4)).append(nn.Linear(4, 3))  # type: ignore[operator]
    model[4].weight = model[2].weight  # type: ignore[index]
    return model


def unused() -> nn.Module:
    model = network()
    model.head = nn.Linear(4, 2)
    model.forward = types.MethodType(lambda self, x: self[2](self[1](self[0](x))), model)  # type: ignore
    return model


def flat_memory() -> nn.Module:
    """All weights in one memory, each in a part of its own."""
    model = network()
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    nn.utils.vector_to_parameters(vector, model.parameters())
    return model


def dead() -> nn.Module:
    """Nothing but the last bias makes a difference."""
    model = network()
    model[2].weight.data.zero_()  # type: ignore[index]
    return model


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, that it is deprecated
        return torch.jit.script(network())


@pytest.mark.parametrize(
    "model",
    [
        *(pruned, tied, unused, flat_memory, dead),
        lambda: nn.Sequential(spectral_norm(nn.Linear(4, 3))),
        lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4))),
        scripted,
        lambda: nn.LSTM(4, 3, batch_first=True),
    ],
)
def test_networks_that_do_follow(model: Any) -> None:
    """Against weights that are put into a copy by hand."""
    given = model()

    def loss(of: Any, batch: Any) -> Any:
        scores = of(batch[0][:, None])
        scores = (scores[0] if isinstance(scores, tuple) else scores)[:, 0]
        return F.cross_entropy(scores, batch[1], reduction="none"), len(batch[1])

    torch.manual_seed(2)
    way = {name: 0.3 * torch.randn(one.shape) for name, one in given.named_parameters()}
    found = surface(given, loss, plane=GivenPlane([way]), dim=1, mask="none")
    other = model()
    with torch.no_grad():
        other.load_state_dict(given.state_dict())
        for name, one in other.named_parameters():
            one.add_(way[name])
        values, _ = loss(other.eval(), data())
    assert found.loss[2, 0] == pytest.approx(float(values.mean()), rel=1e-5)
