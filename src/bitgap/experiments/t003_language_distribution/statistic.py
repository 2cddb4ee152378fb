"""The statistic of T-003: local errors from sums over sentences, and falls of S from scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bitgap.disparity.formulas import Per, spread
from bitgap.lab.local_errors import local_errors, local_inequality
from bitgap.records import Bools, Floats, Scores
from bitgap.stats.bootstrap import Statistic


def block_errors(arrays: Mapping[str, Floats], prefix: str = "linear_") -> Statistic:
    """Returns weights (W x N) -> e, the relative error of every block by language, (W x L x A).

    Args:
        arrays: With ``<prefix>error`` and ``<prefix>output`` (M x A x N), and ``linear_block`` (M).
        prefix: Whose sums.
    """
    error, output = arrays[f"{prefix}error"], arrays[f"{prefix}output"]
    block = arrays["linear_block"].astype(np.int64)
    return lambda weights: local_errors(error, output, block, weights)


def errors_of(arrays: Mapping[str, Floats], prefix: str = "linear_") -> Floats:
    """Returns e over the whole text, (L x A); arguments as :func:`block_errors`."""
    ones = np.ones((1, arrays[f"{prefix}error"].shape[-1]))
    return block_errors(arrays, prefix)(ones)[0]


def inequality_profile(
    arrays: Mapping[str, Floats], prefix: str, others: Bools, row: int
) -> Floats:
    """Returns U_l of some measured sums over the whole text, (L)."""
    return local_inequality(errors_of(arrays, prefix), others, row)


def falls_of_spread(protect: Scores, languages: Bools, per: Per = "token") -> Floats:
    """Returns S(∅) − S({l}), what protecting each block alone takes off the gap, (L).

    Args:
        protect: Scores of the plan that protects nothing, and of those that protect one block.
        languages: Which count, (A).
        per: What damage is divided by.
    """
    gaps = spread(protect, per=per, languages=languages)
    return gaps[0] - gaps[1:]


def log2_ratios(errors: Floats, row: int) -> Floats:
    """Returns log2 of every language's error over the reference's, (... x A), its row given."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(errors) - np.log2(errors[..., row : row + 1])
