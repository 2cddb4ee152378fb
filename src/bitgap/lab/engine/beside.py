"""One plan on a text that is new: scored on the visit of the vocabulary that full precision takes.

Where many plans are compared with full precision, each costs one product with the head, and full
precision two: its logits, and ``m_t = Σ_v p(v|t) W_v``, which stands for its logits ever after
(:mod:`bitgap.lab.engine.head`). An audit has one plan, and on a large vocabulary these products are
most of it. Then both logits of a tile are made together, and what m_t is for is summed directly,

    KL_t = lse(z_q) − lse(z_fp) − Σ_v e^(z_fp) (z_q − z_fp) / Σ_v e^(z_fp),

so that two products do what takes three. What rounding of float32 does to a logit is in both terms
and cancels, so this form is no less exact. m_t is made for those tokens only whose second
evaluation tells the numerical floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.head import (
    SAFE_SUM,
    Head,
    Target,
    direct_sums,
    mean_rows,
    shifted_log_sum_exp,
    slabs,
)
from bitgap.lab.engine.scoring import Emit, Engine, Leaf, Tick, Watch
from bitgap.lab.engine.stopwatch import Moment
from bitgap.lab.engine.text import Chunk
from bitgap.lab.engine.tree import Node
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan


def can_score_beside(engine: Engine, plans: Sequence[Plan]) -> bool:
    """Whether these plans, on a text that is new, are scored by :func:`score_beside`.

    Where products round, m_t is summed in other arithmetic than the rest, and flips ask for the
    likeliest token of full precision before a plan's logits are seen.

    Args:
        engine: Model, bank, text and layout.
        plans: All of a request that are not full precision.
    """
    return len(plans) == 1 and not engine.rounds and not engine.tops and not engine.layout.streams


def score_beside(engine: Engine, plan: Plan, emit: Emit, *, tick: Tick, watch: Watch) -> None:
    """Scores one plan on a text of which nothing is known yet.

    Args:
        engine: Model, bank, text and layout.
        plan: Not full precision.
        emit: Called with its leaf, after ``watch`` has seen all of the text.
        tick: Told of the plan's work.
        watch: Shown what full precision says of every chunk.

    Raises:
        PlanError: If the plan does not fit the model.
    """
    engine.bank.check(plan)
    heads = engine.head_variants([FP, plan.head])
    again = {place for chunk in watch.again for place in chunk.where.tolist()}
    sums = np.zeros((2, engine.n_sequences))

    def one(job: tuple[Chunk, Tensor, Tensor], scratch: Tensor) -> tuple[Target, Tensor]:
        chunk, full, mine = job
        twice = torch.tensor([place in again for place in chunk.where.tolist()])[chunk.rows]
        wanted = twice.nonzero()[:, 0].to(full.device)
        target, *scored = score_two(
            heads, plan.head, full, mine, chunk.targets, scratch, mean_of=wanted
        )
        found = torch.zeros(2, chunk.shape[0], dtype=torch.float64)
        for total, values in zip(found, scored, strict=True):
            total.index_add_(0, chunk.rows, values.cpu().double())
        # Half of what full precision takes elsewhere: it makes one product, and no m_t.
        watch.ran(0, chunk.n_rows // 2)
        return target, found

    with torch.inference_mode():
        for segment in engine.segments:
            hidden = engine.full_precision(segment, watch)
            engine.keep_full_precision(hidden)
            mine = _run(engine, plan, segment, tick)
            began, n_rows = Moment.now(), sum(chunk.n_rows for chunk in segment)
            jobs = list(zip(segment, hidden, mine, strict=True))
            scored = engine.each(one, jobs)
            engine.watch.head(began, 2 * n_rows)
            for chunk, (target, found) in zip(segment, scored, strict=True):
                sums[:, chunk.where] = found.numpy()
                watch.see(chunk, target)
            tick(0, n_rows)
    emit([Leaf(plan, *sums)])


def _run(engine: Engine, plan: Plan, segment: Sequence[Chunk], tick: Tick) -> list[Tensor]:
    """Returns a plan's states before the head for every chunk, (T x d)."""
    replaced, n_rows = engine.bank.embedding(plan.embedding), sum(c.n_rows for c in segment)
    with products(engine.arithmetic, engine.device):
        states = [engine.decoder.embed_with(c.input_ids, replaced)[None] for c in segment]
    for block, variant in enumerate(plan.blocks):
        states = engine.advance(block, [Node(0, 1, 0, variant)], states)
        tick(n_rows, 0)
    return [engine.before_head(c, state)[0] for c, state in zip(segment, states, strict=True)]


