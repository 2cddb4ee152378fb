"""Usable information against channels whose information is known."""

from __future__ import annotations

import numpy as np
import pytest

from bitgap.records import Floats, Integers
from bitgap.stats.usable_information import (
    Split,
    as_classes,
    best_penalty,
    decoder_r_squared,
    logistic_nats,
    marginal_nats,
    principal_features,
    ridge_r_squared,
    split_by_sentence,
)

N = 4000


def split(n: int = N) -> Split:
    place = np.arange(n) % 8
    return Split(place < 3, place == 3, place > 3)


def usable_bits(features: Floats, classes: Integers, strength: float = 1.0) -> float:
    rows = split(len(classes))
    gained = marginal_nats(classes, rows) - logistic_nats(features, classes, rows, strength)
    return float(gained.mean() / np.log(2))


def entropy(p: float) -> float:
    return float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


@pytest.mark.parametrize("p", [0.05, 0.11, 0.25])
def test_a_binary_symmetric_channel_has_one_less_its_noise_entropy(p):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, N)
    seen = np.where(rng.random(N) < p, 1 - label, label)
    features = np.stack([2.0 * seen - 1, rng.normal(size=N)], axis=1)
    # The loss of a row has a spread of log((1-p)/p) √(p(1-p)) bits, its mean over 2,000 a 45th.
    error = np.log2((1 - p) / p) * np.sqrt(p * (1 - p) / (N / 2))
    assert abs(usable_bits(features, label) - (1 - entropy(p))) < 4 * error + 0.01


def test_labels_that_states_know_nothing_of_have_no_information():
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features, classes = rng.normal(size=(1000, 8)), rng.integers(0, 4, 1000)
        found.append(usable_bits(features, classes, 1e-3))
    assert max(found) < 0.01
    assert min(found) > -0.05


def test_a_label_that_is_written_in_the_state_is_read_whole():
    classes = np.random.default_rng(0).integers(0, 4, N)
    assert usable_bits(np.eye(4)[classes], classes, 10.0) == pytest.approx(2.0, abs=0.05)


def test_noise_takes_information_away():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, N)
    bits = [
        usable_bits(np.eye(4)[classes] + noise * rng.normal(size=(N, 4)), classes)
        for noise in (0.2, 0.5, 1.0, 4.0)
    ]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.1


def test_penalty_is_strong_where_there_is_nothing_to_read():
    rng = np.random.default_rng(0)
    noise, classes = rng.normal(size=(400, 40)), rng.integers(0, 5, 400)
    known = np.eye(5)[classes]
    strengths = (1e-4, 1e-2, 1.0, 100.0)
    assert best_penalty([(noise, classes, split(400))], strengths) <= 1e-2
    assert best_penalty([(known, classes, split(400))], strengths) == 100.0


def test_a_class_that_was_never_seen_does_not_break_the_reader():
    rng = np.random.default_rng(0)
    classes = np.where(np.arange(80) == 79, 2, rng.integers(0, 2, 80))
    rows = split(80)
    nats = logistic_nats(rng.normal(size=(80, 3)), classes, rows, 1.0)
    assert nats.shape == (40,)
    assert np.isfinite(nats).all()
    assert best_penalty([(rng.normal(size=(80, 3)), classes, rows)], (1.0, 0.1)) > 0
    one = np.zeros(80, dtype=np.int64)
    assert logistic_nats(rng.normal(size=(80, 3)), one, rows, 1.0).sum() == 0


# -- features and labels --------------------------------------------------------------------------


