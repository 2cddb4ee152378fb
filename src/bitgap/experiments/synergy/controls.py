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

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    absent,
    clear,
    detection,
    not_run,
)
from bitgap.experiments.synergy.pairs import Terms, corners_of, interaction
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import few_estimates
from bitgap.stats.verdicts import Thresholds


def synergy_controls(
    observations: Observations, terms: Terms, shown: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the interaction of the first and the last block.

    Args:
        observations: With ``random_kl`` and ``cancelling_kl``, ∅ first and then the corners.
        terms: The pair's terms.
        shown: Languages that enter, (A).
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    how = {"unit": "share of K(none)", "seed": 0, "draws": thresholds.draws,
           "level": thresholds.level}  # fmt: skip
    sesoi = thresholds.of("synergy")["sesoi"]
    return [
        terms.neighbours(),
        _random_control(arrays, facts, sesoi, how),
        _permuted(observations, terms, shown),
        _planted(arrays, facts, sesoi, how, thresholds),
    ]


def _of_few(kl: Floats, how: Mapping[str, Any]) -> Estimate:
    """Returns θ over the backgrounds of a control, (1+4B x A x N), ∅ first."""
    damage = kl.mean(1)
    corners = damage[1:].reshape(-1, 4, damage.shape[-1])
    return few_estimates(interaction(corners, damage[0]), damage.shape[-1], **how)[0]


def _random_control(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    sesoi: float,
    how: Mapping[str, Any],
) -> Control:
    name = "random-init twin"
    if "random_kl" not in arrays:
        return not_run(name, "negative", absent(facts, "random"))
    found = _of_few(arrays["random_kl"], how)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, sesoi),
        detail="the ends of an untrained twin should not protect more together than apart",
        estimate=found,
    )


def _permuted(observations: Observations, terms: Terms, shown: Bools) -> Control:
    """Returns the invariance: languages' names shuffled within every sentence leave θ as it was."""
    rng, rows = np.random.default_rng(0), np.flatnonzero(shown)
    source = "map_kl" if terms.complete else "corners_kl"
    kl = observations.arrays[source].copy()
    for s in range(kl.shape[-1]):
        kl[:, rows, s] = kl[:, rng.permutation(rows), s]
    shuffled = {**observations.arrays, source: kl}
    corners = corners_of(shuffled, observations.facts, "kl", shown)
    before = terms.theta.value
    after = float(interaction(corners, terms.none)(np.ones((1, kl.shape[-1])))[0, 0])
    return Control(
        name="language labels permuted",
        kind="invariance",
        passed=before is not None and abs(after - before) <= 1e-9 * max(1.0, abs(before)),
        detail="the interaction is on the mean over languages and may not hang on their names",
    )


def _planted(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    sesoi: float,
    how: Mapping[str, Any],
    thresholds: Thresholds,
) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_kl" not in arrays:
        return not_run(name, "positive", absent(facts, "cancelling"))
    found = [clear(_of_few(kl, how), sesoi) for kl in arrays["cancelling_kl"]]
    return detection(name, found, "the interaction should be clear", thresholds)
