"""Cross-lingual alignment by depth: do parallel sentences meet in the same place?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitgap.records import Floats, Integers
from bitgap.stats.similarity import (
    cosine_matrix,
    debiased_cka,
    margin_hits,
    separation,
    strict_hits,
    without_common,
)

States = NDArray[np.floating[Any]]
"""Sentence means in any precision; sums over them are made in float64 where it matters."""


def alignment_profile(
    states: States, calibration: Integers, test: Integers, n_components: int
) -> dict[str, Floats]:
    """Returns how well every language's sentences find the reference's, by depth.

    Args:
        states: Sentence means, (depths x A x N x d), the reference in row 0.
        calibration: Sentences from which each language's mean and top components are estimated.
        test: Sentences that must find each other.
        n_components: Components removed.

    Returns:
        Arrays over (depths x A−1 x n_test): ``hits`` (strict, corrected states), ``hits_raw``
        (strict, raw cosines), ``hits_margin`` (ratio margin), ``separation`` (d′ contributions),
        ``hits_shuffled`` (strict, wrong partner); and over (depths x A−1): ``cka``, ``cosine_raw``.
    """
    depths, n_languages = states.shape[:2]
    shape = (depths, n_languages - 1, len(test))
    names = ("hits", "hits_raw", "hits_margin", "separation", "hits_shuffled")
    out = {name: np.zeros(shape) for name in names}
    out |= {name: np.zeros(shape[:2]) for name in ("cka", "cosine_raw")}
    wrong = np.roll(np.arange(len(test)), 1)
    for depth in range(depths):
        raw = states[depth][:, test].astype(np.float64)
        fitted = states[depth][:, calibration].astype(np.float64)
        clean = np.stack(
            [without_common(x, c, n_components) for x, c in zip(raw, fitted, strict=True)]
        )
        for a in range(1, n_languages):
            place = (depth, a - 1)
            similarity = cosine_matrix(clean[a], clean[0])
            raw_similarity = cosine_matrix(raw[a], raw[0])
            out["hits"][place] = strict_hits(similarity)
            out["hits_raw"][place] = strict_hits(raw_similarity)
            out["hits_margin"][place] = margin_hits(similarity)
            out["separation"][place] = separation(similarity)
            out["hits_shuffled"][place] = strict_hits(similarity[:, wrong])
            cka = debiased_cka(raw[a], raw[0])
            out["cka"][place] = np.nan if cka is None else cka
            out["cosine_raw"][place] = np.diag(raw_similarity).mean()
    return out


def pulled_together(states: States, depth: int, share: float) -> States:
    """Returns states in which parallel sentences meet at one depth: a planted convergence.

    Args:
        states: Sentence means, (depths x A x N x d).
        depth: Where to plant.
        share: How far each state moves to the mean of its sentence over languages, 0 to 1.
    """
    planted = states.copy()
    meeting = planted[depth].mean(axis=0, keepdims=True)
    planted[depth] = (1 - share) * planted[depth] + share * meeting
    return planted
