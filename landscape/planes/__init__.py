"""Which plane through weight space: a description, turned into directions for a given network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from landscape.errors import UserError
from landscape.planes.directions import (
    Normalization,
    Params,
    apply_mask,
    check_directions,
    direction_between,
    given_direction,
    normalize,
    random_direction,
)
from landscape.surface import FloatArray


class PlaneSpec(Protocol):
    """What `compute_surface` needs of a plane; a new kind of plane is one more class with these three.

    One that shows other networks, too, has them as `path` (`landscape.surface.Path2D`).
    """

    def directions(
        self, params: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None, dim: int
    ) -> list[Params]:
        """One direction per axis."""
        ...

    def axis(self, index: int, points: int, span: float) -> FloatArray:
        """Coordinates along axis `index`, ascending."""
        ...

    def about(self) -> dict[str, Any]:
        """What the surface file says about it; JSON types only."""
        ...


@dataclass(frozen=True)
class RandomPlane:
    """Seeded Gaussian directions, normalized (Li et al. 2018) and kept inside the mask.

    Only kept weights count for their length, also where the others aren't zero: a mask of the caller's own,
    or `torch.nn.utils.prune`, which multiplies by its mask at every call.

    Attributes
    ----------
    seed
        Same seed, same directions, on every platform and device.
    normalize
        "filter", "layer", "weight" or "none".
    skip_vectors
        Zero directions for biases and norm layers.
    """

    seed: int = 0
    normalize: Normalization = "filter"
    skip_vectors: bool = True

    def directions(
        self, params: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None, dim: int
    ) -> list[Params]:
        """Masked first and normalized afterwards, so that filter norms equal those of the kept weights."""
        return [
            _normalized(
                random_direction(params, self.seed, axis),
                params,
                mask,
                self.normalize,
                skip_vectors=self.skip_vectors,
            )
            for axis in range(dim)
        ]

    def axis(self, index: int, points: int, span: float) -> FloatArray:
        """From −span to span."""
        return symmetric_axis(points, span)

    def about(self) -> dict[str, Any]:
        """Kind, seed and normalization."""
        return {
            "kind": "random",
            "seed": int(self.seed),
            "normalize": self.normalize,
            "skip_vectors": self.skip_vectors,
        }


@dataclass(frozen=True)
class BetweenPlane:
    """Towards other networks: α = 1 is `other`; β = 1 is `third`, or β a random direction without one.

    Attributes
    ----------
    other, third
        Parameters of the other networks, keyed as this one's.
    names
        How to call them in the file and on figures.
    seed, normalize
        For the random second axis only; the way to another network is never rescaled.
    """

    other: Mapping[str, Tensor]
    third: Mapping[str, Tensor] | None = None
    names: tuple[str, ...] = ("other", "third")
    seed: int = 0
    normalize: Normalization = "filter"

    def directions(
        self, params: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None, dim: int
    ) -> list[Params]:
        """Differences of weights. They aren't masked: the other network may keep other weights."""
        check_directions([one for one in (self.other, self.third) if one is not None])
        found = [direction_between(params, self.other)]
        if dim == 2 and self.third is not None:
            found.append(direction_between(params, self.third))
        elif dim == 2:
            found += RandomPlane(self.seed, self.normalize).directions(params, mask, 2)[1:]
        return found

    def axis(self, index: int, points: int, span: float) -> FloatArray:
        """Towards a network from about −span/2 to 1 + span/2 with 0 and 1 on the grid; else symmetric."""
        if index == 1 and self.third is None:
            return symmetric_axis(points, span)
        return network_axis(points, span)

    def about(self) -> dict[str, Any]:
        """Kind and the networks' names."""
        about: dict[str, Any] = {"kind": "between", "alpha_to": self.names[0], "mask": "none"}
        if self.third is not None:
            return about | {"beta_to": self.names[1], "normalize": "none"}
        return about | {"seed": int(self.seed), "normalize": f"none (β: {self.normalize})"}


@dataclass(frozen=True)
class GivenPlane:
    """Directions of the caller's own: Hessian eigenvectors, a trajectory's principal components, anything.

    Attributes
    ----------
    given
        One mapping per axis; parameters that it doesn't name stay where they are.
    normalize
        "none" by default: a given direction is taken at its own length.
    """

    given: Sequence[Mapping[str, Tensor]]
    normalize: Normalization = "none"
    label: str = "given"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def directions(
        self, params: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None, dim: int
    ) -> list[Params]:
        """The given tensors, masked like any other direction."""
        check_directions(self.given)
        if len(self.given) < dim:
            raise UserError(f"{len(self.given)} direction(s) given, {dim} needed; give more or use --dim 1")
        chosen = [given_direction(params, one) for one in self.given[:dim]]
        return [_normalized(one, params, mask, self.normalize, skip_vectors=False) for one in chosen]

    def axis(self, index: int, points: int, span: float) -> FloatArray:
        """From −span to span."""
        return symmetric_axis(points, span)

    def about(self) -> dict[str, Any]:
        """Kind, label and normalization."""
        return {"kind": "given", "label": self.label, "normalize": self.normalize, **self.extra}


def _normalized(
    direction: Params,
    params: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None,
    how: Normalization,
    *,
    skip_vectors: bool,
) -> Params:
    """A direction inside the mask, with the scale of the weights that the mask keeps."""
    weights = apply_mask({name: value.detach().cpu() for name, value in params.items()}, mask)
    return normalize(apply_mask(direction, mask), weights, how, skip_vectors=skip_vectors)


def symmetric_axis(points: int, span: float) -> FloatArray:
    """`points` coordinates from −span to span; exactly symmetric, exactly 0 in the middle when odd."""
    half = np.arange(points, dtype=np.float64) - (points - 1) / 2
    return half * (2 * span / (points - 1)) if points > 1 else np.zeros(1)


def network_axis(points: int, span: float) -> FloatArray:
    """About −span/2 to 1 + span/2, with 0 and 1 on the grid where there are at least two points."""
    if points < 2:
        return np.zeros(1)
    between = max(1, round((points - 1) / (1 + span)))
    before = (points - 1 - between) // 2
    return (np.arange(points, dtype=np.float64) - before) / between
