"""What all methods that score or rank weights have in common, and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_cases import FakeSource, NoData, dropout_network, equal, seeded, small_network
from torch import nn

from landscape.errors import UserError
from training import masks
from training.models import build_model
from training.sparsity.base import MaskedMethod
from training.sparsity.grasp import GraSP
from training.sparsity.lt import LotteryTicket
from training.sparsity.magnitude import Magnitude
from training.sparsity.snip import Snip
from training.sparsity.synflow import SynFlow

AT_INITIALISATION: dict[str, Callable[..., MaskedMethod]] = {
    "snip": Snip,
    "snip-batch": lambda *args, **more: Snip(*args, norm_statistics="batch", **more),
    "grasp": GraSP,
    "synflow": lambda *args, **more: SynFlow(*args, rounds=3, **more),
    "magnitude": lambda *args, **more: Magnitude(*args, begin=0, end=0, **more),
}
ALL = AT_INITIALISATION | {"lt": LotteryTicket}


def resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("resnet20", num_classes=4, widths=(4, 6, 8))


@pytest.mark.parametrize("network", [resnet, dropout_network])
@pytest.mark.parametrize("name", ALL)
def test_scoring_leaves_everything_as_it_was(name: str, network: Callable[[], nn.Module]) -> None:
    model = network()
    model(torch.randn(4, 3, 8, 8, generator=seeded())).sum().backward()
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    versions = {key: value._version for key, value in model.state_dict().items()}
    gradients = {key: value.grad.clone() for key, value in model.named_parameters()}
    modes = {key: module.training for key, module in model.named_modules()}
    needs = {key: value.requires_grad for key, value in model.named_parameters()}
    state = torch.random.get_rng_state()
    mask = ALL[name]().init_mask(model, FakeSource(), seeded())
    masks.check(model, mask)
    assert all(torch.equal(tensors[key], value) for key, value in model.state_dict().items())
    assert versions == {key: value._version for key, value in model.state_dict().items()}
    assert all(torch.equal(gradients[key], value.grad) for key, value in model.named_parameters())
    assert modes == {key: module.training for key, module in model.named_modules()}
    assert needs == {key: value.requires_grad for key, value in model.named_parameters()}
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("network", [resnet, dropout_network])
@pytest.mark.parametrize("name", AT_INITIALISATION)
def test_the_generator_decides_alone(name: str, network: Callable[[], nn.Module]) -> None:
    """Whatever torch's global generator holds, the mode, and whether gradients are on."""
    method = AT_INITIALISATION[name]()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        mask = method.init_mask(network(), FakeSource(), seeded(3))
        torch.manual_seed(2)
        with torch.no_grad():
            again = method.init_mask(network().eval(), FakeSource(), seeded(3))
        other = method.init_mask(network(), FakeSource(), seeded(4))
    assert equal(mask, again)
    assert equal(mask, other) is (name in ("synflow", "magnitude"))


@pytest.mark.parametrize("name", AT_INITIALISATION)
@settings(max_examples=25)
@given(st.floats(0, 0.999), st.sampled_from(["global", "uniform", "er", "erk"]))
def test_counts_are_exact(name: str, sparsity: float, ranking: str) -> None:
    method = AT_INITIALISATION[name](sparsity, ranking=ranking)
    mask = method.init_mask(small_network(), FakeSource(dtype=torch.float64), seeded())
    assert masks.kept(mask) == round((1 - sparsity) * 120)


@pytest.mark.parametrize("name", AT_INITIALISATION)
def test_dense_layers_are_neither_masked_nor_counted(name: str) -> None:
    model = resnet()
    mask = AT_INITIALISATION[name](0.9, keep_dense=("first", "last")).init_mask(model, FakeSource(), seeded())
    names = list(masks.prunable(model))
    assert list(mask) == names[1:-1]
    assert masks.kept(mask) == round(0.1 * sum(part.numel() for part in mask.values()))


