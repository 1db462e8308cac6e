"""A few of the faults that ``make reliability`` tries at length; one file, so that one process warms up."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fuzzed_files
import memory_slopes
import pytest
from forking import Running, warm
from fuzzed_commands import command_lines, ended
from fuzzed_files import changes, judged, kinds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from left_behind import after_failures
from operation_faults import FAULTS, Survey, after, finished, hasty, run
from tiny_commands import WORKS, make_inputs, prepare, words_of

from landscape.surface import load_surface

pytestmark = pytest.mark.slow
NAMES = ("surface alone", "hessian", "sharpness", "robustness", "view", "train", "sweep")
KINDS = list(FAULTS)
FEW = settings(max_examples=6, database=None, suppress_health_check=list(HealthCheck))
UNITS = {"surface": 400, "hessian": 400, "training": 120}
MOST_BYTES = 90_000  # a unit, of weights that have 100,000: a copy kept each time would show


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the commands of `tiny_commands` read."""
    warm()
    folder = tmp_path_factory.mktemp("inputs")
    sys.path.insert(0, str(folder))
    yield make_inputs(folder)
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def made(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound file of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    kinds(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_after_a_fault_a_command_ends_as_uninterrupted(name: str, inputs: Path, tmp_path: Path) -> None:
    survey, work = Survey(inputs, tmp_path, [name]), WORKS[name]
    draw, here = random.Random(name), tmp_path / "here"
    kind = KINDS[NAMES.index(name) % len(KINDS)]
    end = run(work, inputs, here, kind, draw.randint(1, survey.counts[name]))
    assert after(end, kind, here / "out") == []
    assert finished(work, inputs, here, survey.wanted[name]) == []


@pytest.mark.parametrize("name", fuzzed_files.NAMES)
def test_files_are_read_or_refused_in_a_line(name: str, made: Path, tmp_path: Path) -> None:
    kind = kinds(made)[name]

    @FEW
    @given(changes(kind, tmp_path))
    def check(content: bytes) -> None:
        assert judged(kind, content, tmp_path) == ""

    check()


def test_command_lines_end_properly(inputs: Path, tmp_path: Path) -> None:
    @FEW
    @given(st.data())
    def check(data: st.DataObject) -> None:
        module, words = data.draw(command_lines())
        assert ended(module, words, inputs, tmp_path / "work").wrong == ""

    check()


@pytest.mark.parametrize("name", memory_slopes.WORKS)
def test_memory_is_flat(name: str, inputs: Path, tmp_path: Path) -> None:
    def measured(stack: ExitStack) -> None:
        found = memory_slopes.slope(memory_slopes.WORKS[name], UNITS[name])
        (tmp_path / "slope.json").write_text(json.dumps(found.bytes))
        os._exit(0)

    end = Running("nothing", [], tmp_path / "work", measured).ended()
    assert end.code == 0, end.err
    assert json.loads((tmp_path / "slope.json").read_text()) < MOST_BYTES


@pytest.mark.parametrize(("name", "kind"), [("surface alone", "full"), ("sweep", "full once")])
def test_failures_leave_nothing_open(name: str, kind: str, inputs: Path, tmp_path: Path) -> None:
    work, seen = WORKS[name], tmp_path / "seen.json"
    folder = prepare(work, inputs, tmp_path / "work")

    def failing(stack: ExitStack) -> None:
        hasty(stack)
        load_surface(inputs / "a.surface.h5")  # its reader lasts as long as the process
        words = [*words_of(work, inputs), *(["--overwrite"] if name != "sweep" else [])]
        seen.write_text(json.dumps(after_failures(work.module, words, kind, (3, 19))))
        os._exit(0)

    end = Running(work.module, [], folder, failing).ended()
    assert end.code == 0, end.err
    assert json.loads(seen.read_text()) == {}
    assert "error: " in end.err
