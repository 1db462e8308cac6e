"""Who may import whom, what stays free of torch, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("landscape", "analysis", "figures", "training")

MAY_IMPORT = {
    "figures": {"figures", "analysis", "landscape"},
    "analysis": {"analysis", "landscape"},
    "landscape": {"landscape"},
    "training": {"training", "landscape"},
}
TRAINING_MAY_USE = {
    "landscape.channels.groups",
    "landscape.channels.shrink",
    "landscape.commandline.claims",
    "landscape.commandline.cluster_options",
    "landscape.commandline.command",
    "landscape.commandline.console",
    "landscape.commandline.gpus",
    "landscape.commandline.jobs",
    "landscape.commandline.options",
    "landscape.cores",
    "landscape.devices",
    "landscape.engine.cuda_graph",
    "landscape.escaping",
    "landscape.files.runs_table",
    "landscape.commandline.duration",
    "landscape.errors",
    "landscape.files",
    "landscape.gpu_numerics",
    "landscape.sparse.batch",
    "landscape.sparse.choice",
    "landscape.sparse.inference",
    "landscape.sparse.kernels",
    "landscape.sparse.machine",
    "landscape.sparse.trace",
    "landscape.threads",
    "landscape.workers.cluster",
    "landscape.images",
    "landscape.images.folder",
    "landscape.images.prepare",
    "landscape.keeping.lock",
    "landscape.keeping.signals",
    "landscape.images.selection",
    "landscape.checkpoint.format",
    "landscape.checkpoint.integrity",
    "landscape.checkpoint.models",
    "landscape.checkpoint.read",
    "landscape.checkpoint.shrunk",
}
# The command joins networks of ours with landscapes of anyone's; the summary states the roughness.
INSIDE_FUNCTIONS = {
    ("landscape.commandline.subject", "training"),
    ("landscape.surface.summary", "analysis"),
    # --plane hessian: the command asks for eigenvectors; whoever computes doesn't know whence.
    ("landscape.surface.hessian_plane", "analysis"),
    # Commands that take a network of ours, or draw the steps of our optimizers.
    ("figures.step", "training"),
}
# Where an import inside a function closes a circle, and why it may: a class and what is built on it.
BACK = {
    # `Surface.save`, `plot`, `show` and what a notebook shows are methods: that is where a user looks.
    ("landscape.surface", "landscape.surface.schema"),
    ("landscape.surface", "landscape.surface.glance"),
    ("landscape.surface", "landscape.plot"),
    ("landscape.surface", "landscape.viewer"),
    # One of the forms of images that `read_images` reads: a file of its own for its length.
    ("landscape.images", "landscape.images.folder"),
    # A kernel's name holds the machine that it is for, and the machine is asked through LLVM.
    ("landscape.sparse.machine", "landscape.sparse.llvm"),
}
# Of `landscape`, what knows that there is a command line: its own room, and the commands.
COMMAND_LINE = ("cluster_options", "command", "completion", "options", "results", "subject")
COMMANDS = {
    "landscape.surface.__main__",
    "landscape.surface.chosen_planes",
    "landscape.surface.hessian_plane",
    "landscape.surface.surface_options",
    "landscape.surface.surface_report",
    "landscape.viewer.__main__",
}
WITHOUT_TORCH = (
    "landscape",
    "landscape.errors",
    "landscape.files",
    "landscape.surface",
    "landscape.keeping.partial",
    "landscape.keeping.points",
    "landscape.sampling.interpolate",
    "landscape.sampling",
    "landscape.viewer",
    "landscape.viewer.live",
    "landscape.plot",
    "analysis.roughness",
    "analysis.robustness.robustness_file",
    "analysis.robustness.table5",
    "analysis.statistics.paired",
    "analysis.statistics.correlation",
    "figures.__main__",
    "figures.reproduce.__main__",
)
LONGEST = 500


@dataclass(frozen=True)
class Import:
    """One imported module of ours; `level` is "module", "function" or "typing"."""

    importer: str
    imported: str
    level: str

    @property
    def packages(self) -> tuple[str, str]:
        return self.importer.partition(".")[0], self.imported.partition(".")[0]


def sources() -> dict[str, Path]:
    """Files by module name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, text: str, modules: frozenset[str]) -> Iterator[Import]:
    """Every import of a module of ours, nested ones included."""
    for node, level in walk(ast.parse(text), "module"):
        for name in imported_names(node):
            if name.partition(".")[0] in PACKAGES:
                # ``from package import module`` imports the module, ``from module import name`` too.
                target = name if name in modules else name.rpartition(".")[0]
                yield Import(module, target, level)


