"""Losses of tiny trained networks over filter-normalised planes: kinked as real ones, made in a second.

Most ranges are a thousand times the loss in the valley; kinks come from ReLU and the leading class.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from landscape.surface import FloatArray

EXAMPLES, INPUTS = 128, 8


def network_surface(seed: int, count: int) -> FloatArray:
    """Loss over ±1, shape ``[count, count]``; size, classes, sparsity and training vary by seed."""
    generator = torch.Generator().manual_seed(seed)

    def pick(*choices: float) -> float:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    classes, sparsity = int(pick(3, 10)), pick(0, 0.6)
    network = _mlp(int(pick(2, 3, 4, 6)), int(pick(12, 24)), classes)
    masks = {}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            fan_in = parameter[0].numel()
            masks[name] = (torch.rand(parameter.shape, generator=generator) >= sparsity).float()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)
    labels = torch.randint(classes, (EXAMPLES,), generator=generator)
    centres = torch.randn(classes, INPUTS, generator=generator)
    inputs = centres[labels] + torch.randn(EXAMPLES, INPUTS, generator=generator)
    _train(network, masks, inputs, labels, steps=int(pick(100, 300)))
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    first, second = (_direction(weights, masks, generator) for _ in range(2))
    axis = torch.linspace(-1, 1, count)

    def loss(alpha: Tensor, beta: Tensor) -> Tensor:
        moved = {name: w + alpha * first[name] + beta * second[name] for name, w in weights.items()}
        return nn.functional.cross_entropy(functional_call(network, moved, (inputs,)).double(), labels)

    rows = [vmap(loss, in_dims=(None, 0))(alpha, axis) for alpha in axis]
    values: FloatArray = torch.stack(rows).numpy()
    return values


def _mlp(depth: int, width: int, classes: int) -> nn.Sequential:
    sizes = [INPUTS, *[width] * depth]
    hidden = [
        layer
        for before, after in itertools.pairwise(sizes)
        for layer in (nn.Linear(before, after, bias=False), nn.ReLU())
    ]
    return nn.Sequential(*hidden, nn.Linear(width, classes, bias=False))


def _train(
    network: nn.Module, masks: dict[str, Tensor], inputs: Tensor, labels: Tensor, *, steps: int
) -> None:
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), lr=0.05, momentum=0.9)
    for step in range(steps + 1):
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter *= masks[name]
        if step < steps:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels).backward()
            nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()


def _direction(
    weights: dict[str, Tensor], masks: dict[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """Gaussian, masked, each row of the norm of the weights' (Li et al. 2018)."""
    found = {}
    for name, weight in weights.items():
        noise = torch.randn(weight.shape, generator=generator) * masks[name]
        length = noise.norm(dim=1, keepdim=True).clamp_min(1e-9)
        found[name] = noise * weight.norm(dim=1, keepdim=True) / length
    return found
