"""How H2.3 is judged over model families."""

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.family_rule import Effect, Rule, at_least, same_sign
from bitgap.records import Finding


def among_the_lowest(finding: Finding, declared: Mapping[str, Any]) -> bool:
    """Returns whether the ends' correlation is in the declared lowest share of all pairs'."""
    rank, n = finding.tables["rank_from_below"], finding.tables["n_pairs"]
    return rank is not None and rank <= declared["percentile"] * n


RULE = Rule(
    statistics=(
        Effect(name="-rho(0, last)", estimate="minus_rho"),
        Effect(name="-rho(0, last), scales by the other rule", estimate="minus_rho_other"),
    ),
    further={
        "the pair is among the lowest": among_the_lowest,
        "errors cancel enough": at_least("cancelled_share", "cancelled_share"),
        "errors cancel enough with scales by the other rule": at_least(
            "cancelled_share_other", "cancelled_share"
        ),
        "the sign holds per token": same_sign("minus_rho", "minus_rho_per_token"),
    },
)
