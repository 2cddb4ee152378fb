"""Block profiles: detrending, false positives of smooth series, power, peaks and shares."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pytest
from planted_profiles import KINDS, autoregression, pairs
from scipy import stats

from bitgap.records import Floats
from bitgap.stats.profiles import (
    Peak,
    correlate_profiles,
    depths,
    detrend,
    detrenders,
    effective_dof,
    in_window,
    lmg_shares,
    locate_peak,
    smallest_p_both_ends,
    smallest_p_of_correlation,
    window_share,
)

WINDOW = (0.65, 0.85)
NOMINAL = 0.05

# -------------------------------------------------------------------------------------- detrending


@pytest.mark.parametrize("n_blocks", [4, 12, 33])
def test_detrending_removes_depth_and_its_square_and_nothing_else(n_blocks):
    rng = np.random.default_rng(n_blocks)
    r = np.arange(n_blocks) / (n_blocks - 1)
    trend = 3 - 40 * r + 25 * r**2
    rest = rng.normal(size=n_blocks)
    assert np.abs(detrend(trend)).max() < 1e-12 * np.abs(trend).max()
    assert detrend(rest + trend) == pytest.approx(detrend(rest), abs=1e-11)
    for power in range(3):
        assert detrend(rest) @ r**power == pytest.approx(0, abs=1e-12)
    assert detrend(detrend(rest)) == pytest.approx(detrend(rest), abs=1e-12)


def _residuals(values: Floats, at: Floats) -> Floats:
    """Returns what a regression on (1, r, r²) leaves, by another routine than the code's."""
    design = np.stack([np.ones_like(at), at, at**2], axis=1)
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


@pytest.mark.parametrize("n_blocks", [4, 7, 24, 80])
def test_trends_are_removed_to_the_last_digits_also_where_blocks_are_left_out(n_blocks):
    rng = np.random.default_rng(n_blocks)
    profile, r = rng.normal(size=n_blocks).cumsum(), depths(n_blocks)
    np.testing.assert_allclose(detrend(profile), _residuals(profile, r), rtol=0, atol=1e-12)
    gone = ((), (0,), (n_blocks - 2,), (-1,), (0, -1))
    for left, one in zip(detrenders(n_blocks, gone) @ profile, gone, strict=True):
        kept = np.delete(np.arange(n_blocks), one)
        expected = np.zeros(n_blocks)
        expected[kept] = _residuals(profile[kept], r[kept])
        np.testing.assert_allclose(left, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            detrend(profile[kept], r[kept]), expected[kept], rtol=0, atol=1e-12
        )


def test_depth_runs_from_0_to_1():
    assert depths(5) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


# --------------------------------------------------------------------------------- correlation


@pytest.mark.parametrize("n_blocks", [12, 24])
@pytest.mark.parametrize("kind", KINDS)
def test_unrelated_profiles_correlate_significantly_no_oftener_than_the_method_allows(
    kind, n_blocks
):
    times = 1000
    found = [correlate_profiles(x, y) for x, y in pairs(kind, n_blocks, times=times)]
    ps = np.array([1.0 if f.p is None else f.p for f in found])
    # .11 is the most that the method found for this test; the binomial error of 1000 is .007.
    assert (ps < NOMINAL).mean() <= 0.11
    assert (ps > 1 - NOMINAL).mean() - (ps == 1).mean() <= 0.11
    covered = [f.estimate.low <= 0 <= f.estimate.high for f in found if f.estimate.low is not None]
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


@pytest.mark.parametrize("n_blocks", [12, 24])
def test_a_plain_correlation_of_the_same_walks_would_cry_wolf(n_blocks):
    found = [
        stats.pearsonr(x, y, alternative="greater") for x, y in pairs("walk", n_blocks, times=400)
    ]
    assert np.mean([f.pvalue < NOMINAL for f in found]) > 0.2


