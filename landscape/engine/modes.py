"""Modes in which a caller may stand, and that would change numbers without a word, or are in the way.

A result says in which precision it was computed; a caller's autocast, or the precision that was set for
matrix products, would make that untrue, and differently so in threads, which don't inherit autocast. Tensors
that are made in inference mode can't be differentiated by. What a network or a loss sets itself stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from landscape.gpu_numerics import own_precisions, places_of

_KINDS = ("cpu", "cuda")


@contextmanager
def own_modes(device: torch.device | None = None) -> Iterator[None]:
    """Neither autocast nor inference mode, and products of float32 in float32 on a CPU; also as a decorator.

    The caller's settings return afterwards.

    Parameters
    ----------
    device
        Where tensors are made if nobody says where; None for the default, if that holds numbers.

    >>> with torch.autocast("cpu", torch.bfloat16), own_modes():
    ...     print((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    torch.float32
    """
    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():  # otherwise it would enable gradients
            modes.enter_context(torch.inference_mode(False))
        for kind in _KINDS:
            if torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        modes.enter_context(_full_precision())
        default = torch.get_default_device().type
        wanted = device or torch.device("cpu" if default == "meta" else default)
        if default != wanted.type:
            modes.enter_context(wanted)
        yield


@contextmanager
def _full_precision() -> Iterator[None]:
    places = places_of(torch.backends.mkldnn, "matmul", "conv", "rnn")
    places = [one for one in places if one.fp32_precision != "ieee"]
    before = own_precisions(places) if places else []
    try:
        for one in places:
            one.fp32_precision = "ieee"
        yield
    finally:
        for one, was in zip(places, before, strict=True):
            one.fp32_precision = was