def score_two(
    heads: Mapping[str, Head],
    name: str,
    full_hidden: Tensor,
    hidden: Tensor,
    tokens: Tensor,
    scratch: Tensor,
    *,
    mean_of: Tensor,
) -> tuple[Target, Tensor, Tensor]:
    """Visits the vocabulary once for full precision and one plan.

    Args:
        heads: Head variants by scheme name; ``fp`` must be among them.
        name: The plan's.
        full_hidden: Full-precision states before the head, (T x d).
        hidden: The plan's, (T x d).
        tokens: The tokens that came, (T).
        scratch: For logits, (rows x tile).
        mean_of: Numbers of the tokens whose ``m_t`` is wanted; other rows of it are zeros.

    Returns:
        What full precision said; NLL and KL of the plan in nats, (T) each, float64.
    """
    full, own = heads[FP], heads[name]
    theirs, mine = full.enter(full_hidden), own.enter(hidden)
    sums = _two_sums(full, own, theirs, mine, scratch)
    (lse_fp, lse), moved = sums[:2].log(), sums[2] / sums[0]
    low, high = SAFE_SUM
    odd = ((sums[:2] <= low) | (sums[:2] >= high) | ~sums[:2].isfinite()).any(0).nonzero()[:, 0]
    if len(odd):
        lse_fp[odd] = shifted_log_sum_exp(full, theirs[odd], scratch)
        lse[odd] = shifted_log_sum_exp(own, mine[odd], scratch)
        their_rows = Target(tokens[odd], theirs[odd], lse_fp[odd], {}, {}, lse_fp[odd])
        moved[odd] = direct_sums(own, full, mine[odd][None], their_rows, scratch, None)[1][0]
    means: dict[str, Tensor] = {}
    if len(mean_of) and full.softcap is None:
        means[FP] = torch.zeros_like(theirs)
        means[FP][mean_of] = mean_rows({FP: full}, theirs[mean_of], scratch, None)[1][FP]
    chosen = {FP: full.chosen(tokens)}
    nll_fp = lse_fp - full.chosen_logits(theirs, chosen[FP], tokens)
    nll = lse - own.chosen_logits(mine, own.chosen(tokens), tokens)
    return Target(tokens, theirs, lse_fp, means, chosen, nll_fp), nll, (lse - lse_fp) - moved


def _two_sums(full: Head, own: Head, theirs: Tensor, mine: Tensor, scratch: Tensor) -> Tensor:
    """Returns Σ e^z of both and Σ e^(z_fp) (z_q − z_fp), (3 x T), float64."""
    width = scratch.shape[1]
    rows_each = max(1, len(scratch) // 3)
    room = scratch if len(scratch) >= 3 else scratch.new_empty(3, width)
    buffers = room[: 3 * rows_each].view(3, rows_each, width)
    sums = torch.zeros(3, len(theirs), dtype=torch.float64, device=theirs.device)
    same = own is full
    for fp in full.tiles(width) if same else zip(full.tiles(width), own.tiles(width), strict=True):
        tile_fp, tile = (fp, fp) if not isinstance(fp, tuple) else fp
        for rows in slabs(len(theirs), buffers[0]):
            z_fp = tile_fp.logits(theirs[rows], buffers[0])
            z = tile.logits(mine[rows], buffers[1])
            moved = buffers[2].view(-1)[: z.numel()].view_as(z)
            torch.sub(z, z_fp, out=moved)
            sums[0, rows] += z_fp.exp_().sum(-1)
            sums[1, rows] += z.exp_().sum(-1)
            sums[2, rows] += moved.mul_(z_fp).sum(-1)
    return sums
