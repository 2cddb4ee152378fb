"""Reference arithmetic: one short function for each formula; plain torch, no engine.

Shape letters: O outputs (rows), I inputs (columns), G groups of a row, N inputs of a group. A
weight_OI is split to groups_OGN, with one scale_OG1 for each group; the whole tensor is one group
when ``group`` is ``"tensor"``, and a row is one when it is ``"channel"`` or narrower than the
group. A width that the group does not divide is filled with zeros, which change neither a group's
largest weight nor its error, so the last group is in effect shorter.

Three promises hold for float32 and float64 (fp16 and bf16 are rounded in float32 and cast back,
which costs the last bits of a level):

* round(c·W) = c·round(W), bit for bit for c a power of two. Hence no epsilon in any scale.
* Rounding to nearest what was so rounded changes nothing. With s = fl(a/q), fl(fl(q·s)/q) = s for
  every q = 2^n-1, so a clipped range is formed first and divided by q after, never the reverse.
* Ties go to the even level (``torch.round``).

All this excludes scales so small that they are subnormal (largest weight below about 1e-36).
Randomness is drawn on the CPU, so that every device sees the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bitgap.errors import ModelError, SchemeError
from bitgap.quant.schemes import (
    FullPrecision,
    Group,
    Noise,
    RoundToNearest,
    Scheme,
    Seed,
    Stochastic,
    check_shape,
    largest_level,
    parse_scheme,
)

CLIP_RATIOS = tuple(2 ** (-i / 16) for i in range(65))
"""Clip ratios that ``round_mse`` tries: 1 to 1/16 in steps of a sixteenth of an octave (4.4 %).

A geometric grid has the same relative resolution at 2 bits, where the best ratio is near 1/4 or
below, as at 8 bits, where it is near 1. The first is 1, so that a tie keeps the plain scale."""

_SLAB = 2**17
"""Weights that are rounded at a time: several copies of them fit a core's second-level cache."""
_CHECK_EVERY = 4  # clip ratios between two tests of whether smaller ones can still win


def round_weight(
    weight: Tensor, scheme: Scheme | str, *, stream: str, dtype: torch.dtype | None = None
) -> Tensor:
    """Returns a weight rounded by a scheme, as a new tensor that shares nothing with it.

    Args:
        weight: Of any floating dtype; (out x in), or of any shape for seed schemes and ``fp``.
        scheme: A scheme or its name.
        stream: Name of the matrix; with the scheme's seed it chooses the random draw, so two
            matrices share one by accident only (1 pair in 2^32). Two noise schemes that differ in
            t alone share direction.
        dtype: Of the result; the weight's own when None. A weight of fewer bits is then rounded as
            its cast would be, of which never more than some rows exist where rows can be cut.

    Returns:
        A tensor of the same shape and device.

    Raises:
        SchemeError: If the scheme is unknown or cannot round that shape.
        ModelError: If the weight is not of floating dtype, or not finite.

    Example:
        >>> round_weight(torch.tensor([[1.0, -0.4, 0.3]]), "rtn3-channel", stream="0.fc")
        tensor([[ 1.0000, -0.3333,  0.3333]])
    """
    scheme = parse_scheme(scheme) if isinstance(scheme, str) else scheme
    try:
        check_shape(scheme, weight.shape)
        return _apply(weight, scheme, stream, dtype or weight.dtype)
    except (ModelError, SchemeError) as error:
        raise type(error)(f"{stream}: {error}") from None


def _apply(weight: Tensor, scheme: Scheme, stream: str, dtype: torch.dtype) -> Tensor:
    if not isinstance(scheme, RoundToNearest):
        weight = weight.to(dtype)
    match scheme:
        case FullPrecision():
            _checked(weight)
            return weight.detach().clone()
        case RoundToNearest(clip="mse"):
            return round_mse(weight, scheme.bits, scheme.group, dtype)
        case RoundToNearest():
            return round_absmax(weight, scheme.bits, scheme.group, dtype)
        case Seed():
            return round_seed(weight, scheme.bits)
        case Stochastic():
            generator = stream_generator(stream, scheme.seed)
            return round_stochastic(weight, scheme.bits, scheme.group, generator)
        case Noise():
            return gaussian_noise(weight, scheme.relative, stream_generator(stream, scheme.seed))
    raise SchemeError(f"no arithmetic is written for {type(scheme).__name__}")


