"""The plans that T-004 scores and streams, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Cost
from bitgap.experiments.t004_residual_propagation import Params
from bitgap.quant.plan import Plan


def scored_sets(n_blocks: int, others: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns the protected sets that θ2 needs: ∅, {last}, every {j}, every {j, last}."""
    last = n_blocks - 1
    return [(), (last,), *((j,) for j in others), *((j, last) for j in others)]


def plans(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> dict[str, list[Plan]]:
    """Returns the plans of every part.

    Returns:
        ``masks`` (2L), those of :func:`scored_sets`, which are scored; and of states that are
        streamed beside full precision ``state`` (L), {last} and then every {j, last}, and
        ``noisy`` (L), Gaussian noise in one block alone.
    """
    blocks, last = range(n_blocks), n_blocks - 1
    kept = scored_sets(n_blocks, blocks[:-1])
    travelling = [(last,), *((j, last) for j in blocks[:-1])]
    noise = f"noise{params.noise}-s{seed}"
    return {
        "masks": [Plan.uniform(scheme, n_blocks, protect) for protect in kept],
        "state": [Plan.uniform(scheme, n_blocks, protect) for protect in travelling],
        "noisy": [Plan.uniform(noise, n_blocks, set(blocks) - {j}) for j in blocks],
    }


def asked(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> list[Asked]:
    """Returns what the lab scores."""
    masks = plans(n_blocks, scheme, params, seed)["masks"]
    # Nothing protected and single blocks, as T-002 has them; then pairs.
    apart = (
        [plan for plan in masks if (len(plan.protected) < 2) == single] for single in (True, False)
    )
    return [Asked(of_part) for of_part in apart if of_part]


def _streamed(n_blocks: int) -> list[list[Plan]]:
    parts, fp = plans(n_blocks, COST_SCHEME, Params()), Plan.uniform("fp", n_blocks)
    return [[fp], [fp, *parts["state"]], [fp, *parts["noisy"]]]


COST = Cost.of(
    lambda n: [request.plans for request in asked(n, COST_SCHEME, Params())], streamed=_streamed
)
"""What the experiment costs on a model of L blocks; variances of the states are a stream too."""
