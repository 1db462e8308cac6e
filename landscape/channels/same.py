"""Whether a network without some channels computes what it computed with them.

Labels say what one trace shows. That a number in it is a layer's (``conv.out_channels``) shows beside a trace
of the smaller network. How many numbers chance draws is in neither, so both networks are evaluated, too.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from landscape.channels.follow import reason
from landscape.channels.walk import describe
from landscape.engine.tracing import trace
from landscape.errors import UserError

_LEAST = 1e-6  # of the largest output: deep networks make more of float64's rounding than its square root
_PROBES = 8  # images: a network may give the same for several, whatever it computes before


def require_same(model: nn.Module, small: nn.Module, images: Tensor) -> None:
    """Compare two networks in evaluation mode: their calls, and outputs for images and random ones.

    In float64, or as the network is where it can't be computed so; chance starts alike in both.

    Raises
    ------
    UserError
        When a call differs, or an output by more than rounding; when none is finite; when the network fails.
    """
    what, rest = f"this {type(model).__name__}", "without the channels that nothing reads"
    chance = torch.Generator().manual_seed(0)
    more = (torch.randn(images.shape, generator=chance) for _ in range(max(1, _PROBES // len(images))))
    probes = [images, *more]
    exact, expected = True, _tried(model, probes, exact=True)
    if isinstance(expected, str):
        exact, expected = False, _tried(model, probes, exact=False)
    if isinstance(expected, str):
        raise UserError(f"{what} can't be evaluated: {expected}; give an image that it takes")
    if not any(isinstance(one, Tensor) and bool(one.isfinite().any()) for one in expected):
        raise UserError(
            f"no output of {what} is finite, so nothing shows whether it is the same {rest}; "
            "use the network as it is"
        )
    dtype = torch.float64 if exact else _first(model, images).dtype
    wrong = _other_calls(model, small) or _apart(expected, _tried(small, probes, exact=exact), dtype)
    if wrong:
        raise UserError(
            f"{what} {rest} {wrong}: its forward depends on how many channels there are, or on chance, or "
            "such channels aren't finite; change that, or use the network as it is"
        )


def _other_calls(model: nn.Module, small: nn.Module) -> str:
    """The first call that the smaller network makes otherwise; empty where there is none."""
    expected = _calls(model)
    try:
        found = _calls(small)
    except Exception as error:  # whatever a network's own code raises when it is traced
        return f"fails ({reason(error)})"
    for one, other in itertools.zip_longest(expected, found, fillvalue="nothing"):
        if one != other:
            return f"calls {other:.100} instead of {one:.100}"
    return ""


def _calls(model: nn.Module) -> list[str]:
    traced = trace(copy.deepcopy(model).eval())
    return [f"{describe(one, traced)}{one.args}{one.kwargs or ''}" for one in traced.graph.nodes]


@torch.no_grad()
def _tried(model: nn.Module, probes: Sequence[Tensor], *, exact: bool) -> list[Any] | str:
    """All that a network returns, or why it returns nothing."""
    try:
        copied = copy.deepcopy(model).eval()
        first = _first(copied.double() if exact else copied, probes[0])
        gpus, seed = range(torch.cuda.device_count()), torch.manual_seed
        if not first.is_cuda:  # whose seed would be set for GPUs as well
            gpus, seed = range(0), torch.default_generator.manual_seed
        with torch.random.fork_rng(gpus):
            seed(0)
            return [leaf for one in probes for leaf in _leaves(copied(one.to(first)))]
    except Exception as error:  # whatever a network's own code raises
        return reason(error)


def _first(model: nn.Module, image: Tensor) -> Tensor:
    """A tensor of the device and the format in which a network computes."""
    return next((one for one in model.parameters() if one.is_floating_point()), image.float())


def _leaves(outputs: Any) -> Iterator[Any]:
    for leaf in pytree.tree_leaves(outputs):
        if is_dataclass(leaf):
            yield from _leaves(vars(leaf))
        else:
            yield leaf


def _apart(expected: Sequence[Any], found: Sequence[Any] | str, dtype: torch.dtype) -> str:
    """In which way outputs differ; empty where they don't."""
    if isinstance(found, str):
        return f"fails ({found})"
    if len(expected) != len(found):
        return f"has {len(found)} outputs, not {len(expected)}"
    for one, other in zip(expected, found, strict=True):
        if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape:
            eps = [torch.finfo(kind).eps for kind in (dtype, one.dtype) if kind.is_floating_point]
            difference = _relative(one, other)
            if difference > max(_LEAST, max(eps) ** 0.5):
                return f"differs by {difference:.3g} of its outputs"
        elif isinstance(one, Tensor) or isinstance(other, Tensor) or one != other:
            return f"returns {_said(other)}, not {_said(one)}"
    return ""


def _said(output: Any) -> str:
    return f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"{output!r:.40}"


def _relative(expected: Tensor, found: Tensor) -> float:
    """Largest difference relative to the largest value; entries that are equally not finite agree."""
    finite = expected.isfinite()
    if not torch.equal(finite, found.isfinite()):
        return float("inf")
    wide = torch.promote_types(expected.dtype, torch.float64)
    one, other = expected[finite].to(wide), found[finite].to(wide)
    if torch.equal(one, other):
        return 0.0
    return float((one - other).abs().max() / one.abs().max().clamp_min(torch.finfo(torch.float64).tiny))
