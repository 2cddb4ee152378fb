"""What depth measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.depth import EXPERIMENT, ID, Params
from bitgap.experiments.depth.plans import plans, triples_of
from bitgap.experiments.depth.twins import measure_controls
from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.lab.lab import Lab
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under every triple, and each block's Shapley value.

    Arrays: packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``base``
    (∅, {0, L−1}) and ``triples`` (T plans; absent where not all were scored); ``triples`` (T),
    their masks; ``shapley_kl`` and ``shapley_nll`` (L x A x N), Shapley values of −KL and −NLL in
    nats; and those of :func:`bitgap.experiments.depth.twins.measure_controls`.
    """
    n, part = lab.n_blocks, lab.spread(params.map_sentences)
    design = map_design(n, params, lab.settings.seed)
    parts = plans(n, scheme, params, lab.settings.seed)
    twins: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if "triples" in parts:
        twins, missing = measure_controls(lab, scheme, params)
    # The map first: what it holds already is not run again for triples that it lacks.
    mapped = part.score(parts.pop("map"), ID)
    wanted = [plan for requested in parts.values() for plan in requested]
    scores = mapped if design.complete else part.score(wanted, ID)
    arrays = {
        **pack_scores(scores, parts),
        "triples": np.array(triples_of(n), dtype=np.int64),
        **twins,
        "shapley_kl": design.shapley(-mapped.kl_nats),
        "shapley_nll": design.shapley(-mapped.nll_nats),
    }
    return EXPERIMENT.observed(
        lab, scheme, params, arrays, {"complete": design.complete, **facts_of(scores), **missing}
    )
