"""What rounding does to weights alone: errors, crest factors and spread, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from bitgap.quant.rounding import crest_factor_sq, round_weight
from bitgap.quant.schemes import Group, parse_scheme
from bitgap.records import Floats

if TYPE_CHECKING:
    from bitgap.models.decoder import Decoder


@torch.inference_mode()
def relative_errors(decoder: Decoder, scheme: str) -> Floats:
    """Returns t_l² = Σ‖ΔW‖²/Σ‖W‖² over the linears of every block, (L)."""
    parsed = parse_scheme(scheme)
    out = np.empty(decoder.n_blocks)
    for block in range(decoder.n_blocks):
        error = power = 0.0
        for name, view in decoder.block_linears(block).items():
            weight = view.get()
            rounded = round_weight(weight, parsed, stream=f"{block}.{name}")
            error += float((rounded - weight).double().square().sum())
            power += float(weight.double().square().sum())
        out[block] = error / power
    return out


@torch.inference_mode()
def crest_factors(decoder: Decoder, scheme: str) -> Floats:
    """Returns the power-weighted mean crest factor² C² of every block's linears, (L).

    With it the block's error is C²/(12q²) at high resolution (method, T-002).
    """
    group: Group = getattr(parse_scheme(scheme), "group", "tensor")
    out = np.empty(decoder.n_blocks)
    for block in range(decoder.n_blocks):
        weights = [view.get() for view in decoder.block_linears(block).values()]
        powers = [float(w.double().square().sum()) for w in weights]
        out[block] = np.average([crest_factor_sq(w, group) for w in weights], weights=powers)
    return out


@torch.inference_mode()
def kurtoses(decoder: Decoder) -> Floats:
    """Returns the excess kurtosis of all linear weights of every block together, (L)."""
    out = np.empty(decoder.n_blocks)
    for block in range(decoder.n_blocks):
        flat = torch.cat([v.get().flatten() for v in decoder.block_linears(block).values()])
        centred = flat.double() - flat.double().mean()
        out[block] = float((centred**4).mean() / (centred**2).mean() ** 2 - 3)
    return out
