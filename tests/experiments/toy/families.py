"""How H5.1 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Effect, Rule

RULE = Rule(statistics=(Effect(name="mean damage over families", estimate="damage"),))
