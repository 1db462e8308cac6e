"""Whether a loss can be differentiated twice, and whether what comes out are its derivatives.

Automatic differentiation is taken at its word nowhere: torch lacks second derivatives of some operations, has
wrong ones of a few, and knows nothing of what was detached, rounded or replaced (straight-through) inside a
network. So before a spectrum, in float64 and on a few examples,

1. ``uᵀ H v = vᵀ H u`` for random u and v,
2. ``H v`` against a difference of gradients, parameter by parameter,
3. ``⟨∇L, v⟩`` against a difference of losses.

ReLU and maxima have kinks, where differences don't tell the derivative; several steps are tried, the
smallest of which crosses hardly any. One that agrees is enough. A sparse network may lie *on* kinks: a filter
without kept weights gives exactly its batch norm's bias, which never got a gradient and is still exactly 0,
where ReLU turns. So coordinates whose gradient is exactly 0 are left out of the vectors and looked at alone
(`wrong_where_flat`). That isn't enough where the bias has a gradient all the same, since a shortcut is added
to it, or where weight decay has left it almost 0. So what disagrees is looked at once more at weights beside
these (`beside`): kinks are elsewhere there, what is differentiated wrongly stays wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from analysis.hessian.shifted import Shifted
from analysis.hessian.space import WeightSpace
from landscape.engine import own_copy
from landscape.engine.failing import in_one_line
from landscape.errors import UserError

CHECKED = 4  # examples; what is wrong shows on one
STEPS = {torch.float64: (1e-6, 1e-8, 1e-4), torch.float32: (1e-2, 3e-3, 1e-3)}  # relative to the weights
AGREED = {torch.float64: 1e-3, torch.float32: 5e-2}  # relative difference; wrong derivatives are off by more
SYMMETRIC = {torch.float64: 1e-6, torch.float32: 1e-2}
HUGE = 1e30  # a gradient that float32 hardly holds: nothing is compared, and what overflows is said later
ROUNDINGS = 1e3  # by which sums in a network may be off
NEAR = 1e-3  # of a parameter's typical weight: far beyond the usual steps, and nothing to a smooth loss
_BESIDE = "the loss fails beside the weights, where derivatives are compared with differences"
SMALL = 1e-4  # share of a parameter's typical part below which it isn't judged alone


Products = Callable[[Tensor], Tensor]
"""``H V`` for ``[n, k]`` by automatic differentiation."""


class Differences:
    """Differences of loss and gradient along a vector ``[n]``, each computed once.

    Attributes
    ----------
    steps
        That are tried, the most telling first.
    """

    def __init__(self, shifted: Shifted, vector: Tensor) -> None:
        self.steps, self.vector, self._shifted = STEPS[vector.dtype], vector, shifted
        self._known: dict[float, tuple[float, float, Tensor, float]] = {}

    def along(self, step: float) -> tuple[float, float, Tensor, float]:
        """Slope of the loss and its noise; ``H v`` ``[n]`` and its noise."""
        if step not in self._known:
            (one, above, _), (two, below, _) = (
                self._shifted.mean(sign * step * self.vector) for sign in (1, -1)
            )
            noise = ROUNDINGS * float(torch.finfo(above.dtype).eps) / step
            size = float(torch.maximum(above.norm(), below.norm()))
            self._known[step] = (
                (one - two) / (2 * step),
                noise * max(abs(one), abs(two)),
                (above - below) / (2 * step),
                noise * size,
            )
        return self._known[step]


def wrong_gradient(gradient: Tensor, beside: Differences) -> str | None:
    """What is wrong with a gradient ``[n]`` of the mean loss, or None: it is compared along a vector."""
    vector = beside.vector
    slope, length = float(gradient @ vector), float(gradient.norm() * vector.norm())
    typical = max(abs(slope), length / len(vector) ** 0.5)
    for step in beside.steps:
        found, noise, _, _ = beside.along(step)
        if abs(found - slope) <= AGREED[vector.dtype] * typical + noise:
            return None
    found = beside.along(beside.steps[0])[0]
    return f"along a random direction it says {slope:.4g} where differences of the loss give {found:.4g}"


def wrong_where_flat(flat: Tensor, shifted: Shifted, vector: Tensor, space: WeightSpace) -> str | None:
    """What is wrong with a gradient of exactly 0, or None.

    Two one-sided slopes that are equal and not 0 belong to a smooth loss, whose gradient was lost on the
    way; two different ones to a kink, which has no gradient. Tensors without any gradient are looked at one
    by one.

    Parameters
    ----------
    flat
        Where the gradient is exactly 0, bool ``[n]``.
    vector
        Random, ``[n]``.
    """
    along = flat * vector
    if not bool(flat.any()) or _is_flat(along, shifted):
        return None
    parts = space.expand(along)
    for number, (name, one) in enumerate(zip(space.names, space.expand(flat.to(vector.dtype)), strict=True)):
        alone = [part * (place == number) for place, part in enumerate(parts)]
        if bool(one.all()) and _is_smooth(space.restrict(alone), shifted):
            return f"by {name!r} it is 0 where differences of the loss are not"
    if _is_smooth(along, shifted):
        return "it is 0 along a random direction along which differences of the loss are not"
    return None


def _slopes(vector: Tensor, shifted: Shifted) -> tuple[float, float, float]:
    """The loss's slopes forwards and backwards along a vector, and their noise."""
    step = STEPS[vector.dtype][0]
    middle, above, below = (shifted.mean(size * vector)[0] for size in (0.0, step, -step))
    size = max(abs(middle), abs(above), abs(below))
    noise = ROUNDINGS * float(torch.finfo(vector.dtype).eps) / step * size
    return (above - middle) / step, (middle - below) / step, noise


