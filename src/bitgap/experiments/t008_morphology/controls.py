"""The controls that could make the probe of T-008 worthless.

================  ======================================================  ==========================
control task      a random label for every word type                      named no oftener than by
                                                                          its commonest label
shuffled labels   labels permuted among the words of a language           likewise
random            fresh weights as the class draws them                   must add less to its
                                                                          embedding
labels written    a direction for each label, added at one block (P6)     that block must be the
                                                                          peak
================  ======================================================  ==========================

The embedding's baseline is subtracted everywhere. Controls are run on the words of the first three
languages that are probed. Pure numpy but for :func:`measure_controls`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitgap.experiments.protocol.controls import detection, not_run
from bitgap.records import Bools, Control, Estimate, Floats, Integers, Observations
from bitgap.stats.bootstrap import bootstrap_weights, percentile_ends
from bitgap.stats.probes import selectivity
from bitgap.stats.profiles import locate_peak
from bitgap.stats.verdicts import Thresholds

States = NDArray[np.floating[Any]]


PRIMARY = "Number"
"""The feature that the verdict is on: marked in the most languages."""


def probe_controls(
    observations: Observations, weights: Floats, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the probe part.

    Args:
        observations: Of T-008.
        weights: How often each word type is drawn, (B x U).
        thresholds: What was declared.
    """
    arrays = observations.arrays
    if "few" not in arrays:
        why = "no language has enough tagged words"
        return [not_run("control task", "negative", why), not_run("P6", "positive", why)]
    few = arrays["few"]
    units = np.unique(arrays[f"{PRIMARY}_units"][few], return_inverse=True)[1]
    languages = arrays[f"{PRIMARY}_languages"][few]
    drawn = bootstrap_weights(int(units.max()) + 1, thresholds.draws, 0)
    return [
        _no_better(
            "control task", arrays[f"{PRIMARY}_control_hits"], arrays[f"{PRIMARY}_control"],
            arrays[f"{PRIMARY}_units"], arrays[f"{PRIMARY}_languages"], weights, thresholds,
        ),
        _no_better(
            "shuffled labels", arrays["shuffled_hits"], arrays["shuffled_labels"], units,
            languages, drawn, thresholds,
        ),
        _untrained(arrays, few, units, languages),
        _labels_written(arrays, few, units, languages, drawn, thresholds),
    ]  # fmt: skip


def _no_better(
    name: str,
    hits: Bools,
    labels: Integers,
    units: Integers,
    languages: Integers,
    weights: Floats,
    thresholds: Thresholds,
) -> Control:
    """Returns whether labels without meaning are named no better than by always the commonest."""
    common = np.zeros(len(labels), dtype=bool)
    for code in np.unique(languages):
        mine = languages == code
        common[mine] = labels[mine] == np.bincount(labels[mine]).argmax()
    always = np.broadcast_to(common, hits.shape)
    statistic, n = selectivity(hits, always, units, languages)
    low, high = percentile_ends(statistic(weights)[:, 1:].mean(1), thresholds)
    found = Estimate(
        value=float(statistic(np.ones((1, n)))[0, 1:].mean()), low=float(low), high=float(high),
        unit="accuracy", level=thresholds.level, n=n,
        method=f"percentile bootstrap over word types, {len(weights)} draws",
    )  # fmt: skip
    return Control(
        name=name,
        kind="negative",
        passed=bool(low <= 0),
        detail="labels that no state can know should be named no oftener than by always saying the "
        "commonest",
        estimate=found,
    )


def _risen(hits: Bools, control: Bools, units: Integers, languages: Integers) -> float:
    statistic, n = selectivity(hits, control, units, languages)
    profile = statistic(np.ones((1, n)))[0]
    return float(profile[1:].max() - profile[0])


def _untrained(
    arrays: Mapping[str, Any], few: Integers, units: Integers, languages: Integers
) -> Control:
    trained = _risen(
        arrays[f"{PRIMARY}_hits"][:, few], arrays[f"{PRIMARY}_control_hits"][:, few], units,
        languages,
    )  # fmt: skip
    twin = _risen(arrays["random_hits"], arrays["random_control_hits"], units, languages)
    return Control(
        name="random-init twin",
        kind="negative",
        passed=twin < trained,
        detail=f"an untrained twin's best block should add less to its embedding's selectivity: "
        f"{twin:+.3f} against {trained:+.3f}",
    )


def _labels_written(
    arrays: Mapping[str, Any],
    few: Integers,
    units: Integers,
    languages: Integers,
    weights: Floats,
    thresholds: Thresholds,
) -> Control:
    own = selectivity(
        arrays[f"{PRIMARY}_hits"][1:, few], arrays[f"{PRIMARY}_control_hits"][1:, few], units,
        languages,
    )  # fmt: skip
    marked = selectivity(arrays["written_hits"], arrays["written_control_hits"], units, languages)
    one = np.ones((1, own[1]))
    draws, profile = own[0](weights), own[0](one)[0]
    planted_draws, planted = marked[0](weights), marked[0](one)[0]
    found = []
    for block in range(len(profile)):
        mine, point = draws.copy(), profile.copy()
        mine[:, block], point[block] = planted_draws[:, block], planted[block]
        found.append(locate_peak(mine, point, thresholds.level).layer == block)
    name = "P6: labels written into the states of one block"
    return detection(name, found, "the peak should be at the planted block", thresholds)
