"""Which sets of protected layers are scored, and how Shapley values come from them.

The standard design scores few sets on many sentences: nothing protected, every layer and every pair
of layers from both ends (protected alone, and alone left to be rounded), the triples that somebody
asks about, and a random sample of triples and of sets of all sizes. Where damage is pairwise,
Shapley values from both ends are exact. All 2^L sets are scored where they are hardly more, or when
asked for. Pure numpy: what an experiment costs is told from here without a statistic.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bitgap.errors import UsageError
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.sets import mask_of
from bitgap.records import Floats
from bitgap.stats.interactions import (
    chain_masks,
    pair_design,
    permutation_chains,
    sampled_shapley,
    shapley_from_ends,
    shapley_values,
)

LARGEST_FACTORIAL = 14
"""Blocks up to which all masks can be asked for: 2^15 − 2 block evaluations."""
SMALL_FACTORIAL = 8
"""Blocks up to which all masks are scored unasked, as the standard design has hardly fewer."""
SAMPLED_TRIPLES = 60
"""Random triples of the standard design: a percentile among them is known to some 6 points."""
SAMPLED_MASKS = 24
"""Random sets of any size of the standard design."""
FEW_SENTENCES = 64
"""Sentences that a sample of masks never costs."""
PAIRED_SENTENCES = 64
"""Sentences that pairs of layers never cost."""
MOST_SENTENCES = 200
"""Sentences beyond which time goes to more masks: the standard error of S is then a seventh of that
of four."""
_SEED_OF_SIZES = 1


@dataclass(frozen=True, slots=True)
class Design:
    """Which masks are scored, and how Shapley values come from them.

    Attributes:
        n_blocks: L.
        masks: Bit sets of protected layers, ascending.
        orders: Of a map that an earlier version made: the layer orders that its Shapley values were
            sampled from.
        sampled: Those of the masks that were drawn at random among the sets of their size, so that
            they may speak for all of them.
    """

    n_blocks: int
    masks: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...] = ()
    sampled: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether these are all masks."""
        return len(self.masks) == 2**self.n_blocks

    @property
    def paired(self) -> bool:
        """Whether every pair of layers is among them, from both ends."""
        return set(pair_design(self.n_blocks)) <= set(self.masks)

    @property
    def asked(self) -> tuple[tuple[int, ...], ...]:
        """The triples that are scored because somebody asks about them, whatever is sampled."""
        return tuple(asked_triples(self.n_blocks))

    def plans(self, scheme: str) -> tuple[Plan, ...]:
        """Returns the plan of every mask, in order.

        Raises:
            UsageError: If the scheme rounds nothing, so that all masks are one plan.
        """
        if scheme == "fp":
            raise UsageError(
                f"scheme {scheme!r} rounds nothing, so there is nothing to map; name one that "
                f"rounds, such as rtn4-g128"
            )
        return mask_plans(scheme, self.n_blocks, self.masks)

    def requests(self, scheme: str) -> list[tuple[Plan, ...]]:
        """Returns the same plans in parts that others ask for too, each to be scored by itself.

        What is known of a part is not run again only where all of it is known. All masks are one
        part, as they share most.

        Raises:
            UsageError: As :meth:`plans`.
        """
        if self.complete:
            return [self.plans(scheme)]
        whole, n, drawn = set(self.masks), self.n_blocks, set(self.sampled)
        everything = (1 << n) - 1
        singles = {0, *(1 << i for i in range(n))}
        asked = {mask_of(triple) for triple in self.asked}
        triples = {mask for mask in drawn if mask.bit_count() == 3}
        ends = {everything ^ mask for mask in singles}
        parts = [singles, ends, asked, triples, drawn]
        rest = whole - set().union(*parts)
        parts += [{m for m in rest if m.bit_count() == 2}, {m for m in rest if m.bit_count() != 2}]
        out: list[tuple[Plan, ...]] = []
        held: set[int] = set()
        for part in parts:
            if masks := sorted((part & whole) - held):
                out.append(mask_plans(scheme, n, masks))
            held |= part
        self.plans(scheme)  # refuses what rounds nothing
        return out

    def shapley(self, values: Floats) -> Floats:
        """Returns Shapley values (L x ...) of the values (masks x ...).

        They are exact of all masks; otherwise they are read off the ends
        (:func:`bitgap.stats.interactions.shapley_from_ends`).
        """
        if self.complete:
            return shapley_values(values)
        known = dict(zip(self.masks, values, strict=True))
        if self.orders:
            return sampled_shapley(known, self.orders)
        return shapley_from_ends(known, self.n_blocks)


