"""What T-001 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.experiments.t001_information_content.controls import _mean
from bitgap.experiments.t001_information_content.readings import (
    Readable,
    read_bits,
    readable_blocks,
    tokens_of,
)
from bitgap.lab.activations import Activations
from bitgap.lab.lab import Lab
from bitgap.models.gauge import gauge_fixed_log_variance, loaded_with, random_twin
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

    def profile(self, blocks: Sequence[Readable], found: Activations) -> Floats:
        """Returns usable bits of the current token by block and sentence, (L x N)."""
        n = int(found.sentence.max()) + 1
        return np.array(
            [
                read_bits(self._cut(b), found.token, self.n_types, self.strength, found.sentence, n)
                for b in blocks
            ]
        )

    def _cut(self, block: Readable) -> Readable:
        return Readable(block.rows, block.split, block.features[:, : self.n_components])


def measure_controls(
    lab: Lab,
    blocks: Sequence[Readable],
    variance: Floats,
    probe: SmallProbe,
    *,
    n_components: int,
    n_sentences: int,
    n_plantings: int,
    gain: float,
) -> dict[str, Any]:
    """Returns what the controls show, all of it of the small probe.

    Args:
        lab: Model and text.
        blocks: Its blocks' outputs.
        variance: Gauge-fixed log variance of its blocks, (L).
        probe: The small probe.
        n_components: Principal components that ``blocks`` were given, of which it reads some.
        n_sentences: Sentences the random twin is read on.
        n_plantings: How often information is planted.
        gain: By how many factors of e the planted noise falls for one standard deviation of log
            variance.

    Returns:
        ``small_bits``, ``scaled_bits`` and ``shuffled_bits`` (L x N), summed over test tokens, and
        ``small_tokens`` (L x N), how many; ``random_bits`` and ``random_variance`` (L), and
        ``planted_bits`` (P x L), mean bits a token.
    """
    found, seed = lab.activations(), lab.settings.seed
    calibration, _ = lab.corpus.split_of(lab.text.kept)
    scaled = readable_blocks(found, calibration, n_components, seed, 10.0)
    few = lab.first(n_sentences)
    twin = few.twin(loaded_with(lab.loaded, random_twin(lab.decoder.model, seed), "random"))
    seen = twin.activations()
    theirs = readable_blocks(seen, few.corpus.split_of(few.text.kept)[0], probe.n_components, seed)
    return {
        "small_bits": probe.profile(blocks, found),
        "small_tokens": tokens_of(blocks, found),
        "scaled_bits": probe.profile(scaled, found),
        "shuffled_bits": probe.profile(blocks, _relabelled(found, seed)),
        "random_bits": _mean(probe.profile(theirs, seen), tokens_of(theirs, seen)),
        "random_variance": gauge_fixed_log_variance(twin.decoder),
        "planted_bits": np.array(
            [
                _mean(
                    probe.profile(_noisy(blocks, variance, probe, gain, [seed, p]), found),
                    tokens_of(blocks, found),
                )
                for p in range(n_plantings)
            ]
        ).reshape(n_plantings, len(blocks)),
    }


def _relabelled(found: Activations, seed: int) -> Activations:
    order = np.random.default_rng(seed).permutation(len(found.token))
    return replace(found, token=found.token[order])


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
