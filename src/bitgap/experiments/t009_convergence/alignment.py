"""Cross-lingual alignment by depth: do parallel sentences meet in the same place?"""

from __future__ import annotations

from collections.abc import Sequence
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

_HALVINGS = 10
"""Steps of the search for a plant's size: it is met to a thousandth of the way to one place."""
_NOISE = 0.1
"""Noise that makes every planting another, over the size of the states."""


def cleaned(states: States, calibration: Integers, test: Integers, n_components: int) -> Floats:
    """Returns one depth's test states less each language's calibration mean and top components.

    Args:
        states: Sentence means of one depth, (A x N x d).
        calibration: Sentences from which each language's mean and top components are estimated.
        test: Sentences that are asked about.
        n_components: Components removed.

    Returns:
        (A x n_test x d).
    """
    raw, fitted = states[:, test].astype(np.float64), states[:, calibration].astype(np.float64)
    return np.stack([without_common(x, c, n_components) for x, c in zip(raw, fitted, strict=True)])


def d_prime(clean: Floats) -> Floats:
    """Returns d′ contributions of every other language's sentences with the reference's.

    Args:
        clean: (A x n x d), the reference in row 0.

    Returns:
        (A−1 x n); their mean over sentences is d′ of a language.
    """
    return np.stack([separation(cosine_matrix(own, clean[0])) for own in clean[1:]])


def alignment_profile(
    states: States,
    calibration: Integers,
    test: Integers,
    n_components: int,
    *,
    shufflings: int = 0,
) -> dict[str, Floats]:
    """Returns how close every language's sentences lie to the reference's, by depth.

    Args:
        states: Sentence means, (depths x A x N x d), the reference in row 0.
        calibration: Sentences from which each language's mean and top components are estimated.
        test: Sentences that must find each other.
        n_components: Components removed.
        shufflings: How often partners are shuffled, the same at every depth and language.

    Returns:
        Arrays over (depths x A−1 x n_test): ``separation`` (d′ contributions, corrected states),
        ``hits`` (strict retrieval), ``hits_raw`` (raw cosines), ``hits_margin`` (ratio margin),
        ``hits_shuffled`` (strict, wrong partner); over (depths x A−1): ``cka``, ``cosine_raw``;
        and ``shuffled`` (shufflings x depths), mean d′ of shuffled pairs.
    """
    depths, n_languages = states.shape[:2]
    shape = (depths, n_languages - 1, len(test))
    names = ("hits", "hits_raw", "hits_margin", "separation", "hits_shuffled")
    out = {name: np.zeros(shape) for name in names}
    out |= {name: np.zeros(shape[:2]) for name in ("cka", "cosine_raw")}
    out["shuffled"] = np.zeros((shufflings, depths))
    wrong = np.roll(np.arange(len(test)), 1)
    rng = np.random.default_rng(0)
    partners = np.array([rng.permutation(len(test)) for _ in range(shufflings)], dtype=np.int64)
    for depth in range(depths):
        raw = states[depth][:, test].astype(np.float64)
        clean = cleaned(states[depth], calibration, test, n_components)
        for a in range(1, n_languages):
            place = (depth, a - 1)
            similarity = cosine_matrix(clean[a], clean[0])
            raw_similarity = cosine_matrix(raw[a], raw[0])
            out["hits"][place] = strict_hits(similarity)
            out["hits_raw"][place] = strict_hits(raw_similarity)
            out["hits_margin"][place] = margin_hits(similarity)
            out["separation"][place] = separation(similarity)
            out["hits_shuffled"][place] = strict_hits(similarity[:, wrong])
            if shufflings:
                found = shuffled_d_prime(similarity, partners)
                out["shuffled"][:, depth] += found / (n_languages - 1)
            cka = debiased_cka(raw[a], raw[0])
            out["cka"][place] = np.nan if cka is None else cka
            out["cosine_raw"][place] = np.diag(raw_similarity).mean()
    return out


def shuffled_d_prime(similarity: Floats, partners: Integers) -> Floats:
    """Returns d′ as it were if each sentence had another's partner, (R).

    Args:
        similarity: (n x n).
        partners: Which is taken for each sentence's partner, (R x n), permutations.
    """
    n = len(similarity)
    pairs = similarity[np.arange(n), partners]
    others = n * n - n
    mean = (similarity.sum() - pairs.sum(1)) / others
    square = ((similarity**2).sum() - (pairs**2).sum(1)) / others
    return (pairs.mean(1) - mean) / np.sqrt(np.clip(square - mean**2, np.finfo(float).tiny, None))


def pulled_together(clean: Floats, share: float) -> Floats:
    """Returns states in which parallel sentences meet: a planted convergence.

    Args:
        clean: Corrected states of one depth, (A x n x d).
        share: How far each state moves to the mean of its sentence over languages, 0 to 1.
    """
    return (1 - share) * clean + share * clean.mean(axis=0, keepdims=True)


def planted_d_prime(clean: Floats, target: float, seed: int) -> tuple[Floats, float]:
    """Returns d′ contributions of states pulled together until their mean d′ is ``target``.

    Args:
        clean: Corrected states of one depth, (A x n x d).
        target: Mean d′ over languages and sentences.
        seed: Of noise that makes each planting another.

    Returns:
        (A−1 x n), and how far states had to be pulled; 1 where even one place for all is not
        enough.
    """
    noise = np.random.default_rng(seed).normal(size=clean.shape)
    size = np.sqrt((clean**2).mean(axis=(1, 2), keepdims=True))
    noisy = clean + _NOISE * size * noise
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        low, high = (
            (share, high)
            if d_prime(pulled_together(noisy, share)).mean() < target
            else (
                low,
                share,
            )
        )
    return d_prime(pulled_together(noisy, high)), high


def plantings(
    states: States,
    calibration: Integers,
    test: Integers,
    n_components: int,
    *,
    profile: Floats,
    above: float,
    blocks: Sequence[int],
) -> Floats:
    """Returns d′ contributions of each planting, in which one block stands out, (P x A−1 x n).

    Args:
        states: Sentence means, (L+1 x A x N x d).
        calibration: As in :func:`alignment_profile`.
        test: Likewise.
        n_components: Likewise.
        profile: Mean d′ of the model by depth on these test sentences, (L+1).
        above: How far the planted block rises above the model's best one, in d′.
        blocks: Where each planting is made, (P).
    """
    target = float(profile[1:].max()) + above
    return np.stack([
        planted_d_prime(cleaned(states[block + 1], calibration, test, n_components), target, k)[0]
        for k, block in enumerate(blocks)
    ])  # fmt: skip
