"""Statistics across families: closed forms, independent libraries, error rates, and each clause."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from planted_profiles import KINDS, profile
from scipy import stats
from verdict_samples import sound

from bitgap.errors import UserError
from bitgap.records import Estimate, Floats
from bitgap.stats.across import Across, judge_families
from bitgap.stats.families import (
    FamilyEffect,
    FamilyEnds,
    FamilyPeak,
    FamilyProfiles,
    both_ends_across,
    both_ends_percentile,
    correlation_across,
    correlations_with,
    effect_across,
    window_across,
)
from bitgap.stats.pooling import (
    between_variance,
    hits_p,
    random_effects,
    sign_flip_p,
    stouffer_p,
    swap_p,
    t_above,
    t_quantile,
)
from bitgap.stats.profiles import Peak, correlate_profiles
from bitgap.stats.verdicts import load_thresholds

CHANCE = 1e-3
DECLARED = load_thresholds()
WINDOW = DECLARED.window


def families(
    rng: np.random.Generator, m: int, *, kind: str = "ar", blocks: int = 12, slope: float = 0.0
) -> list[FamilyProfiles]:
    made = []
    for i in range(m):
        x, own = profile(kind, rng, blocks), profile(kind, rng, blocks)
        y = slope * x + np.sqrt(1 - slope**2) * own
        made.append(FamilyProfiles(family=f"f{i}", predictor=x, outcome=y))
    return made


def effects(values: Floats | list[float], errors: Floats | None = None) -> list[FamilyEffect]:
    half = 1.959964 * (np.ones(len(values)) if errors is None else errors)
    return [
        FamilyEffect(
            family=f"f{i}",
            estimate=Estimate(value=float(v), low=float(v - h), high=float(v + h), unit="dB"),
        )
        for i, (v, h) in enumerate(zip(values, half, strict=True))
    ]


def peak(place: float, low: float | None = None, high: float | None = None) -> Peak:
    low, high = place if low is None else low, place if high is None else high
    return Peak(Estimate(value=place, low=low, high=high, unit="relative depth"), 0, 1.0)


def peaks(places: list[Peak], blocks: int = 13) -> list[FamilyPeak]:
    return [
        FamilyPeak(family=f"f{i}", peak=place, n_blocks=blocks) for i, place in enumerate(places)
    ]


# -- the tests themselves -------------------------------------------------------------------------


def test_equally_precise_families_get_the_plain_one_sample_t():
    values = np.array([0.2, -0.1, 0.5, 0.4, 0.3])
    mean, low, high, p = random_effects(values, np.full(5, 0.04), 0.95)
    expected = stats.ttest_1samp(values, 0.0, alternative="greater")
    assert (mean, p) == pytest.approx((values.mean(), expected.pvalue))
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("seed", range(6))
def test_random_effects_are_those_of_another_library(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from statsmodels.stats.meta_analysis import combine_effects
    rng = np.random.default_rng(seed)
    variances = rng.uniform(0.05, 0.6, 7)
    # Half of the seeds have no spread between families, so that its estimate is cut at 0.
    values = rng.normal(0.3, np.sqrt(variances + (0.5 if seed % 2 else 0.0)))
    theirs = combine_effects(values, variances, method_re="iterated", use_t=True, atol=1e-12)
    mean, low, high, _ = random_effects(values, variances, 0.95)
    # Theirs stays at 0 where the root is small; ours is then checked by its definition alone.
    if theirs.tau2 > 0:
        assert mean == pytest.approx(theirs.mean_effect_re, abs=1e-6)
        error = (high - low) / 2 / stats.t.ppf(0.975, 6)
        assert error == pytest.approx(theirs.sd_eff_w_re_hksj, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_spread_between_families_is_where_q_meets_its_mean(seed):
    rng = np.random.default_rng(seed)
    variances = rng.uniform(0.05, 0.6, 7)
    values = rng.normal(0.3, np.sqrt(variances + 0.3 * (seed % 2)))

    def q(between: float) -> float:
        weights = 1 / (variances + between)
        return weights @ (values - weights @ values / weights.sum()) ** 2

    found = between_variance(values, variances)
    assert q(found) == pytest.approx(6) if found > 0 else q(0.0) <= 6


@pytest.mark.parametrize("dof", [1, 4, 9, 23.5])
def test_students_t_is_scipys(dof):
    for t in (-3.0, 0.0, 0.7, 8.0):
        assert t_above(t, dof) == stats.t.sf(t, dof)
    for p in (0.01, 0.5, 0.975):
        assert t_quantile(p, dof) == stats.t.ppf(p, dof)


def test_random_effects_cover_their_mean():
    rng = np.random.default_rng(0)
    covered, times = 0, 800
    for _ in range(times):
        variances = rng.uniform(0.1, 2.0, 6)
        _, low, high, _ = random_effects(rng.normal(1.0, np.sqrt(variances + 0.4)), variances, 0.95)
        covered += low <= 1.0 <= high
    assert stats.binomtest(covered, times, 0.95).pvalue > CHANCE


def test_families_that_all_say_the_same_have_no_spread():
    assert random_effects(np.full(4, 0.3), np.ones(4), 0.95) == (0.3, 0.3, 0.3, 0.0)
    assert random_effects(np.full(4, -0.3), np.ones(4), 0.95)[3] == 1.0


@pytest.mark.parametrize("m", [3, 5, 8])
def test_sign_flip_is_that_of_another_library(m):
    values = np.random.default_rng(m).normal(0.5, 1, m)
    expected = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert sign_flip_p(values) == pytest.approx(expected.pvalue)


def test_least_sign_flip_is_one_sign_in_all():
    assert sign_flip_p(np.full(5, 2.0)) == 2**-5
    many = sign_flip_p(np.full(20, 2.0))
    assert many == 2**-14  # drawn, so no smaller than one over the draws


@pytest.mark.parametrize("hits", range(6))
def test_hits_of_equal_mass_are_binomial_and_others_enumerate(hits):
    assert hits_p(hits, np.full(5, 1 / 6)) == pytest.approx(stats.binom.sf(hits - 1, 5, 1 / 6))
    masses = np.array([0.1, 0.2, 0.25, 0.4, 0.15])
    chance = sum(
        np.prod(np.where(came, masses, 1 - masses))
        for came in product([True, False], repeat=5)
        if sum(came) >= hits
    )
    assert hits_p(hits, masses) == pytest.approx(chance)


def test_swap_counts_the_pairings_that_reach_the_true_one():
    swapped = np.eye(4)
    assert swap_p(swapped) == 1 / 24
    assert swap_p(np.ones((4, 4))) == 1.0
    many = swap_p(np.eye(9))
    assert many == pytest.approx(1 / 5040, rel=0.1)


@pytest.mark.parametrize("blocks", [5, 12])
def test_percentile_of_both_ends_counts_pairs(blocks):
    for seed in range(20):
        out = np.random.default_rng(seed).normal(size=blocks)
        mine = min(out[0], out[-1])
        least = np.array([min(out[i], out[j]) for i, j in combinations(range(blocks), 2)])
        expected = ((least < mine).sum() + (least == mine).sum() / 2) / len(least)
        assert both_ends_percentile(out) == pytest.approx(expected)


def test_percentile_of_both_ends_is_even_where_blocks_are_alike():
    rng = np.random.default_rng(0)
    found = np.array([both_ends_percentile(rng.normal(size=12)) for _ in range(3000)])
    assert abs(found.mean() - 0.5) < 4 * found.std() / np.sqrt(len(found))
    assert both_ends_percentile(np.ones(12)) == 0.5


def test_stouffer_of_one_family_is_its_own_percentile():
    assert stouffer_p(np.array([0.97])) == pytest.approx(0.03)


# -- correlations ---------------------------------------------------------------------------------


def test_mean_correlation_is_back_transformed_from_fishers_z():
    made = families(np.random.default_rng(0), 6, slope=0.6)
    across = correlation_across(made)
    single = [correlate_profiles(f.predictor, f.outcome).estimate.value for f in made]
    z = np.arctanh(np.array(single, dtype=float))
    assert across.estimate.value == pytest.approx(np.tanh(z.mean()))
    assert across.p == pytest.approx(stats.ttest_1samp(z, 0, alternative="greater").pvalue)
    assert across.minima == {"t": 0.0, "sign flip": 2**-6, "model swap": 1 / 720}
    assert across.n == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [5, 8])
def test_unrelated_profiles_hold_their_rate(kind, m):
    rng, times = np.random.default_rng(m), 150
    counts = np.zeros(3)
    for _ in range(times):
        across = correlation_across(families(rng, m, kind=kind))
        assert across.p is not None
        counts += [across.p < 0.05, *(p < 0.05 for p in across.concurring.values())]
    for count in counts:
        assert stats.binom.sf(count - 1, times, 0.06) > CHANCE, counts / times


def test_related_profiles_are_found():
    rng = np.random.default_rng(1)
    verdicts = [
        judge_families([correlation_across(families(rng, 8, slope=0.8))], [0.5], sound(), DECLARED)
        for _ in range(40)
    ]
    found = [v.label for v in verdicts]
    assert found.count("supported") >= 36, found
    assert verdicts[0].scope == "8 families"


def test_a_depth_profile_that_all_models_share_is_no_support():
    # Both profiles bend the same way in every family, as depth alone makes them: the t is fooled,
    # and the swap is not, since any family's outcome does as well.
    rng, bend = np.random.default_rng(2), 2 * np.sin(np.linspace(0, 9, 12))
    fooled, supported, times = 0, 0, 40
    for _ in range(times):
        made = [
            FamilyProfiles(family=f.family, predictor=f.predictor + bend, outcome=f.outcome + bend)
            for f in families(rng, 8, kind="iid")
        ]
        across = correlation_across(made)
        assert across.p is not None
        fooled += across.p < 0.05
        supported += judge_families([across], [0.5], sound(), DECLARED).label == "supported"
    assert fooled == times
    assert stats.binom.sf(supported - 1, times, 0.06) > CHANCE


def test_families_of_different_depth_are_compared_at_equal_relative_depth():
    def at(blocks: int, name: str) -> FamilyProfiles:
        r = np.linspace(0, 1, blocks)
        return FamilyProfiles(family=name, predictor=np.sin(9 * r), outcome=np.sin(9 * r))

    across = correlation_across([at(12, "a"), at(24, "b"), at(49, "c")])
    # The same function everywhere: every swap does about as well as the truth.
    assert across.concurring["model swap"] > 0.1
    assert across.estimate.value is not None and across.estimate.value > 0.99


def test_a_family_without_a_correlation_is_left_out_and_said():
    made = families(np.random.default_rng(0), 3)
    flat = FamilyProfiles(family="flat", predictor=np.ones(12), outcome=made[0].outcome)
    across = correlation_across([*made, flat])
    assert across.n == 3
    assert "trend" in across.left_out["flat"]


def test_one_family_has_no_spread():
    across = correlation_across(families(np.random.default_rng(0), 1))
    assert across.estimate.value is None and across.p is None
    verdict = judge_families([across], [0.5], sound(), DECLARED)
    assert verdict.label == "inconclusive"
    assert "1 family; 5 are needed" in verdict.reason


def test_checkpoints_of_a_family_are_averaged_in_fishers_z_before_families_are_pooled():
    made = families(np.random.default_rng(0), 5, slope=0.5)
    more = [replace(f, family="f0") for f in families(np.random.default_rng(9), 2, slope=-0.5)]
    across = correlation_across([*made, *more])
    z = [np.arctanh(correlate_profiles(f.predictor, f.outcome).estimate.value) for f in made]
    own = [np.arctanh(correlate_profiles(f.predictor, f.outcome).estimate.value) for f in more]
    units = np.array([np.mean([z[0], *own]), *z[1:]])
    assert across.n == 5
    assert across.estimate.value == pytest.approx(np.tanh(units.mean()))
    assert across.p == pytest.approx(stats.ttest_1samp(units, 0, alternative="greater").pvalue)
    assert across.concurring["sign flip"] == sign_flip_p(units)
    assert across.minima["model swap"] == 1 / 120


@pytest.mark.parametrize("blocks", [(12,), (24, 7, 12)])
def test_many_outcomes_at_once_are_each_as_by_itself(blocks):
    rng = np.random.default_rng(len(blocks))
    made = [
        replace(families(rng, 1, blocks=blocks[i % len(blocks)])[0], family=f"f{i // 2}")
        for i in range(8)
    ]
    made = [*made[::2], *made[1::2]]  # checkpoints of a family need not be neighbours
    outcomes = [rng.normal(size=(4, len(f.outcome))).cumsum(1) for f in made]
    for i, (estimate, p) in enumerate(correlations_with(made, outcomes)):
        own = correlation_across(
            [replace(f, outcome=y[i]) for f, y in zip(made, outcomes, strict=True)]
        )
        assert estimate == replace(
            own.estimate, value=estimate.value, low=estimate.low, high=estimate.high
        )
        got = [estimate.value, estimate.low, estimate.high, p]
        expected = [own.estimate.value, own.estimate.low, own.estimate.high, own.p]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("blocks", [(12,), (24, 7, 12)])
def test_without_a_block_is_pooled_from_the_regressions_of_the_others(blocks):
    rng = np.random.default_rng(7)
    made = [
        replace(families(rng, 1, blocks=blocks[i % len(blocks)], slope=0.4)[0], family=f"f{i}")
        for i in range(6)
    ]
    across = correlation_across(made)
    left = across.part(0.3, 0.05).without
    deepest = max(blocks)
    assert len(left) == deepest + 1
    variances = np.array([1 / (len(f.predictor) - 5) for f in made])
    for name, gone in (
        ("without block 0", (0,)), ("without block -1", (-1,)), ("without block 5", (5,)),
        ("without block -6", (-6,)), ("without both ends", (0, -1)),
    ):  # fmt: skip
        z = []
        for f in made:
            n = len(f.predictor)
            kept = np.delete(np.arange(n), [g for g in gone if -n <= g < n])
            r = np.linspace(0, 1, n)[kept]
            design = np.stack([np.ones_like(r), r, r**2], axis=1)
            x, y = (
                v[kept] - design @ np.linalg.lstsq(design, v[kept], rcond=None)[0]
                for v in (f.predictor, f.outcome)
            )
            z.append(np.arctanh(x @ y / np.sqrt((x @ x) * (y @ y))))
        expected = np.tanh(random_effects(np.array(z), variances, 0.95)[:3])
        got = (left[name].value, left[name].low, left[name].high)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_what_ends_alone_make_is_no_support():
    # Like spikes at both ends of every family: only the swap stood between chance and support.
    rng, supported, loose = np.random.default_rng(5), 0, 0
    for _ in range(60):
        made = []
        for f in families(rng, 8, blocks=24):
            x, y = f.predictor.copy(), f.outcome.copy()
            x[[0, -1]], y[[0, -1]] = x.max() + 6, y.max() + 6
            made.append(replace(f, predictor=x, outcome=y))
        across = correlation_across(made)
        assert across.p is not None and across.p < 1e-3
        verdict = judge_families([across], [0.3], sound(), DECLARED)
        supported += verdict.label == "supported"
        free = judge_families([replace(across, over_blocks=False)], [0.3], sound(), DECLARED)
        loose += free.label == "supported"
        if free.label == "supported" and verdict.label != "supported":
            assert "but without " in verdict.reason
    assert supported <= 1 and loose >= supported


def test_a_checkpoint_given_twice_changes_nothing():
    made = families(np.random.default_rng(3), 5, slope=0.4)
    once, twice = correlation_across(made), correlation_across([*made, made[0]])
    assert twice.estimate.value == pytest.approx(once.estimate.value)
    assert twice.part(0.5, 0.05).p_equivalence == pytest.approx(once.part(0.5, 0.05).p_equivalence)
    assert twice.concurring == pytest.approx(once.concurring)
    peaked = peaks([peak(0.75)] * 5)
    assert window_across([*peaked, peaked[1]], WINDOW) == window_across(peaked, WINDOW)
    out = [
        FamilyEnds(family=f"f{i}", outlyingness=np.random.default_rng(i).normal(size=12))
        for i in range(5)
    ]
    assert both_ends_across([*out, out[4]]).p == pytest.approx(both_ends_across(out).p)
    one = effects([1.0, 2.0, 3.0], np.array([0.2, 0.5, 0.3]))
    both = effect_across([*one, one[1]], name="x")
    assert both.estimate == effect_across(one, name="x").estimate


def test_checkpoints_that_differ_leave_their_family_the_less_precise():
    def error(values: list[float]) -> float:
        family = [replace(f, family="one") for f in effects(values, np.full(len(values), 0.1))]
        other = effects([1.0, 1.2])
        found = effect_across([*family, *other], name="x").estimate
        assert found.low is not None and found.high is not None and found.n == 3
        return found.high - found.low

    # Values of a family are averaged, so the pooled mean is the same; its weight is not.
    assert error([1.0, 1.0]) == pytest.approx(error([1.0]))
    assert error([-1.0, 3.0]) != pytest.approx(error([1.0]))


def test_most_checkpoints_of_a_family_must_peak_in_the_window():
    inside, outside, lost = peak(0.75), peak(0.25), peak(0.25, 0.0, 1.0)

    def one(*places: Peak) -> tuple[float, float]:
        others = peaks([outside] * 4)
        mine = [replace(p, family="mine") for p in peaks(list(places))]
        found = window_across([*mine, *others], WINDOW)
        assert found.n == 5 and found.estimate.value is not None
        part = found.part(0.5, 0.05)
        assert part.p_equivalence is not None
        return round(found.estimate.value * 5), part.p_equivalence

    none, all_ = stats.binom.cdf([0, 1], 5, 0.5)
    assert one(inside, inside, outside) == (1, pytest.approx(all_))
    assert one(inside, outside) == (0, pytest.approx(all_))  # no majority for either
    assert one(inside, outside, outside) == (0, pytest.approx(none))
    assert one(lost, lost, outside) == (0, pytest.approx(all_))


def test_profiles_of_unequal_length_are_refused():
    with pytest.raises(UserError, match="predictor has 12 blocks and outcome 11"):
        correlation_across([FamilyProfiles(family="a", predictor=np.ones(12), outcome=np.ones(11))])


# -- effects --------------------------------------------------------------------------------------


def test_a_family_without_interval_counts_as_the_least_precise():
    values, errors = np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.5, 0.5])
    known = effects(values, errors)
    bare = Estimate(value=3.0, unit="dB", reason="one sentence has no spread")
    mixed = [*known[:2], FamilyEffect(family="f2", estimate=bare)]
    assert effect_across(mixed, name="x").estimate == effect_across(known, name="x").estimate


def test_a_family_without_effect_is_left_out_and_said():
    absent = Estimate(value=None, unit="dB", reason="too few blocks")
    across = effect_across(
        [*effects([1.0, 2.0]), FamilyEffect(family="short", estimate=absent)], name="x"
    )
    assert across.n == 2
    assert across.left_out == {"short": "too few blocks"}


# -- windows --------------------------------------------------------------------------------------


def test_hit_rate_has_an_exact_interval():
    across = window_across(peaks([peak(0.75)] * 4 + [peak(0.25)] * 2), WINDOW)
    exact = stats.binomtest(4, 6).proportion_ci(0.95, method="exact")
    estimate = across.estimate
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (4 / 6, exact.low, exact.high)
    )
    # 13 blocks: r = 8/12, 9/12, 10/12 lie inside.
    assert across.p == pytest.approx(stats.binom.sf(3, 6, 3 / 13))
    assert across.minima == {"binomial": pytest.approx((3 / 13) ** 6)}
    assert across.agreeing == pytest.approx(4 / 6)


def test_all_hits_and_no_hits_have_ends_of_their_own():
    everywhere = window_across(peaks([peak(0.75)] * 5), WINDOW).estimate
    assert (everywhere.value, everywhere.high) == (1.0, 1.0)
    nowhere = window_across(peaks([peak(0.25)] * 5), WINDOW).estimate
    assert (nowhere.value, nowhere.low) == (0.0, 0.0)


def test_a_peak_that_could_not_be_located_refutes_nothing():
    missed, lost = [peak(0.25)] * 8, [peak(0.25, 0.0, 1.0)] * 8
    refuted = judge_families([window_across(peaks(missed), WINDOW)], [0.5], sound(), DECLARED)
    assert refuted.label == "refuted"
    open_ = judge_families([window_across(peaks(lost), WINDOW)], [0.5], sound(), DECLARED)
    assert open_.label == "inconclusive"


def test_peaks_in_the_window_support_only_where_they_are_located_there():
    sharp = judge_families(
        [window_across(peaks([peak(0.75)] * 8), WINDOW)], [0.5], sound(), DECLARED
    )
    assert sharp.label == "supported"
    wide = judge_families(
        [window_across(peaks([peak(0.75, 0.5, 0.75)] * 8), WINDOW)], [0.5], sound(), DECLARED
    )
    assert wide.label == "inconclusive"
    assert "0% of 8 families" in wide.reason


def test_a_family_with_no_block_in_the_window_is_left_out():
    shallow = FamilyPeak(family="shallow", peak=peak(0.5), n_blocks=3)
    across = window_across([*peaks([peak(0.75)] * 5), shallow], WINDOW)
    assert across.n == 5
    assert "shallow" in across.left_out
    assert window_across([shallow], WINDOW).p is None


# -- both ends ------------------------------------------------------------------------------------


def test_ends_that_stand_out_everywhere_are_found_and_one_end_is_not():
    rng = np.random.default_rng(0)

    def across(ends: list[int]) -> Across:
        made = []
        for i in range(8):
            out = np.abs(rng.normal(size=12))
            out[ends] += 6
            made.append(FamilyEnds(family=f"f{i}", outlyingness=out))
        return both_ends_across(made)

    both = across([0, -1])
    assert both.minima["Stouffer"] == pytest.approx(both.p)
    assert judge_families([both], [0.9], sound(), DECLARED).label == "supported"
    assert judge_families([across([0])], [0.9], sound(), DECLARED).label != "supported"


def test_ends_like_any_other_block_hold_their_rate_and_are_refuted():
    rng, times, low, labels = np.random.default_rng(0), 300, 0, []
    for _ in range(times):
        made = [
            FamilyEnds(family=f"f{i}", outlyingness=np.abs(rng.normal(size=12))) for i in range(8)
        ]
        across = both_ends_across(made)
        assert across.p is not None
        low += across.p < 0.05
        labels.append(judge_families([across], [0.9], sound(), DECLARED).label)
    assert stats.binom.sf(low - 1, times, 0.05) > CHANCE
    assert labels.count("refuted") > 0.9 * times


def test_undefined_outlyingness_is_left_out():
    out = np.ones(12)
    made = [FamilyEnds(family=f"f{i}", outlyingness=out) for i in range(3)]
    odd = FamilyEnds(family="odd", outlyingness=np.where(np.arange(12) == 3, np.nan, out))
    across = both_ends_across([*made, odd])
    assert across.n == 3 and "odd" in across.left_out


# -- the clauses ----------------------------------------------------------------------------------


def test_four_families_speak_for_nobody_whatever_they_say():
    for value in (5.0, -5.0):
        across = effect_across(effects(value + np.arange(4) / 10), name="effect")
        verdict = judge_families([across], [1.0], sound(), DECLARED)
        assert verdict.label == "inconclusive"
        assert "4 families; 5 are needed" in verdict.reason


def test_clear_effects_are_supported_and_clear_absence_is_refuted():
    strong = effect_across(effects([2.1, 1.8, 2.4, 2.0, 2.2]), name="effect")
    assert judge_families([strong], [1.0], sound(), DECLARED).label == "supported"
    absent = effect_across(effects([0.1, -0.2, 0.0, 0.2, -0.1]), name="effect")
    assert judge_families([absent], [1.0], sound(), DECLARED).label == "refuted"
    unproven = judge_families([absent], [1.0], sound(positive=False), DECLARED)
    assert unproven.label == "inconclusive"


def test_a_family_that_is_significantly_opposite_denies_support():
    values, errors = [3.0, 3.2, 2.9, 3.1, 3.0, 2.8, 3.3, -0.4], np.full(8, 0.1)
    across = effect_across(effects(values, errors), name="effect")
    assert across.opposite == ("f7",)
    verdict = judge_families([across], [1.0], sound(), DECLARED)
    assert (verdict.label, verdict.p is not None) == ("inconclusive", True)
    assert verdict.reason == "effect: significantly opposite in f7"


def test_families_must_agree_in_sign():
    across = effect_across(effects([9.0, 9.2, 9.1, 8.8, 9.3]), name="effect")
    half = replace(across, agreeing=0.6)
    assert "60% of 5" in judge_families([half], [1.0], sound(), DECLARED).reason
    two_thirds = replace(across, agreeing=2 / 3)
    assert judge_families([two_thirds], [1.0], sound(), DECLARED).label == "supported"


def test_a_test_that_does_not_concur_denies_support():
    across = effect_across(effects([2.1, 1.8, 2.4, 2.0, 2.2]), name="effect")
    dissent = replace(across, concurring={"sign flip": 0.06})
    verdict = judge_families([dissent], [1.0], sound(), DECLARED)
    assert verdict.reason == "effect: the sign flip does not concur, p = 0.06"


def test_the_design_says_when_a_concurring_test_cannot():
    across = effect_across(effects([1.0, 1.1, 0.9, 1.0]), name="effect")
    assert across.p_minimum(0.05) == 2**-4
    assert effect_across(effects(np.ones(6) + np.arange(6)), name="x").p_minimum(0.05) == 0.0


def test_all_statistics_of_a_hypothesis_must_pass():
    strong = effect_across(effects([2.1, 1.8, 2.4, 2.0, 2.2]), name="first")
    absent = effect_across(effects([0.1, -0.2, 0.0, 0.2, -0.1]), name="second")
    verdict = judge_families([strong, absent], [1.0, 1.0], sound(), DECLARED)
    assert verdict.label == "refuted"
    assert verdict.reason.startswith("second")


def test_gates_and_further_conditions_are_the_engines():
    strong = effect_across(effects([2.1, 1.8, 2.4, 2.0, 2.2]), name="effect")
    gated = judge_families([strong], [1.0], sound(), DECLARED, gate="nothing to explain")
    assert (gated.label, gated.p) == ("not testable", None)
    denied = judge_families([strong], [1.0], sound(), DECLARED, extra=(False, "share too small"))
    assert denied.reason == "share too small"


# -- equivalence ----------------------------------------------------------------------------------


def test_equivalence_of_correlations_is_each_test_on_what_is_left_of_the_sesoi():
    made = families(np.random.default_rng(5), 6, slope=0.2)
    part = correlation_across(made).part(0.4, 0.05)
    z = np.array([
        np.arctanh(correlate_profiles(f.predictor, f.outcome).estimate.value) for f in made
    ])  # fmt: skip
    assert part.p_equivalence == pytest.approx(
        stats.ttest_1samp(z, np.arctanh(0.4), alternative="less").pvalue
    )
    assert part.concurring["sign flip"] == pytest.approx(
        stats.permutation_test(
            (z - np.arctanh(0.4),), np.sum, permutation_type="samples", alternative="less",
            n_resamples=np.inf,
        ).pvalue
    )  # fmt: skip
    assert set(part.concurring) == {"sign flip", "model swap"}


def test_equivalence_of_effects_hits_and_ends():
    values = np.array([0.1, 0.3, -0.2, 0.2, 0.0])
    part = effect_across(effects(values), name="x").part(0.5, 0.05)
    assert part.p_equivalence == pytest.approx(
        stats.ttest_1samp(values, 0.5, alternative="less").pvalue
    )
    assert part.concurring == {"sign flip": 2**-5}
    hits = window_across(
        peaks([peak(0.75)] * 2 + [peak(0.25, 0.0, 1.0)] + [peak(0.25)] * 6), WINDOW
    )
    assert hits.part(0.5, 0.05).p_equivalence == pytest.approx(stats.binom.cdf(3, 9, 0.5))
    assert hits.part(0.5, 0.05).chance == pytest.approx(3 / 13)
    out = [np.random.default_rng(i).normal(size=12) for i in range(6)]
    ends = both_ends_across([FamilyEnds(family=f"f{i}", outlyingness=o) for i, o in enumerate(out)])
    part = ends.part(0.9, 0.05)
    percentiles = [both_ends_percentile(o) for o in out]
    assert part.p_equivalence == pytest.approx(
        stats.ttest_1samp(percentiles, 0.9, alternative="less").pvalue
    )
    assert part.chance == 0.5


def test_the_sesoi_itself_is_seldom_refuted_by_families():
    rng, times, rejected = np.random.default_rng(7), 300, 0
    for _ in range(times):
        part = correlation_across(families(rng, 7, slope=0.5)).part(0.5, 0.05)
        assert part.p_equivalence is not None
        rejected += part.p_equivalence < 0.05
    assert stats.binom.sf(rejected - 1, times, 0.07) > CHANCE, rejected / times
    assert rejected > 0


def test_without_a_block_is_the_pooled_correlation_of_the_others():
    made = families(np.random.default_rng(6), 5, slope=0.5, blocks=12)
    left = correlation_across(made).part(0.5, 0.05).without
    assert len(left) == 13 and "without both ends" in left
    for name, block in (("without block 0", 0), ("without block -1", 11), ("without block 5", 5)):
        single = [
            correlate_profiles(f.predictor, f.outcome).without[f"without block {block}"].value
            for f in made
        ]
        z = np.arctanh(np.array(single, dtype=float))
        assert left[name].value == pytest.approx(np.tanh(z.mean()))


def test_families_of_two_depths_lose_their_ends_together():
    shallow, deep = (
        replace(f, family=f"{f.family}-{blocks}")
        for blocks in (8, 24)
        for f in families(np.random.default_rng(blocks), 1, blocks=blocks)
    )
    left = correlation_across([shallow, deep]).part(0.5, 0.05).without
    assert set(left) == {*(f"without block {i}" for i in range(-12, 12)), "without both ends"}
    # Its ninth block from the front a family of eight does not have: it stays as it is.
    z = [np.arctanh(correlate_profiles(f.predictor, f.outcome).estimate.value) for f in (shallow,)]
    z += [
        np.arctanh(
            correlate_profiles(deep.predictor, deep.outcome).without["without block 9"].value
        )
    ]
    spare = np.array([8, 24]) - 5
    mean, *_ = random_effects(np.array(z), 1 / spare, 0.95)
    assert left["without block 9"].value == pytest.approx(np.tanh(mean))


def spiked(rng: np.random.Generator, m: int, ends: list[int]) -> list[FamilyProfiles]:
    """Families that correlate by .7, but for ends, where both spike, in opposite directions."""
    made = families(rng, m, slope=0.7)
    for f in made:
        for end in ends:
            f.predictor[end], f.outcome[end] = f.predictor.max() + 6, f.outcome.min() - 6
    return made


@pytest.mark.parametrize("ends", [[0], [-1], [0, -1]])
def test_opposite_spikes_at_the_ends_refute_no_correlation_that_is_there(ends):
    rng, times = np.random.default_rng(4), 60
    verdicts = [
        judge_families([correlation_across(spiked(rng, 7, ends))], [0.5], sound(), DECLARED)
        for _ in range(times)
    ]
    fooled = sum(v.p_equivalence is not None and v.p_equivalence < 0.05 for v in verdicts)
    assert fooled > 0.9 * times  # by its test of equivalence alone, nearly all are refuted
    assert [v.label for v in verdicts].count("refuted") <= 0.05 * times


def test_a_hit_that_one_block_hides_refutes_nothing():
    # The first block is the largest in every family, and without it they all peak in the window.
    at = {"without block 0": Estimate(value=0.75, low=0.7, high=0.8, unit="relative depth")}
    masked = [
        FamilyPeak(family=f"f{i}", peak=replace(peak(0.0), leave_out=lambda: at), n_blocks=13)
        for i in range(8)
    ]
    verdict = judge_families([window_across(masked, WINDOW)], [0.5], sound(), DECLARED)
    assert verdict.label == "inconclusive"
    assert "without block 0 it is 1 [" in verdict.reason
    plain = window_across(peaks([peak(0.0)] * 8), WINDOW)
    assert judge_families([plain], [0.5], sound(), DECLARED).label == "refuted"


def test_what_has_no_test_of_equivalence_refutes_nothing():
    absent = replace(effect_across(effects([0.1, -0.2, 0.0, 0.2, -0.1]), name="e"), against=None)
    verdict = judge_families([absent], [1.0], sound(), DECLARED)
    assert verdict.label == "inconclusive" and "no test rejects" in verdict.reason


def test_a_control_of_one_statistic_guards_it_alone():
    absent = effect_across(effects([0.1, -0.2, 0.0, 0.2, -0.1]), name="effect")
    missed = replace(sound()[0], passed=False, name="planted across families")
    verdict = judge_families([absent], [1.0], sound(), DECLARED, own=[(missed,)])
    assert verdict.label == "inconclusive" and "planted across families" in verdict.reason


def test_mixes_are_counted_as_mixes():
    strong = effect_across(effects([2.1, 1.8, 2.4]), name="effect")
    verdict = judge_families([strong], [1.0], sound(), DECLARED, unit="mix")
    assert verdict.scope == "3 training mixes"
    assert "3 training mixes; 5 are needed" in verdict.reason
