"""The controls that could make T-006's correlation worthless. Pure numpy.

=============  ====================================================  ===========================
other pairs    the median correlation of all other pairs             must not cancel too
stochastic     rounding up or down at random: independent, unbiased  must not cancel on average
clipped        scales clipped to the least squared error             must agree with rounding
random         fresh weights as the class draws them                 must not cancel
halves         even against odd sentences                            must not differ
cancelling     ±δ in the rounded first and last block (P3)           must cancel
=============  ====================================================  ===========================

Rounding to the largest weight shrinks weights, which gives errors of all blocks a part in common
and so a correlation above 0; clipping shrinks otherwise.
"""

from __future__ import annotations

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    clear,
    covers_zero,
    detection,
    must_agree,
    must_not_show,
    not_run,
)
from bitgap.experiments.t006_error_cancellation.statistic import (
    FEWEST_DRAWS,
    NullDraws,
    cancellation,
    minus_rho,
    other_pairs,
)
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import estimate, estimates
from bitgap.stats.verdicts import Thresholds

CLIPPED = "rounding clipped to the least squared error"


def controls(
    observations: Observations,
    languages: Bools,
    theta: Estimate,
    null: NullDraws | None,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-006.

    Args:
        observations: As T-006 measures them.
        languages: Those the inner products are summed over, (A).
        theta: −ρ under the scheme itself.
        null: Draws of stochastic rounding, if any.
        thresholds: What was declared.
    """
    gram = observations.arrays["gram"][languages].astype(np.float64)
    sesoi = thresholds.of("H2.3")["sesoi"]
    return [
        _others(gram, sesoi, thresholds),
        _stochastic(observations, null, sesoi),
        _clipped(observations, languages, theta, sesoi, thresholds),
        _random(observations, languages, sesoi, thresholds),
        _halves(gram, thresholds),
        _planted(observations, thresholds),
    ]


def _others(gram: Floats, sesoi: float, thresholds: Thresholds) -> Control:
    name = "all other pairs of blocks"
    if gram.shape[-1] < 3:
        return not_run(name, "negative", "there is no other pair of blocks")
    median = estimate(other_pairs(gram), gram.shape[1], unit="-rho", **thresholds.how)
    detail = "their median should not cancel, or it is no matter of the first and the last"
    return must_not_show(name, median, sesoi, detail)


def _stochastic(observations: Observations, null: NullDraws | None, sesoi: float) -> Control:
    name, why = "stochastic rounding", f"fewer than {FEWEST_DRAWS} draws that differ"
    if null is None:
        return not_run(name, "negative", str(observations.facts.get("no_stochastic", why)))
    detail = "independent unbiased errors should not cancel on average"
    return must_not_show(name, null.mean, sesoi, detail)


def _clipped(
    observations: Observations,
    languages: Bools,
    theta: Estimate,
    sesoi: float,
    thresholds: Thresholds,
) -> Control:
    gram = observations.arrays.get("clipped_gram")
    if gram is None:
        return not_run(CLIPPED, "negative", f"{observations.facts['scheme']} has no clipped form")
    clipped = minus_rho(gram[languages].astype(np.float64), thresholds)
    detail = (
        "errors should cancel exactly where they do under the scheme itself, or it is a matter of "
        "how weights shrink"
    )
    return must_agree(CLIPPED, clipped, theta, sesoi, detail)


def _random(
    observations: Observations, languages: Bools, sesoi: float, thresholds: Thresholds
) -> Control:
    gram = observations.arrays.get("random_gram")
    if gram is None:
        return not_run(RANDOM_TWIN, "negative", absent(observations.facts, "random"))
    untrained = minus_rho(gram[languages], thresholds)
    return must_not_show(
        RANDOM_TWIN, untrained, sesoi, "errors of an untrained twin should not cancel"
    )


def _halves(gram: Floats, thresholds: Thresholds) -> Control:
    """Compares even with odd sentences: two halves of one text have one truth."""
    name, n = "A/A: two halves of the sentences", gram.shape[1]
    if n < 4:
        return not_run(name, "negative", f"{n} sentences make no two halves")
    even = np.arange(int(n)) % 2 == 0
    first, second = (cancellation(gram[:, half]) for half in (even, ~even))

    def difference(weights: Floats) -> Floats:
        return first(weights[:, even])[:, 0] - second(weights[:, ~even])[:, 0]

    halves = estimate(difference, n, unit="difference of -rho", **thresholds.how)
    detail = "their difference should cover 0, or intervals over sentences are not to be trusted"
    return covers_zero(name, halves, detail)


def _planted(observations: Observations, thresholds: Thresholds) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_gram" not in observations.arrays:
        return not_run(name, "positive", absent(observations.facts, "cancelling"))
    declared, detected = thresholds.of("H2.3"), list[bool]()
    for gram in observations.arrays["cancelling_gram"]:
        rho, share = estimates(
            cancellation(gram), gram.shape[1], unit="-rho, share", **thresholds.how
        )
        enough = share.value is not None and share.value >= declared["cancelled_share"]
        detected.append(clear(rho, declared["sesoi"]) and enough)
    return detection(name, detected, "it should cancel clearly", thresholds)
