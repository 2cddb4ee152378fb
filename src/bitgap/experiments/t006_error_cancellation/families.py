"""How H2.3 is judged over model families."""

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.family_rule import Effect, Rule, at_least
from bitgap.records import Finding


def among_the_lowest(finding: Finding, declared: Mapping[str, Any]) -> bool:
    """Returns whether the ends' correlation is in the declared lowest share of all pairs'."""
    rank, n = finding.tables["rank_from_below"], finding.tables["n_pairs"]
    return rank is not None and rank <= declared["percentile"] * n


RULE = Rule(
    statistics=(Effect(name="-rho(0, last)", estimate="minus_rho"),),
    further={
        "the pair is among the lowest": among_the_lowest,
        "errors cancel enough": at_least("cancelled_share", "cancelled_share"),
    },
)
