"""Synergy: damage that adds up is never called so, and planted synergy is found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus
from mask_games import damage_of, origin_shares, scattered
from scipy import stats

from bitgap.experiments import synergy
from bitgap.experiments.protocol.scores import unpack_scores
from bitgap.experiments.synergy.factorial import additive_null, shows_origin_pattern
from bitgap.experiments.synergy.pair_interaction import PairInteraction
from bitgap.experiments.synergy.plans import (
    asked,
    cell_masks,
    design_of,
    far_masks,
    plans,
    sampled_pairs,
)
from bitgap.records import Floats, Observations
from bitgap.stats.interactions import pair_design
from harness import (
    CHANCE,
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    assert_pure,
    control,
    covers,
    kept_scores,
    labels,
)

# Of 21 pairs one is within the top 5 %.
BLOCKS, LANGUAGES, SENTENCES, PLANTINGS = 7, 3, 16, 10
LAST = BLOCKS - 1
ENDS = (0, LAST)


def synergy_of(share: float, shares: Floats) -> Floats:
    """What goes with both ends only, a share of what the last is worth, all in the last language.

    Protecting the last block alone saves its own damage; what is joint goes with both.
    """
    worth = shares[-1].mean()
    return np.array([*np.zeros(LANGUAGES - 1), share * worth * LANGUAGES])


def observe(
    seed: int = 0,
    *,
    together: float = 0.5,
    beside: dict[tuple[int, ...], float] | None = None,
    shares: Floats | None = None,
    untrained: float = 0.0,
    found: int = PLANTINGS,
    times: float = 2.0,
    own_spread: float = 0.01,
    sentences: int = SENTENCES,
    complete: bool = True,
    masks: Sequence[int] | None = None,
    **text: Any,
) -> Observations:
    """Observations in which the ends save ``together`` of the last's worth beyond the sum."""
    rng = np.random.default_rng(seed)
    if shares is None:
        shares = np.linspace(1, 2, BLOCKS)[:, None] * [0.04, 0.05, 0.06]
    joint = {ENDS: synergy_of(together, shares)}
    joint |= {pair: synergy_of(share, shares) for pair, share in (beside or {}).items()}

    def kl(masks: Sequence[int], planted: dict[tuple[int, ...], Floats]) -> Floats:
        totals = damage_of(masks, shares, planted)
        return scattered(rng, totals, sentences, own_spread=own_spread)

    if masks is None:
        masks = range(2**BLOCKS) if complete else pair_design(BLOCKS)
    ends = [*cell_masks(BLOCKS), *far_masks(BLOCKS)]
    extra = [mask for mask in ends if mask not in masks]
    every, whole = [*masks, *extra], kl([*masks, *extra], joint)
    parts = {"map": whole[: len(masks)]}
    for name, four in (("cells", ends[:4]), ("far", ends[4:])):
        parts[name] = whole[[every.index(mask) for mask in four]]
    arrays, facts = kept_scores(parts, **text)
    p3 = [{ENDS: synergy_of(times * 0.1 if i < found else 0.0, shares)} for i in range(PLANTINGS)]
    return Observations(
        experiment=synergy.ID,
        version=2,
        arrays={
            **arrays,
            "masks": np.array(masks),
            "random_kl": kl(ends, {ENDS: synergy_of(untrained, shares)}),
            "cancelling_kl": np.array([kl(ends, planted) for planted in p3]),
        },
        facts={**facts, "scheme": "rtn4-g128", "n_blocks": BLOCKS, "complete": complete},
    )


def additive(seed: int = 0, **options: Any) -> Observations:
    """Damage that adds up, with the origin's pattern in its ratio."""
    shares = origin_shares(BLOCKS, LANGUAGES)
    return observe(seed, together=0.0, shares=shares, **options)


# -- the origin's central error -------------------------------------------------------------------


def test_damage_that_adds_up_shows_the_origins_synergy_and_ours_refutes_it():
    seeds = range(20)
    shown = 0
    for seed in seeds:
        finding = synergy.EXPERIMENT.judge(additive(seed), QUICK)
        none, first, last, both = (e.value for e in finding.original_measure.values())
        assert none and first and last and both
        # "L_last alone is harmful, together they are best."
        shown += last > none and both < min(first, last)
        assert finding.verdict.label == "refuted"
        assert "ratio artefact" in finding.sentence
    assert shown == len(seeds)


