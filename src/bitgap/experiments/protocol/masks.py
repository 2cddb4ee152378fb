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


def map_design(n_blocks: int, params: MapParams, seed: int = 0, *, pairs: bool = False) -> Design:
    """Returns masks of which every layer map has the scores, so that a store shares them.

    They are single blocks from both ends, which Shapley values come from, and the triples that are
    asked about; no sample, as how large that is hangs on what a map may cost.

    Args:
        n_blocks: L.
        params: Whether to score all masks where L allows it.
        seed: Of a sample; unused while there is none.
        pairs: Whether all pairs of blocks too, from both ends; a map of a deep model may lack them.
    """
    complete = params.complete and n_blocks <= LARGEST_FACTORIAL
    return make_design(n_blocks, seed=seed, complete=complete, pairs=pairs, sample=0)
