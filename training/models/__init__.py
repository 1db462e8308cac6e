"""Architectures by name: one line of the table each."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from landscape.checkpoint.models import TORCHVISIONS, torchvision_model
from landscape.errors import UserError
from training.models.cifar_resnet import resnet20, resnet32, resnet32_wide, resnet44, resnet56
from training.models.vgg import vgg19

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet32_wide": resnet32_wide,
    "vgg19": vgg19,
}


def full_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments completed by the architecture's defaults, as the checkpoint stores them.

    Raises
    ------
    UserError
        When the name is unknown or the architecture has no such argument.
    """
    known = {
        key: value.default
        for key, value in inspect.signature(factory(name)).parameters.items()
        if value.kind is not inspect.Parameter.VAR_KEYWORD
    }
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise UserError(f"{name} has no {', '.join(unknown)}; its arguments: {', '.join(known)}")
    full = known | dict(arguments)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in full.items()}


def build_model(name: str, **arguments: Any) -> nn.Module:
    """Build an architecture with fresh weights, drawn from torch's global generator.

    ``build_model("resnet20", num_classes=10, widths=(16, 32, 64), shortcut="A")``; see
    :func:`full_arguments` for the errors.
    """
    full = full_arguments(name, arguments)
    return factory(name)(**full)


def factory(name: str) -> Callable[..., nn.Module]:
    """What builds an architecture of ours, or ``torchvision:NAME``, with fresh weights.

    Raises
    ------
    UserError
        When the name is unknown.
    """
    name = TORCHVISIONS.get(name, name)
    library, _, entry = name.partition(":")
    if library == "torchvision" and entry:
        return torchvision_model(entry)
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    ours = [*ARCHITECTURES, *TORCHVISIONS]
    match = difflib.get_close_matches(name.lower().replace("-", ""), ours, n=1)
    hint = f" (did you mean {match[0]}?)" if match else ""
    raise UserError(f"unknown model {name!r}{hint}; known: {', '.join(ours)}, torchvision:NAME")
