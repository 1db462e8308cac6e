"""VGG-19 for 32×32 images, as the sparse-training literature uses it.

After Simonyan and Zisserman, "Very Deep Convolutional Networks" (2015), configuration E: sixteen 3×3
convolutions, here without bias and with batch norm, four max-pools, a 2×2 average pool, one linear layer.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.models.initial import initialise

STAGES = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


class Vgg(nn.Module):
    """Convolution stages with a max-pool between two of them, and one linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number, stage in enumerate(STAGES):
            if number:
                layers.append(nn.MaxPool2d(2))
            for width in stage:
                conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, num_classes)."""
        x = F.avg_pool2d(self.features(x), 2)
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


def vgg19(num_classes: int = 10) -> Vgg:
    """VGG-19 with batch norm: 20,035,018 parameters for 10 classes."""
    return Vgg(num_classes)
