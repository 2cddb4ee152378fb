"""The bootstrap: weights, coverage, scipy as oracle, pairing, and what has no interval."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from bitgap.records import Floats
from bitgap.stats.bootstrap import (
    Statistic,
    bca,
    bootstrap_p,
    bootstrap_p_equivalence,
    bootstrap_weights,
    central_range,
    estimate,
    estimates,
    expanded_level,
    jackknife_weights,
)


def mean_of(x: Floats) -> Statistic:
    return lambda weights: weights @ x / weights.sum(1)


def ratio_of(x: Floats, y: Floats) -> Statistic:
    return lambda weights: (weights @ x) / (weights @ y)


# --------------------------------------------------------------------------------------- weights


def test_sentences_of_a_document_come_and_stay_away_together():
    documents = np.array([3, 3, 1, 1, 1, 8])
    weights = bootstrap_weights(documents, 500, seed=0)
    assert weights.shape == (500, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 2], weights[:, 4])
    # As many documents are drawn as there are.
    np.testing.assert_array_equal(weights[:, [0, 2, 5]].sum(1), 3)
    left_out = jackknife_weights(documents)
    np.testing.assert_array_equal(left_out[0], [1, 1, 0, 0, 0, 1])
    assert left_out.shape == (3, 6)


def test_documents_of_one_sentence_are_sentences():
    np.testing.assert_array_equal(
        bootstrap_weights(np.arange(9), 50, seed=3), bootstrap_weights(9, 50, seed=3)
    )


def test_intervals_over_documents_cover_where_sentences_of_one_are_alike():
    rng = np.random.default_rng(5)
    documents = np.repeat(np.arange(20), 10)
    covered = {"documents": 0, "sentences": 0}
    for trial in range(200):
        x = rng.normal(size=20)[documents] + 0.5 * rng.normal(size=200)
        for name, units in (("documents", documents), ("sentences", 200)):
            e = estimates(
                lambda w, x=x: (w @ x / w.sum(1))[:, None], units, unit="", seed=trial, draws=400
            )[0]
            covered[name] += e.low <= 0 <= e.high
    assert covered["documents"] >= 180
    assert covered["sentences"] <= 130


def test_weights_count_n_draws_and_have_the_moments_of_resampling():
    n, draws = 7, 40_000
    weights = bootstrap_weights(n, draws, seed=1)
    assert weights.shape == (draws, n)
    assert (weights.sum(1) == n).all()
    assert (weights >= 0).all() and (weights == weights.round()).all()
    # Multinomial: mean 1, variance 1 − 1/n, covariance −1/n; all within 5 standard errors.
    assert np.abs(weights.mean(0) - 1).max() < 5 / np.sqrt(draws)
    wanted = np.eye(n) - 1 / n
    assert np.abs(np.cov(weights.T) - wanted).max() < 5 * np.sqrt(3 / draws)


def test_a_seed_names_its_resamples():
    assert np.array_equal(bootstrap_weights(9, 20, 3), bootstrap_weights(9, 20, 3))
    assert not np.array_equal(bootstrap_weights(9, 20, 3), bootstrap_weights(9, 20, 4))


def test_jackknife_leaves_each_sentence_out_once():
    x = np.array([1.0, 5.0, 2.0, 9.0])
    wanted = [np.delete(x, i).mean() for i in range(4)]
    assert mean_of(x)(jackknife_weights(4)) == pytest.approx(wanted)


# -------------------------------------------------------------------------------------- intervals


def test_intervals_cover_a_mean_and_a_ratio_at_their_level():
    n, times, covered = 100, 600, np.zeros(2)
    rng = np.random.default_rng(11)
    for seed in range(times):
        x, y = rng.gamma(4, 0.25, n), rng.gamma(4, 0.25, n)

        def both(w: Floats, x: Floats = x, z: Floats = 1.5 * y + (x - 1), y: Floats = y) -> Floats:
            return np.stack([w @ x / w.sum(1), (w @ z) / (w @ y)], axis=1)

        found = estimates(both, n, unit="", seed=seed, draws=400)
        for i, truth in enumerate((1.0, 1.5)):
            assert found[i].low is not None and found[i].high is not None
            covered[i] += found[i].low <= truth <= found[i].high
    # A bootstrap's spread is short by √((n−1)/n) and it uses z for t, so a mean is covered a little
    # under 95 %; skew and 400 draws take up to one point more. Binomial error over that.
    wanted = 2 * stats.t.cdf(1.96 * np.sqrt((n - 1) / n), n - 1) - 1
    error = 3 * np.sqrt(wanted * (1 - wanted) / times)
    assert (covered / times > wanted - 0.01 - error).all()
    assert (covered / times < 0.95 + error).all()


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("kind", ["mean", "ratio"])
def test_bca_is_scipys_on_the_same_draws(kind, level):
    rng = np.random.default_rng(5)
    x, y = rng.lognormal(size=(2, 35))
    statistic = mean_of(x) if kind == "mean" else ratio_of(x, y)
    draws = statistic(bootstrap_weights(35, 1999, seed=2))
    data, of_sample = (
        ((x,), np.mean) if kind == "mean" else ((x, y), lambda x, y: x.sum() / y.sum())
    )
    options = {"paired": kind == "ratio", "vectorized": False, "confidence_level": level}
    made = stats.bootstrap(data, of_sample, n_resamples=2, rng=rng, method="percentile", **options)
    oracle = stats.bootstrap(
        data,
        of_sample,
        n_resamples=0,
        bootstrap_result=replace(made, bootstrap_distribution=draws),
        method="BCa",
        **options,
    )
    point = statistic(np.ones((1, 35)))[0]
    found = bca(point, draws, statistic(jackknife_weights(35)), level)
    assert found == pytest.approx(np.array(oracle.confidence_interval), rel=1e-12)


def test_a_whole_estimate_agrees_with_scipys_up_to_its_draws():
    x, y = np.random.default_rng(8).lognormal(size=(2, 50))
    found = estimate(ratio_of(x, y), 50, unit="ratio", seed=0, draws=20_000)
    oracle = stats.bootstrap(
        (x, y),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        n_resamples=20_000,
        paired=True,
        vectorized=True,
        rng=np.random.default_rng(1),
        confidence_level=expanded_level(0.95, 50),
    )
    assert found.value == pytest.approx(x.sum() / y.sum(), rel=1e-12)
    # An end at 20,000 draws has a standard error of some 2 % of the interval's length.
    length = oracle.confidence_interval.high - oracle.confidence_interval.low
    ends = (oracle.confidence_interval.low, oracle.confidence_interval.high)
    assert (found.low, found.high) == pytest.approx(ends, abs=0.08 * length)
    assert (found.unit, found.n, found.level) == ("ratio", 50, 0.95)
    assert "20000 draws" in found.method


def test_intervals_follow_scale_shift_and_sign():
    x = np.random.default_rng(0).lognormal(size=30)
    ends = [
        estimate(lambda w, a=a, b=b: a * mean_of(x)(w) + b, 30, unit="", seed=0, draws=500)
        for a, b in ((1, 0), (3, 2), (-1, 0))
    ]
    plain, moved, turned = ((e.low, e.high) for e in ends)
    assert moved == pytest.approx((3 * plain[0] + 2, 3 * plain[1] + 2))
    assert turned == pytest.approx((-plain[1], -plain[0]))


def test_bca_keeps_the_shape_of_its_statistics():
    rng = np.random.default_rng(2)
    draws, left_out = rng.normal(size=(400, 2, 3)), rng.normal(size=(20, 2, 3))
    found = bca(np.zeros((2, 3)), draws, left_out)
    assert found.shape == (2, 2, 3)
    one = bca(np.zeros(()), draws[:, 1, 2], left_out[:, 1, 2])
    assert np.array_equal(found[:, 1, 2], one)


# ---------------------------------------------------------------------------------------- pairing


def test_languages_are_resampled_together():
    rng = np.random.default_rng(4)
    shared, seen = rng.gamma(1, size=40), []

    def by_language(weights: Floats) -> Floats:
        seen.append(weights)
        return weights @ np.stack([shared, 3 * shared], axis=1)

    def log_ratio(weights: Floats) -> Floats:
        sums = by_language(weights)
        return np.log2(sums[:, 1] / sums[:, 0])

    ratio = estimate(log_ratio, 40, unit="log2 ratio", seed=0, draws=300)
    sums = estimates(by_language, 40, unit="nats", seed=0, draws=300)
    # What languages share cancels wholly, although each language alone is uncertain.
    assert ratio.value == pytest.approx(np.log2(3))
    assert ratio.low is None and ratio.reason == "the draws do not vary"
    assert sums[0].high / sums[0].low > 1.2
    assert (sums[1].low, sums[1].high) == pytest.approx((3 * sums[0].low, 3 * sums[0].high))
    assert np.array_equal(seen[1], seen[4])


def test_a_contrast_is_surer_than_its_unpaired_terms():
    rng = np.random.default_rng(6)
    shared = rng.normal(0, 5, 60)
    one, two = shared + rng.normal(1, 0.1, 60), shared + rng.normal(0, 0.1, 60)
    paired = estimate(mean_of(one - two), 60, unit="", seed=0, draws=500)
    alone = estimate(mean_of(one), 60, unit="", seed=0, draws=500)
    assert paired.low > 0.9 and paired.high < 1.1
    assert alone.high - alone.low > 1


# ------------------------------------------------------------------------------------- degenerate


def _undefined_where(condition, x: Floats) -> Statistic:
    return lambda w: np.where(condition(w), np.nan, w @ x / w.sum(1))


X = np.random.default_rng(9).gamma(2, size=12)
CASES = {
    "constant": (lambda w: w @ np.full(12, 0.1) / w.sum(1), True, "the draws do not vary"),
    "constant up to rounding": (ratio_of(0.1 * X, X), True, "the draws do not vary"),
    "nowhere": (lambda w: np.full(len(w), np.nan), False, "undefined on this text"),
    "infinite": (lambda w: np.full(len(w), np.inf), False, "undefined on this text"),
    "plain": (_undefined_where(lambda w: (w == 1).all(1), X), False, "undefined on this text"),
    "leave-one-out": (
        _undefined_where(lambda w: (w[:, 3] == 0) & (w.sum(1) == 11), X),
        True,
        "undefined without one of the sentences",
    ),
    "many draws": (_undefined_where(lambda w: w[:, 0] > 1, X), True, r"undefined in \d+.\d% of"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_interval_has_a_reason(case):
    statistic, has_value, reason = CASES[case]
    found = estimate(statistic, 12, unit="nats", seed=0, draws=400)
    assert (found.value is not None) == has_value
    assert found.low is None and found.high is None
    assert re.match(reason, found.reason)


def test_one_sentence_has_a_value_but_no_spread():
    found = estimate(mean_of(np.array([3.0])), 1, unit="nats", seed=0, draws=50)
    assert found.value == 3
    assert found.low is None and "one sentence" in found.reason


def test_a_few_undefined_draws_are_set_aside():
    # Three draws of a thousand, under the one in a hundred at which an interval is withheld.
    x = np.random.default_rng(1).gamma(2, size=30)
    bad = bootstrap_weights(30, 1000, seed=0)[[5, 17, 400]]

    def holed(w: Floats) -> Floats:
        gone = (w[:, None] == bad[None]).all(-1).any(-1)
        return np.where(gone, np.nan, mean_of(x)(w))

    found = estimate(holed, 30, unit="", seed=0, draws=1000)
    whole = estimate(mean_of(x), 30, unit="", seed=0, draws=1000)
    assert found.low == pytest.approx(whole.low, rel=0.02)
    assert found.high == pytest.approx(whole.high, rel=0.02)


def test_statistics_that_fail_do_not_take_others_with_them():
    def mixed(w: Floats) -> Floats:
        return np.stack([w @ X / 12, np.full(len(w), np.nan)], axis=1)

    good, bad = estimates(mixed, 12, unit="", seed=0, draws=200)
    alone = estimate(lambda w: w @ X / 12, 12, unit="", seed=0, draws=200)
    assert good == alone and good.low is not None
    assert bad.value is None


# ---------------------------------------------------------------------------------- few sentences


def test_level_is_expanded_for_few_and_left_alone_for_many():
    levels = [expanded_level(0.95, n) for n in (2, 4, 8, 16, 100, 10_000, 10_000_000)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] < 1
    assert levels[-1] == pytest.approx(0.95, abs=1e-6)
    # Student's quantile and the spread that resampling loses, on the normal's scale; degrees of
    # freedom of a variance that eight units tell, with the part of an excess kurtosis of 9.
    freedom = 2 / (9 / (8 + 24) + 2 / 7)
    wide = stats.t.ppf(0.975, freedom) * np.sqrt(8 / 7)
    assert levels[2] == pytest.approx(1 - 2 * stats.norm.sf(wide))
    assert expanded_level(0.95, 1) == 0.95


def test_degrees_of_freedom_are_those_of_a_variance_with_heavy_tails():
    # Of n values with excess kurtosis κ the variance varies, relative to its square, by
    # κ/n + 2/(n − 1); a scaled χ² of ν varies by 2/ν. Exponential values have κ = 6.
    n, rng = 40, np.random.default_rng(0)
    variances = rng.exponential(size=(40_000, n)).var(1, ddof=1)
    found = 2 / (variances.var() / variances.mean() ** 2)
    assert found == pytest.approx(2 / (6 / n + 2 / (n - 1)), rel=0.05)


@pytest.mark.parametrize(("n", "rate"), [(6, 0.90), (12, 0.94)])
def test_few_sentences_are_covered_nearly_as_often_as_the_level_says(n, rate):
    rng, held, plain = np.random.default_rng(n), 0, 0
    weights, one_less = bootstrap_weights(n, 400, 0), jackknife_weights(n)
    for _ in range(300):
        length = rng.gamma(4, 0.25, n)
        part = length * (0.04 + 0.02 * rng.normal(size=n))
        statistic = ratio_of(part, length)
        wide = estimate(statistic, n, unit="share", seed=0, draws=400)
        assert wide.low is not None and wide.high is not None
        narrow = bca(statistic(np.ones((1, n)))[0], statistic(weights), statistic(one_less))
        held += wide.low <= 0.04 <= wide.high
        plain += narrow[0] <= 0.04 <= narrow[1]
        assert wide.level == 0.95
        assert f"expanded for {n} sentences, of which 95 % intervals hold" in wide.method
    assert held > plain + 6
    assert stats.binom.cdf(held, 300, rate) > 1e-3


def test_all_estimates_are_expanded_and_those_of_halves_for_as_many_as_a_half_has():
    x = np.random.default_rng(3).lognormal(size=24)
    how = {"unit": "", "seed": 0, "draws": 800}

    def column(w: Floats) -> Floats:
        return mean_of(x)(w)[:, None]

    (whole,) = estimates(column, 24, **how)
    ends = bca(
        column(np.ones((1, 24)))[0],
        column(bootstrap_weights(24, 800, 0)),
        column(jackknife_weights(24)),
        expanded_level(0.95, 24),
    )[:, 0]
    assert (whole.low, whole.high) == tuple(ends)
    (half,) = estimates(column, 24, as_of=12, **how)
    assert half.low < whole.low and half.high > whole.high


def made_up_texts() -> ModuleType:
    """Returns the benchmark that docs/coverage.md is made by."""
    at = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = spec_from_file_location("interval_coverage", at)
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(("documents", "sentences"), [(None, 56), (24, 48)])
def test_intervals_hold_the_truth_at_the_sizes_used(documents, sentences):
    made = made_up_texts()
    texts = 250
    for world in made.WORLDS:
        shares, percentile = made.covered(world, documents, sentences, 7, texts=texts, draws=400)
        # Statistics of one text go together, so that their mean is hardly surer than one of them.
        chance = stats.binom.ppf(1e-3, texts, 0.93) / texts
        assert min(shares.mean(), percentile.mean()) > max(chance, 0.92)
        assert min(shares.min(), percentile.min()) > chance
        assert max(shares.max(), percentile.max()) < 1


def test_the_made_up_texts_have_the_truth_that_their_formulas_say():
    made = made_up_texts()
    for world in made.WORLDS:
        tokens, kl, kept = world.draw(np.random.default_rng(0), np.arange(200_000))
        k = kl.sum(1) / tokens.sum()
        assert k == pytest.approx(world.mean_k(), rel=0.01)
        assert kept.sum() / kl.sum() == pytest.approx(1 - world.truth()[4], rel=0.01)


@pytest.mark.parametrize(("n", "rate"), [(4, 0.83), (6, 0.90), (8, 0.90), (16, 0.92)])
def test_central_ranges_of_ratios_cover_far_more_than_plain_quantiles_of_few(n, rate):
    rng, times = np.random.default_rng(n), 1000
    weights = bootstrap_weights(n, 400, 0)
    length = rng.gamma(4, 0.25, (times, n))
    part = length * rng.gamma(4, 0.25, (times, n))
    draws = (weights @ part.T) / (weights @ length.T)
    held = [
        ((low <= 1) & (high >= 1)).sum()
        for low, high in (central_range(draws, n), np.quantile(draws, [0.025, 0.975], axis=0))
    ]
    assert stats.binom.cdf(held[0], times, rate) > 1e-3
    assert held[0] > held[1] + 0.015 * times


def test_a_central_range_ignores_few_undefined_draws_and_is_withheld_for_many():
    draws = np.random.default_rng(0).normal(size=(1000, 3))
    whole = central_range(draws[5:, 1], 8)
    draws[:5, 1] = draws[:50, 2] = np.nan
    found = central_range(draws, 8)
    assert (found[:, 1] == whole).all()
    assert np.isnan(found[:, 2]).all()
    assert np.isnan(central_range(draws, 1)).all()


def test_what_has_no_interval_has_none_of_few_either():
    found = estimates(lambda w: w[:, :1] * 0 + 1, 4, unit="share", seed=0, draws=50)[0]
    assert found.low is None
    assert found.reason == "the draws do not vary"
    assert found.level == 0.95


def test_equivalence_counts_draws_that_are_not_under_the_sesoi():
    draws = np.array([0.1, 0.2, 0.5, np.nan, -3.0])
    assert bootstrap_p_equivalence(draws, 0.5) == (1 + 2) / (1 + 5)
    assert bootstrap_p_equivalence(draws, 9.0) == (1 + 1) / (1 + 5)


def test_equivalence_is_the_other_side_of_support():
    # Where nothing ties, "under s" of the draws is "above −s" of their negatives.
    draws = np.random.default_rng(0).normal(size=999)
    assert bootstrap_p_equivalence(draws, 0.3) == bootstrap_p(0.3 - draws)


def test_equivalence_at_the_sesoi_errs_no_oftener_than_alpha():
    rejected, times = 0, 400
    for seed in range(times):
        x = np.random.default_rng(seed).normal(0.3, 1, 60)
        rejected += bootstrap_p_equivalence(bootstrap_weights(60, 400, seed) @ x / 60, 0.3) < 0.05
    assert 0.02 < rejected / times <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)


def test_draws_that_equal_the_estimate_but_for_rounding_are_ties():
    # A correlation of 1 with the one sentence that makes it, and of −1 without.
    draws = np.array([-1.0] * 37 + [1.0] * 63)
    left_out = np.array([-1.0] + [1.0] * 23)
    exact = bca(np.array(1.0), draws, left_out)
    assert exact[0] == -1
    for off in (-2e-16, 2e-16):
        np.testing.assert_array_equal(bca(np.array(1.0 + off), draws, left_out), exact)
