"""T-002: closed forms of error and sensitivity, planted links, a judge that can say all four."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import make_lab, write_corpus
from scipy import stats
from tiny_models import shared

from bitgap.disparity.formulas import damage_bits
from bitgap.errors import UsageError
from bitgap.experiments import t002_quantization_robustness as t002
from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.error_budget import block_damage, error_share, sensitivity
from bitgap.experiments.protocol.scores import unpack_scores
from bitgap.experiments.t002_quantization_robustness.controls import controls
from bitgap.experiments.t002_quantization_robustness.twins import redrawn
from bitgap.lab.weight_errors import crest_factors, relative_errors
from bitgap.models.decoder import Decoder
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance, rescale_norms
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import largest_level
from bitgap.records import Floats, Observations
from harness import (
    CHANCE,
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    kept_scores,
    over_sentences,
)

BLOCKS, LANGUAGES, SENTENCES, PLANTINGS = 24, 3, 16, 20
SIZES, DRAWS = (0.02, 0.05, 0.1), 2
UNIFORM = replace(t002.Params(), noise_seeds=1, planted_seeds=5, control_sentences=3)


# -- observations whose truth is known ------------------------------------------------------------


def mixed(rng: np.random.Generator, base: Floats, link: float) -> Floats:
    """Noise of unit spread that correlates with ``base`` by about ``link``."""
    noise = rng.normal(size=len(base))
    return link * base + np.sqrt(1 - link**2) * noise


def observe(
    seed: int = 0,
    *,
    variance_link: float = 0.95,
    error_spread: float = 1.0,
    alpha_spread: float = 0.2,
    alpha_of_error: float = 0.0,
    found: int = PLANTINGS,
    regauged: float = 1.0,
    **text: Any,
) -> Observations:
    """Observations in which variance and error, and error and damage, are linked as told.

    log k = log α + log t², and log α = alpha_of_error · log t² + noise of spread alpha_spread.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(size=BLOCKS)
    log_variance = mixed(rng, z, variance_link)
    log_t2 = -3 - error_spread * z
    # Rounding in groups equalises error, as it does in models.
    grouped = -5 + 0.02 * rng.normal(size=BLOCKS)
    log_alpha = alpha_of_error * (log_t2 + 3) + alpha_spread * rng.normal(size=BLOCKS) + 2
    k, t = np.exp(log_alpha + log_t2), np.array(SIZES)
    noise = np.repeat(np.exp(log_alpha)[:, None] * t**2, DRAWS, axis=1).ravel()
    arrays, facts = kept_scores(
        {
            "tensor": over_sentences(rng, k, LANGUAGES, SENTENCES),
            "tensor_all": over_sentences(rng, k.sum(keepdims=True), LANGUAGES, SENTENCES),
            "single": over_sentences(rng, np.exp(log_alpha + grouped), LANGUAGES, SENTENCES),
            "protect": over_sentences(rng, np.append(k.sum(), k.sum() - k), LANGUAGES, SENTENCES),
            "noise": over_sentences(rng, noise, LANGUAGES, SENTENCES),
        },
        **text,
    )
    q2 = largest_level(4) ** 2
    weights = {
        "t2": np.exp(grouped),
        "tensor_t2": np.exp(log_t2),
        "re_tensor": np.exp(log_t2) * 2,
        "re_channel": np.exp(log_t2) * 1.1,
        "re_clipped": np.exp(log_t2) * 0.7,
        "crest": np.exp(log_t2) * 12 * q2,
        "kurtosis": np.zeros(BLOCKS),
        "log_variance_raw": log_variance,
        "log_variance_fixed": log_variance,
    }
    return Observations(
        experiment=t002.ID,
        version=3,
        arrays={**arrays, **weights, **twins(rng, k, weights, found, regauged)},
        facts={
            **facts,
            "scheme": "rtn4-g128",
            "n_blocks": BLOCKS,
            "params": {"noise": list(SIZES), "noise_seeds": DRAWS},
        },
    )


