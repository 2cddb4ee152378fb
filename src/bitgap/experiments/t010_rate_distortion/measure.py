"""What T-010 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from bitgap.disparity.layer_map import LARGEST_FACTORIAL, make_design
from bitgap.experiments.protocol.scores import facts_of, keep
from bitgap.experiments.t010_rate_distortion import EXPERIMENT, ID, Params
from bitgap.experiments.t010_rate_distortion.sweep import (
    at_bits,
    designs,
    protection_orders,
    rate_of,
    sweep_plans,
)
from bitgap.experiments.t010_rate_distortion.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import relative_errors
from bitgap.quant.schemes import parse_scheme
from bitgap.quant.sets import noise_plans
from bitgap.records import Floats, Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures the sweep, sensitivities, weight errors and what the controls need.

    Arrays: kept scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``cells``
    (B x designs plans) and ``noise`` (L·T·S: block, size, draw), on the sweep's sentences;
    ``levels``, the B numbers of bits; ``kept`` (designs x L), 1 where protected; ``rate`` (P), bits
    per weight; ``t2`` (B x L), relative weight errors; ``worth`` (L), nats that protecting a block
    saves; and those of :func:`bitgap.experiments.t010_rate_distortion.twins.measure_controls`.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    n, part = lab.n_blocks, lab.first(params.sentences)
    schemes = [at_bits(scheme, b) for b in params.bits]
    worth = _worth(lab, scheme, params)
    orders = protection_orders(worth, params.random_orders, lab.settings.seed)
    made = designs(orders, params.shares)
    sets = [kept for _, kept in made]
    plans = sweep_plans(scheme, n, params.bits, sets)
    scores = part.score(plans, ID)
    noisy = noise_plans(n, params.noise, params.noise_seeds, lab.settings.seed)
    # On all the text, where T-002 has scored them already; of it the sweep's sentences are taken.
    noise = lab.score(noisy, ID).select(sentences=range(scores.n_sentences))
    twins = measure_controls(
        lab, scheme, params.bits, n_sentences=params.control_sentences, n_rows=params.frontier_rows
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **keep(scores, {"cells": plans}),
            **{k: v for k, v in keep(noise, {"noise": noisy}).items() if k.startswith("noise")},
            "levels": np.array(params.bits),
            "kept": np.array([np.isin(np.arange(n), s) for s in sets]).astype(np.int64),
            "rate": rate_of(lab.decoder, scheme, params.bits, sets),
            "t2": np.array([relative_errors(lab.decoder, name) for name in schemes]),
            "worth": worth,
            **twins,
        },
        facts={
            "scheme": scheme,
            "bits": getattr(parse_scheme(scheme), "bits", None),
            "n_blocks": n,
            "orders": [name for name, _ in made],
            "params": asdict(params),
            **facts_of(scores),
        },
    )


def _worth(lab: Lab, scheme: str, params: Params) -> Floats:
    """Returns what protecting each block is worth, (L): its Shapley value of −K over languages."""
    complete = params.complete and lab.n_blocks <= LARGEST_FACTORIAL
    design = make_design(lab.n_blocks, seed=lab.settings.seed, complete=complete)
    scores = lab.first(params.map_sentences).score(design.plans(scheme), "map")
    return design.shapley(-scores.kl_nats.sum((1, 2)))
