"""What can be said of a function, an object or a batch, so that two of them can be told apart.

A description is a mapping from places ("closure 'scale'", "forward") to short texts. It has the code that is
run (instructions, not lines: comments and formatting don't count), what the code refers to (closures,
defaults, globals, arguments of partials, attributes that it reads), and the numbers in all of these. Code
that was installed, Python's own and ours are named, not described. Nothing in it depends on memory addresses,
file names or the order of sets.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import hashlib
import logging
import os
import re
import sys
import sysconfig
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.provenance import digest

Description = dict[str, str]

_MOST = 50_000  # places in one description; what lies beyond is left to the numbers themselves
_PASSES = 5  # code names what it reads, which may be code that names more
_OWN = ("landscape", "training", "analysis", "figures")
_STANDARD = os.path.normcase(sysconfig.get_paths()["stdlib"]) + os.sep
_NAMED = ("re", "decimal", "fractions", "datetime", "pathlib", "uuid")  # their repr says all
_NOT_RUN = {"__init__", "__new__", "__repr__", "__str__", "__init_subclass__", "__class_getitem__"}
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")
_MODULE_PARTS = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def describe(**values: Any) -> Description:
    """All that tells each of the values from others, by place; the first part of a place is the value's name.

    Modules are described without their registered parameters and buffers where they are a value themselves,
    with them where something refers to them.
    """
    return _walked(values).found


def _walked(values: Mapping[str, Any]) -> _Walk:
    names: set[str] = set()
    state: set[str] = set()
    tensors: dict[int, tuple[Tensor, str]] = {}
    for _ in range(_PASSES):
        walk = _Walk(names, state, tensors)
        for name, value in values.items():
            walk.add(name, value, network=isinstance(value, nn.Module))
        if walk.names <= names:
            break
        names, state = names | walk.names, state | walk.state
    return walk


def describe_data(value: Any) -> Description:
    """All that tells data (batches of any structure) from others: every attribute of every object in it."""
    walk = _Walk(set(), set(), {}, everything=True)
    walk.add("data", value)
    return walk.found


def sets_state(function: Any) -> bool:
    """Whether the code of a function, or code that it refers to, sets attributes or globals."""
    walk = _Walk(set(), set(), {})
    walk.add("function", function)
    return bool(walk.state)


def reached(kinds: tuple[type, ...], **values: Any) -> dict[str, Any]:
    """Objects of these kinds that the values refer to, by place."""
    return {place: one for one, place in _walked(values)._seen.values() if isinstance(one, kinds)}


def summary(description: Mapping[str, str]) -> str:
    """Short SHA-256 of a description."""
    sha = hashlib.sha256()
    for place in sorted(description):
        sha.update(f"{place}\0{description[place]}\n".encode("utf-8", "surrogatepass"))
    return sha.hexdigest()[:16]


def is_library(module: str | None) -> bool:
    """Whether a module is Python's, installed, or ours; the rest is the user's own code."""
    if module is None or module.partition(".")[0] in (*_OWN, "builtins"):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.builtin_module_names or module in sys.stdlib_module_names
    path = os.path.normcase(os.path.abspath(file))
    return "site-packages" in path or "dist-packages" in path or path.startswith(_STANDARD)


@dataclass
class _Walk:
    """One way through everything that values refer to.

    Attributes
    ----------
    wanted, kept
        Names that the code reads, and attributes that it sets, as far as earlier passes saw.
    tensors
        Digests of tensors by identity, which several passes share.
    everything
        Whether attributes count that no code reads, and however many there are.
    found
        The description so far.
    names
        Names that the code of this pass reads.
    state
        Names of attributes that this code sets: what is kept between calls is no part of a function.
    """

    wanted: set[str]
    kept: set[str]
    tensors: dict[int, tuple[Tensor, str]]
    everything: bool = False
    found: Description = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    state: set[str] = field(default_factory=set)
    _seen: dict[int, tuple[Any, str]] = field(default_factory=dict)

    def add(self, place: str, value: Any, *, network: bool = False) -> None:
        """Describe `value` at `place`; what was described before is referred to."""
        if len(self.found) >= _MOST and not self.everything:
            return
        plain = _plain(value)
        if plain is not None:
            self.found[place] = plain
        elif isinstance(value, Tensor):
            self.found[place] = self._tensor(value)
        elif id(value) in self._seen:
            self.found[place] = f"as {self._seen[id(value)][1]}"
        else:
            self._seen[id(value)] = (value, place)
            self._compound(place, value, network)

    def _compound(self, place: str, value: Any, network: bool) -> None:
        if isinstance(value, np.ndarray | np.generic):
            self._array(place, np.asarray(value))
        elif isinstance(value, types.MethodType):
            self.add(f"{place}.function", value.__func__)
            self.add(f"{place}.self", value.__self__)
        elif isinstance(value, types.FunctionType):
            self._function(place, value)
        elif isinstance(value, functools.partial):
            for part in ("func", "args", "keywords"):
                self.add(f"{place}.{part}", getattr(value, part))
        elif isinstance(value, type):
            self._class(place, value)
        elif isinstance(value, nn.Module):
            self._module(place, value, network)
        elif isinstance(value, tuple | list) or type(value).__name__ == "deque":
            self._items(place, value, dict(enumerate(value)))
        elif isinstance(value, set | frozenset):
            self.found[place] = type(value).__name__
            self._items(place, value, dict(enumerate(sorted(value, key=lambda one: str(_plain(one))))))
        elif isinstance(value, Mapping):
            self._items(place, value, {str(key): one for key, one in value.items()})
        else:
            self._object(place, value)

    def _items(self, place: str, value: Any, items: Mapping[Any, Any]) -> None:
        self.found[place] = f"{type(value).__name__} of {len(items)}"
        for key, one in items.items():
            self.add(f"{place}[{key}]", one)

    def _tensor(self, value: Tensor) -> str:
        known = self.tensors.get(id(value))
        if known is None:
            known = self.tensors[id(value)] = (value, _tensor_text(value))
        return known[1]

    def _array(self, place: str, value: np.ndarray[Any, Any]) -> None:
        if value.dtype.hasobject:
            self._items(place, value, dict(enumerate(value.ravel().tolist())))
            return
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        self.found[place] = f"array {value.dtype} {value.shape} {content}"

    def _function(self, place: str, value: types.FunctionType) -> None:
        if is_library(value.__module__) and is_library(value.__globals__.get("__name__")):
            self.found[place] = f"function {value.__module__}.{value.__qualname__}"
        else:
            self.found[place] = "function"
            self._code(place, value.__code__, value.__globals__)
        self.add(f"{place}.defaults", value.__defaults__)
        self.add(f"{place}.defaults by name", value.__kwdefaults__)
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                self.add(f"{place}.closure {name!r}", cell.cell_contents)
            except ValueError:  # not filled yet
                self.found[f"{place}.closure {name!r}"] = "empty"

    def _code(self, place: str, code: types.CodeType, names: Mapping[str, Any]) -> None:
        steps, inner = [], 0
        for step in dis.get_instructions(code):
            given = step.argval
            if isinstance(given, types.CodeType):
                inner += 1
                self._code(f"{place}.inner {inner}", given, names)
                given = "code"
            elif step.opname in _LOADS and given in names:
                self._global(f"{place}.global {given!r}", names[given], code.co_names)
            if step.opname in ("STORE_ATTR", "STORE_GLOBAL"):
                self.state.add(str(given))
            elif isinstance(given, str):
                self.names.add(given)
            steps.append(f"{step.opname} {_constant(given)}")
        self.found[f"{place}.code"] = hashlib.sha256("\n".join(steps).encode("utf-8", "replace")).hexdigest()

    def _global(self, place: str, value: Any, read: Sequence[str]) -> None:
        if not isinstance(value, types.ModuleType):
            self.add(place, value)
            return
        self.found[place] = f"module {value.__name__}"
        if not is_library(value.__name__):
            for name in read:
                if name in vars(value):
                    self.add(f"{place}.{name}", vars(value)[name])

    def _class(self, place: str, value: type) -> None:
        self.found[place] = f"class {value.__module__}.{value.__qualname__}"
        if issubclass(value, enum.Enum):
            return
        for base in value.__mro__:
            if is_library(base.__module__):
                continue
            for name, one in sorted(vars(base).items()):
                special = name.startswith("__") and callable(one) and name not in _NOT_RUN
                if special or name == "forward" or (name in self.wanted and not name.startswith("__")):
                    self._member(f"{place}.{base.__name__}.{name}", one)

    def _member(self, place: str, value: Any) -> None:
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        if isinstance(value, property):
            value = value.fget
        self.add(place, getattr(value, "func", value) if type(value).__name__ == "cached_property" else value)

    def _object(self, place: str, value: Any) -> None:
        kind = type(value)
        self.add(f"{place}.class", kind)
        self.found[place] = f"{kind.__module__}.{kind.__qualname__}"
        if kind.__module__.partition(".")[0] in _NAMED or isinstance(value, torch.dtype | torch.device):
            self.found[place] = repr(value)
            return
        if isinstance(value, logging.Logger):
            return
        held = {name: getattr(value, name) for name in _slots(kind) if hasattr(value, name)}
        held |= getattr(value, "__dict__", {})
        options = kind.__name__ in ("Namespace", "SimpleNamespace")
        whole = self.everything or (is_library(kind.__module__) and not options)
        for name in sorted(held, key=str):
            if whole or self._is_read(name):
                self.add(f"{place}.{name}", held[name])

    def _module(self, place: str, value: nn.Module, network: bool) -> None:
        inner = getattr(value, "_orig_mod", None)  # torch.compile's wrapper
        if isinstance(inner, nn.Module):
            self.add(f"{place}._orig_mod", inner, network=network)
            return
        if isinstance(value, torch.jit.ScriptModule):
            self._script(place, value, network)
            return
        self.add(f"{place}.class", type(value))
        for hooks in _HOOKS:
            for number, hook in enumerate(vars(value)[hooks].values()):
                self._hook(f"{place}.{hooks}[{number}]", hook)
        own = not is_library(type(value).__module__)
        plain = type(value).__module__.startswith("torch.nn.")  # others' may hold caches
        for name, one in sorted(vars(value).items()):
            if name in _MODULE_PARTS:
                continue
            if (own and self._is_read(name)) or (plain and _plain(one) is not None):
                self.add(f"{place}.{name}", one)
        if not network:
            for name, tensor in [*value._parameters.items(), *value._buffers.items()]:
                self.add(f"{place}.{name}", tensor)
        for name, child in value._modules.items():
            self.add(f"{place}.{name}", child, network=network)

    def _is_read(self, name: str) -> bool:
        """Whether the code reads an attribute of this name, and never sets it."""
        return name in self.wanted and name not in self.kept

    def _script(self, place: str, value: torch.jit.ScriptModule, network: bool) -> None:
        for name, one in value.named_modules():
            code = getattr(one, "code", "") if isinstance(one, torch.jit.ScriptModule) else ""
            self.found[f"{place}.{name}"] = hashlib.sha256(str(code).encode()).hexdigest()[:16]
        if not network:
            self.found[f"{place}.state"] = digest(
                {name: one for name, one in value.state_dict().items() if isinstance(one, Tensor)}
            )

    def _hook(self, place: str, hook: Any) -> None:
        """Its code alone: what it fills (a list of activations, say) is no part of the network."""
        function = getattr(hook, "__func__", getattr(hook, "func", hook))
        if isinstance(function, types.FunctionType) and not is_library(function.__module__):
            self._code(place, function.__code__, {})
        else:
            self.found[place] = type(hook).__qualname__


def _plain(value: Any) -> str | None:
    """Values that a text says wholly, or None."""
    if value is None or isinstance(value, bool | int | float | complex | bytes) or value is Ellipsis:
        return repr(value) if not isinstance(value, enum.Enum) else f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, str):
        return (
            f"{value!r}" if len(value) < 200 else hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()
        )
    if isinstance(value, torch.dtype | torch.device | torch.Size | slice | range | re.Pattern):
        return repr(value)
    if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType):
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType) or owner is builtins:
            return f"builtin {value.__module__ if hasattr(value, '__module__') else ''}.{value.__qualname__}"
        return f"builtin {value.__qualname__}"
    return None


def _constant(value: Any) -> str:
    """An instruction's argument, without addresses."""
    if isinstance(value, frozenset):
        return f"frozenset {sorted(map(repr, value))}"
    return repr(value) if _plain(value) is not None or isinstance(value, tuple) else type(value).__name__


def _tensor_text(value: Tensor) -> str:
    kind = f"tensor {value.dtype} {tuple(value.shape)}"
    try:
        return f"{kind} {digest({'': value.to_dense() if value.layout != torch.strided else value})}"
    except (RuntimeError, NotImplementedError, TypeError):  # on no device, nested, quantized, lazy …
        return kind


def _slots(kind: type) -> list[str]:
    found: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else [one for one in slots if isinstance(one, str)]
    return [one for one in found if not one.startswith("__")]
