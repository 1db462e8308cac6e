"""How many products trace and norm take, and whether they draw probes or widen the basis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.hessian.krylov import Krylov, SymmetricOperator, random_unit
from analysis.hessian.trace import (
    Estimate,
    Samples,
    frobenius_estimate,
    probes_needed,
    sample,
    trace_estimate,
)

_ROUND = 5  # products between two looks at what widening the basis brings


class Probing:
    """Samples on the complement of a basis that grows where that saves more probes than it costs.

    The first probes decide. Where they scatter too much, the basis goes on growing as long as each product
    saves more than one probe; the first probes are then projected anew, which costs no product. How deep to
    deflate is decided on the way, as in Persson, Cortinovis and Kressner, "Improved variants of the Hutch++
    algorithm for trace estimation", 2022.

    Parameters
    ----------
    operator, krylov
        The matrix, and the basis that the search for eigenvalues has left.
    first
        Probes that decide.
    tolerance
        Standard error of the trace to reach, as a share of it.
    most
        Probes and further basis vectors in all, beyond the first probes.
    seed
        Of the probes.

    Attributes
    ----------
    planned
        Probes in all, as far as is known.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        krylov: Krylov,
        *,
        first: int,
        tolerance: float,
        most: int,
        seed: int,
        capacity: int,
    ) -> None:
        self.operator, self.krylov = operator, krylov
        self.first, self.planned, self.widening = first, first, False
        self._tolerance, self._most, self._seed, self._capacity = tolerance, most, seed, capacity
        self._widened = 0
        self._vectors: list[Tensor] = []
        self._images: list[Tensor] = []
        self._later: list[tuple[float, float]] = []

    @property
    def drawn(self) -> int:
        """Probes so far."""
        return len(self._vectors) + len(self._later)

    @property
    def done(self) -> bool:
        """Whether trace and norm are as good as was asked for, or allowed."""
        return not self.widening and self.drawn >= self.planned

    def left(self) -> int:
        """Products that are still to come; an estimate while the basis grows."""
        if self.widening:
            return max(1, _ROUND - self._widened % _ROUND, (self.planned - self.first) // 2)
        return max(0, self.planned - self.drawn)

    def advance(self) -> None:
        """One product."""
        if self.widening:
            self.krylov.extend(self.operator)
            self._widened += 1
            if self._widened % _ROUND == 0 or not self._can_widen:
                self._look()
            return
        vector = random_unit(self.operator, self._seed, 2, self.drawn)
        image = self.operator.multiply(vector)
        if len(self._vectors) < self.first:
            self.take(vector, image)
        else:
            self._later.append(sample(self.krylov, vector, image))

    def take(self, vector: Tensor, image: Tensor) -> None:
        """One of the first probes, with its product; the last of them decides."""
        self._vectors.append(vector)
        self._images.append(image)
        if len(self._vectors) == self.first:
            self.planned = self._needed()
            self.widening = self.planned > self.first and self._can_widen

    def trace(self) -> Estimate:
        """With its error."""
        return trace_estimate(self.krylov, self.operator.size, self._samples(), self._stage)

    def frobenius(self) -> Estimate:
        """With its error."""
        return frobenius_estimate(self.krylov, self.operator.size, self._samples(), self._stage)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything but the basis, as arrays."""
        empty = torch.zeros(0, self.operator.size)
        return {
            "counts": np.array([self.planned, int(self.widening), self._widened]),
            "vectors": (torch.stack(self._vectors) if self._vectors else empty).cpu().numpy(),
            "images": (torch.stack(self._images) if self._images else empty).cpu().numpy(),
            "later": np.array(self._later, dtype=np.float64).reshape(-1, 2),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        planned, widening, widened = (int(one) for one in state["counts"])
        self.planned, self.widening, self._widened = planned, bool(widening), widened
        place = {"device": self.operator.torch_device, "dtype": self.operator.torch_dtype}
        self._vectors = [torch.tensor(one, **place) for one in state["vectors"]]  # type: ignore[arg-type]
        self._images = [torch.tensor(one, **place) for one in state["images"]]  # type: ignore[arg-type]
        self._later = [(float(one), float(other)) for one, other in state["later"]]

    @property
    def _stage(self) -> int:
        return min(self.first, self.drawn)

    @property
    def _can_widen(self) -> bool:
        return (
            self.krylov.next is not None
            and self.krylov.size < self._capacity
            and self._widened < self._most - self.first
        )

    def _look(self) -> None:
        """At the end of a round: go on only if it has saved more probes than it took products."""
        before, self.planned = self.planned, self._needed()
        saved = before - self.planned
        self.widening = self.planned > self.first and saved > _ROUND and self._can_widen

    def _needed(self) -> int:
        most = max(self.first, self._most - self._widened)
        return probes_needed(self.krylov, self.operator.size, self._samples(), self._tolerance, most)

    def _samples(self) -> Samples:
        pairs = zip(self._vectors, self._images, strict=True)
        found = [sample(self.krylov, vector, image) for vector, image in pairs] + self._later
        return Samples(*np.array(found, dtype=np.float64).reshape(-1, 2).T)
