"""Spectra of matrices against closed forms, laws and planted tails."""

from __future__ import annotations

import numpy as np
import pytest

from bitgap.records import Floats
from bitgap.stats.spectra import (
    energy_ratio,
    entropy_rank,
    fit_tail,
    noise_distance,
    noise_quantiles,
    singular_values,
    stable_rank,
)


def noise(seed: int, m: int, n: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(m, n))


def test_singular_values_are_those_of_an_svd():
    for shape in ((20, 50), (50, 20)):
        matrix = noise(0, *shape)
        np.testing.assert_allclose(
            singular_values(matrix), np.linalg.svd(matrix, compute_uv=False), rtol=1e-9
        )


@pytest.mark.parametrize(("m", "n"), [(256, 256), (256, 1024), (600, 200)])
def test_stable_rank_of_noise_is_mn_over_the_edge(m, n):
    found = np.mean([stable_rank(singular_values(noise(s, m, n))) for s in range(3)])
    # The largest eigenvalue lies a few n^(−2/3) about the edge (Tracy & Widom).
    assert found == pytest.approx(m * n / (np.sqrt(m) + np.sqrt(n)) ** 2, rel=0.03)


def test_ranks_of_k_equal_values_are_k():
    values = np.append(np.full(6, 2.0), np.zeros(4))
    assert stable_rank(values) == pytest.approx(6)
    assert entropy_rank(values) == pytest.approx(6)
    assert energy_ratio(values) == 1.0


def test_energy_ratio_leaves_the_noise_of_small_values_out():
    values = np.array([10.0, 5.0, 1e-6, 1e-9])
    assert energy_ratio(values) == 2.0
    assert energy_ratio(values, 1.0) > 1e6


def test_no_number_moves_with_the_scale_of_the_matrix():
    matrix = noise(0, 80, 120)
    one, two = singular_values(matrix), singular_values(7.3 * matrix)
    for measure in (stable_rank, entropy_rank, energy_ratio):
        assert measure(two) == pytest.approx(measure(one))
    assert noise_distance(two, (80, 120)) == pytest.approx(noise_distance(one, (80, 120)))
    first, second = fit_tail(one**2), fit_tail(two**2)
    assert first is not None
    assert second is not None
    assert second.exponent == pytest.approx(first.exponent)


# -- tails ----------------------------------------------------------------------------------------


def power_law(rng: np.random.Generator, n: int, exponent: float) -> Floats:
    return rng.random(n) ** (-1 / (exponent - 1))


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_planted_power_law_is_recovered(exponent):
    found = []
    for seed in range(20):
        tail = fit_tail(power_law(np.random.default_rng(seed), 800, exponent), n_draws=1)
        assert tail is not None
        found.append(tail.exponent)
    assert np.mean(found) == pytest.approx(exponent, abs=0.2)


def test_tail_is_found_above_a_body_that_is_none():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.uniform(0.2, 1.0, 500), power_law(rng, 500, 2.5)])
    tail = fit_tail(values)
    assert tail is not None
    assert tail.exponent == pytest.approx(2.5, abs=0.25)
    assert 0.5 < tail.start < 2.0
    assert tail.p > 0.1


def test_p_holds_its_rate_and_rejects_what_is_no_power_law():
    accepted = rejected = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        law = fit_tail(power_law(rng, 300, 2.5), n_draws=30, seed=seed)
        # Two heaps far apart have no power law that reaches over both with many values in it.
        heaps = np.concatenate([rng.uniform(1, 1.1, 150), rng.uniform(50, 51, 150)])
        other = fit_tail(heaps, n_draws=30, seed=seed)
        assert law is not None
        assert other is not None
        accepted += law.p > 0.1
        rejected += other.p <= 0.1
    # Nine tenths pass by construction; thirteen or fewer of twenty come once in ten thousand.
    assert accepted >= 14
    assert rejected >= 14


def test_few_values_have_no_tail():
    assert fit_tail(np.arange(1.0, 40.0)) is None
    assert fit_tail(np.full(100, 2.0)) is None


# -- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(200, 200), (100, 400)])
def test_noise_follows_its_law_and_structure_does_not(shape):
    quantiles = noise_quantiles(100, shape)
    assert quantiles.mean() == pytest.approx(1.0, abs=0.01)
    ratio = min(shape) / max(shape)
    assert (quantiles**2).mean() == pytest.approx(1 + ratio, rel=0.02)
    matrix = noise(0, *shape)
    far = matrix + 3 * np.outer(noise(1, shape[0], 1), noise(2, 1, shape[1]))
    near, away = (noise_distance(singular_values(x), shape) for x in (matrix, far))
    assert near < 0.05
    assert away > 10 * near