@pytest.mark.parametrize(("n_blocks", "power"), [(12, 0.75), (24, 0.95)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_slope_is_found(kind, n_blocks, power):
    found = [correlate_profiles(x, y) for x, y in pairs(kind, n_blocks, slope=0.9, times=300)]
    assert np.mean([f.p is not None and f.p < NOMINAL for f in found]) > power


@pytest.mark.parametrize("kind", ["iid", "ar", "walk"])
def test_intervals_cover_a_planted_correlation(kind):
    times = 500
    found = [correlate_profiles(x, y).estimate for x, y in pairs(kind, 24, slope=0.7, times=times)]
    # The rare pair too smooth to have an interval makes no claim that could be wrong.
    missed = np.mean([f.low is not None and not f.low <= 0.7 <= f.high for f in found])
    assert missed <= 0.05 + 3 * np.sqrt(0.95 * 0.05 / times)
    assert np.mean([f.low is None for f in found]) < 0.02


def test_the_trend_of_depth_counts_for_nothing_and_sign_and_scale_do_as_they_should():
    x, y = next(pairs("ar", 24, slope=0.6, times=1, seed=3))
    r = depths(24)
    plain = correlate_profiles(x, y)
    moved = correlate_profiles(50 * x + 300 * r, y - 200 * r**2)
    turned = correlate_profiles(x, -y)
    assert moved.estimate.value == pytest.approx(plain.estimate.value, abs=1e-9)
    assert moved.p == pytest.approx(plain.p, abs=1e-9)
    assert turned.estimate.value == pytest.approx(-plain.estimate.value)
    assert turned.p == pytest.approx(1 - plain.p)
    assert correlate_profiles(y, x) == plain


def test_r_is_the_partial_correlation_given_depth():
    x, y = next(pairs("walk", 12, slope=0.4, times=1, seed=1))
    r = depths(12)
    inverse = np.linalg.inv(np.corrcoef([x, y, r, r**2]))
    wanted = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert correlate_profiles(x, y).estimate.value == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (depths(12) ** 2, "its own trend"),
        (np.zeros(12), "its own trend"),
        (np.r_[np.nan, np.arange(11.0) ** 3], "undefined at some block"),
        (np.r_[np.inf, np.arange(11.0) ** 3], "undefined at some block"),
    ],
)
def test_a_correlation_that_cannot_be_formed_has_a_reason(x, why):
    y = np.random.default_rng(0).normal(size=12)
    for found in (correlate_profiles(x, y), correlate_profiles(y, x)):
        assert found.p is None and found.estimate.value is None
        assert why in found.estimate.reason


@pytest.mark.parametrize("n_blocks", [3, 4, 5])
def test_too_few_blocks_give_no_p(n_blocks):
    rng = np.random.default_rng(0)
    found = correlate_profiles(rng.normal(size=n_blocks), rng.normal(size=n_blocks))
    assert found.p is None and found.estimate.low is None
    assert found.estimate.reason


# ------------------------------------------------------------------------------ degrees of freedom


def test_degrees_of_freedom_follow_their_formula():
    def autocorrelation(z: Floats, lag: int) -> float:
        return sum(z[i] * z[i + lag] for i in range(14 - lag)) / sum(z**2)

    capped = 0
    for pair in pairs("walk", 14, times=20):
        x, y = map(detrend, pair)
        terms = [(1 - k / 14) * autocorrelation(x, k) * autocorrelation(y, k) for k in range(1, 7)]
        n_effective = 14 / (1 + 2 * sum(terms))
        capped += n_effective > 14
        assert effective_dof(x, y) == pytest.approx(min(14, n_effective) - 4)
    assert 0 < capped < 20


@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_long_autoregressions_have_bartletts_degrees_of_freedom(rho):
    n, rng = 3000, np.random.default_rng(7)
    found = [
        effective_dof(autoregression(rng, n, rho), autoregression(rng, n, rho)) / n
        for _ in range(12)
    ]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    wanted = (1 - rho**2) / (1 + rho**2)  # 1 + 2 Σ ρ^2k = (1 + ρ²)/(1 − ρ²)
    # The ratio's own bias is of the order of its variance.
    assert abs(np.mean(found) - wanted) < 4 * error + 0.01


def test_degrees_of_freedom_never_exceed_those_of_independent_blocks():
    alternating = np.resize([1.0, -1.0], 20) + 0.01 * np.random.default_rng(0).normal(size=20)
    smooth = np.sin(depths(20) * 3)
    assert effective_dof(alternating, smooth) == 20 - 4


