"""Pickles read without running them: what they would call is looked up in a table of our own functions.

The standard library decodes the instructions (`pickletools.genops`); carrying them out is ours, because both
readers at hand do too much: ``pickle`` imports and calls what a file names, ``torch.load(weights_only=True)``
calls torch's own constructors with whatever arguments a file gives, and neither has a bound. Here a global is
only a name; a call makes a plain value, a stand-in, or is refused; every step counts.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any, Protocol

from landscape.files.archives import UnreadableError

MOST_STEPS = 1_000_000  # instructions; a large model with its optimizer has some 100,000
MOST_VALUES = 1_000_000  # values that are reached from the whole, shared ones as often as they are reached
DEEPEST = 100  # containers in one another
LONGEST_INTEGER = 512  # bits; random generators store 128
MOST_TUPLE_KEYS = 10_000
_HASH_MODULUS = (1 << 61) - 1  # Python's for numbers: larger integers can be made to collide at will

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "UserDict": "collections"}


class Global:
    """A class or function that a file names; nothing is imported."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Opaque:
    """An object that a file describes and that isn't made: its class's name and its state."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: object = None


class Foreign(Opaque):
    """What an unknown class or function would have made."""

    __slots__ = ()


class Calls(Protocol):
    """What an interpreter needs to know about globals and storages."""

    def known(self, name: str) -> bool:
        """Whether a file may name this class or function."""

    def call(self, name: str, arguments: tuple[Any, ...]) -> object:
        """The value of a call; raises UnreadableError for arguments that don't fit."""

    def build(self, target: object, state: object) -> object:
        """Apply the state to what a call made; returns the target."""

    def persistent(self, identity: object) -> object:
        """What a reference out of the pickle stands for."""


def unpickle(file: IO[bytes], calls: Calls) -> tuple[object, list[str]]:
    """The plain value that the next pickle of a stream describes, and the unknown globals that it names.

    Where there are such, the value holds `Foreign` stand-ins and is of no use.

    Raises
    ------
    UnreadableError
        When the pickle is damaged, too large or too deep, and names no unknown global.
    """
    machine = _Machine(calls)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = machine.run(file)
        if not machine.foreign:
            check_tree(value)
        return value, machine.foreign
    except UnreadableError:
        if machine.foreign:
            return None, machine.foreign
        raise
    except (
        *(ValueError, TypeError, LookupError, EOFError, AttributeError, RuntimeError),
        *(OverflowError, MemoryError),
    ) as error:  # what malformed pickles raise here and in pickletools
        if machine.foreign:
            return None, machine.foreign
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UnreadableError(f"its pickle is malformed: {reason}") from error


_CONTAINERS = (dict, list, tuple, set, frozenset, Opaque)


def check_tree(value: object) -> None:
    """Refuse what can't be walked through: cycles, great depth, or parts shared so often that it never ends.

    Raises
    ------
    UnreadableError
        When more than `MOST_VALUES` values are reached, or one by way of more than `DEEPEST` containers.
    """
    count = 0
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, dict):
            inner: Any = one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            inner = one
        elif isinstance(one, Opaque):
            inner = (one.state,)
        else:
            continue
        if depth > DEEPEST:
            raise UnreadableError(
                f"its values are nested deeper than {DEEPEST} levels, or contain themselves"
            )
        count += len(inner)
        if count > MOST_VALUES:
            raise UnreadableError(f"it holds more than {MOST_VALUES:,} values, shared ones counted as often")
        waiting.extend((part, depth + 1) for part in inner if isinstance(part, _CONTAINERS))


class _Mark:
    __slots__ = ()


_MARK = _Mark()
_Step = Callable[["_Machine", Any], None]


