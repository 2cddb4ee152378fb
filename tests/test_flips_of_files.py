"""Shares of changed tokens: closed forms, and intervals that stay where shares are."""

from __future__ import annotations

import numpy as np
import pytest

from bitgap.codec import from_json, to_json
from bitgap.disparity.flips import Flips, make_flips
from bitgap.show.tables.audit import flips_table


def drawn(rate: float, seed: int, n: int = 40) -> Flips:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(10, 30, (1, n))
    return make_flips(rng.binomial(tokens, rate), tokens, ["en"], n, seed=seed)


def test_a_share_is_of_tokens_and_not_of_sentences() -> None:
    flips = make_flips(np.array([[9, 0]]), np.array([[10, 90]]), ["en"], 2, seed=0)
    (en,) = flips.languages
    assert en.share.value == pytest.approx(0.09)
    assert (en.flipped, en.tokens) == (9, 100)


def test_intervals_hold_the_true_share_as_often_as_they_say() -> None:
    held = 0
    for seed in range(100):
        share = drawn(0.1, seed).languages[0].share
        assert share.low is not None and share.high is not None
        held += share.low <= 0.1 <= share.high
    assert held >= 89  # of 95; fewer come in 1 of 100 such tests


def test_intervals_stay_within_0_and_1_and_nothing_changed_has_none() -> None:
    few = drawn(0.004, 1).languages[0].share
    assert few.low is not None and few.low >= 0
    none = drawn(0.0, 1).languages[0].share
    assert none.value == 0 and none.low is None and "none changed" in (none.reason or "")
    every = make_flips(np.full((1, 5), 7), np.full((1, 5), 7), ["en"], 5, seed=0).languages[0]
    assert every.share.value == 1 and every.share.reason


def test_flips_are_stored_and_read_back_and_shown_alike() -> None:
    flips = drawn(0.1, 3)
    assert from_json(Flips, to_json(flips)) == flips
    assert flips_table(flips) == flips_table(flips.as_dict())
