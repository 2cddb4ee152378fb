"""What synergy measures for its controls: an untrained twin, and errors of the ends that cancel."""

from __future__ import annotations

from typing import Any

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import planted_damage
from bitgap.experiments.protocol.twins import control_documents, in_few_languages, random_kl
from bitgap.experiments.synergy import Params
from bitgap.experiments.synergy.pair_interaction import of_corners
from bitgap.experiments.synergy.plans import cell_masks, far_masks
from bitgap.lab.lab import Lab
from bitgap.quant.sets import blocks_in
from bitgap.records import Floats


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns damage on a few sentences at the pair's corners of both ends, and what is missing.

    Returns:
        Arrays: ``random_kl`` (8 x A' x N') of an untrained twin, ``cancelling_kl`` (S x 8 x A' x
        N') of S plantings of P3, and ``control_documents`` (N') where known. Facts:
        ``no_cancelling``, why it is not there.
    """
    few, seed = lab.spread(params.control_sentences), lab.settings.seed
    masks = [*cell_masks(lab.n_blocks), *far_masks(lab.n_blocks)]
    arrays: dict[str, Any] = {
        "random_kl": random_kl(few, scheme, masks),
        **control_documents(few),
    }
    try:
        arrays["cancelling_kl"] = planted_damage(
            in_few_languages(few),
            scheme,
            [blocks_in(mask) for mask in masks],
            _judged,
            wanted=params.planted_interaction,
            start=params.planted_strength,
            seeds=[seed + s for s in range(params.planted_seeds)],
        )
    except UnsupportedArchitecture as error:
        return arrays, {"no_cancelling": str(error)}
    return arrays, {}


def _judged(kl: Floats) -> float:
    """Returns the interaction over what the last block is worth, of (8 x A x N)."""
    term, worth = of_corners(kl)
    total = float(worth.sum())
    return float(term.sum()) / total if total > 0 else float("nan")
