"""What a GPU makes of float32, and which algorithms it may take: one context for all who compute on it.

PyTorch has two ways to say whether products and convolutions of float32 may run in TF32: `allow_tf32` (with
`torch.set_float32_matmul_precision`), and `fp32_precision`, set for everything or for one kind of operation.
Whoever mixed them can't read the older one any more (it raises), and an older "no" follows what is set for
everything. So here the newer one is written for each kind, where there is one, and wins; the older one is
brought in line where it can be read, since PyTorch's own contexts read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

_INHERITED = "none"  # as what is set for everything


@contextmanager
def gpu_numerics(tf32: bool) -> Iterator[None]:
    """TF32 only where asked for, and cuDNN's deterministic algorithms, not chosen by timing.

    Without that a resumed run wouldn't end with the same bits. The caller's settings return afterwards, by
    whichever way they were set.
    """
    cudnn = torch.backends.cudnn
    chosen = cudnn.benchmark, cudnn.deterministic
    old_products, old_convolutions = _old_settings()
    places = places_of(torch.backends.cuda, "matmul") + places_of(cudnn, "conv", "rnn")
    new = own_precisions(places)
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        if old_products is not None:
            torch.backends.cuda.matmul.allow_tf32 = tf32
        if old_convolutions is not None:
            cudnn.allow_tf32 = tf32
        for place in places:
            place.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = chosen
        if old_products is not None:
            torch.set_float32_matmul_precision(old_products)
        if old_convolutions is not None:
            cudnn.allow_tf32 = old_convolutions
        for place, was in zip(places, new, strict=True):
            place.fp32_precision = was


def places_of(backend: Any, *kinds: str) -> list[Any]:
    """Where a backend's precision is set by kind of operation; older PyTorch has none of these."""
    found = [getattr(backend, kind, None) for kind in kinds]
    return [one for one in found if _has_precision(one)]


def own_precisions(places: Sequence[Any]) -> list[str]:
    """What was set at each place itself; "none" where it takes what is set for everything."""
    both: tuple[Any, Any] = torch.backends, torch.backends.cudnn
    above = [one for one in both if _has_precision(one)]
    before = []
    try:
        for one in above:
            before.append(one.fp32_precision)
            one.fp32_precision = _INHERITED
        return [one.fp32_precision for one in places]
    finally:
        for one, was in zip(above, before, strict=False):
            one.fp32_precision = was


def _has_precision(place: Any) -> bool:
    try:
        return hasattr(place, "fp32_precision")
    except RuntimeError:  # an older PyTorch asks for a name that it doesn't know
        return False


def _old_settings() -> tuple[str | None, bool | None]:
    """The older settings of products and of convolutions; None where they can't be read."""
    products, convolutions = None, None
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolutions = torch.backends.cudnn.allow_tf32
    return products, convolutions
