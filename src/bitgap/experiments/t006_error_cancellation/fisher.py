"""Inner products of errors: how what several plans do to log p adds up or cancels.

A plan's error e moves the logits of full precision, and ⟨a, b⟩_F = Σ_tokens Cov_{p_fp}(a, b) is the
Fisher inner product of two errors. To second order KL(p_fp ‖ p_q) = ½‖e‖²_F, and for plans whose
errors add up, K = ½ Σ_ij ⟨e_i, e_j⟩_F in nats: diagonal, the sum of single damages; off-diagonal,
what cancels or reinforces. A shift of all logits changes no probability and has no covariance.

Where the tail ends in a plain product the error of the logits is W Δh. It is formed from the
difference of the states, never as a difference of logits, so small errors keep their digits; it is
centred under p_fp before anything is multiplied. Products are made a few tokens at a time, so that
one batch of all plans' logits stays in cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import UsageError
from bitgap.lab.activations import stream
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.head import Head
from bitgap.lab.lab import Lab
from bitgap.models.tail import Tail
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats

_CACHED_BYTES = 4 * 2**20
"""Logit errors of all plans that are held at once; one token at least."""


def fisher_grams(
    lab: Lab, plans: Sequence[Plan], *, flattened: tuple[int, int] = (0, -1)
) -> dict[str, Floats]:
    """Returns inner products of the errors of J plans, sentence by sentence.

    Args:
        lab: Model and text.
        plans: Each compared with full precision. Their heads must be in full precision: a rounded
            head's error is no difference of states.
        flattened: Two plans whose raw logit errors are compared entry by entry as well.

    Returns:
        ``gram`` (A x N x J x J), Σ over a sentence's scored tokens of Cov_{p_fp}(e_i, e_j) in
        nats²; ``moments`` (3 x 3), of the raw logit errors a and b of the two plans over all
        tokens and the whole vocabulary: Σ x xᵀ of x = (1, a, b), for their Pearson r.

    Raises:
        UsageError: If there is no plan, or one rounds the head.
    """
    if not plans or any(plan.head != FP for plan in plans):
        asked = "none" if not plans else f"{plans[0].text!r} and others"
        raise UsageError(f"errors were asked of {asked}; give plans with a full-precision head")
    shape, n = lab.text.counts.tokens.shape, len(plans)
    gram = torch.zeros(int(np.prod(shape)), n, n, dtype=torch.float64)
    moments = torch.zeros(3, 3, dtype=torch.float64)
    errors = _LogitErrors(lab.decoder.tail, lab.engine.rounds, flattened)
    step = max(1, _CACHED_BYTES // (4 * n * lab.decoder.vocabulary))
    for part in stream(lab, [Plan.uniform(FP, lab.n_blocks), *plans]):
        if part.depth < lab.n_blocks:
            continue
        rows, owners = part.chunk.positions, part.chunk.owners.cpu()
        clean, *others = (state.flatten(0, 1)[rows].float() for state in part.states)
        with torch.inference_mode(), products(lab.settings.arithmetic, lab.settings.device):
            batches = zip(clean.split(step), *(h.split(step) for h in others), strict=True)
            pairs = [errors.inner_products(few[0], few[1:]) for few in batches]
        # Once a chunk: adding batch by batch would cost as much as a product.
        gram.index_add_(0, owners, torch.cat([of_tokens for of_tokens, _ in pairs]))
        moments += torch.stack([raw for _, raw in pairs]).sum(0)
    return {"gram": gram.numpy().reshape(*shape, n, n), "moments": moments.numpy()}


class _LogitErrors:
    """Turns states before the head into inner products of logit errors."""

    def __init__(self, tail: Tail, rounds: bool, flattened: tuple[int, int]) -> None:
        self._flattened = list(flattened)
        self._full = Head.prepared(tail.weight, tail.bias, tail.softcap, rounds)
        self._plain = Head(self._full.weight, None, None, rounds)

    def inner_products(self, clean: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns Cov_{p_fp} of every token, (T x J x J), and raw moments, (3 x 3); float64, CPU.

        Args:
            clean: Full-precision states, (T x d).
            others: Those of each plan.
        """
        fp = self._logits(self._full, clean)  # (T x V)
        p = torch.softmax(fp, -1)
        error = self._errors(fp, clean, others)  # (T x J x V)
        two = error[:, self._flattened]
        total = two.sum((0, 2), dtype=torch.float64).cpu()
        raw = torch.bmm(two, two.transpose(1, 2)).sum(0, dtype=torch.float64).cpu()
        moments = torch.empty(3, 3, dtype=torch.float64)
        moments[0, 0] = fp.numel()
        moments[0, 1:], moments[1:, 0], moments[1:, 1:] = total, total, raw
        error -= torch.bmm(error, p[:, :, None])
        error *= p.sqrt_()[:, None, :]
        return torch.bmm(error, error.transpose(1, 2)).double().cpu(), moments

    def _errors(self, fp: Tensor, clean: Tensor, others: Sequence[Tensor]) -> Tensor:
        if self._full.softcap is None:
            moved = torch.stack([state - clean for state in others], 1)
            return self._logits(self._plain, moved.flatten(0, 1)).unflatten(0, moved.shape[:2])
        states = torch.stack(list(others), 1)
        theirs = self._logits(self._full, states.flatten(0, 1)).unflatten(0, states.shape[:2])
        return theirs - fp[:, None, :]

    @staticmethod
    def _logits(head: Head, states: Tensor) -> Tensor:
        out = torch.empty(len(states), len(head.weight), device=states.device)
        return head.logits(head.enter(states), out)
