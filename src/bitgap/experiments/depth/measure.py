"""What depth measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.depth import EXPERIMENT, ID, Params
from bitgap.experiments.depth.plans import asked, count_of, plans, ranked_triples, scored_triples
from bitgap.experiments.depth.twins import measure_twin
from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.protocol.scores import facts_of, pack_scores, score_in_turn
from bitgap.lab.lab import Lab
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under triples, and what each block is worth.

    Arrays: packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``base``
    (∅, {0, L−1}), ``singles`` ({0} … {L−1}) and ``triples`` (T plans; absent where none were
    scored); ``triples`` (T), their masks, and ``ranked`` (T), whether the origin's is ranked among
    them; ``shapley_kl`` and ``shapley_nll`` (L x A x N), Shapley values of −KL and −NLL in nats;
    and those of :func:`bitgap.experiments.depth.twins.measure_twin`. Facts: ``n_triples``, how
    many there are.
    """
    n, part, seed = lab.n_blocks, lab.spread(params.map_sentences), lab.settings.seed
    design, parts = map_design(n, params, seed), plans(n, scheme, params, seed)
    score_in_turn(part, [request.plans for request in asked(n, scheme, params, seed)], ID)
    mapped = part.score(parts.pop("map"), ID)
    scores = part.score([plan for requested in parts.values() for plan in requested], ID)
    ranked = ranked_triples(n, params, seed)
    masks = scored_triples(n, ranked) if ranked else []
    arrays: dict[str, Any] = {
        **pack_scores(scores, parts),
        "triples": np.array(masks, dtype=np.int64),
        "ranked": np.isin(masks, ranked),
        "shapley_kl": design.shapley(-mapped.kl_nats),
        "shapley_nll": design.shapley(-mapped.nll_nats),
    }
    if ranked:
        arrays |= measure_twin(lab, scheme, params)
    facts = {"n_triples": count_of(n), **facts_of(scores)}
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts)
