"""Usable information: how many bits about a label a probe of a given family can read off a state.

For a deterministic network I(X; h) does not depend on depth (Goldfeld 2019), so information is
taken relative to a family V of readers (Xu 2020): I_V = H_V(Y) − H_V(Y|h), the held-out
cross-entropy of the label's marginal less that of the best reader found. Here V is multinomial
logistic regression on standardised principal components, so no rescaling of states can move it. On
little text a reader may do worse than the marginal, and I_V comes out below 0: it is a lower bound.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitgap.records import Floats, Integers

Bools = NDArray[np.bool_]

_MAX_STEPS = 100
_TOLERANCE = 1e-3
"""Of the gradient of the mean loss; thousandths of a nat are below what any text resolves."""


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows a reader is fitted on, its penalty chosen on, and its loss measured on."""

    fit: Bools
    validation: Bools
    test: Bools

    @property
    def train(self) -> Bools:
        """Rows that may be looked at before the test: fit and validation."""
        return self.fit | self.validation

    def of(self, rows: Integers) -> Split:
        """Returns the same split of some rows."""
        return Split(self.fit[rows], self.validation[rows], self.test[rows])


def split_by_sentence(sentence: Integers, calibration: Integers) -> Split:
    """Returns a split in which no sentence is on two sides.

    Args:
        sentence: Sentence of every row, (n).
        calibration: Sentences for training; every fourth of them is for validation. A single one
            is cut by rows, since there is no other to validate on.

    Example:
        >>> split_by_sentence(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 2])).validation
        array([ True,  True, False, False, False])
    """
    train = np.isin(sentence, calibration)
    validation = np.isin(sentence, calibration[::4])
    if len(calibration) < 2:
        validation = train & (np.arange(len(sentence)) % 4 == 0)
    return Split(train & ~validation, validation, ~train)


# -- features and labels ---------------------------------------------------------------------------


def principal_features(states: Floats, train: Bools, n_components: int, seed: int) -> Floats:
    """Returns states in their leading principal components, each of mean 0 and variance 1, (n x p).

    Components and scales are those of the training rows, so that a factor common to all states
    changes nothing.

    Args:
        states: (n x d).
        train: Rows to fit on, (n).
        n_components: p, or as many as the training rows allow.
        seed: Of the randomised decomposition (Halko 2011).

    Example:
        >>> states = np.random.default_rng(0).normal(size=(9, 4))
        >>> principal_features(states, np.ones(9, dtype=bool), 2, seed=0).std(0).round(6)
        array([1., 1.])
    """
    from sklearn.utils.extmath import randomized_svd

    centred = states - states[train].mean(0)
    fitted = centred[train]
    p = max(1, min(n_components, fitted.shape[1], len(fitted) - 1))
    _, values, axes = randomized_svd(fitted, p, random_state=seed)
    scale = values / np.sqrt(len(fitted))
    # A direction in which nothing varies carries no label, and no scale would make it finite.
    kept = scale > 1e-6 * scale[0]
    return np.asarray(centred @ axes[kept].T / scale[kept], dtype=np.float64)


def as_classes(labels: Integers, train: Bools, n_types: int) -> Integers:
    """Returns labels as classes: the training rows' most frequent types, and one for all others.

    Args:
        labels: Token ids, (n).
        train: Rows in which types are counted, (n).
        n_types: How many types keep a class of their own.

    Returns:
        Class of each row, 0 to ``n_types``; the last class is "other".

    Example:
        >>> as_classes(np.array([7, 7, 9, 4, 9, 7]), np.ones(6, dtype=bool), n_types=2)
        array([0, 0, 1, 2, 1, 0])
    """
    types, counts = np.unique(labels[train], return_counts=True)
    # Equal counts in the order of ids, so that the classes are the same on every machine.
    frequent = types[np.lexsort((types, -counts))][:n_types]
    order = np.argsort(frequent)
    place = np.searchsorted(frequent[order], labels).clip(max=len(frequent) - 1)
    found = order[place]
    return np.where(frequent[found] == labels, found, len(frequent)).astype(np.int64)


# -- readers ---------------------------------------------------------------------------------------


def marginal_nats(classes: Integers, split: Split) -> Floats:
    """Returns the surprisal of every test row's class under the training rows' frequencies, (m).

    Frequencies are add-one smoothed.

    Args:
        classes: (n).
        split: With training and test rows.

    Example:
        >>> train = np.array([True, True, True, False])
        >>> split = Split(train, ~train & False, ~train)
        >>> marginal_nats(np.array([0, 0, 1, 0]), split).round(3)
        array([0.511])
    """
    counts = np.bincount(classes[split.train], minlength=int(classes.max()) + 1) + 1.0
    return -np.log(counts / counts.sum())[classes[split.test]]


