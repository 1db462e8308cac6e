"""Whether a network is folded is judged by float64, not by how float32 happens to round."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from landscape.engine import Engine
from landscape.engine import network as choice
from landscape.examples import Examples
from landscape.losses import classification


class Deep(nn.Module):
    """Many convolutions with batch norms whose scales differ: rounding grows from layer to layer."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.Sequential()
        for depth in range(24):
            conv, norm = nn.Conv2d(8 if depth else 3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            with torch.no_grad():
                conv.weight.normal_(generator=generator)
                norm.running_mean.copy_(3 * torch.randn(8, generator=generator))
                norm.running_var.copy_((spread * torch.randn(8, generator=generator)).exp())
                norm.weight.copy_(norm.running_var.sqrt() / 8)
                norm.bias.normal_(generator=generator)
            self.layers += nn.Sequential(conv, norm, nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean(dim=(2, 3)))


def engine_of(model: nn.Module) -> Engine:
    generator = torch.Generator().manual_seed(1)
    data = Examples.from_tensors(
        torch.randn(16, 3, 8, 8, generator=generator), torch.randint(4, (16,), generator=generator)
    )
    directions = [
        {name: torch.randn(one.shape, generator=generator) * one.norm() / one.numel() ** 0.5}
        for name, one in list(model.named_parameters())[:2]
    ]
    return Engine(model, {"data": data}, classification, directions)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_rounding_does_not_unfold(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bound at nothing every network is above it; float64 says that it is rounding."""
    monkeypatch.setitem(choice.TOLERANCE, torch.float32, 0.0)
    found = engine_of(Deep(spread).eval()).about
    assert found["folded"], found["unfolded_because"]


def test_what_is_further_from_float64_is_not_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    original = choice.fold

    def wrong(network: nn.Module, source: nn.Module) -> object:
        net = original(network, source)
        plain = net.refresh

        def refresh() -> None:
            plain()
            for conv in net.convolutions:
                net._tensor(conv.weight).mul_(1 + 1e-4)

        net.refresh = refresh  # type: ignore[method-assign]
        return net

    monkeypatch.setattr(choice, "fold", wrong)
    monkeypatch.setattr(choice.fuse_cpu, "available", lambda dtype: False)
    found = engine_of(Deep(0.5).eval()).about
    assert not found["folded"]
    assert "differs by" in found["unfolded_because"]
