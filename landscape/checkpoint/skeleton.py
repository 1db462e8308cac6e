"""Architectures without memory for their weights, to compare a file with before anything large is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checkpoint.fit import Fit, check_fit, compare, load_into
from landscape.checkpoint.models import Architecture, describe
from landscape.errors import UserError


def shapes_of(architecture: Architecture, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The ``state_dict`` of an architecture, its tensors on the device meta: names and shapes without values.

    A user's own factory may do anything with its fresh weights, so it is built as it is.

    Raises
    ------
    UserError
        As `Architecture.build`.
    """
    if architecture.kind == "factory":
        return architecture.build(arguments).state_dict()
    try:
        with torch.device("meta"):
            return architecture.build(arguments).state_dict()
    except UserError:
        if architecture.kind == "known":
            raise
        return architecture.build(arguments).state_dict()  # some of the libraries' models look at values


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
        wanted = shapes_of(architecture, arguments)
        check_fit(compare(tensors, wanted), wanted, what=what, source=source)
    module = architecture.build(arguments)
    return module, load_into(module, tensors, what=what, source=source, extra=extra)
