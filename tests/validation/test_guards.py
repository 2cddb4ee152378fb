"""The scenarios of guarded refutations: planted as they say, counted, and told."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bitgap.stats.verdicts import load_thresholds
from validation import page
from validation.guards import SCENARIOS, GuardTally, Scenario, _pair, guard_tally

DECLARED = load_thresholds()
BY_NAME = {s.told: s for s in SCENARIOS}


def test_spikes_lie_where_they_are_said_and_in_the_direction_said():
    scenario = BY_NAME["r = .7, opposite spikes at both ends"]
    x, y = _pair(scenario, np.random.default_rng(0))
    assert set(np.argsort(x)[-2:]) == {0, 11} == set(np.argsort(y)[:2])
    like = BY_NAME["nothing, like spikes at block 0"]
    x, y = _pair(like, np.random.default_rng(0))
    assert x.argmax() == y.argmax() == 0


def test_the_correlation_is_the_one_that_is_said():
    rng = np.random.default_rng(1)
    plain = Scenario(told="r = .5", slope=0.5, sesoi=0.3, layers=400, kind="ar", limits={})
    found = [np.corrcoef(*_pair(plain, rng))[0, 1] for _ in range(60)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("told", [s.told for s in SCENARIOS if s.spikes and s.slope == 0.7])
def test_spikes_at_the_ends_fool_version_2_and_not_version_3(told):
    found = guard_tally(BY_NAME[told], 12, 3, DECLARED)
    assert found.before >= 11
    assert found.labels["refuted"] == 0
    assert found.labels.total() == 12


def test_what_is_there_is_supported_and_what_is_not_is_refuted_by_ten_deep_families():
    there = guard_tally(BY_NAME["r = .55, about twice what matters on Fisher's z"], 6, 0, DECLARED)
    absent = guard_tally(BY_NAME["nothing"], 6, 0, DECLARED)
    assert there.labels["supported"] >= 5 and there.labels["refuted"] == 0
    assert absent.labels["refuted"] >= 3 and absent.labels["supported"] == 0
    assert there.planted == absent.planted == 6


def test_one_model_of_twelve_blocks_refutes_nothing_that_is_there_and_hardly_anything_else():
    there = guard_tally(BY_NAME["one model of 12 blocks, just what matters"], 30, 0, DECLARED)
    assert there.labels["refuted"] == 0
    # Where nothing is, an interval alone refuted in a third; Holm over twelve takes more.
    absent = guard_tally(BY_NAME["one model of 12 blocks, nothing"], 30, 0, DECLARED)
    assert absent.labels["refuted"] <= 4 < absent.before
    assert absent.planted < 20  # twice what matters is often missed, which is why


def test_the_section_holds_every_rate_against_its_limit():
    tallies = [
        GuardTally(s, 100, Counter({"refuted": 90, "supported": 10}), 95, 50) for s in SCENARIOS[:3]
    ]
    text = page.guards(tallies, DECLARED)
    assert "| refuted: nothing, at least 0.8 | 0.900 [0.824, 0.951] | met |" in text
    assert "supported: r = .46, half as much again as matters, at least 0.8" in text
    assert "NOT MET" in text and "0.950 [0.887, 0.984]" in text
