"""A hundredth of what `flip_bits` runs, so that a reader that goes blind is noticed the same day."""

from __future__ import annotations

from pathlib import Path

import pytest
from flips import survey
from kinds_checkpoints import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_harmless_or_refused(kind: str, tmp_path: Path) -> None:
    path, read = KINDS[kind](tmp_path)
    found = survey(path, read, 40, seed=1)
    assert found.faults == []
    assert len(found.bits["refused"]) > 10
