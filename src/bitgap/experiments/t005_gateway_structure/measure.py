"""What T-005 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bitgap.experiments.t005_gateway_structure import EXPERIMENT, ID, Params
from bitgap.experiments.t005_gateway_structure.spectra import MEASURES, SPECTRAL, BlockMatrices
from bitgap.experiments.t005_gateway_structure.twins import measure_controls
from bitgap.lab.lab import Lab
from bitgap.records import Observations
from bitgap.stats.outlyingness import (
    FEWEST_LAYERS,
)


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights; of the scheme only its groups matter, for crest factors.

    Arrays: ``measures`` (kinds x measures x L), natural logarithms but for the exponent, NaN where
    there is none; ``origin`` (3 x L), the origin's measures of attention matrices; and those of
    :func:`bitgap.experiments.t005_gateway_structure.twins.measure_controls`.
    """
    n, seed, draws = lab.n_blocks, lab.settings.seed, params.tail_draws
    matrices = BlockMatrices(lab.decoder, scheme)
    measures, origin = [], []
    for block in range(n):
        own = matrices.of(block)
        measures.append(matrices.measures(own, draws, seed))
        origin.append(matrices.origin(own))
    arrays: dict[str, Any] = {
        "measures": np.ascontiguousarray(np.array(measures).transpose(1, 2, 0)),
        "origin": np.ascontiguousarray(np.array(origin).T),
    }
    absent: dict[str, str] = {}
    if n >= FEWEST_LAYERS:
        twins, absent = measure_controls(
            matrices,
            n,
            n_twins=params.twins,
            n_plantings=params.planted_seeds,
            factor=params.planted_factor,
            width=params.planted_width,
            draws=draws,
            seed=seed,
        )
        arrays |= {name: np.ascontiguousarray(values) for name, values in twins.items()}
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays=arrays,
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "kinds": matrices.kinds,
            "measures": list(MEASURES),
            "spectral": [MEASURES.index(name) for name in SPECTRAL],
            "params": asdict(params),
            **absent,
        },
    )
