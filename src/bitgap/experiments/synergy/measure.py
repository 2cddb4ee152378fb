"""What synergy measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.experiments.synergy import EXPERIMENT, FEWEST_BLOCKS, ID, Params
from bitgap.experiments.synergy.plans import design_of, plans
from bitgap.experiments.synergy.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under the masks of the layer map, and what the controls need.

    Arrays: packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``map`` (P
    plans), ``cells`` (∅, {0}, {last}, both) and ``far`` (the same with all others protected);
    ``masks`` (P); and those of
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
    # A part at a time: what one holds already is not run again for what another lacks.
    for name, requested in plans(n, scheme, params, lab.settings.seed).items():
        scores = part.score(requested, ID)
        arrays = pack_scores(scores, {name: requested}) | arrays
        facts = facts_of(scores) | facts
    arrays |= {"masks": np.array(design.masks), **twins}
    return EXPERIMENT.observed(
        lab, scheme, params, arrays, {"complete": design.complete, **facts, **missing}
    )
