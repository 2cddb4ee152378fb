"""What synergy measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.protocol.scores import facts_of, pack_scores, score_in_turn
from bitgap.experiments.synergy import EXPERIMENT, FEWEST_BLOCKS, ID, Params
from bitgap.experiments.synergy.plans import asked, design_of, plans, sampled_pairs
from bitgap.experiments.synergy.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under the masks of the layer map, and what the controls need.

    Arrays: packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``map`` (P
    plans), ``cells`` (∅, {0}, {last}, both) and ``far`` (the same with all others protected);
    ``masks`` (P); ``sampled_pairs`` (R x 2), drawn at random, where not all pairs are in the map;
    and those of
    :func:`bitgap.experiments.synergy.twins.measure_controls`.
    """
    n, part = lab.n_blocks, lab.spread(params.map_sentences)
    design = design_of(n, params, lab.settings.seed)
    twins: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if n >= FEWEST_BLOCKS:
        twins, missing = measure_controls(lab, scheme, params)
    arrays: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    score_in_turn(part, [x.plans for x in asked(n, scheme, params, lab.settings.seed)], ID)
    for name, requested in plans(n, scheme, params, lab.settings.seed).items():
        scores = part.score(requested, ID)
        arrays = pack_scores(scores, {name: requested}) | arrays
        facts = facts_of(scores) | facts
    arrays |= {"masks": np.array(design.masks), **twins}
    if n >= FEWEST_BLOCKS and not design.paired:
        arrays["sampled_pairs"] = np.array(
            sampled_pairs(n, params, lab.settings.seed), dtype=np.int64
        ).reshape(-1, 2)
    return EXPERIMENT.observed(
        lab, scheme, params, arrays, {"complete": design.complete, **facts, **missing}
    )
