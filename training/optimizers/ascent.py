"""The direction in which the loss rises."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from landscape.errors import UserError
from training.optimizers.flat import divide_, joint_norm, normalize_

Adaptive = Literal["none", "asam", "official"]


@torch.no_grad()
def ascent(gradients: list[Tensor], weights: list[Tensor], adaptive: Adaptive) -> list[Tensor]:
    """Where the loss rises most, to first order; all 0 where the gradient's norm is 0 or isn't finite.

    "none": ``g / ‖g‖`` (Foret et al., "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", 2021, eq. 2 with p = 2); overwrites `gradients`. "asam": ``w² g / ‖w g‖`` (Kwon et al.,
    "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks", 2021,
    with the element-wise operator). "official": ``g³ / ‖w g‖``, what S2-SAM's released code does when it is
    asked to be adaptive; `weights` are then those at which the gradient was taken, and the length depends
    on that of the gradient. Of a complex weight the absolute value counts.

    Raises
    ------
    UserError
        With "official", for complex weights, of which it says nothing.
    """
    if not gradients:
        return []
    if adaptive == "none":
        normalize_(gradients)
        return gradients
    if any(weight.is_complex() for weight in weights):
        if adaptive == "official":
            raise UserError("adaptive 'official': not defined for complex weights; choose 'none' or 'asam'")
        weights = [weight.abs() if weight.is_complex() else weight for weight in weights]
    scaled = list(torch._foreach_mul(gradients, weights))
    if adaptive == "asam":
        normalize_(scaled)
        torch._foreach_mul_(scaled, weights)
        return scaled
    length = joint_norm(scaled)
    cubes = list(torch._foreach_pow(gradients, 3))
    divide_(cubes, length)
    return cubes
