"""Largest eigenvalue of ``D H D`` for a diagonal D, with its residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from analysis.hessian.operator import HessianOperator
from analysis.sharpness.objective import Objective
from landscape.errors import UserError

FloatArray = npt.NDArray[np.float64]

TOLERANCE = 1e-4  # of the eigenvalue, asked of Lanczos
RESTARTS = 50
SMALL = 24  # unknowns up to which the matrix is formed
EXPECTED_PRODUCTS = 40  # for the progress bar alone


@dataclass(frozen=True)
class TopPair:
    """Eigenvalue λ, unit eigenvector v, residual ``‖DHDv − λv‖``, and whether Lanczos met its tolerance."""

    value: float
    vector: FloatArray
    residual: float
    converged: bool


def top_pair(objective: Objective, scale: FloatArray | None, seed: int) -> TopPair:
    """The algebraically largest eigenpair, by restarted Lanczos (scipy's ARPACK).

    Raises
    ------
    UserError
        When products with the Hessian aren't finite.
    """
    hessian = hessian_of(objective)
    size = objective.size
    factor = np.ones(size) if scale is None else scale

    def multiply(vector: FloatArray) -> FloatArray:
        objective.count(4)
        product = factor * np.asarray(hessian.matvec(factor * vector.reshape(-1)), dtype=np.float64)
        if not np.isfinite(product).all():
            raise UserError("a product with the Hessian isn't finite; try --dtype float64")
        return product

    start = np.random.default_rng(seed).standard_normal(size)
    if size <= SMALL:
        matrix = np.stack([multiply(one) for one in np.eye(size)], axis=1)
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return _pair(float(values[-1]), np.asarray(vectors[:, -1], np.float64), multiply, True)
    if not multiply(start).any():  # a Hessian of zeros, on which Lanczos can't start
        return TopPair(0.0, start / np.linalg.norm(start), 0.0, True)
    operator = LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=TOLERANCE, maxiter=RESTARTS)
        return _pair(float(values[0]), np.asarray(vectors[:, 0], np.float64), multiply, True)
    except ArpackNoConvergence as error:
        if len(error.eigenvalues):
            vector = np.asarray(error.eigenvectors[:, 0], np.float64)
            return _pair(float(error.eigenvalues[0]), vector, multiply, False)
        raise UserError(
            f"the largest eigenvalue didn't converge in {RESTARTS} restarts; try --dtype float64"
        ) from error


def _pair(
    value: float, vector: FloatArray, multiply: Callable[[FloatArray], FloatArray], converged: bool
) -> TopPair:
    return TopPair(value, vector, float(np.linalg.norm(multiply(vector) - value * vector)), converged)


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
