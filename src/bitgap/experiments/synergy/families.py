"""How synergy is judged over model families."""

from bitgap.experiments.protocol.family_rule import Effect, Rule, positive, same_sign, told_true

RULE = Rule(
    statistics=(Effect(name="interaction of the first and the last block", estimate="banzhaf"),),
    further={
        "the pair is in the top 5 %": told_true("further", "top_pair"),
        "the cells leave what additive damage implies": told_true("further", "beyond_additive"),
        "the sign holds on the text's own likelihood": positive("banzhaf_on_text"),
        "the sign holds per token": same_sign("banzhaf", "banzhaf_per_token"),
    },
)
