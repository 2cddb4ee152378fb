"""Rounded matrices as files store them: whole levels and scales, of which ``round_weight`` is one.

``rounding.py`` gives the values that a plan computes with; a checkpoint holds what they are made
of. Both come from the same arithmetic, so that levels times scales is the rounded matrix, bit for
bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitgap.errors import SchemeError
from bitgap.quant.rounding import (
    _best_clip_ratio,
    _checked,
    _divisor,
    _levels,
    _peak,
    _split,
)
from bitgap.quant.schemes import RoundToNearest, Scheme, check_shape, largest_level, parse_scheme


@dataclass(frozen=True, slots=True)
class Codes:
    """What a file stores of a rounded matrix.

    Attributes:
        levels_OI: Whole levels from -q to q, int8, (out x in).
        scale_OG: Float32, one for each group of a row; (1 x 1) where the matrix is one group.
        size: Inputs that share a scale.
    """

    levels_OI: Tensor
    scale_OG: Tensor
    size: int


def codes_of(weight_OI: Tensor, scheme: Scheme | str) -> Codes:
    """Returns the levels and scales of a matrix that is rounded to nearest.

    Args:
        weight_OI: Of any floating dtype.
        scheme: An ``rtn`` scheme or its name.

    Raises:
        SchemeError: If the scheme has no levels, or cannot round that shape.
        ModelError: If the weight is not finite.

    Example:
        >>> codes = codes_of(torch.tensor([[3.0, 1.4, -0.6]]), "rtn3-channel")
        >>> codes.levels_OI.tolist(), codes.scale_OG.tolist()
        ([[3, 1, -1]], [[1.0]])
    """
    scheme = parse_scheme(scheme) if isinstance(scheme, str) else scheme
    if not isinstance(scheme, RoundToNearest):
        raise SchemeError(f"{scheme.name} makes no levels and scales; those of rtn schemes do")
    check_shape(scheme, weight_OI.shape)
    n_out, n_in = weight_OI.shape
    groups_OGN = _split(_checked(weight_OI), scheme.group)
    peak_OG1, q = _peak(groups_OGN), largest_level(scheme.bits)
    if scheme.clip == "mse":
        steps_OGN = groups_OGN.abs() / _divisor(peak_OG1 / q)
        peak_OG1 = peak_OG1 * _best_clip_ratio(steps_OGN, scheme.bits)
    scale_OG1 = peak_OG1 / q
    levels_OGN = _levels(groups_OGN, scale_OG1, scheme.bits).to(torch.int8)
    rows = levels_OGN.reshape(levels_OGN.shape[0], -1)
    levels_OI = rows.reshape(n_out, -1)[:, :n_in] if scheme.group != "tensor" else rows.view(
        n_out, n_in
    )  # fmt: skip
    size = n_in if scheme.group in ("tensor", "channel") else min(int(scheme.group), n_in)
    return Codes(levels_OI.contiguous(), scale_OG1.squeeze(-1), size)
