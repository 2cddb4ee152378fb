"""Inner products of errors: how what several plans do to log p adds up or cancels.

A plan's error e moves the logits of full precision, and ⟨a, b⟩_F = Σ_tokens Cov_{p_fp}(a, b) is the
Fisher inner product of two errors. To second order KL(p_fp ‖ p_q) = ½‖e‖²_F, and for plans whose
errors add up, K = ½ Σ_ij ⟨e_i, e_j⟩_F in nats: diagonal, the sum of single damages; off-diagonal,
what cancels or reinforces. A shift of all logits changes no probability and has no covariance.

Where the tail ends in a plain product the error of the logits is W Δh. It is formed from the
difference of the states, never as a difference of logits, so small errors keep their digits; it is
centred under p_fp before anything is multiplied. Products are made by tiles of the vocabulary, as
wide as many tokens share, so that a tile is cast once for all of them and what comes of it stays in
cache; the vocabulary is visited for the normaliser, for the means, and for the inner products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import UsageError
from bitgap.lab.activations import stream
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.head import TILE, Head, Tile
from bitgap.lab.lab import Lab
from bitgap.models.tail import Tail
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats

_CACHED_BYTES = 4 * 2**20
"""Logit errors of all plans, in a tile of the vocabulary, that are held at once."""


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
    step = max(1, _CACHED_BYTES // (4 * n * min(TILE, lab.decoder.vocabulary)))
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
        self._head = Head.prepared(tail.weight, tail.bias, tail.softcap, rounds)

    def inner_products(self, clean: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns Cov_{p_fp} of every token, (T x J x J), and raw moments, (3 x 3); float64, CPU.

        Args:
            clean: Full-precision states, (T x d).
            others: Those of each plan.
        """
        n_tokens, n = len(clean), len(others)
        fp = self._head.enter(clean)
        linear = self._head.softcap is None
        # Of a plain product the errors of states are enough; else logits are what differs.
        theirs = self._head.enter(
            torch.stack([state - clean if linear else state for state in others], 1).flatten(0, 1)
        )
        scratch = fp.new_empty(n_tokens, TILE)
        wide = fp.new_empty(n_tokens * n, TILE)

        def errors(tile: Tile, z: Tensor) -> Tensor:
            made = replace(tile, bias=None) if linear else tile
            e = made.logits(theirs, wide).view(n_tokens, n, -1)
            return e if linear else e.sub_(z[:, None, :])

        normaliser = fp.new_full((n_tokens,), -torch.inf)
        for tile in self._head.tiles(TILE):
            of_tile = tile.logits(fp, scratch).logsumexp(-1)
            normaliser = torch.logaddexp(normaliser, of_tile)

        double = {"dtype": torch.float64, "device": fp.device}
        means = torch.zeros(n_tokens, n, **double)
        moments = torch.zeros(3, 3, **double)
        for tile in self._head.tiles(TILE):
            z = tile.logits(fp, scratch)
            e = errors(tile, z)
            means += torch.bmm(e, z.sub_(normaliser[:, None]).exp_()[:, :, None])[..., 0]
            two = e[:, self._flattened]
            moments[0, 0] += z.numel()
            moments[0, 1:] += two.sum((0, 2), dtype=torch.float64)
            moments[1:, 1:] += torch.bmm(two, two.transpose(1, 2)).sum(0, dtype=torch.float64)
        moments[1:, 0] = moments[0, 1:]

        gram = torch.zeros(n_tokens, n, n, **double)
        centres = means.to(fp.dtype)[:, :, None]
        for tile in self._head.tiles(TILE):
            z = tile.logits(fp, scratch)
            e = errors(tile, z).sub_(centres)
            # √p, so that one product weighs both sides.
            e *= z.sub_(normaliser[:, None]).mul_(0.5).exp_()[:, None, :]
            gram += torch.bmm(e, e.transpose(1, 2))
        return gram.cpu(), moments.cpu()
