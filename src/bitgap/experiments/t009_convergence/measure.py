"""What T-009 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.t009_convergence import EXPERIMENT, ID, Params
from bitgap.experiments.t009_convergence.alignment import alignment_profile, pulled_together
from bitgap.lab.lab import Lab
from bitgap.languages import language
from bitgap.records import Observations


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures alignment by depth in full precision; the scheme plays no part.

    Arrays: see :func:`.alignment.alignment_profile`, with L+1 depths of which the first
    is the embedding; ``hits`` and ``separation`` again under ``planted_`` (pulled together at
    every depth, of which the judge takes one at a time), and on a few sentences under ``few_``
    (the model) and ``random_`` (its random-init twin).
    """
    split = lab.corpus.split_of(lab.text.kept)
    if (n_test := len(split[1])) < 2:
        raise UsageError(
            f"{ID} asks which sentence is nearest, and {n_test} of {lab.corpus.n_sentences} "
            f"sentences are left to choose among; give at least 4"
        )
    # Sentence means, (L+1 x A x N x d); row 0 is the embedding's.
    states, few = np.asarray(lab.activations().pooled), lab.spread(params.control_sentences)
    untrained = np.asarray(few.random_twin().activations().pooled)
    few_split = few.corpus.split_of(few.text.kept)
    of_few = states[:, :, np.isin(lab.text.kept, few.text.kept)]
    planted = states
    for depth in range(len(states)):
        planted = pulled_together(planted, depth, params.planted_share)
    arrays = alignment_profile(states, *split, params.n_components)
    for name, of, parts in (
        ("few", of_few, few_split),
        ("random", untrained, few_split),
        ("planted", planted, split),
    ):
        profile = alignment_profile(of, *parts, params.n_components)
        arrays |= {f"{name}_{key}": profile[key] for key in ("hits", "separation")}
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays=arrays,
        facts={
            "languages": list(lab.languages),
            "scripts": [language(code).script for code in lab.languages],
            "n_blocks": lab.n_blocks,
            "n_calibration": len(split[0]),
            "params": asdict(params),
        },
    )
