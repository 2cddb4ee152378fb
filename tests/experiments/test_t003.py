"""T-003: planted links of local errors and benefits, none, and a judge that can say all four."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus
from scipy import linalg, stats

from bitgap.experiments import t003_language_distribution as t003
from bitgap.experiments.plants.language_error import contrast_direction
from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.scores import unpack_scores
from bitgap.experiments.t003_language_distribution.controls import _permuted, closest_relative
from bitgap.experiments.t003_language_distribution.judge import (
    ORIGINAL_PREDICTOR,
    mean_inequality,
)
from bitgap.experiments.t003_language_distribution.shares import between_trace, log_variances
from bitgap.experiments.t003_language_distribution.statistic import falls_of_spread
from bitgap.experiments.t003_language_distribution.twins import measure_controls
from bitgap.lab.local_errors import (
    local_bias,
    local_errors,
    local_inequality,
    local_spread,
)
from bitgap.records import Floats, Observations
from bitgap.stats.profiles import depths
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

# So many blocks that one model's profiles can tell.
BLOCKS, LANGUAGES, SENTENCES, PLANTINGS = 24, 4, 20, 10
LINEARS = 2
BLOCK = np.repeat(np.arange(BLOCKS), LINEARS)
KIN = [
    {"script": "Latn", "genus": "Germanic", "family": "Indo-European"},
    {"script": "Latn", "genus": "Germanic", "family": "Indo-European"},
    {"script": "Hebr", "genus": "Semitic", "family": "Afro-Asiatic"},
    {"script": "Arab", "genus": "Semitic", "family": "Afro-Asiatic"},
]
# The reference's relative feels a tenth of what the others do, and one of these the other way, so
# that with a sign they would cancel.
FELT = np.array([0.0, 0.1, 1.0, -1.0])
APART = np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25)
"""log2 damage over languages, of mean 0 and standard deviation 1."""


# -- observations whose truth is known ------------------------------------------------------------


def protect_kl(rng: np.random.Generator, worth: Floats) -> Floats:
    """KL where S is 1 with nothing protected and falls by a block's worth with it, (P x A x N)."""
    gaps = np.append(1.0, 1.0 - worth)
    damage = np.append(1.0, rng.uniform(0.8, 1.0, len(worth)))
    ratios = damage[:, None] * np.exp2(gaps[:, None] * APART)
    return 0.2 * ratios[..., None] * rng.gamma(50, 0.02, size=SENTENCES)


def sums(rng: np.random.Generator, felt: Floats, spread: float) -> tuple[Floats, Floats]:
    """Σ‖ΔW x‖² and Σ‖W x‖² where |log2(e_lλ/e_l,en)| is what a language feels, (M x A x N)."""
    shape = (len(BLOCK), LANGUAGES, SENTENCES)
    output = rng.gamma(20, 5, size=shape)
    error = 0.02 * np.exp2(felt[BLOCK][:, None, None] * FELT[None, :, None])
    return error * output * np.exp(spread * rng.normal(size=shape)), output


