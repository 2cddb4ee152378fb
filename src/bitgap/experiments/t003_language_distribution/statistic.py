"""The statistic of T-003, from sums over sentences of errors and outputs of every linear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bitgap.lab.local_errors import local_bias, local_errors
from bitgap.records import Bools, Floats
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


def bias_profile(arrays: Mapping[str, Floats], prefix: str, others: Bools, row: int) -> Floats:
    """Returns B_l of some measured sums over the whole text, (L)."""
    ones = np.ones((1, arrays[f"{prefix}error"].shape[-1]))
    return local_bias(block_errors(arrays, prefix)(ones), others, row)[0]


def log2_ratios(errors: Floats, row: int) -> Floats:
    """Returns log2 of every language's error over the reference's, (... x A), its row given."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(errors) - np.log2(errors[..., row : row + 1])
