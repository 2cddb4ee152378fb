"""The origin's regression of disparity on weight statistics: its own numbers, and any model's.

log(disparity + 1) ~ variance + outlier ratio + sparsity + position over the blocks of one model,
each predictor as (x − mean)/SD with the population's SD. The published 4.76, −2.22 and R² = .936
come out of the table below to the last printed digit, but only if the position is rounded to three
decimals as it was typed: with l/11 the second coefficient is −2.25, so collinear are the four.

Of twelve blocks and four unrelated normal predictors R² is Beta(k/2, (n−k−1)/2), whose 95th
percentile is .70 before anyone chose among predictors. Blocks are no independent draws, though: on
predictors that change slowly with depth, a response that merely does so too has a 95th percentile
of .98, above the published value. What speaks for a regression of this size is how it predicts a
block that it was not fitted to; on the table below that is worse than the mean. Pure numpy, scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy import stats

from bitgap.errors import UserError
from bitgap.records import Floats
from bitgap.stats.profiles import depths
from bitgap.theory.evidence import Evidence
from bitgap.theory.formal.rows import smooth_features

NAMES = ("variance", "outlier_ratio", "sparsity", "position")
LEVEL = 0.95

DRAWS = 2000
"""Random smooth responses."""
SEED = 0
"""Of those."""
_GUARD = 1e-8
"""Added to each SD, as the origin did."""
TYPED_IN: Mapping[str, tuple[float, ...]] = {
    "disparity": (2.6, 381, 795, 188, 156, 167, 145, 178, 134, 89, 67, 55),
    "variance": (0.039, 0.015, 0.008, 0.010, 0.011, 0.012, 0.013, 0.014, 0.016, 0.019, 0.022,
                 0.026),
    "outlier_ratio": (1.726, 1.173, 0.892, 0.956, 1.012, 1.045, 1.089, 1.123, 1.201, 1.312, 1.423,
                      1.534),
    "sparsity": (10.2, 9.4, 8.1, 7.8, 7.5, 7.2, 7.0, 6.8, 6.5, 6.3, 6.1, 5.9),
    "position": (0.0, 0.091, 0.182, 0.273, 0.364, 0.455, 0.545, 0.636, 0.727, 0.818, 0.909, 1.0),
}  # fmt: skip
"""What the origin typed into its scripts for GPT-2 (exp087b): the claim under test, no measurement
of this toolkit. Its disparity matches neither of the two tables that the origin measured."""
MEASURED: Mapping[str, tuple[float, ...]] = {
    "MLP only": (139, 381, 152, 188, 163, 163, 301, 240, 254, 223, 301, 279),
    "attention only": (54, 421, 114, 172, 303, 199, 190, 193, 210, 267, 254, 247),
}
"""The origin's disparity with one block's MLP, or attention, protected, as it measured it."""
MEASURED_LAST = 336.0
"""The origin's disparity with only the last block protected (exp032); typed in as 55."""

