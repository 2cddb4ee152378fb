"""What T-006 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from bitgap.experiments.protocol.scores import (
    facts_of,
    keep,
)
from bitgap.experiments.t006_error_cancellation import EXPERIMENT, ID, Params
from bitgap.experiments.t006_error_cancellation.fisher import fisher_grams
from bitgap.experiments.t006_error_cancellation.plans import clipped_form, error_plans, scored_plans
from bitgap.experiments.t006_error_cancellation.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures inner products of the errors of single blocks, and damage to compare with.

    Arrays: ``gram`` (A x N x L x L) and, with scales clipped to the least squared error where the
    scheme has that form, ``clipped_gram`` (A x N x 2 x 2, the first and the last block), float32,
    and ``moments`` (3 x 3), all of :func:`.fisher.fisher_grams`; kept scores
    (:mod:`~bitgap.experiments.protocol.scores`) of the part ``scored`` (L + 2 plans, as
    :func:`scored_plans`; block linears alone are rounded); and those of
    :func:`bitgap.experiments.t006_error_cancellation.twins.measure_controls`.
    """
    n = lab.n_blocks
    plans = scored_plans(scheme, n)
    scores = lab.score(plans, ID)
    found = fisher_grams(lab, error_plans(scheme, n), flattened=(0, n - 1))
    # Seven digits of each product; their sums are made in float64.
    gram = found["gram"].astype(np.float32)
    clipped = {"clipped_gram": gram[..., n:, n:]} if clipped_form(scheme) else {}
    twins, absent = measure_controls(
        lab,
        scheme,
        n_sentences=params.control_sentences,
        n_draws=params.null_draws,
        n_plantings=params.planted_seeds,
        strength=params.planted_strength,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **keep(scores, {"scored": plans}),
            "gram": gram[..., :n, :n],
            **clipped,
            "moments": found["moments"],
            **twins,
        },
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "params": asdict(params),
            **facts_of(scores),
            **absent,
        },
    )
