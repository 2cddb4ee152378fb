"""The layer map from hand-made scores: planted damage comes back, sets by brute force, designs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bitgap.disparity.layer_map import (
    DRAWS,
    LayerMap,
    make_map,
    shapley_of_games,
    shapley_rows,
    single_spreads,
    spread_falls,
)
from bitgap.errors import UsageError
from bitgap.quant.sets import blocks_in
from bitgap.records import Estimate, Floats, Scores
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.mask_design import Design, design_of_orders, make_design, original_set
from planted_games import shapley_by_permutations
from score_samples import make_scores

SCHEME = "rtn4-g128"
EXACT: dict[str, Any] = {"rel": 1e-9, "abs": 1e-12}


@dataclass(frozen=True)
class Planted:
    """Scores in which every block does its own damage and damage adds up.

    Attributes:
        scores: Of all the design's masks.
        design: The masks.
        damage: K that each block does to each language, (L x A).
        harm: Δ that each block does to each language, (L x A).
    """

    scores: Scores
    design: Design
    damage: Floats
    harm: Floats

    def left(self, per_layer: Floats) -> Floats:
        """Returns what unprotected blocks sum to under each mask, (masks x A)."""
        return np.array([per_layer[rounded(m, self.design)].sum(0) for m in self.design.masks])

    def disparity(self) -> Floats:
        """Returns D under each mask, NaN where all is protected."""
        logs = self._logs()
        return (logs[:, 1:] - logs[:, :1]).mean(1)

    def spread(self, per: str = "token") -> Floats:
        """Returns S under each mask, NaN where all is protected."""
        tokens = self.scores.counts.tokens.sum(-1) if per == "token" else 1.0
        return (self._logs() - np.log2(tokens)).std(1)

    def _logs(self) -> Floats:
        k = self.left(self.damage)
        with np.errstate(invalid="ignore"):
            return np.log2(np.where(k > 0, k, np.nan))


def expanded(draws: Floats, n: int) -> Floats:
    """Returns the range that 95 % of texts of n sentences ask of their draws (Hesterberg 2015)."""
    freedom = 2 / (9 / (n + 24) + 2 / (n - 1))  # of a variance with the tails that damage has
    wide = stats.t.ppf(0.975, freedom) * math.sqrt(n / (n - 1))
    return np.quantile(draws, [stats.norm.sf(wide), stats.norm.cdf(wide)], axis=0)


def rounded(mask: int, design: Design) -> list[int]:
    return [layer for layer in range(design.n_blocks) if not mask >> layer & 1]


def plant(
    n: int = 5,
    *,
    seed: int = 0,
    n_languages: int = 4,
    n_sentences: int = 9,
    design: Design | None = None,
    damage: Floats | None = None,
    harm: Floats | None = None,
    residue: Floats | float = 0.0,
    **others: Any,
) -> Planted:
    """Returns additive scores; damage and harm are nats a token, (L x A), drawn where None."""
    rng = np.random.default_rng(seed)
    design = design or make_design(n)
    damage = rng.gamma(2, 0.05, (n, n_languages)) if damage is None else damage
    harm = damage * rng.normal(1, 0.4, damage.shape) if harm is None else harm
    per_sentence = (damage.shape[1], n_sentences)
    wobble, tokens = rng.gamma(9, 1 / 9, per_sentence), rng.integers(8, 40, per_sentence)
    characters = rng.integers(40, 120, per_sentence)

    def of_masks(per_layer: Floats) -> Floats:
        sums = [per_layer[rounded(mask, design)].sum(0) for mask in design.masks]
        return np.array(sums)[:, :, None] * wobble

    kl = of_masks(damage)
    kl[design.masks.index(2**n - 1)] += residue
    scores = make_scores(kl, of_masks(harm), tokens=tokens, characters=characters, **others)
    bits = (wobble * tokens).sum(1) / (characters[0].sum() * math.log(2))
    return Planted(scores, design, damage * bits, harm * bits)


def mapped(planted: Planted, **others: Any) -> LayerMap:
    return make_map(planted.scores, SCHEME, planted.design, **others)


def interval(of: Estimate) -> list[float | None]:
    return [of.low, of.high]


def column(found: LayerMap, name: str) -> list[float]:
    return [row.as_dict()[name] for row in found.blocks]


# --------------------------------------------------------------------------- what was planted


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_additive_damage_comes_back_layer_by_layer(n):
    planted = plant(n)
    found = mapped(planted)
    mean = planted.damage.mean(1)
    assert shapley_rows(found, "damage") == pytest.approx(mean, **EXACT)
    assert column(found, "single_damage") == pytest.approx(mean, **EXACT)
    reference = planted.damage[:, 0]
    assert column(found, "single_damage_reference") == pytest.approx(reference, **EXACT)
    assert column(found, "protected_damage") == pytest.approx(mean.sum() - mean, **EXACT)
    assert found.unprotected.damage.value == pytest.approx(mean.sum(), **EXACT)
    assert column(found, "block") == list(range(n))


def test_additive_harm_comes_back_as_gap():
    planted = plant()
    found = mapped(planted)
    gaps = planted.harm[:, 1:].mean(1) - planted.harm[:, 0]
    assert shapley_rows(found, "gap") == pytest.approx(gaps, **EXACT)
    assert column(found, "protected_gap") == pytest.approx(gaps.sum() - gaps, **EXACT)
    assert found.unprotected.gap.value == pytest.approx(gaps.sum(), **EXACT)
    assert (gaps > 0).any() and (gaps < 0).any()


def test_criticality_is_the_disparity_of_each_layer_and_without_it():
    planted = plant()
    found = mapped(planted)
    k, whole = planted.damage, planted.damage.sum(0)
    alone = np.log2(k[:, 1:] / k[:, :1]).mean(1)
    without = np.log2((whole - k)[:, 1:] / (whole - k)[:, :1]).mean(1)
    assert column(found, "single_disparity") == pytest.approx(alone, **EXACT)
    assert column(found, "protected_disparity") == pytest.approx(without, **EXACT)
    assert found.unprotected.disparity.value == pytest.approx(planted.disparity()[0], **EXACT)


@pytest.mark.parametrize("seed", range(3))
def test_shapley_values_of_disparity_are_mean_gains_over_all_orders(seed):
    planted = plant(seed=seed)
    game = -np.abs(planted.disparity())
    assert np.isnan(game[-1])
    game[-1] = 0.0
    found = shapley_of_games(planted.scores, planted.design)["disparity"]
    assert found == pytest.approx(shapley_by_permutations(game), **EXACT)
    assert found.sum() == pytest.approx(abs(planted.disparity()[0]))


@pytest.mark.parametrize("seed", range(3))
def test_falls_of_s_are_what_protecting_a_block_alone_takes_off(seed):
    planted = plant(6, seed=seed)
    found, where = mapped(planted), planted.design.masks.index
    for per, name in (("token", "spread"), ("text", "spread_per_text")):
        s, suffix = planted.spread(per), name.removeprefix("spread")
        kept = np.array([s[where(1 << i)] for i in range(6)])
        alone = [s[where(63 ^ (1 << i))] for i in range(6)]
        falls = [row.as_dict()[f"spread_fall{suffix}"] for row in found.blocks]
        assert falls == pytest.approx(s[0] - kept, **EXACT)
        assert column(found, f"protected_{name}") == pytest.approx(kept, **EXACT)
        assert column(found, f"single_{name}") == pytest.approx(alone, **EXACT)
        assert getattr(found.unprotected, name).value == pytest.approx(s[0], **EXACT)
        falls = spread_falls(planted.scores, planted.design, per=per)
        assert falls == pytest.approx(s[0] - kept, **EXACT)
        assert single_spreads(planted.scores, planted.design, per=per) == pytest.approx(alone)
    assert shapley_rows(found, "spread") == column(found, "spread_fall")


def test_equal_bias_of_all_blocks_leaves_nothing_for_a_block_to_take_off_s():
    even = np.tile(np.random.default_rng(0).gamma(2, 0.05, (5, 1)), 3)
    planted = plant(damage=even)
    relative = planted.damage / planted.damage[:, :1]
    assert np.ptp(relative, axis=0) == pytest.approx(0, abs=1e-12)
    found = mapped(planted)
    # Languages differ by one factor in all blocks, so S and D are the same whatever is protected.
    d, s = found.unprotected.disparity.value, found.unprotected.spread.value
    assert column(found, "protected_disparity") == pytest.approx([d] * 5)
    assert column(found, "protected_spread") == pytest.approx([s] * 5)
    assert column(found, "spread_fall") == pytest.approx([0] * 5, abs=1e-12)


def test_a_fall_that_turns_round_per_text_is_not_established():
    # Twice the tokens in x1, so half the damage a token; block 1 is where it is hurt more.
    tokens, damage = np.array([[10], [40]]), np.array([[0.4, 0.1], [0.1, 0.1]])
    planted = plant(2, damage=damage * 1.0)
    scores = replace(
        planted.scores,
        counts=replace(planted.scores.counts, tokens=np.tile(tokens, (1, 9))),
        kl_nats=np.array([damage[rounded(m, planted.design)].sum(0) for m in range(4)])[:, :, None]
        * tokens
        * np.random.default_rng(0).gamma(50, 1 / 50, (2, 9)),
    )
    row = make_map(scores, SCHEME, planted.design).blocks[0]
    assert row.spread_fall.value > 0 > row.spread_fall_per_text.value
    assert row.fall_established is False and row.as_dict()["spread_fall_established"] is False
    assert mapped(plant()).blocks[0].fall_established is not None


def test_rounding_noise_where_all_is_protected_is_in_no_number_of_s():
    clean = mapped(plant())
    noise = 1e-12 * np.array([[1.0], [900.0], [1.0], [50.0]])
    noisy = mapped(plant(residue=noise))
    for a, b in zip(clean.blocks, noisy.blocks, strict=True):
        assert a.spread_fall == b.spread_fall
        assert a.single == b.single


def test_intervals_are_the_expanded_range_over_sentences_drawn_for_all_languages_alike():
    planted = plant(n=4, n_sentences=40)
    found = mapped(planted, seed=3)
    scores, weights = planted.scores, bootstrap_weights(40, DRAWS, 3)
    length = weights @ scores.counts.characters[0] * math.log(2)
    for layer in range(4):
        only = planted.design.masks.index(15 ^ (1 << layer))
        draws = (weights @ scores.kl_nats[only].T / length[:, None]).mean(1)
        wanted = expanded(draws, 40)
        assert interval(found.blocks[layer].shapley["damage"]) == pytest.approx(wanted, **EXACT)
    for row in found.blocks:
        assert row.spread_fall.low <= row.spread_fall.value <= row.spread_fall.high
        assert row.spread_fall.method.startswith("test-inversion bootstrap over sentences, 2000")


def test_what_one_mask_says_has_the_expanded_range_of_its_own_draws():
    planted = plant(n=3, n_sentences=30)
    found = mapped(planted, seed=5)
    scores, weights = planted.scores, bootstrap_weights(30, DRAWS, 5)
    length = weights @ scores.counts.characters[0] * math.log(2)
    for layer in range(3):
        row = found.blocks[layer].as_dict()
        for how, mask in (("single", 7 ^ (1 << layer)), ("protected", 1 << layer)):
            k = weights @ scores.kl_nats[planted.design.masks.index(mask)].T / length[:, None]
            logs = np.log2(k[:, 1:] / k[:, :1]).mean(1)
            for name, draws in (
                ("damage", k.mean(1)),
                ("damage_reference", k[:, 0]),
                ("disparity", logs),
            ):
                wanted = expanded(draws, 30)
                assert row[f"{how}_{name}_ci"] == pytest.approx(wanted, **EXACT), (how, name)
                assert wanted[0] < row[f"{how}_{name}"] < wanted[1]
    nothing = scores.kl_nats[0]
    draws = (weights @ nothing.T / length[:, None]).mean(1)
    wanted = expanded(draws, 30)
    assert interval(found.unprotected.damage) == pytest.approx(wanted, **EXACT)


# ------------------------------------------------------------------------------ what is left out


def _collapsing(language: int, masks: tuple[int, ...]) -> Planted:
    """Returns scores in which one language is worse than unigrams under some masks."""
    planted = plant()
    nll = planted.scores.nll_nats.copy()
    rows = [planted.design.masks.index(m) for m in masks]
    nll[rows, language] = planted.scores.unigram_nats[language] + 1
    return replace(planted, scores=replace(planted.scores, nll_nats=nll))


def test_a_language_is_left_out_only_where_it_collapses_in_what_is_compared():
    planted = plant()
    others = planted.scores.select(languages=["en", "x1", "x3"])
    wanted = make_map(others, SCHEME, planted.design)
    # Under one block protected: out of what is compared with that, but in where one is rounded.
    found = mapped(_collapsing(2, (0b00100,)))
    assert column(found, "spread_fall") == pytest.approx(column(wanted, "spread_fall"))
    assert found.unprotected.spread.value == pytest.approx(wanted.unprotected.spread.value)
    assert "left out: x2" in found.unprotected.spread.reason
    assert found.languages == ("en", "x1", "x3")
    assert column(found, "single_spread") == column(mapped(planted), "single_spread")
    assert any(c.startswith("x2: collapsed") for c in found.caveats)
    assert not any("collapsed" in c for c in wanted.caveats)
    # Under a pair: in none of these numbers.
    pair = mapped(_collapsing(2, (0b00110,)))
    assert column(pair, "spread_fall") == column(mapped(planted), "spread_fall")


def test_without_the_reference_there_is_s_of_the_others():
    found = mapped(_collapsing(0, (0,)))
    others = replace(plant().scores, reference="x1").select(languages=["x1", "x2", "x3"])
    wanted = make_map(others, SCHEME, plant().design)
    assert column(found, "spread_fall") == pytest.approx(column(wanted, "spread_fall"))
    assert found.unprotected.disparity.value is None
    assert None not in shapley_rows(found, "damage")
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_layer_without_damage_is_below_resolution_alone_and_shares_nothing():
    damage = np.random.default_rng(4).gamma(2, 0.05, (5, 3))
    damage[2] = 0
    found = mapped(plant(damage=damage))
    assert shapley_rows(found, "damage")[2] == pytest.approx(0, abs=1e-12)
    assert found.blocks[2].single.damage.value == 0
    assert found.blocks[2].single.disparity.value is None
    assert found.blocks[2].single.spread.value is None
    assert "fewer than two languages count" in found.blocks[2].single.spread.reason
    # The others are as they are, and protecting it changes nothing.
    assert None not in [row.single.spread.value for i, row in enumerate(found.blocks) if i != 2]
    assert found.blocks[2].spread_fall.value == pytest.approx(0, abs=1e-12)


def test_only_the_reference_leaves_damage_alone():
    found = mapped(plant(n_languages=1))
    assert None not in shapley_rows(found, "damage")
    assert shapley_rows(found, "spread") == shapley_rows(found, "gap") == [None] * 5
    assert any(c.startswith("no S with nothing") for c in found.caveats)


# ---------------------------------------------------------------------------------------- best sets


def _brute_best(
    planted: Planted, size: int
) -> tuple[list[int], list[int] | None, list[int] | None]:
    """Returns the set of least damage, and those of least |D| and S that level nobody down."""
    n, k, h = planted.design.n_blocks, planted.damage, planted.harm
    tokens = planted.scores.counts.tokens.sum(-1)
    best: dict[str, tuple[float, list[int] | None]] = {name: (math.inf, None) for name in "kds"}
    for kept in combinations(range(n), size):
        rest = [layer for layer in range(n) if layer not in kept]
        damage, harm = k[rest].sum(0), h[rest].sum(0)
        if damage.mean() < best["k"][0]:
            best["k"] = damage.mean(), list(kept)
        d = abs(np.log2(damage[1:] / damage[0]).mean())
        everyone = h.sum(0)
        worse = (
            damage[0] > k.sum(0)[0] or harm.mean() > everyone.mean() or harm.max() > everyone.max()
        )
        if not worse and d < best["d"][0]:
            best["d"] = d, list(kept)
        s = np.log2(damage / tokens).std()
        if not worse and s < best["s"][0]:
            best["s"] = s, list(kept)
    assert best["k"][1] is not None
    return best["k"][1], best["d"][1], best["s"][1]


def test_best_sets_of_every_size_are_those_of_an_exhaustive_search():
    guarded = 0
    for seed in range(5):
        planted = plant(6, seed=seed, harm=np.random.default_rng(seed).normal(0.05, 0.1, (6, 4)))
        found = mapped(planted)
        assert [row.size for row in found.best] == [1, 2, 3, 4, 5]
        for row in found.best:
            least, even, closest = _brute_best(planted, row.size)
            assert row.sets == row.of_all == math.comb(6, row.size)
            found_s = row.least_spread
            assert (found_s and list(found_s.blocks)) == closest
            assert list(row.least_damage.blocks) == least
            chosen = row.least_disparity
            assert (chosen and list(chosen.blocks)) == even
            lowest = _least_disparity(planted, row.size)
            guarded += chosen is None or abs(chosen.disparity) > lowest + 1e-12
    assert 0 < guarded < 25  # the guard against levelling down had something to do


def _least_disparity(planted: Planted, size: int) -> float:
    d = planted.disparity()
    return min(abs(d[i]) for i, m in enumerate(planted.design.masks) if m.bit_count() == size)


# Damage and harm of en, x1 and x2 with nothing, block 0, block 1 and both protected, nats a token.
# Protecting block 0 always evens out D, and protecting block 1 always harms nobody.
EVEN = [[0.1, 0.4, 0.4], [0.1, 0.1, 0.1], [0.1, 0.3, 0.4], [0, 0, 0]]
LEVELLED = {
    "nobody": (EVEN, EVEN, [0]),
    "the reference": ([EVEN[0], [0.2, 0.2, 0.2], *EVEN[2:]], EVEN, [1]),
    "the mean": (EVEN, [[0.7, -0.2, -0.2], [0.2, 0.2, 0.2], [0.5, -0.2, -0.2], [0, 0, 0]], [1]),
    "the worst": (EVEN, [[0.4, 0.4, 0.4], [0.1, 0.1, 0.6], [0.4, 0.4, 0.4], [0, 0, 0]], [1]),
    # At 3 nats a token x2 is no better than unigrams, so D speaks of x1 alone.
    "to collapse": (EVEN, [[0.1, 0.4, 4.0], [0.1, 0.1, 3.5], [0.1, 0.3, 0.4], [0, 0, 0]], [1]),
}


@pytest.mark.parametrize("case", LEVELLED)
def test_a_set_that_levels_somebody_down_is_not_the_best(case):
    damage, harm, best = LEVELLED[case]
    kl, delta = (np.repeat(np.array(x)[:, :, None], 3, axis=2) for x in (damage, harm))
    design = make_design(2)
    assert [blocks_in(mask) for mask in design.masks] == [(), (0,), (1,), (0, 1)]
    found = make_map(make_scores(kl, delta), SCHEME, design).best[0]
    assert found.least_disparity is not None
    assert list(found.least_disparity.blocks) == best
    assert found.least_spread is not None
    assert list(found.least_spread.blocks) == best
    assert found.least_damage.blocks == (0,)


# ------------------------------------------------------------------------------------- origin's set


def test_the_origins_set_is_ranked_among_all_of_its_size():
    planted = plant(8, seed=2)
    found = mapped(planted).origin
    assert found.of.blocks == (0, 6, 7)
    assert found.sets == math.comb(8, 3)
    k, d = planted.left(planted.damage).mean(1), np.abs(planted.disparity())
    triples = [i for i, mask in enumerate(planted.design.masks) if mask.bit_count() == 3]
    mine = planted.design.masks.index(0b11000001)
    assert found.rank_damage.value == sorted(k[triples]).index(k[mine]) + 1
    assert found.rank_disparity.value == sorted(d[triples]).index(d[mine]) + 1
    s = planted.spread()
    assert found.rank_spread.value == sorted(s[triples]).index(s[mine]) + 1
    assert found.beats_spread.value == pytest.approx((s[triples] > s[mine]).sum() / 55)
    assert found.of.spread == pytest.approx(s[mine])
    assert found.of.spread_per_text == pytest.approx(planted.spread("text")[mine])
    assert found.of.damage == pytest.approx(k[mine])


def test_the_origins_set_is_first_where_it_is_all_the_damage():
    damage = np.full((8, 3), 0.01)
    damage[[0, 6, 7]] = 0.5
    first = mapped(plant(8, damage=damage)).origin
    # Whatever sentences are drawn, a set that bears fifty times the damage stays first.
    assert first.rank_damage.value == 1 and interval(first.rank_damage) == [1, 1]
    damage[[0, 6, 7]] = 0.001
    last = mapped(plant(8, damage=damage)).origin
    assert last.rank_damage.value == math.comb(8, 3)
    assert interval(last.rank_damage) == [math.comb(8, 3)] * 2


def test_the_rank_of_the_origins_set_is_as_uncertain_as_its_sentences():
    rng = np.random.default_rng(0)
    planted = plant(6, n_sentences=12, damage=np.full((6, 3), 0.1))
    # Blocks of equal damage that only the sentences tell apart.
    kl = planted.scores.kl_nats * rng.gamma(4, 1 / 4, planted.scores.kl_nats.shape)
    scores = replace(planted.scores, kl_nats=kl)
    found = make_map(scores, SCHEME, planted.design, seed=1).origin
    triples = [i for i, mask in enumerate(planted.design.masks) if mask.bit_count() == 3]
    mine = triples.index(planted.design.masks.index(0b110001))
    weights = bootstrap_weights(12, DRAWS, 1)
    k = (kl[triples] @ weights.T).mean(1)
    ranks = 1 + (k < k[mine]).sum(0)
    low, high = expanded(ranks, 12)
    held = [min(low, found.rank_damage.value), max(high, found.rank_damage.value)]
    assert interval(found.rank_damage) == pytest.approx(held)
    assert interval(found.rank_damage)[0] < interval(found.rank_damage)[1]


@pytest.mark.parametrize(("n", "rate"), [(4, 0.85), (6, 0.90), (8, 0.90)])
def test_intervals_of_few_sentences_cover_what_all_texts_would_say(n: int, rate: float) -> None:
    """A language of equal damage in every block, on texts of n sentences: its true K is known."""
    rng, held, narrow, times = np.random.default_rng(n), 0, 0, 150
    planted = plant(2, n_sentences=n)
    characters = planted.scores.counts.characters[0]
    for seed in range(times):
        noise = rng.gamma(4, 1 / 4, planted.scores.kl_nats.shape)
        kl = planted.damage.sum(0)[None, :, None] * characters * noise * math.log(2)
        kl[-1] = 0.0
        scores = replace(planted.scores, kl_nats=kl)
        low, high = interval(mapped(replace(planted, scores=scores), seed=seed).unprotected.damage)
        truth = planted.damage.sum(0).mean()
        held += low <= truth <= high
        weights = bootstrap_weights(n, DRAWS, seed)
        draws = (weights @ kl[0].T / (weights @ characters)[:, None] / math.log(2)).mean(1)
        low, high = np.quantile(draws, [0.025, 0.975])
        narrow += low <= truth <= high
    assert stats.binom.cdf(held, times, rate) > 1e-3
    assert held > narrow


def test_one_sentence_has_no_interval():
    found = mapped(plant(3, n_sentences=1))
    for one in (found.unprotected.damage, found.blocks[0].shapley["damage"]):
        assert one.value is not None and interval(one) == [None, None]
        assert one.reason == "one sentence has no spread"


def test_a_scheme_that_rounds_nothing_has_no_map():
    with pytest.raises(UsageError, match="rounds nothing"):
        make_design(3).plans("fp")


@pytest.mark.parametrize(("n", "layers"), [(1, [0]), (2, [0, 1]), (3, [0, 2]), (4, [0, 3])])
def test_the_origins_set_has_no_layer_that_is_not_there(n, layers):
    found = mapped(plant(n)).origin
    assert list(found.of.blocks) == layers
    assert 1 <= found.rank_damage.value <= found.sets


# ------------------------------------------------------------------------------------------ designs


def test_all_masks_and_the_pair_design_agree_where_both_speak():
    n = 7
    whole, pairs = plant(n), plant(n, design=make_design(n, complete=False, sample=0))
    a, b = mapped(whole), mapped(pairs)
    assert len(pairs.design.masks) < 2**n
    falls = ("spread_fall", "spread_fall_ci", "spread_fall_per_text", "spread_fall_per_text_ci")
    read_off = tuple(f"shapley_{g}{c}" for g in ("damage", "gap") for c in ("", "_ci"))
    for one, other in zip(*([r.as_dict() for r in m.blocks] for m in (a, b)), strict=True):
        assert set(falls) < set(one)
        for name in one:
            if name not in read_off:
                assert one[name] == pytest.approx(other[name], **EXACT), name
    for name, value in a.unprotected.as_dict().items():
        assert value == pytest.approx(b.unprotected.as_dict()[name], **EXACT), name
    best = {row.size: row for row in b.best}
    for row in a.best:
        if row.size in (1, 2, n - 2, n - 1):
            assert row.sets == best[row.size].sets
            assert row.least_damage.blocks == best[row.size].least_damage.blocks
            one, other = (r.least_spread for r in (row, best[row.size]))
            assert one.blocks == other.blocks
            assert one.spread == pytest.approx(other.spread, **EXACT)
        elif row.size in best:
            assert best[row.size].sets < best[row.size].of_all == row.of_all


@pytest.mark.parametrize("n", [7, 9])
def test_shapley_values_from_the_ends_come_near_the_exact_ones(n):
    whole = mapped(plant(n, design=make_design(n, complete=True)))
    ends = mapped(plant(n, design=make_design(n, complete=False)))
    for game in ("damage", "gap"):
        exact, found = (np.array(shapley_rows(m, game)) for m in (whole, ends))
        assert np.corrcoef(exact, found)[0, 1] > 0.98, game


def test_a_partial_map_says_so_and_ranks_no_origin_without_a_random_sample():
    found = mapped(plant(7, design=make_design(7, complete=False, sample=0)))
    assert any(c.startswith(f"{len(found.design.masks)} of the 128 sets") for c in found.caveats)
    said = "Shapley values are of both ends, which is exact where damage is pairwise."
    assert said in found.caveats
    assert found.origin.rank_damage.value is None and found.origin.rank_damage.reason
    assert found.origin.beats_spread.value is None
    assert found.as_dict()["all_masks"] is False
    assert found.as_dict()["original_set"]["of_all"] == 35
    whole = mapped(plant(7)).caveats
    assert said not in whole and not any("sets of blocks" in c for c in whole)


def _with_triples(n: int, n_drawn: int | None, seed: int = 0) -> Design:
    """Returns a partial design with all triples, or some drawn at random and one that was not."""
    triples = [sum(1 << i for i in t) for t in combinations(range(n), 3)]
    origin = sum(1 << i for i in original_set(n))
    others = [t for t in triples if t != origin]
    rng, base = np.random.default_rng(seed), make_design(n, complete=False, sample=0)
    drawn = others if n_drawn is None else rng.choice(others, n_drawn, replace=False).tolist()
    masks = tuple(sorted({*base.masks, origin, triples[0], *drawn}))
    return replace(base, masks=masks, sampled=tuple(sorted(drawn)))


def test_among_a_random_sample_of_triples_the_share_is_estimated_and_covers_the_exact_one():
    n, held, held_s, times = 12, 0, 0, 60
    damage = np.random.default_rng(3).gamma(2, 0.05, (n, 3))
    exact = mapped(plant(n, damage=damage, design=_with_triples(n, None))).origin
    assert exact.sets == 220
    for seed in range(times):
        found = mapped(plant(n, damage=damage, design=_with_triples(n, 60, seed))).origin
        assert (found.sets, found.of_all) == (61, 220)
        assert found.rank_damage.value is None and "at random" in found.rank_damage.reason
        assert "random 60 of 219 sets" in found.beats_damage.method
        held += found.beats_damage.low <= exact.beats_damage.value <= found.beats_damage.high
        held_s += found.beats_spread.low <= exact.beats_spread.value <= found.beats_spread.high
    assert stats.binom.cdf(min(held, held_s), times, 0.93) > 1e-3


def test_a_map_that_an_earlier_version_sampled_keeps_its_orders():
    found = mapped(plant(7, design=design_of_orders(7)))
    assert "Shapley values are sampled from 16 orders of the blocks." in found.caveats


@pytest.mark.parametrize("complete", [True, False])
def test_plans_protect_the_layers_of_their_masks_in_order(complete):
    design = make_design(6, complete=complete)
    for mask, plan in zip(design.masks, design.plans(SCHEME), strict=True):
        assert plan.protected == blocks_in(mask)
        assert rounded(mask, design) == [i for i in range(6) if i not in blocks_in(mask)]


# ------------------------------------------------------------------------------------------- record


def test_the_map_is_json_without_nan_and_says_what_it_rests_on():
    found = mapped(plant(5, n_sentences=40))
    read = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (read["n_blocks"], read["masks"], read["sentences"]) == (5, 32, 40)
    assert read["all_masks"] is True and read["scheme"] == SCHEME
    assert [row["depth"] for row in read["blocks"]] == [0, 0.25, 0.5, 0.75, 1]
    assert read["caveats"] == []
    few = mapped(plant(5, n_sentences=9)).as_dict()["caveats"]
    assert any(c.startswith("9 sentences a language") for c in few)
    assert all(c.endswith(".") for c in few)


def test_a_seed_names_its_intervals_and_moves_no_value():
    planted = plant(4)
    one, again, other = (mapped(planted, seed=s).as_dict() for s in (1, 1, 2))
    assert one == again != other
    for name in ("shapley_damage", "shapley_gap", "spread_fall"):
        assert [r[name] for r in one["blocks"]] == [r[name] for r in other["blocks"]]
