"""Information of states against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from bitgap.stats.information import (
    histogram_entropy_bits,
    knn_entropy_nats,
    noise_limited_bits,
    prompt_entropy_bits,
    renyi2_bits,
)


def test_gaussian_bits_that_survive_noise_are_exact():
    variance, noise = np.array([3.0, 1.0, 0.5]), np.array([1.0, 1.0, 0.25])
    wanted = 0.5 * np.log2(1 + variance / noise).sum()
    assert noise_limited_bits(np.diag(variance), noise) == pytest.approx(wanted, rel=1e-12)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = rotation @ np.diag(variance) @ rotation.T
    even = 0.5 * np.log2(1 + variance).sum()
    assert noise_limited_bits(turned, np.ones(3)) == pytest.approx(even, rel=1e-12)


def test_surviving_bits_do_not_move_with_the_scale():
    rng = np.random.default_rng(0)
    states, noise = rng.normal(size=(200, 6)), rng.random(6) + 0.1
    plain = noise_limited_bits(np.cov(states.T), noise)
    scales = rng.random(6) * 10
    scaled = noise_limited_bits(np.cov((states * scales).T), noise * scales**2)
    assert scaled == pytest.approx(plain, rel=1e-9)
    assert noise_limited_bits(np.cov(states.T), np.zeros(6)) == float("inf")
    assert np.isfinite(noise_limited_bits(np.cov(states.T), np.array([1, 1, 1, 1, 1, 0.0])))


def test_equal_eigenvalues_have_the_entropy_of_their_number():
    # Rows are corners of a cross, so the centred covariance has k equal eigenvalues.
    k = 8
    states = np.concatenate([np.eye(k), -np.eye(k)])
    assert renyi2_bits(states) == pytest.approx(3.0)
    assert renyi2_bits(7.5 * states + 100) == pytest.approx(3.0)
    assert renyi2_bits(np.ones((5, 3))) == 0.0


def test_prompt_entropy_is_the_mean_over_prompts_of_centred_tokens():
    k = 4
    cross = np.concatenate([np.eye(k), -np.eye(k)])
    line = np.outer(np.arange(5.0), np.ones(k))
    states = np.concatenate([cross + 3, line, np.ones((2, k))])
    prompts = np.array([1] * 8 + [0] * 5 + [2] * 2)
    # Two bits, none, and a prompt too short to count.
    assert prompt_entropy_bits(states, prompts) == pytest.approx(1.0)
    assert np.isnan(prompt_entropy_bits(states[-2:], prompts[-2:]))
    mixed = np.random.default_rng(0).permutation(len(states))
    assert prompt_entropy_bits(states[mixed], prompts[mixed]) == pytest.approx(1.0)


@pytest.mark.parametrize("d", [1, 4])
def test_neighbours_see_the_entropy_of_a_gaussian(d):
    points = np.random.default_rng(d).normal(size=(2000, d))
    # Its sampling error at 2,000 points is .03 to .06.
    wanted = d / 2 * np.log(2 * np.pi * np.e)
    assert knn_entropy_nats(points) == pytest.approx(wanted, abs=0.16)
    # Scaling by c adds d log c, which is why states are brought to one size first.
    assert knn_entropy_nats(3 * points) - knn_entropy_nats(points) == pytest.approx(d * np.log(3))


def test_histogram_entropy_of_even_values_is_that_of_the_bins():
    assert histogram_entropy_bits(np.arange(1024.0)) == pytest.approx(8.0)
    assert histogram_entropy_bits(np.array([[0.0, 1.0], [0.0, 1.0]])) == 1.0