def _is_flat(vector: Tensor, shifted: Shifted) -> bool:
    forwards, backwards, noise = _slopes(vector, shifted)
    return max(abs(forwards), abs(backwards)) <= noise


def _is_smooth(vector: Tensor, shifted: Shifted) -> bool:
    """Whether the loss has a slope along it, and one only."""
    forwards, backwards, noise = _slopes(vector, shifted)
    size = max(abs(forwards), abs(backwards))
    return size > noise and abs(forwards - backwards) <= AGREED[vector.dtype] * size + noise


def wrong_products(
    products: Callable[[], Products], beside: Differences, space: WeightSpace, second: Tensor
) -> str | None:
    """What is wrong with products by automatic differentiation, or None."""
    first = beside.vector
    try:
        image, other = products()(torch.stack([first, second], 1)).unbind(1)
    except UserError:
        raise
    except Exception as error:  # torch's, where it has no second derivative, or a custom backward's own
        return str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
    sizes = float(first.norm() * other.norm() + second.norm() * image.norm()) / len(first) ** 0.5
    one, two = float(second @ image), float(first @ other)
    if not abs(one - two) <= SYMMETRIC[first.dtype] * max(sizes, abs(one) + abs(two)):
        return f"the product isn't symmetric: uᵀHv is {one:.4g} and vᵀHu {two:.4g}"
    if first.dtype != torch.float64:  # rounding and kinks leave nothing to compare
        return None
    return _wrong_image(image, beside, space)


def _wrong_image(image: Tensor, beside: Differences, space: WeightSpace) -> str | None:
    worst, said, vector = float("inf"), "", beside.vector
    for step in beside.steps:
        _, _, expected, noise = beside.along(step)
        off, name = _largest_difference(space, image, expected, noise)
        if off <= AGREED[vector.dtype]:
            return None
        if off < worst:
            worst = off
            found, known = float(vector @ image), float(vector @ expected)
            said = f"at {name!r} the product differs by {off:.1%} from a difference of gradients "
            said += f"(vᵀHv {found:.4g}, by differences {known:.4g})"
    return said


def _largest_difference(
    space: WeightSpace, image: Tensor, expected: Tensor, noise: float
) -> tuple[float, str]:
    """By parameter, relative to its size there, and the parameter's name."""
    typical = SMALL * max(float(image.norm()), float(expected.norm()))
    worst, where = 0.0, space.names[0]
    parts = zip(space.names, space.expand(image), space.expand(expected), strict=True)
    for name, found, known in parts:
        size = max(float(found.norm()), float(known.norm()), typical, 1e-300)
        off = max(0.0, float((found - known).norm()) - noise) / size
        if not off <= worst:
            worst, where = off, name
    return worst, where


