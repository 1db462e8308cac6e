"""The 19 corruptions at the size and with the constants of CIFAR-10-C and CIFAR-100-C: 32×32 pixels.

Written from the definitions of Hendrycks and Dietterich (ICLR 2019, section 4.1 and appendix B) and the
constants that are published with CIFAR-10-C, which are milder than ImageNet-C's. One file per group; one line
here adds one. Needs numpy, scipy and Pillow.
"""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import RandomState

from analysis.robustness.cifar import blur, digital, noise, weather
from analysis.robustness.cifar.imaging import Pixels
from analysis.robustness.cifar.liquid import spatter

SIZE = 32

Corrupt = Callable[[Pixels, int, RandomState], Pixels]

CIFAR: dict[str, Corrupt] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": spatter,
    "saturate": digital.saturate,
}
"""By name: from pixels ``(32, 32, 3)`` in 0..1, severity 1 to 5 and draws to such pixels, or beyond 0..1."""

DEVIATIONS: dict[str, str] = {
    "motion_blur": "ImageMagick's motion blur by its formula, in floating point, not by ImageMagick",
    "snow": "ImageMagick's motion blur by its formula, in floating point, not by ImageMagick",
    "elastic_transform": "bilinear at exact places, which OpenCV of the time rounded to 1/32 of a pixel",
    "spatter": "exact distances to the edges, which OpenCV approximates; no liquid leaves the image as it is",
}
"""What of a corruption isn't as CIFAR-10-C was made; frost's depends on what is installed, see `weather`."""
