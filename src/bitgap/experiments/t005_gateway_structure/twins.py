"""What T-005 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bitgap.experiments.t005_gateway_structure.spectra import BlockMatrices
from bitgap.records import Floats


def measure_controls(
    matrices: BlockMatrices,
    n_blocks: int,
    *,
    n_twins: int,
    n_plantings: int,
    factor: float,
    width: int,
    draws: int,
    seed: int,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show.

    Args:
        matrices: The model's.
        n_blocks: L.
        n_twins: Random-init twins, and as many shuffled ones.
        n_plantings: How often P1 is planted, in other columns each time.
        factor: What planted columns are multiplied by.
        width: Of a group in columns.
        draws: Samples that decide whether a tail follows a power law.
        seed: Of all of them.

    Returns:
        Arrays: ``shuffled`` and ``random`` (R x kinds x measures x L), and ``planted`` (P x 2 x
        measures x 2), of v and o at both ends. Facts: ``no_planted``.
    """

    def profiles(blocks: Iterable[Mapping[str, Any]]) -> Floats:
        return np.array([matrices.measures(block, draws, seed) for block in blocks]).transpose(
            1, 2, 0
        )

    twins = [seed + s for s in range(n_twins)]
    arrays = {
        "shuffled": np.array(
            [profiles(matrices.shuffled(i, s) for i in range(n_blocks)) for s in twins]
        ),
        "random": np.array([profiles(matrices.random(s)) for s in twins]),
    }
    ends = {end: matrices.of(end) for end in (0, n_blocks - 1)}
    planted = []
    for s in range(n_plantings):
        made = [
            matrices.planted(end, own, factor=factor, width=width, seed=seed + s)
            for end, own in ends.items()
        ]
        found = [matrices.measures(m, draws, seed) for m in made if m is not None]
        if len(found) < len(made):
            return arrays, {"no_planted": "no value rows that an output projection reads linearly"}
        planted.append(np.array(found).transpose(1, 2, 0))
    return arrays | {"planted": np.array(planted)}, {}
