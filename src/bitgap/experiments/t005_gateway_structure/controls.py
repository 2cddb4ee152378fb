"""What T-005 makes of measures of weights, and the controls that could make it worthless.

========  ==========================================================  ===========================
random    fresh weights as the class draws them, several times        ends among the top no oftener
                                                                      than chance has it
shuffled  entries of every matrix in random order, several times      likewise, by spectra alone
planted   one outlier a group in v and o of both ends, function       the ends must stand out
          unchanged (P1)
========  ==========================================================  ===========================

Measuring reads weights; judging is pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from bitgap.experiments.protocol.controls import absent, detection, not_run
from bitgap.records import Control, Floats
from bitgap.stats.outlyingness import (
    decorrelated,
    outlyingness,
    pair_percentile,
    prediction_t,
)
from bitgap.stats.verdicts import Thresholds

PLANTED_KINDS = ("v", "o")


def percentile_of_ends(measures: Floats) -> float:
    """Returns the percentile of both ends among all pairs, every column once.

    Args:
        measures: (kinds x measures x L).
    """
    return float(_percentile(decorrelated(prediction_t(measures))))


def _percentile(z: Floats) -> float:
    columns = z.reshape(-1, z.shape[-1])
    outlying = outlyingness(columns, np.ones((1, len(columns))))
    return float(pair_percentile(outlying, (0, z.shape[-1] - 1))[0])


def controls(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    t: Floats,
    sesoi: float,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-005.

    Args:
        arrays: As T-005 measures them.
        facts: Likewise.
        t: The model's own, (kinds x measures x L).
        sesoi: Percentile from which the ends count as standing out.
        thresholds: What was declared.
    """
    return [
        _twins(arrays, facts, "random", "random-init twins", sesoi, thresholds),
        _twins(arrays, facts, "shuffled", "entries shuffled within matrices", sesoi, thresholds),
        _planted(arrays, facts, t, sesoi, thresholds),
    ]


def _twins(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    twin: str,
    name: str,
    sesoi: float,
    thresholds: Thresholds,
) -> Control:
    """Compares how often the ends of twins stand out with how often two of many blocks do."""
    if twin not in arrays or not len(arrays[twin]):
        return not_run(name, "negative", absent(facts, twin))
    columns = facts["spectral"] if twin == "shuffled" else slice(None)
    found = [percentile_of_ends(measures[:, columns]) for measures in arrays[twin]]
    hits, n = sum(p >= sesoi for p in found), len(found)
    chance = float(stats.binom.sf(hits - 1, n, 1 - sesoi))
    what = "spectra of their ends" if twin == "shuffled" else "their ends"
    return Control(
        name=name,
        kind="negative",
        passed=chance > thresholds.alpha,
        detail=f"{what} should be at percentile {sesoi:g} or above about {1 - sesoi:.0%} of the "
        f"time; {hits} of {n} were, at a mean of {np.mean(found):.2f}",
    )


def _planted(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    t: Floats,
    sesoi: float,
    thresholds: Thresholds,
) -> Control:
    name = "P1: both ends made fragile, function unchanged"
    if "planted" not in arrays:
        return not_run(name, "positive", absent(facts, "planted"))
    rows = [facts["kinds"].index(kind) for kind in PLANTED_KINDS]
    found = []
    for planted in arrays["planted"]:
        measures = arrays["measures"][rows].copy()
        measures[:, :, [0, -1]] = planted
        changed = t.copy()
        changed[rows] = prediction_t(measures)
        found.append(_percentile(decorrelated(changed)) >= sesoi)
    return detection(name, found, "both ends should stand out", thresholds)
