"""What depth measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bitgap.disparity.layer_map import Design, make_design, origin_set
from bitgap.experiments.depth import EXPERIMENT, ID, Params
from bitgap.experiments.depth.plans import _complete, triples_of
from bitgap.experiments.depth.twins import biased_kl
from bitgap.experiments.protocol.scores import (
    facts_of,
    keep,
)
from bitgap.experiments.protocol.twins import random_kl
from bitgap.lab.lab import Lab
from bitgap.quant.plan import mask_plans
from bitgap.quant.sets import mask_of
from bitgap.records import Floats, Observations, Scores


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under every triple, and what each block is worth.

    Arrays: kept scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``base``
    (∅, {0, L−1}) and ``triples`` (T plans; absent where not all were scored); ``triples`` (T),
    their masks; ``shapley_kl`` and ``shapley_nll`` (L x A x N), Shapley values of −KL and −NLL in
    nats; on a few sentences, the origin's triple first, ``random_kl`` (1+T' x A' x N) of an
    untrained twin, and ``biased_kl`` (S x 1+T' x A' x N) of S plantings of P2, the planted triple
    first.
    """
    n = lab.n_blocks
    part = lab.first(params.map_sentences)
    design = make_design(n, seed=lab.settings.seed, complete=_complete(n, params))
    masks = triples_of(n)
    testable = len(origin_set(n)) == 3 and (design.complete or len(masks) <= params.most_triples)
    parts = {"base": mask_plans(scheme, n, (0, mask_of((0, n - 1))))}
    arrays: dict[str, Any] = {"triples": np.array(masks, dtype=np.int64)}
    missing: dict[str, str] = {}
    if testable:
        parts["triples"] = mask_plans(scheme, n, masks)
        twins, missing = _measure_controls(lab, scheme, params, masks)
        arrays |= twins
    # The map first: what it holds already is not run again for triples that it lacks.
    mapped = part.score(design.plans(scheme), ID)
    wanted = [plan for plans in parts.values() for plan in plans]
    scores = mapped if design.complete else part.score(wanted, ID)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**keep(scores, parts), **arrays, **_shapley(mapped, design)},
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "complete": design.complete,
            "params": asdict(params),
            **facts_of(scores),
            **missing,
        },
    )


def _shapley(mapped: Scores, design: Design) -> dict[str, Floats]:
    return {
        "shapley_kl": design.shapley(-mapped.kl_nats),
        "shapley_nll": design.shapley(-mapped.nll_nats),
    }


def _measure_controls(
    lab: Lab, scheme: str, params: Params, masks: list[int]
) -> tuple[dict[str, Any], dict[str, str]]:
    few = lab.first(params.control_sentences)
    rng, mine = np.random.default_rng(lab.settings.seed), mask_of(origin_set(lab.n_blocks))
    others = [m for m in (masks[i] for i in rng.permutation(len(masks))) if m != mine]
    planted, missing = biased_kl(
        few,
        scheme,
        masks,
        others=params.control_triples,
        plantings=params.planted_seeds,
        strength=params.planted_strength,
    )
    untrained = random_kl(few, scheme, [mine, *others[: params.control_triples]])
    return {"random_kl": untrained, **planted}, missing