def probes(space: WeightSpace, weights: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two random vectors ``[n]`` in the scale of the weights, parameter by parameter."""
    generator = torch.Generator().manual_seed(seed)
    whole = float(weights.norm()) / max(len(weights), 1) ** 0.5 or 1.0
    scales = [
        torch.full_like(one, max(float(one.norm()) / max(one.numel(), 1) ** 0.5, 0.1 * whole))
        for one in space.expand(weights)
    ]
    scale = space.restrict(scales)
    first, second = (
        space.without_padding(
            torch.randn(len(weights), generator=generator, dtype=torch.float64, device="cpu").to(weights)
            * scale
        )
        for _ in range(2)
    )
    return first, second


def beside(model: nn.Module, space: WeightSpace) -> nn.Module:
    """A copy whose weights are moved a little, all of them."""
    moved = own_copy(model)
    params = dict(moved.named_parameters())
    weights = space.restrict([params[name].detach() for name in space.names])
    shift, _ = probes(space, weights, seed=1)
    with torch.no_grad():
        for name, one in zip(space.names, space.expand(NEAR * shift), strict=True):
            params[name].add_(one)
    return moved


def off_kinks(check: Callable[[bool], str | None]) -> str | None:
    """What `check` finds wrong at the weights, unless it finds nothing at those `beside` them.

    Parameters
    ----------
    check
        Gives what is wrong, or raises UserError; at weights beside the others for True.
    """
    try:
        reason = check(False)
    except UserError as wrong:
        try:
            return check(True)
        except UserError:
            raise wrong from None
    if reason is not None:
        with suppress(UserError):
            return check(True)
    return reason


def checked_gradient(
    shifted: Callable[[torch.dtype], Shifted], space: WeightSpace, finite: bool = False
) -> tuple[Differences, Tensor] | None:
    """What was found beside the weights on few examples, in float64 where the network runs in it.

    Along the first of two vectors ``[n]``; and the second. None where the gradient isn't finite: that is said
    where all examples are seen, or with `finite` refused here.

    Raises
    ------
    UserError
        When the loss has no gradient, or one that isn't its own.
    """
    try:
        found = shifted(torch.float64)
        gradient = found.mean()[1]
    except UserError:
        raise
    except Exception:  # a network with a precision of its own inside
        with in_one_line("the loss gives no gradient by the weights"):
            found = shifted(torch.float32)
            gradient = found.mean()[1]
    if not float(gradient.abs().max()) < HUGE:
        if finite:
            raise UserError("the gradient isn't finite, so nothing can be compared")
        return None
    whole, other = probes(space, found.weights)
    flat = gradient == 0
    first, second = whole * ~flat, other * ~flat
    differences = Differences(found, first)
    with in_one_line(_BESIDE):
        wrong = wrong_gradient(gradient, differences) or wrong_where_flat(flat, found, whole, space)
    if wrong is not None:
        raise UserError(
            f"the gradient isn't that of the loss: {wrong}; something in the network is detached, rounded, "
            "replaced (straight-through) or differentiated wrongly, so nothing that needs derivatives can be "
            "computed"
        )
    return differences, second


def choose_derivatives(
    shifted: Callable[[torch.dtype], Shifted],
    products: Callable[[torch.dtype], Products],
    space: WeightSpace,
    finite: bool = False,
) -> str | None:
    """Why products must be differences of gradients; None where automatic differentiation is right.

    Parameters
    ----------
    shifted, products
        Make, in a precision and on few examples, loss and gradient beside the weights, and the products.
    space
        Of the vectors.
    finite
        As of `checked_gradient`.

    Raises
    ------
    UserError
        As `checked_gradient`; when products are wrong and differences would need float64, which the network
        doesn't run in.
    """
    found = checked_gradient(shifted, space, finite)
    if found is None:
        return None
    differences, second = found
    with in_one_line(_BESIDE):
        reason = wrong_products(lambda: products(second.dtype), differences, space, second)
    if reason is not None and second.dtype != torch.float64:
        raise UserError(
            f"no second derivatives: {reason}; differences of gradients would need float64, in which the "
            "network doesn't run"
        )
    return reason
