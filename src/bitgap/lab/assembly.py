"""Scores put together from what the store holds of a text and of its plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.lab.store import Store
from bitgap.quant.plan import Plan
from bitgap.records import Arithmetic, Scores, TextCounts


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
