"""What T-003 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from typing import Any

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.language_error import planted_errors
from bitgap.experiments.protocol.controls import (
    PLANTED_LANGUAGES,
)
from bitgap.lab.lab import Lab
from bitgap.lab.linear_inputs import linear_inputs
from bitgap.models.gauge import loaded_with, random_twin
from bitgap.quant.plan import Plan


def measure_controls(
    lab: Lab, scheme: str, *, n_sentences: int, n_plantings: int, strength: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show on a few sentences, and why one is absent.

    Args:
        lab: Model and text.
        scheme: How blocks are rounded.
        n_sentences: How many sentences.
        n_plantings: How often P2 is planted.
        strength: Root mean square of its error over that of the state.

    Returns:
        Arrays: of the random twin ``random_error`` and ``random_output`` (M x A x N'), and those of
        :func:`bitgap.experiments.plants.language_error.planted_errors`, in the first three
        languages. Facts: ``no_planted``.
    """
    few = lab.first(n_sentences)
    rounded = Plan(tuple(scheme for _ in range(lab.n_blocks)))
    untrained = random_twin(lab.decoder.model, lab.settings.seed)
    found = linear_inputs(few.twin(loaded_with(lab.loaded, untrained, "random")), rounded)
    arrays: dict[str, Any] = {f"random_{name}": found[name] for name in ("error", "output")}
    try:
        part = few.on(languages=few.languages[:PLANTED_LANGUAGES])
        return arrays | planted_errors(part, rounded, n_plantings, strength), {}
    except UnsupportedArchitecture as error:
        return arrays, {"no_planted": str(error)}