def best_penalty(
    data: Sequence[tuple[Floats, Integers, Split]], strengths: Sequence[float]
) -> float:
    """Returns the inverse penalty with the least validation loss, summed over several data sets.

    Args:
        data: Features, classes and split of each.
        strengths: Inverse penalties to choose from.

    Example:
        >>> features, classes = np.arange(8.0)[:, None] - 4, np.arange(8) // 4
        >>> split = split_by_sentence(np.arange(8), np.arange(8))
        >>> best_penalty([(features, classes, split)], [0.01, 1.0])
        1.0
    """

    def loss(strength: float) -> float:
        total = 0.0
        for features, classes, split in data:
            # A class without a row to fit on has no probability to speak of.
            seen = np.isin(classes, classes[split.fit])
            nats = _logistic(features, classes, split.fit, split.validation & seen, strength)
            total += float(nats.sum())
        return total

    return min(strengths, key=loss)


def logistic_nats(features: Floats, classes: Integers, split: Split, strength: float) -> Floats:
    """Returns the surprisal of every test row under a logistic reader of all training rows, (m).

    Args:
        features: (n x p), standardised.
        classes: (n).
        split: Rows.
        strength: Inverse L2 penalty.

    Example:
        >>> features, classes = np.arange(8.0)[:, None] - 4, np.arange(8) // 4
        >>> train = np.arange(8) % 4 > 0
        >>> split = Split(train, ~train & False, ~train)
        >>> logistic_nats(features, classes, split, 1.0).round(2)
        array([0.01, 0.69])
    """
    return _logistic(features, classes, split.train, split.test, strength)


def _logistic(
    features: Floats, classes: Integers, fit: Bools, test: Bools, strength: float
) -> Floats:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(classes[fit])
    # The class "other" may not occur in training; the test's rows of it cost what the rarest do.
    row = np.searchsorted(present, classes[test]).clip(max=len(present) - 1)
    if len(present) < 2:
        return np.zeros(int(test.sum()))
    reader = LogisticRegression(C=strength, max_iter=_MAX_STEPS, tol=_TOLERANCE)
    with warnings.catch_warnings():
        # A reader stopped early is still a reader of the family, and its bound a bound.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Rare types make many classes of few rows, which looks like a regression and is none.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        reader.fit(features[fit], classes[fit])
    logs = np.asarray(reader.predict_log_proba(features[test]), dtype=np.float64)
    return -logs[np.arange(len(logs)), row]


# -- continuous targets ----------------------------------------------------------------------------


def ridge_r_squared(
    features: Floats, targets: Floats, split: Split, penalties: Sequence[float]
) -> float:
    """Returns the share of test variance of targets that a ridge regression explains, R².

    The penalty is chosen on the validation rows. Below 0 where the fit is worse than the mean.

    Args:
        features: (n x p), standardised.
        targets: (n x q).
        split: Rows.
        penalties: Multiples of the number of rows, to choose from.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 2))
        >>> split = split_by_sentence(np.arange(40), np.arange(20))
        >>> round(ridge_r_squared(x, x @ np.ones((2, 1)), split, [1e-6, 1.0]), 3)
        1.0
    """
    best = _best_ridge(features, targets, split, penalties)
    fitted = _ridge(features[split.train], targets[split.train], best)(features[split.test])
    return _share_explained(targets, fitted, split)


