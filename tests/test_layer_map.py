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

from bitgap.disparity.layer_map import DRAWS, LayerMap, make_map, shapley_rows
from bitgap.errors import UsageError
from bitgap.quant.sets import blocks_in
from bitgap.records import Estimate, Floats, Scores
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.mask_design import Design, design_of_orders, make_design
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
        k = self.left(self.damage)
        with np.errstate(invalid="ignore"):
            logs = np.log2(np.where(k > 0, k, np.nan))
        return (logs[:, 1:] - logs[:, :1]).mean(1)


def expanded(draws: Floats, n: int) -> Floats:
    """Returns the range that 95 % of texts of n sentences ask of their draws (Hesterberg 2015)."""
    wide = stats.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1))
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
    found = shapley_rows(mapped(planted), "disparity")
    assert found == pytest.approx(shapley_by_permutations(game), **EXACT)
    assert sum(found) == pytest.approx(abs(planted.disparity()[0]))


def test_equal_damage_of_all_languages_leaves_no_disparity_to_share():
    even = np.tile(np.random.default_rng(0).gamma(2, 0.05, (5, 1)), 3)
    planted = plant(damage=even)
    relative = planted.damage / planted.damage[:, :1]
    assert np.ptp(relative, axis=0) == pytest.approx(0, abs=1e-12)
    found = mapped(planted)
    # Languages differ by one factor in all blocks, so D is the same whatever is protected.
    d = found.unprotected.disparity.value
    assert column(found, "protected_disparity") == pytest.approx([d] * 5)
    assert shapley_rows(found, "disparity") == pytest.approx([abs(d) / 5] * 5)


def test_rounding_noise_where_all_is_protected_is_no_disparity():
    clean = mapped(plant())
    noise = 1e-12 * np.array([[1.0], [900.0], [1.0], [50.0]])
    noisy = mapped(plant(residue=noise))
    wanted = shapley_rows(clean, "disparity")
    assert shapley_rows(noisy, "disparity") == pytest.approx(wanted, **EXACT)
    for a, b in zip(clean.blocks, noisy.blocks, strict=True):
        ends = interval(b.shapley["disparity"])
        assert interval(a.shapley["disparity"]) == pytest.approx(ends, **EXACT)


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
    widths = [interval(row.shapley["disparity"]) for row in found.blocks]
    values = shapley_rows(found, "disparity")
    assert all(low <= v <= high for (low, high), v in zip(widths, values, strict=True))


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


def test_a_language_that_collapses_under_one_mask_is_left_out_of_disparity_under_all():
    found = mapped(_collapsing(2, (0b00110,)))
    planted = plant()
    others = planted.scores.select(languages=["en", "x1", "x3"])
    wanted = make_map(others, SCHEME, planted.design)
    assert shapley_rows(found, "disparity") == pytest.approx(shapley_rows(wanted, "disparity"))
    assert any(c.startswith("x2: collapsed") for c in found.caveats)
    assert not any("collapsed" in c for c in wanted.caveats)


def test_without_the_reference_there_are_no_shapley_values_of_disparity():
    found = mapped(_collapsing(0, (0,)))
    assert shapley_rows(found, "disparity") == [None] * 5
    assert column(found, "shapley_disparity_ci") == [[None, None]] * 5
    assert any("no Shapley values of D" in c for c in found.caveats)
    assert None not in shapley_rows(found, "damage")
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_layer_without_damage_is_below_resolution_alone_and_shares_nothing():
    damage = np.random.default_rng(4).gamma(2, 0.05, (5, 3))
    damage[2] = 0
    found = mapped(plant(damage=damage))
    assert shapley_rows(found, "damage")[2] == pytest.approx(0, abs=1e-12)
    assert found.blocks[2].single.damage.value == 0
    assert found.blocks[2].single.disparity.value is None
    # D has no value with only that block rounded, so no language counts under every mask.
    assert shapley_rows(found, "disparity") == [None] * 5


def test_only_the_reference_leaves_damage_alone():
    found = mapped(plant(n_languages=1))
    assert None not in shapley_rows(found, "damage")
    assert shapley_rows(found, "disparity") == shapley_rows(found, "gap") == [None] * 5


# ---------------------------------------------------------------------------------------- best sets


def _brute_best(planted: Planted, size: int) -> tuple[list[int], list[int] | None]:
    """Returns the set of least damage, and that of least |D| that levels nobody down."""
    n, k, h = planted.design.n_blocks, planted.damage, planted.harm
    best: dict[str, tuple[float, list[int] | None]] = {"k": (math.inf, None), "d": (math.inf, None)}
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
    assert best["k"][1] is not None
    return best["k"][1], best["d"][1]


def test_best_sets_of_every_size_are_those_of_an_exhaustive_search():
    guarded = 0
    for seed in range(5):
        planted = plant(6, seed=seed, harm=np.random.default_rng(seed).normal(0.05, 0.1, (6, 4)))
        found = mapped(planted)
        assert [row.size for row in found.best] == [1, 2, 3, 4, 5]
        for row in found.best:
            least, even = _brute_best(planted, row.size)
            assert row.sets == math.comb(6, row.size)
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
    assert interval(found.rank_damage) == pytest.approx(expanded(ranks, 12))
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
    whole, pairs = plant(n), plant(n, design=make_design(n, complete=False))
    a, b = mapped(whole), mapped(pairs)
    assert len(pairs.design.masks) < 2**n
    read_off = tuple(f"shapley_{g}{c}" for g in ("damage", "gap", "disparity") for c in ("", "_ci"))
    for one, other in zip(*([r.as_dict() for r in m.blocks] for m in (a, b)), strict=True):
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
            one, other = (r.least_disparity for r in (row, best[row.size]))
            assert one.blocks == other.blocks
            assert one.disparity == pytest.approx(other.disparity, **EXACT)


@pytest.mark.parametrize("n", [7, 9])
def test_shapley_values_from_the_ends_come_near_the_exact_ones(n):
    whole = mapped(plant(n, design=make_design(n, complete=True)))
    ends = mapped(plant(n, design=make_design(n, complete=False)))
    for game in ("damage", "gap"):
        exact, found = (np.array(shapley_rows(m, game)) for m in (whole, ends))
        assert np.corrcoef(exact, found)[0, 1] > 0.98, game


def test_a_map_of_some_masks_says_so_and_ranks_no_origin():
    found = mapped(plant(7, design=make_design(7, complete=False, sample=0)))
    said = "Shapley values are of both ends, which is exact where damage is pairwise"
    assert said in found.caveats
    assert found.origin.rank_damage.value is None and found.origin.rank_damage.reason
    assert found.as_dict()["all_masks"] is False
    assert said not in mapped(plant(7)).caveats


def test_a_map_that_an_earlier_version_sampled_keeps_its_orders():
    found = mapped(plant(7, design=design_of_orders(7)))
    assert "Shapley values are sampled from 16 orders of the blocks" in found.caveats


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


def test_a_seed_names_its_intervals_and_moves_no_value():
    planted = plant(4)
    one, again, other = (mapped(planted, seed=s).as_dict() for s in (1, 1, 2))
    assert one == again != other
    for name in ("shapley_damage", "shapley_gap", "shapley_disparity"):
        assert [r[name] for r in one["blocks"]] == [r[name] for r in other["blocks"]]
