"""What T-006 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import plant_cancellation
from bitgap.experiments.protocol.controls import (
    PLANTED_LANGUAGES,
)
from bitgap.experiments.t006_error_cancellation.controls import _AT_ONCE
from bitgap.experiments.t006_error_cancellation.fisher import fisher_grams
from bitgap.lab.lab import Lab
from bitgap.models.gauge import loaded_with, random_twin
from bitgap.quant.schemes import RoundToNearest, Seed, parse_scheme
from bitgap.quant.sets import only
from bitgap.records import Floats


def measure_controls(
    lab: Lab, scheme: str, *, n_sentences: int, n_draws: int, n_plantings: int, strength: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns inner products of the first and last block's errors under the controls.

    Args:
        lab: Model and text, of two blocks at least.
        scheme: How blocks are rounded.
        n_sentences: Sentences that all of it is run on.
        n_draws: Draws of stochastic rounding.
        n_plantings: How often P3 is planted, each time in another direction.
        strength: Root mean square of P3's error over that of the state.

    Returns:
        Arrays, on those sentences: ``random_gram`` (A x N' x 2 x 2); on the first three languages
        ``stochastic_gram`` (B x A' x N' x 2 x 2) and ``cancelling_gram`` (S x A' x N' x 2 x 2).
        Facts: ``no_<name>`` for each that could not be made.
    """
    few = lab.first(n_sentences)
    fewer = few.on(languages=few.languages[:PLANTED_LANGUAGES])
    facts: dict[str, Any] = {}
    untrained = random_twin(lab.decoder.model, lab.settings.seed)
    twin = few.twin(loaded_with(lab.loaded, untrained, "random"))
    arrays: dict[str, Any] = {"random_gram": ends_gram(twin, [scheme])[0]}
    stochastic = stochastic_form(scheme)
    if stochastic is None:
        facts["no_stochastic"] = f"{scheme} has no stochastic form"
    else:
        names = [f"{stochastic}-s{lab.settings.seed + i}" for i in range(n_draws)]
        arrays["stochastic_gram"] = ends_gram(fewer, names)
    try:
        arrays["cancelling_gram"] = _cancelling(fewer, scheme, n_plantings, strength)
    except UnsupportedArchitecture as error:
        facts["no_cancelling"] = str(error)
    return arrays, facts


def stochastic_form(scheme: str) -> str | None:
    """Returns the scheme rounded up or down at random, its seed left out; None where none is."""
    parsed = parse_scheme(scheme)
    if isinstance(parsed, Seed):
        return f"stoch{parsed.bits}-tensor"
    if isinstance(parsed, RoundToNearest):
        return f"stoch{parsed.bits}-{parsed.granularity}"
    return None


def ends_gram(lab: Lab, schemes: Sequence[str]) -> Floats:
    """Returns inner products of the first and last block's errors, (schemes x A x N x 2 x 2)."""
    found = []
    for start in range(0, len(schemes), _AT_ONCE):
        batch = schemes[start : start + _AT_ONCE]
        plans = [only(s, lab.n_blocks, end) for s in batch for end in (0, lab.n_blocks - 1)]
        gram = fisher_grams(lab, plans)["gram"]
        pairs = [slice(2 * i, 2 * i + 2) for i in range(len(batch))]
        found += [gram[..., pair, pair] for pair in pairs]
    return np.array(found)


def _cancelling(part: Lab, scheme: str, n_plantings: int, strength: float) -> Floats:

    seeds = [part.settings.seed + s for s in range(n_plantings)]
    both = sum(v.get().numel() for b in (0, -1) for v in part.decoder.block_linears(b).values())
    # What is planted stays in the bank as float32: no more at once than a quarter of its memory.
    step = max(1, min(_AT_ONCE, part.engine.layout.bank_bytes // (4 * 4 * both)))
    found = []
    for start in range(0, n_plantings, step):
        variants = [
            plant_cancellation(part, scheme, strength=strength, seed=seed)
            for seed in seeds[start : start + step]
        ]
        found.append(ends_gram(part, variants))
        for variant in variants:
            part.bank.drop(variant)
    return np.concatenate(found)
