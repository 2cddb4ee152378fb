"""The plans that T-010 scores, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.experiments.t010_rate_distortion import Params
from bitgap.experiments.t010_rate_distortion.sweep import at_bits, designs, protection_orders
from bitgap.quant.plan import Plan, noise_plans
from bitgap.records import Floats


def designs_of(
    shapley_value: Floats, params: Params, seed: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (order, protected blocks) of every design, given blocks' Shapley values, (L)."""
    orders = protection_orders(shapley_value, params.random_orders, seed)
    return designs(orders, params.shares)


def plans(
    n_blocks: int, scheme: str, params: Params, sets: Sequence[Sequence[int]], seed: int = 0
) -> dict[str, Sequence[Plan]]:
    """Returns the plans of every part.

    Args:
        n_blocks: L.
        scheme: Swept over numbers of bits.
        params: With bits and noise.
        sets: Protected blocks of every design.
        seed: Of the noise.

    Returns:
        ``cells``, designs within numbers of bits, and ``noise``, shared with T-002.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    return {
        "cells": [
            Plan.uniform(at_bits(scheme, b), n_blocks, kept) for b in params.bits for kept in sets
        ],
        "noise": noise_plans(n_blocks, params.noise, params.noise_seeds, seed),
    }


def _requests(n_blocks: int) -> list[Sequence[Plan]]:
    """Returns the sweep of orders as good as any: how many plans share a prefix is by chance."""
    params = Params()
    sets = [kept for _, kept in designs_of(-np.arange(n_blocks, dtype=float), params, 0)]
    return [plans(n_blocks, COST_SCHEME, params, sets)["cells"]]


COST = Cost.of(_requests, sentences=Params().sentences)
"""What the experiment costs on a model of L blocks."""
