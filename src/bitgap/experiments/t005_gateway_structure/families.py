"""How H2.2 is judged over model families."""

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.family_rule import BothEnds, Rule, low_above
from bitgap.records import Finding


def above_chance(finding: Finding, declared: Mapping[str, Any]) -> bool:
    """Returns whether the percentile's interval lies above that of two blocks like any others."""
    return low_above("percentile_of_ends", declared["chance"])(finding, declared)


RULE = Rule(
    statistics=(BothEnds(),),
    further={
        "the percentile's interval is above the middle": above_chance,
        "the percentile exceeds that of untrained twins": low_above("percentile_beyond_twins", 0.0),
    },
)
