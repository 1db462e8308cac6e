"""A curve that is said to end at a network must end there, in whatever the two may differ."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from analysis.connectivity import connect
from landscape.errors import UserError


class Net(nn.Module):
    """One layer; buffers and settings beside it."""

    def __init__(self, seed: int, scale: float = 1.0, places: bool = False, kept: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.norm, self.scale = nn.Linear(4, 3), nn.BatchNorm1d(3), scale
        self.register_buffer("places", torch.randperm(4) if places else torch.arange(4))
        self.register_buffer("kept", torch.arange(4) < (2 if kept else 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x[:, self.places] * self.kept)) * self.scale


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(40, 4), torch.randint(3, (40,))


@pytest.mark.parametrize(
    "second",
    [
        Net(2, scale=3.0),
        Net(2, places=True),
        Net(2, kept=True),
    ],
    ids=["setting", "integers", "bools"],
)
def test_networks_that_differ_in_more_than_weights(second: nn.Module) -> None:
    with pytest.raises(UserError, match="differ in more than weights") as error:
        connect(Net(0), second, data(), curves=["linear"], points=3, device="cpu")
    assert "\n" not in str(error.value)


def test_a_curve_ends_at_the_second_network() -> None:
    second = Net(2)
    second(data()[0])  # other running statistics
    found = connect(
        Net(0), second, data(), curves=["linear"], points=3, device="cpu", batch_norm="interpolate"
    )
    with torch.no_grad():
        expected = nn.functional.cross_entropy(second.eval()(data()[0]), data()[1])
    assert found.surfaces["linear"].loss[-1, 0] == pytest.approx(float(expected), rel=1e-5)
