"""Depth: a planted triple is found, an ordinary one is not; what its middle is worth is told."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus
from mask_games import damage_of, scattered
from scipy import stats

from bitgap.experiments import depth
from bitgap.experiments.depth.gains import MarginalGains
from bitgap.experiments.depth.judge import guards
from bitgap.experiments.depth.plans import triples_of
from bitgap.experiments.depth.ranks import log_disparity, rank_share, share_estimate, share_p
from bitgap.experiments.plants.biased import biased_plan, hurt_side, plant_bias
from bitgap.quant.plan import Plan
from bitgap.quant.sets import mask_of
from bitgap.records import Estimate, Floats, Observations
from bitgap.stats.interactions import shapley_values
from bitgap.stats.mask_design import make_design, original_set
from harness import (
    CHANCE,
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    covers,
    kept_scores,
)

BLOCKS, LANGUAGES, SENTENCES, PLANTINGS = 8, 3, 12, 10
LAST = BLOCKS - 1
TRIPLES = triples_of(BLOCKS)
ORIGIN = original_set(BLOCKS)
MINE = TRIPLES.index(mask_of(ORIGIN))


def planted_shares(worth: float, bias: float, triple: list[int] | None = None) -> Floats:
    """k (L x A) in which a triple's blocks do ``worth`` times another's harm, ``bias`` of it off
    the reference."""
    shares = np.full((BLOCKS, LANGUAGES), 0.05)
    shares[list(triple or ORIGIN), 0] *= worth
    shares[list(triple or ORIGIN), 1:] *= worth * bias
    return shares


def observe(
    seed: int = 0,
    *,
    worth: float = 4.0,
    bias: float = 2.0,
    shares: Floats | None = None,
    joint: dict[tuple[int, ...], float] | None = None,
    untrained: bool = False,
    found: int = PLANTINGS,
    own_spread: float = 0.01,
    sentences: int = SENTENCES,
    scored: bool = True,
    **text: Any,
) -> Observations:
    """Observations in which the origin's triple is the best by damage and by |D|, or as told."""
    rng = np.random.default_rng(seed)
    shares = planted_shares(worth, bias) if shares is None else shares
    design = make_design(BLOCKS)
    more = {blocks: np.full(LANGUAGES, value) for blocks, value in (joint or {}).items()}
    # Languages scatter alike, or what is left of D would hang on the sentences drawn.
    kl = scattered(
        rng, damage_of(design.masks, shares, more), sentences, spread=0.05, own_spread=own_spread
    )
    kl[-1] = 0.0
    parts = {"base": kl[[0, mask_of((0, LAST))]]}
    if scored:
        parts["triples"] = kl[TRIPLES]
    arrays, facts = kept_scores(parts, **text)
    few = [TRIPLES[MINE], *(t for i, t in enumerate(TRIPLES[::2]) if t != TRIPLES[MINE])]

    def of_few(planted: bool) -> Floats:
        like = planted_shares(4.0, 2.0) if planted else planted_shares(1.0, 1.0)
        return scattered(rng, damage_of(few, like), sentences, spread=0.05)

    arrays |= {
        "triples": np.array(TRIPLES),
        "shapley_kl": shapley_values(-kl),
        "shapley_nll": shapley_values(-(arrays["nll_fp"] + kl)),
    }
    if scored:
        arrays["random_kl"] = of_few(untrained)
        arrays["biased_kl"] = np.array([of_few(i < found) for i in range(PLANTINGS)])
    return Observations(
        experiment=depth.ID,
        version=1,
        arrays=arrays,
        facts={**facts, "scheme": "rtn4-g128", "n_blocks": BLOCKS, "complete": True},
    )


def arbitrary(seed: int, **options: Any) -> Observations:
    """Blocks' harm and bias have nothing to do with where they are."""
    shares = np.random.default_rng([seed, 1]).gamma(3, 0.02, (BLOCKS, LANGUAGES))
    return observe(seed, shares=shares, **options)


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_the_planted_triple():
    assert_planted(depth.EXPERIMENT.judge, observe, seeds=range(20))


