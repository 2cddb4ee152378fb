"""What synergy measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import cancelling_plan, plant_cancellation
from bitgap.experiments.protocol.twins import in_few_languages, kl_of
from bitgap.lab.lab import Lab
from bitgap.quant.sets import layers_in
from bitgap.records import Floats


def cancelling_kl(
    lab: Lab, scheme: str, masks: Sequence[int], *, n_plantings: int, strength: float
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Returns damage under masks where P3 is planted, or why it could not be.

    Returns:
        ``cancelling_kl``, (S x P x A' x N); or the fact ``no_cancelling``.
    """
    part, found = in_few_languages(lab), []
    try:
        for s in range(n_plantings):
            variant = plant_cancellation(
                part, scheme, strength=strength, seed=part.settings.seed + s
            )
            plans = [cancelling_plan(scheme, variant, part.n_blocks, layers_in(m)) for m in masks]
            found.append(kl_of(part, plans))
            part.bank.drop(variant)
    except UnsupportedArchitecture as error:
        return {}, {"no_cancelling": str(error)}
    return {"cancelling_kl": np.array(found)}, {}
