"""How H4.1 is judged over model families."""

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.family_rule import Effect, Rule, told_true
from bitgap.experiments.t010_rate_distortion import Params
from bitgap.records import Finding


def exponent_allows(finding: Finding, declared: Mapping[str, Any]) -> bool:
    """Returns whether a flat ratio would say something: damage itself falls as theory has it."""
    low, high = Params().exponent_range
    end, exponent = finding.estimates["minus_slope"].high, finding.estimates["exponent"].value
    flat = end is not None and 0 <= end < declared["sesoi"]
    return not flat or (exponent is not None and low <= exponent <= high)


RULE = Rule(
    statistics=(Effect(name="fall of the log2 damage ratio per bit", estimate="minus_slope"),),
    further={
        "the origin's form is as good as the best, and c > 0": told_true(
            "seed_form", "within_2_se", "c_above_0"
        )
    },
    informative=(
        exponent_allows,
        "the ratio is flat, but damage's own exponent is not about 2, as theory has it",
    ),
)