def observe(
    seed: int = 0,
    *,
    link: float = 1.0,
    noise: float = 0.1,
    spread: float = 0.05,
    equal: float | None = None,
    untrained: float = 0.0,
    relative: float = 0.0,
    original: float = 0.0,
    found: int = PLANTINGS,
    text: dict[str, Any] | None = None,
) -> Observations:
    """Observations in which U is ``link`` times the profile of what falls off S, and noise."""
    rng = np.random.default_rng(seed)
    profile, own, twin = rng.normal(size=(3, BLOCKS))
    worth = 0.1 + 0.02 * profile
    trend = 2 + depths(BLOCKS)
    felt = 0.2 * (link * profile + noise * own) + trend
    arrays, facts = kept_scores({"protect": protect_kl(rng, worth)}, **(text or {}))
    error, output = sums(rng, felt, spread)
    error[:, 1] *= np.exp2(relative)
    few = felt if equal is None else 0.2 * (equal * profile + own) + trend
    few_error, few_output = sums(rng, few, spread)
    random_error, random_output = sums(rng, 2 + 0.2 * (untrained * profile + 0.1 * twin), spread)
    acts = np.outer(np.exp(original * profile + 0.2 * rng.normal(size=BLOCKS)) ** 0.5, APART)
    plain = np.full((BLOCKS, 3), 0.02)
    e = np.array([[0.02, 0.2 if i < found else 0.02] for i in range(PLANTINGS)])
    kl = rng.gamma(50, 0.02, size=(3, 5))
    rows = rng.integers(1, 3, size=PLANTINGS)
    planted_kl = np.repeat(kl[None], PLANTINGS, axis=0)
    planted_kl[np.arange(PLANTINGS), rows] *= rng.uniform(1.5, 2.5, size=(PLANTINGS, 5))
    return Observations(
        experiment=t003.ID,
        version=2,
        arrays={
            **arrays,
            "linear_block": BLOCK.astype(np.float32),
            "linear_width": np.full(len(BLOCK), 16.0),
            "linear_tokens": np.full(error.shape, 20.0),
            "linear_total": np.zeros(error.shape),
            "linear_square": 320 * np.exp(rng.normal(size=error.shape)),
            "linear_error": error,
            "linear_output": output,
            "linear_few_error": few_error,
            "linear_few_output": few_output,
            "variance": 9 + acts,
            "between": np.full(BLOCKS, 2.0),
            "whole": np.full(BLOCKS, 8.0),
            "random_error": random_error,
            "random_output": random_output,
            "planted_block": rng.integers(BLOCKS, size=PLANTINGS),
            "planted_row": rows,
            "planted_e": e,
            "plain_e": plain,
            "planted_kl": planted_kl,
            "plain_kl": kl,
        },
        facts={
            **facts,
            "scheme": "rtn4-g128",
            "n_blocks": BLOCKS,
            "kin": KIN,
            "params": {},
        },
    )


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_a_planted_link():
    assert_planted(t003.EXPERIMENT.judge, observe, seeds=range(20))


def test_judge_refutes_the_opposite():
    assert_planted(
        t003.EXPERIMENT.judge, lambda s: observe(s, link=-1.0), seeds=range(10), label="refuted"
    )


def test_judge_supports_no_link_no_oftener_than_alpha():
    assert_null(t003.EXPERIMENT.judge, lambda s: observe(s, link=0.0, noise=1.0), seeds=range(40))


