"""Linear probes of hidden states: accuracy on unseen word types, selectivity, description length.

A probe is a logistic regression on standardised states projected to their leading principal
components. Three guards keep it from saying more than the states do:

* folds are disjoint in word types, so a probe cannot pass by knowing the words it is asked of;
* a *control task* gives every word type a random label from the same distribution (Hewitt & Liang
  2019): *selectivity* is accuracy on the real labels less that on these;
* the *online code* (Voita & Titov 2020) is how many bits the labels take if a probe trained on
  what was sent so far is used to send the next: it pays for what the probe has to learn.

Where states know nothing of the labels, selectivity is about 0 and the code about n·H(label) long.
Pure numpy but for scikit-learn, which is imported when a probe is fitted.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitgap.records import Floats, Integers
from bitgap.stats.bootstrap import Statistic

Bools = NDArray[np.bool_]

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Where the online code learns anew, as shares of the words; Voita & Titov double them too."""


# -- what a probe is given ------------------------------------------------------------------------
def principal_scores(states: Floats, n_components: int) -> Floats:
    """Returns standardised states in their leading principal components, (n x k).

    Scores are scaled to a mean square of 1 over all of them, so that one penalty suits every site.
    No label is seen, so words that will be asked of may be among those that are fitted.

    Args:
        states: (n x d).
        n_components: k at most; fewer where n or d is smaller.

    Example:
        >>> states = np.random.default_rng(0).normal(size=(9, 4))
        >>> scores = principal_scores(states, 2)
        >>> scores.shape, float((scores**2).mean().round(6))
        ((9, 2), 1.0)
    """
    centred = states - states.mean(0)
    spread = centred.std(0)
    standard = centred / np.where(spread > 1e-9 * (1 + np.abs(states).max()), spread, np.inf)
    # By the smaller Gram matrix: an SVD of n x d takes several times as long.
    if len(standard) < standard.shape[1]:
        values, left = np.linalg.eigh(standard @ standard.T)
        scores = left * np.sqrt(np.clip(values, 0, None))
    else:
        _, axes = np.linalg.eigh(standard.T @ standard)
        scores = standard @ axes
    scores = scores[:, ::-1][:, :n_components]
    size = np.sqrt((scores**2).mean())
    return scores / size if size > 0 else scores


def type_folds(types: Integers, n_folds: int, seed: int) -> Integers:
    """Returns each word's fold, (n): no type is in two folds, folds are about equally large.

    Args:
        types: Number of each word's type, (n).
        n_folds: How many.
        seed: Of the order in which equally frequent types are dealt out.

    Example:
        >>> type_folds(np.array([0, 0, 1, 1, 2, 2, 3, 3]), n_folds=2, seed=0)
        array([1, 1, 0, 0, 0, 0, 1, 1])
    """
    names, inverse, counts = np.unique(types, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    filled = np.zeros(n_folds)
    fold_of = np.zeros(len(names), dtype=np.int64)
    for name in order:
        fold_of[name] = int(filled.argmin())
        filled[fold_of[name]] += counts[name]
    return fold_of[inverse]


def control_labels(types: Integers, labels: Integers, seed: int) -> Integers:
    """Returns the control task: a label for every type, drawn from the words' own labels, (n).

    Source: Hewitt & Liang 2019, section 2.

    Args:
        types: Number of each word's type, (n).
        labels: Real labels, (n).
        seed: Of the draw.

    Example:
        >>> control_labels(np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1]), seed=2)
        array([1, 1, 0, 0, 0])
    """
    names, inverse = np.unique(types, return_inverse=True)
    return np.random.default_rng(seed).choice(labels, len(names))[inverse]


# -- probes ---------------------------------------------------------------------------------------
@contextmanager
def small_fits() -> Generator[None, None, None]:
    """Makes small fits quick: on one core, as their products are too small to share, unchecked.

    Example:
        >>> scores, labels = np.arange(8.0)[:, None] - 3.5, np.arange(8) // 4
        >>> with small_fits():
        ...     int(held_out_hits(scores, labels, np.arange(8) % 2, penalty=1.0).sum())
        8
    """
    from sklearn import config_context
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), config_context(assume_finite=True, skip_parameter_validation=True):
        yield


def _fitted(scores: Floats, labels: Integers, penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1 / penalty, solver="newton-cholesky").fit(scores, labels)


