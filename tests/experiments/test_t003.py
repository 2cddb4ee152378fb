"""T-003: planted links of local errors and benefits, none, and a judge that can say all four."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus
from scipy import linalg, stats

from bitgap.disparity.layer_map import shapley_of_games
from bitgap.experiments import t003_language_distribution as t003
from bitgap.experiments.plants.language_error import contrast_direction
from bitgap.experiments.t003_language_distribution.controls import closest_relative
from bitgap.experiments.t003_language_distribution.judge import mean_bias
from bitgap.experiments.t003_language_distribution.shares import between_trace, log_variances
from bitgap.experiments.t003_language_distribution.twins import measure_controls
from bitgap.lab.local_errors import local_bias, local_errors
from bitgap.records import Floats, Observations
from bitgap.stats.mask_design import make_design
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

# So many blocks that one model's profiles can tell; an additive game needs no complete map.
BLOCKS, LANGUAGES, SENTENCES, PLANTINGS = 24, 4, 20, 10
DESIGN = make_design(BLOCKS)
LINEARS = 2
BLOCK = np.repeat(np.arange(BLOCKS), LINEARS)
KIN = [
    {"script": "Latn", "genus": "Germanic", "family": "Indo-European"},
    {"script": "Latn", "genus": "Germanic", "family": "Indo-European"},
    {"script": "Hebr", "genus": "Semitic", "family": "Afro-Asiatic"},
    {"script": "Arab", "genus": "Semitic", "family": "Afro-Asiatic"},
]
# The reference's relative feels a tenth of what the others do.
FELT = np.array([0.0, 0.1, 1.0, 1.0])


# -- observations whose truth is known ------------------------------------------------------------


def map_kl(rng: np.random.Generator, worth: Floats) -> Floats:
    """KL under all masks where log2(K_λ/K_en) is Σ worth of the rounded, (P x A x N)."""
    masks = np.array(DESIGN.masks)
    rounded = 1 - (masks[:, None] >> np.arange(BLOCKS) & 1)  # (P x L)
    ratio = np.exp2(rounded @ worth)[:, None] ** np.array([0.0, 1.0, 1.0, 1.0])
    sentences = rng.gamma(50, 0.02, size=6)
    return 0.2 * ratio[..., None] * sentences


def sums(rng: np.random.Generator, bias: Floats, spread: float) -> tuple[Floats, Floats]:
    """Σ‖ΔW x‖² and Σ‖W x‖² where log2(e_lλ/e_l,en) is the bias a language feels, (M x A x N)."""
    shape = (len(BLOCK), LANGUAGES, SENTENCES)
    output = rng.gamma(20, 5, size=shape)
    error = 0.02 * np.exp2(bias[BLOCK][:, None, None] * FELT[None, :, None])
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
    found: int = PLANTINGS,
    text: dict[str, Any] | None = None,
) -> Observations:
    """Observations in which B is ``link`` times the benefit's profile, and noise."""
    rng = np.random.default_rng(seed)
    profile, own, twin = rng.normal(size=(3, BLOCKS))
    worth = 0.1 + 0.02 * profile
    trend = depths(BLOCKS)
    bias = 0.2 * (link * profile + noise * own) + trend
    arrays, facts = kept_scores({"map": map_kl(rng, worth)}, **(text or {}))
    error, output = sums(rng, bias, spread)
    error[:, 1] *= np.exp2(relative)
    few = bias if equal is None else 0.2 * (equal * profile + own) + trend
    few_error, few_output = sums(rng, few, spread)
    random_error, random_output = sums(rng, 0.2 * (untrained * profile + 0.1 * twin), spread)
    plain = np.full((BLOCKS, 3), 0.02)
    e = np.array([[0.02, 0.2 if i < found else 0.02] for i in range(PLANTINGS)])
    kl = rng.gamma(50, 0.02, size=(3, 5))
    rows = rng.integers(1, 3, size=PLANTINGS)
    planted_kl = np.repeat(kl[None], PLANTINGS, axis=0)
    planted_kl[np.arange(PLANTINGS), rows] *= rng.uniform(1.5, 2.5, size=(PLANTINGS, 5))
    return Observations(
        experiment=t003.ID,
        version=1,
        arrays={
            **arrays,
            "linear_block": BLOCK.astype(np.float32),
            "linear_width": np.full(len(BLOCK), 16.0),
            "linear_tokens": np.full(error.shape, 20.0),
            "masks": np.array(DESIGN.masks),
            "linear_total": np.zeros(error.shape),
            "linear_square": 320 * np.exp(rng.normal(size=error.shape)),
            "linear_error": error,
            "linear_output": output,
            "linear_few_error": few_error,
            "linear_few_output": few_output,
            "variance": np.outer(1 + np.arange(BLOCKS), np.arange(1.0, LANGUAGES + 1)),
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
            "complete": False,
            "seed": 0,
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
        ({"relative": 3.0}, "same script"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    assert t003.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    # Where the relative is made to differ it takes part in B, which keeps its profile.
    finding = t003.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_a_link_that_other_labels_would_show_more_of_is_told():
    made = observe()
    # One sentence carries all, and more of it with another language in the reference's place.
    profile = shapley_of_games(*_scores(made))["disparity"]
    made.arrays["linear_error"][:] = 1e-9
    made.arrays["linear_error"][..., 0] = np.exp2(
        20 * (profile - profile.mean())[BLOCK][:, None] * np.array([0, 2, -1, 0])
    )
    finding = t003.EXPERIMENT.judge(made, QUICK)
    assert finding.estimates["bias_and_benefit"].low > 0.5
    assert control(finding, "language labels permuted").passed is False


def _scores(made: Observations) -> tuple[Any, Any]:
    from bitgap.experiments.protocol.scores import unpack_scores

    return unpack_scores(made, "map"), DESIGN


def test_halves_that_differ_are_told():
    made = observe()
    made.arrays["linear_error"][:, 0, ::2] *= 3
    assert control(t003.EXPERIMENT.judge(made, QUICK), "A/A").passed is False


def test_disparity_alone_is_no_support_where_the_gap_says_otherwise():
    made = observe()
    # Text gets easier where the distribution moves more, so G falls where |D| rises.
    made.arrays["map_nll"][:] = made.arrays["nll_fp"] - 0.5 * made.arrays["map_kl"]
    finding = t003.EXPERIMENT.judge(made, QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "−G" in finding.verdict.reason


def test_a_planting_counts_only_if_d_rises_too():
    made = observe()
    made.arrays["planted_kl"][:] = made.arrays["plain_kl"]
    assert control(t003.EXPERIMENT.judge(made, QUICK), "P2").passed is False


@pytest.mark.parametrize(("gone", "told"), [([0], "reference en"), ([1, 2, 3], "every other")])
def test_without_a_value_of_d_nothing_is_testable(gone, told):
    finding = t003.EXPERIMENT.judge(observe(text={"collapsed": gone}), QUICK)
    assert finding.verdict.label == "not testable"
    assert told in finding.verdict.reason
    assert finding.estimates["bias_and_benefit"].value is None
    assert_presentable(t003.EXPERIMENT, finding)


def test_finding_and_figure_can_be_shown():
    finding = t003.EXPERIMENT.judge(observe(), QUICK)
    assert_presentable(t003.EXPERIMENT, finding)
    seed = finding.original_measure["largest_variance_of_variances"]
    assert seed.value == pytest.approx(BLOCKS**2 * np.var([1, 2, 3, 4]))
    assert finding.estimates["language_share_of_states"].value == pytest.approx(0.25)


def test_intervals_of_mean_bias_hold_the_planted_one_as_often_as_they_say():
    def held(seed: int) -> bool:
        made = observe(seed, spread=0.3)
        profile, own, _ = np.random.default_rng(seed).normal(size=(3, BLOCKS))
        bias = 0.2 * (profile + 0.1 * own) + depths(BLOCKS)
        truth = float(bias.mean() * FELT[1:].mean())
        return covers(mean_bias(made.arrays, np.ones(LANGUAGES, dtype=bool), 0, QUICK), truth)

    n = 60
    assert stats.binom.cdf(sum(map(held, range(n))), n, 0.93) > CHANCE


def test_benefits_of_an_additive_log_ratio_are_its_terms():
    made = observe()
    profile, *_ = np.random.default_rng(0).normal(size=(3, BLOCKS))
    found = shapley_of_games(*_scores(made))["disparity"]
    np.testing.assert_allclose(found, 0.1 + 0.02 * profile, rtol=1e-9)


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
    bias = local_bias(found[None], np.array([True, True]), 0)
    np.testing.assert_allclose(bias, np.log2(wanted[1] / wanted[0]), atol=0.05)


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


@pytest.mark.parametrize("complete", [True, False])
def test_measured_observations_are_judged_and_shown_block_by_block(complete):
    lab = make_lab("gpt2", blocks=5, corpus=write_corpus(6, ("en", "de", "he")))
    params = t003.Params(map_sentences=3, complete=complete, control_sentences=3, planted_seeds=2)
    measured = t003.EXPERIMENT.measure(lab, "rtn6-g32", params)
    finding = t003.EXPERIMENT.judge(measured, QUICK)
    # A random model is worse than unigrams in every language, and the judge says so.
    assert finding.verdict.label == "not testable"
    assert_presentable(t003.EXPERIMENT, finding)
    assert len(finding.tables["blocks"]) == 5
    assert len(finding.tables["errors"]) == 5 * 3
    assert finding.tables["errors"][0]["log2_ratio"] == 0