def test_the_story_is_told_in_the_origins_words_and_in_ours():
    rows = synergy.EXPERIMENT.judge(additive(), QUICK).tables["cells"]
    assert [row["in_the_origins_words"] for row in rows] == [
        "the baseline",
        "L0 alone is helpful",
        f"L{LAST} alone is harmful",
        "together synergistic",
    ]
    assert all("K " in row["in_ours"] for row in rows)
    for row in rows:
        assert row["additive_disparity"] == pytest.approx(row["disparity"], abs=0.02)
        assert row["additive_spread"] == pytest.approx(row["spread"], abs=0.02)
        assert row["additive_damage"] == pytest.approx(row["damage"], rel=0.02)


@pytest.mark.parametrize("sentences", [4, 8, 16])
def test_damage_that_adds_up_is_supported_no_oftener_than_alpha(sentences):
    # So noisy that intervals reach past the smallest effect of interest.
    assert_null(
        synergy.EXPERIMENT.judge,
        lambda s: additive(s, own_spread=0.6, sentences=sentences),
        seeds=range(60),
        thresholds=replace(QUICK, draws=200),
    )


def test_damage_that_adds_up_is_supported_no_oftener_than_alpha_from_both_ends():
    assert_null(
        synergy.EXPERIMENT.judge,
        lambda s: additive(s, own_spread=0.6, complete=False),
        seeds=range(60),
        thresholds=replace(QUICK, draws=200),
    )


def test_the_additive_null_knows_what_adds_up_and_what_does_not():
    def null(observations: Observations) -> Any:
        scores = unpack_scores(observations, "map")
        counts = np.ones(LANGUAGES, dtype=bool)
        return additive_null(scores, observations.arrays["masks"], BLOCKS, counts, level=0.95)

    exact = null(additive(own_spread=1e-5))
    assert exact.departure == pytest.approx(np.zeros((2, 4)), abs=1e-3)
    assert exact.log_r2 == pytest.approx(np.ones(LANGUAGES), abs=1e-6)
    assert exact.disparity_r2 == pytest.approx(1, abs=1e-6)
    assert exact.spread_r2 == pytest.approx(1, abs=1e-6)
    assert shows_origin_pattern(exact.ratio)
    held = [null(additive(seed)).reproduces for seed in range(40)]
    assert stats.binom.cdf(sum(held), len(held), 0.95) > CHANCE
    assert not any(null(observe(seed)).reproduces for seed in range(5))


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_planted_synergy():
    assert_planted(synergy.EXPERIMENT.judge, observe, seeds=range(20))


def test_judge_finds_planted_synergy_from_both_ends():
    assert_planted(
        synergy.EXPERIMENT.judge,
        lambda s: observe(s, complete=False, own_spread=0.002),
        seeds=range(10),
    )


@pytest.mark.parametrize("together", [0.0, -0.2])
def test_judge_refutes_what_is_absent_or_opposite(together):
    assert_planted(
        synergy.EXPERIMENT.judge,
        lambda s: observe(s, together=together),
        seeds=range(10),
        label="refuted",
    )


def test_an_effect_lost_in_noise_is_inconclusive():
    finding = synergy.EXPERIMENT.judge(observe(together=0.1, own_spread=1.0), QUICK)
    assert finding.verdict.label == "inconclusive"


def test_synergy_below_what_was_declared_to_matter_is_small():
    finding = synergy.EXPERIMENT.judge(observe(together=0.05, own_spread=1e-4), QUICK)
    assert finding.verdict.label == "small"


def test_judge_refutes_what_is_as_large_as_declared_no_oftener_than_alpha():
    found = labels(
        synergy.EXPERIMENT.judge,
        lambda s: observe(s, together=0.1, own_spread=0.1),
        range(60),
        replace(QUICK, draws=200),
    )
    assert stats.binom.sf(found["refuted"] - 1, 60, QUICK.alpha) > CHANCE


