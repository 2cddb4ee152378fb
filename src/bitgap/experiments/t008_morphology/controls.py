"""The controls that could make the probe of T-008 worthless.

================  ======================================================  ==========================
control task      a random label for every word type                      named no oftener than by
                                                                          its commonest label
shuffled labels   labels permuted among the words of a language           likewise
random            fresh weights as the class draws them                   the model must rise higher
                                                                          at its peak, on the same
                                                                          words
labels written    a direction for each label, added at one block, whose   that block must be the
                  answers are thinned until it rises a tenth above the    peak
                  model's best block (P6)
================  ======================================================  ==========================

The embedding's baseline is subtracted everywhere. Controls are run on words of the three languages
that have most. Pure numpy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    detection,
    must_exceed,
    not_run,
)
from bitgap.experiments.t008_morphology import PRIMARY
from bitgap.experiments.t008_morphology.probed import Probed
from bitgap.records import Bools, Control, Floats, Integers, Observations
from bitgap.stats.bootstrap import bootstrap_weights, percentile_estimate
from bitgap.stats.profiles import Peak, locate_peak
from bitgap.stats.verdicts import Thresholds

BY_TYPES = "percentile bootstrap over word types, {} draws"
"""Method of an interval over word types, to be told with the number of draws."""


def probe_controls(
    observations: Observations,
    kept: Bools | None,
    peak: Peak | None,
    weights: Floats,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of the probe part.

    Args:
        observations: Of T-008.
        kept: Which of the primary feature's words are probed, (n); None for none.
        peak: Of the profile; None where nothing was probed.
        weights: How often each word type of those is drawn, (B x U).
        thresholds: What was declared.
    """
    arrays, params = observations.arrays, observations.facts["params"]
    if kept is None or peak is None or not kept[arrays["few"]].any():
        why = "no language has enough tagged words"
        return [not_run("control task", "negative", why), not_run("P6", "positive", why)]
    every = Probed.of(arrays)
    probed, inside = every.only(kept).renumbered(), kept[arrays["few"]]
    few = every.only(arrays["few"][inside]).renumbered()
    drawn = bootstrap_weights(few.n_units, thresholds.draws, 0)
    control = replace(probed, hits=probed.control_hits)
    shuffled = replace(few, hits=arrays["shuffled_hits"][:, inside])
    random, written = (
        replace(
            few,
            hits=arrays[f"{what}_hits"][:, inside],
            control_hits=arrays[f"{what}_control_hits"][:, inside],
        )
        for what in ("random", "written")
    )
    labels = arrays[f"{PRIMARY}_control"][kept]
    return [
        _no_better("control task", control, labels, weights, thresholds),
        _no_better(
            "shuffled labels", shuffled, arrays["shuffled_labels"][inside], drawn, thresholds
        ),
        _untrained(few, random, peak.block, drawn, thresholds),
        _labels_written(few, written, thresholds, params["plantings"], params["planted_height"]),
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


def _untrained(
    few: Probed, twin: Probed, block: int, weights: Floats, thresholds: Thresholds
) -> Control:
    """Compares how far both rise above their embeddings at one block, on the same words."""

    def surplus(drawn: Floats) -> Floats:
        own, random = (p.selectivity(drawn) for p in (few, twin))
        return (own[:, 1 + block] - own[:, 0]) - (random[:, 1 + block] - random[:, 0])

    more = percentile_estimate(
        surplus(np.ones_like(weights[:1]))[0],
        surplus(weights),
        unit="selectivity above the embedding's",
        level=thresholds.level,
        n=few.n_units,
        method=BY_TYPES.format(len(weights)),
    )
    detail = "at the peak the model should rise further above its embeddings than an untrained twin"
    return must_exceed(RANDOM_TWIN, more, detail)


def _labels_written(
    own: Probed, written: Probed, thresholds: Thresholds, plantings: int, above: float
) -> Control:
    """Returns whether the profile peaks where labels are written, at blocks in turn.

    A planting takes the answers about states with labels written into them for a share of word
    types, drawn anew each time, so that the block rises as far as is wanted and no further.
    """
    sites = own.selectivity()[0]
    profile, n_blocks = sites[1:] - sites[0], len(sites) - 1
    risen = written.selectivity()[0] - sites[0]
    weights = bootstrap_weights(own.n_units, thresholds.draws, 0)
    of_sites = own.selectivity(weights)
    embedding, draws = of_sites[:, 0], of_sites[:, 1:] - of_sites[:, :1]
    wanted = float(profile.max()) + above
    detected = list[bool]()
    for k in range(plantings):
        block = k * n_blocks // plantings
        added = risen[block] - profile[block]
        share = np.clip((wanted - profile[block]) / added, 0, 1) if added > 0 else 0.0
        taken = (np.random.default_rng(k).random(own.n_units) < share)[own.units]
        planted = replace(
            own,
            hits=np.where(taken, written.hits[block], own.hits[1 + block])[None],
            control_hits=np.where(taken, written.control_hits[block], own.control_hits[1 + block])[
                None
            ],
        )
        marked, point = draws.copy(), profile.copy()
        marked[:, block] = planted.selectivity(weights)[:, 0] - embedding
        point[block] = planted.selectivity()[0, 0] - sites[0]
        detected.append(locate_peak(marked, point, thresholds.level).block == block)
    name = "P6: labels written into the states of one block"
    sought = f"the peak should be at the planted block, {above:g} above the model's best"
    return detection(name, detected, sought, thresholds)
