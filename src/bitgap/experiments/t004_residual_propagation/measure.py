"""What T-004 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bitgap.experiments.protocol.scores import (
    facts_of,
    keep,
)
from bitgap.experiments.t004_residual_propagation import EXPERIMENT, FEWEST_BLOCKS, ID, Params
from bitgap.experiments.t004_residual_propagation.controls import masks, scored_sets
from bitgap.experiments.t004_residual_propagation.propagation import amplification, state_errors
from bitgap.experiments.t004_residual_propagation.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures errors of the state by depth, and damage of the 2L masks.

    Arrays, with J = L masks ({last}, then {j, last} for j = 0 … L−2): those of
    :func:`.propagation.state_errors` under ``state_``; ``amplification`` (L x L+1),
    relative error after block l per unit after block j; kept scores
    (:mod:`~bitgap.experiments.protocol.scores`) of the part ``masks`` (2L plans: ∅, {last}, {j},
    {j, last}); and those of :func:`.twins.measure_controls`.
    """
    n = lab.n_blocks
    plans = [Plan.uniform(scheme, n, kept) for kept in scored_sets(n, range(n - 1))]
    scores = lab.score(plans, ID)
    errors = state_errors(lab, masks(scheme, n, range(n - 1)))
    twins: dict[str, Any] = {}
    absent: dict[str, str] = {}
    if n >= FEWEST_BLOCKS:
        twins, absent = measure_controls(
            lab,
            scheme,
            n_sentences=params.control_sentences,
            n_plantings=params.planted_seeds,
            strength=params.planted_strength,
        )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **keep(scores, {"masks": plans}),
            **{f"state_{name}": values for name, values in errors.items()},
            "amplification": amplification(lab, params.noise),
            **twins,
        },
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "params": asdict(params),
            **facts_of(scores),
            **absent,
        },
    )
