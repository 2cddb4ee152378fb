"""Comparators fill the same bytes by their own rules; chance is counted as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protect_worlds import a_problem, every_plan

from bitgap.errors import PlanError
from bitgap.protect.comparators import (
    by_weights,
    comparators,
    finer_groups,
    protected,
    theory_blocks,
)
from bitgap.protect.example import PROBLEM, TABLE
from bitgap.protect.nulls import placebo_plans, random_p, random_plans, stability
from bitgap.protect.problem import Problem, make_problem
from bitgap.protect.records import DamageTable
from bitgap.protect.sizes import plain_choice
from bitgap.protect.solve import solve


def with_groups() -> DamageTable:
    """The example in groups of 32 and 64; finer ones do a fifth less damage."""
    names = [f"rtn{bits}-g{group}" for bits in (3, 4, 5, 6) for group in (64, 32)]
    rows = [1, 1, 2, 2, 3, 3, 4, 4]
    factor = np.array([1.0, 0.8] * 4)
    facts = replace(
        TABLE.facts,
        schemes=tuple(names),
        choices=tuple(tuple(plain_choice(u, n) for n in names) for u in TABLE.facts.units),
    )
    return DamageTable(facts=facts, damage_bits=TABLE.damage_bits[:, :, rows] * factor)


def test_all_comparators_fill_the_same_bytes() -> None:
    table = with_groups()
    problem = make_problem(table, 29_000)
    error = problem.n_weights[:, None] * 4.0 ** -np.array([3, 3, 4, 4, 5, 5, 6, 6])
    found = {one.name: one for one in comparators(problem, squared_error=error, triples=[(0, 1)])}
    assert list(found) == [
        "uniform", "uniform, finer groups", "ends protected", "three quarters protected",
        "blocks 0, 1", "weights alone", "language-blind", "reference alone",
    ]  # fmt: skip
    smallest = 64 * 64 // 8
    for one in found.values():
        assert one.picks is not None
        assert problem.fits(one.picks)
        assert one.slack_bytes == problem.budget_bytes - problem.size_of(one.picks)
        assert one.slack_bytes < 16 * smallest, one.name


def test_finer_groups_are_paid_for_with_bits() -> None:
    problem = make_problem(with_groups(), 29_000)
    picks = finer_groups(problem)
    assert picks is not None
    schemes = Counter(problem.by_unit(picks).values())
    assert set(schemes) == {"rtn3-g32", "rtn4-g32"}
    # Where uniform is the finest already there is nothing to compare with.
    finest = sum(plain_choice(u, "rtn4-g32").size_bytes for u in TABLE.facts.units)
    assert finer_groups(make_problem(with_groups(), finest)) is None


def test_protected_blocks_get_more_bits_than_all_others() -> None:
    deep = deeper(PROBLEM, 6)
    for blocks in ((0, 17), (3, 9, 11)):
        one = protected(deep, blocks, "x")
        assert one.picks is not None
        inside = [p for p, b in zip(one.picks, deep.blocks, strict=True) if b in blocks]
        others = [p for p, b in zip(one.picks, deep.blocks, strict=True) if b not in blocks]
        assert min(inside) > max(others)
        assert len(set(inside)) == 1
        assert max(others) - min(others) <= 1
        assert one.slack_bytes < deep.size_bytes[:, 1].max() - deep.size_bytes[:, 0].max()
    with pytest.raises(PlanError, match="block 18 is to be protected; the model has 18 blocks"):
        protected(deep, (0, 18), "x")


def test_each_part_of_the_theory_protects_its_own_blocks() -> None:
    deep = deeper(PROBLEM, 4)  # twelve blocks, as the origin's model had
    variance = np.zeros(12)
    variance[[4, 7]] = 1.0, 2.0
    assert theory_blocks(deep, variance) == {
        "ends protected": (0, 11),
        "three quarters protected": (9,),
        "most varied 2 protected": (4, 7),
        "blocks 0, 9, 11": (0, 9, 11),
    }
    named = theory_blocks(deep, None, 2, [(1, 2)])
    assert named["blocks 1, 2"] == (1, 2)
    assert named["2 blocks at either end protected"] == (0, 1, 10, 11)
    assert "blocks 0, 9, 11" not in named
    variance[[0, 11]] = 9.0
    found = {one.name: one for one in comparators(deep, log_variance=variance)}
    assert found["most varied 2 protected"].picks is None
    assert found["most varied 2 protected"].reason.startswith("the same blocks as ends protected")


def deeper(problem: Problem, times: int) -> Problem:
    """Returns a problem of so many times the blocks."""
    n = max(b for b in problem.blocks if b is not None) + 1
    blocks = tuple(None if b is None else b + i * n for i in range(times) for b in problem.blocks)
    return replace(
        problem,
        parts=tuple((f"{i}.{unit}",) for i in range(times) for (unit,) in problem.parts),
        kinds=problem.kinds * times,
        blocks=blocks,
        damage_bits=np.tile(problem.damage_bits, (1, times, 1)),
        size_bytes=np.tile(problem.size_bytes, (times, 1)),
        allowed=np.tile(problem.allowed, (times, 1)),
        n_weights=np.tile(problem.n_weights, times),
        budget_bytes=problem.budget_bytes * times,
    )


def test_where_protecting_leaves_too_little_it_is_said() -> None:
    floor = PROBLEM.size_of(PROBLEM.cheapest)
    one = protected(PROBLEM.with_budget(floor), (0, 2), "ends protected")
    assert one.picks is None
    assert one.reason == f"too few bytes are left to protect them, in {floor} bytes"


def test_weights_alone_is_the_least_squared_error() -> None:
    rng = np.random.default_rng(0)
    for seed in range(8):
        problem = a_problem(seed, n_parts=4, whole=True)
        error = rng.gamma(1, 1, problem.allowed.shape)
        picks = by_weights(problem, error)
        rows = np.arange(4)
        least = min(error[rows, np.array(p)].sum() for p in every_plan(problem))
        assert error[rows, np.array(picks)].sum() == pytest.approx(least)
    with pytest.raises(PlanError, match="squared errors of shape"):
        by_weights(PROBLEM, np.ones((2, 2)))
    with pytest.raises(PlanError, match="is missing"):
        by_weights(PROBLEM, np.full(PROBLEM.allowed.shape, np.nan))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), forbidden=st.sampled_from([0.0, 0.4]))
def test_random_plans_fit_and_leave_no_room_for_a_step(seed: int, forbidden: float) -> None:
    problem = a_problem(seed, n_parts=5, n_schemes=4, forbidden=forbidden, whole=True)
    for picks in random_plans(problem, 3, seed):
        assert problem.fits(picks)
        room = problem.budget_bytes - problem.size_of(picks)
        for g, pick in enumerate(picks):
            larger = [
                int(problem.size_bytes[g, c] - problem.size_bytes[g, pick])
                for c in np.flatnonzero(problem.allowed[g])
                if problem.size_bytes[g, c] > problem.size_bytes[g, pick]
            ]
            assert not larger or min(larger) > room
    assert random_plans(problem, 2, seed) == random_plans(problem, 2, seed)


def test_p_of_chance_counts_the_recipe_itself() -> None:
    assert random_p(np.full(99, 1.0)) == 0.01
    assert random_p(np.zeros(99)) == 1.0
    assert random_p(np.array([])) == 1.0


def test_a_placebo_is_searched_on_labels_that_say_nothing() -> None:
    """What is found for a language whose need is planted is not found with its label gone."""
    aware = [picks[3] for picks in [solve(PROBLEM, spare=None).picks]]
    placebo = placebo_plans(
        TABLE, PROBLEM, 9, seed=0, solver=lambda problem: solve(problem, spare=None).picks
    )
    assert all(PROBLEM.fits(one.picks) for one in placebo)
    blind = solve(PROBLEM, "mean").picks[3]
    assert aware[0] > blind
    assert np.median([one.picks[3] for one in placebo]) == blind
    assert {one.worst for one in placebo} <= {("en",), ("de",), ("he",)}
    again = placebo_plans(TABLE, PROBLEM, 9, seed=0, solver=lambda p: solve(p, spare=None).picks)
    assert again == placebo


def test_stability_is_one_where_text_decides_nothing_and_less_where_it_does() -> None:
    assert TABLE.sentence_bits is not None
    calm = np.broadcast_to(TABLE.sentence_bits.mean(-1, keepdims=True), TABLE.sentence_bits.shape)
    table = replace(
        TABLE, sentence_bits=np.ascontiguousarray(calm), damage_bits=calm.sum(-1) / 1200
    )
    problem = make_problem(table, 28_288)
    sure = stability(table, problem, solve(problem).picks, 5, seed=0)
    assert set(sure.scheme.values()) == set(sure.bits.values()) == {1.0}
    rng = np.random.default_rng(0)
    wild = calm * rng.gamma(0.2, 5, (3, 7, 1, 24))
    table = replace(TABLE, sentence_bits=wild, damage_bits=wild.sum(-1) / 1200)
    problem = make_problem(table, 28_288)
    unsure = stability(table, problem, solve(problem).picks, 8, seed=0)
    assert min(unsure.bits.values()) < 1.0
    assert set(unsure.bits) == {unit.name for unit in TABLE.facts.units}
    with pytest.raises(PlanError, match="are not of the same languages"):
        stability(with_groups_sampled(), problem, problem.uniform, 1, seed=0)


def with_groups_sampled() -> DamageTable:
    table = with_groups()
    return replace(table, draws_bits=table.damage_bits[None])
