"""What T-004 measures for its controls: twins, and plants at twice the smallest effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.cancelling import planted_damage
from bitgap.experiments.plants.strength import strengths_for
from bitgap.experiments.protocol.twins import control_documents, in_few_languages, kl_of
from bitgap.experiments.t004_residual_propagation import Params
from bitgap.experiments.t004_residual_propagation.plans import scored_sets
from bitgap.experiments.t004_residual_propagation.propagation import state_errors
from bitgap.experiments.t004_residual_propagation.statistic import interaction
from bitgap.lab.lab import Lab
from bitgap.lab.weight_errors import relative_errors
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import Noise
from bitgap.records import Floats

_AT_ONCE = 10
"""Plantings whose states are held together, at most."""
_TRIED = 3
"""Draws by which the size of the noise is found."""
_START = 0.05
"""Relative size of the noise that the search for the one to plant begins with."""


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show on a few sentences, and why one is absent.

    Returns:
        Arrays: for ``random`` and ``matched`` the last block's ``<name>_error`` (2 x A x N) under
        {last} and {0, last}, ``<name>_tokens`` (A x N), and ``<name>_kl`` (4 x A x N) under ∅,
        {last}, {0} and {0, last}; of S plantings, on the first three languages,
        ``travelling_error`` (S x 2 x A' x N) with ``travelling_tokens`` (A' x N), and
        ``cancelling_kl`` (S x 4 x A' x N); ``control_documents`` (N) where known. Facts:
        ``no_cancelling``.
    """
    few = lab.spread(params.control_sentences)
    part = in_few_languages(few)
    schemes = (scheme,) * lab.n_blocks
    arrays: dict[str, Any] = {
        **_twin(few.random_twin(), schemes, "random"),
        **_twin(few, _matched(few, scheme), "matched"),
        **_travelling(part, scheme, params),
        **control_documents(few),
    }
    try:
        return arrays | {"cancelling_kl": _cancelling(part, scheme, params)}, {}
    except UnsupportedArchitecture as error:
        return arrays, {"no_cancelling": str(error)}


def _twin(lab: Lab, schemes: Sequence[str], name: str) -> dict[str, Floats]:
    sets = scored_sets(lab.n_blocks, [0])
    none, last, first, both = (_plan(schemes, kept) for kept in sets)
    return {
        **_last_errors(lab, [last, both], name),
        f"{name}_kl": kl_of(lab, [none, last, first, both]),
    }


def _plan(schemes: Sequence[str], protect: Sequence[int]) -> Plan:
    return Plan(tuple("fp" if i in protect else s for i, s in enumerate(schemes)))


def _last_errors(lab: Lab, masks: Sequence[Plan], name: str) -> dict[str, Floats]:
    errors = state_errors(lab, masks)
    return {f"{name}_error": errors["error"][:, -2], f"{name}_tokens": errors["tokens"][-2]}


def _matched(lab: Lab, scheme: str) -> list[str]:
    """Returns noise of each block's own relative error, to stand in the place of rounding."""
    sizes = np.sqrt(relative_errors(lab.decoder, scheme))
    return [f"noise{size:.4f}-s{lab.settings.seed}" for size in sizes]


def _travelling(part: Lab, scheme: str, params: Params) -> dict[str, Floats]:
    """Returns errors where Gaussian noise in block 0, in the place of rounding, makes the gain.

    With noise of relative size t the power of block 0's error goes as t², and so does what it adds
    to the error of the other blocks: 10^(ΔSNR_0 / 10) − 1.
    """
    n, rounded = part.n_blocks, (scheme,) * part.n_blocks
    seeds = [part.settings.seed + s for s in range(params.planted_seeds)]

    def errors(t: float, some: Sequence[int]) -> dict[str, Floats]:
        noisy = [_plan((Noise(round(t, 6), s).name, *rounded[1:]), (n - 1,)) for s in some]
        return _last_errors(part, [*noisy, _plan(rounded, (0, n - 1))], "travelling")

    def added(t: float) -> float:
        sums = errors(t, seeds[:_TRIED])["travelling_error"].sum((1, 2))
        return float(sums[:-1].mean() / sums[-1]) - 1

    # Noise of one size is as large in every draw, so one size is found for all.
    (t,) = strengths_for(
        lambda trying: {0: added(trying[0])},
        1,
        without=0.0,
        wanted=10 ** (params.planted_gain / 10) - 1,
        start=_START,
    )
    parts = [errors(t, seeds[i : i + _AT_ONCE]) for i in range(0, len(seeds), _AT_ONCE)]
    pairs = [[one, p["travelling_error"][-1]] for p in parts for one in p["travelling_error"][:-1]]
    return {
        "travelling_error": np.array(pairs),
        "travelling_tokens": parts[0]["travelling_tokens"],
    }


def _cancelling(part: Lab, scheme: str, params: Params) -> Floats:
    def judged(kl: Floats) -> float:
        return float(interaction(kl, 1)(np.ones((1, kl.shape[-1])))[0, 0])

    return planted_damage(
        part,
        scheme,
        scored_sets(part.n_blocks, [0]),
        judged,
        wanted=params.planted_interaction,
        start=params.planted_strength,
        seeds=[part.settings.seed + s for s in range(params.planted_seeds)],
    )
