"""The formal model: closed forms, planted truths, nulls, and every clause of its verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from theory_worlds import evidence

from bitgap.errors import UserError
from bitgap.records import Finding
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.evidence import Evidence
from bitgap.theory.formal.controls import between_rungs, plant, planted_slope
from bitgap.theory.formal.inference import (
    Swaps,
    gains,
    inflation,
    moments,
    r2_held_out_blocks,
    terms,
    wild_p,
)
from bitgap.theory.formal.ladder import ladder
from bitgap.theory.formal.model import judge_formal
from bitgap.theory.formal.rows import LADDER, ORIGINAL_TERMS, gather_rows, smooth_features
from validation.synth_theory import (
    LOUD,
    TheoryWorld,
    make_families,
    rates,
    with_response,
)

DECLARED = load_thresholds()


def control(found: Finding, kind: str, word: str = ""):
    return next(c for c in found.controls if c.kind == kind and word in c.name)


def exact(slopes: dict[str, float], families: int = 3, **shape) -> list[Evidence]:
    """Returns models whose response is a linear function of predictors and nothing else."""
    made = evidence(families, **shape)
    out = []
    for one in made:
        (family,), _ = gather_rows([one])
        model = family.models[0]
        y = sum(model.predictors[name] * b for name, b in slopes.items())
        tiled = np.tile(np.asarray(y)[:, None], (1, len(one.languages) - 1))
        out.append(with_response(one, tiled, np.random.default_rng(0), 0.0))
    return out


# -- fit ------------------------------------------------------------------------------------------


def test_slopes_that_hold_exactly_are_found_in_every_family():
    truth = {"variance": 0.3, "boundary": 0.8, "bottleneck": 0.2}
    found = judge_formal(exact(truth, 5), DECLARED)
    got = [found.estimates[name].value for name in ("alpha", "beta", "gamma")]
    assert got == pytest.approx(list(truth.values()))
    assert found.estimates["r2_lofo_F3"].value == pytest.approx(1.0)
    assert found.estimates["r2_lofo_F4"].value == pytest.approx(1.0)


def test_least_squares_over_families_is_that_of_the_stacked_rows():
    families, _ = gather_rows(evidence(4, layers=12))
    stacked_x = np.vstack([f.models[0].design(ORIGINAL_TERMS) for f in families])
    stacked_y = np.concatenate([f.models[0].profile for f in families])
    expected, *_ = np.linalg.lstsq(stacked_x, stacked_y, rcond=None)
    assert moments(families, terms(ORIGINAL_TERMS)).slopes()[0] == pytest.approx(expected)


def test_r2_lofo_is_that_of_fits_without_the_family():
    families, _ = gather_rows(evidence(4, layers=12))
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
    families, _ = gather_rows(evidence(5, layers=12))
    lower, upper = (moments(families, terms(LADDER[name])) for name in ("F1", "F3"))
    assert gains(lower, upper).mean() == pytest.approx(upper.r2_lofo() - lower.r2_lofo())


def test_checkpoints_of_a_family_weigh_as_one():
    made = evidence(4, layers=12)
    twice = [*made, replace(made[0], model="again")]
    a, b = (ladder(e).r2_lofo("F3") for e in (made, twice))
    assert a == pytest.approx(b)
    assert judge_formal(twice, DECLARED).estimates["theta"].n == 4


def test_a_constant_or_a_level_of_a_language_changes_nothing():
    made = evidence(3, layers=12)
    louder = [
        replace(
            e, single=e.single * np.array([1.0, 3.0, 0.2, 5.0]), log_variance=e.log_variance + 7
        )
        for e in made
    ]
    assert ladder(made).r2_lofo("F3") == pytest.approx(ladder(louder).r2_lofo("F3"))


def test_held_out_stretches_of_a_straight_line_are_predicted_and_noise_is_not():
    line, _ = gather_rows(exact({"depth": 1.0}, 2, layers=12))
    assert r2_held_out_blocks(line, ("depth",)) == pytest.approx(1.0)
    noise, _ = gather_rows(evidence(6, layers=12))
    assert r2_held_out_blocks(noise, ORIGINAL_TERMS) < 0


def test_inflation_is_that_of_a_correlated_pair():
    families, _ = gather_rows(evidence(1, layers=12))
    model = families[0].models[0]
    a, b = model.predictors["variance"], model.predictors["bottleneck"]
    r2 = np.corrcoef(a, b)[0, 1] ** 2
    assert inflation(families, ("variance", "bottleneck")) == pytest.approx([1 / (1 - r2)] * 2)
    assert np.isinf(inflation(families, ("variance", "variance"))).all()


def test_wild_bootstrap_enumerates_signs_and_holds_its_rate():
    rng = np.random.default_rng(0)
    found, times = 0, 120
    for seed in range(times):
        families, _ = gather_rows(evidence(6, 1000 + seed, layers=8))
        p = wild_p(moments(families, terms(ORIGINAL_TERMS)), int(rng.integers(3)))
        assert (p * 2**6) == pytest.approx(round(p * 2**6))
        found += p < 0.05
    assert stats.binom.sf(found - 1, times, 0.06) > 1e-3, found
    families, _ = gather_rows(exact({"variance": 0.3}, 6))
    assert wild_p(moments(families, terms(ORIGINAL_TERMS)), 0) <= 2 / 2**6


def test_swapping_with_oneself_is_the_true_pairing():
    families, _ = gather_rows(evidence(4, layers=12))
    swaps = Swaps.of(families, terms(LADDER["F1"]), terms(ORIGINAL_TERMS))
    assert swaps.gains(np.arange(4)) == pytest.approx(gains(swaps.lower, swaps.upper))


def test_a_shared_depth_profile_is_found_by_t_but_not_by_the_swap():
    made = evidence(6, layers=12)
    same = [replace(e, log_variance=made[0].log_variance) for e in made]
    y = np.tile(made[0].log_variance[:, None], (1, 3))
    rng = np.random.default_rng(1)
    shared = [with_response(e, y + 0.1 * rng.normal(size=y.shape), rng, 0.0) for e in same]
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
    assert "dominated by a second-order error budget" in found.sentence
    assert found.verdict.label != "supported"


def test_sensitivities_of_another_model_forecast_nothing():
    one, other = evidence(2)
    [row] = judge_formal([replace(one, sensitivity=other.sensitivity)], DECLARED).tables["f0"]
    assert row["r2"] < 0


def test_the_origins_rung_wins_on_masks_where_sensitivities_are_noise():
    made = exact({"variance": 0.5, "boundary": 1.0, "bottleneck": 0.5}, 5)
    rng = np.random.default_rng(0)
    blurred = [
        replace(e, sensitivity=e.sensitivity * np.exp(rng.normal(size=e.sensitivity.shape)))
        for e in made
    ]
    found = judge_formal(blurred, DECLARED)
    f0, f3 = (found.estimates[f"r2_masks_{rung}"].value for rung in ("F0", "F3"))
    assert f0 is not None and f3 is not None and f3 > f0
    assert "dominated" not in found.sentence


# -- verdict --------------------------------------------------------------------------------------


def test_a_planted_theory_is_supported():
    tally = rates(LOUD, 4, DECLARED, seed=20)
    assert tally.labels["supported"] >= 3, tally
    assert tally.gain == pytest.approx(LOUD.gain, abs=0.04)


@pytest.mark.parametrize(
    "world",
    [
        TheoryWorld(truth="nuisance", families=6, kind="trend", shared=1.5, noise=0.1),
        TheoryWorld(truth="budget", families=5, layers=(12, 8)),
    ],
)
def test_a_nuisance_that_is_smooth_in_depth_is_not_supported(world):
    assert rates(world, 6, DECLARED, seed=40).labels["supported"] == 0


def test_a_theory_of_the_wrong_sign_is_not_supported_whatever_it_gains():
    truth = {"variance": -0.4, "boundary": 0.9, "bottleneck": 0.4}
    made = exact(truth, 8, layers=12)
    rng = np.random.default_rng(0)
    noisy = [
        with_response(e, e.log_ratio + 0.1 * rng.normal(size=e.log_ratio.shape), rng, 0.0)
        for e in made
    ]
    found = judge_formal(noisy, DECLARED)
    assert found.estimates["theta"].low > 0.05
    assert found.verdict.label == "inconclusive"
    assert found.estimates["alpha"].high < 0


def test_few_families_are_described_and_no_more():
    found = judge_formal(evidence(1, layers=12), DECLARED)
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
    made[1] = replace(made[1], log_dimension=np.full(8, np.nan))
    found = judge_formal(made, DECLARED)
    assert found.estimates["theta"].n == 2
    assert {row["model"] for row in found.tables["left_out"]} == {made[1].model}
    assert "bottleneck" in found.tables["left_out"][0]["reason"]


def test_judging_is_deterministic_and_holds_no_nan():
    made = evidence(5, layers=12)
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


def test_the_positive_control_fails_where_noise_would_hide_the_effect():
    quiet = judge_formal(make_families(LOUD, 1), DECLARED)
    assert control(quiet, "positive").passed is True
    hidden = judge_formal(make_families(TheoryWorld(noise=0.5), 1), DECLARED)
    assert control(hidden, "positive").passed is False


def test_halves_of_the_languages_that_disagree_fail_the_control():
    made = make_families(LOUD, 2)
    rng = np.random.default_rng(0)
    split = []
    for one in made:
        y = one.log_ratio
        y[:, 1::2] = rng.normal(size=y[:, 1::2].shape)
        y[:, 0::2] = (one.log_variance - 2 * one.log_dimension)[:, None]
        split.append(with_response(one, y, rng, 0.0))
    assert control(judge_formal(made, DECLARED), "negative", "A/A").passed is True
    assert control(judge_formal(split, DECLARED), "negative", "A/A").passed is False
