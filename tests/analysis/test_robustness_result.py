"""Results of robustness: means, mCE, intervals, differences, the file, Table 5's rows."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robustness_cases import drawn
from scipy import stats

from analysis.robustness import ALEXNET, BENCHMARK, UNNORMALIZED, Reference, difference, read, rows
from analysis.robustness.images_interval import over_images, wilson
from analysis.robustness.reference_errors import usual_reference
from analysis.robustness.robustness_file import save
from analysis.robustness.robustness_table import table, to_csv
from landscape.errors import UserError


@pytest.mark.parametrize(("right", "count"), [(0, 7), (7, 7), (3, 50), (917, 1000)])
def test_wilson_is_scipys(right: int, count: int) -> None:
    found, wanted = wilson(right, count), stats.binomtest(right, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_the_interval_over_images_is_students() -> None:
    values = np.random.default_rng(0).random(30)
    found = over_images(values)
    wanted = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-6)


def test_means_and_mce_by_hand() -> None:
    found = drawn()
    errors = [1 - found.correct[number].mean() for number in range(15)]
    assert found.mean_accuracy().value == pytest.approx(1 - np.mean(errors))
    assert found.mce(UNNORMALIZED).value == pytest.approx(np.mean(errors))
    divided = [error / ALEXNET.errors[name] for error, name in zip(errors, BENCHMARK, strict=True)]
    assert found.mce(ALEXNET).value == pytest.approx(np.mean(divided))
    own = Reference("itself", found.corruption_errors())
    assert found.mce(own).value == pytest.approx(1)
    assert found.accuracy("fog", 3).value == found.correct[BENCHMARK.index("fog"), 2].mean()


def test_what_is_missing_has_no_mean() -> None:
    found = drawn()
    done = found.done.copy()
    done[3, 4] = False
    partial = replace(found, done=done, clean=None)
    assert isnan(partial.mean_accuracy().value)
    assert isnan(partial.mce(ALEXNET).value)
    assert isnan(partial.clean_accuracy().value)
    assert isnan(partial.accuracy(BENCHMARK[3], 5).value)
    assert len(partial.corruption_errors()) == 14
    assert not partial.finished
    assert not isnan(partial.mean_accuracy(["fog"]).value)


def test_a_difference_is_paired_by_image() -> None:
    first, second = drawn(0), drawn(1, share=0.7)
    found = difference(first, second)
    each = second.correct.mean((0, 1)) - first.correct.mean((0, 1))
    assert found.value == pytest.approx(each.mean())
    assert found.stderr_examples == pytest.approx(each.std(ddof=1) / sqrt(len(each)))
    assert difference(first, first).stderr_examples == 0
    with pytest.raises(UserError, match="other images"):
        difference(first, replace(second, places=second.places + 1))
    with pytest.raises(UserError, match="differ in recipe"):
        difference(first, replace(second, settings={"images": "a", "recipe": {"seed": 1}}))


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    found = drawn()
    path = save(found, tmp_path / "a.robustness.h5")
    again = read(path)
    for name in ("places", "labels", "clean", "correct", "done"):
        assert np.array_equal(getattr(found, name), getattr(again, name))
    assert (again.name, again.sources, again.about) == (found.name, found.sources, found.about)
    assert read(save(replace(found, clean=None), path)).clean is None


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = save(drawn(), tmp_path / "a.robustness.h5")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256 doesn't fit"):
        read(path)
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "b.h5")
    wrong = replace(drawn(), corruptions=("rain", *BENCHMARK[1:]))
    with pytest.raises(UserError, match="what can't be"):
        read(save(wrong, path))


WRONG: list[tuple[str, Any]] = [
    ("run", {"seed": [1]}),
    ("run", {"seed": "x"}),
    ("run", {"sparsity": "abc"}),
    ("run", {"sparsity": -5}),
    ("run", {"sparsity": 5}),
    ("run", {"sparsity": 10**400}),
    ("run", {"method": 3}),
    ("run", {"optimizer": ["sgd"]}),
    ("run", {"recipe": {"lr": 10**400}}),
    ("run", {"recipe": "usual"}),
    ("run", []),
    ("data", "cifar10"),
    ("deviations", {"fog": 3}),
    ("architecture", 5),
    ("checkpoint", {"metrics": 3}),
    ("checkpoint", {"metrics": {"epochs_trained": 10**400}}),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_what_tables_read_has_its_type(tmp_path: Path, key: str, value: Any) -> None:
    found = drawn()
    path = save(replace(found, about={**found.about, key: value}), tmp_path / "a.robustness.h5")
    with pytest.raises(UserError, match=r"a\.robustness\.h5: not a readable file of analysis\.robustness"):
        read(path)


def test_null_says_no_more_than_nothing(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("run", "checkpoint", "data", "deviations", "pixels", "stamps"))
    one = read(save(replace(drawn(), about=nothing), tmp_path / "a.robustness.h5"))
    assert "images of images" in str(table([one], usual_reference(False)).caption)
    assert to_csv([one], usual_reference(False))
    assert isnan(rows([one])[0].sparsity)
    unknown = {"run": dict.fromkeys(("method", "sparsity", "optimizer", "seed", "recipe"))}
    again = read(save(replace(drawn(1), about=unknown), tmp_path / "b.robustness.h5"))
    assert isnan(rows([again])[0].sparsity)


def test_rows_pair_optimizers_by_seed() -> None:
    found = [
        drawn(seed + 10 * (name == "s2sam"), optimizer=name, seed=seed)
        for name in ("s2sam", "sgd")
        for seed in (0, 1)
    ]
    first, second = rows(found)
    assert (first.optimizer, second.optimizer) == ("sgd", "s2sam")
    assert first.gain is None
    assert second.gain is not None
    assert second.gain.value == pytest.approx(second.corrupted.value - first.corrupted.value)
    assert first.corrupted.value == pytest.approx(np.mean([one.mean_accuracy().value for one in found[2:]]))
    assert first.source == "generated"
    with pytest.raises(UserError, match="same cell"):
        rows([found[0], replace(found[0], name="again")])
