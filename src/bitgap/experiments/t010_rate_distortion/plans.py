"""The plans that T-010 scores, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Cost
from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.t010_rate_distortion import Params
from bitgap.quant.plan import Plan, noise_plans
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Floats

NONE, SHAPLEY, REVERSE = "none", "Shapley", "reverse"


def at_bits(scheme: str, bits: int) -> str:
    """Returns the name of the same scheme at another number of bits.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    parsed: Any = parse_scheme(scheme)
    if not hasattr(parsed, "bits"):
        raise UsageError(
            f"T-010 sweeps bits, and {scheme!r} does not round to a number of bits; give a scheme "
            f"such as rtn4-g128"
        )
    return replace(parsed, bits=bits).name


def protection_orders(
    shapley_value: Floats, n_random: int, seed: int
) -> dict[str, tuple[int, ...]]:
    """Returns orders in which blocks are protected, by name: the best first, last, and random.

    Args:
        shapley_value: Of protecting each block, (L).
        n_random: How many random orders.
        seed: Of them.
    """
    best = tuple(int(i) for i in np.argsort(-shapley_value, kind="stable"))
    rng = np.random.default_rng(seed)
    drawn = {
        f"random {i}": tuple(int(j) for j in rng.permutation(len(best))) for i in range(n_random)
    }
    return {SHAPLEY: best, REVERSE: best[::-1], **drawn}


def designs(
    orders: Mapping[str, Sequence[int]], shares: Sequence[float]
) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (order, protected blocks) of every design, nothing protected first, no set twice.

    A share p is the first round(p·L) blocks of an order, half up.
    """
    order_of: dict[tuple[int, ...], str] = {(): NONE}
    for name, order in orders.items():
        for share in shares:
            size = math.floor(share * len(order) + 0.5)
            if size < len(order):
                order_of.setdefault(tuple(sorted(order[:size])), name)
    return [(name, kept) for kept, name in order_of.items()]


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


def asked(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> list[Asked]:
    """Returns what the lab scores, with orders of blocks as good as any.

    They are the layer map's masks, which order the blocks; the sweep, in exact arithmetic; and the
    noise, on all the text, as T-002 has it.
    """
    sets = [kept for _, kept in designs_of(-np.arange(n_blocks, dtype=float), params, seed)]
    parts = plans(n_blocks, scheme, params, sets, seed)
    of_map = map_design(n_blocks, params, seed).requests(scheme)
    return [
        *(Asked(plans_of_map, params.map_sentences) for plans_of_map in of_map),
        Asked(parts["cells"], params.sentences, exact=True),
        Asked(parts["noise"]),
    ]


def _requests(n_blocks: int) -> list[Sequence[Plan]]:
    """Returns the sweep of orders as good as any: how many plans share a prefix is by chance."""
    params = Params()
    sets = [kept for _, kept in designs_of(-np.arange(n_blocks, dtype=float), params, 0)]
    return [plans(n_blocks, COST_SCHEME, params, sets)["cells"]]


COST = Cost.of(_requests, sentences=Params().sentences)
"""What the experiment costs on a model of L blocks."""
