"""The additive null: exact where damage adds up, the least of its squares where it does not."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import least_squares

from bitgap.quant.sets import membership
from bitgap.stats.additive import additive_damage, fit_additive, log_r2, r2


def masks_of(n):
    """All masks but the one that protects all."""
    return np.arange(2**n - 1)


def noisy(n, columns, spread, seed=0, bend=0.0):
    rng = np.random.default_rng(seed)
    rounded = 1 - membership(masks_of(n), n)
    shares = rng.gamma(2, 1, (n, columns))
    damage = additive_damage(shares, rounded)
    damage = damage * (1 + bend * damage / damage.max(0))
    return shares, damage * np.exp(spread * rng.normal(size=damage.shape)), rounded


def squares(shares, damage, rounded):
    return np.square(np.log(damage) - np.log(additive_damage(shares, rounded))).sum(0)


def test_masks_say_what_they_leave_to_round():
    assert (1 - membership([0b000, 0b101, 0b011], 3)).tolist() == [[1, 1, 1], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("n", [2, 5, 9])
def test_damage_that_adds_up_is_taken_apart_exactly(n):
    shares, damage, rounded = noisy(n, 4, 0.0)
    found = fit_additive(damage, rounded)
    assert found == pytest.approx(shares, rel=1e-6)
    assert log_r2(damage, found, rounded) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("bend", [0.0, 1.0])
def test_the_fit_is_that_of_scipy(bend):
    _, damage, rounded = noisy(6, 3, 0.3, seed=1, bend=bend)
    found = fit_additive(damage, rounded)
    for column in range(3):
        oracle = least_squares(
            lambda k, c=column: (
                np.log(additive_damage(k[:, None], rounded)[:, 0]) - np.log(damage[:, c])
            ),
            np.full(6, damage.mean() / 3),
            bounds=(1e-12, np.inf),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        assert squares(found, damage, rounded)[column] <= 2 * oracle.cost * (1 + 1e-6)
        assert found[:, column] == pytest.approx(oracle.x, rel=1e-3, abs=1e-6)


def test_a_block_whose_protection_harms_gets_nothing_and_never_less():
    rounded = 1 - membership(masks_of(5), 5)
    shares = np.array([3.0, -0.3, 1.0, 2.0, 1.0])[:, None]
    damage = additive_damage(shares, rounded)
    damage[damage <= 0] = np.nan  # where only the harmful block is rounded
    found = fit_additive(damage, rounded)
    assert (found >= 0).all()
    assert found[1] == pytest.approx(0, abs=1e-9)
    for other in np.random.default_rng(0).uniform(0.9, 1.1, (50, 5, 1)):
        kept = np.isfinite(damage[:, 0])
        tried = squares(found * other + 1e-9, damage[kept], rounded[kept])
        assert squares(found, damage[kept], rounded[kept]) <= tried


def test_no_block_can_be_moved_to_a_smaller_sum_of_squares():
    _, damage, rounded = noisy(8, 2, 0.4, seed=3)
    found = fit_additive(damage, rounded)
    least = squares(found, damage, rounded)
    for block in range(8):
        for factor in (0.99, 1.01):
            moved = found.copy()
            moved[block] *= factor
            assert (squares(moved, damage, rounded) > least).all()


def test_small_masks_count_as_much_as_large_ones():
    # A block a thousandth as harmful is known as well as the others, which plain squares would not.
    rounded = 1 - membership(masks_of(6), 6)
    shares = np.array([1e-3, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None]
    rng = np.random.default_rng(0)
    damage = additive_damage(shares, rounded) * np.exp(0.01 * rng.normal(size=(63, 1)))
    assert fit_additive(damage, rounded)[0, 0] == pytest.approx(1e-3, rel=0.05)


def test_masks_left_out_change_nothing_and_a_column_without_any_is_undefined():
    shares, damage, rounded = noisy(6, 3, 0.0)
    damage[::3, 0] = np.nan
    damage[1::3, 1] = 0.0
    damage[:, 2] = np.nan
    found = fit_additive(damage, rounded)
    assert found[:, :2] == pytest.approx(shares[:, :2], rel=1e-5)
    assert np.isnan(found[:, 2]).all()


def test_columns_do_not_hang_on_each_other_or_on_the_start():
    shares, damage, rounded = noisy(6, 4, 0.2, seed=5)
    together = fit_additive(damage, rounded)
    alone = np.concatenate([fit_additive(damage[:, [c]], rounded) for c in range(4)], axis=1)
    assert together == pytest.approx(alone, rel=1e-4)
    assert fit_additive(damage, rounded, shares) == pytest.approx(together, rel=1e-4)
    assert fit_additive(damage, rounded, np.ones((6, 1))) == pytest.approx(together, rel=1e-4)


def test_r2_is_one_of_itself_zero_of_the_mean_and_undefined_of_a_constant():
    values = np.random.default_rng(0).normal(size=(20, 2))
    assert r2(values, values) == pytest.approx([1, 1])
    assert r2(values, np.broadcast_to(values.mean(0), values.shape)) == pytest.approx([0, 0])
    assert np.isnan(r2(np.ones(5), np.ones(5)))
    gappy = values.copy()
    gappy[0, 0] = np.nan
    assert r2(gappy, gappy) == pytest.approx([1, 1])


def test_a_factorial_of_twelve_blocks_is_refitted_in_milliseconds_a_draw():
    _, damage, rounded = noisy(12, 16, 0.1)
    begun = fit_additive(damage, rounded)
    draws = np.repeat(damage, 4, axis=1) * np.exp(
        0.02 * np.random.default_rng(1).normal(size=(len(damage), 64))
    )
    start = time.process_time()
    fit_additive(draws, rounded, np.repeat(begun, 4, axis=1))
    assert time.process_time() - start < 2.0
