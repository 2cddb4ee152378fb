"""What T-009 measures: the only part that sees a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.corpora.parallel import by_first
from bitgap.errors import UsageError
from bitgap.experiments.t009_convergence import EXPERIMENT, ID, Params
from bitgap.experiments.t009_convergence.alignment import alignment_profile, plantings
from bitgap.lab.lab import Lab
from bitgap.languages import language
from bitgap.records import Observations
from bitgap.stats.verdicts import load_thresholds


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures alignment by depth in full precision; the scheme plays no part.

    On as many sentences of the whole text as ``params.sentences``, where the lab at hand has fewer.

    Arrays: see :func:`.alignment.alignment_profile`, with L+1 depths of which the first is the
    embedding; ``separation`` again on a few sentences under ``few_`` (the model) and ``random_``
    (its random-init twin); ``planted_separation`` (P x A−1 x n') of plantings at ``planted_block``
    (P) on the test sentences ``planted_on`` (n'); and ``documents`` (n), ``few_documents``, those
    of test sentences, where they are known.
    """
    lab = _on_enough(lab, params.sentences)
    split = lab.corpus.split_of(lab.text.kept)
    if (n_test := len(split[1])) < 2:
        raise UsageError(
            f"{ID} asks how near sentences are, and {n_test} of {lab.corpus.n_sentences} "
            f"sentences are left to compare; give at least 4"
        )
    # Sentence means, (L+1 x A x N x d); row 0 is the embedding's.
    states, few = np.asarray(lab.activations().pooled), lab.spread(params.control_sentences)
    untrained = np.asarray(few.random_twin().activations().pooled)
    few_split = few.corpus.split_of(few.text.kept)
    inside = np.isin(lab.text.kept, few.text.kept)
    arrays = alignment_profile(states, *split, params.n_components, shufflings=params.shufflings)
    for name, of in (("few", states[:, :, inside]), ("random", untrained)):
        found = alignment_profile(of, *few_split, params.n_components)
        arrays[f"{name}_separation"] = found["separation"]
    arrays |= _planted(states, split, arrays["separation"], params)
    if lab.documents is not None:
        arrays |= {
            "documents": lab.documents[split[1]],
            "few_documents": lab.documents[inside][few_split[1]],
        }
    facts = {
        "languages": list(lab.languages),
        "scripts": [language(code).script for code in lab.languages],
        "n_calibration": len(split[0]),
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts)


def inputs(lab: Lab) -> Mapping[str, Any]:
    """Returns the key of the whole text, and its documents; part of the key of what is measured."""
    whole = lab.whole or lab
    told = whole.documents
    return {
        "whole": whole.text_key,
        "documents": None if told is None else list(by_first(told.tolist())),
    }


def _on_enough(lab: Lab, n: int) -> Any:
    """Returns the lab on n sentences of the text that it is part of, or itself if it has them."""
    if lab.whole is None or lab.corpus.n_sentences >= n:
        return lab
    return lab.whole.spread(n)


def _planted(states: Any, split: Any, separation: Any, params: Params) -> dict[str, Any]:
    """Returns plantings at blocks in turn, each above the model's best by twice the SESOI in d′."""
    thresholds = load_thresholds()
    calibration, test = split
    some = np.unique(np.linspace(0, len(test) - 1, params.planted_sentences).round().astype(int))
    n_blocks = len(states) - 1
    blocks = (np.arange(params.plantings) * n_blocks // params.plantings) % n_blocks
    return {
        "planted_on": some,
        "planted_block": blocks,
        "planted_separation": plantings(
            states,
            calibration,
            test[some],
            params.n_components,
            profile=separation[..., some].mean((1, 2)),
            above=thresholds.planted_strength * thresholds.of("H3.3")["sesoi"],
            blocks=blocks.tolist(),
        ),
    }
