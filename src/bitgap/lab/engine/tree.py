"""The tree that a set of plans forms, and the order in which it is walked.

Sorted plans that agree on the embedding and on blocks 0…l−1 are neighbours, so every tree node is a
span ``lo:hi`` of the sorted list, and its children are the runs of equal variants at block l.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bitgap.quant.plan import Plan


@dataclass(frozen=True, slots=True)
class Node:
    """The plans ``lo:hi`` of the sorted list, which agree on everything up to here.

    Attributes:
        lo: First plan.
        hi: One past the last plan.
        parent: Place of the parent in its own group.
        variant: Scheme of the block (or embedding) that leads here from the parent.
    """

    lo: int
    hi: int
    parent: int
    variant: str


@dataclass(frozen=True, slots=True)
class Work:
    """What a request costs, in passes over the whole text.

    Attributes:
        block_evaluations: Blocks to run.
        naive_block_evaluations: The same without sharing: plans times blocks.
        head_evaluations: Heads to run.
    """

    block_evaluations: int
    naive_block_evaluations: int
    head_evaluations: int


class PlanTree:
    """Distinct plans, sorted so that neighbours share most."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        """Sorts the distinct plans by embedding, then block by block, then head."""
        order = sorted(set(plans), key=lambda plan: (plan.embedding, plan.blocks, plan.head))
        self.plans: tuple[Plan, ...] = tuple(order)
        self.n_blocks = len(order[0].blocks) if order else 0

    def roots(self) -> list[Node]:
        """Returns one node for each embedding variant."""
        return list(self._runs([plan.embedding for plan in self.plans], 0, len(self.plans), 0))

    def groups(self, block: int, parents: Sequence[Node], size: int) -> Iterator[list[Node]]:
        """Yields the children of ``parents`` at ``block``, at most ``size`` at a time."""
        children = [
            child
            for place, node in enumerate(parents)
            for child in self._runs(
                [plan.blocks[block] for plan in self.plans[node.lo : node.hi]],
                node.lo,
                node.hi,
                place,
            )
        ]
        for start in range(0, len(children), size):
            yield children[start : start + size]

    def work(self) -> Work:
        """Counts what the whole tree costs."""
        paths = [(plan.embedding, *plan.blocks) for plan in self.plans]
        blocks = sum(
            self.n_blocks - max(_agreement(before, now), 1) + 1
            for before, now in zip([(), *paths], paths, strict=False)
        )
        return Work(blocks, self.n_blocks * len(self.plans), len(self.plans))

    @staticmethod
    def _runs(variants: Sequence[str], lo: int, hi: int, parent: int) -> Iterator[Node]:
        start = lo
        for i in range(lo + 1, hi + 1):
            if i == hi or variants[i - lo] != variants[start - lo]:
                yield Node(start, i, parent, variants[start - lo])
                start = i


def _agreement(a: Sequence[str], b: Sequence[str]) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n
