"""Dimension estimators against closed forms and planted dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from bitgap.records import Floats, Integers
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.dimension import (
    components_for,
    covariance_eigenvalues,
    gride,
    neighbour_distances,
    participation_ratio,
    participation_ratios,
    rank_me,
    unit_products,
)


def apart(states: Floats, units: Integers | None = None) -> float:
    """PR from pairs of different units; every row is a unit of its own if none are given."""
    rows = np.arange(len(states), dtype=np.int64) if units is None else units
    n = int(rows.max()) + 1
    products, traces = unit_products(states, rows, n)
    return float(participation_ratios(products[None], traces[None])(np.ones((1, n)))[0, 0])


def power_law(seed: int, n: int, d: int, exponent: float = 1.0) -> tuple[Floats, float]:
    """States whose eigenvalues fall as a power of their rank, and their true PR."""
    eigenvalues = np.arange(1, d + 1) ** -exponent
    truth = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    return np.random.default_rng(seed).normal(size=(n, d)) * np.sqrt(eigenvalues), truth


# -- participation ratio --------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(300, 300), (400, 100), (60, 240)])
def test_plain_ratio_of_isotropic_data_is_nd_over_n_plus_d(n, d):
    found = [
        participation_ratio(np.random.default_rng(seed).normal(size=(n, d))) for seed in range(5)
    ]
    # The estimated mean takes one degree of freedom.
    truth = (n - 1) * d / (n - 1 + d)
    assert abs(np.mean(found) - truth) < 0.01 * truth


def test_different_units_see_the_truth_where_the_plain_ratio_does_not():
    found, plain, truth = [], [], 0.0
    for seed in range(20):
        states, truth = power_law(seed, 300, 300)
        found.append(apart(states))
        plain.append(participation_ratio(states))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert truth == pytest.approx(24.0, abs=0.1)
    assert abs(np.mean(found) - truth) < 4 * error + 0.01 * truth
    # Gaussian: E tr Σ̂² = tr Σ² + (tr Σ)²/(n − 1), so the plain ratio is a twelfth too low.
    assert np.mean(plain) == pytest.approx(1 / (1 / truth + 1 / 299), rel=0.04)
    assert np.subtract(found, plain).min() > 0


def test_halves_are_one_of_the_ways_the_pairs_average_over():
    states, _ = power_law(0, 200, 50)
    rng, ratios = np.random.default_rng(1), []
    products, traces = unit_products(states, np.arange(200), 200)
    for _ in range(200):
        half = rng.permutation(200) < 100
        a, b = states[half], states[~half]
        below = np.trace(a.T @ a @ b.T @ b)
        ratios.append((traces[half].sum() * traces[~half].sum(), below))
    above, below = np.mean(ratios, axis=0)
    assert apart(states) == pytest.approx(above / below, rel=0.01)
    assert products[3, 7] == pytest.approx((states[3] @ states[7]) ** 2)


def test_words_of_one_sentence_that_are_alike_do_not_lower_the_ratio():
    # Each unit's rows share most of what they are: rows are no independent draws, units are.
    rng, d = np.random.default_rng(0), 40
    units = np.repeat(np.arange(80, dtype=np.int64), 10)
    own = rng.normal(size=(80, d))[units]
    states = own + 0.1 * rng.normal(size=(800, d))
    assert apart(states, units) == pytest.approx(d, rel=0.1)
    assert participation_ratio(states) < 0.75 * d


@pytest.mark.parametrize("tile", [8, 10**9])  # slice by slice, and by products of rows
def test_products_do_not_depend_on_how_they_are_made(tile, monkeypatch):
    monkeypatch.setattr("bitgap.stats.dimension._TILE_BYTES", tile)
    rng = np.random.default_rng(0)
    states, units = rng.normal(size=(60, 7)), rng.integers(0, 5, 60)
    products, traces = unit_products(states, units, 6)
    for s in range(6):
        for t in range(6):
            wanted = ((states[units == s] @ states[units == t].T) ** 2).sum()
            assert products[s, t] == pytest.approx(wanted)
    assert traces.sum() == pytest.approx((states**2).sum())
    wide, _ = unit_products(rng.normal(size=(4, 9)), np.array([0, 0, 1, 2]), 3)
    assert wide.shape == (3, 3)


def test_resampling_sentences_is_not_biased():
    states, _ = power_law(3, 600, 30)
    units = np.arange(600) // 10
    products, traces = unit_products(states, units, 60)
    statistic = participation_ratios(products[None], traces[None])
    draws = statistic(bootstrap_weights(60, 2000, 0))[:, 0]
    point = statistic(np.ones((1, 60)))[0, 0]
    assert abs(draws.mean() - point) < 0.25 * draws.std()
    weights = np.zeros((1, 60))
    weights[0, 4] = 2
    assert np.isnan(statistic(weights)[0, 0])


# -- spectra --------------------------------------------------------------------------------------


def test_k_equal_eigenvalues_have_rank_k():
    values = np.append(np.full(7, 3.0), np.zeros(5))
    assert rank_me(values) == pytest.approx(7)
    assert components_for(values, 0.95) == 7
    assert components_for(np.array([90.0, 5.0, 3.0, 2.0])) == 2
    assert components_for(np.full(20, 1.0)) == 19


def test_eigenvalues_are_those_of_the_covariance_whichever_side_is_smaller():
    for shape in ((50, 8), (8, 50)):
        states = np.random.default_rng(0).normal(size=shape)
        found = covariance_eigenvalues(states)
        wanted = np.linalg.eigvalsh(np.cov(states.T, bias=True))[::-1][: len(found)]
        np.testing.assert_allclose(found, np.clip(wanted, 0, None), atol=1e-10)


# -- intrinsic dimension --------------------------------------------------------------------------


def ball(rng: np.random.Generator, n: int, k: int, d: int) -> Floats:
    """Points uniform in a k-ball, embedded in d dimensions by a random rotation."""
    points = rng.normal(size=(n, k))
    points *= (rng.random(n) ** (1 / k) / np.linalg.norm(points, axis=1))[:, None]
    return points @ np.linalg.qr(rng.normal(size=(d, k)))[0].T


@pytest.mark.parametrize("k", [2, 5])
def test_intrinsic_dimension_of_a_ball_is_found_at_every_scale(k):
    distances = neighbour_distances(ball(np.random.default_rng(k), 1500, k, 30), 16)
    found = gride(distances, 1)
    # n/Σ log μ has relative error 1/√n; the ball's edge biases it low by some per cent.
    assert found == pytest.approx(k, rel=0.12)
    for scale in (2, 4, 8):
        assert gride(distances, scale) == pytest.approx(k, rel=0.12)


def test_noise_raises_the_dimension_near_and_not_far():
    rng = np.random.default_rng(0)
    points = ball(rng, 1500, 2, 20) + 0.01 * rng.normal(size=(1500, 20))
    distances = neighbour_distances(points, 128)
    near, far = gride(distances, 1), gride(distances, 64)
    assert near is not None
    assert far is not None
    assert near > 1.5 * far
    assert far == pytest.approx(2, rel=0.2)


def test_high_dimensions_come_out_low_as_documented():
    found = gride(neighbour_distances(np.random.default_rng(0).normal(size=(1500, 40)), 2), 1)
    assert found is not None
    assert 20 < found < 32


def test_points_without_distinct_neighbours_have_no_dimension():
    assert gride(neighbour_distances(np.zeros((5, 3)), 2), 1) is None
    assert gride(neighbour_distances(np.eye(6), 4), 2) is None


def test_distances_are_to_others_and_sorted():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    found = neighbour_distances(points, 3)
    np.testing.assert_allclose(found[0], [1, 3, 7])
    np.testing.assert_allclose(found[2], [2, 3, 4])