def test_four_sentences_cannot_reach_alpha_and_say_so():
    finding = synergy.EXPERIMENT.judge(observe(sentences=4), QUICK)
    assert finding.verdict.p_minimum == 1 / 16
    assert finding.verdict.label == "inconclusive"
    assert "design cannot reach" in finding.verdict.reason


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 7}, "no positive control was detected"),
        ({"times": 4.0}, "no positive control was detected"),
        ({"untrained": 0.5}, "random-init twin"),
        ({"beside": {(1, LAST): 0.5}}, "pairs one block shorter"),
        ({"beside": {(2, 4): 1.0}}, "ranks 2 of 21"),
    ],
)
def test_each_clause_alone_keeps_support_back(change, clause):
    assert synergy.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    finding = synergy.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_what_must_fail_where_there_is_nothing_speaks_against_no_refutation():
    finding = synergy.EXPERIMENT.judge(observe(together=0.0), QUICK)
    assert finding.verdict.label == "refuted"
    shorter = control(finding, "pairs one block shorter")
    assert shorter.passed is False
    assert shorter.kind == "negative"
    assert "condition for support, which fails where there is nothing" in shorter.detail


def test_cells_that_all_languages_share_alike_leave_adding_up_in_damage():
    # Every language is hit alike: D and S are where adding up puts them, damage is not.
    alike = observe(shares=np.full((BLOCKS, LANGUAGES), 0.05), own_spread=1e-4)
    for part in ("map", "cells", "far"):
        for kind in ("kl", "nll"):
            values = alike.arrays[f"{part}_{kind}"]
            values[:] = values[:, [-1]]
    finding = synergy.EXPERIMENT.judge(alike, QUICK)
    assert finding.verdict.label == "supported"
    both = finding.tables["cells"][3]
    assert abs(both["damage_departure"]) > both["damage_margin"]
    assert abs(both["spread_departure"]) <= both["spread_margin"]


def test_a_sign_that_hangs_on_the_unit_is_not_established():
    made = observe(together=0.0, own_spread=1e-4, complete=False)
    # Language 1 has an interaction of the other sign and few tokens, so that per token it decides.
    for language, share in ((0, 0.3), (1, -0.2)):
        worth = made.arrays["cells_kl"][0, language] - made.arrays["cells_kl"][2, language]
        for part in ("map", "cells"):
            both = {"map": made.arrays["masks"].tolist().index(cell_masks(BLOCKS)[3]), "cells": 3}
            made.arrays[f"{part}_kl"][both[part], language] -= 2 * share * worth
    made.arrays["tokens"][1] = 1
    finding = synergy.EXPERIMENT.judge(made, QUICK)
    assert finding.estimates["banzhaf"].value > 0 > finding.estimates["banzhaf_per_token"].value
    assert "not established" in finding.sentence
    assert finding.verdict.label != "supported"


def test_without_all_pairs_the_rank_is_not_known_and_theta_is():
    few = [0, *(1 << block for block in range(BLOCKS)), *cell_masks(BLOCKS)[3:]]
    made = observe(masks=few, complete=False, own_spread=1e-5)
    finding = synergy.EXPERIMENT.judge(made, QUICK)
    whole = synergy.EXPERIMENT.judge(observe(complete=False, own_spread=1e-5), QUICK)
    assert finding.estimates["banzhaf"].value == pytest.approx(
        whole.estimates["banzhaf"].value, rel=0.01
    )
    assert "rank among 21 pairs is not known" in finding.sentence
    assert finding.verdict.label == "inconclusive"
    assert control(finding, "pairs one block shorter").passed is None
    assert_presentable(synergy.EXPERIMENT, finding)
    # What is absent can be refuted without a rank.
    nothing = synergy.EXPERIMENT.judge(observe(masks=few, complete=False, together=0.0), QUICK)
    assert nothing.verdict.label == "refuted"


def test_a_last_block_that_is_worth_nothing_leaves_the_share_undefined():
    shares = np.linspace(1, 2, BLOCKS)[:, None] * [0.04, 0.05, 0.06]
    shares[-1] = 0.0
    finding = synergy.EXPERIMENT.judge(observe(together=0.0, shares=shares, own_spread=1e-9), QUICK)
    assert finding.estimates["banzhaf"].low is None
    assert finding.verdict.label == "inconclusive"
    assert_presentable(synergy.EXPERIMENT, finding)


def test_documents_are_what_is_resampled():
    made = observe()
    made.arrays["documents"] = np.arange(SENTENCES) // 2
    finding = synergy.EXPERIMENT.judge(made, QUICK)
    assert "8 documents" in finding.estimates["banzhaf"].method
    assert finding.verdict.p_minimum == max(1 / (QUICK.draws + 1), 0.5**8)


