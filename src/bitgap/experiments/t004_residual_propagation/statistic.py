"""What T-004 judges: gains in signal-to-noise ratio, and interactions with the last block.

Statistics are functions from bootstrap weights (W x N) to (W x J), a column for every block j that
is protected beside the last; block 0 is the first. Pure numpy.
"""

from __future__ import annotations

import numpy as np

from bitgap.records import Floats
from bitgap.stats.bootstrap import Statistic


def snr_gain(error: Floats, tokens: Floats) -> Statistic:
    """Returns weights -> (W x J) dB: ΔSNR_j = SNR({j, last}) − SNR({last}).

    States are standardised, so signal power is 1 per dimension and SNR = −10 log10 of the mean
    squared error.

    Args:
        error: Squared standardised error summed over tokens, (1+J x A x N), {last} first.
        tokens: How many, (A x N).
    """
    sums, counts = error.sum(1), tokens.sum(0)

    def gain(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = -10 * np.log10((weights @ sums.T) / (weights @ counts)[:, None])
            return snr[:, 1:] - snr[:, :1]

    return gain


def savings(kl: Floats, n_others: int, tokens: Floats | None = None) -> Statistic:
    """Returns weights -> (W x 1+J): what protecting the last block saves, as shares of K(∅).

    First where nothing else is protected, then beside each j; K is the mean over languages.

    Args:
        kl: Damage of :func:`.plans.scored_sets`, (2+2J x A x N).
        n_others: J.
        tokens: (A x N), where every language's damage counts per token of its own.
    """

    def statistic(weights: Floats) -> Floats:
        if tokens is None:
            k = weights @ kl.mean(1).T
        else:
            summed = np.tensordot(weights, kl, axes=(1, 2))  # (W x P x A)
            k = (summed / (weights @ tokens.T)[:, None, :]).mean(-1)
        none, only_last = k[:, :1], k[:, 1:2]
        alone, both = k[:, 2 : 2 + n_others], k[:, 2 + n_others :]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate([none - only_last, alone - both], axis=1) / none

    return statistic


def interaction(kl: Floats, n_others: int, tokens: Floats | None = None) -> Statistic:
    """Returns weights -> (W x J): I_j/K(∅), how much more the last block saves beside j than alone.

    I_j = [K({j}) − K({j, last})] − [K(∅) − K({last})]; arguments as for :func:`savings`.
    """
    saved = savings(kl, n_others, tokens)

    def statistic(weights: Floats) -> Floats:
        shares = saved(weights)
        return shares[:, 1:] - shares[:, :1]

    return statistic


def against_others(statistic: Statistic) -> Statistic:
    """Returns weights -> (W x J): each column less the mean of the others."""

    def contrast(weights: Floats) -> Floats:
        values = statistic(weights)
        n = values.shape[1]
        return (values - values.mean(1, keepdims=True)) * n / (n - 1)

    return contrast


def first_of(statistic: Statistic) -> Statistic:
    """Returns weights -> (W x 1): block 0's column."""
    return lambda weights: statistic(weights)[:, :1]


def ratio_of(of: Floats, total: Floats) -> Statistic:
    """Returns weights -> (W x 1): Σ of / Σ total over sentences, of (N) each."""
    return lambda weights: ((weights @ of) / (weights @ total))[:, None]
