"""What synergy measures for its controls: an untrained twin, and errors of the ends that cancel."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import cancelling_plan, plant_cancellation
from bitgap.experiments.protocol.twins import in_few_languages, kl_of, random_kl
from bitgap.experiments.synergy import Params
from bitgap.experiments.synergy.plans import corners
from bitgap.lab.lab import Lab
from bitgap.quant.sets import blocks_in
from bitgap.records import Floats


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Returns damage on a few sentences under ∅ and the pair's corners, and what is missing.

    Returns:
        Arrays: ``random_kl`` (1+4B x A' x N') of an untrained twin, and ``cancelling_kl``
        (S x 1+4B x A' x N') of S plantings of P3. Facts: ``no_cancelling``, why it is not there.
    """
    few, seed = lab.spread(params.control_sentences), lab.settings.seed
    masks = [0, *corners(lab.n_blocks, params.control_twins, seed)]
    part = in_few_languages(few)
    arrays: dict[str, Any] = {}
    missing: dict[str, str] = {}
    planted: list[Floats] = []
    try:
        for s in range(params.planted_seeds):
            variant = plant_cancellation(
                part, scheme, strength=params.planted_strength, seed=seed + s
            )
            ends = [cancelling_plan(scheme, variant, lab.n_blocks, blocks_in(m)) for m in masks]
            planted.append(kl_of(part, ends))
            part.bank.drop(variant)
        arrays["cancelling_kl"] = np.array(planted)
    except UnsupportedArchitecture as error:
        missing["no_cancelling"] = str(error)
    return {"random_kl": random_kl(few, scheme, masks), **arrays}, missing