def test_the_plant_is_twice_the_declared_smallest_effect():
    declared = QUICK.of("synergy")["sesoi"]
    assert synergy.Params().planted_interaction == QUICK.planted_strength * declared


def test_the_sign_must_hold_on_the_text_itself():
    turned = observe()
    harm = turned.arrays["map_nll"] - turned.arrays["nll_fp"]
    turned.arrays["map_nll"][:] = turned.arrays["nll_fp"] - harm
    finding = synergy.EXPERIMENT.judge(turned, QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "the sign does not hold" in finding.verdict.reason


def test_an_interaction_of_logarithms_alone_is_called_removable():
    same = np.full((BLOCKS, LANGUAGES), 0.05)
    finding = synergy.EXPERIMENT.judge(observe(together=0.0, shares=same), QUICK)
    assert finding.tables["removable"] is True
    assert "removable" in finding.sentence
    # Of damage that adds up the logarithm is above 0 for every pair.
    assert finding.estimates["banzhaf_log"].low > 0


def test_without_the_reference_there_are_no_cells_and_no_support():
    finding = synergy.EXPERIMENT.judge(observe(collapsed=[0]), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert finding.tables["additive"] == []
    assert "banzhaf_gap" not in finding.estimates
    assert_presentable(synergy.EXPERIMENT, finding)


def test_language_labels_move_nothing():
    finding = synergy.EXPERIMENT.judge(observe(), QUICK)
    assert control(finding, "language labels").passed is True
    sampled = synergy.EXPERIMENT.judge(observe(complete=False), QUICK)
    assert control(sampled, "language labels").passed is True


def test_judging_sampled_masks_is_pure_and_its_finding_can_be_shown():
    observations = observe(complete=False)
    assert_pure(synergy.EXPERIMENT.judge, observations)
    assert_presentable(synergy.EXPERIMENT, synergy.EXPERIMENT.judge(observations, QUICK))


# -- the statistic --------------------------------------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
def test_interaction_is_the_planted_share(complete):
    finding = synergy.EXPERIMENT.judge(observe(own_spread=1e-5, complete=complete), QUICK)
    for name in ("banzhaf", "banzhaf_on_text", "banzhaf_per_token", "moebius", "co_moebius"):
        # Languages scatter apart, so the share of the text at hand is near the planted one.
        assert finding.estimates[name].value == pytest.approx(0.5, rel=0.15)
    assert finding.estimates["banzhaf"].value == pytest.approx(
        finding.estimates["moebius"].value, rel=1e-3
    )


def test_pairs_hold_what_was_planted_in_them_and_orders_add_up():
    finding = synergy.EXPERIMENT.judge(observe(beside={(2, 4): 1.0}, own_spread=1e-5), QUICK)
    pairs = {(r["first"], r["second"]): r["interaction"] for r in finding.tables["pairs"]}
    assert max(pairs, key=pairs.__getitem__) in [(2, 4), (4, 2)]
    assert pairs[0, LAST] == pairs[LAST, 0] == pytest.approx(finding.estimates["banzhaf"].value)
    rest = [v for (i, j), v in pairs.items() if {i, j} not in ({2, 4}, {0, LAST})]
    assert np.abs(rest).max() < 5e-3
    orders = finding.tables["variance_by_order"]
    assert sum(row["damage"] for row in orders) == pytest.approx(1)
    assert sum(row["damage"] for row in orders[2:]) < 1e-6


@pytest.mark.parametrize(("complete", "sentences"), [(True, 16), (True, 6), (False, 16)])
def test_intervals_hold_the_planted_share_as_often_as_they_say(complete, sentences):
    share = 0.5

    def held(seed: int) -> bool:
        made = observe(
            seed, together=share, own_spread=0.05, complete=complete, sentences=sentences
        )
        shown = np.ones(LANGUAGES, dtype=bool)
        return covers(PairInteraction.of(made, shown, replace(QUICK, draws=400)).theta, share)

    n = 60
    assert stats.binom.cdf(sum(map(held, range(n))), n, 0.93) > CHANCE


def test_p_is_the_share_of_draws_that_are_not_above_0():
    sure = synergy.EXPERIMENT.judge(observe(), QUICK).verdict
    assert sure.p == sure.p_minimum == 1 / (QUICK.draws + 1)
    assert synergy.EXPERIMENT.judge(observe(together=-0.2), QUICK).verdict.p == 1


# -- measuring ------------------------------------------------------------------------------------

FEW = synergy.Params(map_sentences=3, control_sentences=2, planted_seeds=2)


@pytest.mark.parametrize("changed", [{"complete": True}, {}, {"pairs": False}])
def test_masks_are_scored_once_for_the_map_and_for_this(changed):
    lab, params = make_lab("gpt2", blocks=4, corpus=write_corpus(4)), replace(FEW, **changed)
    part, wanted = lab.on(sentences=range(3)), plans(4, "rtn4-g32", params)["map"]
    part.score(wanted, "map")
    first = synergy.EXPERIMENT.measure(lab, "rtn4-g32", params)
    rows = (lab.ledger.block_rows, lab.ledger.head_rows)
    again = synergy.EXPERIMENT.measure(lab, "rtn4-g32", params)
    # Only P3 is planted anew, in a bank that was forgotten; its scores are known by its digest.
    assert lab.ledger.head_rows == rows[1]
    np.testing.assert_array_equal(first.arrays["map_kl"], again.arrays["map_kl"])
    np.testing.assert_array_equal(first.arrays["map_kl"], part.score(wanted, "map").kl_nats)
    assert_presentable(synergy.EXPERIMENT, synergy.EXPERIMENT.judge(first, QUICK))


def test_a_deep_model_without_pairs_has_the_corners_of_both_ends():
    params = replace(FEW, pairs=False, sampled_pairs=0)
    masks = design_of(24, params).masks
    assert {*cell_masks(24), *far_masks(24)} <= set(masks)
    assert len(masks) < 24 * 3 < len(design_of(24, FEW).masks)
    # A sample of pairs is scored from both ends, and a smaller one begins a larger one.
    some, more = (replace(params, sampled_pairs=n) for n in (5, 20))
    assert sampled_pairs(24, more)[:5] == sampled_pairs(24, some)
    assert (0, 23) not in sampled_pairs(24, replace(params, sampled_pairs=1000))
    assert len(set(design_of(24, some).masks) - set(masks)) <= 10
    asked_for = {plan for request in asked(24, "rtn4-g128", some) for plan in request.plans}
    assert asked_for == set(design_of(24, some).plans("rtn4-g128"))


def test_a_sample_of_pairs_tells_the_place_of_the_ends_with_what_it_leaves_open():
    lab = make_lab("gpt2", blocks=6, corpus=write_corpus(6))
    params = replace(FEW, map_sentences=6, pairs=False, sampled_pairs=4)
    made = synergy.EXPERIMENT.measure(lab, "rtn4-g32", params)
    assert made.arrays["sampled_pairs"].shape == (4, 2)
    finding = synergy.EXPERIMENT.judge(made, QUICK)
    share = finding.estimates["share_of_pairs"]
    assert share.value is not None and share.value * 4 == pytest.approx(round(share.value * 4))
    assert "a random 4 of 14 sets" in share.method
    assert share.low is not None and share.high is not None and share.high - share.low > 0.2
    assert "beside 4 random pairs" in finding.sentence
    assert finding.verdict.label != "supported"  # four pairs do not show the top 5 %
    every = synergy.EXPERIMENT.judge(
        synergy.EXPERIMENT.measure(lab, "rtn4-g32", replace(params, pairs=True)), QUICK
    )
    assert "of 15 pairs" in every.sentence
    assert "random" not in every.estimates["share_of_pairs"].method


def test_planted_cancellation_is_an_interaction_of_the_ends():
    # Of an untrained model, whose last block is worth something at these bits.
    lab = make_lab("opt", blocks=5, corpus=write_corpus(24, ("en", "de", "he")))
    params = replace(FEW, control_sentences=24, planted_seeds=5, complete=False)
    finding = synergy.EXPERIMENT.judge(synergy.EXPERIMENT.measure(lab, "rtn4-g32", params), QUICK)
    assert control(finding, "P3").passed is True
    times = re.search(r"planted at (\S+) smallest", control(finding, "P3").detail)
    assert times is not None
    assert float(times[1]) == pytest.approx(2.0, abs=0.25)


def test_too_few_blocks_are_not_testable():
    lab = make_lab("llama", blocks=2, corpus=write_corpus(4))
    finding = synergy.EXPERIMENT.judge(synergy.EXPERIMENT.measure(lab, "rtn4-g32", FEW), QUICK)
    assert finding.verdict.label == "not testable"
    assert "2 blocks" in finding.verdict.reason
