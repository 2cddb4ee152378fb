"""The statistic of T-009."""

from __future__ import annotations

from bitgap.records import Floats
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.verdicts import Thresholds


def profile_of(values: Floats, thresholds: Thresholds) -> tuple[Floats, Floats]:
    """Returns the profile over blocks and its draws, embedding subtracted, (L) and (B x L)."""
    by_sentence = values.mean(1)  # (depths x n), over languages
    above = by_sentence[1:] - by_sentence[:1]
    weights = bootstrap_weights(above.shape[1], thresholds.draws, 0)
    return above.mean(1), weights @ above.T / above.shape[1]