class _Machine:
    """The stack and memo of one pickle."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.foreign: list[str] = []
        self.tuple_keys = 0

    def run(self, file: IO[bytes]) -> object:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= MOST_STEPS:
                raise UnreadableError(f"its pickle has more than {MOST_STEPS:,} instructions")
            if opcode.name == "STOP":
                return self.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise UnreadableError(f"its pickle has the instruction {opcode.name}, which isn't known here")
            step(self, argument)
        raise UnreadableError("its pickle breaks off")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise UnreadableError("its pickle is malformed: a value is missing")
        return value

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise UnreadableError("its pickle is malformed: a value is missing")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        items = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        items.reverse()
        return items

    def key(self, value: object) -> Any:
        """A dictionary's key or a set's member: plain, so that hashing and comparing it has an end."""
        if isinstance(value, tuple):
            self.tuple_keys += 1
            if self.tuple_keys > MOST_TUPLE_KEYS or len(value) > 16:
                raise UnreadableError("its pickle has keys that are long or many tuples")
            for part in value:
                self._plain_key(part)
        else:
            self._plain_key(value)
        return value

    @staticmethod
    def _plain_key(value: object) -> None:
        if isinstance(value, int) and abs(value) < _HASH_MODULUS:
            return
        if not isinstance(value, (str, bytes, float, type(None))):
            raise UnreadableError(
                f"its pickle has a key that is a {type(value).__name__}; expected text or a number"
            )

    def put_all(self, target: object, items: list[Any]) -> None:
        if isinstance(target, Opaque):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise UnreadableError("its pickle is malformed: entries for what is no dict")
        for place in range(0, len(items), 2):
            target[self.key(items[place])] = items[place + 1]

    def extend(self, target: object, items: list[Any]) -> None:
        if isinstance(target, Opaque):
            return
        if not isinstance(target, list):
            raise UnreadableError("its pickle is malformed: elements for what is no list")
        target.extend(items)

    def add(self, target: object, items: list[Any]) -> None:
        if not isinstance(target, set):
            raise UnreadableError("its pickle is malformed: members for what is no set")
        target.update(self.key(item) for item in items)

    def name(self, module: object, name: object) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnreadableError("its pickle is malformed: a global without a name")
        full = f"{_RENAMED.get(module, module)}.{name}"
        if not self.calls.known(full):
            self.foreign.append(f"{module}.{name}")
        return Global(full)

    def apply(self, function: object, arguments: object) -> object:
        if isinstance(function, Foreign) or (
            isinstance(function, Global) and not self.calls.known(function.name)
        ):
            return Foreign(function.name)
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise UnreadableError("its pickle is malformed: a call of what is no function")
        return self.calls.call(function.name, arguments)

    def build(self, state: object) -> None:
        target = self.top()
        if isinstance(target, Global):
            raise UnreadableError("its pickle is malformed: a state for a class")
        if isinstance(target, Foreign):
            return
        self.stack[-1] = self.calls.build(target, state)


def _drop(machine: _Machine, _: Any) -> None:
    machine.stack.pop()


def _drop_to_mark(machine: _Machine, _: Any) -> None:
    machine.pop_to_mark()


def _integer(machine: _Machine, value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > LONGEST_INTEGER:
        raise UnreadableError(f"its pickle has an integer of {value.bit_length()} bits")
    machine.stack.append(value)


def _text(machine: _Machine, value: Any) -> None:
    if isinstance(value, str):
        value.encode("utf-8")  # half of a surrogate pair can be neither printed nor stored
    machine.stack.append(value)


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _constant(make: Callable[[], object]) -> _Step:
    return lambda machine, _: machine.stack.append(make())


def _gather(make: Callable[[_Machine, list[Any]], object]) -> _Step:
    return lambda machine, _: machine.stack.append(make(machine, machine.pop_to_mark()))


def _last(count: int) -> _Step:
    def step(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return step


def _dict_of(machine: _Machine, items: list[Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    machine.put_all(made, items)
    return made


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put_all(machine.top(), [key, value])


def _set_items(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.put_all(machine.top(), items)


def _append(machine: _Machine, _: Any) -> None:
    item = machine.pop()
    machine.extend(machine.top(), [item])


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.extend(machine.top(), items)


def _add_items(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.add(machine.top(), items)


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    machine.stack.append(machine.name(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(machine.name(module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.stack.append(machine.apply(function, arguments))


def _new_with_names(machine: _Machine, _: Any) -> None:
    named, arguments, kind = machine.pop(), machine.pop(), machine.pop()
    if named and not isinstance(kind, Foreign):
        raise UnreadableError("its pickle has a call with named arguments")
    machine.stack.append(machine.apply(kind, arguments))


def _instance(machine: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    kind = machine.name(module, name)
    machine.stack.append(machine.apply(kind, tuple(machine.pop_to_mark())))


def _object(machine: _Machine, _: Any) -> None:
    kind, *arguments = machine.pop_to_mark()
    machine.stack.append(machine.apply(kind, tuple(arguments)))


def _get(machine: _Machine, index: Any) -> None:
    machine.stack.append(machine.memo[index])


def _put(machine: _Machine, index: Any) -> None:
    machine.memo[index] = machine.top()


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _frozen(machine: _Machine, items: list[Any]) -> frozenset[Any]:
    return frozenset(machine.key(item) for item in items)


_STEPS: Mapping[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2"), _integer),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _text),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_LIST": _constant(list),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_SET": _constant(set),
    "MARK": _constant(lambda: _MARK),
    "POP": _drop,
    "POP_MARK": _drop_to_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "LIST": _gather(lambda _, items: items),
    "TUPLE": _gather(lambda _, items: tuple(items)),
    "DICT": _gather(_dict_of),
    "FROZENSET": _gather(_frozen),
    "TUPLE1": _last(1),
    "TUPLE2": _last(2),
    "TUPLE3": _last(3),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _add_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_names,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": lambda machine, _: machine.build(machine.pop()),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": _memoize,
    "PERSID": lambda machine, identity: machine.stack.append(machine.calls.persistent(identity)),
    "BINPERSID": lambda machine, _: machine.stack.append(machine.calls.persistent(machine.pop())),
}
