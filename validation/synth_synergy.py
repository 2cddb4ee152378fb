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
from functools import cache

import numpy as np

from bitgap.disparity.formulas import original_disparity
from bitgap.experiments import synergy
from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.experiments.synergy.factorial import shows_origin_pattern
from bitgap.experiments.synergy.pair_interaction import of_corners
from bitgap.experiments.synergy.plans import cell_masks, far_masks
from bitgap.quant.plan import mask_plans
from bitgap.records import Floats, Integers, Label, Observations, Scores
from bitgap.stats.verdicts import Thresholds
from validation.synth_lm import SCHEME, SynthLM, additive_synth, cancelling_synth

PLANTED_RHO = -0.3
"""Error correlation of the ends where cancellation is planted; the last block is still worth
something alone, which the interaction is a share of."""
FAR_RHO = -0.6
"""That at which it is worth less than nothing: protecting it leaves the first one's error whole."""
PLANTINGS = 20
"""Models with cancellation that serve one judgement as its positive control."""
PLANT_STEPS = 7
"""Halvings by which a plant's strength is sought."""


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
    sentences: int = 96,
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
    for seed in seeds:
        model = make(seed)
        scores = model.scores(seed, sentences=sentences)
        observations = observe(scores, model.n_blocks, _controls(model.n_blocks, sentences))
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
        "far": mask_plans(SCHEME, n_blocks, far_masks(n_blocks)),
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


@cache
def _controls(n_blocks: int, sentences: int) -> dict[str, Floats]:
    """Returns what stands in for the twins: additive damage, and cancellation planted anew.

    It is planted as strongly as the experiment does it, at twice the smallest effect of interest.
    """
    masks = [*cell_masks(n_blocks), *far_masks(n_blocks)]

    def kl(model: SynthLM, seed: int) -> Floats:
        distinct = sorted(set(masks))
        found = model.scores(seed, masks=distinct, sentences=sentences).kl_nats
        return found[np.searchsorted(distinct, masks)]

    def planted(seed: int) -> Floats:
        low, high = PLANTED_RHO, 0.0  # the nearer to −1, the larger the interaction
        found = kl(cancelling_synth(seed, low, n_blocks=n_blocks), seed)
        for _ in range(PLANT_STEPS):
            rho = (low + high) / 2
            found = kl(cancelling_synth(seed, rho, n_blocks=n_blocks), seed)
            term, worth = of_corners(found)
            enough = term.sum() >= synergy.Params().planted_interaction * worth.sum()
            low, high = (rho, high) if enough else (low, rho)
        return found

    unplanted = kl(additive_synth(0, n_blocks=n_blocks), 1)
    return {
        "random_kl": unplanted,
        "cancelling_kl": np.array([planted(seed) for seed in range(PLANTINGS)]),
    }


def _rows(scores: Scores, masks: Iterable[int] | Integers) -> Scores:
    return scores.select(plans=[scores.plans[int(mask)] for mask in masks])
