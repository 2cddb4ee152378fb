"""The controls that could make T-005's percentile worthless. Pure numpy.

========  ==========================================================  ===========================
random    fresh weights as the class draws them, several times        ends among the top no oftener
                                                                      than chance has it
shuffled  entries of every matrix in random order, several times      likewise, by spectra alone
planted   one outlier a group in v and o of both ends, function       the ends must stand out
          unchanged (P1), at percentile .95
========  ==========================================================  ===========================

The first two are conditions for support and say nothing against a refutation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from bitgap.experiments.protocol.controls import absent, detection, not_run
from bitgap.records import Control, Floats, Observations
from bitgap.stats.outlyingness import decorrelated, outlyingness, pair_percentile, prediction_t
from bitgap.stats.verdicts import Thresholds

PLANTED_KINDS = ("v", "o")


def controls(observations: Observations, t: Floats, thresholds: Thresholds) -> list[Control]:
    """Returns the controls of T-005.

    Args:
        observations: As T-005 measures them.
        t: The model's own, (kinds x measures x L).
        thresholds: What was declared.
    """
    return [
        _twins(observations, "random", "random-init twins", thresholds),
        _twins(observations, "shuffled", "entries shuffled within matrices", thresholds),
        _planted(observations, t, thresholds),
    ]


def _twins(observations: Observations, twin: str, name: str, thresholds: Thresholds) -> Control:
    """Compares how often the ends of twins stand out with how often two of many blocks do."""
    measured, facts = observations.arrays.get(twin, ()), observations.facts
    if not len(measured):
        return not_run(name, "negative", absent(facts, twin))
    sesoi = thresholds.of("H2.2")["sesoi"]
    columns = facts["spectral"] if twin == "shuffled" else slice(None)
    percentiles = [percentile_of_ends(prediction_t(measures[:, columns])) for measures in measured]
    hits, n = sum(p >= sesoi for p in percentiles), len(percentiles)
    what = "spectra of their ends" if twin == "shuffled" else "their ends"
    return Control(
        name=name,
        kind="negative",
        passed=float(stats.binom.sf(hits - 1, n, 1 - sesoi)) > thresholds.alpha,
        detail=f"a condition for support: {what} should be at percentile {sesoi:g} or above about "
        f"{1 - sesoi:.0%} of the time; {hits} of {n} were, at a mean of {np.mean(percentiles):.2f}",
    )


def _planted(observations: Observations, t: Floats, thresholds: Thresholds) -> Control:
    """Puts measures of planted ends in the place of the model's, and ranks anew."""
    name, arrays = "P1: both ends made fragile, function unchanged", observations.arrays
    if "planted" not in arrays:
        return not_run(name, "positive", absent(observations.facts, "planted"))
    sesoi = thresholds.of("H2.2")["sesoi"]
    kinds = observations.facts["kinds"]
    found = [planted_percentile(arrays["measures"], t, one, kinds) for one in arrays["planted"]]
    # A percentile has no twice the SESOI: half as far from 1 is twice as far out.
    asked, median = 1 - (1 - sesoi) / thresholds.planted_strength, float(np.median(found))
    factor = observations.facts["planted_factor"]
    sought = (
        f"planted by a factor of {factor:g} at a median percentile of {median:.2f}, {asked:.2f} "
        f"asked for, both ends should be at {sesoi:g} or above"
    )
    return detection(name, [p >= sesoi for p in found], sought, thresholds)


def planted_percentile(measures: Floats, t: Floats, planted: Floats, kinds: Sequence[str]) -> float:
    """Returns the percentile of both ends where planted measures stand in the place of their own.

    Args:
        measures: The model's, (kinds x measures x L).
        t: Of the same, :func:`~bitgap.stats.outlyingness.prediction_t`.
        planted: Of v and o at both ends, (2 x measures x 2).
        kinds: Names of the kinds.
    """
    rows = [list(kinds).index(kind) for kind in PLANTED_KINDS]
    values, changed = measures[rows].copy(), t.copy()
    values[:, :, [0, -1]] = planted
    changed[rows] = prediction_t(values)
    return percentile_of_ends(changed)


def percentile_of_ends(t: Floats) -> float:
    """Returns the percentile of both ends among all pairs of blocks, every column once.

    Args:
        t: (kinds x measures x L).
    """
    z = decorrelated(t)
    columns = z.reshape(-1, z.shape[-1])
    outlying = outlyingness(columns, np.ones((1, len(columns))))
    return float(pair_percentile(outlying, (0, z.shape[-1] - 1))[0])
