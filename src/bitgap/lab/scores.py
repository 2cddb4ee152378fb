"""Scores kept as they are made, and put together again from what the store holds of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.lab.store import Store
from bitgap.quant.plan import Plan
from bitgap.records import Arithmetic, Scores, TextCounts

if TYPE_CHECKING:
    from bitgap.lab.engine.scoring import Leaf
    from bitgap.lab.lab import Lab


# A commit costs milliseconds; this bounds what a kill can lose.
_COMMIT_EVERY_S = 1.0


def score_and_keep(lab: Lab, plans: Sequence[Plan], label: str) -> None:
    """Scores the plans that the store does not hold, and commits them as they are finished.

    Args:
        lab: Model, text and store.
        plans: None of them full precision.
        label: What the progress bar says.
    """
    keys = {plan: lab.score_key(plan) for plan in plans}
    known = lab.store.known_scores(lab.text_key)
    if all(key in known for key in keys.values()):
        return
    shape = lab.text.counts.tokens.shape
    pending: list[Leaf] = []
    last = time.monotonic()

    def commit() -> None:
        nonlocal last
        rows = [
            (keys[x.plan], x.plan.text, np.stack([x.nll_nats, x.kl_nats]).reshape(2, *shape))
            for x in pending
        ]
        pending.clear()
        lab.store.put_scores(lab.text_key, rows)
        last = time.monotonic()

    def emit(leaves: list[Leaf]) -> None:
        pending.extend(leaves)
        if time.monotonic() - last > _COMMIT_EVERY_S:
            commit()

    rates = lab.measured_rates()

    def tick(block_rows: int, head_rows: int) -> None:
        lab.ledger.ran(block_rows, head_rows)
        lab.progress.advance(block_rows * rates.block_s + head_rows * rates.head_s)

    lab.progress.start(label, lab.preflight(plans).time_s)
    try:
        lab.engine.score(plans, emit, known=lambda p: keys[p] in known, tick=tick)
    except KeyboardInterrupt:
        commit()
        raise
    else:
        commit()
    finally:
        lab.progress.stop()


def assemble(
    store: Store,
    key: Callable[[Plan], str],
    plans: Sequence[Plan],
    facts: Mapping[str, Any],
    arrays: Mapping[str, Any],
    arithmetic: Arithmetic,
) -> Scores:
    """Returns the scores of plans that were all scored.

    Args:
        store: Where their scores are.
        key: Of a plan's scores in it.
        plans: In the order wanted.
        facts: What full precision said of the text, as the store keeps it.
        arrays: Likewise.
        arithmetic: How the scores were computed.

    Raises:
        StoreError: If a plan is not there or its row is damaged.
    """
    shape = arrays["nll_fp_nats"].shape
    both = np.empty((len(plans), 2, *shape))
    for row, plan in zip(both, plans, strict=True):
        if plan.is_full_precision:
            # Nothing is replaced, so this is the reference itself: KL is 0 by identity.
            row[0], row[1] = arrays["nll_fp_nats"], 0.0
        else:
            row[:] = store.get_scores(key(plan), shape)
    return Scores(
        plans=tuple(plan.text for plan in plans),
        languages=tuple(facts["languages"]),
        nll_nats=both[:, 0],
        kl_nats=both[:, 1],
        nll_fp_nats=arrays["nll_fp_nats"],
        unigram_nats=arrays["unigram_nats"],
        counts=TextCounts(
            tokens=arrays["tokens"], bytes=arrays["bytes"], characters=arrays["characters"]
        ),
        floor_nats=facts["floor_nats"],
        arithmetic=arithmetic,
        reference=facts["reference"],
    )