# ------------------------------------------------------------------------------ attainable p


def test_both_ends_being_the_extremes_is_one_of_the_pairs():
    n = 6
    ranks = list(permutations(range(n)))
    share = np.mean([{rank[0], rank[-1]} == {n - 1, n - 2} for rank in ranks])
    assert smallest_p_both_ends(n) == pytest.approx(share)
    assert smallest_p_both_ends(12) == 1 / len(list(combinations(range(12), 2))) == 1 / 66


@pytest.mark.parametrize(
    ("n_blocks", "inside"),
    [
        (12, [8, 9]),  # 8/11 = .727 and 9/11 = .818; 7/11 = .636 and 10/11 are out
        (24, [15, 16, 17, 18, 19]),  # 15/23 = .652 … 19/23 = .826
        (21, [13, 14, 15, 16, 17]),  # .65, .70, .75, .80, .85: ends count
        (11, [7, 8]),
        (4, [2]),  # 0, 1/3, 2/3, 1
        (3, []),
    ],
)
def test_blocks_in_the_window_are_those_counted_by_hand(n_blocks, inside):
    found = np.flatnonzero(in_window(depths(n_blocks), WINDOW)).tolist()
    assert found == inside
    assert window_share(n_blocks, WINDOW) == pytest.approx(len(inside) / n_blocks)


@pytest.mark.parametrize("n_models", [1, 2, 3])
def test_hits_in_every_model_have_the_windows_mass_to_that_power(n_models):
    r = depths(12)
    peaks = product(range(12), repeat=n_models)
    share = np.mean([all(WINDOW[0] <= r[block] <= WINDOW[1] for block in p) for p in peaks])
    assert window_share(12, WINDOW) ** n_models == pytest.approx(share)
    assert window_share(12, WINDOW) == pytest.approx(1 / 6)


@pytest.mark.parametrize("dof", [2, 8, 20])
def test_the_smallest_p_of_a_correlation_is_that_of_99_percent(dof):
    n = dof + 2
    x = detrend(np.random.default_rng(dof).normal(size=n))
    own = np.random.default_rng(dof + 1).normal(size=n)
    own -= own.mean() + x * (own @ x) / (x @ x)
    y = 0.99 * x / np.linalg.norm(x) + np.sqrt(1 - 0.99**2) * own / np.linalg.norm(own)
    oracle = stats.pearsonr(x, y, alternative="greater")
    assert oracle.statistic == pytest.approx(0.99)
    assert smallest_p_of_correlation(dof) == pytest.approx(oracle.pvalue, rel=1e-6)


def test_no_degrees_of_freedom_reach_no_p():
    assert smallest_p_of_correlation(0) == smallest_p_of_correlation(-2) == 1


# ------------------------------------------------------------------------------------------- peaks


def _draws_peaking_at(*blocks: int, n_blocks: int) -> Floats:
    return np.eye(n_blocks)[list(blocks)]


def test_a_peak_is_the_commonest_one_and_its_interval_the_central_range():
    draws = _draws_peaking_at(*[0] * 2, *[5] * 60, *[6] * 35, *[10] * 3, n_blocks=11)
    peak = locate_peak(draws, np.zeros(11))
    assert peak.block == 5 and peak.share == 0.6
    assert (peak.place.value, peak.place.low, peak.place.high) == (0.5, 0.5, 1.0)
    assert locate_peak(draws, np.zeros(11), level=0.9).place.high == pytest.approx(0.6)
    assert locate_peak(draws, np.zeros(11), level=0.97).place.low == 0.0


def test_intervals_of_peaks_are_numpys_quantiles_where_nothing_ties():
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(501, 9)) + 2 * np.exp(-((np.arange(9) - 6) ** 2) / 4)
    tops = depths(9)[draws.argmax(1)]
    peak = locate_peak(draws, draws.mean(0), level=0.8)
    wanted = np.quantile(tops, [0.1, 0.9], method="inverted_cdf")
    assert (peak.place.low, peak.place.high) == pytest.approx(wanted)
    assert peak.share == pytest.approx((draws.argmax(1) == peak.block).mean())


