"""How H3.2 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Effect, PeakInWindow, Rule

RULE = Rule(
    statistics=(
        PeakInWindow(name="selectivity peak in window", estimate="peak_depth"),
        Effect(name="causal contrast, d_z", estimate="contrast_d_z", sesoi="d_z"),
    ),
)
