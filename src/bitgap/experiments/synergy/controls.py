"""The controls of synergy: θ on a twin, under permuted labels, beside other pairs, and planted.

==========  ==================================================  ================================
pairs       {0, L−2} and {1, L−1}, one block shorter            must do less together
random      fresh weights as the class draws them               must show no interaction
labels      languages' names shuffled within every sentence     must leave θ as it was
cancelling  P3: errors of the first and last block cancel       their interaction must be found
==========  ==================================================  ================================

Twin and plantings are scored on few sentences, languages and backgrounds: an effect of the size
that counts shows on few.
"""

from __future__ import annotations

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    clear,
    detection,
    labels_permuted,
    must_exceed,
    must_not_show,
    not_run,
    with_labels_permuted,
)
from bitgap.experiments.synergy.pair_interaction import (
    UNIT,
    PairInteraction,
    corners_of,
    interaction,
)
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import few_estimates
from bitgap.stats.verdicts import Thresholds


def synergy_controls(
    observations: Observations, pair: PairInteraction, displayed: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the interaction of the first and the last block.

    Args:
        observations: With ``random_kl`` and ``cancelling_kl``, ∅ first and then the corners.
        pair: The interaction.
        displayed: Languages that enter, (A).
        thresholds: What was declared.
    """
    return [
        _neighbours(pair),
        _untrained(observations, thresholds),
        _permuted(observations, pair, displayed),
        _planted(observations, thresholds),
    ]


def _neighbours(pair: PairInteraction) -> Control:
    last, surplus = pair.n_blocks - 1, pair.beyond_neighbours()
    return must_exceed(
        f"pairs one block shorter, {{0, {last - 1}}} and {{1, {last}}}",
        surplus,
        "the ends should do more together than either pair beside, or it is closeness to the ends "
        "and not the ends",
    )


def _of_few(kl: Floats, thresholds: Thresholds) -> Estimate:
    """Returns θ over the backgrounds of a control, (1+4B x A x N), ∅ first."""
    damage = kl.mean(1)
    corners = damage[1:].reshape(-1, 4, damage.shape[-1])
    statistic = interaction(corners, damage[0])
    return few_estimates(statistic, damage.shape[-1], unit=UNIT, **thresholds.how)[0]


def _untrained(observations: Observations, thresholds: Thresholds) -> Control:
    if "random_kl" not in observations.arrays:
        return not_run(RANDOM_TWIN, "negative", absent(observations.facts, "random"))
    theta = _of_few(observations.arrays["random_kl"], thresholds)
    detail = "the ends of an untrained twin should not protect more together than apart"
    return must_not_show(RANDOM_TWIN, theta, thresholds.of("synergy")["sesoi"], detail)


def _permuted(observations: Observations, pair: PairInteraction, displayed: Bools) -> Control:
    source = "map_kl" if pair.complete else "corners_kl"
    kl = with_labels_permuted(observations.arrays[source], displayed)
    shuffled = {**observations.arrays, source: kl}
    corners = corners_of(shuffled, observations.facts, "kl", displayed)
    before = pair.theta.value
    after = float(interaction(corners, pair.none)(np.ones((1, kl.shape[-1])))[0, 0])
    return labels_permuted(
        before is not None and abs(after - before) <= 1e-9 * max(1.0, abs(before)),
        "the interaction is on the mean over languages and may not hang on their names",
    )


def _planted(observations: Observations, thresholds: Thresholds) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_kl" not in observations.arrays:
        return not_run(name, "positive", absent(observations.facts, "cancelling"))
    sesoi, plantings = thresholds.of("synergy")["sesoi"], observations.arrays["cancelling_kl"]
    detected = [clear(_of_few(kl, thresholds), sesoi) for kl in plantings]
    return detection(name, detected, "the interaction should be clear", thresholds)
