"""What T-004 measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

from bitgap.experiments.protocol.scores import facts_of, pack_scores, score_in_turn
from bitgap.experiments.t004_residual_propagation import EXPERIMENT, FEWEST_BLOCKS, ID, Params
from bitgap.experiments.t004_residual_propagation.plans import asked, plans
from bitgap.experiments.t004_residual_propagation.propagation import amplification, state_errors
from bitgap.experiments.t004_residual_propagation.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures errors of the state by depth, and damage of the 2L masks.

    Arrays, with J = L masks ({last}, then {j, last} for j = 0 … L−2): those of
    :func:`.propagation.state_errors` under ``state_``; ``amplification`` (L x L+1),
    relative error after block l per unit after block j; packed scores
    (:mod:`~bitgap.experiments.protocol.scores`) of the part ``masks`` (2L plans: ∅, {last}, {j},
    {j, last}); and those of :func:`.twins.measure_controls`.
    """
    parts = plans(lab.n_blocks, scheme, params, lab.settings.seed)
    requests = asked(lab.n_blocks, scheme, params, lab.settings.seed)
    scores = score_in_turn(lab, [request.plans for request in requests], ID)
    errors = state_errors(lab, parts["state"])
    twins: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if lab.n_blocks >= FEWEST_BLOCKS:
        twins, missing = measure_controls(lab, scheme, params)
    arrays = {
        **pack_scores(scores, {"masks": parts["masks"]}),
        **{f"state_{name}": values for name, values in errors.items()},
        "amplification": amplification(lab, parts["noisy"]),
        **twins,
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, {**facts_of(scores), **missing})
