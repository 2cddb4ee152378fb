"""The statistic of T-003."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bitgap.lab.local_errors import local_bias, local_errors
from bitgap.records import Bools, Floats


def bias_profile(arrays: Mapping[str, Floats], prefix: str, others: Bools, row: int) -> Floats:
    """Returns B_l of some measured sums over the whole text, (L)."""
    error, output = arrays[f"{prefix}error"], arrays[f"{prefix}output"]
    ones = np.ones((1, error.shape[-1]))
    found = local_errors(error, output, arrays["linear_block"].astype(np.int64), ones)
    return local_bias(found, others, row)[0]
