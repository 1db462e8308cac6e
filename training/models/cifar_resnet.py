"""CIFAR residual networks of He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.2.

Module names are those of the widely published checkpoints: ``conv1``, ``bn1``, ``layer1.0.conv1``, …,
``linear``. Option A shortcuts have no parameters (every second pixel, zero channels on both sides);
option B ones are a 1×1 convolution with batch norm. The sparse-training literature's ResNet-32 has widths
32-64-128 and option B.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.models.initial import initialise

Shortcut = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A: every second pixel, the missing channels zero, half of them on each side."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.before = (channels_out - channels_in) // 2
        self.after = channels_out - channels_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H/2, W/2)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 and shortcut == "A":
            self.shortcut = PadShortcut(channels_in, channels_out)
        elif stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H/stride, W/stride)."""
        # In place: about 6 % of a training step on a CPU, where memory traffic counts.
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class CifarResNet(nn.Module):
    """Stem, three stages of `blocks` basic blocks, global average pool, one linear layer."""

    def __init__(self, blocks: int, widths: Sequence[int], shortcut: Shortcut, num_classes: int) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _stage(first, first, blocks, 1, shortcut)
        self.layer2 = _stage(first, second, blocks, 2, shortcut)
        self.layer3 = _stage(second, third, blocks, 2, shortcut)
        self.linear = nn.Linear(third, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def _stage(
    channels_in: int, channels_out: int, blocks: int, stride: int, shortcut: Shortcut
) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride, shortcut)
    return nn.Sequential(
        first, *(BasicBlock(channels_out, channels_out, 1, shortcut) for _ in range(blocks - 1))
    )


def _resnet(
    blocks: int,
    num_classes: int = 10,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "A",
) -> CifarResNet:
    return CifarResNet(blocks, widths, shortcut, num_classes)


resnet20 = partial(_resnet, 3)
resnet32 = partial(_resnet, 5)
resnet44 = partial(_resnet, 7)
resnet56 = partial(_resnet, 9)
resnet32_wide = partial(_resnet, 5, widths=(32, 64, 128), shortcut="B")
