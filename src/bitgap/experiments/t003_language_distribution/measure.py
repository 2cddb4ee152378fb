"""What T-003 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from bitgap.disparity.layer_map import (
    LARGEST_FACTORIAL,
    make_design,
)
from bitgap.experiments.protocol.scores import facts_of, keep
from bitgap.experiments.t003_language_distribution import EXPERIMENT, ID, Params
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
    kept scores (:mod:`~bitgap.experiments.protocol.scores`) of the layer map's text and of
    its masks as the part ``map``, float32; and those of
    :func:`bitgap.experiments.t003_language_distribution.shares.state_shares` and
    :func:`bitgap.experiments.t003_language_distribution.twins.measure_controls`.
    """
    n = lab.n_blocks
    rounded = Plan(tuple(scheme for _ in range(n)))
    part = lab.first(params.map_sentences)
    complete = params.complete and n <= LARGEST_FACTORIAL
    design = make_design(n, seed=lab.settings.seed, complete=complete)
    scores = part.score(design.plans(scheme), "map")
    masks = keep(scores, {"map": design.plans(scheme)})
    twins, absent = measure_controls(
        lab,
        scheme,
        n_sentences=params.control_sentences,
        n_plantings=params.planted_seeds,
        strength=params.planted_strength,
    )
    sums = linear_inputs(lab, rounded)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **masks,
            # Seven digits of each sentence; their sums are made in float64.
            **{name: masks[name].astype(np.float32) for name in ("map_kl", "map_nll")},
            **{f"linear_{name}": values.astype(np.float32) for name, values in sums.items()},
            **state_shares(lab),
            **twins,
        },
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "complete": complete,
            "seed": lab.settings.seed,
            "kin": [_kin(code) for code in lab.languages],
            "params": asdict(params),
            **facts_of(scores),
            **absent,
        },
    )


def _kin(code: str) -> dict[str, str]:
    found = language(code)
    return {"script": found.script, "genus": found.genus, "family": found.family}
