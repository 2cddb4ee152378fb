"""The regression test for the origin's central error: synergy that is not there.

Where damage adds up there is no synergy and nothing cancels, yet the origin's ratio of languages
may say "the last block alone harms, with the first it helps". Many such models are drawn, and both
the origin's reading and the verdict of the synergy experiment are counted; and again in models
whose first and last block do cancel, which must be found, or the first count would mean nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from bitgap.disparity.formulas import original_disparity
from bitgap.experiments import synergy
from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.experiments.synergy.factorial import shows_origin_pattern
from bitgap.experiments.synergy.plans import cell_masks
from bitgap.quant.plan import mask_plans
from bitgap.records import Floats, Integers, Label, Observations, Scores
from bitgap.stats.interactions import corner_masks
from bitgap.stats.verdicts import Thresholds
from validation.synth_lm import SCHEME, SynthLM, additive_synth, cancelling_synth

PLANTED_RHO = -0.8
"""Error correlation of the ends where cancellation is planted."""
PLANTINGS = 20
"""Models with cancellation that serve one judgement as its positive control."""


@dataclass(frozen=True, slots=True)
class SynergyTally:
    """What was said of many models.

    Attributes:
        n: How many models.
        origin: In how many the origin's ratio says "the last harms alone, helps with the first".
        both: In how many of those the experiment says "supported".
        labels: How often the synergy experiment reached each verdict.
    """

    n: int
    origin: int
    both: int
    labels: Counter[Label]

    def __add__(self, other: SynergyTally) -> SynergyTally:
        return SynergyTally(
            self.n + other.n,
            self.origin + other.origin,
            self.both + other.both,
            self.labels + other.labels,
        )


def count(
    make: Callable[[int], SynthLM],
    seeds: Iterable[int],
    thresholds: Thresholds,
    *,
    sentences: int = 24,
) -> SynergyTally:
    """Returns what the origin's ratio and the synergy experiment say of models.

    Args:
        make: Makes a model of a seed, of the same number of blocks for every seed.
        seeds: Which models.
        thresholds: What was declared.
        sentences: Sentences of each text.
    """
    labels: Counter[Label] = Counter()
    n = origin = both = 0
    controls: dict[str, Floats] | None = None
    for seed in seeds:
        model = make(seed)
        scores = model.scores(seed, sentences=sentences)
        if controls is None:
            controls = _controls(model.n_blocks, sentences)
        observations = observe(scores, model.n_blocks, controls)
        label = synergy.EXPERIMENT.judge(observations, thresholds).verdict.label
        pattern = shows_origin_pattern(
            original_disparity(_rows(scores, cell_masks(model.n_blocks)))
        )
        labels[label] += 1
        n, origin, both = n + 1, origin + pattern, both + (pattern and label == "supported")
    return SynergyTally(n, origin, both, labels)


def observe(scores: Scores, n_blocks: int, controls: dict[str, Floats]) -> Observations:
    """Returns observations as the synergy experiment measures them.

    Args:
        scores: Of all 2^L masks.
        n_blocks: L.
        controls: Its arrays ``random_kl`` and ``cancelling_kl``.
    """
    masks = np.arange(2**n_blocks)
    parts = {
        "map": mask_plans(SCHEME, n_blocks, masks.tolist()),
        "cells": mask_plans(SCHEME, n_blocks, cell_masks(n_blocks)),
    }
    return Observations(
        experiment=synergy.ID,
        version=synergy.EXPERIMENT.version,
        arrays={**pack_scores(scores, parts), "masks": masks, **controls},
        facts={
            "scheme": SCHEME,
            "n_blocks": n_blocks,
            "complete": True,
            "params": asdict(synergy.Params()),
            **facts_of(scores),
        },
    )


def _controls(n_blocks: int, sentences: int) -> dict[str, Floats]:
    """Returns what stands in for the twins: additive damage, and cancellation planted anew."""
    backgrounds = [0, _middle(n_blocks)]
    corners = corner_masks(backgrounds, (0, n_blocks - 1))
    masks = [0, *(mask for four in corners for mask in four)]

    def kl(model: SynthLM, seed: int) -> Floats:
        # A mask may be a corner twice over; the experiment keeps it in both places.
        distinct = sorted(set(masks))
        found = model.scores(seed, masks=distinct, sentences=sentences).kl_nats
        return found[np.searchsorted(distinct, masks)]

    planted = [
        kl(cancelling_synth(seed, PLANTED_RHO, n_blocks=n_blocks), seed)
        for seed in range(PLANTINGS)
    ]
    unplanted = kl(additive_synth(0, n_blocks=n_blocks), 1)
    return {"random_kl": unplanted, "cancelling_kl": np.array(planted)}


def _middle(n_blocks: int) -> int:
    """Returns the mask of all blocks but the first and the last."""
    return (1 << (n_blocks - 1)) - 2


def _rows(scores: Scores, masks: Iterable[int] | Integers) -> Scores:
    return scores.select(plans=[scores.plans[int(mask)] for mask in masks])
