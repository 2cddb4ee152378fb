"""What depth measures for its controls: an untrained twin, and bias planted in three blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitgap.disparity.formulas import disparity
from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.depth import Params
from bitgap.experiments.depth.plans import triples_of
from bitgap.experiments.plants.biased import biased_plan, hurt_side, plant_bias
from bitgap.experiments.protocol.twins import in_few_languages, kl_of, random_kl
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.quant.sets import blocks_in, mask_of
from bitgap.stats.mask_design import original_set


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns damage on a few sentences under some triples, and what is missing.

    Returns:
        Arrays: ``random_kl`` (1+T' x A' x N') of an untrained twin, the origin's triple first, and
        ``biased_kl`` (S x 1+T' x A' x N') of S plantings of P2, each in another triple, which comes
        first. Facts: ``no_biased``, why it is not there.
    """
    few, masks = lab.spread(params.control_sentences), triples_of(lab.n_blocks)
    rng, own = np.random.default_rng(lab.settings.seed), mask_of(original_set(lab.n_blocks))
    others = [m for m in (masks[i] for i in rng.permutation(len(masks))) if m != own]
    try:
        planted, missing = {"biased_kl": _biased_kl(few, scheme, masks, params)}, {}
    except UnsupportedArchitecture as error:
        planted, missing = {}, {"no_biased": str(error)}
    untrained = random_kl(few, scheme, [own, *others[: params.control_triples]])
    return {"random_kl": untrained, **planted}, missing


def _biased_kl(few: Lab, scheme: str, triples: Sequence[int], params: Params) -> Any:
    """Returns damage under triples where P2 is planted in three blocks, (S x 1+T' x A' x N').

    Raises:
        UnsupportedArchitecture: If there is nowhere to plant.
    """
    part = in_few_languages(few)
    n, seed = part.n_blocks, part.settings.seed
    unbiased = disparity(part.score([Plan.uniform(scheme, n)], "controls"))[0]
    side = hurt_side(float(unbiased), part.languages, part.corpus.reference)
    variant = plant_bias(part, scheme, side, strength=params.planted_strength, seed=seed)
    rng, damages = np.random.default_rng(seed), []
    for _ in range(params.planted_seeds):
        drawn = [blocks_in(triples[t]) for t in rng.permutation(len(triples))]
        drawn = drawn[: params.control_triples + 1]
        damages.append(kl_of(part, [biased_plan(scheme, variant, n, drawn[0], s) for s in drawn]))
    part.bank.drop(variant)
    return np.array(damages)
