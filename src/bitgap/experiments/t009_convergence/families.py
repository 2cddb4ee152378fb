"""How H3.3 is judged over model families."""

from bitgap.experiments.protocol.family_rule import PeakInWindow, Rule

RULE = Rule(statistics=(PeakInWindow(name="alignment peak in window", estimate="peak_depth"),))