def twins(
    rng: np.random.Generator, k: Floats, weights: dict[str, Floats], found: int, regauged: float
) -> dict[str, Any]:
    """Controls as they come out where all is well, but for P1 and the gauge as told."""
    plain = over_sentences(rng, np.append(k, k.sum()), LANGUAGES, SENTENCES)
    blocks = rng.integers(BLOCKS, size=PLANTINGS)
    # Found or not, most are far from the largest damage of all blocks.
    height = np.where(np.arange(PLANTINGS) < found, 1.5, 1.0)
    noise = np.exp(0.05 * rng.normal(size=(PLANTINGS, LANGUAGES, SENTENCES)))
    flat = {"t2": np.exp(0.01 * rng.normal(size=BLOCKS) - 3)}
    return {
        "plain_kl": plain,
        "regauged_kl": plain[-1:] * regauged,
        "regauged_t2": weights["tensor_t2"],
        "regauged_log_variance_raw": weights["log_variance_raw"] + 1,
        "shuffled_kl": plain[-1:] * 3,
        "shuffled_t2": weights["tensor_t2"],
        "gaussian_t2": flat["t2"],
        "gaussian_log_variance_fixed": weights["log_variance_fixed"],
        "random_t2": flat["t2"],
        "random_log_variance_fixed": rng.normal(size=BLOCKS),
        "random_kl": over_sentences(rng, np.full(BLOCKS + 1, 0.1), LANGUAGES, SENTENCES),
        "fragile_kl": height[:, None, None] * plain[blocks] * noise,
        "fragile_plain": plain[:-1],
        "fragile_block": blocks,
    }


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_planted_links():
    assert_planted(t002.EXPERIMENT.judge, observe, seeds=range(20))


def test_judge_refutes_where_high_variance_means_large_error():
    assert_planted(
        t002.EXPERIMENT.judge,
        lambda s: observe(s, variance_link=-0.8),
        seeds=range(20),
        label="refuted",
    )


def test_judge_supports_no_link_of_variance_oftener_than_alpha():
    # The other part of the intersection is true, which is the null's hardest case.
    assert_null(t002.EXPERIMENT.judge, lambda s: observe(s, variance_link=0.0), seeds=range(100))


def test_judge_supports_no_link_of_damage_oftener_than_alpha():
    # Error is as spread as sensitivity and against it, so it has all but nothing of damage.
    def make(seed: int) -> Observations:
        made = observe(seed, error_spread=1.0, alpha_spread=1.0, alpha_of_error=-1.0)
        assert t002.EXPERIMENT.judge(made, QUICK).verdict.label != "not testable"
        return made

    assert_null(t002.EXPERIMENT.judge, make, seeds=range(100))


@pytest.mark.parametrize(("spread", "testable"), [(0.02, False), (0.05, False), (0.3, True)])
def test_equal_errors_are_nothing_to_explain(spread, testable):
    # log k has a standard deviation of about 1; the least spread of error is a tenth of it.
    finding = t002.EXPERIMENT.judge(observe(error_spread=spread, alpha_spread=1.0), QUICK)
    assert (finding.verdict.label != "not testable") is testable
    ratio = finding.estimates["error_spread"].value
    assert ratio == pytest.approx(
        np.std([row["log_t2"] for row in finding.tables["blocks"]])
        / np.std([row["log_k"] for row in finding.tables["blocks"]])
    )
    assert (ratio >= 0.1) is testable
    if not testable:
        assert "nothing to explain" in finding.verdict.reason
        assert finding.verdict.p is None
        assert_presentable(t002.EXPERIMENT, finding)


def test_what_groups_equalise_is_said_with_its_reason():
    finding = t002.EXPERIMENT.judge(observe(alpha_spread=1.0), QUICK)
    assert "because rounding in groups makes relative error nearly the same" in finding.sentence
    assert finding.estimates["error_spread_of_scheme"].value < 0.1
    unequal = observe(alpha_spread=1.0)
    unequal.arrays["t2"] = unequal.arrays["tensor_t2"]
    assert "in groups" not in t002.EXPERIMENT.judge(unequal, QUICK).sentence


def test_a_fragile_block_is_found_by_its_own_damage_wherever_it_ranks():
    made = observe()
    own = made.arrays["fragile_plain"].sum((1, 2))
    planted = made.arrays["fragile_kl"].sum((1, 2))
    assert (planted < own.max()).mean() > 0.5
    assert control(t002.EXPERIMENT.judge(made, QUICK), "P1").passed is True


