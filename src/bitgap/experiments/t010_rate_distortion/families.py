"""How H4.1 is judged over model families."""

from collections.abc import Mapping
from typing import Any

from bitgap.experiments.protocol.family_rule import Effect, Rule, same_sign, told_true
from bitgap.records import Finding


def exponent_allows(finding: Finding, declared: Mapping[str, Any]) -> bool:
    """Returns whether too small a fall would say something: damage itself falls as theory has it.

    Where it does not, as where few bits saturate it, S is bent with it.
    """
    low, high = declared["exponent"]
    end, exponent = finding.estimates["spread_fall"].high, finding.estimates["exponent"].value
    small = end is not None and end < declared["sesoi"]
    return not small or (exponent is not None and low <= exponent <= high)


RULE = Rule(
    statistics=(Effect(name="fall of S per log2 q", estimate="spread_fall"),),
    further={
        "the origin's form is as good as the best, and c > 0": told_true(
            "seed_form", "within_2_se", "c_above_0"
        ),
        "S per token and per text fall alike": same_sign("spread_fall", "spread_fall_text"),
    },
    informative=(
        exponent_allows,
        "S does not fall by what was declared, but neither does damage itself fall as theory "
        "has it, by 2 in log2 for each doubling of the levels",
    ),
)
