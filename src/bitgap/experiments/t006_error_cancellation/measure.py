"""What T-006 measures: inner products of errors, of the model and under its controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import plant_cancellation
from bitgap.experiments.protocol.scores import facts_of, pack_scores
from bitgap.experiments.protocol.twins import in_few_languages
from bitgap.experiments.t006_error_cancellation import EXPERIMENT, ID, Params
from bitgap.experiments.t006_error_cancellation.fisher import fisher_grams
from bitgap.experiments.t006_error_cancellation.plans import clipped_form, error_plans, scored_plans
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import RoundToNearest, Seed, parse_scheme
from bitgap.records import Floats, Observations

_AT_ONCE = 10
"""Draws of rounding, or plantings, whose states are held together, at most."""


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures inner products of the errors of single blocks, and damage to compare with.

    Arrays: ``gram`` (A x N x L x L) and, with scales clipped to the least squared error where the
    scheme has that form, ``clipped_gram`` (A x N x 2 x 2, the first and the last block), float32,
    and ``moments`` (3 x 3), all of :func:`.fisher.fisher_grams`; kept scores
    (:mod:`~bitgap.experiments.protocol.scores`) of the part ``scored`` (L + 2 plans, as
    :func:`.plans.scored_plans`; block linears alone are rounded); and those of
    :func:`measure_controls`.
    """
    n = lab.n_blocks
    plans = scored_plans(scheme, n)
    scores = lab.score(plans, ID)
    errors = fisher_grams(lab, error_plans(scheme, n), flattened=(0, n - 1))
    # Seven digits of each product; their sums are made in float64.
    gram = errors["gram"].astype(np.float32)
    clipped = {"clipped_gram": gram[..., n:, n:]} if clipped_form(scheme) else {}
    controls, absent = measure_controls(lab, scheme, params)
    arrays = {
        **pack_scores(scores, {"scored": plans}),
        "gram": gram[..., :n, :n],
        **clipped,
        "moments": errors["moments"],
        **controls,
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, {**facts_of(scores), **absent})


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns inner products of the first and last block's errors under the controls.

    Returns:
        Arrays, on a few sentences: ``random_gram`` (A x N' x 2 x 2); on the first three languages
        ``stochastic_gram`` (B x A' x N' x 2 x 2) and ``cancelling_gram`` (S x A' x N' x 2 x 2).
        Facts: ``no_<name>`` for each that could not be made.
    """
    few = lab.spread(params.control_sentences)
    fewer = in_few_languages(few)
    facts: dict[str, Any] = {}
    arrays: dict[str, Any] = {"random_gram": ends_gram(few.random_twin(), [scheme])[0]}
    if stochastic := stochastic_form(scheme):
        names = [f"{stochastic}-s{lab.settings.seed + i}" for i in range(params.null_draws)]
        arrays["stochastic_gram"] = ends_gram(fewer, names)
    else:
        facts["no_stochastic"] = f"{scheme} has no stochastic form"
    try:
        arrays["cancelling_gram"] = _cancelling_gram(fewer, scheme, params)
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
    grams = []
    for start in range(0, len(schemes), _AT_ONCE):
        batch = schemes[start : start + _AT_ONCE]
        plans = [Plan.only(s, lab.n_blocks, end) for s in batch for end in (0, lab.n_blocks - 1)]
        gram = fisher_grams(lab, plans)["gram"]
        pairs = [slice(2 * i, 2 * i + 2) for i in range(len(batch))]
        grams += [gram[..., pair, pair] for pair in pairs]
    return np.array(grams)


def _cancelling_gram(lab: Lab, scheme: str, params: Params) -> Floats:
    """Returns inner products of ends that P3 was planted in, (S x A x N x 2 x 2)."""
    seeds = [lab.settings.seed + s for s in range(params.planted_seeds)]
    both = sum(v.get().numel() for b in (0, -1) for v in lab.decoder.block_linears(b).values())
    # What is planted stays in the bank as float32: no more at once than a quarter of its memory.
    step = max(1, min(_AT_ONCE, lab.engine.layout.bank_bytes // (4 * 4 * both)))
    grams = []
    for start in range(0, len(seeds), step):
        variants = [
            plant_cancellation(lab, scheme, strength=params.planted_strength, seed=seed)
            for seed in seeds[start : start + step]
        ]
        grams.append(ends_gram(lab, variants))
        for variant in variants:
            lab.bank.drop(variant)
    return np.concatenate(grams)
