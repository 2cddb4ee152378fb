"""The scenarios of guarded refutations: planted as they say, counted, and told."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bitgap.stats.verdicts import load_thresholds
from validation import page
from validation.guards import GUARDS, SCENARIOS, GuardTally, Scenario, _pair, guard_tally

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


def test_blocks_of_their_own_are_not_autocorrelated_and_others_are():
    rng = np.random.default_rng(2)
    for kind, expected in (("independent", 0.0), ("ar", 0.7)):
        plain = Scenario(told="", slope=0.0, sesoi=0.3, layers=4000, kind=kind, limits={})
        x, _ = _pair(plain, rng)
        assert np.corrcoef(x[1:], x[:-1])[0, 1] == pytest.approx(expected, abs=0.05)


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


def test_what_like_spikes_at_the_ends_support_a_block_left_out_takes_back():
    found = guard_tally(BY_NAME["nothing, like spikes at both ends"], 60, 0, DECLARED)
    assert found.labels["supported"] <= 1 <= found.loose
    there = guard_tally(BY_NAME["r = .46, half as much again as matters"], 20, 0, DECLARED)
    assert 16 <= there.labels["supported"] <= there.loose


def test_guards_that_keep_a_refutation_back_are_counted():
    found = guard_tally(BY_NAME["nothing"], 60, 1, DECLARED)
    assert found.before - found.labels["small"] - found.labels["refuted"] <= sum(
        found.kept_back.values()
    )
    assert set(found.kept_back) <= set(GUARDS)
    assert all(found.alone[guard] <= found.kept_back[guard] for guard in GUARDS)
    assert found.after_holm <= found.labels["refuted"] <= found.before
    spiked = guard_tally(BY_NAME["r = .7, opposite spikes at both ends"], 10, 0, DECLARED)
    assert spiked.kept_back["without an end block, or both"] == spiked.before >= 9


def test_tallies_of_one_kind_add_up():
    scenario = BY_NAME["nothing"]
    one = guard_tally(scenario, 3, 0, DECLARED)
    both = one + one
    assert (both.n, both.labels.total(), both.before) == (6, 6, 2 * one.before)
    assert both.kept_back == one.kept_back + one.kept_back


def test_the_section_holds_every_rate_against_its_limit():
    labels = Counter({"refuted": 90, "supported": 10})
    kept = Counter({GUARDS[4]: 5})
    tallies = [
        GuardTally(s, 100, labels, 95, 20, 50, 70, kept, Counter({GUARDS[4]: 3}))
        for s in SCENARIOS[:3]
    ]
    text = page.guards(tallies, DECLARED)
    assert (
        "| 0.050 | 0.000 (0.000) | 0.000 (0.000) | 0.000 (0.000) | 0.000 (0.000) | 0.050 (0.03"
        in text
    )
    assert "| refuted: nothing, at least 0.8 | 0.900 [0.824, 0.951] | met |" in text
    assert "supported: r = .46, half as much again as matters, at least 0.8" in text
    assert "NOT MET" in text and "of 100 worlds each" in text
    assert "| 0.100 | 0.000 | 0.900 | 0.000 | 0.700 | 0.950 | 0.200 | 0.500 |" in text
