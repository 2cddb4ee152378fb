"""How H3.1 is judged over model families."""

from bitgap.experiments.protocol.family_rule import PeakInWindow, Rule

RULE = Rule(
    statistics=(PeakInWindow(name="dimension minimum in window", estimate="minimum_depth"),)
)
