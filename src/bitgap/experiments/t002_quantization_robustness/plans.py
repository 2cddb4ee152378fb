"""The plans that T-002 scores, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Cost
from bitgap.experiments.t002_quantization_robustness import Params
from bitgap.quant.plan import Plan, noise_plans

BITS = 4
TENSOR = f"rtn{BITS}-tensor"
"""Rounding that H1.2 is judged under, whatever the run's scheme: the original study's, as far as
one block's linears go."""


def plans(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> dict[str, list[Plan]]:
    """Returns the plans of every part.

    Returns:
        With one scale a tensor: ``tensor`` (L), one block rounded, and ``tensor_all`` (1), every
        block; under the run's scheme: ``single`` (L), one block rounded, and ``protect`` (L + 1),
        nothing protected and then one block; ``noise`` (L·T·S: block, size, draw).
    """
    kept = [(), *((j,) for j in range(n_blocks))]
    return {
        "tensor": [Plan.only(TENSOR, n_blocks, j) for j in range(n_blocks)],
        "tensor_all": [Plan.uniform(TENSOR, n_blocks)],
        "single": [Plan.only(scheme, n_blocks, j) for j in range(n_blocks)],
        "protect": [Plan.uniform(scheme, n_blocks, blocks) for blocks in kept],
        "noise": noise_plans(n_blocks, params.noise, params.noise_seeds, seed),
    }


def asked(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> list[Asked]:
    """Returns what the lab scores."""
    parts = plans(n_blocks, scheme, params, seed)
    tensor = [*parts["tensor"], *parts["tensor_all"]]
    return [
        Asked(of_part) for of_part in (parts["protect"], parts["single"], tensor, parts["noise"])
    ]


COST = Cost.of(lambda n: [request.plans for request in asked(n, COST_SCHEME, Params())])
"""What the experiment costs on a model of L blocks."""
