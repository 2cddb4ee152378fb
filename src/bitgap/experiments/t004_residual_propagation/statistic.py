"""The two contrasts of T-004, of block j against the mean of the others."""

from __future__ import annotations

import numpy as np

from bitgap.records import Floats
from bitgap.stats.bootstrap import Statistic


def snr_contrast(error: Floats, tokens: Floats) -> Statistic:
    """Returns weights -> (W x J) dB: ΔSNR_j less the mean ΔSNR of the others.

    States are standardised, so signal power is 1 per dimension and SNR = −10 log10 of the mean
    squared error; ΔSNR_j = SNR({j, last}) − SNR({last}).

    Args:
        error: Squared standardised error summed over tokens, (1+J x A x N), {last} first.
        tokens: How many, (A x N).
    """
    sums, counts = error.sum(1), tokens.sum(0)

    def contrast(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = -10 * np.log10((weights @ sums.T) / (weights @ counts)[:, None])
            return _against_others(snr[:, 1:] - snr[:, :1])

    return contrast


def interaction_contrast(kl: Floats, n_others: int) -> Statistic:
    """Returns weights -> (W x J): (I_j − mean of the other I)/K(∅), K averaged over languages.

    Args:
        kl: Damage of :func:`.plans.scored_sets`, (2+2J x A x N).
        n_others: J.
    """
    sums = kl.mean(1)

    def contrast(weights: Floats) -> Floats:
        k = weights @ sums.T
        none, only_last = k[:, :1], k[:, 1:2]
        alone, both = k[:, 2 : 2 + n_others], k[:, 2 + n_others :]
        with np.errstate(divide="ignore", invalid="ignore"):
            return _against_others(((alone - both) - (none - only_last)) / none)

    return contrast


def _against_others(values: Floats) -> Floats:
    n = values.shape[1]
    return (values - values.mean(1, keepdims=True)) * n / (n - 1)
