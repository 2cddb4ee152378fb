"""Correlations planted in profiles: of the size they say, in noise like the model's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bitgap.experiments.protocol.controls import clear
from bitgap.experiments.protocol.planted_profile import (
    LARGEST_PLANT,
    guarded,
    planted_correlation,
    planted_profiles,
    planted_strength,
    told_without_first,
    without_first,
)
from bitgap.records import Control, Floats
from bitgap.stats.profiles import correlate_profiles, depths, detrend
from bitgap.stats.verdicts import PLANTED_SIGN, Part, judge
from harness import CHANCE, QUICK


def profiles(seed: int, n_blocks: int) -> tuple[Floats, Floats]:
    return tuple(np.random.default_rng(seed).normal(size=(2, n_blocks)))  # type: ignore[return-value]


def found(control_detail: str) -> int:
    return int(control_detail.split(" in ")[1].split()[0])


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.6, 0.95])
def test_the_planted_correlation_is_the_true_one(strength):
    got = []
    for seed in range(40):
        x, y = profiles(seed, 200)
        r = [
            correlate_profiles(x, made).estimate.value
            for made in planted_profiles(x, y, strength, 5)
        ]
        got.append(np.mean(r))
    # 200 correlations of 196 degrees of freedom each.
    assert np.mean(got) == pytest.approx(
        strength, abs=4 * (1 - strength**2) / np.sqrt(40 * 190) + 0.005
    )


def test_trend_and_spread_of_the_outcome_stay():
    x, y = profiles(0, 24)
    y = y + 5 * depths(24) - 3
    for made in planted_profiles(x, y, 0.6, 5):
        np.testing.assert_allclose(made - detrend(made), y - detrend(y), atol=1e-9)
        assert detrend(made).std() == pytest.approx(detrend(y).std(), rel=0.35)


def test_an_effect_that_is_there_is_no_part_of_the_noise():
    # With the model's own link left in, a plant would be found the oftener the larger the link.
    x, noise = profiles(1, 48)
    plain, linked = (
        [correlate_profiles(x, m).estimate.value for m in planted_profiles(x, y, 0.3, 50)]
        for y in (noise, noise + 10 * x)
    )
    assert np.mean(linked) == pytest.approx(np.mean(plain), abs=0.02)


@pytest.mark.parametrize("sesoi", [0.3, 0.5])
def test_nothing_planted_is_found_no_oftener_than_chance(sesoi):
    hits, n = 0, 0
    for seed in range(100):
        x, y = profiles(seed, 16)
        # Noise moved once a seed: plantings of one profile are not independent of each other.
        for made in planted_profiles(x, y, 0.0, 1, seed):
            hits += clear(correlate_profiles(x, made).estimate, sesoi)
            n += 1
    # An interval of 95 % lies above 0 in 2.5 %; the approximate one of short profiles, in 5.5 %.
    assert stats.binom.sf(hits - 1, n, 0.055) > CHANCE


@pytest.mark.parametrize(
    ("n_blocks", "sesoi", "passed"),
    [(6, 0.5, 0.0), (12, 0.3, 0.0), (24, 0.5, 1.0), (36, 0.3, 1.0)],
)
def test_a_design_passes_where_it_can_see_what_is_twice_the_sesoi(n_blocks, sesoi, passed):
    checks = [planted_correlation(*profiles(s, n_blocks), sesoi, QUICK) for s in range(20)]
    assert np.mean([check.passed for check in checks]) == pytest.approx(passed, abs=0.2)
    assert {check.kind for check in checks} == {"positive"}


def test_detection_follows_the_power_of_the_test():
    # Power of r >= 0.3 and its interval above 0 at the planted r, on Fisher's z at 20 dof.
    dof = 24 - 4
    bound = max(np.arctanh(0.3), stats.norm.ppf(0.975) / np.sqrt(dof - 1))
    power = stats.norm.sf((bound - np.arctanh(planted_strength(0.3, QUICK))) * np.sqrt(dof - 1))
    share = np.mean(
        [found(planted_correlation(*profiles(s, 24), 0.3, QUICK).detail) / 20 for s in range(60)]
    )
    assert share == pytest.approx(power, abs=0.06)


def test_strength_is_twice_the_sesoi_and_leaves_something_of_the_model():
    # Twice on Fisher's z scale: tanh(a + a) = 2 tanh a / (1 + tanh² a).
    assert planted_strength(0.3, QUICK) == pytest.approx(0.6 / 1.09)
    assert planted_strength(0.5, QUICK) == pytest.approx(0.8)
    assert planted_strength(0.9, QUICK) == LARGEST_PLANT


def test_the_same_profiles_give_the_same_control_and_a_scale_moves_nothing():
    x, y = profiles(3, 24)
    first = planted_correlation(x, y, 0.3, QUICK)
    assert planted_correlation(x, y, 0.3, QUICK) == first
    assert planted_correlation(1e6 * x, 1e-6 * y - 4, 0.3, QUICK) == first


@pytest.mark.parametrize(
    "y", [np.full(12, np.nan), depths(12) ** 2, np.zeros(12)], ids=["undefined", "trend", "flat"]
)
def test_where_nothing_can_be_planted_the_control_was_not_run(y):
    check = planted_correlation(profiles(0, 12)[0], y, 0.3, QUICK)
    assert (check.kind, check.passed) == ("positive", None)


def test_an_outcome_that_is_its_predictor_can_be_planted_in():
    x, _ = profiles(0, 24)
    assert np.isfinite(planted_profiles(x, 2 * x, 0.6, 3)).all()
    assert planted_correlation(x, 2 * x, 0.5, QUICK).passed is True


# -- what it guards -------------------------------------------------------------------------------

SEEN = Control(name="P1", kind="positive", passed=True, detail="")
HALVES = Control(name="A/A", kind="negative", passed=True, detail="")


def part_of(n_blocks: int, link: float) -> Part:
    x, noise = profiles(1, n_blocks)
    y = link * x + 0.1 * noise
    found = correlate_profiles(x, y).part("r", 0.3)
    return guarded(found, x, y, QUICK)


def test_a_blind_design_refutes_nothing_and_may_still_support():
    # Twelve blocks find .6 too seldom.
    against, found = part_of(12, -1.0), part_of(12, 1.0)
    assert [part.controls[0].passed for part in (against, found)] == [False, False]
    refused = judge([against], [SEEN, HALVES], alpha=0.05)
    assert refused.label == "inconclusive"
    assert PLANTED_SIGN in refused.reason
    assert judge([found], [SEEN, HALVES], alpha=0.05).label == "supported"
    # Where it is the only positive control there is, nothing else tells that anything is seen.
    assert judge([found], [HALVES], alpha=0.05).label == "inconclusive"


def test_a_design_that_sees_refutes():
    assert judge([part_of(36, -1.0)], [SEEN, HALVES], alpha=0.05).label == "refuted"


def test_block_0_is_shown_apart():
    part = part_of(12, 1.0)
    ((name, left),) = without_first(part, "link").items()
    assert name == "link_without_block_0"
    assert left == part.without["without block 0"]
    assert told_without_first(part) == f" ({left.value:+.2f} without block 0)"
    unknown = replace(part, without={})
    assert (without_first(unknown, "link"), told_without_first(unknown)) == ({}, "")
