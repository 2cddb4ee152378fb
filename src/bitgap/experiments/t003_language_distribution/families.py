"""How H1.3 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Correlation, Rule, same_sign

RULE = Rule(
    statistics=(Correlation(name="mean r(U, fall of S)", x="inequality", y="fall"),),
    further={
        "the link to the fall of S per text has the sign of that per token": same_sign(
            "inequality_and_fall", "inequality_and_fall_per_text"
        )
    },
    written=Correlation(
        name="mean r(the origin's own predictor, fall of S)", x="original_variance", y="fall"
    ),
)
