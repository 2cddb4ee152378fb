"""How H2.2 is judged over model families."""

from bitgap.experiments.protocol.family_rule import BothEnds, Rule, low_above
from bitgap.experiments.t005_gateway_structure import NULL

RULE = Rule(
    statistics=(BothEnds(),),
    further={
        "the percentile's interval is above the middle": low_above("percentile_of_ends", NULL)
    },
)
