"""What T-009 measures: the only part that sees a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.t009_convergence import EXPERIMENT, ID, Params
from bitgap.experiments.t009_convergence.alignment import (
    alignment_profile,
    pulled_together,
    sentence_states,
)
from bitgap.lab.lab import Lab
from bitgap.languages import language
from bitgap.models.gauge import loaded_with, random_twin
from bitgap.records import Floats, Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures alignment by depth in full precision; the scheme plays no part.

    Arrays: see :func:`.alignment.alignment_profile`, with L+1 depths of which the first
    is the embedding; ``hits`` and ``separation`` again under ``planted_`` (pulled together at
    every depth, of which the judge takes one at a time), and on a few sentences under ``few_``
    (the model) and ``random_`` (its random-init twin).
    """
    n = params.n_components
    calibration, test = lab.corpus.split_of(lab.text.kept)
    if len(test) < 2:
        raise UsageError(
            f"{ID} asks which sentence is nearest, and {len(test)} of {lab.corpus.n_sentences} "
            f"sentences are left to choose among; give at least 4"
        )
    states = sentence_states(lab)
    few = lab.first(params.control_sentences)
    inside = np.isin(lab.text.kept, few.text.kept)
    untrained = random_twin(lab.decoder.model, lab.settings.seed)
    twin = few.twin(loaded_with(lab.loaded, untrained, "random"))
    arrays = alignment_profile(states, calibration, test, n)
    split = few.corpus.split_of(few.text.kept)
    for name, of_few in (("few", states[:, :, inside]), ("random", sentence_states(twin))):
        arrays |= _named(name, alignment_profile(of_few, *split, n))
    for depth in range(len(states)):
        states = pulled_together(states, depth, params.planted_share)
    arrays |= _named("planted", alignment_profile(states, calibration, test, n))
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays=arrays,
        facts={
            "languages": list(lab.languages),
            "scripts": [language(code).script for code in lab.languages],
            "n_blocks": lab.n_blocks,
            "n_calibration": len(calibration),
            "params": asdict(params),
        },
    )


def _named(name: str, profile: Mapping[str, Floats]) -> dict[str, Floats]:
    return {f"{name}_{key}": profile[key] for key in ("hits", "separation")}
