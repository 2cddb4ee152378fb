"""What synergy measures: the only part that sees a model."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import asdict
from typing import Any

import numpy as np

from bitgap.disparity.layer_map import make_design
from bitgap.experiments.protocol.scores import (
    facts_of,
    keep,
)
from bitgap.experiments.protocol.twins import random_kl
from bitgap.experiments.synergy import EXPERIMENT, FEWEST_BLOCKS, ID, Params
from bitgap.experiments.synergy.cells import (
    cell_masks,
)
from bitgap.experiments.synergy.plans import _complete, _corners
from bitgap.experiments.synergy.twins import cancelling_kl
from bitgap.lab.lab import Lab
from bitgap.quant.plan import mask_plans
from bitgap.records import Floats, Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under the masks of the layer map, and what the controls need.

    Arrays: kept scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``map`` (P plans),
    ``cells`` (∅, {0}, {last}, both) and, where masks are sampled, ``corners`` (4B plans, those of
    each background in turn); ``masks`` (P); on a few sentences ``random_kl`` (1+4B' x A' x N) of an
    untrained twin and ``cancelling_kl`` (S x 1+4B' x A' x N) of S plantings of P3, both ∅ first.
    """
    n = lab.n_blocks
    part = lab.first(params.map_sentences)
    design = make_design(n, seed=lab.settings.seed, complete=_complete(n, params))
    parts = {"map": design.plans(scheme)}
    twins: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if n >= FEWEST_BLOCKS:
        parts["cells"] = mask_plans(scheme, n, cell_masks(n))
        if not design.complete:
            parts["corners"] = mask_plans(
                scheme, n, _corners(n, params.background_twins, lab.settings.seed)
            )
        twins, missing = _measure_controls(lab, scheme, params)
    # A part at a time: what one holds already is not run again for what another lacks.
    scored = {name: part.score(plans, ID) for name, plans in parts.items()}
    kept = [keep(scores, {name: parts[name]}) for name, scores in scored.items()]
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**dict(ChainMap(*kept)), "masks": np.array(design.masks), **twins},
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "complete": design.complete,
            "params": asdict(params),
            **facts_of(scored["map"]),
            **missing,
        },
    )


def _measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Floats], dict[str, str]]:
    few = lab.first(params.control_sentences)
    masks = [0, *_corners(lab.n_blocks, params.control_twins, lab.settings.seed)]
    planted, missing = cancelling_kl(
        few, scheme, masks, n_plantings=params.planted_seeds, strength=params.planted_strength
    )
    return {"random_kl": random_kl(few, scheme, masks), **planted}, missing
