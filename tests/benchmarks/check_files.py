"""What checks of results do alike: start commands of the toolkit, and write a table."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from landscape.files import atomic_path


def command(*words: object) -> None:
    """One of the toolkit's, in a process of its own."""
    if code := subprocess.run([sys.executable, "-m", *map(str, words)], check=False).returncode:
        raise SystemExit(code)


def write(folder: Path, name: str, lines: Sequence[Sequence[str]]) -> str:
    """The table as ``NAME.csv`` and ``NAME.md``; its Markdown."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    rows = [f"| {' | '.join(line)} |" for line in lines]
    rows.insert(1, "|" + " --- |" * len(lines[0]))
    page = "\n".join([*rows, ""])
    for ending, content in (("csv", text.getvalue()), ("md", page)):
        with atomic_path(folder / f"{name}.{ending}") as temporary:
            temporary.write_text(content, encoding="utf-8")
    return page
