"""What T-004 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import cancelling_plan, plant_cancellation
from bitgap.experiments.protocol.controls import (
    PLANTED_LANGUAGES,
)
from bitgap.experiments.t004_residual_propagation.controls import masks, scored_sets
from bitgap.experiments.t004_residual_propagation.propagation import state_errors
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import relative_errors
from bitgap.models.gauge import loaded_with, random_twin
from bitgap.quant.plan import Plan
from bitgap.records import Floats


def measure_controls(
    lab: Lab, scheme: str, *, n_sentences: int, n_plantings: int, strength: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show on a few sentences, and why one is absent.

    Returns:
        Arrays: for ``random`` and ``matched`` the last block's ``<name>_error`` (L x A x N) and
        ``<name>_tokens`` (A x N), masks as in T-004; for S plantings of P3, with block 0 and two
        others as j, ``cancelling_error`` (S x 4 x A' x N), ``cancelling_tokens`` (A' x N) and
        ``cancelling_kl`` (S x 8 x A' x N), on the first three languages. Facts: ``no_<name>``.
    """
    few = lab.first(n_sentences)
    n = lab.n_blocks
    plans = masks(scheme, n, range(n - 1))
    arrays: dict[str, Any] = {}
    facts: dict[str, str] = {}
    untrained = random_twin(lab.decoder.model, lab.settings.seed)
    twin = few.twin(loaded_with(lab.loaded, untrained, "random"))
    arrays |= _last_errors(twin, plans, "random")
    arrays |= _last_errors(few, _matched(few, scheme), "matched")
    try:
        arrays |= _cancelling(few, scheme, n_plantings, strength)
    except UnsupportedArchitecture as error:
        facts["no_cancelling"] = str(error)
    return arrays, facts


def _last_errors(lab: Lab, plans: Sequence[Plan], name: str) -> dict[str, Floats]:

    found = state_errors(lab, plans)
    return {f"{name}_error": found["error"][:, -2], f"{name}_tokens": found["tokens"][-2]}


def _matched(lab: Lab, scheme: str) -> list[Plan]:
    """Returns the masks with noise of each block's own relative error in the place of rounding."""
    sizes = np.sqrt(relative_errors(lab.decoder, scheme))
    noise = [f"noise{size:.4f}-s{lab.settings.seed}" for size in sizes]
    return [
        Plan(tuple("fp" if s == "fp" else noise[i] for i, s in enumerate(plan.blocks)))
        for plan in masks(scheme, lab.n_blocks, range(lab.n_blocks - 1))
    ]


def _cancelling(few: Lab, scheme: str, n_plantings: int, strength: float) -> dict[str, Floats]:

    part = few.on(languages=few.languages[:PLANTED_LANGUAGES])
    n = part.n_blocks
    # Two blocks spread over the inside stand for all others.
    others = [0, (n - 1) // 3, 2 * (n - 1) // 3]
    found: dict[str, list[Floats]] = {"kl": [], "error": []}
    tokens = np.zeros(part.text.counts.tokens.shape)
    for s in range(n_plantings):
        variant = plant_cancellation(part, scheme, strength=strength, seed=part.settings.seed + s)

        def plan(kept: tuple[int, ...], variant: str = variant) -> Plan:
            return cancelling_plan(scheme, variant, n, kept)

        sets = scored_sets(n, others)
        scored = [plan(kept) for kept in sets]
        scores = part.score(scored, "controls")
        found["kl"].append(scores.select(plans=[p.text for p in scored]).kl_nats)
        errors = _last_errors(part, [plan((n - 1,)), *(plan((j, n - 1)) for j in others)], "x")
        found["error"].append(errors["x_error"])
        tokens = errors["x_tokens"]
        part.bank.drop(variant)
    stacked = {f"cancelling_{name}": np.array(values) for name, values in found.items()}
    return stacked | {"cancelling_tokens": tokens}