def decoder_r_squared(
    features: Floats,
    targets: Floats,
    split: Split,
    penalties: Sequence[float],
    *,
    hidden: int = 64,
    epochs: int = 20,
    seed: int = 0,
) -> float:
    """Returns the share of test variance of targets that a small decoder reconstructs, R².

    The decoder is a ridge regression and a network of one hidden layer (tanh) on what it leaves, so
    that it reads whatever ridge reads and more where the map is no line. Penalty and number of
    passes over the text, none among them, are chosen on the validation rows; then it is trained
    again on all training rows. Minibatches by Adam (Kingma & Ba 2015), the same on every run.

    Args:
        features: (n x p), standardised.
        targets: (n x q).
        split: Rows.
        penalties: Of ridge, multiples of the number of rows, to choose from.
        hidden: Units of the hidden layer.
        epochs: Passes over the training rows, at most.
        seed: Of first weights and the order of rows.

    Returns:
        R², below 0 where the reconstruction is worse than the mean; NaN where rows are missing on
        a side, or test targets do not vary.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(900, 1))
        >>> split = split_by_sentence(np.arange(900), np.arange(600))
        >>> round(ridge_r_squared(x, x**2, split, [1.0]), 1)
        -0.0
        >>> decoder_r_squared(x, x**2, split, [1.0]) > 0.8
        True
    """
    if not (split.fit.any() and split.validation.any() and split.test.any()):
        return float("nan")
    penalty = _best_ridge(features, targets, split, penalties)

    def reconstructed(rows: Bools, at: Bools, passes: int) -> list[Floats]:
        """Returns what is reconstructed after none, one, two, … passes."""
        line = _ridge(features[rows], targets[rows], penalty)
        left, base = targets[rows] - line(features[rows]), line(features[at])
        size = float(left.std()) or 1.0
        network = _Network.of(features.shape[1], hidden, targets.shape[1], seed)
        out = [base]
        for _ in range(passes):
            network.train(features[rows], left / size)
            out.append(base + size * network(features[at]))
        return out

    truth = targets[split.validation]
    tried = reconstructed(split.fit, split.validation, epochs)
    best = int(np.argmin([float(((truth - guess) ** 2).sum()) for guess in tried]))
    return _share_explained(targets, reconstructed(split.train, split.test, best)[-1], split)


def _best_ridge(
    features: Floats, targets: Floats, split: Split, penalties: Sequence[float]
) -> float:
    x, y = features[split.fit], targets[split.fit]
    truth, at = targets[split.validation], features[split.validation]
    return min(penalties, key=lambda p: float(((truth - _ridge(x, y, p)(at)) ** 2).sum()))


def _ridge(x: Floats, y: Floats, penalty: float) -> Callable[[Floats], Floats]:
    a, b = x.mean(0), y.mean(0)
    gram: Floats = (x - a).T @ (x - a) + penalty * len(x) * np.eye(int(x.shape[1]))
    cross: Floats = (x - a).T @ (y - b)
    slope: Floats = np.asarray(np.linalg.solve(gram, cross), dtype=np.float64)
    return lambda at: (at - a) @ slope + b


def _share_explained(targets: Floats, fitted: Floats, split: Split) -> float:
    test = targets[split.test]
    total = float(((test - targets[split.train].mean(0)) ** 2).sum())
    return 1 - float(((test - fitted) ** 2).sum()) / total if total > 0 else float("nan")


_BATCH, _RATE, _DECAY, _MEMORY = 128, 3e-3, 1e-4, (0.9, 0.999)


@dataclass(slots=True)
class _Network:
    """One hidden layer of tanh, trained by Adam; it says 0 before it is trained."""

    weights: list[Floats]
    moments: list[tuple[Floats, Floats]]
    rng: np.random.Generator
    steps: int = 0

    @classmethod
    def of(cls, inputs: int, hidden: int, outputs: int, seed: int) -> _Network:
        rng = np.random.default_rng(seed)
        first = rng.normal(size=(inputs, hidden)) / np.sqrt(inputs)
        shift = rng.normal(size=hidden)
        weights = [first, shift, np.zeros((hidden, outputs)), np.zeros(outputs)]
        return cls(weights, [(np.zeros_like(w), np.zeros_like(w)) for w in weights], rng)

    def __call__(self, x: Floats) -> Floats:
        """Returns outputs, (n x q)."""
        first, shift, second, offset = self.weights
        return np.tanh(x @ first + shift) @ second + offset

    def train(self, x: Floats, y: Floats) -> None:
        """Passes over the rows once, in batches."""
        order = self.rng.permutation(len(x))
        for start in range(0, len(x), _BATCH):
            self._step(x[order[start : start + _BATCH]], y[order[start : start + _BATCH]])

    def _step(self, x: Floats, y: Floats) -> None:
        first, shift, second, offset = self.weights
        layer = np.tanh(x @ first + shift)
        error = (layer @ second + offset - y) / len(x)
        back = (error @ second.T) * (1 - layer**2)
        slopes = [x.T @ back, back.sum(0), layer.T @ error, error.sum(0)]
        self.steps += 1
        for weight, slope, (mean, square) in zip(self.weights, slopes, self.moments, strict=True):
            slope = slope + _DECAY * weight
            mean += (1 - _MEMORY[0]) * (slope - mean)
            square += (1 - _MEMORY[1]) * (slope**2 - square)
            sizes = np.sqrt(square / (1 - _MEMORY[1] ** self.steps)) + 1e-8
            weight -= _RATE * mean / (1 - _MEMORY[0] ** self.steps) / sizes