def held_out_hits(scores: Floats, labels: Integers, folds: Integers, penalty: float) -> Bools:
    """Returns for every word whether a probe trained on the other folds names its label, (n).

    Args:
        scores: (n x k), of :func:`principal_scores`.
        labels: (n).
        folds: (n), of :func:`type_folds`.
        penalty: Weight of ½‖w‖² beside the summed log loss in nats.

    Example:
        >>> scores, labels = np.arange(8.0)[:, None] - 3.5, np.arange(8) // 4
        >>> bool(held_out_hits(scores, labels, folds=np.arange(8) % 2, penalty=1.0).all())
        True
    """
    hits = np.zeros(len(labels), dtype=np.bool_)
    for fold in np.unique(folds):
        asked = folds == fold
        known = labels[~asked]
        if len(np.unique(known)) < 2:
            # Nothing to tell apart: the one label that was seen is what would be said.
            hits[asked] = labels[asked] == known[0] if len(known) else False
            continue
        hits[asked] = (
            _fitted(scores[~asked], known, penalty).predict(scores[asked]) == labels[asked]
        )
    return hits


def entropy_bits(labels: Integers) -> float:
    """Returns H(label), the entropy of the labels' own frequencies, in bits.

    Example:
        >>> entropy_bits(np.array([0, 0, 1, 1]))
        1.0
    """
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(shares * np.log2(shares)).sum())


def online_code_bits(
    scores: Floats,
    labels: Integers,
    penalty: float,
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
) -> float:
    """Returns the online code length of all labels, in bits.

    The first portion is sent by a uniform code; each next one by a probe trained on all before it.
    Source: Voita & Titov 2020, eq. 3.

    Args:
        scores: (n x k).
        labels: (n).
        penalty: As for :func:`held_out_hits`.
        seed: Of the order in which words are sent.
        fractions: Ends of the portions as shares of n, rising to 1.

    Example:
        >>> scores, labels = np.arange(64.0)[:, None] / 16 - 2, np.arange(64) // 32
        >>> told, blind = (online_code_bits(x, labels, 1.0, seed=0) for x in (scores, 0 * scores))
        >>> told < 64 * entropy_bits(labels) <= blind
        True
    """
    n, classes = len(labels), np.unique(labels)
    order = np.random.default_rng(seed).permutation(n)
    ends = sorted({max(1, round(f * n)) for f in fractions})
    bits = ends[0] * np.log2(len(classes))
    for start, end in pairwise(ends):
        known, asked = order[:start], order[start:end]
        chances = _chances(scores[known], labels[known], scores[asked], classes, penalty)
        column = np.searchsorted(classes, labels[asked])
        bits -= np.log2(chances[np.arange(len(asked)), column]).sum()
    return float(bits)


def _chances(
    scores: Floats, labels: Integers, asked: Floats, classes: Integers, penalty: float
) -> Floats:
    """Returns the chance of each class, (m x C); a label not yet seen keeps a small one."""
    seen = np.unique(labels)
    if len(seen) < 2:
        found = np.full((len(asked), 1), 1.0)
    else:
        found = _fitted(scores, labels, penalty).predict_proba(asked)
    # Add-one smoothing of the classes, at the weight that their never having come has.
    unseen = 1 / (len(labels) + len(classes))
    chances = np.full((len(asked), len(classes)), unseen)
    left = 1 - unseen * (len(classes) - len(seen))
    chances[:, np.searchsorted(classes, seen)] = left * found if len(seen) > 1 else left
    return np.clip(chances, 1e-12, 1.0)


