"""How many weights each layer keeps at a given overall sparsity, exactly.

Uniform; uniform+ (Gale et al., "The State of Sparsity", 2019); Erdős–Rényi (Mocanu et al. 2018) and
Erdős–Rényi-kernel (Evci et al., "Rigging the Lottery", 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Literal

from landscape.errors import UserError
from training.masks import Layer

Shapes = Mapping[str, tuple[int, ...]]
Distribution = Literal["uniform", "uniform+", "er", "erk"]

_LAST_DENSITY = 0.2  # of the classifier, in uniform+


def layer_counts(
    shapes: Shapes, sparsity: float, distribution: Distribution, dense: Collection[Layer] = ()
) -> dict[str, int]:
    """Kept weights of each layer; their sum is exactly ``round((1 - sparsity) * total)``.

    Parameters
    ----------
    shapes
        Weight shapes by name, (out, in, kernel…), first layer first, classifier last.
    sparsity
        Pruned share of all these weights, in [0, 1).
    distribution
        A key of :data:`DENSITIES`.
    dense
        Which of the network's layers aren't among these: without its "first" or "last", uniform+ has no rule
        for it.

    Raises
    ------
    UserError
        When sparsity is outside [0, 1), or the distribution can't reach it.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"sparsity {sparsity}: expected a pruned share of at least 0 and below 1")
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if distribution == "uniform+":
        densities = _uniform_plus(shapes, 1 - sparsity, dense)
    else:
        densities = DENSITIES[distribution](shapes, 1 - sparsity)
    return _round_exactly(densities, sizes, 1 - sparsity)


def _round_exactly(
    densities: Mapping[str, float], sizes: Mapping[str, int], density: float
) -> dict[str, int]:
    """Round down, then give the missing weights to the largest remainders, earlier layers first."""
    ideal = {name: densities[name] * size for name, size in sizes.items()}
    counts = {name: min(math.floor(value), sizes[name]) for name, value in ideal.items()}
    missing = round(density * sum(sizes.values())) - sum(counts.values())
    # Rounding to 9 digits makes ties ties on every platform; sorted() is stable, so the order decides them.
    by_remainder = sorted(sizes, key=lambda name: -round(ideal[name] - counts[name], 9))
    for name in [name for name in by_remainder if counts[name] < sizes[name]][: max(missing, 0)]:
        counts[name] += 1
    return counts


def _uniform(shapes: Shapes, density: float) -> dict[str, float]:
    return dict.fromkeys(shapes, density)


def _uniform_plus(shapes: Shapes, density: float, dense: Collection[Layer] = ()) -> dict[str, float]:
    """First layer dense, classifier at least 20 %, the others share what is left.

    What is `dense` of these two anyway isn't among `shapes`, and no other layer takes its place.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    fixed = {} if "first" in dense else {next(iter(sizes)): 1.0}
    fixed |= {} if "last" in dense else {list(sizes)[-1]: max(_LAST_DENSITY, density)}
    spent = sum(fixed[name] * sizes[name] for name in fixed)
    room = sum(size for name, size in sizes.items() if name not in fixed)
    left = density * sum(sizes.values()) - spent
    if left < 0 or not room:
        which = " and ".join(one for one in ("first", "last") if one not in dense)
        raise UserError(
            f"uniform+ keeps {spent:.0f} weights in the {which} layer, more than the "
            f"{density * sum(sizes.values()):.0f} that are to stay; choose a lower sparsity"
        )
    return {name: fixed.get(name, left / room) for name in sizes}


def _er(shapes: Shapes, density: float) -> dict[str, float]:
    raw = {name: sum(shape[:2]) / math.prod(shape[:2]) for name, shape in shapes.items()}
    return _scaled(raw, shapes, density)


def _erk(shapes: Shapes, density: float) -> dict[str, float]:
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    return _scaled(raw, shapes, density)


def _scaled(raw: Mapping[str, float], shapes: Shapes, density: float) -> dict[str, float]:
    """ε·raw, with ε such that the total is right; layers that would exceed 1 are made dense first.

    Each round fixes only the layers that attain the present maximum, as the method's authors do.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    dense: set[str] = set()
    while len(dense) < len(sizes):
        free = [name for name in sizes if name not in dense]
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        epsilon = budget / sum(raw[name] * sizes[name] for name in free)
        largest = max(raw[name] for name in free)
        if epsilon * largest <= 1:
            return {name: 1.0 if name in dense else epsilon * raw[name] for name in sizes}
        dense |= {name for name in free if raw[name] == largest}
    return dict.fromkeys(sizes, 1.0)


DENSITIES: dict[str, Callable[[Shapes, float], dict[str, float]]] = {
    "uniform": _uniform,
    "uniform+": _uniform_plus,
    "er": _er,
    "erk": _erk,
}
"""Densities of the layers, by distribution; their size-weighted mean is the density asked for."""
