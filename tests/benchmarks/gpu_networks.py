"""What `gpu_check.py` measures: networks, images that are noise, planes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from landscape.examples import Examples
from landscape.parameters import moving_params
from landscape.planes import RandomPlane


def untrained(
    build: Callable[..., nn.Module], widths: tuple[int, int, int] | None, count: int
) -> tuple[nn.Module, Examples, list[dict[str, Tensor]]]:
    """A network as it is drawn, noise of CIFAR's size, and a plane."""
    model = made(build() if widths is None else build(widths=widths))
    images, labels = torch.randn(count, 3, 32, 32), torch.arange(count) % 10
    return model, Examples.from_tensors(images, labels), drawn(model)


def made(model: nn.Module) -> nn.Module:
    """A network that isn't trained, with running statistics."""
    with torch.no_grad():
        model(torch.randn(32, 3, 32, 32))
    return model.eval()


def drawn(model: nn.Module) -> list[dict[str, Tensor]]:
    """The directions of a random plane."""
    return [dict(one) for one in RandomPlane(seed=0).directions(moving_params(model, "trainable"), None, 2)]


def activations(model: nn.Module, images: Tensor) -> float:
    """Numbers that convolutions and linear layers write for one image."""
    written: list[int] = []
    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    handles = [one.register_forward_hook(lambda _, __, out: written.append(out.numel())) for one in layers]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return sum(written) / len(images)
