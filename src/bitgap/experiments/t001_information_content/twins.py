"""What T-001 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.experiments.t001_information_content import Params
from bitgap.experiments.t001_information_content.controls import bits_per_token
from bitgap.experiments.t001_information_content.readings import (
    Readable,
    read_bits,
    readable_blocks,
    tokens_of,
)
from bitgap.lab.activations import Activations
from bitgap.lab.lab import Lab
from bitgap.models.gauge import gauge_fixed_log_variance
from bitgap.records import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallProbe:
    """The probe of the controls.

    Attributes:
        n_types: Types with a class of their own.
        n_components: Principal components it reads.
        strength: Inverse penalty.
    """

    n_types: int
    n_components: int
    strength: float

    def profile(self, blocks: Sequence[Readable], seen: Activations) -> Floats:
        """Returns usable bits of the current token by block and sentence, (L x N)."""
        n = int(seen.sentence.max()) + 1
        return np.array(
            [
                read_bits(self._cut(b), seen.token, self.n_types, self.strength, seen.sentence, n)
                for b in blocks
            ]
        )

    def _cut(self, block: Readable) -> Readable:
        return Readable(block.rows, block.split, block.features[:, : self.n_components])


def measure_controls(
    lab: Lab, blocks: Sequence[Readable], variance: Floats, strength: float, params: Params
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show, all of it of the small probe, and that none is absent.

    Args:
        lab: Model and text.
        blocks: Its blocks' outputs.
        variance: Gauge-fixed log variance of its blocks, (L).
        strength: Inverse penalty of the probe.
        params: With its size, sentences of the twin, plantings and their gain.

    Returns:
        ``small_bits``, ``scaled_bits`` and ``shuffled_bits`` (L x N), summed over test tokens, and
        ``small_tokens`` (L x N), how many, N test sentences; ``random_bits`` and
        ``random_variance`` (L), and ``planted_bits`` (P x L), mean bits a token.
    """
    seen, seed = lab.activations(), lab.settings.seed
    calibration, test = lab.corpus.split_of(lab.text.kept)
    probe = SmallProbe(
        n_types=params.small_types, n_components=params.small_components, strength=strength
    )
    tokens = tokens_of(blocks, seen)
    few = lab.spread(params.control_sentences)
    twin = few.random_twin()
    untrained = twin.activations()
    its_blocks = readable_blocks(
        untrained, few.corpus.split_of(few.text.kept)[0], probe.n_components, seed
    )

    def planted(p: int) -> Floats:
        noisy = _noisy(blocks, variance, probe, params.planted_gain, [seed, p])
        return bits_per_token(probe.profile(noisy, seen), tokens)

    scaled = readable_blocks(seen, calibration, params.n_components, seed, 10.0)
    arrays = {
        # Of test sentences alone, as their documents are.
        "small_bits": probe.profile(blocks, seen)[:, test],
        "small_tokens": tokens[:, test],
        "scaled_bits": probe.profile(scaled, seen)[:, test],
        "shuffled_bits": probe.profile(blocks, _relabelled(seen, seed))[:, test],
        "random_bits": bits_per_token(
            probe.profile(its_blocks, untrained), tokens_of(its_blocks, untrained)
        ),
        "random_variance": gauge_fixed_log_variance(twin.decoder),
        "planted_bits": np.array([planted(p) for p in range(params.planted_seeds)]).reshape(
            params.planted_seeds, len(blocks)
        ),
    }
    return arrays, {}


def _relabelled(seen: Activations, seed: int) -> Activations:
    order = np.random.default_rng(seed).permutation(len(seen.token))
    return replace(seen, token=seen.token[order])


def _noisy(
    blocks: Sequence[Readable],
    variance: Floats,
    probe: SmallProbe,
    gain: float,
    seed: Sequence[int],
) -> list[Readable]:
    """Returns blocks with noise whose size falls with their variance, standardised anew."""
    rng = np.random.default_rng(seed)
    spread = variance.std()
    z = (variance - variance.mean()) / (spread if spread > 0 else 1.0)
    out = []
    for block, size in zip(blocks, np.exp(-gain * z), strict=True):
        clean = block.features[:, : probe.n_components]
        noisy = clean + size * rng.normal(size=clean.shape)
        out.append(Readable(block.rows, block.split, noisy / np.sqrt(1 + size**2)))
    return out
