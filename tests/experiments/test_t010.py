"""T-010: slopes that no design or missing language can fake, and a judge that can say all four."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus

from bitgap.errors import UsageError
from bitgap.experiments import t010_rate_distortion as t010
from bitgap.experiments.t010_rate_distortion import fits as rate_fits
from bitgap.experiments.t010_rate_distortion.controls import frontier_rows
from bitgap.experiments.t010_rate_distortion.fits import DAMAGE, GAP, RATIO, Fits
from bitgap.experiments.t010_rate_distortion.judge import UNITS, sweep_statistic
from bitgap.experiments.t010_rate_distortion.plans import at_bits, designs, protection_orders
from bitgap.experiments.t010_rate_distortion.sweep import Sweep, evened_mean, rate_of, slope_weights
from bitgap.experiments.t010_rate_distortion.twins import frontier
from bitgap.quant.schemes import bits_per_weight, parse_scheme
from bitgap.records import Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights
from harness import (
    QUICK,
    assert_null,
    assert_planted,
    control,
    covers,
    kept_scores,
    over_sentences,
)

BLOCKS, LANGUAGES, SENTENCES = 8, 3, 12
BITS = np.array([2, 3, 4, 5, 6, 8])
DESIGNS = designs(protection_orders(-np.arange(8.0), 1, 0), (0.25, 0.5))
KEPT = np.array([np.isin(np.arange(BLOCKS), kept) for _, kept in DESIGNS])
SIZES, DRAWS = (0.02, 0.1), 1


# -- observations whose truth is known ------------------------------------------------------------


def formed(*, slope: float, exponent: float, c: float, c_ratio: float) -> Floats:
    """K (P x A) of the origin's form: log2 of the ratio falls by ``slope`` a bit."""
    bits, share = np.repeat(BITS, len(KEPT)), np.tile(KEPT.mean(1), len(BITS))
    reference = 40 * 2.0 ** (-exponent * bits) * (1 - c * share)
    ratio = 2 ** (-slope * (bits - 5.0)) * (1 - c_ratio * share)
    factors = np.array([0.5, 3.0])
    return np.column_stack([reference, *(f * reference * ratio for f in factors)])


def observe(
    seed: int = 0,
    *,
    slope: float = 1.0,
    exponent: float = 2.0,
    c: float = 0.8,
    c_ratio: float = 0.9,
    untrained: float = 0.0,
    least: float = 1.5,
    own_spread: float = 0.01,
    damage: Floats | None = None,
    t2: Floats | None = None,
    alpha: Floats | None = None,
    plantings: int = 5,
    **text: Any,
) -> Observations:
    """Observations in which the log2 ratio of the other languages falls by ``slope`` a bit."""
    rng = np.random.default_rng(seed)
    if damage is None:
        damage = formed(slope=slope, exponent=exponent, c=c, c_ratio=c_ratio)
    t2 = np.outer(4.0**-BITS, np.ones(BLOCKS)) if t2 is None else t2
    alpha = np.ones((BLOCKS, LANGUAGES)) if alpha is None else alpha
    noise = (alpha[:, None] * np.array(SIZES)[:, None] ** 2).reshape(-1, LANGUAGES)
    arrays, facts = kept_scores(
        {
            "cells": scattered(rng, damage, own_spread),
            "noise": np.repeat(noise[..., None], SENTENCES, axis=-1),
        },
        **text,
    )
    bits = BITS[:, None].astype(float)
    twin = (
        2.0 ** (-2 * bits)
        * np.array([[1.0, 1.0, 1.0]])
        * 2 ** (-untrained * bits * np.array([[0.0, 1.0, 1.0]]))
    )
    return Observations(
        experiment=t010.ID,
        version=1,
        arrays={
            **arrays,
            "levels": BITS,
            "kept": KEPT.astype(np.int64),
            "rate": np.repeat(BITS + 0.125, len(KEPT)) + 8 * np.tile(KEPT.mean(1), len(BITS)),
            "t2": t2,
            "worth": np.arange(BLOCKS, 0.0, -1),
            "random_kl": scattered(rng, twin, 0.01),
            "frontier_rate": np.tile(BITS + 0.125, (2, 1)),
            "frontier_error": np.tile(4.0**-BITS, (2, 1)),
            "frontier_gaussian": np.tile(2 * 4.0**-BITS, (2, 1)),
            "frontier_least": np.full((2, len(BITS)), least),
        },
        facts={
            **facts,
            "scheme": "rtn3-g128",
            "bits": 3,
            "n_blocks": BLOCKS,
            "orders": [name for name, _ in DESIGNS],
            "params": {
                "noise": list(SIZES),
                "noise_seeds": DRAWS,
                "planted_seeds": plantings,
                "exponent_range": [1.5, 2.5],
            },
        },
    )


