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
from bitgap.experiments.depth.controls import planted
from bitgap.experiments.depth.gains import MarginalGains
from bitgap.experiments.depth.judge import _parts as depth_parts
from bitgap.experiments.depth.judge import guards
from bitgap.experiments.depth.plans import asked_triples, plans, ranked_triples, triples_of
from bitgap.experiments.depth.ranks import estimate_of, share_p, values_of
from bitgap.experiments.protocol.scores import unpack_scores
from bitgap.quant.sets import blocks_in, mask_of
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

BLOCKS, LANGUAGES, SENTENCES = 8, 3, 12
LAST = BLOCKS - 1
TRIPLES = triples_of(BLOCKS)
ORIGIN = original_set(BLOCKS)
MINE = TRIPLES.index(mask_of(ORIGIN))


def planted_shares(worth: float, bias: float, triple: list[int] | None = None) -> Floats:
    """k (L x A) in which a triple's blocks do ``worth`` times another's harm, ``bias`` of it off
    the reference; other blocks hurt all languages alike per token."""
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
    own_spread: float = 0.01,
    sentences: int = SENTENCES,
    scored: bool = True,
    **text: Any,
) -> Observations:
    """Observations in which the origin's triple is the best by damage and by S, or as told."""
    rng = np.random.default_rng(seed)
    shares = planted_shares(worth, bias) if shares is None else shares
    design = make_design(BLOCKS)
    more = {blocks: np.full(LANGUAGES, value) for blocks, value in (joint or {}).items()}
    # Languages scatter alike, or what is left of S would hang on the sentences drawn.
    kl = scattered(
        rng, damage_of(design.masks, shares, more), sentences, spread=0.05, own_spread=own_spread
    )
    kl[-1] = 0.0
    singles = [1 << block for block in range(BLOCKS)]
    parts = {"base": kl[[0, mask_of((0, LAST))]], "singles": kl[singles]}
    if scored:
        parts["triples"] = kl[TRIPLES]
    arrays, facts = kept_scores(parts, **text)
    few = [TRIPLES[MINE], *(t for i, t in enumerate(TRIPLES[::2]) if t != TRIPLES[MINE])]

    def of_few(special: bool) -> Floats:
        like = planted_shares(4.0, 2.0) if special else planted_shares(1.0, 1.0)
        return scattered(rng, damage_of(few, like), sentences, spread=0.05)

    arrays |= {
        "triples": np.array(TRIPLES),
        "ranked": np.ones(len(TRIPLES), dtype=bool),
        "shapley_kl": shapley_values(-kl),
        "shapley_nll": shapley_values(-(arrays["nll_fp"] + kl)),
    }
    if scored:
        arrays["random_kl"] = of_few(untrained)
        arrays["random_tokens"] = np.full((LANGUAGES, sentences), 10)
    return Observations(
        experiment=depth.ID,
        version=2,
        arrays=arrays,
        facts={**facts, "scheme": "rtn4-g128", "n_blocks": BLOCKS, "n_triples": len(TRIPLES)},
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
    # In the second the triple's blocks even languages out, so protecting them leaves more of S.
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
    for what in ("damage", "S"):
        assert control(finding, f"middle block shifted by one, {what}").passed is False


def test_levelling_down_keeps_support_back():
    levelled = observe()
    # Under the triple, and there alone, the reference is worse off than with nothing protected.
    for kind, base in (("kl", 0.0), ("nll", 80.0)):
        hurt = levelled.arrays[f"triples_{kind}"]
        hurt[MINE, 0] = base + (levelled.arrays["base_kl"][0, 0]) * 1.05
    finding = depth.EXPERIMENT.judge(levelled, QUICK)
    assert finding.verdict.label != "supported"
    ok, why = guarded(levelled)
    assert not ok
    assert "damage_reference" in why


def guarded(observations: Observations) -> tuple[bool, str]:
    """Returns what the guards say of the origin's triple."""
    everyone = np.ones(LANGUAGES, dtype=bool)
    parts = depth_parts(observations, everyone, QUICK)
    return guards(observations, MINE, everyone, parts)


def test_a_place_by_s_that_turns_round_per_text_is_not_established():
    shares = planted_shares(4.0, 2.0)
    assert guarded(observe(shares=shares))[0]
    # The others need eight times the tokens: per token the reference loses most, and all the more
    # once the blocks are protected that hurt the others; per text these are what sets them apart.
    odd = observe(shares=shares)
    odd.arrays["tokens"] = odd.arrays["tokens"] * np.array([[1], [8], [8]])
    text, token = (
        values_of(unpack_scores(odd, "triples"), np.ones(LANGUAGES, dtype=bool), o)(
            np.ones((1, SENTENCES))
        )[0]
        for o in ("spread_per_text", "spread")
    )
    assert (token[MINE] < token).mean() < 0.5 < (text[MINE] < text).mean()
    finding = depth.EXPERIMENT.judge(odd, QUICK)
    assert finding.verdict.label != "supported"
    ok, why = guarded(odd)
    assert not ok
    assert "not established: it beats" in why


def test_what_was_not_scored_is_not_testable_and_still_tells_what_blocks_are_worth():
    finding = depth.EXPERIMENT.judge(observe(scored=False), QUICK)
    assert finding.verdict.label == "not testable"
    assert (
        finding.verdict.reason == f"none of the {comb(BLOCKS, 3)} triples was scored to be ranked"
    )
    assert finding.estimates["middle_shapley_damage"].value > 0
    assert "Shapley value" in finding.sentence
    assert_presentable(depth.EXPERIMENT, finding)


def test_without_the_reference_s_is_of_the_others():
    finding = depth.EXPERIMENT.judge(observe(collapsed=[0]), QUICK)
    assert finding.verdict.label != "supported"
    others = np.array([False, True, True])
    values = values_of(unpack_scores(observe(), "triples"), others, "spread")
    share = estimate_of(values, MINE, SENTENCES, QUICK)
    assert finding.estimates["beats_spread"].value == pytest.approx(share.value)
    assert_presentable(depth.EXPERIMENT, finding)


def test_of_one_language_there_is_no_spread_and_no_support():
    finding = depth.EXPERIMENT.judge(observe(collapsed=[0, 1]), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert finding.estimates["beats_spread"].value is None
    assert_presentable(depth.EXPERIMENT, finding)


def test_language_labels_move_no_rank_by_damage():
    for seed in range(5):
        finding = depth.EXPERIMENT.judge(arbitrary(seed), QUICK)
        assert control(finding, "language labels").passed is True


# -- ranks ----------------------------------------------------------------------------------------


def test_p_is_the_share_that_may_be_as_good_and_never_under_one_of_all():
    sure = Estimate(value=1.0, low=1.0, high=1.0, unit="share")
    assert share_p(sure, 220) == (1 / 220, 1 / 220)
    half = Estimate(value=0.9, low=0.5, high=1.0, unit="share")
    assert share_p(half, 221)[0] == pytest.approx(111 / 221)
    assert share_p(Estimate(value=0.9, unit="share", reason="one sentence"), 56) == (1.0, 1 / 56)


def test_values_are_the_formulas_on_plain_sums():
    made, shown = observe(1), np.array([True, True, True])
    kl, tokens = made.arrays["triples_kl"].sum(-1), made.arrays["tokens"].sum(-1)
    once, scores = np.ones((1, SENTENCES)), unpack_scores(made, "triples")
    for objective, logs in (("spread", np.log2(kl / tokens)), ("spread_per_text", np.log2(kl))):
        found = values_of(scores, shown, objective)(once)[0]
        np.testing.assert_allclose(found, logs.std(1), rtol=1e-12)
    characters = made.arrays["characters"][0].sum() * np.log(2)
    found = values_of(scores, shown, "damage")(once)[0]
    np.testing.assert_allclose(found, kl.mean(1) / characters, rtol=1e-12)


def test_a_plant_moves_both_statistics_by_what_was_planted():
    made, everyone = arbitrary(3), np.ones(LANGUAGES, dtype=bool)
    scores, masks = unpack_scores(made, "triples"), np.array(TRIPLES)
    special, once = TRIPLES[20], np.ones((1, SENTENCES))
    plant = planted(scores, masks, special, everyone, 2.0)
    for objective in ("spread", "damage"):
        before, after = (values_of(one, everyone, objective)(once)[0] for one in (scores, plant))
        step = np.median(before) - np.quantile(before, 0.1)
        missing = np.array([3 - len({*blocks_in(t)} & {*blocks_in(special)}) for t in TRIPLES])
        others = masks != special
        wanted = np.where(others, before, np.median(before)) + 2 * missing * step
        np.testing.assert_allclose(after, wanted, rtol=1e-9, atol=1e-12)
    none = planted(scores, masks, special, everyone, 0.0)
    np.testing.assert_allclose(none.kl_nats[others], scores.kl_nats[others], rtol=1e-12)


def test_plants_are_found_and_one_of_no_size_is_not():
    finding = depth.EXPERIMENT.judge(arbitrary(0), QUICK)
    assert control(finding, "three blocks made special").passed is True
    nothing = replace(QUICK, planted_strength=1e-9)
    missed = depth.EXPERIMENT.judge(arbitrary(0), nothing)
    assert control(missed, "three blocks made special").passed is False
    assert missed.verdict.label != "refuted"


def test_places_of_exchangeable_blocks_are_uniform():
    """Where no block is special the triple beats any share of the others alike often."""
    for objective in ("beats_spread", "beats_damage"):
        found = [
            depth.EXPERIMENT.judge(arbitrary(seed), FEW_DRAWS).estimates[objective].value
            for seed in range(60)
        ]
        assert stats.kstest(found, "uniform").pvalue > CHANCE
        # Of .9 and more there should be a tenth; the count would show a bias to the top.
        assert stats.binom.sf(sum(v >= 0.9 for v in found) - 1, 60, 0.11) > CHANCE


FEW_DRAWS = replace(QUICK, draws=20)


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

FEW = depth.Params(map_sentences=3, complete=True, control_sentences=2, control_triples=5)


def test_masks_are_scored_once_for_the_map_and_for_this():
    lab = make_lab("gpt2", blocks=6, corpus=write_corpus(4))
    part, design = lab.spread(3), make_design(6)
    scores = part.score(design.plans("rtn4-g32"), "map")
    whole = replace(FEW, complete=True)
    first = depth.EXPERIMENT.measure(lab, "rtn4-g32", whole)
    heads = lab.ledger.head_rows
    depth.EXPERIMENT.measure(lab, "rtn4-g32", whole)
    assert lab.ledger.head_rows == heads
    masks = first.arrays["triples"]
    assert sorted(masks) == sorted(triples_of(6))
    np.testing.assert_array_equal(first.arrays["triples_kl"], scores.kl_nats[masks])
    np.testing.assert_allclose(first.arrays["shapley_kl"].sum(0), scores.kl_nats[0], atol=1e-9)
    assert_presentable(depth.EXPERIMENT, depth.EXPERIMENT.judge(first, QUICK))


def test_triples_beyond_a_sampled_map_are_scored_where_they_are_few():
    lab = make_lab("gpt2", blocks=7, corpus=write_corpus(3))
    few = replace(FEW, complete=False)
    scored = depth.EXPERIMENT.measure(lab, "rtn4-g32", few)
    assert len(scored.arrays["triples_kl"]) == 35
    left = depth.EXPERIMENT.measure(
        lab, "rtn4-g32", replace(few, most_triples=0, sampled_triples=0)
    )
    assert "triples_kl" not in left.arrays
    assert "none of the 35 triples" in depth.EXPERIMENT.judge(left, QUICK).verdict.reason


def test_where_triples_are_many_a_random_sample_is_ranked_and_the_asked_are_told():
    lab = make_lab("gpt2", blocks=7, corpus=write_corpus(3))
    few = replace(FEW, complete=False, most_triples=20, sampled_triples=12)
    made = depth.EXPERIMENT.measure(lab, "rtn4-g32", few)
    ranked = made.arrays["triples"][made.arrays["ranked"]]
    assert len(ranked) == 13 and mask_of(original_set(7)) in ranked
    assert set(asked_triples(7)) <= set(made.arrays["triples"].tolist())
    finding = depth.EXPERIMENT.judge(made, QUICK)
    assert finding.estimates["beats_spread"].value is not None
    assert "random 12 of 34 sets" in finding.estimates["beats_damage"].method
    assert "added_spread" in finding.tables["blocks"][3]
    assert_presentable(depth.EXPERIMENT, finding)


def test_a_sample_of_triples_is_random_and_never_the_origins_own():
    params = depth.Params(most_triples=0, sampled_triples=50)
    counts = np.zeros(len(triples_of(16)))
    own, where = mask_of(original_set(16)), {t: i for i, t in enumerate(triples_of(16))}
    for seed in range(200):
        drawn = ranked_triples(16, params, seed)
        assert len(drawn) == len(set(drawn)) == 51 and own in drawn
        counts[[where[t] for t in drawn]] += 1
    assert counts[where[own]] == 200
    others = np.delete(counts, where[own])
    # Every other triple has the same chance, 50 of 559.
    assert stats.chisquare(others).pvalue > CHANCE
    parts = plans(16, "rtn4-g32", params)
    assert len(parts["singles"]) == 16


@pytest.mark.parametrize("blocks", [2, 4])
def test_where_the_rule_names_no_three_it_is_not_testable(blocks):
    lab = make_lab("gpt2", blocks=blocks, corpus=write_corpus(4))
    finding = depth.EXPERIMENT.judge(depth.EXPERIMENT.measure(lab, "rtn4-g32", FEW), QUICK)
    assert finding.verdict.label == "not testable"
    assert "names no three" in finding.verdict.reason
    assert_presentable(depth.EXPERIMENT, finding)
