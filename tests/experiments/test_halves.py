"""The A/A control over random halves of a text: how often it errs, and what it must find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bitgap.experiments.protocol.controls import (
    LEAST_UNITS,
    STRETCHES,
    halves,
    halves_agree,
    most_halves,
    random_halves,
)
from bitgap.records import Control, Floats, Scores, TextCounts, Units
from bitgap.stats.verdicts import load_thresholds

QUICK = replace(load_thresholds(), draws=300)
WORLDS = 60


def scores(kl: Floats, documents: bool = False, per_document: int = 3) -> Scores:
    """Returns scores of one plan, English first, with damage as given and 100 characters each."""
    n = len(kl)
    lengths = np.full((2, n), 100)
    ids = np.repeat(np.arange(n), per_document)[:n] if documents else None
    return Scores(
        plans=("rtn4-g128",),
        languages=("en", "de"),
        nll_nats=np.ones((1, 2, n)),
        kl_nats=np.stack([[kl, np.ones(n)]]),
        nll_fp_nats=np.ones((2, n)),
        unigram_nats=np.ones((2, n)),
        counts=TextCounts(tokens=lengths, bytes=lengths, characters=lengths),
        floor_nats=0.0,
        arithmetic="exact",
        documents=ids,
    )


def judged(kl: Floats, documents: bool = False) -> Control:
    return halves(scores(kl, documents), 0, np.array([True, True]), QUICK)


def shared_by(rng: np.random.Generator, n: int, neighbours: int, own: float = 0.5) -> Floats:
    """Returns damage of which so many adjacent sentences share a lognormal factor."""
    common = np.repeat(rng.normal(0, 0.5, n), neighbours)[:n]
    return np.exp(common + own * rng.normal(size=n))


INDEPENDENT: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "nearly normal": lambda rng, n: rng.gamma(4, 0.25, n),
    "exponential": lambda rng, n: rng.exponential(1, n),
    "heavy tail": lambda rng, n: np.exp(rng.normal(0, 0.7, n)),
}


def alarms(made: Callable[[np.random.Generator], Control], times: int = WORLDS) -> float:
    rng = np.random.default_rng(11)
    return float(np.mean([made(rng).passed is False for _ in range(times)]))


ERROR = 3 * np.sqrt(0.05 * 0.95 / (3 * WORLDS))


@pytest.mark.parametrize("n", [8, 16, 32, 100])
def test_independent_sentences_raise_false_alarms_no_oftener_than_alpha(n):
    rates = [alarms(lambda rng, of=of: judged(of(rng, n))) for of in INDEPENDENT.values()]
    assert np.mean(rates) <= 0.05 + ERROR


def test_documents_that_are_known_raise_false_alarms_no_oftener_than_alpha():
    rate = alarms(lambda rng: judged(shared_by(rng, 120, 3), documents=True), 3 * WORLDS)
    assert rate <= 0.05 + ERROR


def test_documents_taken_for_independent_sentences_are_found():
    assert alarms(lambda rng: judged(shared_by(rng, 100, 8, own=0.25)), 20) >= 0.8


def test_an_interval_that_is_too_short_is_found():
    # Documents are known and halves are made of them, but an interval is read off one sentence in
    # nine: a third of the width that it should have.
    def shrunk(rng: np.random.Generator) -> Control:
        kl = rng.gamma(4, 0.25, 60)

        def difference(weights: Floats, half: Floats) -> Floats:
            shrunken = 1 + (weights - 1) / 3
            return np.log2(shrunken @ (kl[:, None] * half) / (shrunken @ half)) - np.log2(
                shrunken @ (kl[:, None] * (1 - half)) / (shrunken @ (1 - half))
            )

        return halves_agree(difference, 60, QUICK, unit="log2 ratio")

    assert alarms(shrunk, 10) == 1.0


def test_halves_are_whole_stretches_of_adjacent_sentences():
    chosen, stretches = random_halves(64, 200)
    assert chosen.shape == (64, 200) and stretches == STRETCHES
    assert (chosen.reshape(16, 4, 200) == chosen.reshape(16, 4, 200)[:, :1]).all()
    assert (chosen.sum(0) == 32).all()
    assert len(np.unique(chosen, axis=1).T) > 190
    # Each sentence falls into the half about as often as not.
    assert np.abs(chosen.mean(1) - 0.5).max() < 0.15


def test_a_document_falls_into_one_half_whole():
    ids: Units = np.array([5, 5, 5, 2, 2, 9, 9, 9, 9, 1, 3, 3, 4, 6, 7, 8, 8, 10, 11, 12])
    chosen, _ = random_halves(ids, 50)
    for document in np.unique(ids):
        assert (np.ptp(chosen[ids == document], axis=0) == 0).all()


def test_the_bound_lies_above_one_in_twenty_and_comes_down_with_more_stretches():
    bounds = [most_halves(s, QUICK) for s in (8, 12, 16, 40, 4000)]
    assert bounds == sorted(bounds, reverse=True)
    # 4,000 stretches are as good as independence: the binomial limit of 5 % of 200.
    assert 10 < bounds[-1] <= 17


def test_what_cannot_be_halved_is_not_run():
    few = judged(np.ones(LEAST_UNITS - 1))
    assert few.passed is None and "7 sentences" in few.detail
    flat = judged(np.ones(20))
    assert flat.passed is None and "do not vary" in flat.detail
    closed = halves(scores(np.ones(20)), 0, np.array([False, True]), QUICK)
    assert closed.passed is None and "en may not enter" in closed.detail


def test_a_number_of_halves_is_told():
    found = judged(np.random.default_rng(1).gamma(4, 0.25, 32))
    assert found.passed is True and found.name.startswith("A/A")
    assert "of 200 random halves differ; at most" in found.detail
