"""Formulas in closed form, their resampled form, and the gates on arrays."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import bitgap.disparity.formulas as dm
from bitgap.disparity.formulas import Sums
from bitgap.stats.bootstrap import bootstrap_weights
from score_samples import make_scores, random_scores

EVERY_FORMULA = [
    dm.damage_bits,
    dm.delta_bits,
    dm.log_damage,
    dm.log_ratio,
    dm.log_token_premium,
    dm.token_premium,
    dm.tokens_per_character,
    dm.tokens_per_sentence,
    dm.perplexity_increase,
    dm.learned_bits,
    dm.learned_share,
    dm.log_share_ratio,
    dm.fraction_of_bits,
]
EVERY_SUMMARY = [
    dm.disparity,
    dm.premium_disparity,
    dm.gap,
    dm.harm_mean,
    dm.harm_max,
    dm.original_disparity,
    dm.share_disparity,
]


def test_doubling_the_damage_of_one_language_raises_its_log_ratio_by_exactly_one():
    kl = np.full((1, 3, 5), 0.25)
    once = make_scores(kl)
    kl[0, 1] *= 2
    twice = make_scores(kl)
    assert dm.log_ratio(once).tolist() == [[0, 0, 0]]
    assert dm.log_ratio(twice).tolist() == [[0, 1, 0]]
    assert dm.disparity(twice).tolist() == [0.5]


def test_damage_is_bits_over_characters_of_the_reference_alone():
    characters = [[10, 30], [1, 1]]
    scores = make_scores(np.full((1, 2, 2), math.log(2)), tokens=8, characters=characters)
    assert dm.damage_bits(scores) == pytest.approx(np.full((1, 2), 16 / 40), rel=1e-15)


def test_damage_per_unit_uses_each_languages_own_length():
    scores = make_scores(
        np.full((1, 2, 1), math.log(2)),
        tokens=[[4], [6]],
        n_bytes=[[8], [24]],
        characters=[[8], [12]],
    )
    assert dm.damage_bits(scores, "token")[0] == pytest.approx([1, 1])
    assert dm.damage_bits(scores, "byte")[0] == pytest.approx([1 / 2, 1 / 4])
    assert dm.damage_bits(scores, "character")[0] == pytest.approx([1 / 2, 1 / 2])
    assert dm.disparity(scores, per="byte")[0] == pytest.approx(-1)
    assert dm.token_premium(scores)[0] == pytest.approx([1, 1.5])
    assert dm.tokens_per_character(scores)[0] == pytest.approx([1 / 2, 1 / 2])
    assert dm.tokens_per_sentence(scores)[0] == pytest.approx([4, 6])


@pytest.mark.parametrize("weights", [None, bootstrap_weights(30, 50, seed=1)])
def test_log_ratio_is_exactly_kl_per_token_plus_token_premium(weights):
    sums = Sums(random_scores(), weights)
    parts = dm.log_ratio(sums, "token") + dm.log_token_premium(sums)
    assert np.abs(dm.log_ratio(sums) - parts).max() < 1e-12
    whole = dm.disparity(sums, per="token") + dm.premium_disparity(sums)
    assert np.abs(dm.disparity(sums) - whole).max() < 1e-12


def test_gap_and_harm_follow_their_definitions_with_the_reference_in_harm():
    delta = np.array([0.1, 0.4, -0.2])[None, :, None] * np.ones((1, 3, 4))
    scores = make_scores(np.full((1, 3, 4), 0.3), delta, tokens=10, characters=20)
    unit = 10 / 20 / math.log(2)
    assert dm.delta_bits(scores)[0] == pytest.approx(np.array([0.1, 0.4, -0.2]) * unit)
    assert dm.gap(scores)[0] == pytest.approx(((0.4 - 0.1) + (-0.2 - 0.1)) / 2 * unit)
    assert dm.harm_mean(scores)[0] == pytest.approx(0.1 * unit)
    assert dm.harm_max(scores)[0] == pytest.approx(0.4 * unit)


def test_original_measure_is_the_mean_ratio_of_relative_perplexity_increases():
    delta = np.log([1.5, 3.0, 2.0])[None, :, None] * np.ones((1, 3, 4))
    scores = make_scores(np.full((1, 3, 4), 0.3), delta)
    assert dm.perplexity_increase(scores)[0] == pytest.approx([0.5, 2, 1])
    assert dm.original_disparity(scores)[0] == pytest.approx((4 + 2) / 2)


def test_learned_share_sets_damage_against_what_there_was_to_lose():
    kl = np.array([0.2, 0.1])[None, :, None] * np.ones((1, 2, 4))
    scores = make_scores(kl, fp=[[4.0], [6.75]], unigram=7.0)
    assert dm.learned_share(scores)[0] == pytest.approx([0.2 / 3, 0.1 / 0.25])
    # The barely learned language takes half the damage and loses six times the share.
    assert dm.disparity(scores)[0] == pytest.approx(-1)
    assert dm.share_disparity(scores)[0] == pytest.approx(math.log2(6))
    assert dm.fraction_of_bits(scores)[0] == pytest.approx([0.2 / 4, 0.1 / 6.75])


@pytest.mark.parametrize("formula", EVERY_FORMULA + EVERY_SUMMARY)
def test_weights_give_what_selecting_the_sentences_gives(formula):
    scores = random_scores()
    ids = np.random.default_rng(3).integers(0, scores.n_sentences, scores.n_sentences)
    weights = np.bincount(ids, minlength=scores.n_sentences)[None].astype(float)
    resampled = formula(Sums(scores, weights))[0]
    np.testing.assert_allclose(resampled, formula(scores.select(sentences=ids)), rtol=1e-10)


@pytest.mark.parametrize("formula", EVERY_SUMMARY)
def test_language_order_does_not_matter(formula):
    scores = random_scores()
    turned = scores.select(languages=("x2", "x1", "en", "x3"))
    np.testing.assert_allclose(formula(turned), formula(scores), rtol=1e-12)


@pytest.mark.parametrize("formula", EVERY_SUMMARY)
def test_plans_do_not_touch_each_other(formula):
    scores = random_scores(plans=3)
    alone = [formula(scores.select(plans=[plan]))[0] for plan in scores.plans]
    np.testing.assert_allclose(np.broadcast_to(formula(scores), 3), alone, rtol=1e-12)


@pytest.mark.parametrize("formula", EVERY_SUMMARY)
@pytest.mark.parametrize("floors", [None, np.geomspace(1e-9, 10, 7)], ids=["one", "of each plan"])
def test_slicing_over_plans_changes_nothing(formula, floors, monkeypatch):
    scores = replace(random_scores(plans=7), floors_nats=floors)
    weights = bootstrap_weights(scores.n_sentences, 20, seed=0)
    whole = np.broadcast_to(formula(Sums(scores, weights)), (20, 7))
    monkeypatch.setattr(dm, "_SLICE", 2 * 20 * len(scores.languages))
    np.testing.assert_allclose(dm.resample(formula, scores, weights), whole, rtol=1e-12)


def test_a_subset_of_sentences_has_the_disparity_of_its_own_sums():
    scores = random_scores(languages=2)
    sums = scores.kl_nats[0][:, [4, 9]].sum(-1)
    chosen = scores.select(plans=["plan0"], sentences=[4, 9])
    assert dm.disparity(chosen)[0] == pytest.approx(math.log2(sums[1] / sums[0]), rel=1e-13)


GATES = {
    "collapse": (dict(delta=3.0), "collapsed"),
    "floor": (dict(floor_nats=0.2 / 9.99), "below_resolution"),
    "no damage at all": (dict(kl=0.0), "below_resolution"),
    "damage under the floor": (dict(kl=-1e-9), "below_resolution"),
}


@pytest.mark.parametrize("cause", GATES)
def test_each_gate_closes_by_its_own_cause_only(cause):
    change, gate = GATES[cause]
    arguments = {"kl": 0.2, "delta": 0.2, "floor_nats": 1e-6} | change
    arguments["kl"] = np.full((1, 2, 6), arguments["kl"])
    scores = make_scores(**arguments)
    closed = {"collapsed": dm.collapsed(scores), "below_resolution": dm.below_resolution(scores)}
    assert closed.pop(gate).all()
    assert not any(other.any() for other in closed.values())
    assert not dm.usable(scores).any()
    assert np.isnan(dm.disparity(scores)).all()


def test_gates_stay_open_just_short_of_their_cause():
    kl = np.full((1, 2, 6), 0.2)
    assert dm.usable(make_scores(kl, 2.999)).all()
    assert dm.usable(make_scores(kl, floor_nats=0.2 / 10.01)).all()


def test_scores_that_are_not_finite_count_as_collapse():
    for bad in (np.nan, np.inf):
        kl = np.full((1, 3, 6), 0.2)
        kl[0, 1, 2] = bad
        scores = make_scores(kl, 0.2)
        assert dm.collapsed(scores).tolist() == [[False, True, False]]
        assert dm.disparity(scores).tolist() == [0]


def test_left_out_languages_do_not_move_disparity():
    scores = random_scores()
    ruined = scores.nll_nats.copy()
    ruined[:, 1] *= 10
    left = scores.select(languages=("en", "x2", "x3"))
    assert dm.disparity(replace(scores, nll_nats=ruined)) == pytest.approx(dm.disparity(left))


def test_without_another_language_there_is_no_disparity_and_no_gap():
    scores = random_scores().select(languages=["en"])
    assert np.isnan(dm.disparity(scores)).all()
    assert np.isnan(dm.gap(scores)).all()
    assert np.isfinite(dm.harm_mean(scores)).all()


def test_empty_text_is_undefined_without_a_warning():
    scores = make_scores(np.full((1, 2, 3), 0.2), tokens=[[5], [0]], characters=[[0], [9]])
    assert np.isnan(dm.damage_bits(scores)).all()
    assert np.isnan(dm.log_token_premium(scores)[0, 1])
    assert np.isnan(dm.damage_bits(scores, "token")[0, 1])


# ---------------------------------------------------------------- additive damage, the null of A2


def additive_scores(per_block):
    """Returns scores of all masks of L blocks whose damages add; per_block is (A x L)."""
    per_block = np.asarray(per_block, dtype=float)
    n_blocks = per_block.shape[1]
    masks = list(itertools.product([1, 0], repeat=n_blocks))  # 1 is quantized
    kl = np.array([per_block @ mask for mask in masks])
    return dict(zip(masks, range(len(masks)), strict=True)), make_scores(kl[..., None])


def test_additive_damage_alone_makes_one_layer_harmful_and_the_pair_helpful():
    # en and x1: block 0 is as in the origin's story the biased one, the last is biased less.
    where, scores = additive_scores([[0.10, 0.02, 0.10], [0.90, 0.03, 0.30]])
    damage, d = dm.damage_bits(scores), dm.disparity(scores)
    none, first, last, both = (where[mask] for mask in [(1, 1, 1), (0, 1, 1), (1, 1, 0), (0, 1, 0)])
    assert d[last] > d[none]  # protecting the last block "harms"
    assert d[both] < d[first] < d[none]  # and yet "adds to" protecting the first
    interaction = damage[none] - damage[first] - damage[last] + damage[both]
    assert interaction == pytest.approx([0, 0], abs=1e-12)  # with no synergy whatever
    seed = dm.original_disparity(scores)
    assert seed[last] > seed[none]
    assert seed[both] < seed[first]


def test_additive_damage_has_a_negative_interaction_of_logs_in_every_pair():
    rng = np.random.default_rng(0)
    layers = 6
    where, scores = additive_scores(rng.gamma(2, 0.01, (2, layers)))
    logs = dm.log_damage(scores)
    for i, j in itertools.combinations(range(layers), 2):
        spared = [tuple(int(k not in s) for k in range(layers)) for s in [(), (i,), (j,), (i, j)]]
        none, one, other, both = (logs[where[mask]] for mask in spared)
        assert (none - one - other + both < 0).all()
