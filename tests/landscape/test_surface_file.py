"""The surface file: what is written is read back, damage is refused, an earlier file survives failures."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from landscape.errors import UserError, exit_with
from landscape.files import atomic_path, sha256
from landscape.keeping.settings import settings_difference
from landscape.surface import (
    FORMAT_VERSION,
    Metric,
    Path2D,
    Plane,
    Split,
    Surface,
    load_surface,
)

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
NOT_NEGATIVE = st.floats(0) | st.just(float("nan"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ABOUT = st.dictionaries(st.text(max_size=5), JSON, max_size=3)


def grids(
    shape: tuple[int, ...], elements: st.SearchStrategy[float] = ANY_FLOAT
) -> st.SearchStrategy[npt.NDArray[np.float64]]:
    return hnp.arrays(np.float64, shape, elements=elements)


@st.composite
def metrics(draw: st.DrawFn, name: str, shape: tuple[int, int], blocks: int) -> Metric:
    elements = {"loss": st.floats(allow_infinity=False, allow_nan=False), "accuracy": st.floats(0, 1)}
    return Metric(
        draw(grids(shape, elements.get(name, ANY_FLOAT))),
        draw(grids(shape, NOT_NEGATIVE)),
        draw(NOT_NEGATIVE),
        draw(st.none() | grids((*shape, blocks))),
        draw(st.none() | hnp.arrays(np.bool_, shape)),
    )


@st.composite
def paths(draw: st.DrawFn) -> Path2D:
    """Also empty ones, with labels of any letters."""
    labels = draw(st.lists(st.text(max_size=6), max_size=4))
    return Path2D(draw(grids((len(labels),))), draw(grids((len(labels),))), tuple(labels))


@st.composite
def surfaces(draw: st.DrawFn) -> Surface:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))

    def split() -> Split:
        blocks = draw(st.integers(1, 3))
        names = ["loss", *draw(st.sampled_from([[], ["accuracy"], ["accuracy", "margin"]]))]
        counts = np.array(draw(st.lists(st.integers(1, 9), min_size=blocks, max_size=blocks)), np.int64)
        return Split(int(counts.sum()), {name: draw(metrics(name, shape, blocks)) for name in names}, counts)

    def directions() -> tuple[dict[str, npt.NDArray[Any]], ...]:
        tensor = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
        one = st.dictionaries(
            st.sampled_from(["conv.weight", "scale", "0.bias", "odd/name"]), tensor, min_size=1
        )
        return tuple(draw(st.lists(one, max_size=2)))

    split_names = draw(st.sampled_from([["test"], ["train", "test"], ["b", "a"]]))
    planes = [
        Plane(
            draw(ABOUT),
            draw(hnp.arrays(np.bool_, shape)),
            {name: split() for name in split_names},
            directions(),
            draw(st.none() | paths()),
        )
        for _ in range(draw(st.integers(1, 2)))
    ]
    axes = [np.arange(count, dtype=np.float64) for count in shape]
    return Surface(axes[0], axes[1], tuple(planes), draw(ABOUT), draw(ABOUT), draw(st.booleans()))


def plain(value: float = 1.0) -> Surface:
    loss = Metric(np.full((3, 2), value), np.zeros((3, 2)), 0.0, np.ones((3, 2, 4)))
    curvature = Metric(np.full((3, 2), value), np.full((3, 2), np.nan), 0.5, computed=np.eye(3, 2) > 0)
    split = Split(4, {"loss": loss, "lambda_max": curvature}, np.ones(4, np.int64))
    path = Path2D(np.arange(3.0), np.zeros(3), ("start", "step 1", "end"))
    plane = Plane({"seed": 0}, np.ones((3, 2), bool), {"test": split}, ({"w": np.arange(5.0)},), path)
    return Surface(np.arange(3.0) - 1, np.arange(2.0), (plane,), {"points": 3}, {"label": "net"})


def assert_same(first: Surface, second: Surface) -> None:
    """Bit for bit, types and order included."""
    assert (first.settings, first.about, first.complete) == (second.settings, second.about, second.complete)
    same_array(first.alpha, second.alpha)
    same_array(first.beta, second.beta)
    assert len(first.planes) == len(second.planes)
    for one, other in zip(first.planes, second.planes, strict=True):
        assert one.about == other.about
        same_array(one.computed, other.computed)
        assert list(one.splits) == list(other.splits)
        for name in one.splits:
            same_split(one.splits[name], other.splits[name])
        assert len(one.directions) == len(other.directions)
        for axis, tensors in enumerate(one.directions):
            assert set(tensors) == set(other.directions[axis])
            for name, tensor in tensors.items():
                same_array(tensor, other.directions[axis][name])
        assert (one.path is None) == (other.path is None)
        if one.path is not None and other.path is not None:
            same_array(one.path.alpha, other.path.alpha)
            same_array(one.path.beta, other.path.beta)
            assert one.path.labels == other.path.labels


def same_split(one: Split, other: Split) -> None:
    assert one.examples == other.examples
    assert list(one.metrics) == list(other.metrics)
    same_array(one.block_counts, other.block_counts)
    for name, metric in one.metrics.items():
        found = other.metrics[name]
        same_array(metric.values, found.values)
        same_array(metric.stderr, found.stderr)
        same_array(np.float64(metric.error), np.float64(found.error))
        assert (metric.blocks is None) == (found.blocks is None)
        if metric.blocks is not None and found.blocks is not None:
            same_array(metric.blocks, found.blocks)
        assert (metric.computed is None) == (found.computed is None)
        if metric.computed is not None and found.computed is not None:
            same_array(metric.computed, found.computed)


def same_array(first: npt.NDArray[Any] | np.float64, second: npt.NDArray[Any] | np.float64) -> None:
    assert first.dtype == second.dtype
    np.testing.assert_array_equal(first, second)


@settings(max_examples=15)
@given(surface=surfaces())
def test_round_trip(surface: Surface, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("store") / "x.surface.h5"
    surface.save(path)
    assert_same(surface, load_surface(path))


def test_file_follows_its_specification(tmp_path: Path) -> None:
    path = plain().save(tmp_path / "x.surface.h5")
    with h5py.File(path) as file:
        assert file.attrs["format"] == "sharpscape.surface"
        assert file.attrs["format_version"] == FORMAT_VERSION == 2
        assert bool(file.attrs["complete"]) is True
        assert json.loads(file.attrs["settings"]) == {"points": 3}
        assert json.loads(file.attrs["about"]) == {"label": "net"}
        assert file["alpha"].shape == (3,)
        assert file["beta"].shape == (2,)
        plane = file["planes/0"]
        assert json.loads(plane.attrs["splits"]) == ["test"]
        assert plane["computed"].dtype == bool
        part = plane["splits/test"]
        assert (part.attrs["examples"], json.loads(part.attrs["metrics"])) == (4, ["loss", "lambda_max"])
        assert part["loss"].shape == part["loss_stderr"].shape == (3, 2)
        assert part["loss"].attrs["error"] == 0.0
        assert part["loss_blocks"].shape == (3, 2, 4)
        assert part["block_counts"].dtype == np.int64
        assert part["lambda_max_computed"].dtype == bool
        assert part["lambda_max_computed"].shape == (3, 2)
        assert not {"loss_computed", "lambda_max_blocks"} & set(part)
        assert plane["path/alpha"].shape == plane["path/beta"].shape == (3,)
        assert json.loads(plane["path"].attrs["labels"]) == ["start", "step 1", "end"]
        assert plane["directions/0/w"].shape == (5,)


def test_long_provenance_fits(tmp_path: Path) -> None:
    surface = replace(plain(), about={"log": "x" * 200_000})
    assert load_surface(surface.save(tmp_path / "x.surface.h5")).about == surface.about


def test_views_of_a_surface() -> None:
    surface = plain(2.5)
    assert (surface.shape, surface.dim, surface.label, surface.splits) == ((3, 2), 2, "net", ("test",))
    assert surface.center == (1, 0)
    assert surface.loss[0, 0] == surface.metric("loss", plane=0, split="test").values[0, 0] == 2.5
    with pytest.raises(KeyError):
        _ = surface.accuracy
    off_grid = Surface(np.array([-1.0, 1.0]), np.zeros(1), surface.planes)
    assert (off_grid.center, off_grid.dim, off_grid.label) == (None, 1, "surface")


def one_line(error: pytest.ExceptionInfo[UserError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_surface(tmp_path / "none.surface.h5")
    one_line(error, "none.surface.h5", "no such file")
    with pytest.raises(UserError):
        load_surface(tmp_path)


def test_newer_version_is_refused(tmp_path: Path) -> None:
    path = plain().save(tmp_path / "x.surface.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(UserError) as error:
        load_surface(path)
    one_line(error, f"version {FORMAT_VERSION + 1}", f"up to {FORMAT_VERSION}")


@pytest.mark.parametrize("attributes", [{}, {"format": "other"}, {"format": "sharpscape.surface"}])
def test_foreign_hdf5_is_refused(tmp_path: Path, attributes: dict[str, str]) -> None:
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        file["loss"] = np.zeros(3)
        file.attrs.update(attributes)
    with pytest.raises(UserError) as error:
        load_surface(path)
    one_line(error, "foreign.h5")


@pytest.mark.parametrize(
    "missing",
    [
        "alpha",
        "planes",
        "planes/0/computed",
        "planes/0/splits/test/loss",
        "planes/0/splits/test/block_counts",
        "planes/0/path/beta",
    ],
)
def test_file_without_a_part_is_refused(tmp_path: Path, missing: str) -> None:
    path = plain().save(tmp_path / "x.surface.h5")
    with h5py.File(path, "r+") as file:
        del file[missing]
    with pytest.raises(UserError) as error:
        load_surface(path)
    one_line(error, "not a readable surface file")


@pytest.mark.parametrize(
    ("name", "value"),
    [("settings", "{"), ("about", b"\xff"), ("format_version", "one"), ("settings", h5py.Empty("f"))],
)
def test_bad_attribute_is_refused(tmp_path: Path, name: str, value: object) -> None:
    path = plain().save(tmp_path / "x.surface.h5")
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(UserError) as error:
        load_surface(path)
    one_line(error, "not a readable surface file")


def test_group_in_place_of_data_is_refused(tmp_path: Path) -> None:
    path = plain().save(tmp_path / "x.surface.h5")
    with h5py.File(path, "r+") as file:
        del file["planes/0/splits/test/loss"]
        file["planes/0/splits/test"].create_group("loss")
    with pytest.raises(UserError) as error:
        load_surface(path)
    one_line(error, "not a readable surface file")


def test_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = plain().save(tmp_path / "x.surface.h5")
    content = path.read_bytes()
    for kept in [0, 1, 8, 100, *np.linspace(200, len(content) - 1, 12).astype(int)]:
        path.write_bytes(content[:kept])
        with pytest.raises(UserError) as error:
            load_surface(path)
        one_line(error, "not a readable surface file")


@settings(max_examples=20)
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.h5"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_surface(path)
    one_line(error, "not a readable surface file")


def test_full_disk_leaves_the_earlier_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(1.0).save(tmp_path / "x.surface.h5")
    before = path.read_bytes()

    def full(self: Path, data: Any) -> int:
        with open(self, "wb") as file:
            file.write(bytes(data)[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError) as error:
        plain(2.0).save(path)
    one_line(error, "No space left on device", "the earlier x.surface.h5 is unchanged")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, OSError])
def test_atomic_path_leaves_nothing_behind(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "deep" / "file.txt"

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise kind

    with pytest.raises(UserError if kind is OSError else kind):
        fail()
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_atomic_path_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert sha256(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_unusable_targets_end_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "x.h5", tmp_path):
        with pytest.raises(UserError) as error:
            plain().save(target)
        one_line(error, "cannot write")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_settings_difference_names_the_first() -> None:
    stored = {"span": 1.0, "points": 51, "planes": [{"seed": 0}]}
    assert settings_difference(stored, {**stored, "planes": ({"seed": 0},)}) is None
    difference = settings_difference(stored, {**stored, "span": 2.0})
    assert difference is not None
    assert "span" in difference
    assert "1.0" in difference
    assert "2.0" in difference
    assert settings_difference(stored, {"span": 1.0, "points": 51}) is not None
    assert settings_difference({}, {"new": None}) is None


@given(ABOUT)
def test_settings_equal_themselves_after_the_file(values: dict[str, Any]) -> None:
    assert settings_difference(json.loads(json.dumps(values)), values) is None


def test_user_errors_are_one_line_and_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        exit_with(UserError("first\n  second"))
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: first second\n")
