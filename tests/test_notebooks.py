"""The notebooks of the documentation run from top to bottom, and what they keep is what they show."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
LARGEST = 400_000  # bytes: pictures, but no interactive page


def run(source: str, names: dict[str, Any]) -> Any:
    """A cell as a notebook runs it: the value of a last line that is an expression is what it shows."""
    tree = ast.parse(source)
    *before, last = tree.body
    if not isinstance(last, ast.Expr):
        before, last = tree.body, None
    exec(compile(ast.Module(before, []), "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def kinds(shown: Any) -> set[str]:
    """What a notebook makes of a value."""
    if shown is None:
        return set()
    forms = {"image/png": "_repr_png_", "text/html": "_repr_html_"}
    return {"text/plain"} | {kind for kind, name in forms.items() if getattr(shown, name, lambda: None)()}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_keeps(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(path.parent)
    assert path.stat().st_size < LARGEST
    names: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            shown = run("".join(cell["source"]), names)
            kept = {one["output_type"]: one for one in cell["outputs"]}
            assert "error" not in kept
            assert kinds(shown) == set(kept.get("execute_result", {}).get("data", {}))
            said, words = capsys.readouterr().out, kept.get("stream", {}).get("text", "")
            assert [line.split()[0] for line in said.splitlines()] == [
                line.split()[0] for line in "".join(words).splitlines()
            ]
