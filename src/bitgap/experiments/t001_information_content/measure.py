"""What T-001 measures: the only part that sees a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.t001_information_content import EXPERIMENT, ID, Params
from bitgap.experiments.t001_information_content.plans import plans
from bitgap.experiments.t001_information_content.readings import (
    Readable,
    chosen_penalty,
    read_bits,
    readable_blocks,
    rebuilt,
    spectra,
    tokens_of,
)
from bitgap.experiments.t001_information_content.twins import measure_controls
from bitgap.lab.activations import Activations, stream, without_sinks
from bitgap.lab.lab import Lab
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance
from bitgap.records import Floats, Observations
from bitgap.stats.information import noise_limited_bits


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures what states of every block's output tell, and how weights vary.

    Arrays, with N test sentences: ``bits`` (2 x L x N), usable bits about the current and previous
    token summed over test tokens, and ``tokens`` (L x N), how many; by block, (L): ``rate_bits``,
    ``embedding_r2``, ``rank_me``, ``renyi2_bits``, ``prompt_bits``, ``knn_nats``,
    ``histogram_bits``, ``log_variance_fixed``, ``log_variance_raw``; and those of
    :func:`bitgap.experiments.t001_information_content.twins.measure_controls`.

    Raises:
        UsageError: If there is no sentence to train or none to test on.
    """
    calibration, test = lab.corpus.split_of(lab.text.kept)
    if not (len(calibration) and len(test)):
        raise UsageError(
            f"{ID} trains probes on some sentences and measures on others, and of "
            f"{lab.corpus.n_sentences} sentences {len(calibration)} are left for the one and "
            f"{len(test)} for the other; give more"
        )
    seen, seed = lab.activations(), lab.settings.seed
    blocks = readable_blocks(seen, calibration, params.n_components, seed)
    bits, strengths = _usable(seen, blocks, params)
    variance = gauge_fixed_log_variance(lab.decoder)
    twins, missing = measure_controls(lab, blocks, variance, strengths[0], params)
    arrays: dict[str, Any] = {
        "bits": np.ascontiguousarray(bits[:, :, test]),
        "tokens": np.ascontiguousarray(tokens_of(blocks, seen)[:, test]),
        "rate_bits": surviving_bits(lab, scheme, params.rate_sentences),
        **rebuilt(seen, blocks, calibration, params.decoder_units, seed),
        **spectra(seen, blocks),
        "log_variance_fixed": variance,
        "log_variance_raw": raw_log_variance(lab.decoder),
        **twins,
    }
    documents = lab.documents
    arrays |= {} if documents is None else {"documents": documents[test]}
    facts: dict[str, Any] = {
        "width": lab.decoder.width,
        "n_train": int(blocks[0].split.train.sum()),
        "n_test": int(blocks[0].split.test.sum()),
        "strengths": strengths,
        **missing,
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts)


def _usable(
    seen: Activations, blocks: list[Readable], params: Params
) -> tuple[Floats, list[float]]:
    """Returns usable bits (2 x L x sentences) about both labels, and the penalties chosen."""
    n, out, chosen = int(seen.sentence.max()) + 1, [], []
    for labels in (seen.token, seen.previous):
        strength = chosen_penalty(blocks, labels, params.n_types, params.strengths)
        chosen.append(strength)
        out.append(
            [read_bits(b, labels, params.n_types, strength, seen.sentence, n) for b in blocks]
        )
    return np.array(out), chosen


def surviving_bits(lab: Lab, scheme: str, n_sentences: int) -> Floats:
    """Returns noise-limited bits of every block's output when all blocks are rounded, (L).

    Args:
        lab: Model and text.
        scheme: How they are rounded.
        n_sentences: Sentences that the error's variance is measured on.
    """
    few = lab.spread(n_sentences)
    shape = (lab.n_blocks, lab.decoder.width)
    total, squares, count = np.zeros(shape), np.zeros(shape), np.zeros(lab.n_blocks)
    for part in stream(few, plans(lab.n_blocks, scheme)["rounded"]):
        if 0 <= part.depth < lab.n_blocks:
            clean, rounded = part.states
            rows = without_sinks(clean, part.real)
            error = (rounded - clean)[rows].double()
            total[part.depth] += error.sum(0).cpu().numpy()
            squares[part.depth] += error.square().sum(0).cpu().numpy()
            count[part.depth] += len(error)
    noise = squares / count[:, None] - (total / count[:, None]) ** 2
    seen = lab.activations()
    return np.array(
        [
            noise_limited_bits(np.cov(seen.at(block + 1)[1].T), np.maximum(noise[block], 0))
            for block in range(lab.n_blocks)
        ]
    )
