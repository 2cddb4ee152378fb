"""Rounding with error feedback: what rounding does to outputs is taken up by weights yet to round.

With H = Σ x xᵀ over the inputs x of calibration text, a rounded matrix Q changes the layer's
outputs by ‖(W − Q) x‖², which summed over that text is

    E = tr((W − Q) H (W − Q)ᵀ)

Columns are rounded from the left; after each, the columns to the right become those that make E
least given what was rounded. With U the upper Cholesky factor of H⁻¹ (H⁻¹ = Uᵀ U), the step after
column j is W[:, j:] −= (w_j − q_j) / U[j, j] · U[j, j:]. A group's scale is found where the group
begins, from the weights as they are by then.

Source: Frantar, Ashkboos, Hoefler & Alistarh 2022, *GPTQ*, algorithm 1; columns in their own order.

Letters: O outputs, I inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitgap.errors import ModelError, SchemeError
from bitgap.quant.codes import codes_of
from bitgap.quant.rounding import _checked, _divisor
from bitgap.quant.schemes import RoundToNearest, Scheme, check_shape, largest_level, parse_scheme

DAMPING = 0.01
"""Share of H's mean diagonal that is added to the diagonal, as GPTQ's authors have it: without it H
of less text than inputs has no inverse."""
_COLUMNS = 128
"""Columns whose errors are carried one by one; those to the right of them take all at once."""


def round_gptq(
    weight_OI: Tensor, hessian_II: Tensor, scheme: Scheme | str, *, damping: float = DAMPING
) -> Tensor:
    """Returns a matrix rounded with error feedback, a new tensor of its shape and type.

    Inputs that calibration text never used (a diagonal of 0) are rounded to nearest and take up
    nothing.

    Args:
        weight_OI: Matrix (out x in).
        hessian_II: H = Σ x xᵀ, (in x in), symmetric; its scale does not matter.
        scheme: An ``rtn`` scheme or its name.
        damping: Share of the mean diagonal that is added to the diagonal; 0 or more.

    Raises:
        SchemeError: If the scheme is none that has levels, or cannot round that shape.
        ModelError: If weights or H are not finite, or H has no inverse or is of other inputs.

    Example:
        >>> weight = torch.tensor([[1.0, 0.4, 0.4]])
        >>> alike = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.99], [0.0, 0.99, 1.0]])
        >>> round_gptq(weight, torch.eye(3), "rtn2-channel")  # to nearest
        tensor([[1., 0., 0.]])
        >>> round_gptq(weight, alike, "rtn2-channel")  # the third takes up what the second lost
        tensor([[1., 0., 1.]])
    """
    return round_by_factor(weight_OI, feedback_factor(hessian_II, damping), scheme)


def feedback_factor(hessian_II: Tensor, damping: float = DAMPING) -> Tensor:
    """Returns U with H⁻¹ = Uᵀ U, upper, float32: by what errors are carried on.

    Made in float64, once for all matrices that are given the same inputs. Arguments and errors as
    :func:`round_gptq`.

    Example:
        >>> feedback_factor(4 * torch.eye(2), damping=0.0).diagonal().tolist()
        [0.5, 0.5]
    """
    damped_II = hessian_II.detach().double().clone()
    diagonal_I = damped_II.diagonal()
    if not bool(damped_II.isfinite().all()):
        raise ModelError("H is not finite; the inputs that it was summed of overflow their type")
    unused_I = diagonal_I == 0
    used = diagonal_I[~unused_I]
    diagonal_I += damping * (used.mean() if used.numel() else 1.0)
    damped_II[unused_I, unused_I] = 1.0
    lower_II, failed = torch.linalg.cholesky_ex(damped_II)
    if int(failed):
        raise ModelError(
            f"H of {len(damped_II)} inputs has no inverse at a damping of {damping:g}; give more "
            f"calibration text, or more damping"
        )
    inverse_II = torch.cholesky_inverse(lower_II)
    return torch.linalg.cholesky(inverse_II, upper=True).float()


def round_by_factor(weight_OI: Tensor, factor_II: Tensor, scheme: Scheme | str) -> Tensor:
    """Returns a matrix rounded with error feedback; as :func:`round_gptq`, of a factor in hand.

    Args:
        weight_OI: Matrix (out x in).
        factor_II: Of :func:`feedback_factor`.
        scheme: An ``rtn`` scheme or its name.

    Raises:
        SchemeError: If the scheme is none that has levels, or cannot round that shape.
        ModelError: If weights are not finite, or the factor is of other inputs.

    Example:
        >>> round_by_factor(torch.tensor([[1.0, 0.4]]), torch.eye(2), "rtn2-channel")
        tensor([[1., 0.]])
    """
    scheme = parse_scheme(scheme) if isinstance(scheme, str) else scheme
    if not isinstance(scheme, RoundToNearest):
        raise SchemeError(
            f"{scheme.name} has no levels to carry errors between; give a scheme such as rtn4-g128"
        )
    check_shape(scheme, weight_OI.shape)
    n_out, n_in = weight_OI.shape
    if tuple(factor_II.shape) != (n_in, n_in):
        raise ModelError(
            f"H is of {len(factor_II)} inputs, and the matrix has {n_in}; give the H of what "
            f"enters it"
        )
    # A column of the matrix is a row here, which lies in one piece.
    left_IO = _checked(weight_OI).T.contiguous().clone()
    factor_II = factor_II.to(left_IO)
    rounded_IO = torch.empty_like(left_IO)
    q = largest_level(scheme.bits)
    by_group = scheme.group != "tensor"
    size = min(scheme.group, n_in) if isinstance(scheme.group, int) else n_in
    scale_O = left_IO.new_zeros(n_out)
    if not by_group:
        scale_O = codes_of(left_IO.T, scheme).scale_OG[0].expand(n_out)
    start = 0
    while start < n_in:
        # A batch ends where a group does, so that a group's scale sees all that came before it.
        end = min(start + _COLUMNS, n_in, (start // size + 1) * size)
        if by_group and start % size == 0:
            scale_O = _scales(left_IO[start : min(start + size, n_in)].T, scheme)
        step_O = _divisor(scale_O)
        error_BO = torch.empty_like(left_IO[start:end])
        for j in range(start, end):
            rounded_IO[j] = (left_IO[j] / step_O).round_().clamp_(-q, q).mul_(scale_O)
            error_O = torch.sub(left_IO[j], rounded_IO[j], out=error_BO[j - start])
            error_O /= factor_II[j, j]
            left_IO[j + 1 : end].addr_(factor_II[j, j + 1 : end], error_O, alpha=-1)
        left_IO[end:].addmm_(factor_II[start:end, end:].T, error_BO, alpha=-1)
        start = end
    return rounded_IO.T.to(weight_OI.dtype).contiguous()


def weighted_error(weight_OI: Tensor, rounded_OI: Tensor, hessian_II: Tensor) -> float:
    """Returns E = tr((W − Q) H (W − Q)ᵀ): the squared change of a layer's outputs over a text.

    Args:
        weight_OI: Before rounding.
        rounded_OI: After.
        hessian_II: H of the text, (in x in).

    Example:
        >>> weighted_error(torch.ones(1, 2), torch.zeros(1, 2), torch.ones(2, 2))
        4.0
    """
    off_OI = weight_OI.double() - rounded_OI.double()
    return float(((off_OI @ hessian_II.double()) * off_OI).sum())


def _scales(group_ON: Tensor, scheme: RoundToNearest) -> Tensor:
    """Returns the scale of each row of one group, (O)."""
    whole = RoundToNearest(scheme.bits, "channel", scheme.clip)
    return codes_of(group_ON, whole).scale_OG[:, 0]
