"""S2-SAM in a plain PyTorch loop: the three lines marked below, and everything else stays as it was."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.optimizers import S2SAM


def spirals(count: int = 300) -> tuple[Tensor, Tensor]:
    """Points of two spirals, (count, 2), and which one each is on."""
    labels = torch.arange(count) % 2
    angle = 6 * torch.rand(count).sqrt() + torch.pi * labels
    points = (angle - torch.pi * labels)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return points / 3 + 0.05 * torch.randn(count, 2), labels


def main(epochs: int = 30) -> float:
    torch.manual_seed(0)
    points, labels = spirals()
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)  # 1: wrap yours
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(points)).split(30):
            optimizer.zero_grad()
            with optimizer.perturbed():  # 2: forward and backward pass at the perturbed weights
                F.cross_entropy(model(points[chosen]), labels[chosen]).backward()
            optimizer.step()  # 3: outside the block, as ever
        scheduler.step()
    accuracy = (model(points).argmax(1) == labels).float().mean().item()
    print(f"accuracy {accuracy:.1%} of {len(points)} points")
    return accuracy


if __name__ == "__main__":
    main()