def scattered(rng: np.random.Generator, totals: Floats, own_spread: float) -> Floats:
    """Values (P x A x N) about totals (P x A); most scatter is shared by all cells."""
    n_plans, n_languages = totals.shape
    shared = over_sentences(rng, np.ones(n_plans), n_languages, SENTENCES, own_spread=own_spread)
    return totals[..., None] * shared


@pytest.fixture
def few_models(monkeypatch):
    """What many verdicts are made with: the slope decides, and the fits cost most of the time."""
    monkeypatch.setattr(rate_fits, "MODELS", ("M0", "M1"))


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_a_planted_slope(few_models):
    assert_planted(t010.EXPERIMENT.judge, observe, seeds=range(5))


def test_judge_refutes_where_damage_has_exponent_two_and_the_ratio_is_flat(few_models):
    assert_planted(
        t010.EXPERIMENT.judge, lambda s: observe(s, slope=0.0), seeds=range(5), label="refuted"
    )
    finding = t010.EXPERIMENT.judge(observe(slope=0.0), QUICK)
    assert "governs damage, not its ratio" in finding.sentence
    assert covers(finding.estimates["minus_slope"], 0.0)
    assert finding.estimates["exponent"].value == pytest.approx(2, abs=0.05)
    assert finding.estimates["exponent_unprotected"].value == pytest.approx(2, abs=0.05)


def test_judge_supports_no_slope_that_is_not_there(few_models):
    def make(seed: int) -> Observations:
        return observe(seed, slope=0.0, own_spread=4.0, plantings=1)

    # So noisy that the interval reaches past the smallest effect.
    quick = replace(QUICK, draws=150)
    found = [
        t010.EXPERIMENT.judge(make(seed), quick).estimates["minus_slope"].high for seed in range(3)
    ]
    assert max(high for high in found if high is not None) > 0.5
    assert_null(t010.EXPERIMENT.judge, make, seeds=range(20), thresholds=quick)


