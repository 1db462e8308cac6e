"""Points evaluated by an executor's workers: the bits of one process, and little that travels."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import bits, examples, small_network
from torch import nn

from landscape.compute import compute_surface
from landscape.engine import Engine, executors
from landscape.errors import UserError
from landscape.losses import classification
from landscape.planes import RandomPlane
from landscape.progress import Progress
from landscape.surface import Surface, load_surface
from landscape.workers import crew, there

TWO = [RandomPlane(0), RandomPlane(1)]
CASES: dict[str, dict[str, Any]] = {
    "exact": {"points": (5, 3), "exact_grid": True, "plane": TWO},
    "adaptive": {"points": 9, "tolerance": 0.2, "max_points": 60},
    "recalibrated": {"points": 3, "batch_norm": "recalibrate"},
}


class Posted(Executor):
    """In this process, but all that a worker gets or gives goes through bytes, which are counted."""

    def __init__(self, fails_at: int = -1) -> None:
        self.sent, self.fails_at = list[int](), fails_at

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """Done at once."""
        letter = pickle.dumps((work, arguments, more))
        self.sent.append(len(letter))
        future: Future[Any] = Future()
        try:
            if len(self.sent) == self.fails_at:
                raise BrokenExecutor("a process was terminated")
            there, given, named = pickle.loads(letter)
            future.set_result(pickle.loads(pickle.dumps(there(*given, **named))))
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future


@pytest.fixture(autouse=True)
def _new_workers() -> None:
    there._works.clear()
    there._parts.clear()


def compute(path: Path | None = None, **options: Any) -> Surface:
    data = {"train": examples(0), "test": examples(1, 9)}
    return compute_surface(small_network(), data, path=path, device="cpu", progress=None, **options)


@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_those_of_one_process(name: str, tmp_path: Path) -> None:
    executor = Posted()
    found = compute(tmp_path / "x.h5", executor=executor, **CASES[name])
    assert bits(found) == bits(compute(**CASES[name]))
    assert len(executor.sent) == sum(int(plane.computed.sum()) for plane in found.planes)
    assert max(executor.sent) < 1000  # bytes: three names, three digests, two coordinates
    assert [one.name for one in tmp_path.iterdir()] == ["x.h5"]


def test_a_worker_builds_one_engine_for_all_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    built, original = list[int](), Engine.__init__

    def counted(self: Engine, *arguments: Any, **options: Any) -> None:
        built.append(1)
        original(self, *arguments, **options)

    monkeypatch.setattr(Engine, "__init__", counted)
    compute(executor=Posted(), **CASES["exact"])
    assert len(built) == 2  # here and there
    compute(executor=Posted(), **CASES["recalibrated"])
    assert len(built) == 4  # what it computes with is another one


def test_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["landscape.compute"])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found = compute(tmp_path / "x.h5", executor=pool, **CASES["exact"])
    assert bits(found) == bits(compute(**CASES["exact"]))


def test_threads_take_turns() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert bits(compute(executor=pool, **CASES["adaptive"])) == bits(compute(**CASES["adaptive"]))


def test_what_is_begun_with_an_executor_goes_on_without_and_the_other_way_round(tmp_path: Path) -> None:
    def stop(state: Progress) -> None:
        if state.done in (4, 20):
            raise KeyboardInterrupt

    whole, path = compute(**CASES["exact"]), tmp_path / "x.h5"
    for executor in (Posted(), None):
        with pytest.raises(KeyboardInterrupt):
            compute_surface(
                small_network(),
                {"train": examples(0), "test": examples(1, 9)},
                path=path,
                executor=executor,
                progress=stop,
                **CASES["exact"],
            )
    assert bits(compute(path, executor=Posted(), **CASES["exact"])) == bits(whole)


def test_a_lost_worker_is_one_line_and_what_came_is_kept(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.h5", compute(**CASES["exact"])
    with pytest.raises(UserError, match=r"the executor lost a worker .a process was terminated."):
        compute(path, executor=Posted(fails_at=22), **CASES["exact"])
    assert sum(int(plane.computed.sum()) for plane in load_surface(path).planes) >= 15
    assert [one.name for one in tmp_path.iterdir()] == ["x.h5"]
    assert bits(compute(path, executor=Posted(), **CASES["exact"])) == bits(whole)


def test_what_cannot_travel_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def local(model: Any, batch: Any) -> Any:
        return classification(model, batch)

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crew.tempfile, "mkstemp", full)
    with pytest.raises(UserError, match=r"cannot write what workers are to read into .*: No space"):
        compute(executor=Posted(), points=3)
    with pytest.raises(UserError, match=r"can't be sent to other processes .*top level of a module"):
        compute(loss=local, executor=Posted(), points=3)


class Changed(Posted):
    """Its workers find another file."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """The second argument has the files' names."""
        kind, names, *rest = arguments
        return super().submit(work, kind, tuple(self.changed(Path(name)) for name in names), *rest, **more)

    def changed(self, parcel: Path) -> str:
        """A name that isn't there."""
        return f"{parcel}.elsewhere"


class Damaged(Changed):
    """The same file with other content."""

    def changed(self, parcel: Path) -> str:
        """The same name."""
        parcel.write_bytes(b"other")
        return str(parcel)


@pytest.mark.parametrize(
    ("executor", "text"),
    [
        (Changed(), "can't read .*its folder must be one that workers see"),
        (Damaged(), "isn't what was written"),
    ],
)
def test_a_worker_that_has_another_parcel(executor: Posted, text: str) -> None:
    with pytest.raises(UserError, match=rf"the worker \d+ on .*{text}"):
        compute(executor=executor, points=3)


def test_a_worker_that_computes_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    original = executors.EngineWork.engine

    def other(self: executors.EngineWork, *parts: Any) -> Engine:
        self.about["folded"] = not self.about["folded"]  # type: ignore[index]
        return original(self, *parts)

    monkeypatch.setattr(executors.EngineWork, "engine", other)
    with pytest.raises(UserError, match=r"computes otherwise \(folded: "):
        compute(executor=Posted(), points=3)

    def noisy(self: executors.EngineWork, model: nn.Module, *parts: Any) -> Engine:
        with torch.no_grad():
            next(model.parameters()).mul_(1.5)
        return original(self, model, *parts)

    there._parts.clear()
    monkeypatch.setattr(executors.EngineWork, "engine", noisy)
    with pytest.raises(UserError, match=r"the loss of 'train' was .* and is now"):
        compute(executor=Posted(), points=3)