def test_a_triple_like_any_other_is_supported_no_oftener_than_alpha():
    assert_null(depth.EXPERIMENT.judge, arbitrary, seeds=range(60))
    assert_null(
        depth.EXPERIMENT.judge, lambda s: arbitrary(s, sentences=4, own_spread=0.3), seeds=range(60)
    )


@pytest.mark.parametrize("truth", [{"worth": 0.3}, {"worth": 4.0, "bias": 0.3}])
def test_judge_refutes_where_another_triple_is_better_by_one_of_both(truth):
    # In the second the triple's blocks even languages out, so protecting them leaves more |D|.
    if "bias" in truth:
        shares = planted_shares(4.0, 0.3)
        shares[[1, 2, 4]] = [0.05, 0.2, 0.2]
        truth = {"shares": shares}
    assert_planted(
        depth.EXPERIMENT.judge, lambda s: observe(s, **truth), seeds=range(10), label="refuted"
    )


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 7}, "no positive control was detected"),
        ({"untrained": True}, "random-init twin"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    assert depth.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    finding = depth.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_a_twin_that_could_not_fail_was_not_run():
    few = observe()
    few.arrays["random_kl"] = few.arrays["random_kl"][:20]
    finding = depth.EXPERIMENT.judge(few, QUICK)
    assert control(finding, "random-init").passed is None
    assert finding.verdict.label == "inconclusive"
    assert "was not run" in finding.verdict.reason


def test_the_middle_must_beat_its_neighbours():
    shares = planted_shares(4.0, 2.0)
    shares[ORIGIN[1] - 1] = shares[ORIGIN[1]]
    finding = depth.EXPERIMENT.judge(observe(shares=shares), QUICK)
    assert finding.verdict.label == "inconclusive"
    for what in ("damage", "|D|"):
        assert control(finding, f"middle block shifted by one, {what}").passed is False


def test_levelling_down_keeps_support_back():
    levelled = observe()
    # Under the triple, and there alone, the reference is worse off than with nothing protected.
    for kind, base in (("kl", 0.0), ("nll", 80.0)):
        hurt = levelled.arrays[f"triples_{kind}"]
        hurt[MINE, 0] = base + (levelled.arrays["base_kl"][0, 0]) * 1.05
    # |D| is still the least, as the others are near the reference now.
    levelled.arrays["triples_kl"][MINE, 1:] = levelled.arrays["triples_kl"][MINE, [0]]
    finding = depth.EXPERIMENT.judge(levelled, QUICK)
    assert finding.verdict.label != "supported"
    ok, why = guards(levelled, MINE, np.ones(LANGUAGES, dtype=bool))
    assert not ok
    assert "damage_reference" in why


def test_disparity_and_gap_must_move_the_same_way():
    odd = observe()
    gap_up = odd.arrays["triples_nll"]
    gap_up[MINE, 1:] += 20.0
    finding = depth.EXPERIMENT.judge(odd, QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "D and G do not move the same way" in finding.verdict.reason


def test_what_was_not_scored_is_not_testable_and_still_tells_what_blocks_are_worth():
    finding = depth.EXPERIMENT.judge(observe(scored=False), QUICK)
    assert finding.verdict.label == "not testable"
    assert finding.verdict.reason == f"not all of {comb(BLOCKS, 3)} triples were scored"
    assert finding.estimates["middle_shapley_damage"].value > 0
    assert "Shapley value" in finding.sentence
    assert_presentable(depth.EXPERIMENT, finding)


def test_without_the_reference_there_is_no_disparity_and_no_support():
    finding = depth.EXPERIMENT.judge(observe(collapsed=[0]), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert finding.estimates["beats_disparity"].value is None
    assert_presentable(depth.EXPERIMENT, finding)


def test_language_labels_move_no_rank_by_damage():
    for seed in range(5):
        finding = depth.EXPERIMENT.judge(arbitrary(seed), QUICK)
        assert control(finding, "language labels").passed is True


# -- ranks ----------------------------------------------------------------------------------------


def test_share_counts_the_sets_with_larger_values():
    values = np.array([3.0, 1.0, 2.0, 2.0, np.nan])
    for mine, share in enumerate([0.25, 1.0, 0.5, 0.5]):
        found = rank_share(lambda w: np.tile(values, (len(w), 1)), mine)(np.ones((2, 3)))
        assert found.tolist() == [[share], [share]]
    assert np.isnan(rank_share(lambda w: np.tile(values, (len(w), 1)), 4)(np.ones((1, 3))))


def test_p_is_the_share_that_may_be_as_good_and_never_under_one_of_all():
    sure = Estimate(value=1.0, low=1.0, high=1.0, unit="share")
    assert share_p(sure, 220) == (1 / 220, 1 / 220)
    half = Estimate(value=0.9, low=0.5, high=1.0, unit="share")
    assert share_p(half, 221)[0] == pytest.approx(111 / 221)
    assert share_p(Estimate(value=0.9, unit="share", reason="one sentence"), 56) == (1.0, 1 / 56)


def test_a_rank_that_never_moves_has_an_interval_and_one_that_does_holds_the_estimate():
    still = share_estimate(rank_share(lambda w: np.tile([1.0, 2, 3], (len(w), 1)), 0), 4, QUICK)
    assert (still.value, still.low, still.high) == (1, 1, 1)
    kl = np.random.default_rng(0).gamma(1, 1, (40, 9))
    kl[0] = kl.min(0)
    moving = share_estimate(rank_share(lambda w: w @ kl.T, 0), 9, QUICK)
    assert moving.low <= moving.value <= moving.high
    one = share_estimate(rank_share(lambda w: w @ kl[:, :1].T, 0), 1, QUICK)
    assert one.low is None
    assert one.reason


def test_log_disparity_is_the_mean_log_ratio_to_the_reference():
    kl = np.array([[[1.0, 1.0], [4.0, 4.0], [8.0, 8.0]]])
    found = log_disparity(kl, np.array([True, True, True]), 0)(np.ones((1, 2)))
    assert found == pytest.approx(np.array([[2.5]]))
    two = log_disparity(kl, np.array([True, False, True]), 0)(np.ones((1, 2)))
    assert two == pytest.approx(np.array([[3.0]]))
    for shown in ([False, True, True], [True, False, False]):
        assert np.isnan(log_disparity(kl, np.array(shown), 0)(np.ones((1, 2)))).all()


# -- what blocks are worth ------------------------------------------------------------------------


def gains(observations: Observations) -> MarginalGains:
    return MarginalGains.of(observations, np.ones(LANGUAGES, dtype=bool), QUICK)


def test_where_damage_adds_up_a_block_adds_its_shapley_value():
    found = gains(observe(own_spread=1e-6))
    for row in found.rows()[1:-1]:
        assert row["added_damage"] == pytest.approx(row["shapley_damage"], abs=1e-6)
        assert row["added_gap"] == pytest.approx(row["shapley_gap"], abs=1e-6)
    rows = found.rows()
    assert sum(row["shapley_damage"] for row in rows) == pytest.approx(1)
    assert "added_damage" not in rows[0] and "added_damage" not in rows[-1]


def test_a_block_that_needs_company_is_told_from_one_that_does_not():
    middle = ORIGIN[1]
    # Damage that goes only with the ends and the middle together: company.
    company = gains(observe(joint={(0, middle, LAST): 0.3}))
    surplus = company.of_the_middle()["middle_added_less_shapley"]
    assert surplus.low > 0.02
    assert "by their company" in company.text()
    alone = gains(observe(own_spread=0.02))
    assert covers(alone.of_the_middle()["middle_added_less_shapley"], 0)
    assert "cannot be told apart" in alone.text()


def test_gains_are_covered_as_often_as_they_say():
    truth = planted_shares(4.0, 2.0).mean(1) / planted_shares(4.0, 2.0).mean(1).sum()

    def held(seed: int) -> bool:
        found = gains(observe(seed, own_spread=0.1)).of_the_middle()
        return covers(found["middle_added_damage"], truth[ORIGIN[1]])

    n = 60
    assert stats.binom.cdf(sum(map(held, range(n))), n, 0.93) > CHANCE


# -- measuring ------------------------------------------------------------------------------------

FEW = depth.Params(
    map_sentences=3, complete=True, control_sentences=2, planted_seeds=2, control_triples=5
)


def test_masks_are_scored_once_for_the_map_and_for_this():
    lab = make_lab("gpt2", blocks=6, corpus=write_corpus(4))
    part, design = lab.on(sentences=range(3)), make_design(6)
    scores = part.score(design.plans("rtn4-g32"), "map")
    first = depth.EXPERIMENT.measure(lab, "rtn4-g32", FEW)
    heads = lab.ledger.head_rows
    depth.EXPERIMENT.measure(lab, "rtn4-g32", FEW)
    assert lab.ledger.head_rows == heads
    np.testing.assert_array_equal(first.arrays["triples_kl"], scores.kl_nats[triples_of(6)])
    np.testing.assert_allclose(first.arrays["shapley_kl"].sum(0), scores.kl_nats[0], atol=1e-9)
    assert_presentable(depth.EXPERIMENT, depth.EXPERIMENT.judge(first, QUICK))


def test_triples_beyond_a_sampled_map_are_scored_where_they_are_few():
    lab = make_lab("gpt2", blocks=7, corpus=write_corpus(3))
    few = replace(FEW, complete=False, planted_seeds=1)
    scored = depth.EXPERIMENT.measure(lab, "rtn4-g32", few)
    assert len(scored.arrays["triples_kl"]) == 35
    assert "not all" not in depth.EXPERIMENT.judge(scored, QUICK).verdict.reason
    left = depth.EXPERIMENT.measure(lab, "rtn4-g32", replace(few, most_triples=0))
    assert "triples_kl" not in left.arrays
    assert "not all of 35 triples" in depth.EXPERIMENT.judge(left, QUICK).verdict.reason


@pytest.mark.parametrize("blocks", [2, 4])
def test_where_the_rule_names_no_three_it_is_not_testable(blocks):
    lab = make_lab("gpt2", blocks=blocks, corpus=write_corpus(4))
    finding = depth.EXPERIMENT.judge(depth.EXPERIMENT.measure(lab, "rtn4-g32", FEW), QUICK)
    assert finding.verdict.label == "not testable"
    assert "names no three" in finding.verdict.reason
    assert_presentable(depth.EXPERIMENT, finding)


def test_planted_bias_hurts_its_side_and_only_where_it_is_not_protected():
    lab = make_lab("gpt2", blocks=6, corpus=write_corpus(8))
    side = np.array([False, True])
    name = plant_bias(lab, "rtn8-g32", side, strength=0.5, seed=0)
    triple = (1, 2, 4)
    sets = [(), triple, (1, 2), (0, 3, 5)]
    plans = [biased_plan("rtn8-g32", name, 6, triple, s) for s in sets]
    plain = lab.score([Plan.uniform("rtn8-g32", 6, triple)]).kl_nats[0].sum(-1)
    kl = lab.score(plans).kl_nats.sum(-1)
    assert (kl[0] > 3 * plain).all()
    # Protecting the three is plain rounding of the others, to the bit.
    assert kl[1] == pytest.approx(plain)
    ratio = kl[:, 1] / kl[:, 0]
    assert ratio[0] > 2 * ratio[1]
    assert (kl[[2, 3]] > kl[1]).all()


def test_bias_is_planted_on_the_side_that_is_hurt_more():
    codes = ("en", "he", "ar")
    assert hurt_side(0.5, codes, "en").tolist() == [False, True, True]
    assert hurt_side(-0.5, codes, "en").tolist() == [True, False, False]
