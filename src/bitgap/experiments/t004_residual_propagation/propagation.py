"""How errors travel: the state under some plans against full precision, by depth.

Errors are standardised dimension by dimension with the variance of full-precision states, so that
no massive dimension decides; position 0 and sinks are left out, and kept beside for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bitgap.lab.activations import stream, sum_by_sequence, without_sinks
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Floats
from bitgap.stats.similarity import debiased_cka


def state_errors(lab: Lab, masks: Sequence[Plan]) -> dict[str, Floats]:
    """Returns how far states under J plans are from full precision.

    Returns:
        ``error`` and ``error_with_sinks`` (J x L+1 x A x N), squared standardised error averaged
        over dimensions and summed over tokens; ``tokens`` (L+1 x A x N), how many; at the last
        block's output ``cosine`` (J x A x N), cosine with full precision summed over tokens,
        ``closer`` (J−1 x A x N), tokens whose cosine is higher than under the first plan, and
        ``cka`` (J), debiased linear CKA of sentence means, NaN where undefined.
    """
    plans = [Plan.uniform("fp", lab.n_blocks), *masks]
    variance = lab.once("state variances", lambda: state_variances(lab))
    shape = (len(plans) - 1, lab.n_blocks + 1, lab.text.counts.tokens.size)
    kept, everything = np.zeros(shape), np.zeros(shape)
    tokens = np.zeros(shape[1:])
    pooled = np.zeros((len(plans), shape[-1], lab.decoder.width))
    cosine = np.zeros((len(masks), shape[-1]))
    closer = np.zeros((len(masks) - 1, shape[-1]))
    for part in stream(lab, plans):
        if part.depth < 0:
            continue
        clean, where = part.states[0], part.chunk.where
        mask = without_sinks(clean, part.real)
        scale = 1.0 / (variance[part.depth] * clean.shape[-1])
        tokens[part.depth, where] += mask.sum(1).cpu().numpy()
        first = None
        for j, state in enumerate(part.states[1:]):
            squared = ((state - clean).square_() * scale).sum(-1)
            kept[j, part.depth, where] += sum_by_sequence(squared, mask)
            everything[j, part.depth, where] += sum_by_sequence(squared, part.real)
            if part.depth == lab.n_blocks - 1:
                alike = torch.cosine_similarity(state.double(), clean.double(), dim=-1)
                cosine[j, where] += sum_by_sequence(alike, mask)
                first = alike if first is None else first
                if j:
                    closer[j - 1, where] += sum_by_sequence((alike > first).double(), mask)
        if part.depth == lab.n_blocks - 1:
            weights = mask.to(clean.dtype)[..., None]
            for j, state in enumerate(part.states):
                means = (state * weights).sum(1) / weights.sum(1).clamp(min=1)
                pooled[j, where] = means.cpu().numpy()
    grid = lab.text.counts.tokens.shape
    cka = [debiased_cka(pooled[0], other) for other in pooled[1:]]
    return {
        "error": kept.reshape(*shape[:2], *grid),
        "error_with_sinks": everything.reshape(*shape[:2], *grid),
        "tokens": tokens.reshape(shape[1], *grid),
        "cosine": cosine.reshape(len(masks), *grid),
        "closer": closer.reshape(len(masks) - 1, *grid),
        "cka": np.array([np.nan if value is None else value for value in cka]),
    }


def state_variances(lab: Lab) -> list[torch.Tensor]:
    """Returns the variance of every dimension of full-precision states, by depth."""
    total: dict[int, torch.Tensor] = {}
    squares: dict[int, torch.Tensor] = {}
    count: dict[int, int] = {}
    for part in stream(lab, [Plan.uniform("fp", lab.n_blocks)]):
        if part.depth < 0:
            continue
        rows = part.states[0][without_sinks(part.states[0], part.real)].double()
        total[part.depth] = total.get(part.depth, 0) + rows.sum(0)
        squares[part.depth] = squares.get(part.depth, 0) + rows.square().sum(0)
        count[part.depth] = count.get(part.depth, 0) + len(rows)
    out = []
    for depth in range(lab.n_blocks + 1):
        variance = squares[depth] / count[depth] - (total[depth] / count[depth]) ** 2
        # A dimension that never moves carries no error to standardise.
        out.append(variance.clamp(min=1e-12 * float(variance.max())).float())
    return out


def amplification(lab: Lab, noisy: Sequence[Plan]) -> Floats:
    """Returns relative error after block l per unit of relative error after block j, (L x L+1).

    Args:
        lab: Model and text.
        noisy: For each block the plan that adds noise to it alone.
    """
    n = lab.n_blocks
    error, signal = np.zeros((n, n + 1)), np.zeros(n + 1)
    for part in stream(lab, [Plan.uniform("fp", n), *noisy]):
        if part.depth < 0:
            continue
        mask = without_sinks(part.states[0], part.real)
        signal[part.depth] += float(part.states[0][mask].double().square().sum())
        for j, state in enumerate(part.states[1:]):
            if j <= part.depth:
                difference = (state - part.states[0])[mask]
                error[j, part.depth] += float(difference.double().square().sum())
    relative = np.sqrt(error / signal)
    return relative / np.diagonal(relative)[:, None]
