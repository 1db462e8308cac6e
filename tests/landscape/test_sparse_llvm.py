"""The compiler behind the sparse kernels: its cache, other processors, registers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="the extra 'sparse' isn't installed")

from landscape.sparse import convolution, elementwise, llvm, machine, statistics
from landscape.sparse.convolution import Tile
from landscape.sparse.ir import Code
from landscape.sparse.layout import cover

V3 = machine.X86_64_V3
V4 = machine.Machine(V3.triple, "x86-64-v4", "", 64, 32)
MAPS = [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1), (7, 7), (13, 5)]


def kernels(target: machine.Machine) -> list[Code]:
    """Convolutions of usual maps, in float32."""
    tiles = {part.tile() for height, width in MAPS for part in cover(height, width, target.tile)}
    tiles |= {Tile(one.rows, one.columns, 2, 1) for one in tiles} | {
        Tile(one.rows, one.columns, 1, 2) for one in tiles
    }
    makers = [
        lambda tile: convolution.forward(tile, target, "float"),
        lambda tile: convolution.forward(tile, target, "float", "statistics"),
        lambda tile: convolution.forward(tile, target, "float", "gradient"),
        lambda tile: convolution.weight_gradient(tile, target, "float"),
    ]
    return [make(tile) for tile in sorted(tiles, key=str) for make in makers]


SPILLS = {
    "aarch64": r"\b(?:str|ldr|stp|ldp)\s+q\d+.*\[sp",
    "x86-64-v3": r"ymm\d+.*\(%rsp\)|\(%rsp\).*ymm\d+",
    "x86-64-v4": r"zmm\d+.*\(%rsp\)|\(%rsp\).*zmm\d+",
}


@pytest.mark.parametrize(
    ("name", "target"), [("aarch64", machine.AARCH64), ("x86-64-v3", V3), ("x86-64-v4", V4)]
)
def test_no_sum_leaves_its_register(name: str, target: machine.Machine) -> None:
    """Assembly for processors that this needn't be: no vector goes to the stack and back."""
    for code in kernels(target):
        text = llvm.assembly(code.text(), target)
        assert re.findall(SPILLS[name], text) == [], code.name
        assert re.search(r"\b(fmla|vfmadd)", text) or "conv" not in code.name


@pytest.mark.parametrize("target", [machine.AARCH64, V3, V4])
@pytest.mark.parametrize("element", ["float", "double"])
def test_every_other_kernel_compiles(target: machine.Machine, element: machine.Element) -> None:
    for code in (
        *(elementwise.combine(width, target, element) for width in (1, 8)),
        *(elementwise.pool(kind, target, element) for kind in ("average", "largest")),
        *(make(target, element) for make in (elementwise.pack, elementwise.unpack, elementwise.zero)),
        *(make(target, element) for make in (elementwise.average_back, elementwise.largest_back)),
        *(make(target, element) for make in (statistics.moments, statistics.coefficients)),
        statistics.collect(target, element),
    ):
        assert llvm.object_code(code.text(), target)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own, and nothing loaded yet."""
    monkeypatch.setenv(llvm.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(llvm, "_loaded", {})
    return tmp_path / "cache" / "kernels"


def compiled() -> int:
    code = elementwise.zero(machine.host(), "float")
    return llvm.address(code.name, code.text(), machine.host())


def test_object_code_is_kept_and_read_again(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled()
    assert compiled() == compiled()
    (file,) = fresh.iterdir()
    monkeypatch.setattr(llvm, "_loaded", {})
    monkeypatch.setattr(llvm, "object_code", lambda *_: pytest.fail("compiled once more"))
    assert compiled()
    assert list(fresh.iterdir()) == [file]


@pytest.mark.parametrize("damage", [b"", b"x" * 20, b"x" * 4000])
def test_a_damaged_file_is_made_anew(fresh: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    assert compiled()
    (file,) = fresh.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    monkeypatch.setattr(llvm, "_loaded", {})
    assert compiled()
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_obstacle(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.parent.write_text("a file where the folder should be")
    assert compiled()
    monkeypatch.setattr(llvm, "_loaded", {})
    monkeypatch.setenv(llvm.CACHE_VARIABLE, "")
    assert compiled()
    assert llvm.folder() is None


def test_another_processor_has_files_of_its_own(fresh: Path) -> None:
    text = elementwise.zero(V3, "float").text()
    assert llvm._key(text, V3) != llvm._key(text, V4)


def python(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(machine.host().vector_bytes < 32, reason="not an x86-64 with AVX2")
def test_the_processor_can_be_restricted() -> None:
    program = "from landscape.sparse.machine import host; print(host().vector_bytes, host().cpu)"
    assert python(program, SHARPSCAPE_SPARSE_CPU="x86-64-v3").split() == ["32", "x86-64-v3"]
    assert "expected x86-64-v3 or x86-64-v4" in python(program, SHARPSCAPE_SPARSE_CPU="pentium")


def test_without_llvmlite_there_is_a_reason() -> None:
    program = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "from importlib import util; util.find_spec = lambda name: None\n"
        "import landscape.sparse.machine as m; m.find_spec = lambda name: None; print(m.missing())"
    )
    assert "llvmlite is not installed" in python(program)