def test_fragile_blocks_are_found_where_none_is_no_oftener_than_chance():
    rng, hits = np.random.default_rng(0), 0
    for seed in range(10):
        made = observe(seed, found=0)
        shape = made.arrays["fragile_kl"].shape
        own = made.arrays["fragile_plain"][made.arrays["fragile_block"]]
        made.arrays["fragile_kl"] = own * np.exp(0.3 * rng.normal(size=shape) - 0.045)
        detail = control(t002.EXPERIMENT.judge(made, QUICK), "P1").detail
        hits += int(detail.split(" in ")[1].split()[0])
    # Both ends of a 95 % interval miss alike, so that one above 0 comes up in 2.5 % of plantings.
    assert stats.binom.sf(hits - 1, 10 * PLANTINGS, 0.04) > CHANCE


def test_each_link_is_guarded_by_a_plant_in_its_own_profiles():
    finding = t002.EXPERIMENT.judge(observe(), QUICK)
    planted = [c for c in finding.controls if c.name.startswith("planted in the profiles")]
    assert [c.passed for c in planted] == [True, True]
    assert "log variance" in planted[0].name
    assert "log k" in planted[1].name


def test_a_middling_link_is_inconclusive():
    finding = t002.EXPERIMENT.judge(observe(2, variance_link=0.5), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "neither clearly above 0" in finding.verdict.reason


def test_nothing_is_testable_where_every_language_is_below_resolution():
    faint = t002.EXPERIMENT.judge(observe(floor_nats=1.0), QUICK)
    assert faint.verdict.label == "not testable"
    assert "below resolution" in faint.verdict.reason


def test_a_collapsed_language_is_as_if_it_were_not_there():
    clean, ruined = observe(), observe(collapsed=[2])
    parts = ("tensor", "tensor_all", "single", "noise", "protect")
    for part in parts:
        ruined.arrays[f"{part}_kl"][:, 2] *= 50
    without = t002.EXPERIMENT.judge(ruined, QUICK)
    assert without.verdict.label == "supported"
    alone = observe()
    text = {"nll_fp", "unigram", "tokens", "bytes", "characters"}
    kept = {f"{part}_{kind}" for part in parts for kind in ("kl", "nll")}
    for name in text | kept:
        alone.arrays[name] = alone.arrays[name][..., :2, :]
    alone.facts["languages"] = ["en", "x1"]
    two = t002.EXPERIMENT.judge(alone, QUICK)
    assert two.estimates["error_and_damage"] == without.estimates["error_and_damage"]
    assert two.estimates != t002.EXPERIMENT.judge(clean, QUICK).estimates


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 15}, "no positive control was detected"),
        ({"regauged": 1.01}, "gauge intervention"),
        (
            {"alpha_of_error": 3.0, "alpha_spread": 0.3, "error_spread": 0.3},
            "the share of t² in log k",
        ),
    ],
)
def test_each_clause_alone_keeps_support_back(change, clause):
    assert t002.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    finding = t002.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_a_negative_control_that_shows_the_link_keeps_support_back():
    shown = observe()
    for twin in ("gaussian", "random"):
        shown.arrays[f"{twin}_t2"] = shown.arrays["tensor_t2"]
        shown.arrays[f"{twin}_log_variance_fixed"] = shown.arrays["log_variance_fixed"]
    shown.arrays["random_kl"] = np.append(
        shown.arrays["tensor_kl"], shown.arrays["tensor_kl"][:1], 0
    )
    finding = t002.EXPERIMENT.judge(shown, QUICK)
    assert control(finding, "Gaussian").passed is False
    assert control(finding, "random-init").passed is False
    assert finding.verdict.label == "inconclusive"


def test_halves_are_those_of_damage_with_every_block_rounded():
    made, every = observe(), np.ones(LANGUAGES, dtype=bool)
    wanted = halves(unpack_scores(made, "tensor_all"), 0, every, QUICK)
    assert control(t002.EXPERIMENT.judge(made, QUICK), "A/A") == wanted