def test_features_do_not_move_with_the_scale_of_states():
    states = np.random.default_rng(0).normal(size=(300, 20)) * np.linspace(1, 3, 20)
    train = np.arange(300) < 150
    plain = principal_features(states, train, 5, 0)
    assert plain.shape == (300, 5)
    np.testing.assert_allclose(plain[train].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(plain[train].std(0), 1, rtol=1e-6)
    np.testing.assert_array_equal(principal_features(8 * states, train, 5, 0), plain)
    np.testing.assert_allclose(principal_features(10 * states, train, 5, 0), plain, atol=1e-9)


def test_features_are_as_many_as_states_have():
    train = np.arange(40) < 20
    flat = np.zeros((40, 9))
    flat[:, :2] = np.random.default_rng(0).normal(size=(40, 2))
    assert principal_features(flat, train, 6, 0).shape == (40, 2)
    assert principal_features(flat, np.arange(40) < 2, 6, 0).shape == (40, 1)


def test_classes_are_the_frequent_types_of_training_and_one_for_all_others():
    labels = np.array([7, 7, 7, 3, 3, 9, 5, 3, 1, 7])
    train = np.arange(10) < 6
    np.testing.assert_array_equal(as_classes(labels, train, 2), [0, 0, 0, 1, 1, 2, 2, 1, 2, 0])
    # Among equals the smaller id comes first; more classes than types leaves "other" last.
    np.testing.assert_array_equal(as_classes(labels, train, 9)[[5, 6]], [2, 3])


def test_no_sentence_is_on_two_sides():
    sentence = np.repeat(np.arange(12), 5)
    rows = split_by_sentence(sentence, np.array([0, 4, 8]))
    for one, other in ((rows.fit, rows.validation), (rows.train, rows.test)):
        assert not set(sentence[one]) & set(sentence[other])
    assert set(sentence[rows.train]) == {0, 4, 8}
    assert (rows.fit | rows.validation | rows.test).all()
    alone = split_by_sentence(sentence, np.array([0]))
    assert alone.fit.any()
    assert alone.validation.any()
    part = rows.of(np.array([0, 59]))
    assert (part.train[0], part.test[1]) == (True, True)


# -- continuous targets ---------------------------------------------------------------------------


def test_ridge_explains_what_is_linear_and_no_more():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 10))
    y = x @ rng.normal(size=(10, 3))
    penalties = (1e-3, 0.1, 10.0)
    assert ridge_r_squared(x, y, split(2000), penalties) == pytest.approx(1, abs=1e-4)
    noisy = y + y.std() * rng.normal(size=y.shape)
    assert ridge_r_squared(x, noisy, split(2000), penalties) == pytest.approx(0.5, abs=0.05)
    nothing = ridge_r_squared(x, rng.normal(size=(2000, 3)), split(2000), penalties)
    assert abs(nothing) < 0.02
    assert np.isnan(ridge_r_squared(x, np.zeros((2000, 3)), split(2000), penalties))


PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)


def channel(rng: np.random.Generator, n: int) -> tuple[Floats, Floats, float]:
    """A Gaussian input, what a linear channel with noise makes of it, and the attainable R²."""
    matrix, noise = rng.normal(size=(8, 12)) / 3, 0.5
    x = rng.normal(size=(n, 8))
    seen = x @ matrix + noise * rng.normal(size=(n, 12))
    # What is left of the input's variance when the output is known: tr (I + AAᵀ/σ²)⁻¹.
    left = np.linalg.inv(np.eye(8) + matrix @ matrix.T / noise**2)
    return x, (seen - seen.mean(0)) / seen.std(0), 1 - np.trace(left) / 8


def swirl(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """A plane and its turn by an angle that grows with the radius, which can be turned back."""
    x = rng.normal(size=(n, 2))
    angle = 1.5 * np.hypot(*x.T)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = [x[:, 0] * cosine - x[:, 1] * sine, x[:, 0] * sine + x[:, 1] * cosine]
    return x, np.stack(turned, axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_decoder_reaches_what_a_gaussian_channel_lets_through(seed):
    x, seen, attainable = channel(np.random.default_rng(seed), 3000)
    assert decoder_r_squared(seen, x, split(3000), PENALTIES) == pytest.approx(attainable, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_decoder_reads_what_no_line_does(seed):
    x, seen = swirl(np.random.default_rng(seed), 3000)
    line = ridge_r_squared(seen, x, split(3000), PENALTIES)
    decoder = decoder_r_squared(seen, x, split(3000), PENALTIES)
    assert line < 0.5
    # The map can be undone, so that all of the input is there.
    assert decoder > line + 0.25


def test_decoder_finds_nothing_in_inputs_dealt_out_anew():
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, seen, _ = channel(rng, 1200)
        found.append(decoder_r_squared(seen, rng.permutation(x), split(1200), PENALTIES))
    # Above 0 as often as chance has it, and never by much.
    assert np.mean(found) == pytest.approx(0, abs=0.005)
    assert max(found) < 0.02


def test_decoder_is_the_same_on_every_run_and_no_scale_of_targets_moves_it():
    x, seen = swirl(np.random.default_rng(0), 600)
    first = decoder_r_squared(seen, x, split(600), PENALTIES)
    assert decoder_r_squared(seen, x, split(600), PENALTIES) == first
    assert decoder_r_squared(seen, 8 * x, split(600), PENALTIES) == pytest.approx(first, abs=1e-9)
    assert decoder_r_squared(seen, x, split(600), PENALTIES, seed=1) != first


def test_decoder_needs_rows_on_every_side():
    x, seen = swirl(np.random.default_rng(0), 40)
    none, every = np.zeros(40, dtype=bool), np.ones(40, dtype=bool)
    for rows in (Split(none, every, every), Split(every, none, every), Split(every, every, none)):
        assert np.isnan(decoder_r_squared(seen, x, rows, PENALTIES))
    assert np.isnan(decoder_r_squared(seen, np.zeros((40, 2)), split(40), PENALTIES))
