"""How H2.1 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Effect, Rule, same_sign

RULE = Rule(
    statistics=(
        Effect(name="gain at the last state from protecting block 0 too", estimate="snr_gain"),
        Effect(
            name="interaction of block 0 with the last",
            estimate="interaction",
            sesoi="sesoi_interaction",
        ),
    ),
    further={
        "the interaction keeps its sign per token": same_sign(
            "interaction", "interaction_per_token"
        )
    },
)
