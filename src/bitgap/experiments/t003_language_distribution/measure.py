"""What T-003 measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.experiments.t003_language_distribution import EXPERIMENT, ID, Params
from bitgap.experiments.t003_language_distribution.plans import plans
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
    packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the whole text as the part
    ``protect`` (L + 1: nothing protected, then one block); and those of
    :func:`bitgap.experiments.t003_language_distribution.shares.state_shares` and
    :func:`bitgap.experiments.t003_language_distribution.twins.measure_controls`.
    """
    protect = plans(lab.n_blocks, scheme)
    scores = lab.score(protect, ID)
    twins, missing = measure_controls(lab, scheme, params)
    sums = linear_inputs(lab, Plan.uniform(scheme, lab.n_blocks))
    arrays: dict[str, Any] = {
        **pack_scores(scores, {"protect": protect}),
        # Seven digits of each sentence; their sums are made in float64.
        **{f"linear_{name}": values.astype(np.float32) for name, values in sums.items()},
        **state_shares(lab),
        **twins,
    }
    facts: dict[str, Any] = {
        "kin": [_kin(code) for code in lab.languages],
        **facts_of(scores),
        **missing,
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts)


def _kin(code: str) -> dict[str, str]:
    known = language(code)
    # Of what is not known, nothing is kin.
    genus, family = known.genus or code, known.family or code
    return {"script": known.script, "genus": genus, "family": family}
