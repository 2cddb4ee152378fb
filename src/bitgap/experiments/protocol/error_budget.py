"""How a block's damage comes about: log k_l = log α_l + log t_l² + non-linearity.

t_l² is the relative squared error of the block's weights, how hard rounding hits it; α_l the slope
of damage on t² under Gaussian noise, how much it matters (linearity of damage in t²: Malinovskii
2025). Both k and α are functions from bootstrap weights (W x N) to (W x L), in bits per reference
character, averaged over the languages that count. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bitgap.records import Bools, Estimate, Floats, Scores, Units
from bitgap.stats.bootstrap import Statistic, estimate
from bitgap.stats.profiles import lmg_shares
from bitgap.stats.verdicts import Thresholds

# Each draw is six small regressions, so fewer draws than for sums; an end's error is then some 5 %.
_SHARE_DRAWS = 400


def block_damage(single: Scores, counts: Bools) -> Statistic:
    """Returns weights -> k_l, mean damage when block l alone is rounded.

    Args:
        single: Scores of the L plans that round one block, in order.
        counts: Languages that count, (A).
    """
    sums = single.kl_nats[:, counts].mean(1)
    return lambda weights: weights @ sums.T / _length(single, weights)


def sensitivity(noise: Scores, counts: Bools, sizes: Sequence[float], n_draws: int) -> Statistic:
    """Returns weights -> α_l, the least-squares slope through 0 of damage on t².

    Args:
        noise: Scores of L x T x S plans in that order: block, size, draw.
        counts: Languages that count, (A).
        sizes: The T relative sizes t of the noise.
        n_draws: S, how often the noise was drawn for each size.
    """
    t2 = np.array(sizes) ** 2
    kl = noise.kl_nats[:, counts].mean(1).reshape(-1, len(t2), n_draws, noise.n_sentences)
    slope = np.tensordot(t2, kl.mean(2), axes=(0, 1)) / (t2**2).sum()  # (L x N)
    return lambda weights: weights @ slope.T / _length(noise, weights)


def by_language(of: Callable[[Bools], Statistic], scores: Scores) -> Floats:
    """Returns a statistic over blocks of each language by itself on the whole text, (L x A).

    Args:
        of: Languages that count, (A) -> statistic.
        scores: Of the text.
    """
    ones = np.ones((1, scores.n_sentences))
    each = np.eye(len(scores.languages), dtype=bool)
    return np.stack([of(one)(ones)[0] for one in each], axis=1)


def error_share(
    damage: Statistic, alpha: Statistic, log_t2: Floats, units: Units, thresholds: Thresholds
) -> Estimate:
    """Returns log t²'s part of what log α and log t² explain of log k over blocks (LMG).

    Args:
        damage: Weights (W x N) -> k, (W x L).
        alpha: Weights -> α, (W x L).
        log_t2: (L).
        units: Number of sentences, or each sentence's document, (N): what is resampled.
        thresholds: With draws and level.
    """

    def share(weights: Floats) -> Floats:
        log_k, log_alpha = logarithm(damage(weights)), logarithm(alpha(weights))
        return np.array([[_share(k, a, log_t2)] for k, a in zip(log_k, log_alpha, strict=True)])

    how = thresholds.how | {"draws": min(_SHARE_DRAWS, thresholds.draws)}
    return estimate(share, units, unit="share", **how)


def logarithm(values: Floats) -> Floats:
    """Returns the natural logarithm, NaN where there is none."""
    return np.log(np.where(values > 0, values, np.nan))


def _share(log_k: Floats, log_alpha: Floats, log_t2: Floats) -> float:
    if not np.isfinite([log_k, log_alpha, log_t2]).all() or np.ptp(log_k) == 0:
        return np.nan
    shares = lmg_shares(log_k, [log_alpha, log_t2])
    return float(shares[1] / shares.sum()) if shares.sum() > 0 else np.nan


def _length(scores: Scores, weights: Floats) -> Floats:
    characters = scores.counts.characters[scores.languages.index(scores.reference)]
    return (weights @ characters)[:, None] * np.log(2)
