"""The controls that could make T-006's correlations worthless. Pure numpy.

=============  ====================================================  ===========================
halves         random halves of the reference's text                 must not differ
other pairs    the median correlation of all other pairs             must not cancel too
stochastic     rounding up or down at random: independent, unbiased  must not cancel on average
random         fresh weights as the class draws them                 must not cancel
cancelling     ±δ in both rounded ends (P3) that makes −ρ .2         must be found
=============  ====================================================  ===========================

The last two are run under both rules for scales, and each guards its own part. Rounding to the
largest weight shrinks weights, which gives errors of all blocks a part in common and so a
correlation above 0; clipping shrinks otherwise. What must not cancel is a condition for support,
and says nothing against a refutation.
"""

from __future__ import annotations

import numpy as np

from bitgap.experiments.protocol.controls import RANDOM_TWIN, absent, must_not_show, not_run
from bitgap.experiments.protocol.effects import control_units, planted, twin_control
from bitgap.experiments.t006_error_cancellation.statistic import (
    FEWEST_DRAWS,
    NullDraws,
    minus_rho,
    other_pairs,
)
from bitgap.records import Bools, Control, Floats, Observations, Units
from bitgap.stats.bootstrap import estimate
from bitgap.stats.verdicts import Thresholds

P3 = "P3: errors of the first and last block that cancel"


def shared_controls(
    observations: Observations, null: NullDraws | None, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the hypothesis as a whole.

    Args:
        observations: As T-006 measures them.
        null: Draws of stochastic rounding, if any.
        thresholds: What was declared.
    """
    name, why = "stochastic rounding", f"fewer than {FEWEST_DRAWS} draws that differ"
    if null is None:
        why = str(observations.facts.get("no_stochastic", why))
        return [not_run(name, "negative", why)]
    detail = "a condition for support: independent unbiased errors should not cancel on average"
    sesoi = thresholds.of("H2.3")["sesoi"]
    return [must_not_show(name, null.mean, sesoi, detail)]


def other_pairs_control(gram: Floats, units: Units, thresholds: Thresholds) -> Control:
    """Returns the control that other pairs of blocks must not cancel too.

    Args:
        gram: Inner products, (A x N x L x L).
        units: Sentences or documents.
        thresholds: What was declared.
    """
    name = "all other pairs of blocks"
    if gram.shape[-1] < 3:
        return not_run(name, "negative", "there is no other pair of blocks")
    median = estimate(other_pairs(gram), units, unit="-rho", **thresholds.how)
    detail = (
        "a condition for support: their median should not cancel, or it is no matter of the first "
        "and the last"
    )
    return must_not_show(name, median, thresholds.of("H2.3")["sesoi"], detail)


def controls_of_rounding(
    observations: Observations, row: int, rule: str, languages: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the part that is judged under one rule for scales.

    Args:
        observations: As T-006 measures them.
        row: 0 for the scheme's own rule, 1 for the other.
        rule: What it is called.
        languages: Those the inner products are summed over, (A).
        thresholds: What was declared.
    """
    sesoi, plantings = thresholds.of("H2.3")["sesoi"], ("cancelling", "cancelling_other")[row]
    name = f"{P3}, {rule}"

    def of_few(gram: Floats) -> Floats:
        return gram.astype(np.float64)

    untrained = twin_control(
        observations,
        "random",
        f"{RANDOM_TWIN}, {rule}",
        lambda arrays: minus_rho(
            of_few(arrays["random_gram"][row][languages]),
            control_units(observations, arrays["random_gram"].shape[2]),
            thresholds,
        ),
        sesoi=sesoi,
        detail="a condition for support: errors of an untrained twin should not cancel",
    )
    grams = observations.arrays.get(f"{plantings}_gram")
    if grams is None:
        why = absent(observations.facts, "cancelling")
        return [untrained, not_run(name, "positive", why)]
    units = control_units(observations, grams.shape[2])
    found = [minus_rho(of_few(gram), units, thresholds) for gram in grams]
    return [untrained, planted(name, found, sesoi, thresholds)]
