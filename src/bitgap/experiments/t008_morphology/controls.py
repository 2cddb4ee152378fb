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
languages that are probed. Pure numpy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.controls import RANDOM_TWIN, detection, not_run
from bitgap.experiments.t008_morphology import PRIMARY
from bitgap.experiments.t008_morphology.probed import Probed
from bitgap.records import Control, Floats, Integers, Observations
from bitgap.stats.bootstrap import bootstrap_weights, percentile_estimate
from bitgap.stats.profiles import locate_peak
from bitgap.stats.verdicts import Thresholds

BY_TYPES = "percentile bootstrap over word types, {} draws"
"""Method of an interval over word types, to be told with the number of draws."""


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
    probed = Probed.of(arrays)
    few = probed.only(arrays["few"])
    few = replace(few, units=np.unique(few.units, return_inverse=True)[1])
    drawn = bootstrap_weights(few.n_units, thresholds.draws, 0)
    control = replace(probed, hits=probed.control_hits)
    shuffled = replace(few, hits=arrays["shuffled_hits"])
    random, written = (
        replace(few, hits=arrays[f"{what}_hits"], control_hits=arrays[f"{what}_control_hits"])
        for what in ("random", "written")
    )
    blocks = replace(few, hits=few.hits[1:], control_hits=few.control_hits[1:])
    labels = arrays[f"{PRIMARY}_control"]
    return [
        _no_better("control task", control, labels, weights, thresholds),
        _no_better("shuffled labels", shuffled, arrays["shuffled_labels"], drawn, thresholds),
        _untrained(few, random),
        _labels_written(blocks, written, drawn, thresholds),
    ]


def _no_better(
    name: str, probed: Probed, labels: Integers, weights: Floats, thresholds: Thresholds
) -> Control:
    """Returns whether labels without meaning are named no better than by always the commonest."""
    common = np.zeros(len(labels), dtype=bool)
    for code in probed.codes:
        inside = probed.languages == code
        common[inside] = labels[inside] == np.bincount(labels[inside]).argmax()
    beyond = replace(probed, control_hits=np.broadcast_to(common, probed.hits.shape))
    surplus = percentile_estimate(
        beyond.selectivity()[0, 1:].mean(),
        beyond.selectivity(weights)[:, 1:].mean(1),
        unit="accuracy",
        level=thresholds.level,
        n=probed.n_units,
        method=BY_TYPES.format(len(weights)),
    )
    assert surplus.low is not None
    return Control(
        name=name,
        kind="negative",
        passed=surplus.low <= 0,
        detail="labels that no state can know should be named no oftener than by always saying the "
        "commonest",
        estimate=surplus,
    )


def _untrained(few: Probed, twin: Probed) -> Control:
    own, random = (float(p[1:].max() - p[0]) for p in (few.selectivity()[0], twin.selectivity()[0]))
    return Control(
        name=RANDOM_TWIN,
        kind="negative",
        passed=random < own,
        detail=f"an untrained twin's best block should add less to its embedding's selectivity: "
        f"{random:+.3f} against {own:+.3f}",
    )


def _labels_written(
    own: Probed, written: Probed, weights: Floats, thresholds: Thresholds
) -> Control:
    """Returns whether the profile peaks at each block when labels are written there, (L) sites."""
    draws, profile = own.selectivity(weights), own.selectivity()[0]
    planted_draws, planted = written.selectivity(weights), written.selectivity()[0]
    detected = list[bool]()
    for block in range(len(profile)):
        marked, point = draws.copy(), profile.copy()
        marked[:, block], point[block] = planted_draws[:, block], planted[block]
        detected.append(locate_peak(marked, point, thresholds.level).block == block)
    name = "P6: labels written into the states of one block"
    return detection(name, detected, "the peak should be at the planted block", thresholds)