def test_a_flat_ratio_of_damage_that_follows_no_law_is_inconclusive(few_models):
    finding = t010.EXPERIMENT.judge(observe(slope=0.0, exponent=1.0), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "outside [1.5, 2.5]" in finding.verdict.reason


def test_disparity_that_rises_with_bits_refutes_whatever_damage_does(few_models):
    finding = t010.EXPERIMENT.judge(observe(slope=-1.0, exponent=1.0), QUICK)
    assert finding.verdict.label == "refuted"
    assert finding.sentence.startswith("Disparity rises with bits")


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"c_ratio": -0.5}, "c is not clearly above 0"),
        ({"untrained": 1.0}, "a control failed: random-init twin"),
        ({"least": 0.9}, "a control failed: Gaussian weights against D(R)"),
        ({"slope": 0.4, "own_spread": 2.0}, "neither clearly above 0"),
    ],
)
def test_each_clause_alone_keeps_support_back(few_models, change, clause):
    finding = t010.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_a_form_that_the_best_model_beats_is_not_supported():
    # Damage of the others saturates: a slope there is, but not the origin's.
    bits = np.repeat(BITS, len(KEPT))
    damage = formed(slope=0.0, exponent=2.0, c=0.8, c_ratio=0.5)
    damage[:, 1:] /= (1 + 2 ** (2.0 * (bits - 4.5)))[:, None]
    found = observe(damage=damage)
    holds, told = Fits(Sweep.of(found)).original_form_holds()
    assert not holds
    assert "behind M4" in told
    finding = t010.EXPERIMENT.judge(found, QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "behind M4" in finding.verdict.reason


def test_no_slope_is_planted_where_all_collapsed(few_models):
    finding = t010.EXPERIMENT.judge(observe(collapsed=range(LANGUAGES)), QUICK)
    assert control(finding, "a slope").passed is None


def test_a_planting_is_missed_where_sentences_are_too_noisy(few_models):
    finding = t010.EXPERIMENT.judge(observe(own_spread=4.0), QUICK)
    assert control(finding, "a slope").passed is False
    assert control(t010.EXPERIMENT.judge(observe(), QUICK), "a slope").passed is True


def test_tables_hold_every_cell_and_model_and_what_fitting_cannot_test():
    finding = t010.EXPERIMENT.judge(observe(), QUICK)
    assert "not testable by fitting" in finding.tables["fundamental_bound"]
    assert {row["model"] for row in finding.tables["models"]} == {"M0", "M1", "M2", "M3", "M4"}
    assert len(finding.tables["cells"]) == len(BITS) * len(KEPT)


def test_the_original_measure_is_the_form_fitted_to_d_original(few_models):
    found = t010.EXPERIMENT.judge(observe(), QUICK).original_measure
    assert set(found) == {"original_a", "original_b", "original_c", "original_r2"}
    r2 = found["original_r2"].value
    assert r2 is not None
    assert 0.5 < r2 <= 1


# -- slopes and targets ---------------------------------------------------------------------------


def test_planted_slope_exponent_and_form_are_recovered(few_models):
    finding = t010.EXPERIMENT.judge(observe(slope=0.7, exponent=1.9, c_ratio=0.9), QUICK)
    found = finding.estimates
    for name, truth in (
        ("minus_slope", 0.7),
        ("minus_slope_unprotected", 0.7),
        ("b", 0.7),
        ("c", 0.9),
        # Two of three languages fall by the slope on top of the exponent.
        ("exponent", 1.9 + 0.7 * 2 / 3),
    ):
        assert found[name].value == pytest.approx(truth, rel=0.05), name


def test_damage_that_goes_with_weight_error_has_exponent_two_in_levels_and_more_in_bits(few_models):
    q = np.repeat(2.0 ** (BITS - 1) - 1, len(KEPT))
    damage = (1 - 0.5 * np.tile(KEPT.mean(1), len(BITS)))[:, None] / q[:, None] ** 2 * np.ones(3)
    found = t010.EXPERIMENT.judge(observe(damage=damage), QUICK).estimates
    assert found["exponent_per_doubling"].value == pytest.approx(2, abs=0.02)
    exponent = found["exponent"].value
    assert exponent is not None
    assert 2.2 < exponent < 2.5


def test_dropped_cells_and_designs_move_no_slope():
    rng = np.random.default_rng(0)
    bits, design = np.repeat(BITS.astype(float), 4), np.tile(np.arange(4), len(BITS))
    levels, truth = 5 * rng.normal(size=(4, 3)), np.array([-1.0, 0.0, 2.0])
    values = levels[design] + bits[:, None] * truth
    mask = rng.random(values.shape) > 0.3
    found = (np.where(mask, values, 0) * slope_weights(bits, design, mask)).sum(0)
    np.testing.assert_allclose(found, truth, atol=1e-12)
    # Pooled without designs, what is missing would pass for a slope.
    pooled = (np.where(mask, values, 0) * slope_weights(bits, 0 * design, mask)).sum(0)
    assert np.abs(pooled - truth).max() > 0.1


def test_a_missing_language_moves_no_mean():
    levels, own = np.arange(5.0), np.array([-4.0, 0.0, 4.0])
    values = levels[:, None] + own
    whole = np.ones(values.shape, bool)
    missing = whole.copy()
    missing[1, 2] = False
    np.testing.assert_allclose(evened_mean(values, whole), levels)
    assert evened_mean(values, missing)[1] == pytest.approx(1, abs=0.8)
    assert np.where(missing, values, 0)[1].sum() / 2 == pytest.approx(-1)


def test_m2_is_exact_where_damage_is_quadratic():
    rng = np.random.default_rng(1)
    alpha, t2 = (
        rng.gamma(2, 1, (BLOCKS, LANGUAGES)),
        rng.gamma(2, 1, BLOCKS) * 4.0 ** -BITS[:, None],
    )
    t2 = np.broadcast_to(t2, (len(BITS), BLOCKS))
    free = np.where(KEPT, 0.0, 1.0)
    damage = np.concatenate([(free * row) @ alpha for row in t2])
    found = observe(damage=damage, alpha=alpha, t2=t2)
    # No scatter at all: each sentence is the sum.
    found.arrays["cells_kl"][:] = damage[..., None]
    found.arrays["cells_nll"][:] = found.arrays["nll_fp"] + damage[..., None]
    fits = Fits(Sweep.of(found))
    for target in (DAMAGE, RATIO):
        cells = fits.targets[target]
        np.testing.assert_allclose(cells.forecast, cells.values, atol=1e-9)
    np.testing.assert_allclose(fits.targets[GAP].forecast, fits.targets[GAP].values, rtol=1e-9)
    best = fits.behind_best(DAMAGE, "M1")
    assert best is not None
    assert best[0] == "M2"


def test_intervals_hold_the_planted_slope():
    sweep = Sweep.of(observe(3, slope=0.4, own_spread=0.3))
    draws = sweep_statistic(sweep)(bootstrap_weights(SENTENCES, 200, 0))
    assert draws.shape == (200, len(UNITS))
    low, high = np.quantile(draws[:, 0], [0.005, 0.995])
    assert low <= 0.4 <= high


# -- plans, rates and quantizers ------------------------------------------------------------------


def test_designs_are_of_rounded_sizes_and_no_set_is_there_twice():
    orders = protection_orders(np.array([1.0, 9, 3, 2]), 3, 0)
    assert orders["Shapley"] == (1, 2, 3, 0)
    assert orders["reverse"] == (0, 3, 2, 1)
    made = designs(orders, (0.1, 0.3, 0.5))
    assert made[0] == ("none", ())
    assert ("Shapley", (1,)) in made
    assert ("Shapley", (1, 2)) in made
    sets = [kept for _, kept in made]
    assert len(set(sets)) == len(sets)
    assert max(map(len, sets)) == 2


def test_rate_counts_scales_and_protected_blocks():
    lab = make_lab("gpt2", blocks=4)
    shapes = [tuple(v.get().shape) for v in lab.decoder.block_linears(0).values()]
    sizes = np.array([np.prod(shape) for shape in shapes])
    one = np.average([bits_per_weight(parse_scheme("rtn3-g32"), s) for s in shapes], weights=sizes)
    assert one > 3.4
    found = rate_of(lab.decoder, "rtn4-g32", [3, 8], [(), (0,), (0, 1)])
    np.testing.assert_allclose(found[:3], [one, (3 * one + 16) / 4, (one + 16) / 2])
    np.testing.assert_allclose(found[3:] - found[:3], [5, 3.75, 2.5])


@pytest.mark.parametrize("scheme", ["fp", "noise0.05-s0"])
def test_a_scheme_without_bits_is_refused(scheme):
    with pytest.raises(UsageError, match="rtn4-g128"):
        at_bits(scheme, 3)


def test_schemes_keep_their_grain_and_clipping():
    assert at_bits("rtn3-g64-mse", 5) == "rtn5-g64-mse"
    assert at_bits("seed4", 8) == "seed8"


def test_quantizers_stay_above_the_bound_and_fall_six_decibels_a_bit():
    found = frontier(make_lab("gpt2", blocks=2).decoder, "rtn4-channel", [3, 5, 8], 32)
    assert found["frontier_least"].min() > 1
    slope = np.diff(10 * np.log10(found["frontier_gaussian"][0])) / [2, 3]
    # q = 2^(b−1) − 1, so a little more than 6.02 a bit.
    np.testing.assert_allclose(slope, -6.02, atol=1.0)
    plain, clipped = found["frontier_error"]
    assert (clipped <= plain * (1 + 1e-9)).all()
    assert found["frontier_rate"][0, 0] == pytest.approx(3, abs=0.6)


def test_frontier_names_what_lies_over_the_bound():
    rows = frontier_rows(observe())
    assert len(rows) == 2 * len(BITS)
    assert rows[0]["gaussian_over_bound_db"] == pytest.approx(
        10 * np.log10(2) + 20 * np.log10(2) * 0.125
    )


# -- on a model -----------------------------------------------------------------------------------


def test_a_random_model_is_measured_and_not_testable():
    lab = make_lab("gpt2", blocks=4, corpus=write_corpus(4, ("en", "de")))
    params = t010.Params(
        bits=(2, 3, 4, 8), shares=(0.5,), random_orders=1, noise=(0.1,), noise_seeds=1,
        planted_seeds=2, control_sentences=2, frontier_rows=4,
    )  # fmt: skip
    measured = t010.EXPERIMENT.measure(lab, "rtn4-g32", params)
    finding = t010.EXPERIMENT.judge(measured, QUICK)
    # A random model is worse than unigrams in every language.
    assert finding.verdict.label == "not testable"
    assert control(finding, "Gaussian").passed is True
    assert measured.arrays["rate"].shape == (4 * len(measured.facts["orders"]),)
