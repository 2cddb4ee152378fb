"""What T-001 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.t001_information_content import EXPERIMENT, ID, Params
from bitgap.experiments.t001_information_content.readings import (
    Readable,
    chosen_penalty,
    read_bits,
    readable_blocks,
    spectra,
    surviving_bits,
    tokens_of,
)
from bitgap.experiments.t001_information_content.twins import SmallProbe, measure_controls
from bitgap.lab.activations import Activations
from bitgap.lab.lab import Lab
from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance
from bitgap.records import Floats, Observations


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
    found, seed = lab.activations(), lab.settings.seed
    blocks = readable_blocks(found, calibration, params.n_components, seed)
    bits, strengths = _usable(found, blocks, params)
    variance = gauge_fixed_log_variance(lab.decoder)
    small = SmallProbe(
        n_types=params.small_types, n_components=params.small_components, strength=strengths[0]
    )
    twins = measure_controls(
        lab,
        blocks,
        variance,
        small,
        n_components=params.n_components,
        n_sentences=params.control_sentences,
        n_plantings=params.planted_seeds,
        gain=params.planted_gain,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            "bits": np.ascontiguousarray(bits[:, :, test]),
            "tokens": np.ascontiguousarray(tokens_of(blocks, found)[:, test]),
            "rate_bits": surviving_bits(lab, scheme, params.rate_sentences),
            **spectra(found, blocks, seed),
            "log_variance_fixed": variance,
            "log_variance_raw": raw_log_variance(lab.decoder),
            **twins,
        },
        facts={
            "scheme": scheme,
            "n_blocks": lab.n_blocks,
            "width": lab.decoder.width,
            "n_train": int(blocks[0].split.train.sum()),
            "n_test": int(blocks[0].split.test.sum()),
            "strengths": strengths,
            "params": asdict(params),
        },
    )


def _usable(
    found: Activations, blocks: list[Readable], params: Params
) -> tuple[Floats, list[float]]:
    """Returns usable bits (2 x L x sentences) about both labels, and the penalties chosen."""
    n, out, chosen = int(found.sentence.max()) + 1, [], []
    for labels in (found.token, found.previous):
        strength = chosen_penalty(blocks, labels, params.n_types, params.strengths)
        chosen.append(strength)
        out.append(
            [read_bits(b, labels, params.n_types, strength, found.sentence, n) for b in blocks]
        )
    return np.array(out), chosen
