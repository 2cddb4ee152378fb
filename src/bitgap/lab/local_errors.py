"""How hard rounding hits a language's own inputs at linear layers, from sums. Pure numpy."""

from __future__ import annotations

import numpy as np

from bitgap.records import Bools, Floats, Integers


def local_errors(error: Floats, output: Floats, block: Integers, weights: Floats) -> Floats:
    """Returns e_lλ = Σ‖ΔW x‖² / Σ‖W x‖², the mean over each block's linears, (W x L x A).

    Args:
        error: Σ‖ΔW x‖² of every sentence at M linears, (M x A x N).
        output: Σ‖W x‖² likewise.
        block: Each linear's block, (M).
        weights: How often each sentence counts, (W x N).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (error @ weights.T) / (output @ weights.T)  # (M x A x W)
    by_block = np.stack([ratio[block == i].mean(0) for i in np.unique(block)])
    return np.moveaxis(by_block, -1, 0)


def local_bias(errors: Floats, others: Bools, reference: int) -> Floats:
    """Returns B_l, the mean over languages of log2(e_lλ/e_l,ref), (...  L); NaN where undefined.

    Signed: languages that are hit harder than the reference cancel those that are hit less.

    Args:
        errors: e_lλ, (... x L x A).
        others: Languages it is averaged over, (A); the reference is left out.
        reference: Row of the reference.
    """
    return _mean_of_others(_log2_ratios(errors, reference), others, reference)


def local_inequality(errors: Floats, others: Bools, reference: int) -> Floats:
    """Returns U_l, the mean over languages of |log2(e_lλ/e_l,ref)|, (... L); NaN where undefined.

    Languages cannot cancel; 0 only where rounding hits all alike. Arguments as
    :func:`local_bias`.
    """
    return _mean_of_others(np.abs(_log2_ratios(errors, reference)), others, reference)


def local_spread(errors: Floats, languages: Bools) -> Floats:
    """Returns the standard deviation over languages of log2 e_lλ, (... L); NaN where undefined.

    As :func:`local_inequality` with no language to compare with. Over these very languages, so
    divided by their number.

    Args:
        errors: e_lλ, (... x L x A).
        languages: Which count, (A), the reference among them.
    """
    if languages.sum() < 2:
        return np.full(errors.shape[:-1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(errors[..., languages])
    return np.where(np.isfinite(logs), logs, np.nan).std(-1)


def _log2_ratios(errors: Floats, reference: int) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(errors) - np.log2(errors[..., reference : reference + 1])
    return np.where(np.isfinite(logs), logs, np.nan)


def _mean_of_others(values: Floats, others: Bools, reference: int) -> Floats:
    counted = others.copy()
    counted[reference] = False
    kept = values[..., counted]
    return kept.mean(-1) if counted.any() else np.full(values.shape[:-1], np.nan)