def test_only_a_passed_gauge_control_lets_the_sentence_speak_of_cause():
    assert "can predict but never cause" in t002.EXPERIMENT.judge(observe(), QUICK).sentence
    assert "never cause" not in t002.EXPERIMENT.judge(observe(regauged=2.0), QUICK).sentence


# -- the split of damage --------------------------------------------------------------------------


def test_sensitivity_is_the_planted_slope_and_damage_agrees_with_its_one_formula():
    alpha, t = np.array([1.0, 5.0, 25.0]), np.array(SIZES)
    noise = np.repeat((alpha[:, None] * t**2).ravel(), DRAWS)
    kl = np.broadcast_to(noise[:, None, None], (len(noise), 2, 4))
    single = np.broadcast_to(alpha[:, None, None], (3, 2, 4))
    arrays, facts = kept_scores({"noise": kl, "single": single})
    made = Observations(experiment="T-000", version=1, arrays=arrays, facts=facts)
    ones, both = np.ones((1, 4)), np.array([True, True])
    scores = unpack_scores(made, "single")
    k = block_damage(scores, both)(ones)[0]
    np.testing.assert_allclose(k, damage_bits(scores).mean(1), rtol=1e-12)
    a = sensitivity(unpack_scores(made, "noise"), both, SIZES, DRAWS)(ones)[0]
    # α is per unit of t²: damage at t = 1 by extrapolation, here the very damage planted.
    np.testing.assert_allclose(a, k, rtol=1e-12)


@pytest.mark.parametrize(("spread", "share"), [((1.0, 0.0), 1.0), ((0.0, 1.0), 0.0)])
def test_share_of_error_is_all_or_nothing_where_only_one_varies(spread, share):
    rng = np.random.default_rng(0)
    log_t2, log_alpha = (s * rng.normal(size=12) + 1e-9 * rng.normal(size=12) for s in spread)
    k, a = np.exp(log_t2 + log_alpha), np.exp(log_alpha)
    found = error_share(lambda w: w[:, :1] * k, lambda w: w[:, :1] * a, log_t2, 5, QUICK)
    assert found.value == pytest.approx(share, abs=0.2)


def test_independent_parts_of_equal_spread_share_alike():
    rng = np.random.default_rng(1)
    log_t2, log_alpha = rng.normal(size=(2, 4000))
    k, a = np.exp(log_t2 + log_alpha), np.exp(log_alpha)
    found = error_share(
        lambda w: np.ones((len(w), 1)) * k, lambda w: np.ones((len(w), 1)) * a, log_t2, 1, QUICK
    )
    assert found.value == pytest.approx(0.5, abs=4 / np.sqrt(4000))


# -- weights --------------------------------------------------------------------------------------


def redrawn_as(decoder: Decoder, draw: Any) -> Decoder:
    mine = Decoder(copy.deepcopy(decoder.model))
    for i in range(mine.n_blocks):
        for view in mine.block_linears(i).values():
            view.module.weight.data.copy_(draw(view.module.weight.shape))
    return mine


@pytest.mark.parametrize("bits", [4, 6])
def test_uniform_weights_have_the_error_of_their_closed_form(bits):
    generator = torch.Generator().manual_seed(0)
    decoder = redrawn_as(shared("gpt2"), lambda s: torch.rand(s, generator=generator) * 2 - 1)
    q = largest_level(bits)
    # Of some 12,000 weights a block: the mean of e², uniform in ±step/2, errs by 0.9/√n.
    np.testing.assert_allclose(
        relative_errors(decoder, f"rtn{bits}-tensor"), 1 / (4 * q**2), rtol=4 * 1.3 / np.sqrt(12e3)
    )
    np.testing.assert_allclose(crest_factors(decoder, f"rtn{bits}-tensor"), 3, rtol=0.05)


