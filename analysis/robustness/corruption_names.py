"""The corruptions of Hendrycks and Dietterich (ICLR 2019), by name. Needs neither torch nor numpy.

The names are those of the files of CIFAR-10-C and CIFAR-100-C and of the folders of ImageNet-C.
"""

from __future__ import annotations

from collections.abc import Sequence

from landscape.errors import UserError

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
"""The 15 of the benchmark, in the paper's groups."""

BENCHMARK: tuple[str, ...] = tuple(name for group in GROUPS.values() for name in group)
"""The 15 over which the mean corruption error is taken."""

EXTRA: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four more that are meant for validation; they don't enter the mean corruption error."""

CORRUPTIONS: tuple[str, ...] = BENCHMARK + EXTRA

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)


def check_corruptions(names: Sequence[str]) -> tuple[str, ...]:
    """Each once, in the order of `CORRUPTIONS`.

    Raises
    ------
    UserError
        Naming the word that is none, and those that there are.

    >>> check_corruptions(["fog", "snow", "fog"])
    ('snow', 'fog')
    """
    for name in names:
        if name not in CORRUPTIONS:
            raise UserError(f"unknown corruption {name!r}; expected one of {', '.join(CORRUPTIONS)}")
    return tuple(name for name in CORRUPTIONS if name in names)
