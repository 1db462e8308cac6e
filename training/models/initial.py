"""First weights, the same for all architectures here."""

from __future__ import annotations

from torch import nn


def initialise(model: nn.Module) -> None:
    """Convolutions as He et al. 2015 (normal, fan-out), classifiers N(0, 0.01²) with zero bias; in place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
