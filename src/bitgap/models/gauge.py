"""What of a block's weights is free, and log variance with that freedom removed.

Weight variance is a gauge quantity (method.md, A1): a norm's gain can be divided by c and the
matrices after it multiplied by c, which changes their variance by c² and neither the model's
function nor its error under rounding to scales that follow the weights. This module makes such
changes (:func:`rescale_norms`, the intervention of T-002), removes the freedom
(:func:`gauge_fixed_log_variance`, T-001), and uses it to break a block on purpose
(:func:`fragile_parameters`, positive control P1).

No function writes to the model it is given; a changed one is a deep copy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitgap.errors import ModelError, UnsupportedArchitecture, UsageError
from bitgap.models.decoder import Decoder
from bitgap.models.roles import (
    ChannelPair,
    gain_offset,
    norm_consumers,
    rescaled_parameters,
    up_down_pair,
    value_output_pair,
)
from bitgap.models.twins import blocks_of

# -- variance ------------------------------------------------------------------------------------


def raw_log_variance(decoder: Decoder) -> NDArray[np.float64]:
    """Returns the natural log of the variance of all linear weights of each block together, (L,).

    The origin's predictor; it depends on the gauge.

    Args:
        decoder: The split model.

    Raises:
        ModelError: If all weights of a block are equal.
    """
    return np.array([_log_variance(decoder, i) for i in range(decoder.n_blocks)])


def gauge_fixed_log_variance(decoder: Decoder) -> NDArray[np.float64]:
    """Returns the log mean square of each block's matrices with the gauge fixed, (L,), in z-units.

    In each block, norm gains are folded into the columns of the matrices that read them, and value
    and output, and gated up and down, are rescaled to equal Frobenius norms. Then the log mean
    square of each matrix is z-scored over blocks among matrices of its name, and averaged over
    names (method.md, T-001). Value rows of a fused matrix, and up rows, count as a matrix of their
    own. A name that does not vary over blocks counts as 0.

    Not fixed, because the method does not: queries against keys, and matrices before a norm.

    Args:
        decoder: The split model.

    Raises:
        ModelError: If all weights of a matrix are 0.
    """
    blocks = [_log_mean_squares(decoder, i, c) for i, c in enumerate(norm_consumers(decoder))]
    names = dict.fromkeys(name for block in blocks for name in block)
    table = np.array([[block.get(name, math.nan) for name in names] for block in blocks])
    centred = table - np.nanmean(table, axis=0)
    spread = np.nanstd(table, axis=0)
    return np.nanmean(centred / np.where(spread > 1e-9, spread, math.inf), axis=1)


def _log_variance(decoder: Decoder, i: int) -> float:
    weights = [view.get() for view in decoder.block_linears(i).values()]
    n = sum(w.numel() for w in weights)
    mean = sum(float(w.sum(dtype=torch.float64)) for w in weights) / n
    power = sum(_frobenius(w - mean) ** 2 for w in weights) / n
    if power == 0:
        raise ModelError(f"all weights of block {i} are equal, so their log variance is infinite")
    return math.log(power)


def _log_mean_squares(
    decoder: Decoder, i: int, consumers: Mapping[str, Sequence[str]]
) -> dict[tuple[str, bool], float]:
    """Returns by (name, whether it is the paired rows) each matrix's log mean square."""
    block = decoder.blocks[i]
    gains = {x: _gain(block.get_submodule(norm)) for norm, xs in consumers.items() for x in xs}
    pairs = [p for p in (value_output_pair(decoder, i), up_down_pair(decoder, i)) if p is not None]
    rows = {pair.source: pair.rows for pair in pairs}
    sizes: dict[tuple[str, bool], int] = {}
    norms: dict[tuple[str, bool], float] = {}
    for name, view in decoder.block_linears(i).items():
        paired = np.zeros(len(view.get()), dtype=bool)
        paired[rows.get(name, [])] = True
        for mine in (paired, ~paired):
            if mine.any():
                part, key = view.get()[torch.from_numpy(mine)], (name, mine is paired)
                sizes[key] = part.numel()
                norms[key] = _log_norm(part, gains.get(name), f"{i}.{name}")
    for pair in pairs:
        ends = (pair.source, True), (pair.target, False)
        # Multiplied by c and 1/c until equal, two norms are their geometric mean.
        norms.update(dict.fromkeys(ends, sum(norms[end] for end in ends) / 2))
    return {key: 2 * norms[key] - math.log(sizes[key]) for key in norms}


def _log_norm(weight: Tensor, gain: Tensor | None, name: str) -> float:
    columns = torch.linalg.vector_norm(weight, dim=0, dtype=torch.float64)
    norm = _frobenius(columns if gain is None else columns * gain)
    if norm == 0:
        raise ModelError(f"all weights of block {name} are 0, so their log mean square is infinite")
    return math.log(norm)


def _gain(norm: nn.Module) -> Tensor:
    return norm.get_parameter("weight").detach() + gain_offset(norm)


