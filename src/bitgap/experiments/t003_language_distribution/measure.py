"""What T-003 measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.experiments.t003_language_distribution import EXPERIMENT, Params
from bitgap.experiments.t003_language_distribution.shares import state_shares
from bitgap.experiments.t003_language_distribution.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.lab.linear_inputs import linear_inputs
from bitgap.languages import language
from bitgap.quant.plan import Plan
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures errors at every linear by language, and what protecting each block is worth.

    Arrays: the sums of :func:`bitgap.lab.linear_inputs.linear_inputs` under ``linear_``, float32;
    packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the layer map's text and of
    its masks as the part ``map``, float32; ``masks`` (P), their bit sets; and those of
    :func:`bitgap.experiments.t003_language_distribution.shares.state_shares` and
    :func:`bitgap.experiments.t003_language_distribution.twins.measure_controls`.
    """
    n = lab.n_blocks
    rounded = Plan(tuple(scheme for _ in range(n)))
    part = lab.spread(params.map_sentences)
    design = map_design(n, params, lab.settings.seed)
    scores = part.score(design.plans(scheme), "map")
    masks = pack_scores(scores, {"map": design.plans(scheme)})
    twins, missing = measure_controls(lab, scheme, params)
    sums = linear_inputs(lab, rounded)
    arrays: dict[str, Any] = {
        **masks,
        "masks": np.array(design.masks, dtype=np.int64),
        # Seven digits of each sentence; their sums are made in float64.
        **{name: masks[name].astype(np.float32) for name in ("map_kl", "map_nll")},
        **{f"linear_{name}": values.astype(np.float32) for name, values in sums.items()},
        **state_shares(lab),
        **twins,
    }
    facts: dict[str, Any] = {
        "complete": design.complete,
        "seed": lab.settings.seed,
        "kin": [_kin(code) for code in lab.languages],
        **facts_of(scores),
        **missing,
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts)


def _kin(code: str) -> dict[str, str]:
    known = language(code)
    return {"script": known.script, "genus": known.genus, "family": known.family}