def make_design(
    n_blocks: int,
    *,
    seed: int = 0,
    complete: bool | None = None,
    pairs: bool = True,
    sample: int = SAMPLED_TRIPLES + SAMPLED_MASKS,
) -> Design:
    """Returns the masks to score on a model of L blocks.

    Args:
        n_blocks: L.
        seed: Of the sample; a smaller sample is part of a larger one.
        complete: Whether to score all masks; by default when L is at most 8.
        pairs: Whether all pairs of layers are scored, from both ends; single layers always are.
        sample: How many random masks are scored, at most; five of seven are triples.

    Example:
        >>> make_design(3).masks
        (0, 1, 2, 3, 4, 5, 6, 7)
        >>> len(make_design(12).masks), len(make_design(24).masks)
        (234, 687)
        >>> len(make_design(24, pairs=False, sample=0).masks)
        56
    """
    if complete if complete is not None else n_blocks <= SMALL_FACTORIAL:
        return Design(n_blocks, tuple(range(2**n_blocks)))
    everything = (1 << n_blocks) - 1
    ends = {0, *(1 << i for i in range(n_blocks))}
    masks = {*ends, *(everything ^ mask for mask in ends)}
    if pairs:
        masks |= set(pair_design(n_blocks))
    masks |= {mask_of(triple) for triple in asked_triples(n_blocks)}
    drawn = set(_sampled(n_blocks, sample, seed))
    return Design(n_blocks, tuple(sorted(masks | drawn)), sampled=tuple(sorted(drawn)))


def design_of_orders(n_blocks: int, *, seed: int = 0, order_pairs: int = 8) -> Design:
    """Returns the masks that an earlier version scored of more than 14 blocks, to read its maps.

    Args:
        n_blocks: L.
        seed: Of the orders.
        order_pairs: Pairs of antithetic orders.

    Example:
        >>> len(design_of_orders(20).masks)
        660
    """
    orders = permutation_chains(n_blocks, order_pairs, seed)
    masks = sorted({*pair_design(n_blocks), *chain_masks(orders)})
    return Design(n_blocks, tuple(masks), tuple(orders))


def _sampled(n_blocks: int, n: int, seed: int) -> list[int]:
    """Returns random masks, triples and others in turns; a smaller sample begins a larger one."""
    order = drawn_triples(n_blocks, seed)
    sizes = np.random.default_rng([seed, n_blocks, _SEED_OF_SIZES])
    found: list[int] = []
    per_turn = (SAMPLED_TRIPLES + SAMPLED_MASKS) // 12
    while len(found) < n:
        if len(found) % per_turn >= 5 or not order:
            size = int(sizes.integers(1, n_blocks))
            found.append(mask_of(sizes.permutation(n_blocks)[:size].tolist()))
        else:
            found.append(order.pop(0))
    return found


def drawn_triples(n_blocks: int, seed: int = 0) -> list[int]:
    """Returns the masks of all triples in the random order in which samples of them are drawn.

    Args:
        n_blocks: L.
        seed: Of the order.

    Example:
        >>> sorted(drawn_triples(4)), drawn_triples(4) == drawn_triples(4, seed=1)
        ([7, 11, 13, 14], False)
    """
    triples = [mask_of(triple) for triple in combinations(range(n_blocks), 3)]
    order = np.random.default_rng([seed, n_blocks]).permutation(len(triples))
    return [triples[int(i)] for i in order]


