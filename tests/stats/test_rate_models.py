"""Rate and distortion: closed forms of a Gaussian's quantizers; planted parameters are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bitgap.records import Floats
from bitgap.stats.rate_models import (
    MODELS,
    Cells,
    by_fold,
    fit,
    gaussian_distortion,
    leave_one_bit_out,
    lloyd_max_distortion,
    original_form,
)

LOG_Q = np.repeat(np.log2([1.0, 3, 7, 15, 31, 127]), 5)
SHARE = np.tile([0.0, 0.1, 0.2, 0.3, 0.5], 6)


def cells(values: Floats, *, log: bool = True, languages: int = 1) -> Cells:
    """The same cells for every language, one after another."""
    n = len(LOG_Q)
    return Cells(
        log_q=np.tile(LOG_Q, languages),
        share=np.tile(SHARE, languages),
        language=np.repeat(np.arange(languages), n),
        values=values,
        forecast=np.full(n * languages, np.nan),
        log=log,
    )


def form(a: float, b: float, c: float) -> Floats:
    return a * 2 ** (-b * LOG_Q) * (1 - c * SHARE)


# -- quantizers of a Gaussian ---------------------------------------------------------------------


def test_a_gaussian_loses_six_decibels_a_bit():
    rates = np.arange(1, 9.0)
    slope = np.diff(10 * np.log10(gaussian_distortion(rates)))
    np.testing.assert_allclose(slope, -6.0206, atol=1e-4)


@pytest.mark.parametrize(("bits", "known"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_lloyd_max_has_the_distortion_of_the_tables(bits, known):
    # Max 1960, table I; 1 − 2/π for one bit.
    assert lloyd_max_distortion(bits) == pytest.approx(known, rel=5e-4)


def test_no_scalar_quantizer_reaches_the_bound_and_many_levels_near_panter_and_dite():
    found = np.array([lloyd_max_distortion(bits) for bits in (2, 4, 6)])
    assert (found > gaussian_distortion(np.array([2.0, 4, 6]))).all()
    # High-resolution limit √3π/2 · 2^(−2R), 4.35 dB over the bound; approached from below.
    assert found[-1] / gaussian_distortion(6.0) == pytest.approx(np.sqrt(3) * np.pi / 2, rel=0.04)


def test_per_log_q_theory_s_slope_is_two_at_any_bits_and_per_bit_at_none():
    """Error of rounding to −q..q is that of a step of 1/q: the reason for the abscissa."""
    bits = np.array([3.0, 4, 5, 6, 8])
    q = 2 ** (bits - 1) - 1
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 200_000)
    error = [((np.round(x * k) / k - x) ** 2).mean() for k in q]
    slopes = -np.diff(np.log2(error)) / np.diff(np.log2(q))
    np.testing.assert_allclose(slopes, 2, atol=0.02)
    per_bit = -np.diff(np.log2(error)) / np.diff(bits)
    assert per_bit.max() > 2.4
    assert (per_bit > 2.01).all()


# -- M1 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [(3.0, 2.0, 1.2), (0.4, 0.5, 0.3), (2.0, 1.0, -0.8)])
def test_planted_parameters_are_found_within_five_per_cent(truth):
    a, b, c = original_form(np.log2(form(*truth))[None], LOG_Q, SHARE)[0]
    np.testing.assert_allclose([2**a, b, c], truth, rtol=0.05)
    noisy = np.log2(form(*truth)) + 0.02 * np.random.default_rng(0).normal(size=len(LOG_Q))
    a, b, c = original_form(noisy[None], LOG_Q, SHARE)[0]
    np.testing.assert_allclose([2**a, b, c], truth, rtol=0.05)


def test_planted_parameters_are_found_on_the_linear_scale_too():
    found = fit("M1", cells(form(3.0, 0.7, 1.2), log=False))
    assert found.levels[0] == pytest.approx(3.0, rel=0.01)
    assert found.shape == pytest.approx({"b": 0.7, "c": 1.2}, rel=0.01)
    assert found.r2 == pytest.approx(1, abs=1e-6)


def test_many_sets_at_once_are_as_each_alone():
    rng = np.random.default_rng(1)
    values = np.log2(form(1.0, 1.0, 0.5)) + 0.3 * rng.normal(size=(4, len(LOG_Q)))
    alone = [original_form(one[None], LOG_Q, SHARE)[0] for one in values]
    np.testing.assert_allclose(original_form(values, LOG_Q, SHARE), alone, rtol=1e-9)


def test_grid_and_search_find_the_same_minimum():
    rng = np.random.default_rng(2)
    values = np.log2(form(1.0, 1.5, 0.9)) + 0.2 * rng.normal(size=len(LOG_Q))
    by_grid = fit("M1", cells(values))
    # With one language M3 is M1, found by another road.
    by_search = fit("M3", cells(values))
    assert by_grid.spread == pytest.approx(by_search.spread, rel=1e-4)
    assert by_grid.shape["c"] == pytest.approx(by_search.shape["c"], abs=0.02)


def test_without_two_shares_there_is_no_c_and_without_two_bits_nothing():
    one_share = original_form(np.log2(form(1, 2, 0))[None, ::5], LOG_Q[::5], SHARE[::5])[0]
    assert one_share[1] == pytest.approx(2)
    assert np.isnan(one_share[2])
    assert np.isnan(original_form(np.zeros((1, 5)), LOG_Q[:5], SHARE[:5])).all()


# -- the other models -----------------------------------------------------------------------------


def test_languages_have_levels_and_c_of_their_own_in_m3_only():
    values = np.concatenate([np.log2(form(1, 2, 0.5)), np.log2(form(8, 2, 1.5))])
    both = cells(values, languages=2)
    own = fit("M3", both)
    np.testing.assert_allclose(own.own, [0.5, 1.5], rtol=0.01)
    np.testing.assert_allclose(own.levels, [0, 3], atol=0.02)
    assert own.spread < 1e-3 < 0.5 < fit("M1", both).spread


def test_saturation_is_found_where_it_is_and_m4_is_m1_where_it_is_not():
    damage = (1 - 0.8 * SHARE) / (1 + 2 ** (2 * (LOG_Q - 3.5)))
    bent = cells(np.log2(damage))
    found = fit("M4", bent)
    assert found.shape == pytest.approx({"b": 2, "c": 0.8, "m": 3.5}, rel=0.02)
    assert fit("M1", bent).spread > 10 * found.spread
    straight = cells(np.log2(form(1, 2, 0.8)))
    assert fit("M4", straight).shape["b"] == pytest.approx(2, rel=0.01)


def test_a_forecast_is_taken_as_it_stands():
    values = np.log2(form(1, 2, 0.8))
    off = replace(cells(values), forecast=values + 1)
    assert fit("M2", off).spread == pytest.approx(1)
    np.testing.assert_array_equal(fit("M2", off).values(off), off.forecast)
    assert fit("M2", replace(off, forecast=values)).r2 == 1


# -- prediction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", ["M0", "M1", "M4"])
def test_the_model_that_made_the_cells_predicts_them_best_or_hardly_worse(truth):
    rng = np.random.default_rng(3)
    made = {
        "M0": np.ones(len(LOG_Q)),
        "M1": form(1, 1.5, 1.0),
        "M4": (1 - 0.8 * SHARE) / (1 + 2 ** (2 * (LOG_Q - 4))),
    }[truth]
    noisy = cells(np.log2(made) + 0.1 * rng.normal(size=len(LOG_Q)))
    density = {m: leave_one_bit_out(m, noisy) for m in MODELS if m != "M2"}
    best = max(density, key=lambda m: density[m].mean())
    behind, error = by_fold(density[best] - density[truth], LOG_Q)
    assert behind <= 2 * error + 1e-12
    wrong = "M0" if truth != "M0" else "M2"
    if wrong in density:
        assert density[truth].mean() - density[wrong].mean() > 1


def test_density_is_that_of_the_held_out_cells_and_of_no_others():
    values = np.log2(form(1, 1.5, 1.0)) + 0.1 * np.random.default_rng(4).normal(size=len(LOG_Q))
    whole = leave_one_bit_out("M0", cells(values))
    rest = values[LOG_Q != 0]
    by_hand = stats.norm.logpdf(values[LOG_Q == 0], rest.mean(), rest.std())
    np.testing.assert_allclose(whole[LOG_Q == 0], by_hand)


def test_too_few_bits_or_no_forecast_have_no_density():
    values = np.log2(form(1, 2, 1))
    assert np.isnan(leave_one_bit_out("M2", cells(values))).all()
    assert np.isnan(leave_one_bit_out("M1", cells(values).where(LOG_Q < 3))).all()


def test_standard_error_is_over_folds():
    density = np.repeat([0.0, 1, 2], 4)
    mean, error = by_fold(density, np.repeat([2.0, 3, 4], 4))
    assert mean == 1
    assert error == pytest.approx(np.std([0, 1, 2], ddof=1) / np.sqrt(3))


@pytest.mark.parametrize("truth", [(5.0, -1.0, 0.5), (200.0, 3.0, 1.0)])
def test_off_the_logarithm_no_start_sticks(truth):
    found = fit("M1", cells(form(*truth), log=False))
    assert found.r2 > 0.999
    # The constant is a special case, so no fit is worse.
    noise = cells(np.random.default_rng(5).normal(size=len(LOG_Q)), log=False)
    assert fit("M1", noise).r2 >= 0


def test_values_of_any_size_are_fitted_alike():
    plain = fit("M1", cells(form(5.0, 1.0, 0.5), log=False))
    huge = fit("M1", cells(1e120 * form(5.0, 1.0, 0.5), log=False))
    assert huge.shape == pytest.approx(plain.shape)
    assert huge.levels[0] == pytest.approx(1e120 * plain.levels[0])
