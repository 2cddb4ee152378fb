"""What depth measures for its controls: some triples of an untrained twin."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.depth import Params
from bitgap.experiments.depth.plans import triples_of
from bitgap.experiments.protocol.twins import in_few_languages
from bitgap.lab.lab import Lab
from bitgap.quant.plan import mask_plans
from bitgap.quant.sets import mask_of
from bitgap.stats.mask_design import original_set


def measure_twin(lab: Lab, scheme: str, params: Params) -> dict[str, Any]:
    """Returns damage on a few sentences under some triples of a twin that learned nothing.

    Returns:
        ``random_kl`` (1+T' x A' x N'), nats, the origin's triple first, and ``random_tokens``
        (A' x N').
    """
    few = lab.spread(params.control_sentences)
    masks, own = triples_of(lab.n_blocks), mask_of(original_set(lab.n_blocks))
    order = np.random.default_rng(lab.settings.seed).permutation(len(masks))
    others = [masks[i] for i in order if masks[i] != own][: params.control_triples]
    plans = mask_plans(scheme, lab.n_blocks, [own, *others])
    scores = in_few_languages(few).random_twin().score(plans, "controls")
    scores = scores.select(plans=[plan.text for plan in plans])
    return {"random_kl": scores.kl_nats, "random_tokens": scores.counts.tokens}
