"""Outlyingness: the ends of drifting and wandering profiles are no gateways, planted ones are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bitgap.records import Floats
from bitgap.stats.outlyingness import (
    decorrelated,
    outlyingness,
    pair_p,
    pair_percentile,
    prediction_t,
)

KINDS, MEASURES = 6, 7


def profiles(seed: int, n_blocks: int, *, drift: float = 0.5, memory: float = 0.0) -> Floats:
    """Columns that share most of their scatter within a kind, wander and drift with depth."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(KINDS, 1, n_blocks))
    y = 0.7 * shared + 0.7 * rng.normal(size=(KINDS, MEASURES, n_blocks))
    for block in range(1, n_blocks):
        y[..., block] += memory * y[..., block - 1]
    return y + drift * rng.normal(size=(KINDS, MEASURES, 1)) * np.arange(n_blocks)


def standing(y: Floats) -> Floats:
    z = decorrelated(prediction_t(y)).reshape(-1, y.shape[-1])
    return outlyingness(z, np.ones((1, len(z))))


def ends(y: Floats) -> float:
    return pair_p(standing(y)[0], (0, y.shape[-1] - 1))


@pytest.mark.parametrize("n_blocks", [8, 12, 24])
@pytest.mark.parametrize("memory", [0.0, 0.6, 0.9])
def test_ends_of_drifting_and_wandering_profiles_hold_their_rate(n_blocks, memory):
    n = 60
    hits = sum(ends(profiles(s, n_blocks, memory=memory)) <= 0.05 for s in range(n))
    # p is approximate: rates up to .09 were seen, so that is what more would be held against.
    assert stats.binom.sf(hits - 1, n, 0.09) > 1e-3


def test_planted_ends_stand_out():
    found = []
    for seed in range(20):
        y = profiles(seed, 12)
        y[:3, :, [0, 11]] += 15.0
        found.append(ends(y))
    assert np.mean(np.array(found) <= 1 / 66 + 1e-9) >= 0.8


def test_one_planted_end_does_not_make_a_pair():
    found = []
    for seed in range(20):
        y = profiles(seed, 12)
        y[:3, :, 0] += 15.0
        found.append(pair_percentile(standing(y), (0, 11))[0])
    # The other end is any block; of pairs that hold the planted one its rank is uniform.
    assert np.mean(np.array(found) >= 0.9) < 0.7


def test_one_wild_column_does_not_make_a_block_stand_out():
    y = profiles(0, 12)
    before = standing(y)[0]
    y[0, 0, 0] += 1e9
    after = standing(y)[0]
    assert after[0] - before[0] < np.log1p(100) * 3 / (KINDS * MEASURES)


# -- predictions ----------------------------------------------------------------------------------


def test_a_straight_line_has_no_outlier_and_a_step_one():
    line = 3.0 + 2.0 * np.arange(12.0)
    np.testing.assert_allclose(prediction_t(line), 0, atol=1e-6)
    line[0] += 1.0
    t = prediction_t(line)
    assert t[0] == 10.0
    np.testing.assert_allclose(t[1:], 0, atol=1e-6)


def test_ends_are_never_predicted_from():
    rng = np.random.default_rng(0)
    y = rng.normal(size=12)
    moved = y.copy()
    moved[[0, -1]] += 100.0
    np.testing.assert_array_equal(prediction_t(moved)[1:-1], prediction_t(y)[1:-1])


def test_t_has_about_the_spread_that_its_error_claims():
    rng = np.random.default_rng(0)
    t = prediction_t(rng.normal(size=(3000, 24)))
    # Few points make heavy tails; the middle half is a normal's within a third.
    quartiles = np.quantile(t[:, 0], [0.25, 0.75])
    assert stats.norm.ppf(0.75) * 0.7 < quartiles[1] < stats.norm.ppf(0.75) * 1.4
    assert quartiles[0] == pytest.approx(-quartiles[1], abs=0.1)


def test_missing_values_are_left_on_the_line():
    y = np.random.default_rng(0).normal(size=(1, 2, 12))
    y[0, 1, 3] = np.nan
    t = prediction_t(y)
    assert t[0, 1, 3] == 0
    assert np.isfinite(t).all()
    y[0, 1, 1:9] = np.nan
    t = prediction_t(y)
    assert t[0, 1, 0] == 0
    assert np.isfinite(decorrelated(t)).all()


def test_decorrelation_takes_out_what_measures_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(20, 1, 24))
    t = shared + 0.3 * rng.normal(size=(20, 5, 24))
    z = decorrelated(t).transpose(0, 2, 1).reshape(-1, 5)

    def off(x: Floats) -> float:
        r = np.corrcoef(x.T)
        return float(np.abs(r[~np.eye(5, dtype=bool)]).mean())

    assert off(t.transpose(0, 2, 1).reshape(-1, 5)) > 0.8
    # Drawn half-way towards none, so about half of it goes.
    assert off(z) < 0.75
    np.testing.assert_array_equal(decorrelated(np.zeros((2, 3, 8))), 0)


# -- pairs ----------------------------------------------------------------------------------------


def test_percentile_and_p_of_a_pair_are_ranks_among_all_pairs():
    outlying = np.array([5.0, 0.0, 1.0, 2.0, 4.0])
    assert pair_percentile(outlying[None], (0, 4))[0] == 1.0
    assert pair_p(outlying, (0, 4)) == 1 / 10
    assert pair_percentile(outlying[None], (0, 1))[0] == 1.5 / 9
    flat = np.ones((1, 6))
    assert pair_percentile(flat, (0, 5))[0] == 0.5
    assert pair_p(flat[0], (0, 5)) == 1.0


def test_percentile_of_two_blocks_in_random_order_is_uniform():
    rng = np.random.default_rng(0)
    found = pair_percentile(rng.normal(size=(4000, 12)), (0, 11))
    assert found.mean() == pytest.approx(0.5, abs=0.02)
    assert (found >= 0.9).mean() == pytest.approx(0.1, abs=0.02)
