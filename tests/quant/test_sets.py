"""Sets of blocks as masks: there and back, as tables of 0 and 1, and one block rounded alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from bitgap.errors import PlanError
from bitgap.quant.plan import Plan
from bitgap.quant.sets import blocks_in, mask_of, membership, pairs_of


@pytest.mark.parametrize("n", [1, 12, 62, 63, 80])
def test_a_table_of_masks_says_what_each_holds_in_models_of_any_depth(n: int) -> None:
    rng = np.random.default_rng(n)
    sets = [tuple(np.flatnonzero(rng.random(n) < 0.4).tolist()) for _ in range(20)]
    masks = [mask_of(blocks) for blocks in sets]
    assert [blocks_in(mask) for mask in masks] == sets
    table = membership(masks, n)
    assert table.shape == (20, n) and table.dtype == np.float64
    assert [tuple(np.flatnonzero(row).tolist()) for row in table] == sets


def test_no_masks_make_an_empty_table() -> None:
    assert membership([], 5).shape == (0, 5)


def test_pairs_are_in_the_order_of_their_first_block() -> None:
    assert pairs_of(6) == sorted(combinations(range(6), 2))


@pytest.mark.parametrize("scheme", ["rtn4-g128", "seed4"])
def test_one_block_alone_leaves_all_others_and_both_ends(scheme: str) -> None:
    plan = Plan.only(scheme, 5, 3)
    assert [name == "fp" for name in plan.blocks] == [True, True, True, False, True]
    assert (plan.embedding, plan.head) == ("fp", "fp")


@pytest.mark.parametrize("block", [-1, 5])
def test_a_block_that_is_not_there_cannot_be_rounded_alone(block: int) -> None:
    with pytest.raises(PlanError, match="0 to 4"):
        Plan.only("rtn4-g128", 5, block)
