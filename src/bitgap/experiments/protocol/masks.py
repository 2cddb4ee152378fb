"""The layer map's masks for an experiment over sets of protected blocks. No torch."""

from __future__ import annotations

from typing import Protocol

from bitgap.stats.mask_design import LARGEST_FACTORIAL, Design, make_design


class MapParams(Protocol):
    """Parameters that say whether the layer map's masks are all sets of blocks."""

    @property
    def complete(self) -> bool:
        """Whether all masks are scored where L allows it."""
        ...


def map_design(n_blocks: int, params: MapParams, seed: int = 0) -> Design:
    """Returns the layer map's masks, so that a store shares their scores.

    Args:
        n_blocks: L.
        params: Whether to score all masks where L allows it.
        seed: Of the orders that a sampled map is drawn by.
    """
    complete = params.complete and n_blocks <= LARGEST_FACTORIAL
    return make_design(n_blocks, seed=seed, complete=complete)