def round_absmax(
    weight_OI: Tensor, bits: int, group: Group, dtype: torch.dtype | None = None
) -> Tensor:
    """Rounds to the nearest of the levels -q..q times s, s = max|w|/q of each group.

    Args:
        weight_OI: Matrix (out x in).
        bits: 2 to 8; q = 2^(bits-1)-1.
        group: What shares a scale.
        dtype: Of the result; the weight's own when None.

    Raises:
        ModelError: If the weight is not finite.

    Example:
        >>> round_absmax(torch.tensor([[3.0, 1.4, -0.6]]), 3, "channel")
        tensor([[ 3.,  1., -1.]])
    """

    def rounded(groups_OGN: Tensor, peak_OG1: Tensor) -> Tensor:
        scale_OG1 = peak_OG1 / largest_level(bits)
        return _levels(groups_OGN, scale_OG1, bits).mul_(scale_OG1)

    return _by_slabs(weight_OI, group, dtype, rounded)


def round_mse(
    weight_OI: Tensor, bits: int, group: Group, dtype: torch.dtype | None = None
) -> Tensor:
    """Rounds to nearest with each group's range clipped to the least mean squared error.

    The range is c·max|w| for the c of ``CLIP_RATIOS`` with the least error; c = 1 is among them,
    so the error is never above that of ``round_absmax``. (Banner 2019 derive the best c for a
    known distribution; a search needs none.)

    Args:
        weight_OI: Matrix (out x in).
        bits: 2 to 8.
        group: What shares a scale.
        dtype: Of the result; the weight's own when None.

    Raises:
        ModelError: If the weight is not finite.

    Example:
        >>> round_mse(torch.tensor([[3.0, 1.4, -0.6]]), 3, "channel")
        tensor([[ 3.,  1., -1.]])
    """

    def rounded(groups_OGN: Tensor, peak_OG1: Tensor) -> Tensor:
        steps_OGN = groups_OGN.abs().div_(_divisor(peak_OG1 / largest_level(bits)))
        scale_OG1 = peak_OG1 * _best_clip_ratio(steps_OGN, bits) / largest_level(bits)
        return _levels(groups_OGN, scale_OG1, bits).mul_(scale_OG1)

    return _by_slabs(weight_OI, group, dtype, rounded)


def _best_clip_ratio(steps_OGN: Tensor, bits: int) -> Tensor:
    """Returns each group's best c, (O x G x 1); magnitudes are in absmax steps, 0 to q."""
    q = largest_level(bits)
    best_ratio_OG1 = torch.ones_like(steps_OGN[..., :1])
    least_OG1 = torch.full_like(best_ratio_OG1, math.inf)
    buffer_OGN = torch.empty_like(steps_OGN)
    for i, ratio in enumerate(CLIP_RATIOS):
        # What lies beyond the range errs by the excess at least, and by more for a smaller ratio.
        if i % _CHECK_EVERY == 0 and (_overload(steps_OGN, q * ratio) >= least_OG1).all():
            break
        torch.div(steps_OGN, ratio, out=buffer_OGN).round_().clamp_(max=q).mul_(ratio)
        error_OG1 = buffer_OGN.sub_(steps_OGN).square_().sum(-1, keepdim=True)
        better_OG1 = error_OG1 < least_OG1
        least_OG1 = torch.where(better_OG1, error_OG1, least_OG1)
        best_ratio_OG1.masked_fill_(better_OG1, ratio)
    return best_ratio_OG1


def _overload(steps_OGN: Tensor, limit: float) -> Tensor:
    return (steps_OGN - limit).clamp_(min=0).square_().sum(-1, keepdim=True)


def round_seed(weight: Tensor, bits: int) -> Tensor:
    """Rounds as the origin did: s = max|w|/(2^(bits-1)-1), levels -2^(bits-1)..2^(bits-1)-1.

    With that s no weight reaches the lowest level, so on a matrix this equals
    ``round_absmax(weight, bits, "tensor")``; the two are kept apart because the origin's clamp is
    part of what is replayed.

    Args:
        weight: Of any shape.
        bits: 2 to 8; the origin used 4.

    Raises:
        ModelError: If the weight is not finite.

    Example:
        >>> round_seed(torch.tensor([[0.7, 0.32, -0.1]]), 4)
        tensor([[ 0.7000,  0.3000, -0.1000]])
    """
    groups_OGN = _split(_checked(weight), "tensor")
    q = largest_level(bits)
    scale_OG1 = _peak(groups_OGN) / q
    levels_OGN = (groups_OGN / _divisor(scale_OG1)).round_().clamp_(-q - 1, q)
    return _join(levels_OGN * scale_OG1, weight)


