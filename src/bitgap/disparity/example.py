"""Scores to try things on: three blocks, all eight masks, three languages, eight sentences."""

from __future__ import annotations

import numpy as np

from bitgap.quant.plan import mask_plans
from bitgap.quant.sets import membership
from bitgap.records import Scores, TextCounts
from bitgap.stats.mask_design import make_design


def _example() -> Scores:
    """Returns scores in which block 0 does most of the damage and Hebrew suffers most of it."""
    rng, masks = np.random.default_rng(0), range(8)
    shape = (3, 8)  # languages x sentences
    tokens = rng.integers(8, 12, shape) + np.array([[0], [4], [8]])
    harm = np.array([[0.05, 0.06, 0.09], [0.02, 0.02, 0.02], [0.03, 0.03, 0.04]])  # nats a token
    kl = ((1 - membership(masks, 3)) @ harm)[..., None] * tokens * rng.gamma(4, 1 / 4, shape)
    full = tokens * rng.normal(3.0, 0.2, shape)
    return Scores(
        plans=tuple(plan.text for plan in mask_plans("rtn4-g128", 3, masks)),
        languages=("en", "de", "he"),
        nll_nats=full + 1.1 * kl,
        kl_nats=kl,
        nll_fp_nats=full,
        unigram_nats=full + tokens * rng.gamma(9, 1 / 6, shape),
        counts=TextCounts(tokens=tokens, bytes=6 * tokens, characters=5 * tokens),
        floor_nats=1e-6,
        arithmetic="exact",
        reference="en",
        unigram_tokens=np.full(3, 100_000),
        vocabulary=8192,
    )


SCORES = _example()
"""What examples in docstrings are shown on; row P of its plans protects the blocks of mask P."""
DESIGN = make_design(3)
"""All eight masks of its three blocks, in the order of those plans."""
