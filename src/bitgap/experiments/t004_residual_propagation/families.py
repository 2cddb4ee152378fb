"""How H2.1 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Effect, Rule

RULE = Rule(
    statistics=(
        Effect(name="SNR contrast of block 0", estimate="snr_contrast"),
        Effect(
            name="interaction of block 0 with the last",
            estimate="interaction",
            sesoi="sesoi_interaction",
        ),
    ),
)
