"""What T-006 measures: inner products of errors, of the model and under its controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import plant_cancellation
from bitgap.experiments.plants.strength import strengths_for
from bitgap.experiments.protocol.scores import facts_of, pack_scores, score_in_turn
from bitgap.experiments.protocol.twins import control_documents, in_few_languages
from bitgap.experiments.t006_error_cancellation import EXPERIMENT, ID, Params
from bitgap.experiments.t006_error_cancellation.fisher import fisher_grams
from bitgap.experiments.t006_error_cancellation.plans import (
    asked,
    error_plans,
    other_form,
    scored_plans,
)
from bitgap.experiments.t006_error_cancellation.statistic import cancellation
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import RoundToNearest, Seed, parse_scheme
from bitgap.records import Floats, Observations

_AT_ONCE = 10
"""Draws of rounding, or plantings, whose states are held together, at most."""


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures inner products of the errors of single blocks, and damage to compare with.

    Arrays: ``gram`` (A x N x L x L) and, with scales by the other rule where the scheme has one,
    ``other_gram`` (A x N x 2 x 2, the first and the last block), float32, and ``moments`` (3 x 3),
    all of :func:`.fisher.fisher_grams`; kept scores (:mod:`~bitgap.experiments.protocol.scores`) of
    the part ``scored`` (L + 2 plans, as :func:`.plans.scored_plans`; block linears alone are
    rounded); and those of :func:`measure_controls`.
    """
    n = lab.n_blocks
    plans = scored_plans(scheme, n)
    requests = asked(n, scheme, params, lab.settings.seed)
    scores = score_in_turn(lab, [request.plans for request in requests], ID)
    errors = fisher_grams(lab, error_plans(scheme, n), flattened=(0, n - 1))
    # Seven digits of each product; their sums are made in float64.
    gram = errors["gram"].astype(np.float32)
    other = {"other_gram": gram[..., n:, n:]} if other_form(scheme) else {}
    controls, absent = measure_controls(lab, scheme, params)
    arrays = {
        **pack_scores(scores, {"scored": plans}),
        "gram": gram[..., :n, :n],
        **other,
        "moments": errors["moments"],
        **controls,
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, {**facts_of(scores), **absent})


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns inner products of the first and last block's errors under the controls.

    Returns:
        Arrays, on a few sentences: ``random_gram`` (R x A x N' x 2 x 2) with scales by the scheme's
        own rule and, where there is one, by the other; on the first three languages
        ``stochastic_gram`` (B x A' x N' x 2 x 2), ``cancelling_gram`` and, by the other rule,
        ``cancelling_other_gram`` (S x A' x N' x 2 x 2); ``control_documents`` (N') where known.
        Facts: ``no_<name>`` for each that could not be made.
    """
    few, other = lab.spread(params.control_sentences), other_form(scheme)
    fewer = in_few_languages(few)
    rules = {"cancelling": scheme} | ({"cancelling_other": other} if other else {})
    facts: dict[str, Any] = {}
    arrays: dict[str, Any] = {
        "random_gram": ends_gram(few.random_twin(), list(rules.values())),
        **control_documents(few),
    }
    if stochastic := stochastic_form(scheme):
        names = [f"{stochastic}-s{lab.settings.seed + i}" for i in range(params.null_draws)]
        arrays["stochastic_gram"] = ends_gram(fewer, names)
    else:
        facts["no_stochastic"] = f"{scheme} has no stochastic form"
    try:
        arrays |= {f"{k}_gram": _planted_grams(fewer, rule, params) for k, rule in rules.items()}
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


def _planted_grams(lab: Lab, scheme: str, params: Params) -> Floats:
    """Returns inner products of ends in which P3 makes −ρ what was asked, (S x A x N x 2 x 2)."""
    seeds = [lab.settings.seed + s for s in range(params.planted_seeds)]
    plain = ends_gram(lab, [scheme])[0]
    found = {(i, 0.0): plain for i in range(len(seeds))}

    def plant(trying: Mapping[int, float]) -> dict[int, float]:
        grams = _at_strengths(lab, scheme, [(seeds[i], s) for i, s in trying.items()])
        found.update(zip(trying.items(), grams, strict=True))
        return {i: _judged(gram) for i, gram in zip(trying, grams, strict=True)}

    strengths = strengths_for(
        plant,
        len(seeds),
        without=_judged(plain),
        wanted=params.planted_correlation,
        start=params.planted_strength,
    )
    return np.array([found[i, strength] for i, strength in enumerate(strengths)])


def _judged(gram: Floats) -> float:
    return float(cancellation(gram)(np.ones((1, gram.shape[1])))[0, 0])


def _at_strengths(lab: Lab, scheme: str, planted: Sequence[tuple[int, float]]) -> Floats:
    """Returns inner products under plantings of (seed, strength), (S x A x N x 2 x 2)."""
    both = sum(math.prod(v.shape) for b in (0, -1) for v in lab.decoder.block_linears(b).values())
    # What is planted stays in the bank as float32: no more at once than a quarter of its memory.
    step = max(1, min(_AT_ONCE, lab.engine.layout.bank_bytes // (4 * 4 * both)))
    grams = []
    for start in range(0, len(planted), step):
        variants = [
            plant_cancellation(lab, scheme, strength=strength, seed=seed)
            for seed, strength in planted[start : start + step]
        ]
        grams.append(ends_gram(lab, variants))
        for variant in variants:
            lab.bank.drop(variant)
    return np.concatenate(grams)
