"""Which architecture a bag of named tensors belongs to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from landscape.checkpoint.fit import Fit, compare
from landscape.checkpoint.models import (
    Architecture,
    Architectures,
    describe,
    find_architecture,
    torchvision_model,
)
from landscape.checkpoint.skeleton import shapes_of
from landscape.checkpoint.state import head_classes, short_names
from landscape.errors import UserError
from landscape.factories import accepted

_RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
_VGGS = tuple(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))


@dataclass(frozen=True)
class Candidate:
    """An architecture with the arguments that the tensors suggest, and how the tensors fit it."""

    architecture: Architecture
    arguments: dict[str, Any]
    fit: Fit

    @property
    def text(self) -> str:
        """The model as ``--model`` takes it."""
        return describe(self.architecture.name, self.arguments)


def recognize(
    tensors: Mapping[str, Tensor], architectures: Architectures, *, source: object, hint: str | None = None
) -> tuple[Candidate, str]:
    """Find the one known architecture that has exactly these names and shapes.

    Parameters
    ----------
    tensors
        Weights by name, as in the file.
    architectures
        The caller's own, by name; torchvision's ResNets and VGGs are tried after them.
    source
        The file's path for messages.
    hint
        The architecture's name as the file gives it; believed only where it fits.

    Returns
    -------
    Candidate and str
        The architecture, and why.

    Raises
    ------
    UserError
        When none or several fit; names them and ``--model``.
    """
    tried: list[Candidate] = []
    if hint is not None and (named := _named(hint, tensors, architectures)) is not None:
        tried.append(named)
        if named.fit.exact:
            return named, "named in the file"
    tried += _candidates(tensors, _own(architectures))
    exact = _distinct([one for one in tried if one.fit.exact])
    if not exact:
        for one in _candidates(tensors, _torchvision(tensors)):
            tried.append(one)
            if one.fit.exact:  # no two of them have the same names and shapes
                exact = [one]
                break
    if len(exact) == 1:
        return exact[0], f"recognised from the names and shapes of {len(tensors)} tensors"
    raise UserError(f"{source}: {_unknown(tried, exact)}; name it with --model ({_CHOICES})")


_CHOICES = "a known name, torchvision:NAME, timm:NAME or package.module:factory"


def suggested_arguments(architecture: Architecture, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Those constructor arguments that shapes give away, where the factory takes them.

    ``num_classes`` for anyone's factory; for the caller's own architectures also ``widths`` (channels of the
    stages ``layer1``, ``layer2``, …) and ``shortcut`` (He et al. 2016: "B" has weights, "A" none).
    """
    suggestions: dict[str, Any] = {"num_classes": head_classes(tensors, guess=True)}
    if architecture.kind == "known":
        names = {short: name for name, short in short_names(tensors).items()}
        stages = sorted(name for name in names if re.fullmatch(r"layer\d+\.0\.conv1\.weight", name))
        suggestions["widths"] = [int(tensors[names[name]].shape[0]) for name in stages] or None
        projected = any(part in ("shortcut", "downsample") for name in names for part in name.split("."))
        suggestions["shortcut"] = "B" if projected else "A"
    found = {name: value for name, value in suggestions.items() if value is not None}
    return accepted(architecture.factory, found)


def _named(hint: str, tensors: Mapping[str, Tensor], architectures: Architectures) -> Candidate | None:
    """The candidate that the file names, where that is a known name; never a module to import."""
    for spec in (hint, f"torchvision:{hint}"):
        if spec in architectures or spec.startswith("torchvision:"):
            try:
                architecture, _ = find_architecture(spec, architectures)
            except UserError:
                continue
            return next(_candidates(tensors, iter([architecture])), None)
    return None


def _own(architectures: Architectures) -> Iterator[Architecture]:
    for name, factory in architectures.items():
        yield Architecture(name, factory, "known")


def _torchvision(tensors: Mapping[str, Tensor]) -> Iterator[Architecture]:
    names = set(short_names(tensors).values())
    family = _RESNETS if "layer4.0.conv1.weight" in names else _VGGS if "classifier.6.weight" in names else ()
    for name in family:
        yield Architecture(f"torchvision:{name}", torchvision_model(name), "library")


def _candidates(tensors: Mapping[str, Tensor], architectures: Iterator[Architecture]) -> Iterator[Candidate]:
    for architecture in architectures:
        arguments = suggested_arguments(architecture, tensors)
        try:
            shapes = shapes_of(architecture, arguments, tensors)
        except UserError:  # the suggested arguments make no network, say two widths for three stages
            continue
        yield Candidate(architecture, arguments, compare(tensors, shapes))


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """One candidate for each different network: two names may mean the same call."""
    by_call: dict[str, Candidate] = {}
    for one in sorted(candidates, key=_surprises):
        by_call.setdefault(_call(one.architecture.factory, one.arguments), one)
    return list(by_call.values())


def _surprises(candidate: Candidate) -> int:
    """Number of arguments other than the architecture's own defaults."""
    parameters = inspect.signature(candidate.architecture.factory).parameters
    return sum(
        _plain(parameters[name].default) != _plain(value) for name, value in candidate.arguments.items()
    )


def _call(factory: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> str:
    """The underlying function and all its arguments, written out."""
    positional: tuple[Any, ...] = ()
    named = dict(arguments)
    while isinstance(factory, partial):
        positional, named = factory.args + positional, factory.keywords | named
        factory = factory.func
    bound = inspect.signature(factory).bind(*positional, **named)
    bound.apply_defaults()
    return f"{factory.__module__}.{factory.__qualname__} {_plain(dict(sorted(bound.arguments.items())))}"


def _plain(value: Any) -> str:
    return repr(value).replace("(", "[").replace(")", "]")


def _unknown(tried: list[Candidate], exact: list[Candidate]) -> str:
    if exact:
        return f"its weights fit several models: {', '.join(one.text for one in exact)}"
    if not tried:
        return "its model is not named and can't be told from its weights"
    names = ", ".join(dict.fromkeys(one.architecture.name for one in tried))
    nearest = min(tried, key=lambda one: one.fit.differences)
    close = nearest.fit.differences < len(nearest.fit.names)
    hint = f"; nearest is {nearest.text}: {nearest.fit.summary}" if close else ""
    return f"its weights fit none of {names}{hint}"