def test_a_planted_peak_is_found_in_most_samples_and_covered_in_nearly_all():
    found, covered, times = 0, 0, 60
    bump = 0.15 * np.exp(-((depths(12) - 8 / 11) ** 2) / 0.02)
    for seed in range(times):
        rng = np.random.default_rng(seed)
        sentences = bump + rng.normal(0, 0.5, (200, 12))
        draws = rng.multinomial(200, np.full(200, 1 / 200), size=300) @ sentences / 200
        peak = locate_peak(draws, sentences.mean(0))
        found += peak.block == 8
        covered += peak.place.low <= 8 / 11 <= peak.place.high
    # The gap to the next block is 2 standard errors of a difference, so half would be poor.
    assert found / times > 0.5
    assert covered / times >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


def test_a_flat_profile_peaks_nowhere_in_particular():
    for height in (0.0, 0.7):
        peak = locate_peak(np.full((50, 12), height), np.full(12, height))
        assert (peak.place.low, peak.place.high) == (0, 1)
        assert peak.share == pytest.approx(1 / 12)


def test_ties_are_shared_and_the_estimate_breaks_them():
    draws = np.tile([0.0, 0.1 + 0.2, 0.3, 0.0], (40, 1))  # equal but for rounding
    for top in (1, 2):
        peak = locate_peak(draws, np.eye(4)[top])
        assert peak.block == top and peak.share == pytest.approx(0.5)
        assert (peak.place.low, peak.place.high) == pytest.approx((1 / 3, 2 / 3))


def test_an_undefined_block_is_no_peak():
    draws = np.tile([np.nan, 1.0, 2.0, -1.0], (30, 1))
    peak = locate_peak(draws, draws[0])
    assert peak.block == 2 and peak.share == 1


# ------------------------------------------------------------------------------------- LMG shares


def _r_squared(y: Floats, *xs: Floats) -> float:
    """Returns R² from correlations alone: c' R⁻¹ c."""
    if not xs:
        return 0.0
    among = np.atleast_2d(np.corrcoef(xs))
    with_y = np.array([np.corrcoef(x, y)[0, 1] for x in xs])
    return float(with_y @ np.linalg.solve(among, with_y))


@pytest.mark.parametrize("seed", range(4))
def test_lmg_shares_are_shapley_values_of_r_squared(seed):
    rng = np.random.default_rng(seed)
    a, own, noise = rng.normal(size=(3, 15))
    b = 0.7 * a + own
    y = a - 0.5 * b + noise
    wanted = np.zeros(2)
    for order in permutations((0, 1)):
        entered: list[Floats] = []
        for i in order:
            before = _r_squared(y, *entered)
            entered.append((a, b)[i])
            wanted[i] += (_r_squared(y, *entered) - before) / 2
    found = lmg_shares(y, [a, b])
    assert found == pytest.approx(wanted, abs=1e-10)
    assert found.sum() == pytest.approx(_r_squared(y, a, b), abs=1e-10)


def test_uncorrelated_predictors_share_by_their_squared_correlations():
    a, b = np.array([1.0, 1, -1, -1]), np.array([1.0, -1, 1, -1])
    y = 2 * a + b
    assert lmg_shares(y, [a, b]) == pytest.approx([0.8, 0.2])
    assert lmg_shares(y, [a, a + 1e-6 * b])[0] == pytest.approx(0.5, abs=0.4)


def test_a_predictor_given_twice_shares_with_itself():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 20))
    first, second = lmg_shares(a + noise, [a, a])
    assert first == pytest.approx(second)
    assert first + second == pytest.approx(_r_squared(a + noise, a))


def test_a_response_that_does_not_vary_has_no_shares():
    assert np.isnan(lmg_shares(np.ones(6), [np.arange(6.0), np.arange(6.0) ** 2])).all()


# -- without a block, and equivalence -------------------------------------------------------------


