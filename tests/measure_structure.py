"""Measure how the code is laid out: ``python tests/measure_structure.py [ROOT]`` prints a table in Markdown.

Counted are the four packages and the front door, without tests. An import counts for circles wherever it
stands (inside functions too), except below ``if TYPE_CHECKING``, which never runs. A function's lines are
counted without its docstring.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PACKAGES = ("landscape", "analysis", "training", "figures")
COMMAND_LINE = re.compile(r"cyclopts|argparse|run_command|run_cyclopts")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Print the table."""
    root = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parents[1])
    files = {
        path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py")) if _counted(path, root)
    }
    lengths = {str(path.relative_to(root)): len(text.splitlines()) for path, text in files.items()}
    functions = {
        f"{path.relative_to(root)}:{one.name}": _length(one)
        for path, text in files.items()
        for one in ast.walk(ast.parse(text))
        if isinstance(one, Function)
    }
    circles = _circles(_imports(files, root))
    rows = {
        "files": len(files),
        "lines": sum(lengths.values()),
        "median file": f"{median(lengths.values()):.0f}",
        "largest file": _largest(lengths),
        "functions": len(functions),
        "median function": f"{median(functions.values()):.0f}",
        "largest function": _largest(functions),
        "circles, imports in functions counted": " + ".join(f"{len(one)} files" for one in circles) or "none",
        "file names that several files have": _repeated(files),
        "files that name `batch_size`": _naming(files, "batch_size"),
        "... of these outside the engine": _naming(files, "batch_size", but="engine"),
        "files that name `device`": _naming(files, "device"),
        "lines in files that make a command line": sum(
            len(text.splitlines()) for text in files.values() if COMMAND_LINE.search(text)
        ),
        "lines in files of commands, options, reports and tables": sum(
            count for name, count in lengths.items() if _role(Path(name))
        ),
    }
    print("| | |\n| --- | --- |")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    for one in circles:
        print(f"\ncircle: {', '.join(one)}")


def _counted(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    return parts[0] in PACKAGES or parts == ("sharpscape.py",)


def _role(path: Path) -> bool:
    words = set(re.split(r"[_/]", str(path.with_suffix(""))))
    named = {"command", "commandline", "options", "report", "table", "tables", "subject"} & words
    return bool(named and path.parts[0] in ("landscape", "analysis")) or path.name == "__main__.py"


def _length(node: Function) -> int:
    assert node.end_lineno is not None
    docstring = node.body[0] if ast.get_docstring(node) is not None else None
    own = node.end_lineno - node.lineno + 1
    return own - (docstring.end_lineno - docstring.lineno + 1 if docstring and docstring.end_lineno else 0)


def _largest(lengths: dict[str, int]) -> str:
    name = max(lengths, key=lambda one: lengths[one])
    return f"{lengths[name]} ({name})"


def _repeated(files: dict[Path, str]) -> str:
    names = [path.name for path in files if path.name not in ("__init__.py", "__main__.py")]
    several = {name: names.count(name) for name in sorted(set(names)) if names.count(name) > 1}
    return ", ".join(f"{name} × {count}" for name, count in several.items()) or "none"


def _naming(files: dict[Path, str], word: str, but: str | None = None) -> int:
    pattern = re.compile(rf"\b{word}\b")
    return sum(bool(pattern.search(text)) and but not in path.parts for path, text in files.items())


def _imports(files: dict[Path, str], root: Path) -> dict[str, set[str]]:
    """Imported modules by module."""
    modules = {}
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        for name in _imported(ast.parse(files[path])):
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target != module:
                graph.setdefault(module, set()).add(target)
    return graph


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from _imported(child)


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules that all reach each other, the largest first."""
    reach = {one: _reachable(graph, one) for one in graph}
    found = {
        tuple(sorted(other for other in reach[one] if one in reach.get(other, ())))
        for one in graph
        if one in reach[one]
    }
    return sorted(map(list, found), key=len, reverse=True)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = list(graph.get(start, ()))
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            left += graph.get(one, ())
    return seen


if __name__ == "__main__":
    main()
