"""Hessian files from strangers: what isn't as the schema has it is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile_results import SECRET, edited, hessian_cases

from analysis.compare.read import read_results
from analysis.hessian import load_spectrum
from analysis.hessian.density import SpectralDensity
from analysis.hessian.keeper import STATE_FORMAT, SpectrumForm
from analysis.hessian.result import Pairs, Spectrum
from analysis.hessian.spectrum_file import save_spectrum
from analysis.hessian.spectrum_table import to_json
from analysis.hessian.trace import Estimate
from landscape.errors import UserError


def small() -> Spectrum:
    yes = np.array([True, True])
    nodes, weights = [np.array([0.0, 1.0])] * 2, [np.array([0.25, 0.75])] * 2
    return Spectrum(
        Pairs(np.array([2.0, 1.0]), np.zeros(2), yes),
        Pairs(np.array([-1.0, -0.5]), np.zeros(2), yes),
        Estimate(3.0, 0.1, 0.2),
        Estimate(4.0, 0.1, 0.2),
        None,
        SpectralDensity(5, np.array([2.0, 1.0]), nodes, weights),
        5,
        6,
        4,
        0.7,
        0.1,
        30,
        1.5,
        {"examples": "0123", "mask": {"source": "none"}},
        {"label": "net", "mask": "none"},
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret").write_bytes(SECRET)
    return save_spectrum(small(), folder / "good.hessian.h5")


CASES = hessian_cases(Path("secret"))


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("case", CASES)
def test_hostile_file_is_refused(good: Path, case: str) -> None:
    target = edited(good, good.with_name("bad.hessian.h5"), hessian_cases(good.with_name("secret"))[case])
    with pytest.raises(UserError) as error:
        load_spectrum(target)
    assert "\n" not in str(error.value)
    assert "SECRET" not in str(error.value)


def test_the_same_without_a_change_is_read(good: Path) -> None:
    loaded = load_spectrum(edited(good, good.with_name("old.hessian.h5"), lambda file: None))
    np.testing.assert_array_equal(loaded.top.values, [2.0, 1.0])
    assert loaded.density is not None
    assert loaded.density.size == 5


def test_a_state_holds_arrays_only(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": STATE_FORMAT, "format_version": 1, "settings": "{}", "seconds": 1.0})
        file["nodes"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(UserError, match="soft link"):
        SpectrumForm().read_state(path)


DAMAGE = {
    "a value of text": ("top", [{"value": "1", "residual": 0.0, "converged": True}]),
    "a value of yes": ("top", [{"value": True, "residual": 0.0, "converged": True}]),
    "no residual": ("top", [{"value": 1.0}]),
    "a negative residual": ("top", [{"value": 1.0, "residual": -1.0, "converged": True}]),
    "top of numbers": ("top", [1.0]),
    "a trace of text": ("trace", "3"),
    "a negative error": ("trace", {"value": 1.0, "error": -1.0}),
    "no settings": ("settings", []),
    "a label of numbers": ("label", 3),
    "a file of numbers": ("file", 3),
    "about of text": ("about", "net"),
    "a mask of text": ("settings", {"examples": "1", "mask": "none"}),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_hostile_json_is_refused(tmp_path: Path, case: str) -> None:
    one = json.loads(to_json([small()], [Path("net.h5")]))[0]
    one.pop("sha256_of_content")
    path = tmp_path / "x.json"
    path.write_text(json.dumps([one]), encoding="utf-8")
    assert read_results(path)[0].cells["lambda_max"].value == 2.0
    key, value = DAMAGE[case]
    path.write_text(json.dumps([one | {key: value}]), encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json"):
        read_results(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "NaN", "[1e999]", "9" * 5000, '{"a": ', "[null]", '"x"', "[[]]"]
)
def test_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_results(path)
    assert "\n" not in str(error.value)


def test_changed_json_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    text = to_json([small()], [Path("net.h5")])
    path.write_text(text, encoding="utf-8")
    assert read_results(path)[0].cells["lambda_max"].value == 2.0
    path.write_text(text.replace('"value": 2.0', '"value": 3.0'), encoding="utf-8")
    with pytest.raises(UserError, match="SHA-256"):
        read_results(path)


@pytest.mark.parametrize("settings", [{}, {"examples": "5eed", "mask": {}}, {"mask": None}])
def test_what_a_spectrum_does_not_tell_is_not_compared(tmp_path: Path, settings: dict[str, object]) -> None:
    path = tmp_path / "net.hessian.h5"
    save_spectrum(replace(small(), settings=settings, about={"engine": None}), path)
    [row] = read_results(path)
    assert row.cells["lambda_max"].value == 2.0
    assert row.made == ({"hessian examples": "5eed"} if "examples" in settings else {})
