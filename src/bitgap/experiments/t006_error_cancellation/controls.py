"""The correlations of T-006, and the controls that could make them worthless.

=============  ====================================================  ===========================
other pairs    the median correlation of all other pairs             must not cancel too
stochastic     rounding up or down at random: independent, unbiased  must not cancel on average
clipped        scales clipped to the least squared error             must agree with rounding
random         fresh weights as the class draws them                 must not cancel
halves         even against odd sentences                            must not differ
cancelling     ±δ in the rounded first and last block (P3)           must cancel
=============  ====================================================  ===========================

Rounding to the largest weight shrinks weights, which gives errors of all blocks a part in common
and so a correlation above 0; clipping shrinks otherwise. Statistics are functions from bootstrap
weights (W x N) to (W x k). Pure numpy but for :func:`measure_controls`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    absent,
    clear,
    covers_zero,
    detection,
    not_run,
)
from bitgap.experiments.t006_error_cancellation.statistic import (
    _FEWEST_DRAWS,
    NullDraws,
    cancellation,
    other_pairs,
)
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import estimate, estimates
from bitgap.stats.verdicts import Thresholds

CLIPPED = "rounding clipped to the least squared error"


_AT_ONCE = 10
"""Draws of rounding, or plantings, whose states are held together, at most."""


def controls(
    observations: Observations,
    counts: Bools,
    theta: Estimate,
    null: NullDraws | None,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-006.

    Args:
        observations: With ``gram``, ``clipped_gram`` and the arrays of :func:`measure_controls`.
        counts: Languages the Gram is summed over, (A).
        theta: −ρ under the scheme itself.
        null: Draws of stochastic rounding, if any.
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    gram = arrays["gram"][counts].astype(np.float64)
    sesoi = thresholds.of("H2.3")["sesoi"]
    return [
        _others(gram, sesoi, thresholds),
        _stochastic(null, facts, sesoi),
        _clipped(arrays, facts["scheme"], counts, theta, sesoi, thresholds),
        _random(arrays, facts, counts, sesoi, thresholds),
        _halves(gram, thresholds),
        _planted(arrays, facts, thresholds),
    ]


def how(thresholds: Thresholds) -> dict[str, Any]:
    """Returns how intervals are made here."""
    return {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}


def minus_rho(gram: Floats, thresholds: Thresholds) -> Estimate:
    """Returns −ρ of the first and last error with its interval over sentences."""
    found = cancellation(gram)
    return estimate(lambda w: found(w)[:, :1], gram.shape[1], unit="-rho", **how(thresholds))


def _others(gram: Floats, sesoi: float, thresholds: Thresholds) -> Control:
    name = "all other pairs of blocks"
    if gram.shape[-1] < 3:
        return not_run(name, "negative", "there is no other pair of blocks")
    found = estimate(other_pairs(gram), gram.shape[1], unit="-rho", **how(thresholds))
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, sesoi),
        detail="their median should not cancel, or it is no matter of the first and the last",
        estimate=found,
    )


def _stochastic(null: NullDraws | None, facts: Mapping[str, Any], sesoi: float) -> Control:
    name = "stochastic rounding"
    if null is None:
        why = str(facts.get("no_stochastic", f"fewer than {_FEWEST_DRAWS} draws that differ"))
        return not_run(name, "negative", why)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(null.mean, sesoi),
        detail="independent unbiased errors should not cancel on average",
        estimate=null.mean,
    )


def _clipped(
    arrays: Mapping[str, Floats],
    scheme: str,
    counts: Bools,
    theta: Estimate,
    sesoi: float,
    thresholds: Thresholds,
) -> Control:
    if "clipped_gram" not in arrays:
        return not_run(CLIPPED, "negative", f"{scheme} has no clipped form")
    found = minus_rho(arrays["clipped_gram"][counts].astype(np.float64), thresholds)
    return Control(
        name=CLIPPED,
        kind="negative",
        passed=clear(found, sesoi) == clear(theta, sesoi),
        detail="errors should cancel exactly where they do under the scheme itself, or it is a "
        "matter of how weights shrink",
        estimate=found,
    )


def _random(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    counts: Bools,
    sesoi: float,
    thresholds: Thresholds,
) -> Control:
    name = "random-init twin"
    if "random_gram" not in arrays:
        return not_run(name, "negative", absent(facts, "random"))
    found = minus_rho(arrays["random_gram"][counts], thresholds)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, sesoi),
        detail="errors of an untrained twin should not cancel",
        estimate=found,
    )


def _halves(gram: Floats, thresholds: Thresholds) -> Control:
    """Compares even with odd sentences: two halves of one text have one truth."""
    name, n = "A/A: two halves of the sentences", gram.shape[1]
    if n < 4:
        return not_run(name, "negative", f"{n} sentences make no two halves")
    even = np.arange(n) % 2 == 0
    first, second = (cancellation(gram[:, half]) for half in (even, ~even))
    found = estimate(
        lambda w: first(w[:, even])[:, 0] - second(w[:, ~even])[:, 0], n, unit="difference of -rho",
        **how(thresholds),
    )  # fmt: skip
    said = "their difference should cover 0, or intervals over sentences are not to be trusted"
    return covers_zero(name, found, said)


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_gram" not in arrays:
        return not_run(name, "positive", absent(facts, "cancelling"))
    declared = thresholds.of("H2.3")
    found = []
    for gram in arrays["cancelling_gram"]:
        rho, share = estimates(
            cancellation(gram), gram.shape[1], unit="-rho, share", **how(thresholds)
        )
        enough = share.value is not None and share.value >= declared["cancelled_share"]
        found.append(clear(rho, declared["sesoi"]) and enough)
    return detection(name, found, "it should cancel clearly", thresholds)
