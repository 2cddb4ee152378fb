"""Similarity of states: CKA against its definition and closed forms, retrieval by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from bitgap.records import Floats
from bitgap.stats.similarity import (
    cosine_matrix,
    debiased_cka,
    margin_hits,
    separation,
    strict_hits,
    without_common,
)


def rotation(rng: np.random.Generator, d: int) -> Floats:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


# --------------------------------------------------------------------------------------------- CKA


def _hsic_by_tuples(k: Floats, m: Floats) -> float:
    """Returns the U-statistic of HSIC (Song et al. 2012, eq. 4): a mean over distinct 4-tuples."""
    terms = [
        k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q]
        for i, j, q, r in permutations(range(len(k)), 4)
    ]
    return float(np.mean(terms))


def test_cka_is_its_definition_over_all_tuples_of_items():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(7, 5))
    b[:, 0] += a[:, 0]
    ka, kb = a @ a.T, b @ b.T
    cross, own_a, own_b = (_hsic_by_tuples(*two) for two in ((ka, kb), (ka, ka), (kb, kb)))
    assert debiased_cka(a, b) == pytest.approx(cross / np.sqrt(own_a * own_b), abs=1e-10)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_cka_of_a_rotated_copy_with_noise_has_its_closed_form(sigma):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(20):
        a = rng.normal(size=(200, 16))
        b = a @ rotation(rng, 16) + sigma * rng.normal(size=(200, 16))
        found.append(debiased_cka(a, b))
    wanted = 1 / (1 + sigma**2)
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    # The ratio's own bias is of order 1/n.
    assert abs(np.mean(found) - wanted) < 4 * error + 1 / 200
    if sigma == 0.5:
        assert wanted == 0.8


def test_cka_of_independent_states_is_0_on_average_whatever_the_width():
    rng = np.random.default_rng(2)
    found, biased = [], []
    for _ in range(60):
        a, b = rng.normal(size=(2, 40, 160))
        found.append(debiased_cka(a, b))
        ka, kb = (np.cov(x, ddof=0, rowvar=True) for x in (a - a.mean(0), b - b.mean(0)))
        biased.append((ka * kb).sum() / np.sqrt((ka**2).sum() * (kb**2).sum()))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert error < 0.02
    assert np.mean(biased) > 0.5


def test_cka_does_not_hang_on_basis_scale_or_origin():
    rng = np.random.default_rng(3)
    a = rng.normal(size=(30, 6))
    b = a @ rng.normal(size=(6, 9)) + rng.normal(size=(30, 9))
    moved = debiased_cka(4 * a @ rotation(rng, 6) + 100, b[:, ::-1] - 7)
    assert moved == pytest.approx(debiased_cka(a, b), abs=1e-9)
    assert debiased_cka(b, a) == pytest.approx(debiased_cka(a, b), abs=1e-12)
    assert debiased_cka(a, a) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(10))
def test_cka_of_states_that_do_not_vary_is_none(seed):
    rng = np.random.default_rng(seed)
    same = np.tile(rng.normal(size=5), (11, 1))
    assert debiased_cka(same, rng.normal(size=(11, 4))) is None
    assert debiased_cka(rng.normal(size=(11, 4)), same) is None


def test_cka_needs_four_items():
    a = np.random.default_rng(0).normal(size=(4, 2))
    assert debiased_cka(a[:3], a[:3]) is None
    assert debiased_cka(a, a) == pytest.approx(1)


# --------------------------------------------------------------------------------------- retrieval


def test_cosines_are_those_of_the_angles():
    angles = np.array([0.0, 0.4, 2.0])
    a = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [0.1]]
    assert cosine_matrix(a, a) == pytest.approx(np.cos(angles[:, None] - angles))
    assert cosine_matrix(np.zeros((1, 2)), a).tolist() == [[0, 0, 0]]


def test_every_item_finds_itself():
    states = np.random.default_rng(0).normal(size=(25, 8))
    assert strict_hits(cosine_matrix(states, states)).tolist() == [1] * 25
    assert margin_hits(cosine_matrix(states, states)).tolist() == [1] * 25


def test_shuffled_partners_are_found_once_in_n():
    identity = np.eye(5)
    hits = [strict_hits(identity[:, list(order)]).mean() for order in permutations(range(5))]
    assert np.mean(hits) == pytest.approx(1 / 5)  # a permutation has one fixed point on average
    rolled = np.roll(np.eye(5), 1, axis=1)
    assert strict_hits(rolled).sum() == 0 == margin_hits(rolled).sum()


def test_unrelated_items_are_found_at_chance():
    # The diagonal entry must lead 2n − 1 exchangeable ones.
    n, times, rng = 10, 1500, np.random.default_rng(1)
    found = np.mean([strict_hits(rng.normal(size=(n, n))).mean() for _ in range(times)])
    chance = 1 / (2 * n - 1)
    assert abs(found - chance) < 4 * np.sqrt(chance * (1 - chance) / (n * times))


def test_strict_hits_need_row_and_column_and_no_tie():
    similarity = np.array(
        [
            [0.9, 0.1, 0.1, 0.1],
            [0.1, 0.5, 0.6, 0.1],  # row 1 prefers item 2
            [0.1, 0.1, 0.7, 0.8],  # row 2 prefers item 3, which also takes column 3 from row 3
            [0.1, 0.1, 0.1, 0.8],
        ]
    )
    assert strict_hits(similarity).tolist() == [1, 0, 0, 0]
    before = similarity.copy()
    strict_hits(similarity)
    assert np.array_equal(similarity, before)


def test_margins_are_cosines_over_those_of_neighbours():
    n, k = 9, 4
    rng = np.random.default_rng(4)
    a = rng.normal(size=(n, 3)) + 1
    similarity = cosine_matrix(a, a + rng.normal(size=(n, 3)))
    hits = []
    for i in range(n):
        ratios = []
        for j in range(n):
            rows = sorted(similarity[i], reverse=True)[:k]
            columns = sorted(similarity[:, j], reverse=True)[:k]
            ratios.append(similarity[i, j] / ((sum(rows) / k + sum(columns) / k) / 2))
        hits.append(float(ratios.index(max(ratios)) == i))
    assert margin_hits(similarity, k).tolist() == hits
    assert 0 < sum(hits) < n


def test_margins_see_through_a_hub():
    similarity = 0.2 * np.eye(6) + 0.5
    similarity[:, 0] = 0.75  # item 0 is everyone's nearest
    assert strict_hits(similarity)[1:].sum() == 0
    assert margin_hits(similarity).sum() == 6


def test_separation_averages_to_d_prime():
    rng = np.random.default_rng(5)
    similarity = rng.normal(size=(12, 12)) + 3 * np.eye(12)
    off = [similarity[i, j] for i in range(12) for j in range(12) if i != j]
    wanted = (np.trace(similarity) / 12 - np.mean(off)) / np.std(off)
    assert separation(similarity).mean() == pytest.approx(wanted)


# ------------------------------------------------------------------------------------- common part


def _language(rng: np.random.Generator, meaning: Floats, strength: float = 30.0) -> Floats:
    """Returns meanings under a large mean and three strong directions that carry none."""
    n, d = meaning.shape
    axes = rotation(rng, d)[:3]
    return meaning + 10 * rng.normal(size=d) + strength * rng.normal(size=(n, 3)) @ axes


def test_a_planted_common_part_is_removed_and_meaning_is_left():
    rng = np.random.default_rng(6)
    meaning = rng.normal(size=(240, 24))
    one, two = (_language(rng, meaning) for _ in range(2))
    fit, test = slice(0, 120), slice(120, 240)
    raw = strict_hits(cosine_matrix(one[test], two[test])).mean()
    clean = [without_common(x[test], x[fit]) for x in (one, two)]
    assert raw < 0.1
    assert strict_hits(cosine_matrix(*clean)).mean() > 0.9


def test_planted_directions_and_means_are_gone_exactly():
    rng = np.random.default_rng(7)
    axes = rotation(rng, 10)
    mean = 5 * rng.normal(size=10)
    calibration = mean + rng.normal(size=(50, 3)) @ axes[:3]
    calibration = calibration - calibration.mean(0) + mean
    states = mean + rng.normal(size=(8, 10)) @ axes
    rest = (states - mean) @ axes.T
    rest[:, :3] = 0
    assert without_common(states, calibration) == pytest.approx(rest @ axes, abs=1e-10)


def test_the_common_part_is_fitted_on_calibration_alone():
    rng = np.random.default_rng(8)
    calibration, states = rng.normal(size=(20, 6)), rng.normal(size=(9, 6))
    together = without_common(states, calibration)
    one_by_one = np.concatenate([without_common(s[None], calibration) for s in states])
    assert together == pytest.approx(one_by_one, abs=1e-12)
    only_mean = without_common(states, calibration, n_components=0)
    assert only_mean == pytest.approx(states - calibration.mean(0))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_calibration_states_remove_no_more_than_they_span(n):
    rng = np.random.default_rng(9)
    calibration, states = rng.normal(size=(n, 6)), rng.normal(size=(9, 6))
    found = without_common(states, calibration)
    span = calibration - calibration.mean(0)
    assert np.abs(found @ span.T).max() < 1e-12
    assert np.linalg.matrix_rank(found) == 6 - (n - 1)
