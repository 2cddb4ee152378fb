"""Damage by mask whose truth is planted: sums of blocks, and what some sets of blocks do beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bitgap.quant.sets import membership
from bitgap.records import Floats


def damage_of(
    masks: Sequence[int], shares: Floats, joint: Mapping[tuple[int, ...], Floats] | None = None
) -> Floats:
    """Returns K by mask and language, (P x A): sums of shares (L x A) of the rounded blocks.

    Args:
        masks: Bit sets of protected blocks.
        shares: k, (L x A).
        joint: Damage (A) that goes only where all of a set of blocks are protected, so that its
            pairs protect more together than apart by just that.
    """
    total = (1 - membership(masks, len(shares))) @ shares
    for blocks, more in (joint or {}).items():
        spared = np.array([all(mask >> block & 1 for block in blocks) for mask in masks])
        total = total + np.outer(~spared, more)
    return total


def scattered(
    rng: np.random.Generator,
    totals: Floats,
    sentences: int,
    *,
    spread: float = 0.2,
    own_spread: float = 0.01,
) -> Floats:
    """Returns KL (P x A x N) that scatters over sentences about totals (P x A), mostly alike."""
    shared = rng.gamma(1 / spread**2, spread**2, (totals.shape[1], sentences))
    own = rng.gamma(1 / own_spread**2, own_spread**2, (*totals.shape, sentences))
    return totals[..., None] * shared * own


def origin_shares(n_blocks: int, languages: int) -> Floats:
    """Returns k (L x A) that add up and yet show the origin's "synergy" in a ratio of languages.

    The last block's bias lies between that of all blocks and that of all but block 0: protecting it
    alone raises the ratio, and beside block 0 lowers it.
    """
    shares = np.full((n_blocks, languages), 5.0 / (n_blocks - 2))
    shares[0] = [1.0, *np.full(languages - 1, 12.0)]
    shares[-1] = [2.0, *np.full(languages - 1, 4.0)]
    return shares / 20
