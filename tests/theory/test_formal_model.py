"""The formal model: closed forms, planted truths, nulls, and every clause of its verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from theory_worlds import evidence

from bitgap.errors import UserError
from bitgap.experiments.protocol.controls import clear
from bitgap.records import Finding
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.evidence import Evidence
from bitgap.theory.formal.controls import between_rungs, plant, planted_slope
from bitgap.theory.formal.inference import (
    Swaps,
    gain_across,
    gains,
    inflation,
    moments,
    r2_held_out_blocks,
    terms,
    wild_p,
)
from bitgap.theory.formal.ladder import ladder
from bitgap.theory.formal.model import judge_formal
from bitgap.theory.formal.rows import (
    LADDER,
    ORIGINAL_TERMS,
    gather_rows,
    smooth_features,
    without_block,
)
from validation.synth_theory import (
    LOUD,
    TheoryWorld,
    make_families,
    rates,
    with_spread,
)

DECLARED = load_thresholds()
# What eight families of 24 blocks can tell apart, whatever is declared.
COARSE = replace(
    DECLARED,
    hypotheses={**DECLARED.hypotheses, "formal": {**DECLARED.of("formal"), "sesoi": 0.2}},
)
PLAIN = replace(LOUD, gain=0.4)


def control(found: Finding, kind: str, word: str = ""):
    return next(c for c in found.controls if c.kind == kind and word in c.name)


def exact(slopes: dict[str, float], families: int = 3, **shape) -> list[Evidence]:
    """Returns models whose response is a linear function of predictors and nothing else."""
    made = evidence(families, **shape)
    out = []
    for one in made:
        (family,), _ = gather_rows([one])
        model = family.models[0]
        y = np.asarray(sum(model.predictors[name] * b for name, b in slopes.items()))
        out.append(with_spread(one, y, np.random.default_rng(0), 0.0, languages=ALIKE))
    return out


ALIKE = np.tile([-1.0, -1.0, 1.0, 1.0], 4)
"""Two groups of languages, each in both halves of every other."""


# -- fit ------------------------------------------------------------------------------------------


def test_slopes_that_hold_exactly_are_found_in_every_family():
    truth = {"variance": 0.3, "boundary": 0.8, "bottleneck": 0.2}
    found = judge_formal(exact(truth, 5), DECLARED)
    got = [found.estimates[name].value for name in ("alpha", "beta", "gamma")]
    assert got == pytest.approx(list(truth.values()))
    assert found.estimates["r2_lofo_F3"].value == pytest.approx(1.0)
    assert found.estimates["r2_lofo_F4"].value == pytest.approx(1.0)


def test_least_squares_over_families_is_that_of_the_stacked_rows():
    families, _ = gather_rows(evidence(4))
    stacked_x = np.vstack([f.models[0].design(ORIGINAL_TERMS) for f in families])
    stacked_y = np.concatenate([f.models[0].profile for f in families])
    expected, *_ = np.linalg.lstsq(stacked_x, stacked_y, rcond=None)
    assert moments(families, terms(ORIGINAL_TERMS)).slopes()[0] == pytest.approx(expected)


def test_r2_lofo_is_that_of_fits_without_the_family():
    families, _ = gather_rows(evidence(4))
    error = power = 0.0
    for held in families:
        others = [f.models[0] for f in families if f is not held]
        x = np.vstack([m.design(ORIGINAL_TERMS) for m in others])
        slopes, *_ = np.linalg.lstsq(x, np.concatenate([m.profile for m in others]), rcond=None)
        model = held.models[0]
        fitted = (model.design(ORIGINAL_TERMS) @ slopes)[:, None]
        error += ((model.response - fitted) ** 2).mean()
        power += (model.response**2).mean()
    assert float(moments(families, terms(ORIGINAL_TERMS)).r2_lofo()) == pytest.approx(
        1 - error / power
    )


def test_gains_of_families_average_to_the_difference_of_both_r2():
    families, _ = gather_rows(evidence(5))
    lower, upper = (moments(families, terms(LADDER[name])) for name in ("F1", "F3"))
    assert gains(lower, upper).mean() == pytest.approx(upper.r2_lofo() - lower.r2_lofo())


def test_checkpoints_of_a_family_weigh_as_one():
    made = evidence(4)
    twice = [*made, replace(made[0], model="again")]
    a, b = (ladder(e).r2_lofo("F3") for e in (made, twice))
    assert a == pytest.approx(b)
    assert judge_formal(twice, DECLARED).estimates["theta"].n == 4


def test_how_loud_a_block_is_and_how_many_tokens_a_text_has_change_nothing():
    made = evidence(3)
    rng = np.random.default_rng(0)
    tokens = rng.integers(100, 900, 16)
    louder = [
        replace(
            e,
            single=e.single * np.exp(rng.normal(size=(24, 1))) * (tokens / e.tokens),
            tokens=tokens,
            log_variance=e.log_variance + 7,
        )
        for e in made
    ]
    assert ladder(made).r2_lofo("F3") == pytest.approx(ladder(louder).r2_lofo("F3"))


def test_held_out_stretches_of_a_straight_line_are_predicted_and_noise_is_not():
    line, _ = gather_rows(exact({"depth": 1.0}, 2))
    assert r2_held_out_blocks(line, ("depth",)) == pytest.approx(1.0)
    noise, _ = gather_rows(evidence(6))
    assert r2_held_out_blocks(noise, ORIGINAL_TERMS) < 0


def test_inflation_is_that_of_a_correlated_pair():
    families, _ = gather_rows(evidence(1))
    model = families[0].models[0]
    a, b = model.predictors["variance"], model.predictors["bottleneck"]
    r2 = np.corrcoef(a, b)[0, 1] ** 2
    assert inflation(families, ("variance", "bottleneck")) == pytest.approx([1 / (1 - r2)] * 2)
    assert np.isinf(inflation(families, ("variance", "variance"))).all()


def test_wild_bootstrap_enumerates_signs_and_holds_its_rate():
    rng = np.random.default_rng(0)
    found, times = 0, 120
    for seed in range(times):
        families, _ = gather_rows(evidence(6, 1000 + seed))
        p = wild_p(moments(families, terms(ORIGINAL_TERMS)), int(rng.integers(3)))
        assert (p * 2**6) == pytest.approx(round(p * 2**6))
        found += p < 0.05
    assert stats.binom.sf(found - 1, times, 0.06) > 1e-3, found
    families, _ = gather_rows(exact({"variance": 0.3}, 6))
    assert wild_p(moments(families, terms(ORIGINAL_TERMS)), 0) <= 2 / 2**6


def test_swapping_with_oneself_is_the_true_pairing():
    families, _ = gather_rows(evidence(4))
    swaps = Swaps.of(families, terms(LADDER["F1"]), terms(ORIGINAL_TERMS))
    assert swaps.gains(np.arange(4)) == pytest.approx(gains(swaps.lower, swaps.upper))


def test_a_shared_depth_profile_is_found_by_t_but_not_by_the_swap():
    made = evidence(6)
    same = [replace(e, log_variance=made[0].log_variance) for e in made]
    y = made[0].log_variance / 2
    rng = np.random.default_rng(1)
    shared = [with_spread(e, y + 0.05 * rng.normal(size=24), rng, 0.0) for e in same]
    families, _ = gather_rows(shared)
    swaps = Swaps.of(families, terms(LADDER["F1"]), terms(LADDER["F2"]))
    assert gains(swaps.lower, swaps.upper).min() > 0.3
    assert swaps.p() > 0.05


def test_smooth_features_are_smooth_and_standard():
    made = smooth_features(np.linspace(0, 1, 24), np.random.default_rng(0), (50, 3))
    assert made.mean(-1) == pytest.approx(0, abs=1e-9)
    assert made.std(-1) == pytest.approx(1)
    neighbours = (made[..., 1:] * made[..., :-1]).mean()
    assert neighbours > 0.8


# -- F0 -------------------------------------------------------------------------------------------


def test_an_error_budget_that_holds_is_forecast_with_nothing_fitted():
    found = judge_formal(evidence(5), DECLARED)
    for row in found.tables["f0"]:
        assert row["r2"] == pytest.approx(1.0) and row["rmse_log2"] == pytest.approx(0, abs=1e-9)
        assert row["r2_log_damage"] == pytest.approx(1.0)
        assert row["masks"] == 97  # the empty one and 96 drawn; of the full one nothing is left
    assert ladder(evidence(5)).r2_lofo("F0") == pytest.approx(1.0)
    assert "nothing fitted has R² 1.00 of S" in found.sentence
    assert found.verdict.label != "supported"


def test_sensitivities_of_another_model_forecast_nothing():
    one, other = evidence(2)
    [row] = judge_formal([replace(one, sensitivity=other.sensitivity)], DECLARED).tables["f0"]
    assert row["r2"] < 0


def test_what_adds_up_is_forecast_from_single_blocks_where_sensitivities_are_noise():
    made = exact({"variance": 0.5, "boundary": 1.0, "bottleneck": 0.5}, 5)
    rng = np.random.default_rng(0)
    blurred = [
        replace(e, sensitivity=e.sensitivity * np.exp(3 * rng.normal(size=e.sensitivity.shape)))
        for e in made
    ]
    for row in judge_formal(blurred, DECLARED).tables["f0"]:
        assert row["r2_additive"] == pytest.approx(1.0)
        assert row["r2"] < 0.5


# -- verdict --------------------------------------------------------------------------------------


def test_a_planted_theory_is_supported():
    tally = rates(PLAIN, 4, COARSE, seed=20)
    assert tally.labels["supported"] >= 3, tally
    assert tally.gain == pytest.approx(PLAIN.gain, abs=0.08)


@pytest.mark.parametrize(
    "world",
    [
        TheoryWorld(truth="nuisance", families=6, kind="trend", shared=1.5, noise=0.1),
        TheoryWorld(truth="budget", families=5, layers=(24, 28)),
    ],
)
def test_a_nuisance_that_is_smooth_in_depth_is_not_supported(world):
    assert rates(world, 6, DECLARED, seed=40).labels["supported"] == 0


@pytest.mark.parametrize(
    "world",
    [
        TheoryWorld(truth="nuisance"),
        TheoryWorld(truth="nuisance", families=6, kind="trend", shared=1.5),
    ],
)
def test_where_nothing_is_related_a_gain_is_seen_in_no_more_than_one_world_in_twenty(world):
    times, seen = 200, 0
    for seed in range(times):
        families, _ = gather_rows(make_families(world, 3000 + seed))
        swaps = Swaps.of(families, terms(LADDER["F1"]), terms(ORIGINAL_TERMS))
        found = gain_across(families, swaps, DECLARED.level, {})
        ps = (found.p, *found.concurring.values())
        seen += clear(found.estimate, 0.05) and max(ps) < DECLARED.alpha
    assert stats.binom.sf(seen - 1, times, 0.05) > 0.05, seen


def test_a_theory_of_the_wrong_sign_is_not_supported_whatever_it_gains():
    truth = {"variance": -0.4, "boundary": 0.9, "bottleneck": 0.4}
    made = exact(truth, 8)
    rng = np.random.default_rng(0)
    noisy = [with_spread(e, e.spread_by_block + 0.1 * rng.normal(size=24), rng, 0.0) for e in made]
    found = judge_formal(noisy, DECLARED)
    assert found.estimates["theta"].low > 0.05
    assert found.verdict.label == "inconclusive"
    assert found.estimates["alpha"].high < 0


def test_few_families_are_described_and_no_more():
    found = judge_formal(evidence(1), DECLARED)
    assert found.verdict.label == "inconclusive"
    assert "1 family; 5 are needed" in found.verdict.reason
    assert found.estimates["theta"].value is None
    assert {c.passed for c in found.controls} == {None}
    rung = next(row for row in found.tables["ladder"] if row["rung"] == "F3")
    assert rung["r2_in_sample"] is not None and rung["r2_lofo"] is None


def test_nothing_to_explain_is_not_testable():
    flat = [replace(e, single=np.ones_like(e.single)) for e in evidence(5)]
    assert judge_formal(flat, DECLARED).verdict.label == "not testable"
    with pytest.raises(UserError, match="at least one measured model"):
        judge_formal([], DECLARED)


def test_a_model_that_lacks_a_predictor_is_left_out_and_said():
    made = evidence(3)
    made[1] = replace(made[1], log_dimension=np.full(24, np.nan))
    found = judge_formal(made, DECLARED)
    assert found.estimates["theta"].n == 2
    assert {row["model"] for row in found.tables["left_out"]} == {made[1].model}
    assert "bottleneck" in found.tables["left_out"][0]["reason"]


def test_judging_is_deterministic_and_holds_no_nan():
    made = evidence(5)
    one, two = judge_formal(made, DECLARED), judge_formal(made, DECLARED)
    assert one == two
    assert "nan" not in str(one.tables).lower()


# -- controls -------------------------------------------------------------------------------------


def test_a_planted_slope_has_the_gain_it_was_planted_with():
    families, _ = gather_rows(make_families(replace(LOUD, truth="budget", noise=0.01), 3))
    lower, upper = (moments(families, terms(LADDER[name])) for name in ("F1", "F3"))
    between = between_rungs(families, LADDER["F1"], ORIGINAL_TERMS)
    slope = planted_slope(lower, upper, between, 0.3)
    assert slope is not None
    low, high = plant(lower, upper, between, slope)
    assert float(high.r2_lofo() - max(float(low.r2_lofo()), 0)) == pytest.approx(0.3, abs=0.06)
    assert planted_slope(lower, lower, between_rungs(families, *[LADDER["F1"]] * 2), 0.9) is None


def test_the_positive_control_fails_where_the_design_would_not_find_the_effect():
    made = make_families(LOUD, 1)
    assert control(judge_formal(made, COARSE), "positive").passed is True
    assert control(judge_formal(made[:4], COARSE), "positive").passed is False
    power = judge_formal(made, COARSE).tables["power"]
    assert [row["gain"] for row in power] == pytest.approx([0.2, 0.4, 0.8])
    found = [row["found"] for row in power]
    assert found == sorted(found) and found[0] < found[-1] == 20


def test_halves_of_the_languages_that_disagree_fail_the_control():
    made = make_families(LOUD, 2)
    rng = np.random.default_rng(0)
    split = []
    for one in made:
        first = one.log_variance - 2 * one.log_dimension
        logs = np.tile(rng.normal(size=16), (24, 1))
        logs[:, 0::2] *= 3 + _small(first)[:, None]
        logs[:, 1::2] *= 3 + _small(rng.normal(size=24))[:, None]
        split.append(replace(one, single=np.exp2(logs), tokens=np.ones(16, dtype=np.int64)))
    assert control(judge_formal(made, DECLARED), "negative", "A/A").passed is True
    assert control(judge_formal(split, DECLARED), "negative", "A/A").passed is False


def _small(values):
    return (values - values.mean()) / values.std() / 2


def test_an_effect_of_the_ends_alone_is_seen_to_go_with_them():
    rng = np.random.default_rng(0)
    made = []
    for one in evidence(6):
        variance = 0.1 * rng.normal(size=24)
        variance[0] = 5.0
        spread = 0.1 * rng.normal(size=24)
        spread[0] = 2.0
        made.append(with_spread(replace(one, log_variance=variance), spread, rng, 0.0))
    families, _ = gather_rows(made)
    swaps = Swaps.of(families, terms(LADDER["F1"]), terms(ORIGINAL_TERMS))
    across = gain_across(families, swaps, 0.95, {})
    left = across.leave_out()
    assert set(left) == {f"without block {b}" for b in (*range(24), -1)}
    assert across.estimate.value > 0.5
    assert left["without block 0"].value < 0.1 < left["without block 7"].value
    # Left out by hand, it is the same.
    cut = [m.design(LADDER["F1"]).shape for f in without_block(families, 0) for m in f.models]
    assert cut == [(23, 2)] * 6


def test_a_gain_is_tested_against_the_smallest_of_interest():
    families, _ = gather_rows(evidence(8))
    swaps = Swaps.of(families, terms(LADDER["F1"]), terms(ORIGINAL_TERMS))
    across = gain_across(families, swaps, 0.95, {})
    near, far = (across.against(sesoi)[0] for sesoi in (0.05, 0.9))
    assert far < 0.01 < near
    assert across.against(0.9)[1]["sign flip"] < 0.05


# -- gates ----------------------------------------------------------------------------------------


def test_models_of_few_blocks_or_few_languages_are_left_out_and_named():
    made = [
        *evidence(3),
        *[replace(e, model=f"short-{i}") for i, e in enumerate(evidence(3, 9, layers=12))],
        *[replace(e, model=f"few-{i}") for i, e in enumerate(evidence(3, 9, languages=15))],
    ]
    found = judge_formal(made, DECLARED)
    assert found.estimates["theta"].n == 3
    assert "short-0, short-1, short-2: it has 12 blocks; 24 are needed" in found.sentence
    assert "15 languages count in it; 16 are needed" in found.sentence
    closed = judge_formal(made[3:], DECLARED)
    assert closed.verdict.label == "not testable"
    assert "12 blocks; 24 are needed" in closed.verdict.reason
