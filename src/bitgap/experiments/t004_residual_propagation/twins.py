"""What T-004 measures for its controls: an untrained twin, matched noise, errors that cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import cancelling_plan, plant_cancellation
from bitgap.experiments.protocol.twins import in_few_languages, kl_of
from bitgap.experiments.t004_residual_propagation import Params
from bitgap.experiments.t004_residual_propagation.plans import plans, scored_sets
from bitgap.experiments.t004_residual_propagation.propagation import state_errors
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import relative_errors
from bitgap.quant.plan import Plan
from bitgap.records import Floats


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show on a few sentences, and why one is absent.

    Returns:
        Arrays: for ``random`` and ``matched`` the last block's ``<name>_error`` (L x A x N) and
        ``<name>_tokens`` (A x N), masks as in T-004; for S plantings of P3, with block 0 and two
        others as j, ``cancelling_error`` (S x 4 x A' x N), ``cancelling_tokens`` (A' x N) and
        ``cancelling_kl`` (S x 8 x A' x N), on the first three languages. Facts:
        ``no_cancelling``.
    """
    few = lab.spread(params.control_sentences)
    masks = plans(lab.n_blocks, scheme, params)["state"]
    arrays: dict[str, Any] = _last_errors(few.random_twin(), masks, "random")
    arrays |= _last_errors(few, _matched(few, scheme, masks), "matched")
    try:
        return arrays | _cancelling(few, scheme, params), {}
    except UnsupportedArchitecture as error:
        return arrays, {"no_cancelling": str(error)}


def _last_errors(lab: Lab, masks: Sequence[Plan], name: str) -> dict[str, Floats]:
    errors = state_errors(lab, masks)
    return {f"{name}_error": errors["error"][:, -2], f"{name}_tokens": errors["tokens"][-2]}


def _matched(lab: Lab, scheme: str, masks: Sequence[Plan]) -> list[Plan]:
    """Returns the masks with noise of each block's own relative error in the place of rounding."""
    sizes = np.sqrt(relative_errors(lab.decoder, scheme))
    noise = [f"noise{size:.4f}-s{lab.settings.seed}" for size in sizes]
    return [
        Plan(tuple("fp" if s == "fp" else noise[i] for i, s in enumerate(plan.blocks)))
        for plan in masks
    ]


def _cancelling(few: Lab, scheme: str, params: Params) -> dict[str, Floats]:
    part = in_few_languages(few)
    n = part.n_blocks
    # Two blocks spread over the inside stand for all others.
    others = [0, (n - 1) // 3, 2 * (n - 1) // 3]
    sets = scored_sets(n, others)
    streamed = [(n - 1,), *((j, n - 1) for j in others)]
    kl, error, tokens = [], [], np.zeros(part.text.counts.tokens.shape)
    for s in range(params.planted_seeds):
        variant = plant_cancellation(
            part, scheme, strength=params.planted_strength, seed=part.settings.seed + s
        )
        kl.append(kl_of(part, [cancelling_plan(scheme, variant, n, kept) for kept in sets]))
        masks = [cancelling_plan(scheme, variant, n, kept) for kept in streamed]
        errors = _last_errors(part, masks, "cancelling")
        error.append(errors["cancelling_error"])
        tokens = errors["cancelling_tokens"]
        part.bank.drop(variant)
    return {
        "cancelling_kl": np.array(kl),
        "cancelling_error": np.array(error),
        "cancelling_tokens": tokens,
    }
