"""What of a block's activations belongs to the language: two shares, described and not judged.

The share of the variance of log var(x), one number a sentence, that is the language's (parallel
two-way random effects; Shrout & Fleiss 1979), and the share of the state's variance that lies
between languages' means. Both leave out position 0 and attention sinks, which would dominate them
(Xiao 2024, Sun 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bitgap.records import Estimate, Floats
from bitgap.stats.variance_components import language_share, permutation_p, two_way

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

_DRAWS = 199
"""Permutations for the p of a share, which is read off a table, not tested."""

_UNIT = "share of variance"
_FEW = "too few languages or sentences with tokens that count"


def state_shares(lab: Lab) -> dict[str, Floats]:
    """Returns how states after every block vary, in full precision.

    Returns:
        ``variance`` (L x A), of all entries; ``between`` and ``whole`` (L), traces of the
        covariance of languages' means and of all tokens.
    """
    seen = lab.activations()
    blocks = slice(1, lab.n_blocks + 1)
    mean, power = seen.mean[blocks], seen.power[blocks]  # (L x A x d)
    grand = mean.mean(1, keepdims=True)
    between = [between_trace(np.asarray(states, np.float64)) for states in seen.pooled[blocks]]
    return {
        "variance": power.mean(-1) - mean.mean(-1) ** 2,
        "between": np.array(between),
        "whole": (power.mean(1) - grand[:, 0] ** 2).sum(-1),
    }


def between_trace(states: Floats) -> float:
    """Returns tr Σ_between of languages' means, unbiased, of sentence means (A x N x d).

    Deviations from the mean over languages are multiplied between different sentences only, so what
    scatters from sentence to sentence within a language adds nothing on average.
    """
    n_languages, n_sentences = states.shape[:2]
    apart = states - states.mean(0)
    summed = np.square(apart.sum(1)).sum() - np.square(apart).sum()
    return float(summed / ((n_languages - 1) * n_sentences * (n_sentences - 1)))


def log_variances(arrays: Mapping[str, Floats]) -> Floats:
    """Returns log var(x) of every sentence, the mean over a block's linears, (L x A x N)."""
    entries = arrays["linear_tokens"].astype(np.float64) * arrays["linear_width"][:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = arrays["linear_total"] / entries
        logs = np.log(arrays["linear_square"] / entries - mean**2)
    block = arrays["linear_block"].astype(np.int64)
    return np.stack([logs[block == i].mean(0) for i in np.unique(block)])


def described(arrays: Mapping[str, Floats], level: float) -> dict[str, Estimate]:
    """Returns both shares, of the log variances averaged over blocks, and averaged over blocks."""
    logs = log_variances(arrays).mean(0)
    logs = logs[:, np.isfinite(logs).all(0)]
    share = Estimate(value=None, unit=_UNIT, reason=_FEW)
    if min(logs.shape) > 1:
        share = language_share(logs, level)
    between, whole = float(arrays["between"].mean()), float(arrays["whole"].mean())
    known = np.isfinite(between) and whole > 0
    return {
        "language_share_of_log_variance": share,
        "language_share_of_states": Estimate(
            value=between / whole if known else None,
            unit=_UNIT,
            reason="descriptive, no interval is formed" if known else _FEW,
        ),
    }


def by_block(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """Returns both shares, and p of the first, for every block, (L); NaN where undefined."""
    logs = log_variances(arrays)
    table = logs[..., np.isfinite(logs).all((0, 1))]
    undefined = np.full(len(table), np.nan)
    enough = min(table.shape[1:]) > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        states = arrays["between"] / arrays["whole"]
    return {
        "language_share": two_way(table).language_share if enough else undefined,
        "language_share_p": permutation_p(table, _DRAWS, 0) if enough else undefined,
        "language_share_of_states": states,
    }