def test_without_a_block_is_the_correlation_of_the_others_at_their_own_depths():
    x, y = next(pairs("ar", 14, slope=0.5, times=1, seed=8))
    found = correlate_profiles(x, y)
    assert list(found.without) == [*(f"without block {i}" for i in range(14)), "without both ends"]
    for name, gone in (
        ("without block 0", [0]), ("without block 6", [6]), ("without both ends", [0, 13]),
    ):  # fmt: skip
        kept = np.delete(np.arange(14), gone)
        design = np.vander(depths(14)[kept], 3)
        projection = np.eye(len(kept)) - design @ np.linalg.pinv(design)
        want = np.corrcoef(projection @ x[kept], projection @ y[kept])[0, 1]
        assert found.without[name].value == pytest.approx(want)
        assert found.without[name].n == 14 - len(gone)


def test_a_correlation_that_one_block_makes_is_gone_without_it():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 24))
    x[0] = y[0] = 12.0
    found = correlate_profiles(x, y)
    assert found.estimate.value > 0.6
    assert abs(found.without["without block 0"].value) < 0.45
    assert found.without["without block 7"].value > 0.6


def test_a_correlation_of_everything_with_itself_is_there_without_any_block():
    x = np.random.default_rng(0).normal(size=9)
    found = correlate_profiles(x, 3 * x)
    assert [e.value for e in found.without.values()] == pytest.approx([1.0] * 10)


def test_what_leaves_nothing_without_a_block_says_so():
    x, y = np.random.default_rng(0).normal(size=(2, 4))
    assert all(e.value is None and e.reason for e in correlate_profiles(x, y).without.values())
    undefined = np.where(np.arange(12) == 3, np.nan, np.arange(12.0) ** 3)
    assert correlate_profiles(undefined, undefined).without == {}


def test_equivalence_is_even_odds_at_the_sesoi_and_falls_below_it():
    x, y = next(pairs("iid", 24, slope=0.5, times=1, seed=2))
    found = correlate_profiles(x, y)
    assert found.p_equivalence(found.estimate.value) == pytest.approx(0.5)
    ps = [found.p_equivalence(s) for s in (0.05, 0.3, 0.6, 0.9, 0.99)]
    assert ps == sorted(ps, reverse=True) and len(set(ps)) == 5
    part = found.part("r", 0.9)
    assert part.p_equivalence == found.p_equivalence(0.9)
    assert dict(part.without) == dict(found.without)
    # The interval's upper end is the SESOI that a normal tail of 2.5 % rejects; a t's is wider.
    at_the_end = found.p_equivalence(found.estimate.high)
    assert 0.025 < at_the_end < 0.05


def test_what_has_no_correlation_has_no_equivalence():
    trend = np.arange(12.0) ** 2
    assert correlate_profiles(trend, trend).p_equivalence(0.5) is None


@pytest.mark.parametrize("kind", ["iid", "ar"])
@pytest.mark.parametrize("n_blocks", [12, 24])
def test_an_effect_of_the_sesoi_is_seldom_rejected(kind, n_blocks):
    ps = [
        correlate_profiles(x, y).p_equivalence(0.5)
        for x, y in pairs(kind, n_blocks, slope=0.5, times=400, seed=31)
    ]
    rejected = np.mean([p is not None and p < 0.05 for p in ps])
    assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(ps))
    assert rejected > 0.002  # it can reject at all


# -- peaks without a block ------------------------------------------------------------------------


def test_a_peak_without_its_block_is_the_next_one_at_its_own_depth():
    point = np.array([9.0, 0.0, 1.0, 7.0, 2.0])
    peak = locate_peak(np.tile(point, (20, 1)), point)
    assert peak.block == 0
    assert peak.without["without block 0"].value == 0.75
    assert {
        e.value for name, e in peak.without.items() if "block 0" not in name and "ends" not in name
    } == {0.0}


def test_how_probable_a_peak_inside_is_is_the_share_of_draws_that_do():
    point = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    inside = np.array([0.0, 0.0, 0.0, 1.0, 0.0])
    draws = np.vstack([np.tile(point, (90, 1)), np.tile(inside, (10, 1))])
    peak = locate_peak(draws, point)
    assert peak.p_inside((0.65, 0.85)) == pytest.approx(11 / 101)
    assert peak.p_inside((0.0, 0.1)) == pytest.approx(91 / 101)
    assert Peak(peak.place, 0, 0.9).p_inside((0.65, 0.85)) is None
