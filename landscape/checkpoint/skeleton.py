"""Architectures without memory for their weights, to compare a file with before anything large is made."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registry
from torch.overrides import TorchFunctionMode

from landscape.checkpoint.fit import Fit, check_fit, compare, load_into
from landscape.checkpoint.models import Architecture, describe
from landscape.errors import UserError

MOST_PARTS = 10_000
PARTS_PER_TENSOR = 20
"""Modules and parameters that a network may have, and more for each tensor of its file: arguments of a few
bytes ask for billions of layers. torchvision's largest has 2,306."""


def shapes_of(
    architecture: Architecture, arguments: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The ``state_dict`` of an architecture, its tensors on the device meta: names and shapes without values.

    A user's own factory may do anything with its fresh weights, so it is built as it is.

    Parameters
    ----------
    architecture, arguments
        What is built.
    tensors
        Of the file that it is for: one of far more parts isn't built to its end.

    Raises
    ------
    UserError
        As `Architecture.build`, and for far too many parts.
    """
    if architecture.kind == "factory":
        return architecture.build(arguments).state_dict()
    with _parts_at_most(MOST_PARTS + PARTS_PER_TENSOR * len(tensors), describe(architecture.name, arguments)):
        try:
            with torch.device("meta"):
                return architecture.build(arguments).state_dict()
        except UserError:
            if architecture.kind == "known":
                raise
        try:
            with _OwnValues():  # some of the libraries' models compute their widths
                return architecture.build(arguments).state_dict()
        except UserError:
            if architecture.name.startswith("torchvision:"):  # which a file may name
                raise
        return architecture.build(arguments).state_dict()


class _OwnValues(TorchFunctionMode):
    """Puts a network's parameters and buffers on the device meta, but no numbers that it computes with."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        fresh = func in (torch.empty, torch.zeros, torch.ones)
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if fresh else {})})


@contextmanager
def _parts_at_most(most: int, what: str) -> Iterator[None]:
    """Stop this thread's building of a network of more modules and parameters."""
    count, builder = 0, threading.get_ident()

    def counted(*_: Any) -> None:
        nonlocal count
        count += threading.get_ident() == builder
        if count > most and threading.get_ident() == builder:
            raise UserError(f"model {what} has more than {most:,} parts; expected about those of the file")

    hooks = (
        registry.register_module_module_registration_hook(counted),
        registry.register_module_parameter_registration_hook(counted),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def built(
    architecture: Architecture,
    arguments: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    source: object,
    extra: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, Fit]:
    """An architecture with a file's weights; nothing of its size is made unless the file has that size.

    Raises
    ------
    UserError
        As `Architecture.build` and `load_into`.
    """
    what = describe(architecture.name, arguments)
    if architecture.kind != "factory":
        wanted = shapes_of(architecture, arguments, tensors)
        check_fit(compare(tensors, wanted), wanted, what=what, source=source)
    module = architecture.build(arguments)
    return module, load_into(module, tensors, what=what, source=source, extra=extra)