def test_a_link_lost_in_noise_is_inconclusive():
    found = [
        t003.EXPERIMENT.judge(observe(s, link=0.5, noise=1.0), QUICK).verdict.label
        for s in range(6)
    ]
    assert found.count("inconclusive") >= 4


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 7}, "no positive control was detected"),
        ({"equal": 0.0}, "equal tokens"),
        ({"untrained": 1.0}, "random-init twin"),
        ({"relative": 9.0}, "same script"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    assert t003.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    # Where the relative is made to differ it takes part in U, which keeps its profile.
    finding = t003.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_errors_that_no_language_owns_are_told():
    made = observe()
    # The same errors, their languages dealt out anew in every sentence.
    rng = np.random.default_rng(0)
    for s in range(SENTENCES):
        order = rng.permutation(LANGUAGES)
        for what in ("error", "output"):
            array = made.arrays[f"linear_{what}"]
            array[..., s] = array[:, order, s]
    assert control(t003.EXPERIMENT.judge(made, QUICK), "language labels permuted").passed is False


def test_labels_at_random_pass_for_languages_no_oftener_than_chance():
    def passed(seed: int) -> bool:
        made = observe(seed, link=0.0)
        rng = np.random.default_rng([seed, 1])
        for s in range(SENTENCES):
            order = rng.permutation(LANGUAGES)
            for what in ("error", "output"):
                array = made.arrays[f"linear_{what}"]
                array[..., s] = array[:, order, s]
        arrays, row = made.arrays, 0
        fall = np.random.default_rng(seed).normal(size=BLOCKS)
        every = np.ones(LANGUAGES, dtype=bool)
        return _permuted(arrays, fall, False, every, row, QUICK).passed is True

    n = 30
    assert stats.binom.sf(sum(map(passed, range(n))) - 1, n, 0.025) > CHANCE


def test_halves_are_those_of_damage_with_nothing_protected():
    made = observe()
    every = np.ones(LANGUAGES, dtype=bool)
    wanted = halves(unpack_scores(made, "protect"), 0, every, QUICK)
    assert control(t003.EXPERIMENT.judge(made, QUICK), "A/A") == wanted
    made.arrays["protect_kl"][1:, 0] *= np.linspace(1, 9, SENTENCES)
    assert control(t003.EXPERIMENT.judge(made, QUICK), "A/A") == wanted


def test_a_sign_that_turns_with_the_unit_is_not_established():
    made = observe()
    assert t003.EXPERIMENT.judge(made, QUICK).verdict.label == "supported"
    # The language hit hardest per token says all in few: per text it is hit least, and what
    # evens out the one makes the other more uneven.
    premium = np.exp2(-2 * APART)
    made.arrays["tokens"] = (1e4 * premium[:, None] * np.ones(SENTENCES)).round()
    made.arrays["protect_kl"] *= premium[:, None]
    finding = t003.EXPERIMENT.judge(made, QUICK)
    token, text = (
        finding.estimates[f"inequality_and_fall{end}"].value for end in ("", "_per_text")
    )
    assert token > 0.5
    assert text < 0
    assert finding.verdict.label == "inconclusive"
    assert "not established" in finding.verdict.reason
    assert "not established" in finding.sentence
    # Nor is it refuted where it is the other way per token.
    against = observe(link=-1.0)
    against.arrays["tokens"] = made.arrays["tokens"]
    against.arrays["protect_kl"] *= premium[:, None]
    assert t003.EXPERIMENT.judge(against, QUICK).verdict.label == "inconclusive"


def test_languages_cannot_cancel():
    finding = t003.EXPERIMENT.judge(observe(), QUICK)
    # Two languages feel the same with opposite signs; the origin of the signed bias is gone.
    assert abs(finding.estimates["mean_bias"].value) < 0.2
    assert finding.estimates["mean_inequality"].value > 1
    assert finding.estimates["inequality_and_fall"].value > 0.9


@pytest.mark.parametrize(("original", "label"), [(0.5, "supported"), (-0.5, "refuted")])
def test_the_origins_own_predictor_has_a_label_of_its_own(original, label):
    seeds = range(8)
    found = [t003.EXPERIMENT.judge(observe(s, original=original), QUICK).verdict for s in seeds]
    without = [t003.EXPERIMENT.judge(observe(s), QUICK).verdict for s in seeds]
    assert [verdict.label for verdict in found] == [verdict.label for verdict in without]
    own = [part.label for v in found for part in v.parts if part.name == ORIGINAL_PREDICTOR]
    assert len(own) == 8
    assert own.count(label) >= 6


def test_the_origins_own_predictor_is_supported_by_chance_no_oftener_than_alpha():
    found = [
        part.label
        for s in range(40)
        for part in t003.EXPERIMENT.judge(observe(s), QUICK).verdict.parts
        if part.name == ORIGINAL_PREDICTOR
    ]
    assert stats.binom.sf(found.count("supported") - 1, 40, QUICK.alpha) > CHANCE


def test_a_planting_counts_only_if_d_rises_too():
    made = observe()
    made.arrays["planted_kl"][:] = made.arrays["plain_kl"]
    assert control(t003.EXPERIMENT.judge(made, QUICK), "P2").passed is False


@pytest.mark.parametrize(("gone", "told"), [([0], "reference en"), ([1, 2, 3], "every other")])
def test_without_languages_to_compare_nothing_is_testable(gone, told):
    finding = t003.EXPERIMENT.judge(observe(text={"collapsed": gone}), QUICK)
    assert finding.verdict.label == "not testable"
    assert told in finding.verdict.reason
    assert "collapsed" in finding.verdict.reason
    assert {part.label for part in finding.verdict.parts} <= {"not testable"}
    assert_presentable(t003.EXPERIMENT, finding)


def test_finding_and_figure_can_be_shown():
    made = observe()
    finding = t003.EXPERIMENT.judge(made, QUICK)
    assert_presentable(t003.EXPERIMENT, finding)
    seed = finding.original_measure["largest_variance_of_variances"]
    assert seed.value == pytest.approx(made.arrays["variance"].var(1).max())
    assert finding.estimates["language_share_of_states"].value == pytest.approx(0.25)
    assert finding.estimates["spread"].value == pytest.approx(1.0)


def test_intervals_of_mean_inequality_hold_the_planted_one_as_often_as_they_say():
    def held(seed: int) -> bool:
        made = observe(seed, spread=0.3)
        profile, own, _ = np.random.default_rng(seed).normal(size=(3, BLOCKS))
        felt = 0.2 * (profile + 0.1 * own) + 2 + depths(BLOCKS)
        truth = float(felt.mean() * np.abs(FELT[1:]).mean())
        every = np.ones(LANGUAGES, dtype=bool)
        return covers(mean_inequality(made, every, 0, QUICK), truth)

    n = 60
    assert stats.binom.cdf(sum(map(held, range(n))), n, 0.93) > CHANCE


def test_documents_widen_intervals_where_their_sentences_are_alike():
    made = observe(spread=0.01)
    alike = np.repeat(np.arange(SENTENCES // 4), 4)
    noise = np.random.default_rng(0).normal(size=(LANGUAGES, SENTENCES // 4))
    made.arrays["linear_error"] *= np.exp(0.3 * noise[:, alike])
    every = np.ones(LANGUAGES, dtype=bool)
    by_sentence = mean_inequality(made, every, 0, QUICK)
    made.arrays["documents"] = alike
    by_document = mean_inequality(made, every, 0, QUICK)
    assert by_document.value == by_sentence.value
    assert by_document.high - by_document.low > 1.3 * (by_sentence.high - by_sentence.low)


def test_falls_of_spread_are_the_planted_ones():
    rng = np.random.default_rng(0)
    worth = rng.uniform(-0.1, 0.3, BLOCKS)
    arrays, facts = kept_scores({"protect": protect_kl(rng, worth)})
    made = Observations(experiment="T-000", version=1, arrays=arrays, facts=facts)
    scores, every = unpack_scores(made, "protect"), np.ones(LANGUAGES, dtype=bool)
    np.testing.assert_allclose(falls_of_spread(scores, every), worth, atol=1e-12)
    # Another language in the reference's place, or another order, moves nothing.
    turned = replace(made, facts={**facts, "reference": "x2"})
    again = falls_of_spread(unpack_scores(turned, "protect"), every)
    np.testing.assert_allclose(again, worth, atol=1e-12)


# -- statistics -----------------------------------------------------------------------------------


def test_error_of_a_linear_is_that_of_its_inputs_covariance():
    rng = np.random.default_rng(0)
    weight, change = rng.normal(size=(7, 5)), 0.1 * rng.normal(size=(7, 5))
    powers = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [9.0, 4.0, 1.0, 0.5, 0.1]])
    n = 40_000
    x = np.sqrt(powers)[:, None] * rng.normal(size=(2, n, 5))  # two languages
    error, output = (np.square(x @ w.T).sum(2) for w in (change, weight))
    found = local_errors(error[None], output[None], np.array([0]), np.ones((1, n)))[0, 0]
    # With Σ = diag(s): e = Σ_i s_i ‖ΔW_i‖² / Σ_i s_i ‖W_i‖², columns i.
    columns = [np.square(w).sum(0) for w in (change, weight)]
    wanted = (powers @ columns[0]) / (powers @ columns[1])
    np.testing.assert_allclose(found, wanted, rtol=0.03)
    both, ratio = np.array([True, True]), np.log2(wanted[1] / wanted[0])
    np.testing.assert_allclose(local_bias(found[None], both, 0), ratio, atol=0.05)
    np.testing.assert_allclose(local_inequality(found[None], both, 0), abs(ratio), atol=0.05)
    # Of two numbers the standard deviation is half of their distance.
    np.testing.assert_allclose(local_spread(found[None], both), abs(ratio) / 2, atol=0.05)


def test_inequality_has_no_sign_and_spread_no_reference():
    errors = np.exp2(np.array([[0.0, 1.0, -1.0, 3.0], [0.5, 0.5, 0.5, 0.5]]))
    every = np.ones(4, dtype=bool)
    np.testing.assert_allclose(local_bias(errors, every, 0), [1.0, 0.0])
    np.testing.assert_allclose(local_inequality(errors, every, 0), [5 / 3, 0.0])
    np.testing.assert_allclose(local_inequality(1 / errors, every, 0), [5 / 3, 0.0])
    np.testing.assert_allclose(local_spread(errors, every), [np.std([0, 1, -1, 3]), 0.0])
    np.testing.assert_allclose(
        local_spread(errors[:, [2, 3, 0, 1]], every)[0], np.std([0, 1, -1, 3])
    )
    left_out = np.array([True, True, True, False])
    np.testing.assert_allclose(local_inequality(errors, left_out, 0), [1.0, 0.0])
    assert np.isnan(local_spread(errors, np.array([True, False, False, False]))).all()
    assert np.isnan(local_spread(np.array([[0.0, 1.0, 1.0, 1.0]]), every)).all()


def test_rescaling_a_linear_and_its_inputs_moves_no_error():
    rng = np.random.default_rng(0)
    error, output = rng.uniform(1, 2, (2, 4, 3, 5))
    block, ones = np.array([0, 0, 1, 1]), np.ones((1, 5))
    scale = np.array([4.0, 0.25, 1.0, 16.0])[:, None, None]
    plain = local_errors(error, output, block, ones)
    np.testing.assert_allclose(local_errors(scale * error, scale * output, block, ones), plain)


def test_bias_is_undefined_without_another_language_or_with_a_zero():
    errors = np.array([[1.0, 2.0], [0.0, 2.0]])
    assert np.isnan(local_bias(errors, np.array([True, False]), 0)).all()
    bias = local_bias(errors, np.array([False, True]), 0)
    assert bias[0] == 1
    assert np.isnan(bias[1])


@pytest.mark.parametrize("planted", [0.0, 0.5])
def test_variance_between_languages_is_unbiased(planted):
    rng = np.random.default_rng(0)
    n, shape = 400, (6, 8, 10)
    found = [
        between_trace(
            np.sqrt(planted) * rng.normal(size=(6, 1, 10))
            + rng.normal(size=(1, 8, 10))
            + 2 * rng.normal(size=shape)
        )
        for _ in range(n)
    ]
    assert abs(np.mean(found) - 10 * planted) < 4 * np.std(found) / np.sqrt(n)


def test_log_variance_is_that_of_all_entries():
    rng = np.random.default_rng(0)
    x = 3 + 2 * rng.normal(size=(7, 5))
    arrays = {
        "linear_block": np.array([0.0]),
        "linear_width": np.array([5.0]),
        "linear_tokens": np.array([[[7.0]]]),
        "linear_total": np.array([[[x.sum()]]]),
        "linear_square": np.array([[[np.square(x).sum()]]]),
    }
    assert log_variances(arrays)[0, 0, 0] == pytest.approx(np.log(x.var()))


def test_contrast_direction_is_the_top_generalised_eigenvector():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(40, 6)) * np.arange(1, 7), rng.normal(size=(30, 6))
    second = other.T @ other / 30
    ridge = 1e-3 * np.trace(second) / 6 * np.eye(6)
    _, vectors = linalg.eigh(one.T @ one / 40, second + ridge)
    wanted = vectors[:, -1] / np.linalg.norm(vectors[:, -1])
    assert abs(contrast_direction(one, other) @ wanted) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("kin", "closest"),
    [
        (KIN, 1),
        ([KIN[0], KIN[2], KIN[3]], None),
        # A genus counts for more than a family, a family for more than coming first.
        ([KIN[0], {**KIN[0], "genus": "Turkic", "family": "Turkic"},
          {**KIN[0], "genus": "Romance"}, KIN[2]], 2),
        ([KIN[0], {**KIN[0], "genus": "Romance"}, KIN[1]], 2),
    ],
)  # fmt: skip
def test_closest_relative_is_the_one_declared(kin, closest):
    assert closest_relative(kin, 0) == closest


# -- on models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["gpt2", "opt"])
def test_planted_errors_of_one_language_are_found(case):
    lab = make_lab(case, blocks=4, corpus=write_corpus(8, ("en", "de", "he"), longest=30))
    params = t003.Params(control_sentences=6, planted_seeds=8)
    arrays, facts = measure_controls(lab, "rtn6-g32", params)
    assert facts == {}
    # Where and for whom it is planted varies.
    assert len(set(arrays["planted_block"])) > 1
    assert set(arrays["planted_row"]) == {1, 2}
    made = observe()
    keys = [name for name in arrays if name.startswith(("planted", "plain"))]
    made.arrays.update({name: arrays[name] for name in keys})
    assert control(t003.EXPERIMENT.judge(made, QUICK), "P2").passed is True
    assert not [key for key in lab.bank._own if "one-language" in key[1]]


def test_measured_observations_are_judged_and_shown_block_by_block():
    lab = make_lab("gpt2", blocks=5, corpus=write_corpus(6, ("en", "de", "he")))
    params = t003.Params(control_sentences=3, planted_seeds=2)
    measured = t003.EXPERIMENT.measure(lab, "rtn6-g32", params)
    finding = t003.EXPERIMENT.judge(measured, QUICK)
    # A random model is worse than unigrams in every language, and the judge says so.
    assert finding.verdict.label == "not testable"
    assert_presentable(t003.EXPERIMENT, finding)
    assert len(finding.tables["blocks"]) == 5
    assert measured.arrays["protect_kl"].shape == (6, 3, 6)
    assert len(finding.tables["errors"]) == 5 * 3
    assert finding.tables["errors"][0]["log2_ratio"] == 0
