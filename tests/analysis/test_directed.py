"""One-sided sign flips and Holm's correction, against scipy and by hand."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from analysis.statistics.directed import directed_test, holm
from landscape.errors import UserError

# Rounded: what differs by less than `ROUNDING` counts as equal here, not there.
VALUES = st.lists(st.floats(-5, 5).map(lambda one: round(one, 6)), min_size=2, max_size=9)


@given(VALUES, st.sampled_from([1, -1]))
def test_is_scipys_one_sided_permutation_test(values: list[float], sign: int) -> None:
    found = directed_test(values, sign)
    side = {1: "greater", -1: "less"}
    for p_value, one in ((found.p_value, sign), (found.p_opposite, -sign)):
        expected = permutation_test(
            (np.array(values),),
            np.mean,
            permutation_type="samples",
            n_resamples=np.inf,
            alternative=side[one],  # type: ignore[arg-type]
        ).pvalue
        assert p_value == pytest.approx(expected, abs=1e-9)


def test_six_units_of_one_sign_pass_holms_first_step_of_three() -> None:
    assert holm([directed_test([1.0, 2, 3, 4, 5, 6], 1).p_value, 0.9, 0.9])[0] < 0.05
    assert holm([directed_test([1.0, 2, 3, 4, 5], 1).p_value, 0.9, 0.9])[0] > 0.05


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_its_definition(p_values: list[float]) -> None:
    ordered = sorted(p_values)
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        before = [min(1.0, (len(ordered) - rank) * ordered[rank]) for rank in range(ordered.index(p) + 1)]
        assert corrected == pytest.approx(max(before))
        assert corrected >= p


def test_how_many_units_would_show_it() -> None:
    generator = np.random.default_rng(0)
    needed = directed_test([0.1, 0.3, -0.1, 0.25, 0.2, -0.05], 1).units_needed
    spread, mean = (
        np.std([0.1, 0.3, -0.1, 0.25, 0.2, -0.05], ddof=1),
        np.mean([0.1, 0.3, -0.1, 0.25, 0.2, -0.05]),
    )
    draws = generator.normal(mean, spread, (400, int(needed)))
    shown = [directed_test(list(row), 1).p_value < 0.05 for row in draws[:, :14]]
    assert 0.6 < np.mean(shown) < 0.95
    assert directed_test([-1.0, -2.0], 1).units_needed == inf


def test_refuses_what_it_cant_count() -> None:
    with pytest.raises(UserError, match="at most 20"):
        directed_test([1.0] * 21, 1)
    with pytest.raises(UserError, match="finite"):
        directed_test([1.0, np.nan], 1)


@pytest.mark.parametrize("sign", [0, 0.5, 2, np.nan, "+"])
def test_a_sign_is_plus_or_minus_one(sign: float) -> None:
    with pytest.raises(UserError, match="sign"):
        directed_test([1.0, 2, 3, 4, 5, 6], sign)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [np.nan, -1.0, 2.0, np.inf, "0.5"])
def test_holm_takes_probabilities_alone(wrong: float) -> None:
    for place in range(3):
        given = [0.01, 0.02]
        given.insert(place, wrong)
        with pytest.raises(UserError, match="p-value"):
            holm(given)
    assert holm([]) == []
    assert holm([1.0, 0.0]) == [1.0, 0.0]


def test_equal_values_need_no_number_of_units() -> None:
    assert np.isnan(directed_test([0.3 - 0.2, 0.1, 0.2 - 0.1], 1).units_needed)
    assert np.isnan(directed_test([0.1], 1).units_needed)
