"""Whatever stops a run, the file holds what was computed, and the same call ends with the same bits."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from small_network import bits, examples, small_network

from landscape.compute import compute_surface
from landscape.engine import Engine
from landscape.errors import UserError
from landscape.keeping import pace
from landscape.losses import classification
from landscape.planes import BetweenPlane, GivenPlane, RandomPlane
from landscape.progress import Progress
from landscape.surface import Surface, load_surface

TWO = [RandomPlane(0), RandomPlane(1)]
RUNS: dict[str, dict[str, Any]] = {
    "exact": {"points": (5, 3), "exact_grid": True, "plane": TWO, "keep_directions": True},
    "adaptive": {"points": 9, "tolerance": 0.2, "max_points": 60, "plane": TWO},
    "line": {"points": 7, "dim": 1, "plane": TWO},
}


def compute(path: Path | None = None, **options: Any) -> Surface:
    data = {"train": examples(0), "test": examples(1, 9)}
    return compute_surface(small_network(), data, path=path, device="cpu", **options)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Surface]:
    return {name: compute(**options) for name, options in RUNS.items()}


def points_of(surface: Surface) -> int:
    return sum(int(plane.computed.sum()) for plane in surface.planes)


def stop_after(count: int, kind: type[BaseException]) -> Callable[[Progress], None]:
    def listen(progress: Progress) -> None:
        if progress.done == count:
            raise kind("stop")

    return listen


def interrupt(path: Path, count: int, kind: type[BaseException], **options: Any) -> Surface:
    """Stop after so many points of both planes; the file must hold exactly these."""
    with pytest.raises(kind, match="stop"):
        compute(path, progress=stop_after(count, kind), **options)
    partial = load_surface(path)
    assert not partial.complete
    assert points_of(partial) == count
    return partial


@pytest.mark.parametrize("name", RUNS)
@settings(max_examples=3, phases=[Phase.generate])  # a failure isn't worth minutes of shrinking
@given(data=st.data())
def test_resumed_equals_uninterrupted(
    name: str,
    data: st.DataObject,
    uninterrupted: dict[str, Surface],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole = uninterrupted[name]
    total = points_of(whole)
    stops = sorted(data.draw(st.sets(st.integers(1, total), min_size=1, max_size=3)))
    kind = data.draw(st.sampled_from([KeyboardInterrupt, ValueError, SystemExit]))
    path = tmp_path_factory.mktemp("resume") / "x.surface.h5"
    for stop in stops:
        partial = interrupt(path, stop, kind, **RUNS[name])
        for number, plane in enumerate(partial.planes):
            known = plane.computed
            assert np.array_equal(
                plane.splits["test"].metrics["loss"].values[known],
                whole.metric("loss", plane=number, split="test").values[known],
            )
    told: list[Progress] = []
    resumed = compute(path, progress=told.append, **RUNS[name])
    assert bits(resumed) == bits(whole)
    assert bits(load_surface(path)) == bits(whole)
    assert len(told) == total - stops[-1]
    assert resumed.about["timing"]["points"] == total


def test_every_state_of_the_file_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, Surface]
) -> None:
    """As after a kill: no chance to save at the end, only what was saved on the way."""
    monkeypatch.setattr(pace, "EVERY_SECONDS", 0.0)
    path, copies = tmp_path / "x.surface.h5", []

    def keep(progress: Progress) -> None:
        if path.exists() and progress.done % 6 == 0:
            copies.append(shutil.copy(path, tmp_path / f"{progress.done}.h5"))

    compute(path, progress=keep, **RUNS["exact"])
    assert len(copies) == 5
    for copy in copies:
        assert not load_surface(copy).complete
        assert bits(compute(Path(copy), **RUNS["exact"])) == bits(uninterrupted["exact"])


def test_no_save_of_a_resumed_run_holds_less_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill just after it would lose points: of the second plane, when the first one is finished again."""
    path, held, save = tmp_path / "x.surface.h5", list[int](), Surface.save
    interrupt(path, 22, KeyboardInterrupt, **RUNS["exact"])

    def noting(surface: Surface, file: Path) -> None:
        held.append(points_of(surface))
        save(surface, file)

    monkeypatch.setattr(Surface, "save", noting)
    monkeypatch.setattr(pace, "EVERY_SECONDS", 0.0)
    compute(path, **RUNS["exact"])
    assert held[0] == 22
    assert held == sorted(held)


def test_an_exception_in_the_loss_keeps_what_was_computed(
    tmp_path: Path, uninterrupted: dict[str, Surface]
) -> None:
    path = tmp_path / "x.surface.h5"
    event = threading.Event()  # what the loss refers to, and is no part of what it computes

    def stopping(model: Any, batch: Any) -> Any:
        if event.is_set():
            raise KeyboardInterrupt("stop")
        return classification(model, batch)

    def arm(progress: Progress) -> None:
        if progress.done == 20:
            event.set()

    with pytest.raises(KeyboardInterrupt, match="stop"):
        compute(path, loss=stopping, progress=arm, **RUNS["exact"])
    assert points_of(load_surface(path)) == 20
    event.clear()
    resumed = compute(path, loss=stopping, **RUNS["exact"])
    assert resumed.settings["loss"].endswith("stopping")
    for one, other in zip(resumed.planes, uninterrupted["exact"].planes, strict=True):
        assert one.splits["test"].metrics["loss"].values.tobytes() == (
            other.splits["test"].metrics["loss"].values.tobytes()
        )


