"""The page's script: the modules of ``assets`` joined into one, which is all that the page may run.

A module is a file ``assets/NAME.js`` that names what it takes (``import { a, b } from "./other.js";``) and
what it gives (``export`` before a declaration); node and editors read it as it is. Here each becomes a
function that returns what it gives, in an order in which nothing is used before it is there.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(
    r"^export ((?:async )?(?:function|class) (\w+)|const (?:(\w+)|\[([^\]]*)\]))", re.MULTILINE
)


@cache
def asset(name: str) -> str:
    """The text of a file of the page."""
    return (ASSETS / name).read_text(encoding="utf-8")


@cache
def joined(entry: str) -> str:
    """One script of the module `entry` and all that it needs, each module once.

    Raises
    ------
    ValueError
        For modules that need each other in a circle, a name that its module doesn't give, and imports and
        exports of another form than those above.
    """
    order: dict[str, str] = {}
    _collect(entry, order, ())
    return '(() => {\n"use strict";\n' + "\n".join(order.values()) + "\n})();"


def _collect(name: str, order: dict[str, str], above: tuple[str, ...]) -> None:
    """Put a module behind those that it needs; `above` are those that wait for it."""
    if name in above:
        raise ValueError(f"modules in a circle: {' -> '.join((*above, name))}")
    if name in order:
        return
    text = asset(f"{name}.js")
    for names, other in _IMPORT.findall(text):
        _collect(other, order, (*above, name))
        missing = set(_names(names)) - set(_given(asset(f"{other}.js")))
        if missing:
            raise ValueError(f"{name}.js takes {sorted(missing)} from {other}.js, which gives no such")
    order[name] = _function(name, text)


def _function(name: str, text: str) -> str:
    body = _IMPORT.sub(lambda found: f"const {{{found[1]}}} = ${found[2]};", text)
    body = _EXPORT.sub(r"\1", body)
    if left := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
        raise ValueError(f"{name}.js: {left[0]!r}: expected import {{ … }} or export before a declaration")
    given = ", ".join(_given(text))
    return f"const ${name} = (() => {{\n{body}return {{ {given} }};\n}})();"


def _given(text: str) -> list[str]:
    """Names that a module exports."""
    return [name for found in _EXPORT.findall(text) for part in found[1:] for name in _names(part)]


def _names(text: str) -> list[str]:
    return re.findall(r"\w+", text)
