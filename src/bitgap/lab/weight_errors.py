"""What rounding does to weights alone: errors, crest factors and spread, block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bitgap.models.decoder import Decoder
from bitgap.quant.rounding import crest_factor_sq, round_weight
from bitgap.quant.schemes import Group, parse_scheme
from bitgap.records import Floats


@torch.inference_mode()
def relative_errors(decoder: Decoder, scheme: str, *, pooled: bool = False) -> Floats:
    """Returns the relative squared error t_l² of every block's linears, (L).

    It is the mean over the block's matrices of ‖ΔW‖²/‖W‖², which no rescaling of a matrix changes;
    Gaussian noise of relative size t in every matrix has t². ``pooled`` gives Σ‖ΔW‖²/Σ‖W‖² over the
    block instead, as the origin had it: that weighs matrices by their power, which is a free choice
    of gauge, so the same function can have another value.
    """
    parsed = parse_scheme(scheme)
    out = np.empty(decoder.n_blocks)
    for block in range(decoder.n_blocks):
        errors, powers = [], []
        for name, view in decoder.block_linears(block).items():
            weight = view.get()
            rounded = round_weight(weight, parsed, stream=f"{block}.{name}")
            errors.append(float((rounded - weight).double().square().sum()))
            powers.append(float(weight.double().square().sum()))
        ratios = np.divide(errors, powers)
        out[block] = sum(errors) / sum(powers) if pooled else ratios.mean()
    return out


@torch.inference_mode()
def crest_factors(decoder: Decoder, scheme: str) -> Floats:
    """Returns the mean crest factor² C² of every block's linears, (L).

    With it the block's error is C²/(12q²) at high resolution (method, T-002).
    """
    group: Group = getattr(parse_scheme(scheme), "group", "tensor")
    return _mean_by_block(decoder, lambda weight: crest_factor_sq(weight, group))


@torch.inference_mode()
def kurtoses(decoder: Decoder) -> Floats:
    """Returns the mean excess kurtosis of every block's linears, (L); 0 for Gaussian weights."""
    return _mean_by_block(decoder, _kurtosis)


def _mean_by_block(decoder: Decoder, of: Callable[[Tensor], float]) -> Floats:
    out = np.empty(decoder.n_blocks)
    for block in range(decoder.n_blocks):
        views = decoder.block_linears(block).values()
        out[block] = sum(of(view.get()) for view in views) / len(views)
    return out


def _kurtosis(weight: Tensor) -> float:
    centred = weight.double() - weight.double().mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2 - 3)


@torch.inference_mode()
def pooled_raw_statistics(decoder: Decoder) -> dict[str, Floats]:
    """Returns the origin's predictors of every block's linear weights taken together, (L) each.

    ``variance``; ``outlier_ratio``, the share more than three standard deviations from the mean;
    ``sparsity``, the share under a tenth of one in size. The origin printed no definition of the
    last two; these give values in the range it printed. All depend on the gauge.
    """
    rows = []
    for block in range(decoder.n_blocks):
        views = decoder.block_linears(block).values()
        weights = torch.cat([view.get().flatten() for view in views])
        deviation = float(weights.std())
        rows.append(
            (
                deviation**2,
                float(((weights - weights.mean()).abs() > 3 * deviation).double().mean()),
                float((weights.abs() < deviation / 10).double().mean()),
            )
        )
    names = ("variance", "outlier_ratio", "sparsity")
    return dict(zip(names, np.array(rows).T, strict=True))
