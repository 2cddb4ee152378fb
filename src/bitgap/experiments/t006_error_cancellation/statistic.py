"""The correlations of T-006, and their null. Pure numpy.

Statistics are functions from bootstrap weights (W x N) to (W x k).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bitgap.records import Estimate, Floats, Observations, Units
from bitgap.stats.bootstrap import Statistic, estimate
from bitgap.stats.verdicts import Thresholds

FEWEST_DRAWS = 3
"""Draws below which their spread says nothing."""


def cancellation(gram: Floats, tokens: Floats | None = None) -> Statistic:
    """Returns weights -> (W x 2): −ρ of the first and last error, and the share they cancel.

    ρ = ⟨a, b⟩/(‖a‖‖b‖); the share is −2⟨a, b⟩/(‖a‖² + ‖b‖²). NaN where an error is 0.

    Args:
        gram: Inner products of J errors of every sentence, (A x N x J x J); summed over languages.
        tokens: (A x N), where every language's products count per token of its own.
    """

    def summed(weights: Floats, i: int, j: int) -> Floats:
        if tokens is None:
            return weights @ gram[..., i, j].sum(0)
        return ((weights @ gram[..., i, j].T) / (weights @ tokens.T)).sum(1)

    def statistic(weights: Floats) -> Floats:
        first, product, last = (summed(weights, i, j) for i, j in ((0, 0), (0, -1), (-1, -1)))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = -2 * product / (first + last)
            return np.stack([-product / np.sqrt(first * last), share], 1)

    return statistic


def minus_rho(
    gram: Floats, units: Units, thresholds: Thresholds, tokens: Floats | None = None
) -> Estimate:
    """Returns −ρ of the first and last error with its interval over sentences or documents."""
    of = cancellation(gram, tokens)
    return estimate(lambda w: of(w)[:, :1], units, unit="-rho", **thresholds.how)


def other_pairs(gram: Floats) -> Statistic:
    """Returns weights -> (W x 1): the median −ρ of all pairs but the first with the last."""
    n = gram.shape[-1]
    rows, columns = np.triu_indices(n, 1)
    others = (rows > 0) | (columns < n - 1)
    rows, columns = rows[others], columns[others]
    sums = gram.sum(0).reshape(gram.shape[1], -1)

    def statistic(weights: Floats) -> Floats:
        summed = (weights @ sums).reshape(-1, n, n)
        power = np.sqrt(np.diagonal(summed, axis1=1, axis2=2))
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = summed[:, rows, columns] / (power[:, rows] * power[:, columns])
        return -np.median(rho, axis=1, keepdims=True)

    return statistic


def correlations(gram: Floats) -> Floats:
    """Returns ρ of all pairs, (J x J), of inner products (A x N x J x J) over the whole text."""
    total = gram.sum((0, 1))
    power = np.sqrt(np.diagonal(total))
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / (power[:, None] * power[None, :])


@dataclass(frozen=True, slots=True)
class NullDraws:
    """−ρ of the first and last block under stochastic rounding.

    Attributes:
        mean: Mean over draws with its t interval.
        spread: Standard deviation of a further draw about that mean.
        n: How many draws.
    """

    mean: Estimate
    spread: float
    n: int

    def p(self, theta: float) -> float:
        """Returns the chance that one more draw is at least θ (prediction by Student's t).

        Where draws are above 0 on average θ must exceed that too; where they are below, 0.
        """
        assert self.mean.value is not None
        return float(stats.t.sf((theta - max(self.mean.value, 0.0)) / self.spread, self.n - 1))


def null_draws(observations: Observations, level: float) -> NullDraws | None:
    """Returns the draws of stochastic rounding, or None where there are too few."""
    grams = observations.arrays.get("stochastic_gram")
    if grams is None or len(grams) < FEWEST_DRAWS:
        return None
    values = np.array([cancellation(g)(np.ones((1, g.shape[1])))[0, 0] for g in grams])
    n, deviation = len(values), float(values.std(ddof=1))
    if not np.isfinite(values).all() or deviation == 0:
        return None
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * deviation / n**0.5
    mean = Estimate(
        value=float(values.mean()),
        low=float(values.mean()) - half,
        high=float(values.mean()) + half,
        unit="-rho",
        level=level,
        n=n,
        method=f"Student's t over {n} draws of stochastic rounding",
    )
    return NullDraws(mean, deviation * (1 + 1 / n) ** 0.5, n)
