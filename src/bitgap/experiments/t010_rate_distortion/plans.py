"""The plans that T-010 scores, and what they cost."""

from __future__ import annotations

import numpy as np

from bitgap.experiments.protocol.experiment import Cost
from bitgap.experiments.t010_rate_distortion import Params
from bitgap.experiments.t010_rate_distortion.sweep import (
    designs,
    protection_orders,
    sweep_plans,
)
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan


def _plans(n: int) -> list[Plan]:
    """Returns the sweep's plans for orders as good as any: how many share a prefix is by chance."""
    params = Params()
    made = designs(
        protection_orders(-np.arange(n, dtype=float), params.random_orders, 0), params.shares
    )
    return sweep_plans("rtn4-g128", n, params.bits, [kept for _, kept in made])


COST = Cost(
    block_evaluations=lambda n: PlanTree(_plans(n)).work().block_evaluations,
    head_evaluations=lambda n: len(_plans(n)),
    sentences=Params().sentences,
)
"""What the experiment costs on a model of L blocks."""
