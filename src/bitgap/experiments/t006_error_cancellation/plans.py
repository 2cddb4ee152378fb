"""The plans that T-006 scores and streams, and what they cost."""

from __future__ import annotations

from bitgap.experiments.protocol.experiment import COST_SCHEME, Cost
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import RoundToNearest, parse_scheme


def scored_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns ∅ (all rounded), the first and the last block rounded alone, then each block."""
    ends, singles = {0, n_blocks - 1}, [Plan.only(scheme, n_blocks, i) for i in range(n_blocks)]
    # Block linears alone, also where a scheme's scope is all weights.
    both = Plan(tuple(scheme if i in ends else "fp" for i in range(n_blocks)))
    return [Plan((scheme,) * n_blocks), both, *singles]


def error_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns each block rounded alone, then the first and the last with clipped scales, if any."""
    clipped = clipped_form(scheme)
    ends = [Plan.only(clipped, n_blocks, i) for i in (0, n_blocks - 1)] if clipped else []
    return [*(Plan.only(scheme, n_blocks, i) for i in range(n_blocks)), *ends]


def clipped_form(scheme: str) -> str | None:
    """Returns the scheme with scales clipped to the least squared error; None where none is."""
    parsed = parse_scheme(scheme)
    if isinstance(parsed, RoundToNearest) and parsed.clip == "absmax":
        return f"{parsed.name}-mse"
    return None


COST = Cost.of(
    lambda n: [scored_plans(COST_SCHEME, n)],
    streamed=lambda n: [[Plan.uniform("fp", n), *error_plans(COST_SCHEME, n)]],
    heads=lambda n: 1 + len(error_plans(COST_SCHEME, n)),
)
"""What the experiment costs on a model of L blocks; each streamed error goes through the head."""
