"""Callables named on the command line as ``package.module:factory``, for models and data."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from landscape.errors import UserError
from sharpscape import PACKAGES


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Let modules of the current folder be imported, as ``python -m`` does; installed commands don't."""
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def import_factory(spec: str) -> Callable[..., Any]:
    """Import what ``package.module:name`` names (dots after the colon reach into classes).

    The module may be installed or lie in the current folder. Importing it runs its code.

    Raises
    ------
    UserError
        When the text isn't of this form, the module can't be found or imported, or holds no such callable.
    """
    module_name, _, attribute = spec.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise UserError(f"{spec!r} is no factory; expected package.module:factory, say mymodels.nets:small")
    target: Any = _import(module_name, spec)
    for name in attribute.split("."):
        if not hasattr(target, name):
            near = difflib.get_close_matches(name, dir(target), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{spec}: {module_name} has no {name!r}{hint}")
        target = getattr(target, name)
    if not callable(target):
        raise UserError(f"{spec} is a {type(target).__name__}; expected a function or class to call")
    return target  # type: ignore[no-any-return]


def call_factory(spec: str, factory: Callable[..., Any], *positional: Any, **arguments: Any) -> Any:
    """Call a user's factory; what goes wrong inside it becomes one line with its place.

    Raises
    ------
    UserError
        With the exception's kind, text, file and line.
    """
    try:
        return factory(*positional, **arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a script's main() says goodbye
        raise UserError(f"{spec} failed: {place_of(error)}") from error


def accepts(factory: Callable[..., Any], name: str) -> bool:
    """Whether a callable takes a keyword argument of this name explicitly (``**kwargs`` doesn't count)."""
    try:
        parameter = inspect.signature(factory).parameters.get(name)
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind in (
        parameter.POSITIONAL_OR_KEYWORD,
        parameter.KEYWORD_ONLY,
    )


def accepted(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `arguments` that the callable takes by name."""
    return {name: value for name, value in arguments.items() if accepts(factory, name)}


def _import(name: str, spec: str) -> Any:
    with current_folder_importable():
        importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                ours = f"; here {name.partition('.')[0]!r} is sharpscape's own package: rename yours"
                raise UserError(
                    f"{spec}: no module {name!r} is installed or in the current folder"
                    f"{ours if name.partition('.')[0] in PACKAGES else ''}"
                ) from error
            hint = "which isn't installed"
            if error.name is not None and error.name.partition(".")[0] in PACKAGES:
                hint = f"but here {error.name.partition('.')[0]!r} is sharpscape's own package: rename yours"
            raise UserError(f"{spec}: {name} needs the module {error.name!r}, {hint}") from error
        except (Exception, SystemExit) as error:
            raise UserError(f"{spec}: importing {name} failed: {place_of(error)}") from error


def place_of(error: BaseException) -> str:
    """Kind and text of an exception in one line, and where in the user's own code it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not _is_installed(one.filename)] or frames
    where = f" ({os.path.basename(own[-1].filename)}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def _is_installed(file: str) -> bool:
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    beside = ("landscape", "analysis", "training", "figures")
    inside = file.removeprefix(ours).split(os.sep)[0] if file.startswith(ours) else ""
    return "site-packages" in file or file.startswith(os.path.dirname(os.__file__)) or inside in beside
