from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitgap.lab.engine.tree import Node, PlanTree
from bitgap.quant.plan import Plan, mask_plans

SCHEMES = st.sampled_from(["fp", "rtn4-channel", "rtn2-tensor"])


@st.composite
def plan_sets(draw: st.DrawFn) -> list[Plan]:
    n = draw(st.integers(1, 5))
    plan = st.builds(
        Plan, st.tuples(*[SCHEMES] * n), embedding=st.sampled_from(["fp", "seed4"]), head=SCHEMES
    )
    return draw(st.lists(plan, min_size=1, max_size=24))


def walk(tree: PlanTree, size: int) -> tuple[list[tuple[str, ...]], list[Plan]]:
    """Walks a tree as the engine does; returns the prefixes that were run and the plans met."""
    prefixes: list[tuple[str, ...]] = []
    leaves: list[Plan] = []

    def descend(block: int, nodes: list[Node], paths: list[tuple[str, ...]]) -> None:
        if block == tree.n_blocks:
            leaves.extend(p for node in nodes for p in tree.plans[node.lo : node.hi])
            return
        for group in tree.groups(block, nodes, size):
            assert 1 <= len(group) <= size
            below = [(*paths[node.parent], node.variant) for node in group]
            prefixes.extend(below)
            descend(block + 1, group, below)

    for root in tree.roots():
        descend(0, [root], [(root.variant,)])
    return prefixes, leaves


@pytest.mark.parametrize("n_blocks", range(1, 9))
def test_all_masks_cost_two_to_the_blocks_plus_one_less_two_block_evaluations(
    n_blocks: int,
) -> None:
    tree = PlanTree(mask_plans("rtn4-g128", n_blocks, range(2**n_blocks)))
    work = tree.work()
    assert work.block_evaluations == 2 ** (n_blocks + 1) - 2
    assert work.naive_block_evaluations == n_blocks * 2**n_blocks
    assert work.head_evaluations == 2**n_blocks
    assert len(walk(tree, 3)[0]) == work.block_evaluations


@settings(max_examples=60, deadline=None)
@given(plan_sets(), st.integers(1, 7))
def test_the_walk_runs_each_prefix_once_and_meets_each_plan_once(
    plans: list[Plan], size: int
) -> None:
    tree = PlanTree(plans)
    prefixes, leaves = walk(tree, size)
    wanted = {
        (plan.embedding, *plan.blocks[: depth + 1])
        for plan in plans
        for depth in range(len(plan.blocks))
    }
    assert sorted(prefixes) == sorted(wanted)
    assert leaves == list(tree.plans), "leaves come in the order of the sorted plans"
    assert set(leaves) == set(plans) and len(leaves) == len(set(plans))
    assert tree.work().block_evaluations == len(wanted)


@settings(max_examples=60, deadline=None)
@given(plan_sets())
def test_nodes_of_a_level_partition_the_plans_and_agree_on_their_variant(plans: list[Plan]) -> None:
    tree = PlanTree(plans)
    level = tree.roots()
    assert all(p.embedding == n.variant for n in level for p in tree.plans[n.lo : n.hi])
    for block in range(tree.n_blocks):
        level = [node for group in tree.groups(block, level, 10**6) for node in group]
        assert level[0].lo == 0 and level[-1].hi == len(tree.plans)
        assert all(a.hi == b.lo for a, b in pairwise(level))
        assert all(p.blocks[block] == n.variant for n in level for p in tree.plans[n.lo : n.hi])


def test_the_tree_does_not_depend_on_the_order_or_number_of_times_plans_are_asked() -> None:
    plans = list(mask_plans("rtn4-g128", 4, range(16)))
    assert PlanTree(plans[::-1] + plans[:3]).plans == PlanTree(plans).plans


def test_no_plans_are_no_work() -> None:
    assert PlanTree([]).work().block_evaluations == 0
