"""How alike two sets of states are: debiased linear CKA and cross-lingual retrieval."""

from __future__ import annotations

import numpy as np

from bitgap.records import Floats


def debiased_cka(a: Floats, b: Floats) -> float | None:
    """Returns debiased linear CKA of two representations of the same n items.

    HSIC is the unbiased estimator of Song et al. 2012 (eq. 5) on linear kernels, so independent
    data give 0 on average whatever the width (the biased CKA of independent data is .79 at n=200,
    d=768; Murphy 2024). For isotropic data and a rotated copy with noise of relative size σ it is
    1/(1+σ²).

    Args:
        a: (n x d).
        b: (n x d').

    Returns:
        CKA, at most 1 up to noise; None with fewer than 4 items or no variance.

    Example:
        >>> states = np.random.default_rng(0).normal(size=(50, 4))
        >>> round(debiased_cka(states, 3 * states[:, ::-1]), 3)
        1.0
    """
    if len(a) < 4 or not (_varies(a) and _varies(b)):
        return None
    ka, kb = _hollow_gram(a), _hollow_gram(b)
    scale = _hsic(ka, ka) * _hsic(kb, kb)
    return float(_hsic(ka, kb) / np.sqrt(scale)) if scale > 0 else None


def _varies(x: Floats) -> bool:
    # Equal rows less their mean leave rounding errors, which correlate with anything.
    return bool((np.ptp(x, axis=0) > 1e-9 * np.abs(x).max()).any())


def _hollow_gram(x: Floats) -> Floats:
    centred = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0, dtype=np.float64)
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(k: Floats, m: Floats) -> float:
    n = len(k)
    cross = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) @ m.sum(0)) / (n - 2)
    return float(((k * m).sum() + cross) / (n * (n - 3)))


def cosine_matrix(a: Floats, b: Floats) -> Floats:
    """Returns the cosine of every row of a (n x d) with every row of b (m x d), (n x m).

    Example:
        >>> cosine_matrix(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 1.0]]))
        array([[1., 0.]])
    """
    return _unit(a) @ _unit(b).T


def _unit(x: Floats) -> Floats:
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(x / np.where(norms > 0, norms, 1.0), dtype=np.float64)


def strict_hits(similarity: Floats) -> Floats:
    """Returns for each of n pairs whether it finds its partner both ways, (n) of 0 or 1.

    The strict bidirectional retrieval of MEXA (Kargaran 2024): the diagonal entry must exceed
    every other entry of its row and of its column.

    Args:
        similarity: (n x n), item i of one side against item j of the other.

    Example:
        >>> strict_hits(np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.5], [0.1, 0.2, 0.8]]))
        array([1., 0., 1.])
    """
    diagonal = np.diag(similarity)
    others = similarity.copy()
    np.fill_diagonal(others, -np.inf)
    rival = np.maximum(others.max(0), others.max(1))
    return (diagonal > rival).astype(np.float64)


def margin_hits(similarity: Floats, k: int = 4) -> Floats:
    """Returns for each of n items whether the ratio margin finds its partner, (n) of 0 or 1.

    The xsim margin of LASER (Artetxe & Schwenk 2019): cosine over the mean cosine to the k nearest
    neighbours on both sides.

    Args:
        similarity: Cosines (n x n).
        k: Neighbours on each side.

    Example:
        >>> margin_hits(np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.5], [0.1, 0.2, 0.8]]), k=1)
        array([1., 1., 1.])
    """
    k = min(k, len(similarity) - 1)
    rows = np.sort(similarity, axis=1)[:, -k:].mean(1)
    columns = np.sort(similarity, axis=0)[-k:].mean(0)
    ratio = similarity / ((rows[:, None] + columns[None, :]) / 2)
    return (ratio.argmax(1) == np.arange(len(ratio))).astype(np.float64)


def separation(similarity: Floats) -> Floats:
    """Returns d′ contributions: (parallel − mean non-parallel cosine) / SD non-parallel, (n).

    Their mean is d′ = (mean parallel − mean non-parallel)/SD, which does not saturate.

    Example:
        >>> separation(np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.5], [0.1, 0.2, 0.8]])).round(2)
        array([4.85, 1.21, 4.12])
    """
    n = len(similarity)
    off = similarity[~np.eye(n, dtype=bool)]
    return (np.diag(similarity) - off.mean()) / off.std()


def without_common(states: Floats, calibration: Floats, n_components: int = 3) -> Floats:
    """Returns states less the mean and top components of calibration states of one language.

    Args:
        states: (n x d).
        calibration: (m x d); fitted here and nowhere else.
        n_components: Leading principal components removed (the first few carry frequency and
            language identity rather than meaning; Mu & Viswanath 2018).

    Example:
        >>> states = np.random.default_rng(0).normal(size=(9, 4))
        >>> bool(np.abs(without_common(states, states, 4)).max() < 1e-12)
        True
    """
    mean = calibration.mean(0)
    n_components = min(n_components, len(calibration) - 1)
    _, _, axes = np.linalg.svd(calibration - mean, full_matrices=False)
    centred = states - mean
    top = axes[:n_components]
    return centred - (centred @ top.T) @ top
