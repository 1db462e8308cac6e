"""Models by ``--model``'s text: ``NAME``, ``torchvision:NAME``, ``timm:NAME``, ``package.module:factory``."""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from landscape.errors import UserError
from landscape.factories import accepts, call_factory, import_factory

Architectures = Mapping[str, Callable[..., nn.Module]]

TORCHVISIONS = {
    name: f"torchvision:{name}" for name in ("resnet34", "resnet50", "mobilenet_v2", "efficientnet_b0")
}
"""Networks of torchvision's that go by a name of their own, as those of the sparse-training papers do."""

_OTHER_FILES = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""Arguments of timm's that make it read files or addresses; a checkpoint may have arguments, too."""

_LONGEST = 110  # characters of an argument in a message


@dataclass(frozen=True)
class Architecture:
    """A name and the callable that builds it.

    ``known``: from the caller's own table. ``library``: torchvision's or timm's. ``factory``: anyone's code.
    """

    name: str
    factory: Callable[..., nn.Module]
    kind: Literal["known", "library", "factory"]

    def build(self, arguments: Mapping[str, Any]) -> nn.Module:
        """Build the module; its weights are to be overwritten. torch's global generator is left as it was.

        Raises
        ------
        UserError
            When the factory fails, lacks an argument, or returns something else than a module.
        """
        unknown = [name for name in arguments if self.kind == "known" and not accepts(self.factory, name)]
        if unknown:
            raise UserError(f"model {self.name} takes no argument {unknown[0]!r}")
        # A stranger's factory may compute with its fresh weights; the others' are never looked at.
        drawing = nullcontext() if self.kind == "factory" else _Undrawn()
        with torch.random.fork_rng(devices=[]), drawing:
            model = call_factory(f"model {self.name}", self.factory, **arguments)
        if not isinstance(model, nn.Module):
            raise UserError(f"model {self.name}: got a {type(model).__name__}, expected a torch.nn.Module")
        return model


class _Undrawn(TorchFunctionMode):
    """Leaves out the drawing of fresh parameters, nine tenths of the time of building a VGG."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        target = args[0] if args else named.get("tensor")
        if isinstance(target, nn.Parameter) and func.__name__.endswith(("normal_", "uniform_")):
            return target
        return func(*args, **named)


def find_architecture(spec: str, architectures: Architectures) -> tuple[Architecture, dict[str, Any]]:
    """Architecture and arguments that a ``--model`` text names.

    Raises
    ------
    UserError
        When the name is unknown (with the nearest known one), a library is missing, or the arguments
        aren't literals.
    """
    name, arguments = parse_model(spec)
    name = name if name in architectures else TORCHVISIONS.get(name, name)
    library, _, entry = name.partition(":")
    if name in architectures:
        return Architecture(name, architectures[name], "known"), arguments
    if library in _LIBRARIES and entry:
        return Architecture(name, _LIBRARIES[library](entry), "library"), arguments
    if entry:
        return Architecture(name, import_factory(name), "factory"), arguments
    near = difflib.get_close_matches(name.lower().replace("-", ""), architectures, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    known = ", ".join(
        [*architectures, *TORCHVISIONS, "torchvision:NAME", "timm:NAME", "package.module:factory"]
    )
    raise UserError(f"unknown model {name!r}{hint}; known: {known}")


def parse_model(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME(argument=value, …)``; values are Python literals, bare words are strings.

    >>> parse_model("resnet20(widths=[16, 32, 64], shortcut=B)")
    ('resnet20', {'widths': [16, 32, 64], 'shortcut': 'B'})

    Raises
    ------
    UserError
        When the text isn't of this form.
    """
    name, bracket, rest = spec.strip().partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"model({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("arguments need names")
        names = [keyword.arg for keyword in call.keywords]
        if None in names or len(set(names)) < len(names):
            raise ValueError("each argument needs a name of its own")
        return name.strip(), {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # the latter where it is nested
        raise UserError(
            f"--model {spec[:_LONGEST]!r} can't be read ({error}); expected NAME or NAME(argument=value, …)"
        ) from error


def _literal(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def describe(name: str, arguments: Mapping[str, Any]) -> str:
    """``NAME(argument=value, …)`` as a person writes it; a value of more than a line is only hinted at.

    >>> describe("resnet20", {"num_classes": 10, "shortcut": "A"})
    'resnet20(num_classes=10, shortcut=A)'
    """
    texts = {key: value if isinstance(value, str) else repr(value) for key, value in arguments.items()}
    inside = ", ".join(
        f"{key}={text if len(text) <= _LONGEST else f'{text[0]}…{text[-1]}'}" for key, text in texts.items()
    )
    return f"{name}({inside})" if inside else name


def torchvision_model(name: str) -> Callable[..., nn.Module]:
    """Factory of an image classifier of torchvision, without pretrained weights.

    Raises
    ------
    UserError
        When torchvision has no such model.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean torchvision:{near[0]}?" if near else ""
        raise UserError(f"torchvision has no image classifier {name!r}{hint}")

    def factory(*, num_classes: int = 1000, **arguments: Any) -> nn.Module:
        with warnings.catch_warnings():
            # GoogLeNet and Inception warn about their slow initialization, which is overwritten anyway.
            warnings.filterwarnings(
                "ignore", message=".*default weight initialization", category=FutureWarning
            )
            model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **arguments)
            return model

    return factory


def timm_model(name: str) -> Callable[..., nn.Module]:
    """Factory of a model of timm, without pretrained weights.

    Raises
    ------
    UserError
        When timm isn't installed or has no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(f"timm:{name} needs timm, which isn't installed; pip install timm") from error
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"; did you mean timm:{near[0]}?" if near else ""
        raise UserError(f"timm has no model {name!r}{hint}")

    def factory(*, num_classes: int | None = None, **arguments: Any) -> nn.Module:
        if others := [one for one in _OTHER_FILES if one in arguments]:
            raise UserError(f"model timm:{name}: {others[0]} names another file; leave it out")
        classes: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        model: nn.Module = timm.create_model(name, **(classes | arguments | {"pretrained": False}))
        return model

    return factory


_LIBRARIES: dict[str, Callable[[str], Callable[..., nn.Module]]] = {
    "torchvision": torchvision_model,
    "timm": timm_model,
}
