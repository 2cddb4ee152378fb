"""What depth measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitgap.disparity.formulas import disparity
from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.biased import biased_plan, hurt_side, plant_bias
from bitgap.experiments.protocol.twins import in_few_languages, kl_of
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.quant.sets import layers_in


def biased_kl(
    few: Lab, scheme: str, triples: Sequence[int], *, others: int, plantings: int, strength: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns damage under triples where P2 is planted in three blocks, or why it could not be.

    Args:
        few: Model and text.
        scheme: How the other blocks are rounded.
        triples: All masks of three.
        others: How many beside the planted ones are scored, drawn anew each time.
        plantings: S; each in another triple.
        strength: Of the error, see :func:`bitgap.experiments.plants.biased.plant_bias`.

    Returns:
        ``biased_kl``, (S x 1+T x A' x N), the planted triple first; or the fact ``no_biased``.
    """
    mine = in_few_languages(few)
    n = mine.n_blocks
    unbiased = disparity(mine.score([Plan.uniform(scheme, n)], "controls"))[0]
    side = hurt_side(float(unbiased), mine.languages, mine.corpus.reference)
    try:
        variant = plant_bias(mine, scheme, side, strength=strength, seed=mine.settings.seed)
    except UnsupportedArchitecture as error:
        return {}, {"no_biased": str(error)}
    rng, found = np.random.default_rng(mine.settings.seed), []
    for _ in range(plantings):
        drawn = rng.permutation(len(triples))[: others + 1]
        planted = layers_in(triples[drawn[0]])
        found.append(
            kl_of(
                mine,
                [biased_plan(scheme, variant, n, planted, layers_in(triples[t])) for t in drawn],
            )
        )
    mine.bank.drop(variant)
    return {"biased_kl": np.array(found)}, {}
