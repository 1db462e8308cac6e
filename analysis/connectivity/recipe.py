"""Which curve, and how its bend is trained. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from landscape.checks.arguments import number, whole
from landscape.errors import UserError

Curve = Literal["linear", "bezier"]
_WHOLE = {"steps": 0, "batch_size": 1, "seed": 0}  # and their least
_LARGEST = 1e30  # well within float32


@dataclass(frozen=True)
class Training:
    """How a bend is trained.

    Attributes
    ----------
    steps
        SGD steps, each at one t and on one batch. 0 leaves the bend half-way on the straight line.
    batch_size
        Examples in a step; batches that were given stay as they are.
    lr, momentum, weight_decay
        Of SGD; the learning rate falls to 0 as a cosine.
    seed
        Of the order of the examples and of every t.
    """

    steps: int = 1000
    batch_size: int = 128
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0

    def check(self, name: Callable[[str], str] = str) -> Training:
        """Refuse what can't work.

        Parameters
        ----------
        name
            What messages call a field.

        Returns
        -------
        Training
            The same in Python's own numbers, which JSON can hold.

        Raises
        ------
        UserError
            Naming the field, what came and what is expected.
        """
        counts = {one: whole(name(one), getattr(self, one), -(2**63)) for one in _WHOLE}
        rates: dict[str, Any] = {
            one: _plain(name(one), getattr(self, one)) for one in ("lr", "momentum", "weight_decay")
        }
        for field, least in _WHOLE.items():
            if counts[field] < least:
                raise UserError(f"{name(field)} {getattr(self, field)}: expected at least {least}")
        if not 0 < self.lr <= _LARGEST:
            raise UserError(f"{name('lr')} {self.lr}: expected a positive number, at most {_LARGEST:g}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"{name('momentum')} {self.momentum}: expected a number from 0 to below 1")
        if not 0 <= self.weight_decay <= _LARGEST:
            raise UserError(
                f"{name('weight_decay')} {self.weight_decay}: expected a number from 0 to {_LARGEST:g}"
            )
        return Training(**counts, **rates)


def _plain(name: str, value: Any) -> float:
    found = number(name, value)
    return value if type(value) is int else found  # as earlier files have it