def _frobenius(weight: Tensor) -> float:
    return float(torch.linalg.vector_norm(weight, dtype=torch.float64))


# -- changed copies ------------------------------------------------------------------------------


def rescale_norms(
    model: nn.Module | Decoder, factors: Sequence[float] | NDArray[np.float64]
) -> Any:
    """Returns a copy whose norms are divided, and the linears that read them multiplied, by c.

    Gain and bias of every norm in :func:`norm_consumers` are divided by its block's c; weights of
    the linears are multiplied and their biases stay. The function is the same. For c a power of
    two it is the same bit for bit, also with linears rounded to scales that follow the weights
    (``rtn``), as long as no number becomes subnormal; and, where the gain is 1 + weight as in
    Gemma, as long as every new gain is at least 1/2: below, 1 + weight loses bits.

    Args:
        model: The model, or its decoder.
        factors: c > 0 of each block, (L,).

    Raises:
        UsageError: If there is not one positive number for each block.
        UnsupportedArchitecture: If no block has a norm that can be rescaled (post-norm models):
            a comparison with an unchanged copy would prove nothing.
    """
    decoder = model if isinstance(model, Decoder) else Decoder.from_model(model)
    numbers = _checked_factors(factors, decoder.n_blocks)
    consumers = norm_consumers(decoder)
    if not any(consumers):
        raise UnsupportedArchitecture(
            f"{type(decoder.model).__name__} has no norm whose output only linears read, so there "
            f"is nothing to rescale; use a model that normalizes before attention and MLP"
        )
    copied = copy.deepcopy(decoder.model)
    for block, readers, c in zip(blocks_of(copied, decoder), consumers, numbers, strict=True):
        for norm, linears in readers.items():
            _divide_norm(block.get_submodule(norm), c)
            for name in linears:
                block.get_submodule(name).get_parameter("weight").data.mul_(c)
    return copied


def fragile_parameters(
    decoder: Decoder, block: int, *, group: int = 128, factor: float = 64, seed: int = 0
) -> dict[str, Tensor]:
    """Returns parameters with which a block computes the same and is hard to round (control P1).

    In every group of consecutive columns of the block's output projection one is multiplied by
    the factor, and the value row it reads divided by it, so that the outlier sets the group's
    scale and all its other columns are rounded coarsely. Where query heads share values, all
    columns that read the row are multiplied, and a group that has one so is passed over. Exact
    for powers of two.

    Args:
        decoder: Of the model; nothing is written to it.
        block: Number of the block, 0 to L-1.
        group: Width of a group in columns.
        factor: What columns are multiplied by; positive.
        seed: Chooses the columns.

    Returns:
        The changed ones by name in the block, as stored.

    Raises:
        UnsupportedArchitecture: If values and output are not found or not linearly related.
    """
    pair = value_output_pair(decoder, block)
    if pair is None:
        raise UnsupportedArchitecture(
            f"fragility was to be planted in block {block} of {type(decoder.model).__name__}; "
            f"found no value rows that its output projection reads linearly. Use another model for "
            f"this control, or add the layout to bitgap/models/roles.py"
        )
    factors = torch.ones(len(pair.rows), dtype=torch.float64)
    factors[one_channel_per_group(pair, group, seed)] = factor
    return rescaled_parameters(decoder, block, pair, factors)


def _divide_norm(norm: nn.Module, c: float) -> None:
    weight, offset = norm.get_parameter("weight"), gain_offset(norm)
    weight.data.copy_((weight.data + offset) / c - offset)
    bias = getattr(norm, "bias", None)
    if isinstance(bias, Tensor):
        bias.data.div_(c)


def one_channel_per_group(pair: ChannelPair, group: int, seed: int) -> list[int]:
    """Returns a channel for each group of consecutive columns, as control P1 chooses them.

    A group that has a chosen channel already, where query heads share values, is passed over.

    Args:
        pair: Of a block's value rows and output columns.
        group: Width of a group in columns.
        seed: Chooses the channels.
    """
    generator = np.random.default_rng(seed)
    n_columns, chosen = pair.columns.size, list[int]()
    channel_of = np.empty(n_columns, dtype=np.int64)
    channel_of[pair.columns] = np.arange(len(pair.rows))[:, None]
    for start in range(0, n_columns, group):
        mine = channel_of[start : start + group]
        pick = int(mine[generator.integers(len(mine))])
        if not np.isin(mine, chosen).any():
            chosen.append(pick)
    return chosen


def _checked_factors(factors: Sequence[float] | NDArray[np.float64], n_blocks: int) -> list[float]:
    try:
        numbers = np.asarray(factors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"factors must be one number for each block: {error}") from error
    if numbers.shape != (n_blocks,) or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise UsageError(
            f"factors must be {n_blocks} positive numbers, one for each block; got shape "
            f"{numbers.shape} with least value {numbers.min() if numbers.size else 'none'}"
        )
    return numbers.tolist()