PUBLISHED: Mapping[str, float] = {"intercept": 4.76, "variance": -2.22, "r2": 0.936}


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalRegression:
    """One least-squares fit, with what shows whether it means anything."""

    source: str
    """Whose numbers."""
    coefficients: Mapping[str, float]
    """``intercept`` and one for each predictor, in SDs of the predictor."""
    r2: float
    """Explained share of the variance of log(disparity + 1)."""
    r2_adjusted: float
    """The same less what predictors earn by number."""
    r2_leave_one_out: float
    """1 − Σ(squared error at a block left out of the fit)/Σ(squared deviation from the mean)."""
    r2_null: float
    """95th percentile of R² where nothing is related and blocks are independent."""
    r2_null_smooth: float
    """The same of responses that are random smooth functions of depth."""
    p: float
    """Of the F-test that all coefficients are 0."""
    n: int
    """Blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionRow:
    """One row of the table of these regressions; no numbers where there is no fit.

    Fields are those of :class:`OriginalRegression`, a coefficient a field.
    """

    source: str
    n: int | None = None
    intercept: float | None = None
    variance: float | None = None
    outlier_ratio: float | None = None
    sparsity: float | None = None
    position: float | None = None
    r2: float | None = None
    r2_adjusted: float | None = None
    r2_leave_one_out: float | None = None
    r2_null: float | None = None
    r2_null_smooth: float | None = None
    p: float | None = None
    reason: str = ""
    """Why there is no fit; else empty."""


def row_of(fit: OriginalRegression) -> RegressionRow:
    """Returns a fit as one row of a table."""
    plain: dict[str, Any] = {f.name: getattr(fit, f.name) for f in fields(fit)}
    return RegressionRow(**plain.pop("coefficients"), **plain)


def original_regression(
    predictors: Mapping[str, Floats], disparity: Floats, *, source: str = ""
) -> OriginalRegression:
    """Returns the origin's regression on one model's blocks.

    Args:
        predictors: ``variance``, ``outlier_ratio``, ``sparsity`` and ``position``, (L) each.
        disparity: The origin's ratio with only block l protected, (L); blocks where it is not
            defined, or not above −1, are left out.
        source: Whose numbers they are.

    Raises:
        UserError: If a predictor is missing, or too few blocks are left.
    """
    if missing := [name for name in NAMES if name not in predictors]:
        raise UserError(f"the origin's regression needs {', '.join(NAMES)}; give {missing} too")
    x = np.stack([predictors[name] for name in NAMES], axis=1).astype(np.float64)
    kept = np.isfinite(x).all(1) & np.isfinite(disparity) & (disparity > -1)
    n, k = int(kept.sum()), len(NAMES)
    if n < k + 2:
        raise UserError(
            f"the origin's ratio is defined at {n} of {len(kept)} blocks; its {k} predictors need "
            f"{k + 2} at least"
        )
    x, y = x[kept], np.log(disparity[kept] + 1)
    design = np.column_stack([np.ones(n), (x - x.mean(0)) / (x.std(0) + _GUARD)])
    return _fitted(design, y, x[:, NAMES.index("position")], source)


def _fitted(design: Floats, y: Floats, r: Floats, source: str) -> OriginalRegression:
    n, k = design.shape[0], design.shape[1] - 1
    (r2,), (alone,), (fitted,) = regression(design, y[None])
    ratio = (r2 / k) / max((1 - r2) / (n - k - 1), 1e-300)
    return OriginalRegression(
        source=source,
        coefficients=dict(zip(("intercept", *NAMES), map(float, fitted), strict=True)),
        r2=float(r2),
        r2_adjusted=float(1 - (1 - r2) * (n - 1) / (n - k - 1)),
        r2_leave_one_out=float(alone),
        r2_null=null_r2(n, k),
        r2_null_smooth=smooth_null_r2(design, r),
        p=float(stats.f.sf(ratio, k, n - k - 1)),
        n=n,
    )


def null_r2(n: int, k: int, level: float = LEVEL) -> float:
    """Returns a percentile of R² of n blocks on k unrelated predictors with normal errors.

    R² ~ Beta(k/2, (n−k−1)/2) exactly, whatever the predictors are.
    """
    return float(stats.beta.ppf(level, k / 2, (n - k - 1) / 2))


def smooth_null_r2(design: Floats, r: Floats, level: float = LEVEL) -> float:
    """Returns a percentile of R² of random smooth responses on a design, by simulation.

    Args:
        design: With its column of ones, (L x K).
        r: Relative depth of its rows, (L).
        level: Which percentile.
    """
    responses = smooth_features(r, np.random.default_rng(SEED), (DRAWS,))
    left = responses - responses @ np.linalg.pinv(design).T @ design.T
    return float(np.quantile(1 - (left**2).mean(1), level))


def origin_regressions() -> list[OriginalRegression]:
    """Returns the regression on the origin's own tables: typed in, and each as it measured it."""
    predictors = {name: np.array(TYPED_IN[name]) for name in NAMES}
    typed = np.array(TYPED_IN["disparity"])
    last = typed.copy()
    last[-1] = MEASURED_LAST
    tables = {
        "origin, typed in": typed,
        "origin, typed in but the last block as measured": last,
        **{f"origin, measured, {name}": np.array(d) for name, d in MEASURED.items()},
    }
    return [original_regression(predictors, d, source=name) for name, d in tables.items()]


def evidence_regression(evidence: Evidence) -> OriginalRegression:
    """Returns the origin's regression on a measured model.

    Raises:
        UserError: If its ratio is defined at too few blocks.
    """
    predictors = {**evidence.original_predictors, "position": depths(evidence.n_blocks)}
    return original_regression(predictors, evidence.original_disparity, source=evidence.model)


def replay_original_regression(evidence: Sequence[Evidence]) -> tuple[RegressionRow, ...]:
    """Returns a row for each of the origin's tables and for each model.

    A model for which it cannot be computed has a row with the reason and no numbers.
    """
    rows = [row_of(one) for one in origin_regressions()]
    for one in evidence:
        try:
            rows.append(row_of(evidence_regression(one)))
        except UserError as error:
            rows.append(RegressionRow(source=one.model, reason=str(error)))
    return tuple(rows)


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
