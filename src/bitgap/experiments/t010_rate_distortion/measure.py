"""What T-010 measures: the only part that sees a model."""

from __future__ import annotations

import numpy as np

from bitgap.experiments.protocol.masks import map_design
from bitgap.experiments.protocol.scores import facts_of, pack_scores, score_in_turn
from bitgap.experiments.t010_rate_distortion import EXPERIMENT, ID, Params
from bitgap.experiments.t010_rate_distortion.plans import at_bits, designs_of, plans
from bitgap.experiments.t010_rate_distortion.sweep import rate_of
from bitgap.experiments.t010_rate_distortion.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import relative_errors
from bitgap.quant.schemes import parse_scheme
from bitgap.records import Floats, Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures the sweep, sensitivities, weight errors and what the controls need.

    Arrays: packed scores (:mod:`~bitgap.experiments.protocol.scores`) of the parts ``cells``
    (B x designs plans) and ``noise`` (L·T·S: block, size, draw), on the sweep's sentences;
    ``levels``, the B numbers of bits; ``kept`` (designs x L), 1 where protected; ``rate`` (P), bits
    per weight; ``t2`` (B x L), relative weight errors; ``worth`` (L), blocks' Shapley values in
    nats; and those of :func:`bitgap.experiments.t010_rate_distortion.twins.measure_controls`.

    The sweep is scored in exact arithmetic whatever the lab's is: rounded products alone do as much
    damage as 8 bits, and part of 6. One arithmetic for all cells has one floor, and no step between
    numbers of bits that is not theirs.

    Raises:
        UsageError: If the scheme does not round to a number of bits.
    """
    n, seed, part = lab.n_blocks, lab.settings.seed, lab.spread(params.sentences).exact()
    schemes = [at_bits(scheme, b) for b in params.bits]
    shapley_value = shapley_values(lab, scheme, params)
    designs = designs_of(shapley_value, params, seed)
    sets = [kept for _, kept in designs]
    parts = plans(n, scheme, params, sets, seed)
    scores = part.score(parts["cells"], ID)
    # On all the text, where T-002 has scored them already; of it the sweep's sentences are taken.
    noise = lab.score(parts["noise"], ID).select(sentences=lab.places(params.sentences))
    arrays = {
        **pack_scores(noise, {"noise": parts["noise"]}),
        **pack_scores(scores, {"cells": parts["cells"]}),
        "levels": np.array(params.bits),
        "kept": np.array([np.isin(np.arange(n), kept) for kept in sets]).astype(np.int64),
        "rate": rate_of(lab.decoder, scheme, params.bits, sets),
        "t2": np.array([relative_errors(lab.decoder, name) for name in schemes]),
        "worth": shapley_value,
        **measure_controls(lab, scheme, params),
    }
    facts = {
        "bits": getattr(parse_scheme(scheme), "bits", None),
        "orders": [name for name, _ in designs],
        **facts_of(scores),
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts)


def shapley_values(lab: Lab, scheme: str, params: Params) -> Floats:
    """Returns blocks' Shapley values of −K summed over languages and sentences, nats, (L)."""
    design = map_design(lab.n_blocks, params, lab.settings.seed)
    part = lab.spread(params.map_sentences)
    score_in_turn(part, design.requests(scheme), "map")
    scores = part.score(design.plans(scheme), "map")
    return design.shapley(-scores.kl_nats.sum((1, 2)))
