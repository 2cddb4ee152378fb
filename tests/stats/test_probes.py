"""Probes of states whose truth is known: Bayes accuracy, nothing where there is nothing, bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bitgap.records import Floats
from bitgap.stats.probes import (
    control_labels,
    entropy_bits,
    held_out_hits,
    make_task,
    online_code_bits,
    principal_scores,
    probe_sites,
    selectivity,
    small_fits,
    type_folds,
    written,
)

PENALTY = 30.0


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with small_fits():
        yield


def gaussian(rng: np.random.Generator, n: int, d: int = 40) -> Floats:
    """Correlated states with a spectrum that falls, as in models."""
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return rng.normal(size=(n, d)) * np.linspace(1, 0.1, d) @ axes


# -- what a probe is given ------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(60, 20), (20, 60)])
def test_scores_are_the_principal_components_of_standardised_states(n, d):
    x = gaussian(np.random.default_rng(0), n, d) * 7 + 3
    scores = principal_scores(x, 5)
    standard = (x - x.mean(0)) / x.std(0)
    left, sizes, _ = np.linalg.svd(standard, full_matrices=False)
    wanted = left[:, :5] * sizes[:5]
    wanted /= np.sqrt((wanted**2).mean())
    np.testing.assert_allclose(np.abs(scores), np.abs(wanted), atol=1e-8)


def test_dimensions_without_spread_say_nothing():
    x = np.random.default_rng(0).normal(size=(30, 3))
    x[:, 1] = 5.0
    np.testing.assert_allclose(
        np.abs(principal_scores(x, 2)), np.abs(principal_scores(x[:, [0, 2]], 2)), atol=1e-9
    )
    assert not principal_scores(np.ones((10, 4)), 2).any()


@settings(max_examples=60, deadline=None)
@given(
    types=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_folds_never_share_a_type_and_are_about_equal(types, n_folds, seed):
    types = np.array(types)
    folds = type_folds(types, n_folds, seed)
    for name in np.unique(types):
        assert len(np.unique(folds[types == name])) == 1
    sizes = np.bincount(folds, minlength=n_folds)
    assert sizes.max() - sizes.min() <= np.bincount(types).max()


def test_control_task_gives_every_type_one_label_at_the_labels_own_rates():
    rng = np.random.default_rng(1)
    types, labels = rng.integers(0, 4000, 8000), (rng.random(8000) < 0.3).astype(int)
    drawn = control_labels(types, labels, 0)
    first = {t: c for t, c in zip(types, drawn, strict=True)}
    assert all(first[t] == c for t, c in zip(types, drawn, strict=True))
    rate = np.mean(list(first.values()))
    assert abs(rate - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(first))


# -- accuracy -------------------------------------------------------------------------------------


def test_probe_reaches_the_bayes_accuracy_of_planted_linear_data():
    # Two Gaussians a distance 2a apart: Φ(a) is the best there is.
    n, a, rng = 3000, 1.0, np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 12))
    x[:, 4] += a * (2 * labels - 1)
    hits = held_out_hits(principal_scores(x, 12), labels, type_folds(np.arange(n), 3, 0), PENALTY)
    best = stats.norm.cdf(a)
    # Short of it by the 12 numbers that are learned from 2,000 words.
    assert abs(hits.mean() - best) < 4 * np.sqrt(best * (1 - best) / n) + 12 / 2000


def test_labels_without_meaning_are_named_by_chance_and_cost_their_entropy():
    # Selectivity about 0 and a code of about n·H(label) bits: within a tenth of it at this penalty.
    gained, length = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = 300
        types = rng.integers(0, 150, n)
        labels = (rng.random(n) < 0.5).astype(int)
        scores = principal_scores(gaussian(rng, n, 128), 64)
        folds = type_folds(types, 3, seed)
        control = control_labels(types, labels, seed)
        gained.append(
            held_out_hits(scores, labels, folds, PENALTY).mean()
            - held_out_hits(scores, control, folds, PENALTY).mean()
        )
        length.append(online_code_bits(scores, labels, PENALTY, seed) / (n * entropy_bits(labels)))
    error = np.std(gained, ddof=1) / np.sqrt(len(gained))
    assert abs(np.mean(gained)) < 4 * error
    assert 1.0 <= np.mean(length) < 1.13


def test_a_fold_with_one_label_outside_says_that_label():
    labels, folds = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1])
    hits = held_out_hits(np.zeros((4, 2)), labels, folds, PENALTY)
    # Trained on the one word labelled 1, the three others are missed; and the other way round.
    np.testing.assert_array_equal(hits, [False, False, False, False])


def test_words_that_are_known_by_heart_do_not_pass():
    # States say which type a word is and no more; labels hang on the type alone.
    rng = np.random.default_rng(0)
    types = np.repeat(np.arange(60), 6)
    labels = rng.integers(0, 2, 60)[types]
    x = rng.normal(size=(60, 80))[types]
    scores = principal_scores(x, 59)
    disjoint = held_out_hits(scores, labels, type_folds(types, 3, 0), 1.0).mean()
    anywhere = held_out_hits(scores, labels, rng.integers(0, 3, len(types)), 1.0).mean()
    assert anywhere > 0.95
    assert disjoint < 0.5 + 4 * np.sqrt(0.25 / 60)


# -- online code ----------------------------------------------------------------------------------


def test_online_code_of_separable_labels_is_short():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    x = gaussian(rng, 600)
    plain = online_code_bits(principal_scores(x, 20), labels, PENALTY, 0)
    told = online_code_bits(principal_scores(written(x, labels, 2.0, 0), 20), labels, PENALTY, 0)
    assert told < 0.4 * plain


def test_online_code_pays_a_uniform_code_for_the_first_portion():
    labels = np.array([0, 1] * 16)
    bits = online_code_bits(np.zeros((32, 2)), labels, PENALTY, 0, fractions=(1.0,))
    assert bits == pytest.approx(32.0)


def test_a_label_not_yet_seen_costs_a_finite_number_of_bits():
    labels = np.array([0] * 30 + [1] + [2])
    for seed in range(5):
        bits = online_code_bits(np.zeros((32, 2)), labels, PENALTY, seed)
        assert np.isfinite(bits)
        assert bits > 0


@pytest.mark.parametrize("counts", [(5, 5), (1, 3), (2, 2, 4)])
def test_entropy_is_that_of_the_frequencies(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert entropy_bits(labels) == pytest.approx(stats.entropy(counts, base=2))


# -- tasks, sites, selectivity --------------------------------------------------------------------


def test_task_keeps_values_with_words_and_types_enough():
    values = np.array(["Sing"] * 12 + ["Plur"] * 12 + ["Dual"] * 3 + [""] * 5 + ["Sing"] * 9)
    languages = np.array([0] * 32 + [1] * 9)
    task = make_task(values, languages, np.arange(41), fewest=8, n_folds=2, seed=0)
    # Dual is too rare, and the second language has one value only.
    np.testing.assert_array_equal(task.rows, np.arange(24))
    assert set(task.languages) == {0}
    assert sorted(np.bincount(task.labels)) == [12, 12]
    same_type = make_task(values, languages, np.zeros(41, int), fewest=8, n_folds=2, seed=0)
    assert len(same_type.rows) == 0


def test_labels_written_at_one_site_are_found_there_and_only_there():
    rng = np.random.default_rng(3)
    n = 240
    values = np.where(rng.random(n) < 0.5, "Sing", "Plur")
    task = make_task(values, np.zeros(n, int), np.arange(n), fewest=5, n_folds=3, seed=0)
    states = np.stack([gaussian(rng, n) for _ in range(5)])
    states[3] = written(states[3], task.labels, 1.0, 0)
    scores = {0: [principal_scores(s, 20) for s in states]}
    hits = probe_sites(scores, task, [task.labels, task.control], PENALTY)
    statistic, units = selectivity(hits[0], hits[1], task.units, task.languages)
    profile = statistic(np.ones((1, units)))[0]
    assert profile.argmax() == 3
    assert profile[3] > 0.4
    assert np.abs(np.delete(profile, 3)).max() < 0.25


def test_selectivity_is_a_mean_over_languages_of_weighted_words():
    hits = np.array([[1, 1, 0, 1, 0]], dtype=bool)
    control = np.array([[0, 1, 0, 0, 0]], dtype=bool)
    units, languages = np.array([0, 0, 1, 2, 2]), np.array([0, 0, 0, 1, 1])
    statistic, n = selectivity(hits, control, units, languages)
    assert n == 3
    assert statistic(np.ones((1, 3)))[0, 0] == pytest.approx((1 / 3 + 1 / 2) / 2)
    # Type 0 drawn twice and type 1 not at all: 2 of 4 words gained in the first language.
    assert statistic(np.array([[2.0, 0, 1]]))[0, 0] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert np.isnan(statistic(np.array([[2.0, 1, 0]]))[0, 0])


def test_labels_are_written_in_proportion_to_the_states():
    x = gaussian(np.random.default_rng(0), 50)
    labels = np.arange(50) % 2
    added = written(x, labels, 0.5, 1) - x
    size = np.sqrt((x**2).sum(1).mean())
    np.testing.assert_allclose(np.linalg.norm(added, axis=1), 0.5 * size)
    assert np.linalg.matrix_rank(added) == 2