def round_stochastic(
    weight_OI: Tensor, bits: int, group: Group, generator: torch.Generator
) -> Tensor:
    """Rounds to one of the two nearest levels, to the upper with probability of the remainder.

    The expected result is the weight itself (to 2^-24 of a step), errors are independent, and a
    weight on a level stays there. The scale is that of ``round_absmax``.

    Args:
        weight_OI: Matrix (out x in).
        bits: 2 to 8.
        group: What shares a scale.
        generator: On the CPU; one uniform number is drawn for each weight.

    Raises:
        ModelError: If the weight is not finite.

    Example:
        >>> generator = stream_generator("0.fc", 0)
        >>> round_stochastic(torch.tensor([[3.0, 2.0, -1.0]]), 3, "channel", generator)
        tensor([[ 3.,  2., -1.]])
    """
    groups_OGN = _split(_checked(weight_OI), group)
    scale_OG1 = _peak(groups_OGN) / largest_level(bits)
    steps_OGN = groups_OGN.abs() / _divisor(scale_OG1)
    floor_OGN = steps_OGN.floor()
    # Comparing with the remainder, not flooring steps + uniform: that sum would round a level up.
    uniform_OGN = _draw(torch.rand, steps_OGN, generator)
    levels_OGN = floor_OGN + (uniform_OGN < steps_OGN - floor_OGN)
    levels_OGN.clamp_(max=largest_level(bits)).copysign_(groups_OGN)
    return _join(levels_OGN * scale_OG1, weight_OI)


def gaussian_noise(weight: Tensor, relative: float, generator: torch.Generator) -> Tensor:
    """Adds iid Gaussian noise dW, scaled so that ‖dW‖_F = relative·‖W‖_F in this very draw.

    Exact up to the rounding of W + dW to the weight's dtype. Zeros stay zeros.

    Args:
        weight: Of any shape.
        relative: t > 0.
        generator: On the CPU; one normal number is drawn for each weight.

    Raises:
        ModelError: If the weight is not finite.

    Example:
        >>> noise = gaussian_noise(torch.ones(4, 4), 0.1, stream_generator("0.fc", 0))
        >>> round(float(noise.norm() / torch.ones(4, 4).norm()), 3)
        0.981
    """
    exact = _checked(weight)
    noise = _draw(torch.randn, exact, generator)
    return (exact + noise * (relative * _norm(exact) / _norm(noise))).to(weight.dtype)


def stream_generator(stream: str, seed: int) -> torch.Generator:
    """Returns a CPU generator that depends on the matrix's name and the seed, and nothing else.

    Args:
        stream: Name of the matrix.
        seed: Of the scheme.

    Example:
        >>> torch.equal(*(torch.rand(2, generator=stream_generator("0.fc", 0)) for _ in "ab"))
        True
    """
    digest = hashlib.sha256(f"{seed}\n{stream}".encode()).digest()
    # torch's CPU generator keeps 32 bits of its seed, so more would be lost anyway.
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def relative_error(weight: Tensor, rounded: Tensor) -> float:
    """Returns RE = mean((w-ŵ)²)/mean(w²), a plain ratio (method.md, T-002).

    Args:
        weight: Before rounding.
        rounded: After, of the same shape.

    Raises:
        ModelError: If a weight is not finite, the shapes differ, or all weights are 0.

    Example:
        >>> round(relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0])), 6)
        0.04
    """
    if weight.shape != rounded.shape:
        raise ModelError(
            f"a relative error was asked between shapes {tuple(weight.shape)} and "
            f"{tuple(rounded.shape)}; give the weight and its own rounded form"
        )
    error = _checked(weight).double() - _checked(rounded).double()
    return (_norm(error) / _nonzero_norm(weight)) ** 2


def crest_factor_sq(weight_OI: Tensor, group: Group) -> float:
    """Returns the effective squared crest factor C² = Σ_g n_g·max_g² / Σ w², at least 1.

    Where steps are small against the weights' spread, the error is uniform within a step and
    RE = C²/(12q²) (method.md, T-002). The largest weight of a group is on a level, so a group of n
    weights errs by (1-1/n) of that: 3 % less in groups of 32. Weights uniform on [-a, a] have
    C² = 3 and RE = 1/(4q²) at any q; Gaussian ones follow to 1 % from 3 bits on. It is no bound:
    weights that are all ±a have C² = 1 and lie on a level, so their RE is 0.

    Args:
        weight_OI: Matrix (out x in).
        group: What shares a scale.

    Raises:
        ModelError: If the weight is not finite, or all of it is 0.

    Example:
        >>> crest_factor_sq(torch.tensor([[1.0, -1.0, 1.0, -1.0]]), "channel")
        1.0
    """
    groups_OGN = _split(_checked(weight_OI).double(), group)
    sizes_OGN = _split(torch.ones_like(weight_OI, dtype=torch.float64), group)
    peaks = (_peak(groups_OGN).square() * sizes_OGN.sum(-1, keepdim=True)).sum()
    return float(peaks) / _nonzero_norm(weight_OI) ** 2


