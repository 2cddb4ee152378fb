"""How work is cut for workers, so that bits are those of one process.

Chunks of text are independent of each other in every step, and what is run for a group of plans
depends on the request, the text and the layout alone (:mod:`bitgap.lab.engine.scoring`). So a unit
is some chunks, and some plans of the request: its worker is told the whole request and that all
other plans are known, which skips groups whole and changes nothing in those that are run.

Text is cut first, as that repeats no work but rounding. Plans are cut where the tree has the least
above the cut, since a unit walks down to its plans anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bitgap.lab.engine.tree import Node, PlanTree
from bitgap.quant.plan import Plan

_CHUNK_OVERHEAD_ROWS = 48
"""What a chunk costs beside its rows, as the text is cut by."""
_MOST_REPEATED = 0.03
"""Share of a tree's work that cutting it may repeat."""
_SLACK = 0.25
"""How far a cut may be from where parts would be equal, as a share of a part."""


def cut_text(rows: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """Returns the chunks of each of at most n shares, as equal as they come; none is empty.

    Args:
        rows: Padded token rows of every chunk.
        n: Shares.
    """
    n = max(1, min(n, len(rows)))
    held = [0] * n
    shares: list[list[int]] = [[] for _ in range(n)]
    # The longest first, each to who has least.
    for chunk in sorted(range(len(rows)), key=lambda i: (-rows[i], i)):
        least = min(range(n), key=lambda k: (held[k], k))
        shares[least].append(chunk)
        held[least] += rows[chunk] + _CHUNK_OVERHEAD_ROWS
    return [tuple(sorted(share)) for share in shares]


def cut_plans(plans: Sequence[Plan], nodes: int, parts: int) -> list[tuple[int, int]]:
    """Returns spans of plans, of about equal work, that repeat little of each other's.

    Args:
        plans: In the order of their tree, to be scored in one walk.
        nodes: Tree nodes that are walked together.
        parts: How many spans are wanted; fewer where more would repeat too much.
    """
    parts = min(parts, len(plans))
    if parts < 2:
        return [(0, len(plans))]
    groups = walked_groups(PlanTree(plans), nodes)
    whole = sum(cost for *_, cost in groups)
    while parts > 1:
        cuts = _cuts(len(plans), groups, parts)
        repeated = sum(_above(groups, cut) for cut in cuts)
        if repeated <= _MOST_REPEATED * whole:
            return list(itertools.pairwise([0, *cuts, len(plans)]))
        parts //= 2
    return [(0, len(plans))]


def walked_groups(tree: PlanTree, nodes: int) -> list[tuple[int, int, int]]:
    """Returns (first plan, one past the last, nodes) of every group, as a walk meets them.

    Args:
        tree: Of all plans of the walk.
        nodes: Tree nodes that are walked together.
    """
    found: list[tuple[int, int, int]] = []
    # Of each group that is still to be walked: at which block its children are, and its nodes.
    stack: list[tuple[int, list[Node]]] = [(0, [root]) for root in reversed(tree.roots())]
    while stack:
        block, group = stack.pop()
        if block == tree.n_blocks:
            continue
        below = list(tree.groups(block, group, nodes))
        found += [(one[0].lo, one[-1].hi, len(one)) for one in below]
        stack += [(block + 1, one) for one in reversed(below)]
    return found


def _above(groups: Sequence[tuple[int, int, int]], cut: int) -> int:
    """Returns the nodes that both sides of a cut walk."""
    return sum(cost for lo, hi, cost in groups if lo < cut < hi)


def _cuts(n_plans: int, groups: Sequence[tuple[int, int, int]], parts: int) -> list[int]:
    """Returns where to cut: near equal parts of the work, where the least is above."""
    # The work of a group is spread over its plans, and what is above a cut counted by its ends.
    work, above = [0.0] * (n_plans + 1), [0] * (n_plans + 2)
    for lo, hi, cost in groups:
        work[lo] += cost / (hi - lo)
        work[hi] -= cost / (hi - lo)
        if hi - lo > 1:
            above[lo + 1] += cost
            above[hi] -= cost
    done = [0.0, *itertools.accumulate(itertools.accumulate(work[:-1]))]
    over = list(itertools.accumulate(above))
    found: list[int] = []
    for k in range(1, parts):
        at, slack = done[-1] * k / parts, done[-1] / parts * _SLACK
        near = [i for i in range(1, n_plans) if abs(done[i] - at) <= slack and i not in found]
        if near:
            found.append(min(near, key=lambda i: (over[i], abs(done[i] - at))))
    return sorted(found)
