"""Largest eigenvalue of ``D H D`` for a diagonal D, with its residual."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.hessian.lanczos import Eigenpairs, eigenpairs
from analysis.hessian.operator import HessianOperator
from analysis.sharpness.objective import Objective
from landscape.errors import UserError

# Residual as a share of the eigenvalue, whose own error is about its square.
TOLERANCE = {"float32": 1e-4, "float64": 1e-6}
MAX_PRODUCTS = 500
EXPECTED_PRODUCTS = 40  # for the progress bar alone


def top_pair(objective: Objective, scale: Tensor | None, seed: int) -> Eigenpairs:
    """The algebraically largest eigenpair; `scale` is D's diagonal, ``[n]``, None for the identity.

    Raises
    ------
    UserError
        When products with the Hessian aren't finite.
    """
    matrix = _Scaled(objective, hessian_of(objective), scale)
    tolerance = TOLERANCE[objective.dtype]
    return eigenpairs(matrix, 1, 0, tolerance=tolerance, max_products=MAX_PRODUCTS, seed=seed)[0]


@dataclass
class _Scaled:
    """``D H D``, counting its passes."""

    objective: Objective
    hessian: HessianOperator
    scale: Tensor | None
    products: int = 0

    def __post_init__(self) -> None:
        self.torch_device, self.torch_dtype = self.hessian.torch_device, self.hessian.torch_dtype

    @property
    def size(self) -> int:
        return self.objective.size

    def multiply(self, vectors: Tensor) -> Tensor:
        count = vectors.numel() // self.size
        self.products += count
        self.objective.count(4 * count)
        if self.scale is None:
            product = self.hessian.multiply(vectors)
        else:
            scale = self.scale.reshape(-1, *[1] * (vectors.dim() - 1)).to(vectors)
            product = scale * self.hessian.multiply(scale * vectors)
        if not torch.isfinite(product).all():
            raise UserError("a product with the Hessian isn't finite; try --dtype float64")
        return product


def hessian_of(objective: Objective) -> HessianOperator:
    """Built once per objective: its graphs serve every measure."""
    if "hessian" not in objective.remembered:
        objective.evaluate()  # the weights back to the centre
        objective.remembered["hessian"] = HessianOperator(
            objective.module,
            objective.examples,
            loss=objective.loss,
            mask=objective.mask,
            params=objective.space.names,
            batch_size=objective.batch_size,
            device=str(objective.device),
            dtype=objective.dtype,
        )
    operator: HessianOperator = objective.remembered["hessian"]
    return operator
