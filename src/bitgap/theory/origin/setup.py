"""The origin's setup on any model: its scheme, its protected sets as plans, its block numbers.

The origin rounded GPT-2's every ``*weight`` per tensor to 4 bits (scale max/7), tied embedding and
norm gains included, biases kept; ``seed4`` does so but for the final norm's gain, which the origin
kept in some runs. What it protected by weight, not by block (biases rounded too, random or large
weights kept, one half of a block kept), is added to the bank as a variant of every block, scored
and dropped.

Block numbers of a 12-block model go by relative depth as
:func:`bitgap.stats.mask_design.original_set` takes them: l becomes round(l L / 12), and the first
and the last stay the first and the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitgap.records import ModelInfo
from bitgap.theory.origin.claims import N_BLOCKS

if TYPE_CHECKING:
    pass


ORIGIN_SCHEME, ORIGIN_SCHEME_8 = "seed4", "seed8"

RANDOM_SHARE, MAGNITUDE_SHARE = 0.114, 0.386
"""Weights that the origin kept, at random and by size."""

RANDOM_DRAWS = 3

SETS = {
    "none": (),
    "first": (0,),
    "last": (11,),
    "both": (0, 11),
    "consolidation": (9,),
    "2+11": (2, 11),
    "4+11": (4, 11),
    "8+11": (8, 11),
    "triple": (0, 9, 11),
    "quad": (0, 8, 9, 11),
    "4+6+11": (4, 6, 11),
}
"""The origin's protected sets, in blocks of a 12-block model."""


# What tells the origin's own checkpoints: architecture, vocabulary, blocks and width. No other
# published model of that shape is known; a model trained anew in it would be taken for them, and
# its numbers would then be said not to come out again.
_OWN = {"gpt2": (50257, 12, 768), "opt": (50272, 12, 768)}


def is_origins_own(info: ModelInfo, family: str = "gpt2") -> bool:
    """Returns whether a model has the shape of the checkpoint that the origin used of a family."""
    shape = (info.vocabulary, info.n_blocks, info.width)
    return info.family == family and _OWN.get(family) == shape


def block_at(number: int, n_blocks: int) -> int:
    """Returns which block of a model of n stands where the origin's block of 12 stood."""
    if number == N_BLOCKS - 1:
        return n_blocks - 1
    return min(round(number * n_blocks / N_BLOCKS), n_blocks - 1)


def blocks_of(name: str, n_blocks: int) -> tuple[int, ...]:
    """Returns the blocks that a set protects in a model of n, ascending.

    Args:
        name: One of :data:`SETS`, ``even``, ``odd`` or ``only-<block>``.
        n_blocks: L.
    """
    if name in ("even", "odd"):
        return tuple(range(int(name == "odd"), n_blocks, 2))
    if name.startswith("only-"):
        return (int(name.removeprefix("only-")),)
    return tuple(sorted({block_at(number, n_blocks) for number in SETS[name]}))