@pytest.mark.parametrize("name", AT_INITIALISATION)
def test_weights_that_are_not_numbers_are_refused(name: str) -> None:
    model = resnet()
    model.get_parameter("layer1.0.conv1.weight").data[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        AT_INITIALISATION[name]().init_mask(model, FakeSource(), seeded())


@pytest.mark.parametrize("method", [Magnitude(0.5, begin=0, end=0), Magnitude(), LotteryTicket()])
def test_magnitudes_need_no_images(method: MaskedMethod) -> None:
    method.init_mask(resnet(), NoData(), seeded())


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Snip, {"sparsity": 1.0}, "below 1"),
        (Snip, {"batches": 0}, "batches 0: expected 1 or more"),
        (Snip, {"images_per_batch": 0}, "images-per-batch 0: expected 1 or more"),
        (Snip, {"images_per_batch": 10**19}, "images-per-batch 10000000000000000000: expected 1,000,000 or"),
        (GraSP, {"draws": 10**19}, "draws 10000000000000000000: expected 1,000,000 or fewer"),
        (SynFlow, {"rounds": 10**19}, "rounds 10000000000000000000: expected 1,000,000 or fewer"),
        (LotteryTicket, {"search_epochs": 10**19}, "search-epochs 10000000000000000000: expected 1,000,000"),
        (GraSP, {"sparsity": 1.0}, "below 1"),
        (GraSP, {"per_class": 0}, "per-class 0: expected 1 or more"),
        (GraSP, {"draws": 0}, "draws 0: expected 1 or more"),
        (GraSP, {"chunks": 0}, "chunks 0: expected 1 or more"),
        (GraSP, {"temperature": 0.0}, r"temperature 0\.0: expected a positive number"),
        (SynFlow, {"sparsity": 1.0}, "below 1"),
        (SynFlow, {"rounds": 0}, "rounds 0: expected 1 or more"),
        (Magnitude, {"sparsity": 1.0}, "below 1"),
        (Magnitude, {"begin": 0.5, "end": 0.4}, "0 <= begin <= end < 1"),
        (Magnitude, {"end": 1.0}, "0 <= begin <= end < 1"),
        (Magnitude, {"begin": -0.1}, "0 <= begin <= end < 1"),
        (Magnitude, {"interval": 0}, "interval 0: expected 1 or more"),
        (LotteryTicket, {"sparsity": 1.0}, "below 1"),
        (LotteryTicket, {"prune_fraction": 0.0}, r"prune-fraction 0\.0"),
        (LotteryTicket, {"prune_fraction": 1.0}, r"prune-fraction 1\.0"),
        (LotteryTicket, {"rewind_step": -1}, "rewind-step -1"),
        (LotteryTicket, {"search_epochs": 0}, "search-epochs 0"),
    ],
)
def test_settings_out_of_range(kind: type[MaskedMethod], values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind(**values)


class Gated(nn.Module):
    """A convolution, and a gate of it by a sigmoid, which an image of ones saturates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.linear = nn.Conv2d(3, 50, 3), nn.Conv2d(50, 50, 1), nn.Linear(50, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.linear((x * self.gate(40 * x).sigmoid()).mean((2, 3)))


@pytest.mark.parametrize("bound", [nn.ReLU6, lambda: nn.Hardtanh(0, 1)])
def test_synflow_sees_beyond_a_bound(bound: Callable[[], nn.Module]) -> None:
    """An image of ones drives activations with a bound to it, where no weight matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rest = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
        model = nn.Sequential(nn.Conv2d(3, 60, 3), nn.ReLU(), nn.Conv2d(60, 8, 3), nn.ReLU(), *rest)
        for one in (model[0], model[2]):
            one.weight.data *= 10
    plain = SynFlow(0.9, rounds=3).init_mask(model, FakeSource(), seeded())
    model[1], model[3] = bound(), bound()
    assert equal(SynFlow(0.9, rounds=3).init_mask(model, FakeSource(), seeded()), plain)
    assert not masks.empty_layers(plain)
    assert not isinstance(model[1], nn.ReLU)


def test_synflow_refuses_layers_without_flow() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Gated()
    with pytest.raises(UserError, match=r"of 1 of 3 layers are all 0.*\(gate.weight\).*another method"):
        SynFlow(0.5).init_mask(model, FakeSource(), seeded())


@pytest.mark.parametrize("method", [Snip(0.2), GraSP(0.2)])
def test_no_order_of_layers_decides_what_scores_do_not(method: MaskedMethod) -> None:
    """Behind a ReLU that is never positive no weight has a score."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    bias = model[2].bias
    assert isinstance(bias, nn.Parameter)
    nn.init.constant_(bias, -1e6)
    with pytest.raises(UserError, match=r"444 weights have the score 0, .* stay \(0.weight\) .* --sparsity"):
        method.init_mask(model, FakeSource(), seeded())
    more = type(method)(0.2, ranking="uniform")  # type: ignore[call-arg]
    assert masks.kept(more.init_mask(model, FakeSource(), seeded())) == round(0.8 * 444)


def test_more_images_in_a_batch_than_there_are() -> None:
    masked = Snip(images_per_batch=1_000_000).init_mask(small_network(), FakeSource(), seeded())
    assert equal(masked, Snip(images_per_batch=200).init_mask(small_network(), FakeSource(), seeded()))