@pytest.mark.parametrize("case", ["gpt2", "llama", "gemma"])
def test_rescaling_by_powers_of_two_moves_variance_and_not_one_bit_of_error(case):
    decoder = shared(case)
    scaled = Decoder(rescale_norms(decoder, [0.5, 0.125, 0.25]))
    for scheme in ("rtn4-g32", "rtn4-tensor"):
        before, after = (relative_errors(d, scheme) for d in (decoder, scaled))
        np.testing.assert_array_equal(after, before)
        np.testing.assert_array_equal(crest_factors(scaled, scheme), crest_factors(decoder, scheme))
    # Pooled over matrices, as the origin did, the error of the same function is another number.
    pooled = [relative_errors(d, "rtn4-tensor", pooled=True) for d in (decoder, scaled)]
    assert np.abs(pooled[0] / pooled[1] - 1).min() > 1e-3
    assert np.abs(raw_log_variance(scaled) - raw_log_variance(decoder)).min() > 0.1
    np.testing.assert_allclose(
        gauge_fixed_log_variance(scaled), gauge_fixed_log_variance(decoder), atol=1e-5
    )


def test_gaussian_redraw_keeps_power_and_follows_the_crest_law():
    decoder = shared("gpt2")
    drawn = redrawn(decoder, seed=0)
    for i in range(decoder.n_blocks):
        for name, view in decoder.block_linears(i).items():
            old, new = view.get(), drawn.block_linears(i)[name].get()
            ratio = float(new.square().mean() / old.square().mean())
            assert ratio == pytest.approx(1, abs=4 * np.sqrt(2 / old.numel()))
            assert not torch.equal(old, new)
    law = crest_factors(drawn, "rtn6-g32") / (12 * largest_level(6) ** 2)
    np.testing.assert_allclose(relative_errors(drawn, "rtn6-g32"), law, rtol=0.05)


def test_only_one_block_is_rounded_even_by_a_scheme_for_all_weights():
    plan = Plan.only("seed4", 3, 1)
    assert plan.blocks == ("fp", "seed4", "fp")
    assert (plan.embedding, plan.head) == ("fp", "fp")


# -- on models ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> Observations:
    lab = make_lab("gpt2", blocks=5, corpus=write_corpus(6, ("en", "de", "he")))
    return t002.EXPERIMENT.measure(lab, "rtn6-g32", UNIFORM)


def test_planted_fragility_is_found_and_the_gauge_moves_nothing(measured):
    checks = controls(measured, QUICK)
    told = {check.name.split(":")[0]: check for check in checks}
    assert told["P1"].passed is True
    assert "5 of 5" in told["P1"].detail
    np.testing.assert_array_equal(
        measured.arrays["regauged_kl"][0], measured.arrays["plain_kl"][-1]
    )
    assert told["gauge intervention"].detail.count("not at all") == 2
    assert told["weights shuffled within matrices"].passed is True


def test_the_parts_of_a_measured_blocks_damage_add_up(measured):
    finding = t002.EXPERIMENT.judge(measured, QUICK)
    # A random model is worse than unigrams in every language, and the judge says so.
    assert finding.verdict.label == "not testable"
    assert_presentable(t002.EXPERIMENT, finding)
    table = finding.tables["blocks"]
    assert len(table) == 5
    for row in table:
        whole = row["log_alpha"] + row["log_t2"] + row["nonlinearity"]
        assert row["log_k"] == pytest.approx(whole, abs=1e-12)


def test_two_blocks_whose_plans_coincide_are_told_apart():
    lab = make_lab("gpt-neo", corpus=write_corpus(3, ("en", "he")))
    found = t002.EXPERIMENT.measure(lab, "rtn4-g32", UNIFORM)
    single, protect = found.arrays["single_kl"], found.arrays["protect_kl"]
    assert len(single) == len(found.arrays["tensor_kl"]) == 2
    assert len(found.arrays["tensor_all_kl"]) == 1
    assert len(protect) == 3
    # Protecting block 0 of two is rounding block 1 alone.
    np.testing.assert_array_equal(single[1], protect[1])
    np.testing.assert_array_equal(single[0], protect[2])
    finding = t002.EXPERIMENT.judge(found, QUICK)
    assert finding.estimates["variance_and_error"].value is None
    assert_presentable(t002.EXPERIMENT, finding)


@pytest.mark.parametrize("scheme", ["noise0.05-s0", "fp"])
def test_a_scheme_without_bits_is_refused_before_anything_is_measured(scheme):
    with pytest.raises(UsageError, match="rtn4-g128"):
        t002.EXPERIMENT.measure(make_lab("gpt2"), scheme, UNIFORM)