def test_a_stop_before_the_first_point_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(self: Engine, coordinates: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "x.surface.h5", points=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RUNS)
def test_a_complete_file_is_returned_once_two_of_its_points_are_seen_to_hold(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.surface.h5"
    first = compute(path, **RUNS[name])
    content = path.read_bytes()

    seen: list[Any] = []
    genuine = Engine.evaluate

    def evaluate(self: Engine, coordinates: Any) -> Any:
        seen.append(coordinates)
        return genuine(self, coordinates)

    def told(progress: Progress) -> None:
        raise AssertionError("nothing is left to compute")

    monkeypatch.setattr(Engine, "evaluate", evaluate)
    again = compute(path, progress=told, **RUNS[name])
    assert len(seen) == 2
    assert bits(again) == bits(first)
    assert again.about == first.about
    assert path.read_bytes() == content


def other_loss(model: Any, batch: Any) -> Any:
    loss, count, metrics = classification(model, batch)
    return 2 * loss, count, metrics


BASE: dict[str, Any] = {"points": 3, "plane": RandomPlane(0)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"points": 5}, "alpha"),
        ({"span": 0.5}, "alpha"),
        ({"dim": 1}, "beta"),
        ({"plane": RandomPlane(1)}, "planes"),
        ({"plane": RandomPlane(0, "layer")}, "planes"),
        ({"plane": [RandomPlane(0), RandomPlane(1)]}, "planes"),
        ({"mask": "none"}, "mask"),
        ({"exact_grid": True}, "log_tolerance"),
        ({"tolerance": 0.1}, "sampling"),
        ({"max_points": 7}, "sampling"),
        ({"dtype": "float64"}, "engine"),
        ({"batch_norm": "recalibrate"}, "engine"),
        ({"loss": other_loss}, "loss"),
        ({"keep_directions": True}, "keep_directions"),
    ],
)
def test_other_settings_are_refused_by_name(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "x.surface.h5"
    before = bits(compute(path, **BASE))
    with pytest.raises(UserError, match=rf"other settings \({named}: the file has .*--overwrite") as error:
        compute(path, **{**BASE, **change})
    assert "\n" not in str(error.value)
    assert bits(load_surface(path)) == before
    replaced = compute(path, overwrite=True, **{**BASE, **change})
    assert bits(load_surface(path)) == bits(replaced) != before


def test_other_network_or_examples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.surface.h5"
    compute_surface(small_network(0), examples(0), path=path, points=3)
    trained = small_network(0)
    trained[5].bias.data += 1e-3  # of a layer that random planes leave alone
    moved = small_network(0)
    moved[1].running_mean += 1e-3
    for other in (trained, moved):
        with pytest.raises(UserError, match=r"\(network: the file has"):
            compute_surface(other, examples(0), path=path, points=3)
    with pytest.raises(UserError, match=r"\(examples: the file has"):
        compute_surface(small_network(0), examples(1), path=path, points=3)


def test_planes_that_differ_only_in_their_tensors_are_told_apart(tmp_path: Path) -> None:
    params = [dict(small_network(seed).named_parameters()) for seed in range(3)]
    ones, twos = ({"5.weight": torch.full((3, 16), value)} for value in (1.0, 2.0))
    for number, (first, second) in enumerate(
        [
            (BetweenPlane(params[1]), BetweenPlane(params[2])),
            (GivenPlane([ones, ones]), GivenPlane([twos, ones])),
        ]
    ):
        path = tmp_path / f"{number}.surface.h5"
        compute(path, points=3, plane=first)
        with pytest.raises(UserError, match=r"\(planes: the file has"):
            compute(path, points=3, plane=second)


def test_a_foreign_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x.surface.h5"
    path.write_text("something dear")
    with pytest.raises(UserError, match="not a readable surface file"):
        compute(path, **BASE)
    assert path.read_text() == "something dear"
    assert bits(compute(path, overwrite=True, **BASE)) == bits(load_surface(path))


def test_overwriting_computes_a_finished_surface_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.surface.h5"
    first = compute(path, points=3)
    for overwrite, evaluated in ((False, 0), (True, 9)):
        seen: list[Progress] = []
        again = compute(path, points=3, overwrite=overwrite, progress=seen.append)
        assert len(seen) == evaluated
        assert bits(again) == bits(first)


def test_a_full_disk_ends_the_run_and_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.surface.h5"
    partial = interrupt(path, 4, ValueError, **RUNS["exact"])

    def full(self: Path, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"No space left on device.*unchanged"):
        compute(path, **RUNS["exact"])
    monkeypatch.undo()
    assert bits(load_surface(path)) == bits(partial)
    assert compute(path, **RUNS["exact"]).complete


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        compute(tmp_path / "file" / "x.surface.h5", **BASE)
