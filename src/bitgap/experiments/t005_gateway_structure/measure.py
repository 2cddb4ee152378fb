"""What T-005 measures: a model's weights, its twins', and weights that P1 was planted in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.t005_gateway_structure import EXPERIMENT, Params
from bitgap.experiments.t005_gateway_structure.controls import planted_percentile
from bitgap.experiments.t005_gateway_structure.spectra import (
    MEASURES,
    SPECTRAL,
    BlockMatrices,
    Matrices,
)
from bitgap.lab.lab import Lab
from bitgap.records import Floats, Observations
from bitgap.stats.outlyingness import FEWEST_BLOCKS, prediction_t

_TRIED = 3
"""Plantings by which the strength of P1 is found."""


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights; of the scheme only its groups matter, for crest factors.

    Arrays: ``measures`` (kinds x measures x L), natural logarithms but for the exponent, NaN where
    there is none; ``origin`` (3 x L), the origin's measures of attention matrices; and those of
    :func:`measure_controls`, where there are blocks enough to judge.
    """
    n, seed = lab.n_blocks, lab.settings.seed
    matrices = BlockMatrices(lab.decoder, scheme)
    measures, origin = [], []
    for i in range(n):
        block = matrices.of(i)
        measures.append(matrices.measures(block, params.tail_draws, seed))
        origin.append(matrices.origin(block))
    arrays = {"measures": _by_block(measures), "origin": np.ascontiguousarray(np.array(origin).T)}
    absent: dict[str, Any] = {}
    if n >= FEWEST_BLOCKS:
        controls, absent = measure_controls(matrices, arrays["measures"], params, seed)
        arrays |= controls
    facts = {
        "kinds": matrices.kinds,
        "measures": list(MEASURES),
        "spectral": [MEASURES.index(name) for name in SPECTRAL],
        **absent,
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts)


def measure_controls(
    matrices: BlockMatrices, measures: Floats, params: Params, seed: int
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Returns the measures of twins and plantings, and why some are not there.

    Args:
        matrices: Of the model.
        measures: The model's own, (kinds x measures x L).
        params: How many twins and plantings.
        seed: Of both.

    Returns:
        Arrays: ``shuffled`` and ``random`` (R x kinds x measures x L), and ``planted`` (P x 2 x
        measures x 2), of v and o at both ends. Facts: ``planted_factor``, or ``no_planted``.
    """
    draws, twins = params.tail_draws, [seed + s for s in range(params.twins)]
    n_blocks = measures.shape[-1]

    def profile(blocks: Iterable[Matrices]) -> Floats:
        return _by_block([matrices.measures(block, draws, seed) for block in blocks])

    arrays = {
        "shuffled": np.array(
            [profile(matrices.shuffled(i, s) for i in range(n_blocks)) for s in twins]
        ),
        "random": np.array([profile(matrices.random(s)) for s in twins]),
    }
    ends = {end: matrices.of(end) for end in (0, n_blocks - 1)}
    t = prediction_t(measures)

    def plant(factor: float, s: int) -> Floats | None:
        planted = [
            matrices.planted(end, block, factor=factor, width=params.planted_width, seed=seed + s)
            for end, block in ends.items()
        ]
        return None if None in planted else profile(filter(None, planted))

    seeds = range(params.planted_seeds)
    found = list[Floats]()
    factor = params.planted_factors[0]
    # The weakest factor that puts the ends where they are asked to be, by the first plantings.
    for factor in params.planted_factors:
        found = [p for s in seeds[:_TRIED] if (p := plant(factor, s)) is not None]
        if not found:
            return arrays, {"no_planted": "no value rows that an output projection reads linearly"}
        reached = [planted_percentile(measures, t, one, matrices.kinds) for one in found]
        if float(np.mean(reached)) >= params.planted_percentile:
            break
    found += [p for s in seeds[_TRIED:] if (p := plant(factor, s)) is not None]
    return arrays | {"planted": np.array(found)}, {"planted_factor": factor}


def _by_block(measures: Sequence[Floats]) -> Floats:
    """Returns the measures of several blocks, (kinds x measures) each, with blocks last."""
    return np.ascontiguousarray(np.array(measures).transpose(1, 2, 0))