def _checked(weight: Tensor) -> Tensor:
    """Returns the weight as float32, or float64 if it is, without gradient; refuses bad ones."""
    _check_floats(weight)
    exact = _widened(weight.detach())
    _check_finite(exact.abs().amax(), weight)
    return exact


def _check_floats(weight: Tensor) -> None:
    if not weight.is_floating_point():
        raise ModelError(
            f"weights of dtype {weight.dtype} cannot be rounded; dequantize them to floats first"
        )
    if weight.numel() == 0:
        raise ModelError(f"a weight of shape {tuple(weight.shape)} holds no numbers; leave it out")


def _widened(weight: Tensor) -> Tensor:
    return weight if weight.dtype == torch.float64 else weight.float()


def _check_finite(peak: Tensor, weight: Tensor) -> None:
    """Refuses weights of which some are not finite, by their largest magnitudes."""
    if not peak.isfinite().all():  # a NaN anywhere makes its peak NaN
        n_bad = int((~weight.isfinite()).sum())
        raise ModelError(
            f"{n_bad:,} of {weight.numel():,} weights are not finite; the checkpoint is damaged or "
            "overflowed its dtype: load it again, in float32"
        )


def _by_slabs(
    weight_OI: Tensor,
    group: Group,
    dtype: torch.dtype | None,
    rounded: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Rounds a few rows at a time, so that what lies between reading and writing stays in caches.

    Args:
        weight_OI: Matrix (out x in).
        group: What shares a scale; one for the whole tensor leaves nothing to cut.
        dtype: Of the result; the weight's own when None.
        rounded: Takes groups (o x G x N) and the largest magnitude in each (o x G x 1), returns
            the rounded groups.
    """
    _check_floats(weight_OI)
    weight_OI = weight_OI.detach()
    out_OI = torch.empty(weight_OI.shape, dtype=dtype or weight_OI.dtype, device=weight_OI.device)
    rows = len(weight_OI)
    if group != "tensor" and weight_OI.device.type == "cpu":
        rows = max(1, _SLAB * rows // weight_OI.numel())
    for slab_oI, into_oI in zip(weight_OI.split(rows), out_OI.split(rows), strict=True):
        groups_oGN = _split(_widened(slab_oI), group)
        peak_oG1 = _peak(groups_oGN)
        _check_finite(peak_oG1, weight_OI)
        into_oI.copy_(_joined(rounded(groups_oGN, peak_oG1), slab_oI))
    return out_OI


def _split(weight_OI: Tensor, group: Group) -> Tensor:
    """Returns (O x G x N), the last group filled with zeros."""
    if group == "tensor":
        return weight_OI.reshape(1, 1, -1)
    n_out, n_in = weight_OI.shape
    size = n_in if group == "channel" else min(group, n_in)
    filling = -n_in % size
    # Padding copies, also by nothing.
    filled = F.pad(weight_OI, (0, filling)) if filling else weight_OI
    return filled.reshape(n_out, -1, size)


def _join(groups_OGN: Tensor, like: Tensor) -> Tensor:
    """Undoes ``_split``: cuts the filling off and gives the shape and dtype of the original."""
    return _joined(groups_OGN, like).to(like.dtype).contiguous()


def _joined(groups_OGN: Tensor, like: Tensor) -> Tensor:
    n_rows = groups_OGN.shape[0]
    rows = groups_OGN.reshape(n_rows, -1)[:, : like.numel() // n_rows]
    return rows.reshape(like.shape)


def _peak(groups_OGN: Tensor) -> Tensor:
    return groups_OGN.abs().amax(-1, keepdim=True)


def _divisor(scale_OG1: Tensor) -> Tensor:
    """Returns scales to divide by: 1 where a group is all zeros, whose levels are then 0."""
    return torch.where(scale_OG1 > 0, scale_OG1, 1)


def _levels(groups_OGN: Tensor, scale_OG1: Tensor, bits: int) -> Tensor:
    q = largest_level(bits)
    return (groups_OGN / _divisor(scale_OG1)).round_().clamp_(-q, q)


def _draw(distribution: Callable[..., Tensor], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draws float32 numbers on the CPU, whatever torch's defaults are, and moves them to like."""
    drawn = distribution(like.shape, generator=generator, dtype=torch.float32, device="cpu")
    return drawn.to(like.device, like.dtype)


def _norm(weight: Tensor) -> float:
    """Returns ‖W‖_F, summed in float64."""
    return float(torch.linalg.vector_norm(weight, dtype=torch.float64))


def _nonzero_norm(weight: Tensor) -> float:
    norm = _norm(weight)
    if norm == 0:
        raise ModelError(
            "all weights are 0, so an error relative to them has no meaning; leave this matrix out"
        )
    return norm
