"""Single flipped bits in result files: the right values or one line, never anything else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import kinds_results
from flips import survey


@pytest.mark.parametrize("kind", kinds_results.KINDS)
def test_every_flip_is_right_or_refused(tmp_path: Path, kind: str) -> None:
    path, read = kinds_results.KINDS[kind](tmp_path)
    found = survey(path, read, 100, seed=1)
    assert found.faults == []
    assert len(found.bits["refused"]) > 90
