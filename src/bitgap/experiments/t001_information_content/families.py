"""How H1.1 is judged over model families."""

from bitgap.experiments.protocol.family_rule import Correlation, Rule, low_above

RULE = Rule(
    statistics=(
        Correlation(
            name="mean r(log variance, usable information)",
            x="log_variance_fixed",
            y=("usable_bits_current", "usable_bits_previous"),
        ),
    ),
    further={
        "the correlation is above 0 when sentences are resampled": low_above(
            "variance_and_information_by_sentence", 0.0
        )
    },
)
