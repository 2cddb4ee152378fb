"""The controls of synergy: θ on a twin, under permuted labels, beside other pairs, and planted.

==========  ==================================================  ================================
pairs       {0, L−2} and {1, L−1}, one block shorter            must do less together
random      fresh weights as the class draws them               must show no interaction
labels      languages' names shuffled within every sentence     must leave θ as it was
cancelling  P3: errors of the ends that cancel, θ = .2          their interaction must be found
==========  ==================================================  ================================

The first two are conditions for support: the first fails where there is nothing to find, and says
nothing against a refutation. Twin and plantings are scored on few sentences and languages; either
is compared with what its own last block is worth.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    labels_permuted,
    must_exceed,
    not_run,
    with_labels_permuted,
)
from bitgap.experiments.protocol.effects import control_units, planted, twin_control
from bitgap.experiments.synergy.pair_interaction import (
    UNIT,
    PairInteraction,
    of_corners,
    pair_terms,
    share_of_worth,
)
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import estimates
from bitgap.stats.verdicts import Thresholds


def synergy_controls(
    observations: Observations, pair: PairInteraction, displayed: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the interaction of the first and the last block.

    Args:
        observations: With ``random_kl`` and ``cancelling_kl``, at the corners of both ends.
        pair: The interaction.
        displayed: Languages that enter, (A).
        thresholds: What was declared.
    """
    sesoi = thresholds.of("synergy")["sesoi"]
    return [
        _neighbours(pair),
        twin_control(
            observations,
            "random",
            RANDOM_TWIN,
            lambda arrays: _of_few(observations, arrays["random_kl"], thresholds),
            sesoi=sesoi,
            detail="a condition for support: the ends of an untrained twin should not protect more "
            "together than apart, as a share of what its own last block is worth",
        ),
        _permuted(observations, pair, displayed),
        _planted(observations, sesoi, thresholds),
    ]


def _neighbours(pair: PairInteraction) -> Control:
    last, surplus = pair.n_blocks - 1, pair.beyond_neighbours()
    name = f"pairs one block shorter, {{0, {last - 1}}} and {{1, {last}}}"
    if surplus is None:
        return not_run(name, "negative", "these pairs were not scored from both ends")
    return must_exceed(
        name,
        surplus,
        "a condition for support, which fails where there is nothing: the ends should do more "
        "together than either pair beside, or it is closeness to the ends and not the ends",
    )


def _of_few(observations: Observations, kl: Floats, thresholds: Thresholds) -> Estimate:
    """Returns θ of the few sentences of a control, (8 x A x N)."""
    term, worth = of_corners(kl.mean(1))
    units = control_units(observations, kl.shape[-1])
    return estimates(share_of_worth(term, worth), units, unit=UNIT, **thresholds.how)[0]


def _permuted(observations: Observations, pair: PairInteraction, displayed: Bools) -> Control:
    arrays = dict(observations.arrays)
    for part in ("map_kl", "cells_kl", "far_kl"):
        arrays[part] = with_labels_permuted(arrays[part], displayed)
    term, worth = pair_terms(replace(observations, arrays=arrays), "kl", displayed)
    ones, before = np.ones((1, term.shape[-1])), pair.theta.value
    after = float(share_of_worth(term.mean(0), worth.mean(0))(ones)[0, 0])
    return labels_permuted(
        # Where the last block is worth nothing neither has a value.
        not np.isfinite(after)
        if before is None
        else abs(after - before) <= 1e-9 * max(1.0, abs(before)),
        "the interaction is on the mean over languages and may not hang on their names",
    )


def _planted(observations: Observations, sesoi: float, thresholds: Thresholds) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_kl" not in observations.arrays:
        return not_run(name, "positive", absent(observations.facts, "cancelling"))
    plantings = observations.arrays["cancelling_kl"]
    found = [_of_few(observations, kl, thresholds) for kl in plantings]
    return planted(name, found, sesoi, thresholds)
