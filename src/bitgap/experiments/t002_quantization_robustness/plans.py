"""The plans that T-002 scores, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import Cost
from bitgap.experiments.t002_quantization_robustness import EXPERIMENT, Params
from bitgap.lab.engine.tree import PlanTree, Work
from bitgap.quant.plan import Plan
from bitgap.quant.sets import noise_plans, only


def _plans(n: int, scheme: str, params: Params, seed: int) -> dict[str, list[Plan]]:
    return {
        "single": [only(scheme, n, j) for j in range(n)],
        "protect": [Plan.uniform(scheme, n, kept) for kept in [(), *((j,) for j in range(n))]],
        "noise": noise_plans(n, params.noise, params.noise_seeds, seed),
    }


def _work(n: int) -> Work:
    params = EXPERIMENT.params
    parts = _plans(n, "rtn4-g128", params, 0)
    return PlanTree([plan for plans in parts.values() for plan in plans]).work()


COST = Cost(
    block_evaluations=lambda n: _work(n).block_evaluations,
    head_evaluations=lambda n: _work(n).head_evaluations,
)
"""What the experiment costs on a model of L blocks."""