def walk(node: ast.AST, level: str) -> Iterator[tuple[ast.AST, str]]:
    for child in ast.iter_child_nodes(node):
        inner = level
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "function"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = "typing"
        yield child, inner
        yield from walk(child, inner)


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "relative imports hide which package is meant"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    files = sources()
    return [
        one
        for module, path in files.items()
        for one in imports_of(module, path.read_text(encoding="utf-8"), frozenset(files))
    ]


def test_the_parser_sees_every_form() -> None:
    text = """
import landscape.surface as s
from landscape import kept_weights, load_surface
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from analysis.roughness.region import Region
def f():
    from training.models import ARCHITECTURES
class C:
    import figures
"""
    modules = frozenset(
        {
            "landscape.surface",
            "landscape.kept_weights",
            "analysis.roughness.region",
            "training.models",
            "figures",
        }
    )
    assert list(imports_of("x", text, modules)) == [
        Import("x", "landscape.surface", "module"),
        Import("x", "landscape.kept_weights", "module"),
        Import("x", "landscape", "module"),
        Import("x", "analysis.roughness.region", "typing"),
        Import("x", "training.models", "function"),
        Import("x", "figures", "module"),
    ]


def test_packages_import_one_way(imports: list[Import]) -> None:
    wrong = [
        one
        for one in imports
        if one.packages[1] not in MAY_IMPORT[one.packages[0]]
        and not (one.level == "function" and (one.importer, one.packages[1]) in INSIDE_FUNCTIONS)
    ]
    assert wrong == []


def test_exceptions_are_needed(imports: list[Import]) -> None:
    assert {(one.importer, one.packages[1]) for one in imports} >= INSIDE_FUNCTIONS


def test_training_uses_few_modules_of_landscape(imports: list[Import]) -> None:
    used = {one.imported for one in imports if one.packages == ("training", "landscape")}
    assert used <= TRAINING_MAY_USE


def test_no_import_cycles(imports: list[Import]) -> None:
    check_order(one for one in imports if one.level == "module")


def test_no_cycles_through_functions_but_known_ones(imports: list[Import]) -> None:
    check_order(one for one in imports if one.level != "typing" and (one.importer, one.imported) not in BACK)
    lazy = {(one.importer, one.imported) for one in imports if one.level == "function"}
    assert lazy >= BACK


def check_order(imports: Iterable[Import]) -> None:
    graph: dict[str, set[str]] = {}
    for one in imports:
        if one.importer != one.imported:
            graph.setdefault(one.importer, set()).add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_the_library_knows_no_command_line(imports: list[Import]) -> None:
    rooms = {f"landscape.commandline.{name}" for name in COMMAND_LINE}
    wrong = [
        one
        for one in imports
        if one.level != "typing"
        and one.imported in rooms | COMMANDS
        and one.packages[0] == "landscape"
        and one.importer not in rooms | COMMANDS | {"landscape.__main__"}
    ]
    assert wrong == []


def test_reading_and_drawing_do_not_load_torch() -> None:
    program = "import importlib, sys\n" + "".join(
        f"importlib.import_module({name!r})\nif 'torch' in sys.modules: sys.exit({name!r})\n"
        for name in WITHOUT_TORCH
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"loads torch, or can't be imported: {done.stderr.strip()}"


def test_files_are_short() -> None:
    files = [*sources().values(), *sorted((ROOT / "tests").rglob("*.py"))]
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files
    }
    assert {name: count for name, count in lengths.items() if count > LONGEST} == {}


def test_public_names_of_landscape_exist() -> None:
    import landscape

    assert sorted(landscape.__all__) == list(landscape.__all__)
    for name in landscape.__all__:
        assert name in dir(landscape)
        assert getattr(landscape, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = landscape.nothing  # type: ignore[attr-defined]
