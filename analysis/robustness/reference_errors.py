"""By which network's errors a mean corruption error is divided.

For ImageNet-C the benchmark's own AlexNet. For CIFAR there is no such network: Hendrycks et al. ("AugMix",
ICLR 2020) divide by nothing and call the plain mean error mCE there; so do we unless a reference is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.robustness.corruption_names import BENCHMARK
from landscape.errors import UserError


@dataclass(frozen=True)
class Reference:
    """A network whose mean errors over the severities are known.

    Attributes
    ----------
    name
        As tables call it.
    errors
        By corruption, the 15 of the benchmark: fractions above 0.
    """

    name: str
    errors: Mapping[str, float]

    def __post_init__(self) -> None:
        """Refuse a reference without errors to divide by."""
        for one in BENCHMARK:
            error = self.errors.get(one)
            if error is None or not 0 < error <= 1:
                state = "isn't known" if error is None else f"is {error:g}"
                raise UserError(f"the reference {self.name} can't be divided by: its error on {one} {state}")


ALEXNET = Reference(
    "AlexNet (ImageNet-C's own)",
    {
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    },
)
"""Errors of AlexNet on ImageNet-C, as the benchmark's evaluations use them."""

UNNORMALIZED = Reference("none: plain mean error", dict.fromkeys(BENCHMARK, 1.0))
"""Divides by nothing: the mean corruption error is then 1 minus the mean accuracy."""


def usual_reference(imagenet: bool) -> Reference:
    """What is divided by where the user names nothing."""
    return ALEXNET if imagenet else UNNORMALIZED
