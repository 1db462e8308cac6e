"""The loss surface of your own image classifier, dense and after pruning, with the roughness Ra of both."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import landscape
from analysis.roughness import roughness
from landscape.data import load_data


def trained(images: Tensor, labels: Tensor) -> nn.Module:
    """A small convolutional network after a few seconds of training; yours comes from your own."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        for chosen in torch.randperm(len(labels)).chunk(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model


def prune(model: nn.Module, sparsity: float) -> None:
    """Set the smallest weights of each convolution to zero."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach()  # the same memory
            weight[weight.abs() < weight.abs().quantile(sparsity)] = 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Both surfaces on the same examples and directions: two files and one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("surfaces"), help="folder (default: surfaces)")
    parser.add_argument("--points", type=int, default=25, help="grid points per axis (default: 25)")
    options = parser.parse_args(arguments)

    data = load_data("sample", split="train", examples=500)  # real CIFAR-10 images that ship with the package
    examples = (data.normalized(), data.targets)
    model = trained(*examples)
    surfaces = []
    for sparsity in (0.0, 0.8):
        prune(model, sparsity)  # directions stay zero where weights are zero: the sparse network's own plane
        label = f"{sparsity:.0%} pruned"
        surface = landscape.compute_surface(model, examples, points=options.points, label=label)
        surface.save(options.output / f"classifier-{100 * sparsity:.0f}.surface.h5")
        print(f"{label}: Ra = {roughness(surface).ra.value:.4f} nats")
        surfaces.append(surface)
    print(f"wrote {landscape.view(surfaces).save(options.output / 'classifier.html')}")


if __name__ == "__main__":
    main()
