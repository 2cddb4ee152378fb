"""T-006: planted correlations of errors, none, and a judge that can say all four."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus
from scipy import stats

from bitgap.experiments import t006_error_cancellation as t006
from bitgap.experiments.t006_error_cancellation.measure import (
    ends_gram,
    measure_controls,
    stochastic_form,
)
from bitgap.experiments.t006_error_cancellation.plans import error_plans, other_form, scored_plans
from bitgap.experiments.t006_error_cancellation.statistic import (
    cancellation,
    correlations,
    null_draws,
    other_pairs,
)
from bitgap.quant.plan import Plan
from bitgap.records import Finding, Floats, Observations
from harness import (
    CHANCE,
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    covers,
    kept_scores,
    labels,
)

BLOCKS, LANGUAGES, SENTENCES, PLANTINGS, DRAWS = 8, 2, 24, 10, 10
LAST = BLOCKS - 1


# -- observations whose truth is known ------------------------------------------------------------


def covariance(rho: float, others: float = 0.0, last: float = 1.0, lower: int = 0) -> Floats:
    """Covariance of errors: ``rho`` for the ends, ``others`` elsewhere, some pairs at −.6."""
    matrix = np.full((BLOCKS, BLOCKS), others)
    np.fill_diagonal(matrix, 1.0)
    matrix[0, LAST] = matrix[LAST, 0] = rho
    for i in range(lower):
        a, b = 1 + 2 * i, 2 + 2 * i
        matrix[a, b] = matrix[b, a] = -0.6
    matrix[LAST] *= last**0.5
    matrix[:, LAST] *= last**0.5
    return matrix / last


def wishart(rng: np.random.Generator, matrix: Floats, entries: int) -> Floats:
    """Inner products of errors drawn with a covariance, so many entries a sentence."""
    root = np.linalg.cholesky(matrix)
    draws = rng.normal(size=(LANGUAGES, SENTENCES, entries, len(matrix))) @ root.T
    return np.einsum("anki,ankj->anij", draws, draws) / entries


def ends(rng: np.random.Generator, rho: float, entries: int = 200) -> Floats:
    return wishart(rng, np.array([[1.0, rho], [rho, 1.0]]), entries)


def damage(gram: Floats) -> Floats:
    """KL of ∅, the two ends, and each block, where K is the quadratic form."""
    both = gram[..., [0, LAST], :][..., [0, LAST]]
    each = np.moveaxis(np.diagonal(gram, axis1=2, axis2=3), -1, 0)
    return 0.5 * np.stack([gram.sum((2, 3)), both.sum((2, 3)), *each])


def observe(
    seed: int = 0,
    *,
    rho: float = -0.4,
    entries: int = 200,
    clipped: float | None = None,
    stochastic: float = 0.0,
    untrained: float = 0.0,
    untrained_clipped: float = 0.0,
    found: int = PLANTINGS,
    found_clipped: int = PLANTINGS,
    text: dict[str, Any] | None = None,
    **shape: Any,
) -> Observations:
    """Observations in which errors of the first and the last block correlate as told."""
    rng = np.random.default_rng(seed)
    gram = wishart(rng, covariance(rho, **shape), entries)
    arrays, facts = kept_scores({"scored": damage(gram)}, **(text or {}))
    return Observations(
        experiment=t006.ID,
        version=2,
        arrays={
            **arrays,
            "gram": gram.astype(np.float32),
            "other_gram": ends(rng, rho if clipped is None else clipped).astype(np.float32),
            "moments": np.array([[100.0, 1.0, 2.0], [1.0, 50.0, 9.0], [2.0, 9.0, 50.0]]),
            "random_gram": np.array([ends(rng, r) for r in (untrained, untrained_clipped)]),
            "stochastic_gram": np.array([ends(rng, stochastic, 20) for _ in range(DRAWS)]),
            **{
                f"{name}_gram": np.array(
                    [ends(rng, -0.2 if i < hits else 0.0) for i in range(PLANTINGS)]
                )
                for name, hits in (("cancelling", found), ("cancelling_other", found_clipped))
            },
        },
        facts={**facts, "scheme": "rtn4-g128", "n_blocks": BLOCKS, "params": {}},
    )


def part_labels(finding: Finding) -> list[str]:
    return [part.label for part in finding.verdict.parts]


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_planted_cancellation():
    assert_planted(t006.EXPERIMENT.judge, observe, seeds=range(20))


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_judge_refutes_where_there_is_none_or_the_opposite(rho):
    assert_planted(
        t006.EXPERIMENT.judge, lambda s: observe(s, rho=rho), seeds=range(10), label="refuted"
    )


def test_cancellation_below_what_was_declared_to_matter_is_small():
    finding = t006.EXPERIMENT.judge(observe(rho=-0.06, entries=1000), QUICK)
    assert finding.verdict.label == "small"
    assert "by less than was declared to matter" in finding.sentence


def test_judge_refutes_what_is_as_large_as_declared_no_oftener_than_alpha():
    found = labels(
        t006.EXPERIMENT.judge, lambda s: observe(s, rho=-0.1, entries=20), range(60), QUICK
    )
    assert stats.binom.sf(found["refuted"] - 1, 60, QUICK.alpha) > CHANCE


@pytest.mark.parametrize(("rho", "clipped", "row"), [(-0.4, 0.0, 1), (0.0, -0.4, 0)])
def test_each_rule_for_scales_has_its_own_label_and_both_must_pass(rho, clipped, row):
    finding = t006.EXPERIMENT.judge(observe(rho=rho, clipped=clipped), QUICK)
    assert part_labels(finding)[row] == "refuted"
    assert part_labels(finding)[1 - row] == "supported"
    assert finding.verdict.label == "refuted"
    assert "hangs on the scales" in finding.sentence


@pytest.mark.parametrize("missed", ["found", "found_clipped"])
def test_a_plant_that_is_missed_keeps_its_own_part_from_refuting(missed):
    finding = t006.EXPERIMENT.judge(observe(rho=0.0, **{missed: 7}), QUICK)
    row = ["found", "found_clipped"].index(missed)
    assert part_labels(finding)[row] == "inconclusive"
    assert part_labels(finding)[1 - row] == "refuted"


def test_one_rule_for_scales_is_not_enough_for_support():
    made = observe()
    for name in ("other_gram", "cancelling_other_gram"):
        del made.arrays[name]
    made.facts["scheme"] = "seed4"
    finding = t006.EXPERIMENT.judge(made, QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "one rule for its scales" in finding.verdict.reason
    assert_presentable(t006.EXPERIMENT, finding)


def test_a_sign_that_hangs_on_the_unit_is_not_established():
    made = observe(rho=0.0, entries=2000)
    gram, tokens = made.arrays["gram"], made.arrays["tokens"]
    for language, product in ((0, 0.1), (1, -0.06)):
        gram[language, :, 0, LAST] = gram[language, :, LAST, 0] = product
    # The second language has few tokens, so that per token it decides.
    tokens[1] = 1
    finding = t006.EXPERIMENT.judge(made, QUICK)
    assert finding.estimates["minus_rho"].value < 0 < finding.estimates["minus_rho_per_token"].value
    assert finding.verdict.label != "supported"


def test_plants_are_twice_the_declared_smallest_effect():
    declared = QUICK.of("H2.3")["sesoi"]
    assert t006.Params().planted_correlation == QUICK.planted_strength * declared


@pytest.mark.parametrize("entries", [2, 12])
def test_judge_supports_no_correlation_no_oftener_than_alpha(entries):
    assert_null(
        t006.EXPERIMENT.judge, lambda s: observe(s, rho=0.0, entries=entries), seeds=range(100)
    )


def test_an_effect_lost_in_noise_is_inconclusive():
    finding = t006.EXPERIMENT.judge(observe(rho=-0.1, entries=3), QUICK)
    assert finding.verdict.label == "inconclusive"


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"found": 7}, "no positive control was detected"),
        ({"found_clipped": 7}, "no positive control was detected"),
        ({"untrained": -0.4}, "random-init twin, absmax scales"),
        ({"untrained_clipped": -0.4}, "random-init twin, clipped scales"),
        ({"stochastic": -0.3}, "stochastic rounding"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    assert t006.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    finding = t006.EXPERIMENT.judge(observe(rho=-0.7, **change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_cancellation_everywhere_is_no_matter_of_the_ends():
    # At eight blocks −1/7 is as low as all pairs can be.
    finding = t006.EXPERIMENT.judge(observe(rho=-0.14, others=-0.135, entries=2000), QUICK)
    assert control(finding, "all other pairs").passed is False
    assert finding.verdict.label == "inconclusive"


def test_ends_must_be_among_the_lowest_pairs():
    # Two pairs are lower, so the ends are third of 28: 11 %.
    finding = t006.EXPERIMENT.judge(observe(lower=2), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "number 3 from below of 28 pairs" in finding.verdict.reason
    assert t006.EXPERIMENT.judge(observe(lower=0), QUICK).tables["rank_from_below"] == 1


def test_a_correlation_that_saves_next_to_nothing_is_not_supported():
    # −2 · .4 √1000 / 1001 = −.025 of the two damages.
    finding = t006.EXPERIMENT.judge(observe(last=1000.0), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "the cancelled share with absmax scales is 0.02" in finding.verdict.reason


def test_without_draws_of_the_null_there_is_no_p():
    made = observe()
    del made.arrays["stochastic_gram"]
    made.facts["no_stochastic"] = "noise0.1-s0 has no stochastic form"
    finding = t006.EXPERIMENT.judge(made, QUICK)
    assert finding.verdict.p is None
    assert finding.verdict.label == "inconclusive"
    assert control(finding, "stochastic").detail == "noise0.1-s0 has no stochastic form"


def test_p_of_the_null_is_uniform_where_theta_is_one_more_draw():
    def p(seed: int) -> float:
        made = observe(seed, rho=0.0, entries=20)
        null = null_draws(made, QUICK.level)
        assert null is not None
        theta = cancellation(made.arrays["gram"].astype(float))(np.ones((1, SENTENCES)))[0, 0]
        # The mean is known to be 0 here, and only a positive one is subtracted.
        return null.p(float(theta))

    ps = np.array([p(seed) for seed in range(200)])
    assert stats.binom.sf((ps < 0.05).sum() - 1, len(ps), 0.05) > CHANCE
    assert stats.binom.cdf((ps < 0.5).sum(), len(ps), 0.5) > CHANCE / 100


def test_a_null_that_cancels_by_itself_raises_p():
    still, cancelling = (
        t006.EXPERIMENT.judge(observe(stochastic=r), QUICK).verdict.p for r in (0.0, -0.37)
    )
    assert still < 0.01 < cancelling


def test_finding_and_figure_can_be_shown_and_name_the_condition_for_synergy():
    finding = t006.EXPERIMENT.judge(observe(), QUICK)
    assert_presentable(t006.EXPERIMENT, finding)
    assert "only if both agree in sign" in finding.sentence
    assert "only if both agree in sign" in finding.tables["read_with"]["synergy"]
    assert finding.original_measure["pearson_of_logit_errors"].value == pytest.approx(
        (9 / 100 - 0.01 * 0.02) / np.sqrt((0.5 - 0.01**2) * (0.5 - 0.02**2))
    )


@pytest.mark.parametrize(
    ("rho", "said"),
    [
        (-0.4, "last block cancel (rho"),
        (0.4, "add to each other"),
        (0.0, "next to nothing in common"),
    ],
)
def test_sentence_says_what_was_found(rho, said):
    assert said in t006.EXPERIMENT.judge(observe(rho=rho), QUICK).sentence


def test_intervals_hold_the_planted_truth_as_often_as_they_say():
    def held(seed: int) -> bool:
        found = t006.EXPERIMENT.judge(observe(seed, entries=20), QUICK).estimates
        return covers(found["minus_rho"], 0.4) and covers(found["cancelled_share"], 0.4)

    # Powers of both ends are equal, so the share is −ρ; both at 95 %: at least 90 %.
    n = 60
    assert stats.binom.cdf(sum(map(held, range(n))), n, 0.9) > CHANCE


def test_damage_falls_into_sum_covariance_and_remainder():
    made = observe()
    # A tenth of what is seen of ∅ is beyond the quadratic form; of the ends nothing.
    made.arrays["scored_kl"][0] /= 0.9
    found = t006.EXPERIMENT.judge(made, QUICK)
    assert found.estimates["remainder_all"].value == pytest.approx(0.1, abs=1e-6)
    assert found.estimates["remainder_first_and_last"].value == pytest.approx(0, abs=1e-6)
    rows = {(r["plan"], r["part"]): r["bits"] for r in found.tables["decomposition"]}
    gram = made.arrays["gram"].astype(float).sum((0, 1))
    bits = 1 / (np.log(2) * made.arrays["characters"][0].sum() * LANGUAGES)
    assert rows["first and last", "covariance"] == pytest.approx(gram[0, LAST] * bits)
    seen = sum(v for (plan, _), v in rows.items() if plan == "all blocks")
    assert seen == pytest.approx(made.arrays["scored_kl"][0].sum() * bits)


# -- statistics -----------------------------------------------------------------------------------


def test_correlations_are_numpys():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(4, 1000))
    errors -= errors.mean(1, keepdims=True)
    gram = (errors @ errors.T)[None, None]
    np.testing.assert_allclose(correlations(gram), np.corrcoef(errors), atol=1e-12)
    wanted = -np.median(np.corrcoef(errors)[np.triu_indices(4, 1)][[0, 1, 3, 4, 5]])
    assert other_pairs(gram)(np.ones((1, 1)))[0, 0] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("scheme", "other", "stochastic"),
    [
        ("rtn3-g128", "rtn3-g128-mse", "stoch3-g128"),
        ("rtn3-g128-mse", "rtn3-g128", "stoch3-g128"),
        ("seed4", None, "stoch4-tensor"),
        ("noise0.1-s0", None, None),
    ],
)
def test_schemes_have_the_relatives_they_have(scheme, other, stochastic):
    assert other_form(scheme) == other
    assert stochastic_form(scheme) == stochastic


# -- on models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["gpt2", "opt"])
def test_planted_cancellation_is_found(case):
    lab = make_lab(case, blocks=5, corpus=write_corpus(6, ("en", "de", "he")))
    params = t006.Params(control_sentences=6, null_draws=3, planted_seeds=5)
    arrays, facts = measure_controls(lab, "rtn6-g32", params)
    assert facts == {}
    made = observe()
    for name in ("cancelling_gram", "cancelling_other_gram"):
        rho = [correlations(gram)[0, 1] for gram in arrays[name]]
        # A plant crosses the model's own errors, and the search ends after a few tries.
        np.testing.assert_allclose(rho, -params.planted_correlation, rtol=0.5)
        assert np.median(rho) == pytest.approx(-params.planted_correlation, rel=0.2)
        made.arrays[name] = arrays[name]
    finding = t006.EXPERIMENT.judge(made, QUICK)
    for rule in ("absmax", "clipped"):
        name = f"P3: errors of the first and last block that cancel, {rule}"
        assert control(finding, name).passed is True
    assert not [key for key in lab.bank._own if "cancelling" in key[1]]


def test_stochastic_rounding_has_no_correlation_on_average():
    lab = make_lab("llama", blocks=4, corpus=write_corpus(4))
    grams = ends_gram(lab, [f"stoch5-g32-s{i}" for i in range(30)])
    rho = np.array([correlations(gram)[0, 1] for gram in grams])
    assert abs(rho.mean()) < 4 * rho.std(ddof=1) / len(rho) ** 0.5
    assert rho.std() > 0.01


def test_at_six_bits_next_to_nothing_is_beyond_the_quadratic_form():
    lab = make_lab("gpt2", blocks=4, corpus=write_corpus(6))
    params = t006.Params(control_sentences=3, planted_seeds=2, null_draws=3)
    measured = t006.EXPERIMENT.measure(lab, "rtn6-g32", params)
    finding = t006.EXPERIMENT.judge(measured, QUICK)
    # A random model is worse than unigrams in every language, and the judge says so.
    assert finding.verdict.label == "not testable"
    assert_presentable(t006.EXPERIMENT, finding)
    # At six bits errors are small: next to nothing is beyond the quadratic form.
    for name in ("remainder_all", "remainder_single"):
        assert abs(finding.estimates[name].value) < 0.1
    clipped = ends_gram(lab, ["rtn6-g32-mse"])[0]
    np.testing.assert_allclose(measured.arrays["other_gram"], clipped, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("blocks", [1, 2])
def test_models_of_one_or_two_blocks_are_measured_and_shown(blocks):
    lab = make_lab("gpt2", blocks=blocks, corpus=write_corpus(3))
    params = t006.Params(control_sentences=2, planted_seeds=1, null_draws=3)
    finding = t006.EXPERIMENT.judge(t006.EXPERIMENT.measure(lab, "rtn4-g32", params), QUICK)
    assert_presentable(t006.EXPERIMENT, finding)
    assert finding.verdict.label == "not testable"
    assert ("1 block" in finding.verdict.reason) == (blocks == 1)


def test_scored_and_streamed_plans_are_those_named():
    assert [plan.text for plan in scored_plans("rtn4-g32", 3)] == [
        "rtn4-g32",
        "rtn4-g32 protect 1",
        *(f"rtn4-g32 protect {kept}" for kept in ("1,2", "0,2", "0,1")),
    ]
    assert error_plans("seed4", 2) == [Plan(("seed4", "fp")), Plan(("fp", "seed4"))]
