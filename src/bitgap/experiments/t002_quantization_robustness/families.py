"""How H1.2 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Correlation, Rule, at_least

RULE = Rule(
    statistics=(
        Correlation(
            name="mean r(log variance, -log RE)", x="log_variance_fixed", y="log_t2", sign=-1.0
        ),
        Correlation(name="mean r(log RE, log k)", x="log_t2", y="log_k"),
    ),
    further={"t² has half of log k": at_least("lmg_share_of_error", "lmg_share")},
)
