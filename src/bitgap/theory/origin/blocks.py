"""The origin's numbers that have a value for each block: correlations, regression, tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from bitgap.records import Estimate, Floats
from bitgap.stats.profiles import depths
from bitgap.theory.origin.claims import NO_SAMPLING, Table, Untestable
from bitgap.theory.origin.readings import (
    Measure,
    Readings,
    Statistic,
    correlation,
    layer_correlation,
)
from bitgap.theory.origin.record import Case, Sampled, sized

KINDS = ("mlp", "attention", "only")
"""Profiles of what is left with one block, or half of it, protected."""


def _left_by_block(case: Case, readings: Readings, measure: Measure, kind: str) -> Statistic:
    """Returns the disparity left with one block, or half of it, protected: weights to (W x L)."""
    plans = [f"{kind}-{block}" for block in range(case.n_blocks)]
    for plan in plans:
        readings.row(plan)
    return lambda weights: sized(readings.value(measure, plans, weights), measure)


def _point(case: Case, readings: Readings, measure: Measure, kind: str = "only") -> Floats:
    ones = np.ones((1, readings.scores.n_sentences))
    return _left_by_block(case, readings, measure, kind)(ones)[0]


def _profile(case: Case, name: str) -> Floats:
    if name not in case.profiles:
        raise Untestable(f"the {name} of blocks was not measured")
    return case.profiles[name]


def variance(case: Case, readings: Readings, measure: Measure) -> Estimate:
    """Returns how blocks' variance goes with the disparity left when each alone is protected.

    Raw variance and plain correlation as in the origin; gauge-fixed and detrended in ours.
    """
    x = _profile(case, "variance" if measure == "seed" else "log_variance_fixed")
    return layer_correlation(x, _point(case, readings, measure), measure)


def snr(case: Case, readings: Readings, measure: Measure) -> Estimate:
    """Returns how blocks' signal-to-noise ratio goes with the disparity left, as above."""
    x = _profile(case, "snr_seed" if measure == "seed" else "snr_disparity")
    return layer_correlation(x, _point(case, readings, measure), measure)


def design_of(case: Case) -> Floats:
    """Returns the origin's regressors, (L x 5): constant, variance, outliers, sparsity, position.

    Predictors run from 0 to 1, as ``norm`` did in the origin.

    Raises:
        Untestable: If fewer than two blocks more than that.
    """
    n = case.n_blocks
    columns = [_profile(case, name) for name in ("variance", "outlier_ratio", "sparsity")]
    if n < 7:
        raise Untestable(f"{n} blocks are too few for four predictors and a constant")
    scaled = [(x - x.min()) / (np.ptp(x) or 1.0) for x in (*columns, depths(n))]
    return np.stack([np.ones(n), *scaled], axis=1)


def regression(design: Floats, response: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns R², leave-one-out R² and coefficients of many regressions on one design.

    Leave-one-out residuals by way of the leverages, which is exact.

    Args:
        design: (n x k).
        response: (W x n).
    """
    hat = design @ np.linalg.pinv(design)
    residuals = response - response @ hat.T
    total = ((response - response.mean(1, keepdims=True)) ** 2).sum(1)
    # Each block against the mean of the others, as it is against a fit of the others.
    n = len(design)
    outside = total * (n / (n - 1)) ** 2
    left_out = residuals / np.clip(1 - np.diag(hat), 1e-12, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2, loo = 1 - (residuals**2).sum(1) / total, 1 - (left_out**2).sum(1) / outside
    return r2, loo, response @ np.linalg.pinv(design).T


def regressed(read: Callable[[Floats, Floats], Floats]) -> Callable[..., Sampled]:
    """Returns the quantity that something reads off the origin's regression on blocks.

    Args:
        read: From the design (L x 5) and responses (W x L), log(disparity left + 1), to (W).
    """

    def quantity(case: Case, readings: Readings, measure: Measure) -> Sampled:
        design = design_of(case)
        left = _left_by_block(case, readings, measure, "only")

        def statistic(weights: Floats) -> Floats:
            values = left(weights) + 1
            return read(design, np.log(np.where(values > 0, values, np.nan)))

        return Sampled(readings, statistic, "of log(disparity + 1)")

    return quantity


def kurtosis_over_limit(case: Case, readings: Readings, measure: Measure) -> Estimate:
    """Returns by how much the last block's kurtosis exceeds what middle blocks would predict.

    Against their mean as in the origin, against a line through them in ours.
    """
    z, limit, unit = kurtosis_z(_profile(case, "kurtosis"), trend=measure != "seed")
    return Estimate(
        value=z - limit,
        unit=f"{unit}, less the limit {limit:.2f}",
        n=case.n_blocks,
        method=NO_SAMPLING,
        reason="one model's weights have no sampling error",
    )


def kurtosis_z(values: Floats, *, trend: bool) -> tuple[float, float, str]:
    """Returns how far the last block is from the middle ones, and the 97.5 % prediction limit.

    Args:
        values: Kurtosis of every block, (L).
        trend: Against a straight line through the middle blocks instead of their mean, without
            which a steady drift makes ends extreme (method, T-005).

    Raises:
        Untestable: If there are fewer than three middle blocks more than the fit takes.
    """
    middle, r = values[1:-1], depths(len(values))
    terms = 1 + int(trend)
    if len(middle) < terms + 2:
        raise Untestable(f"{len(middle)} middle blocks are too few to predict the last from")
    design = np.vander(r[1:-1], terms)
    fitted, *_ = np.linalg.lstsq(design, middle, rcond=None)
    dof = len(middle) - terms
    spread = float(np.sqrt(((middle - design @ fitted) ** 2).sum() / dof))
    if spread == 0:
        raise Untestable("the middle blocks do not vary")
    last = np.vander(r[-1:], terms)[0]
    leverage = float(last @ np.linalg.inv(design.T @ design) @ last)
    limit = float(stats.t.ppf(0.975, dof)) * float(np.sqrt(1 + leverage))
    return float((values[-1] - last @ fitted) / spread), limit, "standard deviations"


def table_quantity(case: Case, table: Table, measure: Measure) -> Estimate:
    """Returns the rank correlation of one of the origin's per-layer tables with this model's.

    Raises:
        Untestable: If this model has no such profile.
    """
    x = np.interp(depths(case.n_blocks), depths(len(table.values)), table.values)
    y = profile_of(case, table, measure)
    return correlation(stats.rankdata(x), stats.rankdata(y), "blocks, of ranks")


def profile_of(case: Case, table: Table, measure: Measure) -> Floats:
    """Returns this model's profile that a table is held against, (L)."""
    if table.profile in KINDS:
        readings = case.readings((table.profile,), measure)
        return _point(case, readings, measure, table.profile)
    if measure != "seed":
        raise Untestable("raw weights depend on the gauge; our measure has no such number")
    return _profile(case, table.profile)
