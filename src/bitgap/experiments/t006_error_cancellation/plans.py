"""The plans that T-006 scores and streams, and what they cost."""

from __future__ import annotations

from dataclasses import replace

from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Cost
from bitgap.experiments.t006_error_cancellation import Params
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import RoundToNearest, parse_scheme


def scored_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns ∅ (all rounded), the first and the last block rounded alone, then each block."""
    ends, singles = {0, n_blocks - 1}, [Plan.only(scheme, n_blocks, i) for i in range(n_blocks)]
    # Block linears alone, also where a scheme's scope is all weights.
    both = Plan(tuple(scheme if i in ends else "fp" for i in range(n_blocks)))
    return [Plan((scheme,) * n_blocks), both, *singles]


def error_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns each block rounded alone, then the ends with scales by the other rule, if any."""
    other = other_form(scheme)
    ends = [Plan.only(other, n_blocks, i) for i in (0, n_blocks - 1)] if other else []
    return [*(Plan.only(scheme, n_blocks, i) for i in range(n_blocks)), *ends]


def other_form(scheme: str) -> str | None:
    """Returns the scheme with scales by the other rule; None where there is only one.

    Scales are set by the largest weight of a group or clipped to the least squared error.
    """
    parsed = parse_scheme(scheme)
    if not isinstance(parsed, RoundToNearest):
        return None
    return replace(parsed, clip="mse" if parsed.clip == "absmax" else "absmax").name


def rule_of(scheme: str) -> str:
    """Returns how the scheme sets its scales, as people say it."""
    parsed = parse_scheme(scheme)
    if not isinstance(parsed, RoundToNearest):
        return scheme
    return "absmax scales" if parsed.clip == "absmax" else "clipped scales"


def asked(n_blocks: int, scheme: str, params: Params, seed: int = 0) -> list[Asked]:
    """Returns what the lab scores, which hangs on no parameter."""
    none, both, *singles = scored_plans(scheme, n_blocks)
    return [Asked([none]), Asked(singles), Asked([both])]


COST = Cost.of(
    lambda n: [request.plans for request in asked(n, COST_SCHEME, Params())],
    streamed=lambda n: [[Plan.uniform("fp", n), *error_plans(COST_SCHEME, n)]],
    heads=lambda n: 1 + len(error_plans(COST_SCHEME, n)),
)
"""What the experiment costs on a model of L blocks; each streamed error goes through the head."""