# -- selectivity ----------------------------------------------------------------------------------
def selectivity(
    hits: Bools, control_hits: Bools, units: Integers, languages: Integers
) -> tuple[Statistic, int]:
    """Returns weights of units -> selectivity at every site, (W x S), and the number of units.

    Accuracy less that of the control task, averaged over languages. The units that are resampled
    are word types, since what a probe makes of two occurrences of a word hangs together.

    Args:
        hits: Whether each word's label is named, (S x n).
        control_hits: Likewise for the control task, (S x n).
        units: Number of each word's type, from 0, no two languages sharing one, (n).
        languages: Number of each word's language, (n).

    Example:
        >>> hits, control = np.ones((1, 4), dtype=bool), np.array([[True, False, True, False]])
        >>> of, n = selectivity(hits, control, np.array([0, 0, 1, 1]), np.zeros(4, dtype=int))
        >>> of(np.ones((1, n)))
        array([[0.5]])
    """
    n_units = int(units.max()) + 1 if len(units) else 0
    gained = hits.astype(np.float64) - control_hits
    parts = list[tuple[Integers, Floats, Floats]]()
    for code in np.unique(languages):
        mine = languages == code
        own, place = np.unique(units[mine], return_inverse=True)
        rows = [np.bincount(place, row, len(own)) for row in gained[:, mine]]
        sums = np.stack(rows).astype(np.float64)
        parts.append((own, sums, np.bincount(place, minlength=len(own)).astype(np.float64)))

    def statistic(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = [
                (weights[:, own] @ sums.T) / (weights[:, own] @ counts)[:, None]
                for own, sums, counts in parts
            ]
        return np.mean(found, axis=0)

    return statistic, n_units


# -- profiles by depth ----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Task:
    """Words of several languages and the labels that a probe is asked for.

    Attributes:
        rows: Which words of the sample, (n).
        labels: Number of each one's value, (n).
        control: Label of the control task, (n).
        languages: Number of its language, (n).
        units: Number of its word type, from 0 and without gaps, (n).
        folds: Fold it is held out in, (n).
    """

    rows: Integers
    labels: Integers
    control: Integers
    languages: Integers
    units: Integers
    folds: Integers

    def only(self, languages: Sequence[int]) -> Integers:
        """Returns which of the n words are of some languages."""
        return np.flatnonzero(np.isin(self.languages, languages))


def make_task(
    values: NDArray[np.str_],
    languages: Integers,
    types: Integers,
    *,
    fewest: int,
    n_folds: int,
    seed: int,
) -> Task:
    """Returns the words that can be asked for a feature: those of languages with enough of them.

    A value counts in a language if it comes in ``fewest`` words and, as types are held out, in two
    types for every fold; a language counts if at least two values do.

    Args:
        values: Value of the feature, "" for none, (n).
        languages: Number of each word's language, (n).
        types: Number of its word type, (n).
        fewest: Words that a value must come in.
        n_folds: Folds.
        seed: Of folds and control labels.

    Example:
        >>> values = np.array(["sg", "pl"] * 8 + ["rare"])
        >>> types = np.arange(17)
        >>> task = make_task(values, np.zeros(17, dtype=int), types, fewest=4, n_folds=2, seed=0)
        >>> len(task.rows), task.labels[:4]
        (16, array([1, 0, 1, 0]))
    """
    keep = np.zeros(len(values), dtype=np.bool_)
    for code in np.unique(languages):
        mine = languages == code
        told = [v for v in np.unique(values[mine]) if v]
        enough = [
            v
            for v in told
            if (mine & (values == v)).sum() >= fewest
            and len(np.unique(types[mine & (values == v)])) >= 2 * n_folds
        ]
        if len(enough) >= 2:
            keep |= mine & np.isin(values, enough)
    rows = np.flatnonzero(keep)
    labels = np.unique(values[rows], return_inverse=True)[1].astype(np.int64)
    control, folds = labels.copy(), np.zeros(len(rows), dtype=np.int64)
    for code in np.unique(languages[rows]):
        mine = np.flatnonzero(languages[rows] == code)
        folds[mine] = type_folds(types[rows][mine], n_folds, seed)
        control[mine] = control_labels(types[rows][mine], labels[mine], seed)
    units = np.unique(types[rows], return_inverse=True)[1].astype(np.int64)
    return Task(rows, labels, control, languages[rows], units, folds)


def probe_sites(
    scores: Mapping[int, Sequence[Floats]],
    task: Task,
    labels: Sequence[Integers],
    penalty: float,
) -> NDArray[np.bool_]:
    """Returns hits of one probe a language, site and set of labels, (sets x S x n).

    Args:
        scores: By number of language, principal scores of the task's words in it, in their order,
            at every site.
        task: Words; those of languages without scores are never hit.
        labels: Sets of labels, (n) each, such as the task's own and its control's.
        penalty: As for :func:`held_out_hits`.

    Example:
        >>> values = np.array(["sg", "pl"] * 8)
        >>> languages, types = np.zeros(16, dtype=int), np.arange(16)
        >>> task = make_task(values, languages, types, fewest=4, n_folds=2, seed=0)
        >>> sites = [np.zeros((16, 1)), task.labels[:, None] - 0.5]
        >>> probe_sites({0: sites}, task, [task.labels], penalty=1.0).mean(-1)
        array([[0.5, 1. ]])
    """
    n_sites = max((len(sites) for sites in scores.values()), default=0)
    hits = np.zeros((len(labels), n_sites, len(task.rows)), dtype=np.bool_)
    for code, sites in scores.items():
        mine = task.only([code])
        for site, found in enumerate(sites):
            for k, asked in enumerate(labels):
                hits[k, site, mine] = held_out_hits(found, asked[mine], task.folds[mine], penalty)
    return hits


def written(states: Floats, labels: Integers, strength: float, seed: int) -> Floats:
    """Returns states with their labels written into them: P6, the planted effect.

    Every label has a direction of its own, Gaussian, added in proportion to the states' size.

    Args:
        states: (n x d).
        labels: (n).
        strength: Length of what is added over the states' root mean square length.
        seed: Of the directions.

    Example:
        >>> states = np.random.default_rng(0).normal(size=(6, 3))
        >>> moved = written(states, np.array([0, 0, 0, 1, 1, 1]), strength=0.5, seed=0) - states
        >>> bool(np.allclose(moved[0], moved[2])), bool(np.allclose(moved[0], moved[3]))
        (True, False)
    """
    values, which = np.unique(labels, return_inverse=True)
    directions = np.random.default_rng(seed).normal(size=(len(values), states.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    size = np.sqrt((states**2).sum(1).mean())
    return states + strength * size * directions[which]
