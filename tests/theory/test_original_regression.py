"""The origin's regression: published numbers, closed forms, the law of luck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from theory_worlds import evidence

from bitgap.errors import UserError
from bitgap.theory.origin.regression import (
    NAMES,
    PUBLISHED,
    TYPED_IN,
    null_r2,
    origin_regressions,
    original_regression,
    replay_original_regression,
    smooth_null_r2,
)


def random_table(rng, n=12):
    return {name: rng.normal(size=n) for name in NAMES}, np.exp(rng.normal(size=n))


def test_published_numbers_come_out_of_the_typed_in_table():
    typed = origin_regressions()[0]
    assert typed.coefficients["intercept"] == pytest.approx(PUBLISHED["intercept"], abs=0.005)
    assert typed.coefficients["variance"] == pytest.approx(PUBLISHED["variance"], abs=0.005)
    assert typed.r2 == pytest.approx(PUBLISHED["r2"], abs=5e-4)


def test_the_published_coefficient_hangs_on_the_third_decimal_of_the_position():
    predictors = {name: np.array(TYPED_IN[name]) for name in NAMES}
    predictors["position"] = np.arange(12) / 11
    exact = original_regression(predictors, np.array(TYPED_IN["disparity"]))
    assert exact.coefficients["variance"] == pytest.approx(-2.2475, abs=5e-4)
    assert exact.r2 == pytest.approx(0.936, abs=5e-4)


def test_the_published_fit_is_above_luck_and_predicts_no_block_it_has_not_seen():
    typed, corrected, *_ = origin_regressions()
    assert typed.p < 0.001 and typed.r2 > typed.r2_null
    assert typed.r2_leave_one_out < 0
    # With the one block that the origin itself measured otherwise, most of it goes.
    assert corrected.r2 < 0.8 and corrected.r2_leave_one_out < typed.r2_leave_one_out


def test_measured_tables_have_coefficients_of_their_own():
    typed, _, mlp, attention = (one.coefficients for one in origin_regressions())
    assert abs(mlp["variance"]) < abs(typed["variance"]) / 3
    assert attention["sparsity"] < 0 < typed["sparsity"]
    assert attention["position"] < 0 < typed["position"]


def test_smooth_responses_are_fitted_far_better_than_independent_ones():
    typed = origin_regressions()[0]
    assert typed.r2_null_smooth > typed.r2 > typed.r2_null
    noise = np.column_stack([np.ones(12), np.random.default_rng(0).normal(size=(12, 4))])
    assert smooth_null_r2(noise, np.linspace(0, 1, 12)) < typed.r2_null_smooth


def test_left_out_blocks_are_predicted_by_fits_without_them():
    predictors, disparity = random_table(np.random.default_rng(1))
    x, y = np.stack([predictors[name] for name in NAMES], axis=1), np.log(disparity + 1)
    squares, around = 0.0, 0.0
    for out in range(12):
        kept = np.arange(12) != out
        design = np.column_stack([np.ones(11), x[kept]])
        fitted, *_ = np.linalg.lstsq(design, y[kept], rcond=None)
        squares += (y[out] - np.array([1.0, *x[out]]) @ fitted) ** 2
        around += (y[out] - y[kept].mean()) ** 2
    expected = 1 - squares / around
    assert original_regression(predictors, disparity).r2_leave_one_out == pytest.approx(expected)


def test_unrelated_predictors_have_the_r2_of_the_beta_law():
    rng = np.random.default_rng(0)
    limit = null_r2(12, 4)
    assert limit == pytest.approx(0.70, abs=0.005)
    found = [original_regression(*random_table(rng)) for _ in range(600)]
    # The F-test is the same test; log(d + 1) of log-normal d is near enough to normal.
    assert [f.r2 > limit for f in found] == [f.p < 0.05 for f in found]
    above = sum(f.r2 > limit for f in found)
    assert stats.binomtest(above, 600, 0.05).pvalue > 1e-3
    assert np.mean([f.r2_adjusted for f in found]) == pytest.approx(0.0, abs=0.06)
    assert np.mean([f.r2_leave_one_out for f in found]) < 0


def test_a_planted_law_is_recovered():
    rng = np.random.default_rng(3)
    predictors, _ = random_table(rng, 24)
    z = {name: (x - x.mean()) / x.std() for name, x in predictors.items()}
    disparity = np.exp(3 + 0.8 * z["variance"] - 0.5 * z["position"]) - 1
    found = original_regression(predictors, disparity)
    wanted = {"intercept": 3, "variance": 0.8, "outlier_ratio": 0, "sparsity": 0, "position": -0.5}
    assert found.coefficients == pytest.approx(wanted, abs=1e-6)
    assert found.r2_leave_one_out == pytest.approx(1.0)


def test_blocks_without_a_ratio_are_left_out_and_too_few_are_refused():
    predictors, disparity = random_table(np.random.default_rng(2))
    disparity[[0, 3]] = np.nan, -2.0
    assert original_regression(predictors, disparity).n == 10
    with pytest.raises(UserError, match="defined at 5 of 12 blocks"):
        original_regression(predictors, np.where(np.arange(12) < 7, np.nan, disparity))
    with pytest.raises(UserError, match=r"give \['position'\] too"):
        original_regression({n: predictors[n] for n in NAMES[:3]}, disparity)


def test_replay_has_a_row_for_every_table_and_model_and_says_why_one_is_empty():
    good, bad = evidence(2, layers=12)
    bad = replace(bad, original_disparity=np.full(12, np.nan))
    rows = replay_original_regression([good, bad])
    assert len(rows) == len(origin_regressions()) + 2
    assert rows[-2].source == good.model and rows[-2].n == 12
    assert rows[-1].r2 is None and "0 of 12 blocks" in rows[-1].reason
