"""What T-001 reads off a model's states: probes of tokens, bits that survive rounding, spectra.

Probes get every block's output as standardised principal components of the sampled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bitgap.records import Floats, Integers
from bitgap.stats.dimension import covariance_eigenvalues, rank_me
from bitgap.stats.information import (
    histogram_entropy_bits,
    knn_entropy_nats,
    prompt_entropy_bits,
    renyi2_bits,
)
from bitgap.stats.probes import type_folds
from bitgap.stats.usable_information import (
    Split,
    as_classes,
    best_penalty,
    decoder_r_squared,
    logistic_nats,
    marginal_nats,
    principal_features,
    ridge_r_squared,
    split_by_sentence,
)

if TYPE_CHECKING:
    from bitgap.lab.activations import Activations

_RIDGE = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Penalties to choose from; the largest leaves next to nothing, as it should where nothing is."""
_NEIGHBOUR_DIMENSIONS, _NEIGHBOUR_POINTS = 16, 1000
"""Where the neighbours' entropy is biased by some 2 %; more points only take longer."""


@dataclass(frozen=True, slots=True)
class Readable:
    """One block's output as a probe gets it.

    Attributes:
        rows: Sampled tokens that count there, (m).
        split: Of those rows.
        features: Their standardised principal components, (m x p).
    """

    rows: Integers
    split: Split
    features: Floats


def readable_blocks(
    seen: Activations, calibration: Integers, n_components: int, seed: int, factor: float = 1.0
) -> list[Readable]:
    """Returns every block's output as a probe gets it.

    Args:
        seen: What the pass showed.
        calibration: Sentences that probes are trained on.
        n_components: Principal components, at most.
        seed: Of their decomposition.
        factor: What all states are multiplied by first.
    """
    blocks = []
    for site in range(1, len(seen.states) - 1):
        rows, states = seen.at(site)
        split = split_by_sentence(seen.sentence[rows], calibration)
        features = principal_features(factor * states, split.train, n_components, seed)
        blocks.append(Readable(rows, split, features))
    return blocks


def chosen_penalty(
    blocks: Sequence[Readable], labels: Integers, n_types: int, strengths: Sequence[float]
) -> float:
    """Returns one inverse penalty for all blocks: the best at the first, middle and last together.

    With one for each, blocks would be compared by different readers.
    """
    chosen = dict.fromkeys((0, len(blocks) // 2, len(blocks) - 1))
    data = [
        (blocks[i].features, _classes(blocks[i], labels, n_types), blocks[i].split) for i in chosen
    ]
    return best_penalty(data, strengths)


def _classes(block: Readable, labels: Integers, n_types: int) -> Integers:
    return as_classes(labels[block.rows], block.split.train, n_types)


def read_bits(
    block: Readable, labels: Integers, n_types: int, strength: float, unit: Integers, n: int
) -> Floats:
    """Returns usable bits (marginal less probe) of the test tokens of every unit, summed, (n).

    Args:
        block: Whose states are read.
        labels: Token id that is asked of every sampled token.
        n_types: Types with a class of their own.
        strength: Inverse penalty.
        unit: Sentence of every sampled token.
        n: How many sentences there are.
    """
    classes = _classes(block, labels, n_types)
    gained = marginal_nats(classes, block.split) - logistic_nats(
        block.features, classes, block.split, strength
    )
    sentences = unit[block.rows][block.split.test]
    return np.bincount(sentences, gained / np.log(2), minlength=n).astype(np.float64)


def tokens_of(blocks: Sequence[Readable], seen: Activations) -> Floats:
    """Returns how many test tokens every sentence has at every block, (L x N)."""
    n = int(seen.sentence.max()) + 1
    counts = [np.bincount(seen.sentence[b.rows][b.split.test], minlength=n) for b in blocks]
    return np.array(counts, dtype=np.float64)


def rebuilt(
    seen: Activations, blocks: Sequence[Readable], calibration: Integers, hidden: int, seed: int
) -> dict[str, Floats]:
    """Returns how much of the input's embedding is rebuilt from each block's output, R² on tokens
    of sentences and types that nothing was fitted on.

    Args:
        seen: What the pass showed.
        blocks: Every block's output as a probe gets it.
        calibration: Sentences that readers are trained on.
        hidden: Hidden units of the decoder.
        seed: Of the split of token types, and of the decoder.

    Returns:
        ``embedding_r2`` by ridge and ``decoder_r2`` by a small decoder, (L) each; NaN where a side
        of the split has no token.
    """
    folds = type_folds(seen.token, 4, seed)
    embedding = np.asarray(seen.states[0], dtype=np.float64)
    out: dict[str, list[float]] = {"embedding_r2": [], "decoder_r2": []}
    for block in blocks:
        fold, known = folds[block.rows], np.isin(seen.sentence[block.rows], calibration)
        apart = Split(known & (fold < 2), known & (fold == 2), ~known & (fold == 3))
        whole = bool(apart.fit.any() and apart.validation.any() and apart.test.any())
        data = block.features, embedding[block.rows], apart, _RIDGE
        out["embedding_r2"].append(ridge_r_squared(*data) if whole else np.nan)
        out["decoder_r2"].append(decoder_r_squared(*data, hidden=hidden, seed=seed))
    return {name: np.array(values) for name, values in out.items()}


def spectra(seen: Activations, blocks: Sequence[Readable]) -> dict[str, Floats]:
    """Returns what stands beside usable information, by block.

    Args:
        seen: What the pass showed.
        blocks: Every block's output as a probe gets it.

    Returns:
        ``rank_me``, ``renyi2_bits``, ``prompt_bits`` (of the sampled tokens of each sentence),
        ``knn_nats`` and ``histogram_bits``, (L) each.
    """
    names = ("rank_me", "renyi2_bits", "prompt_bits", "knn_nats", "histogram_bits")
    out: dict[str, list[float]] = {name: [] for name in names}
    prompts = seen.sentence * len(seen.languages) + seen.language
    for site, block in enumerate(blocks, start=1):
        rows, states = seen.at(site)
        _, raw = seen.at(site, sinks=True, massive=True)
        near = block.features[:_NEIGHBOUR_POINTS, :_NEIGHBOUR_DIMENSIONS]
        out["rank_me"].append(rank_me(covariance_eigenvalues(states)))
        out["renyi2_bits"].append(renyi2_bits(states))
        out["prompt_bits"].append(prompt_entropy_bits(states, prompts[rows]))
        out["knn_nats"].append(knn_entropy_nats(near, min(4, len(near) - 1)))
        out["histogram_bits"].append(histogram_entropy_bits(raw))
    return {name: np.array(values) for name, values in out.items()}