def original_set(n_blocks: int) -> list[int]:
    """Returns the layers that the origin protects, {0, round(.75 L), L−1}, ascending.

    Example:
        >>> original_set(12)
        [0, 9, 11]
    """
    return sorted({0, bottleneck_block(n_blocks), n_blocks - 1})


def bottleneck_block(n_blocks: int) -> int:
    """Returns the layer at three quarters of the depth, where the origin puts a bottleneck.

    Example:
        >>> bottleneck_block(12), bottleneck_block(1)
        (9, 0)
    """
    return min(round(0.75 * n_blocks), n_blocks - 1)


def asked_triples(n_blocks: int) -> list[tuple[int, ...]]:
    """Returns the triples that are asked about on any model.

    They are the origin's, the first and the last three, and the two ends with a neighbour of either
    or with the middle.

    Example:
        >>> asked_triples(12)
        [(0, 9, 11), (0, 1, 2), (9, 10, 11), (0, 1, 11), (0, 10, 11), (0, 6, 11)]
    """
    last = n_blocks - 1
    named = [
        tuple(original_set(n_blocks)),
        (0, 1, 2),
        (last - 2, last - 1, last),
        (0, 1, last),
        (0, last - 1, last),
        (0, n_blocks // 2, last),
    ]
    return list(
        dict.fromkeys(t for t in named if len(set(t)) == 3 and 0 <= min(t) <= max(t) <= last)
    )


@dataclass(frozen=True, slots=True)
class MapSize:
    """How much of a layer map is measured.

    Attributes:
        sentences: On how many sentences.
        pairs: Whether all pairs of layers are scored.
        sample: Random masks, at most.
        complete: Whether all masks are scored; None as :func:`make_design` has it.
    """

    sentences: int
    pairs: bool
    sample: int
    complete: bool | None = None

    def design(self, n_blocks: int, *, seed: int = 0) -> Design:
        """Returns the masks.

        Args:
            n_blocks: L.
            seed: Of the sample.
        """
        return make_design(
            n_blocks, seed=seed, complete=self.complete, pairs=self.pairs, sample=self.sample
        )


def map_size(n_blocks: int, evaluations: float, sentences: int) -> MapSize | None:
    """Returns the best map that so many evaluations pay for: sentences before masks.

    Single layers from both ends and what is asked about come first, on as many sentences as there
    are, up to 64; then a sample of masks, then pairs of layers, then more sentences.

    Args:
        n_blocks: L.
        evaluations: Head evaluations, masks times sentences, that may be spent.
        sentences: How many there are to choose from.

    Returns:
        None where not even single layers fit on two sentences.

    Example:
        >>> map_size(24, 4_687, 1000)
        MapSize(sentences=64, pairs=False, sample=17, complete=None)
        >>> map_size(24, 1e6, 1000)
        MapSize(sentences=200, pairs=True, sample=84, complete=None)
        >>> map_size(24, 100, 1000)
    """
    most = min(sentences, MOST_SENTENCES)
    whole = SAMPLED_TRIPLES + SAMPLED_MASKS

    def masks(*, pairs: bool, sample: int) -> int:
        return len(make_design(n_blocks, pairs=pairs, sample=sample).masks)

    core = masks(pairs=False, sample=0)
    with_pairs = int(evaluations // masks(pairs=True, sample=whole))
    if with_pairs >= min(PAIRED_SENTENCES, most):
        return MapSize(min(with_pairs, most), True, whole)
    spare = int(evaluations // min(FEW_SENTENCES, most)) - core
    if spare >= 0:
        sample = min(spare, whole)
        fitting = int(evaluations // masks(pairs=False, sample=sample))
        return MapSize(min(fitting, most), False, sample)
    fitting = int(evaluations // core)
    return MapSize(fitting, False, 0) if fitting >= 2 else None
