"""What T-003 measures for its controls: an untrained twin, and an error planted in one language."""

from __future__ import annotations

from typing import Any

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.language_error import planted_errors
from bitgap.experiments.protocol.twins import in_few_languages
from bitgap.experiments.t003_language_distribution import Params
from bitgap.lab.lab import Lab
from bitgap.lab.linear_inputs import linear_inputs
from bitgap.quant.plan import Plan


def measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show on a few sentences, and why one is absent.

    Returns:
        Arrays: of the random twin ``random_error`` and ``random_output`` (M x A x N'), and those of
        :func:`bitgap.experiments.plants.language_error.planted_errors`, in the first three
        languages; ``few_documents`` (N'), where known. Facts: ``no_planted``.
    """
    few = lab.spread(params.control_sentences)
    rounded = Plan.uniform(scheme, lab.n_blocks)
    sums = linear_inputs(few.random_twin(), rounded)
    arrays: dict[str, Any] = {f"random_{name}": sums[name] for name in ("error", "output")}
    documents = in_few_languages(few).score([rounded], "controls").documents
    arrays |= {} if documents is None else {"few_documents": documents}
    try:
        planted = planted_errors(
            in_few_languages(few), rounded, params.planted_seeds, params.planted_strength
        )
    except UnsupportedArchitecture as error:
        return arrays, {"no_planted": str(error)}
    return arrays | planted, {}
