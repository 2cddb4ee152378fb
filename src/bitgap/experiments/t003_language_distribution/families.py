"""How H1.3 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Correlation, Rule, same_sign

RULE = Rule(
    statistics=(Correlation(name="mean r(B, benefit)", x="bias", y="benefit_disparity"),),
    further={
        "the link to -G has the sign of that to -|D|": same_sign(
            "bias_and_benefit", "bias_and_gap_benefit"
        )
    },
)
