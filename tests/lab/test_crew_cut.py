"""How work is cut for workers: all of it, once, in parts of about equal size."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bitgap.lab.crew import cut
from bitgap.lab.crew.cut import cut_plans, cut_text, walked_groups
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import mask_plans


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40), st.integers(1, 12))
def test_every_chunk_is_in_one_share_and_none_is_empty(rows: list[int], n: int) -> None:
    shares = cut_text(rows, n)
    assert sorted(i for share in shares for i in share) == list(range(len(rows)))
    assert len(shares) == min(n, len(rows))
    held = [sum(rows[i] + 48 for i in share) for share in shares]
    assert max(held) - min(held) <= max(rows) + 48


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 16), st.integers(1, 200))
def test_plans_are_cut_where_little_is_repeated(
    seed: int, nodes: int, parts: int, n_plans: int
) -> None:
    draw, n_blocks = random.Random(seed), 8
    masks = draw.sample(range(2**n_blocks), n_plans)
    tree = PlanTree(mask_plans("rtn4-channel", n_blocks, masks))
    spans = cut_plans(tree.plans, nodes, parts)
    assert [lo for lo, _ in spans] == [0, *(hi for _, hi in spans[:-1])]
    assert spans[-1][1] == len(tree.plans)
    assert len(spans) <= parts
    groups = walked_groups(tree, nodes)
    whole = sum(cost for *_, cost in groups)
    again = sum(c for _, at in spans[:-1] for lo, hi, c in groups if lo < at < hi)
    assert again <= cut._MOST_REPEATED * whole
    if nodes == 1:
        assert whole == tree.work().block_evaluations


def test_a_large_map_is_cut_into_parts_of_about_equal_work() -> None:
    tree = PlanTree(mask_plans("rtn4-channel", 12, range(2**12)))
    spans = cut_plans(tree.plans, 4, 16)
    assert len(spans) == 16
    work = [PlanTree(tree.plans[lo:hi]).work().block_evaluations for lo, hi in spans]
    assert max(work) < 1.6 * min(work)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
