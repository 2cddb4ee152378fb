"""HiGHS agrees with every plan tried and with dynamic programming, and where it errs it is told."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protect_worlds import a_problem, by_dynamic_programming, by_trying, every_plan

from bitgap.errors import EngineError, PlanError
from bitgap.protect import program
from bitgap.protect.objectives import Name, objective, value_of
from bitgap.protect.program import Limits, no_limits, relaxed_bound, search
from bitgap.protect.solve import best_plans, limits_of, most_to_gain, solve

NAMES = ("worst-quarter", "worst", "mean", "reference")


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(NAMES),
    n_languages=st.integers(1, 9),
    n_parts=st.integers(1, 5),
    whole=st.booleans(),
    forbidden=st.sampled_from([0.0, 0.3]),
    scale=st.sampled_from([1e-12, 1e-7, 1.0, 1e6]),
)
def test_the_best_plan_is_the_best_of_all(
    seed: int,
    name: Name,
    n_languages: int,
    n_parts: int,
    whole: bool,
    forbidden: float,
    scale: float,
) -> None:
    problem = a_problem(
        seed,
        n_languages=n_languages,
        n_parts=n_parts,
        whole=whole,
        forbidden=forbidden,
        scale=scale,
    )
    goal = objective(name, problem.uniform_bits, problem.reference)
    limits = no_limits(problem) if name in ("mean", "reference") else limits_of(problem)
    found = search(problem, goal, limits, gap=0.0)
    tried = by_trying(problem, goal, limits)
    assert found is not None
    assert found.value == pytest.approx(tried[0][0], rel=1e-8)
    assert found.bound <= found.value
    assert found.bound == pytest.approx(tried[0][0], rel=1e-6)
    relaxed = relaxed_bound(problem, goal, limits)
    assert relaxed is not None
    assert relaxed <= found.value * (1 + 1e-6)


def test_limits_that_rounding_made_negative_are_limits_still() -> None:
    """Small damage is told too small as often as too large, so that a sum of it may be below 0."""
    n_negative = 0
    for seed in range(40):
        problem = a_problem(seed)
        less = 0.9 * problem.uniform_bits / len(problem.parts)
        problem = replace(problem, damage_bits=problem.damage_bits - less[:, None, None])
        goal = objective("worst", problem.uniform_bits, problem.reference)
        limits = limits_of(problem, [], blind=solve(problem, "mean").picks, spare=0.5)
        n_negative += bool((limits.language_bits < 0).any())
        found, tried = search(problem, goal, limits, gap=0.0), by_trying(problem, goal, limits)
        assert found is not None and found.cuts == 0
        assert found.value == pytest.approx(tried[0][0], rel=1e-8)
    assert n_negative >= 10


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(["mean", "reference"]))
def test_one_sum_agrees_with_dynamic_programming_where_trying_all_is_too_much(
    seed: int, name: str
) -> None:
    problem = a_problem(seed, n_parts=14, n_schemes=5, whole=True, n_languages=3)
    goal = objective(name, problem.uniform_bits, problem.reference)
    weights = goal.weights / (3 if name == "mean" else 1)
    cost = np.nan_to_num(np.einsum("l,lgc->gc", weights, problem.damage_bits))
    found = search(problem, goal, no_limits(problem), gap=0.0)
    assert found is not None
    assert found.value == pytest.approx(by_dynamic_programming(problem, cost), rel=1e-8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(NAMES))
def test_limits_are_kept_and_where_none_can_be_it_is_said(seed: int, name: str) -> None:
    problem = a_problem(seed)
    goal = objective(name, problem.uniform_bits, problem.reference)
    rng = np.random.default_rng(seed)
    limits = Limits(problem.uniform_bits * rng.uniform(0.3, 1.1, 4), np.inf)
    found, tried = search(problem, goal, limits, gap=0.0), by_trying(problem, goal, limits)
    if not tried:
        assert found is None
        return
    assert found is not None
    assert limits.kept_by(problem.damage_of(found.picks))
    assert found.value == pytest.approx(tried[0][0], rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(NAMES))
def test_plans_that_are_not_wanted_are_not_given_and_the_next_best_is(seed: int, name: str) -> None:
    problem = a_problem(seed, n_parts=3)
    goal = objective(name, problem.uniform_bits, problem.reference)
    tried = by_trying(problem, goal, no_limits(problem))
    seen = list[tuple[int, ...]]()
    for value, _ in tried[:5]:
        found = search(problem, goal, no_limits(problem), without=seen, gap=0.0)
        assert found is not None
        assert found.picks not in seen
        assert found.value == pytest.approx(value, rel=1e-8)
        seen.append(found.picks)
    everything = every_plan(problem)
    assert search(problem, goal, no_limits(problem), without=everything) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_best_plans_are_in_order_different_and_hold_the_best(seed: int) -> None:
    problem = a_problem(seed, n_parts=4)
    plans = best_plans(problem, n=4, gap=0.0)
    values = [plan.value for plan in plans]
    assert values == sorted(values)
    assert len({plan.picks for plan in plans}) == len(plans)
    assert all(problem.fits(plan.picks) for plan in plans)
    blind = solve(problem, "mean", gap=0.0)
    goal = objective("worst-quarter", problem.uniform_bits, 0)
    tried = by_trying(problem, goal, limits_of(problem, blind=blind.picks))
    assert values[0] == pytest.approx(tried[0][0], rel=1e-7)


def test_sizes_of_a_real_file_are_kept_to_the_byte() -> None:
    """HiGHS takes a row that is missed by 1e-6, which of 100 MB is 100 bytes."""
    rng = np.random.default_rng(0)
    problem = a_problem(0, n_parts=20, n_schemes=6)
    odd = rng.integers(4_000_000, 6_000_000, (20, 1)) * np.arange(2, 8) + rng.integers(
        0, 99, (20, 6)
    )
    problem = replace(
        problem,
        size_bytes=odd,
        allowed=np.ones((20, 6), dtype=bool),
        damage_bits=rng.gamma(1, 1, (4, 20, 1)) * 4.0 ** -np.arange(2, 8),
    )
    for budget in range(int(odd[:, 2].sum()), int(odd[:, 2].sum()) + 8):
        at = replace(problem, budget_bytes=budget)
        goal = objective("mean", at.uniform_bits, 0)
        found = search(at, goal, no_limits(at))
        assert found is not None
        assert at.size_of(found.picks) <= budget


def test_a_plan_that_misses_a_true_row_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that takes the budget a little too lightly: the first plan is one too large."""
    problem = a_problem(3, n_parts=5, whole=True)
    half = (problem.size_of(problem.cheapest) + problem.size_of(problem.dearest)) // 2
    problem = problem.with_budget(half)
    goal = objective("mean", problem.uniform_bits, 0)
    honest = search(problem, goal, no_limits(problem), gap=0.0)
    assert honest is not None
    lax = replace(problem, budget_bytes=problem.budget_bytes + 2)
    rows = program._Rows  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(program, "_Rows", lambda p, g, lim: rows(lax, g, lim))
    found = search(problem, goal, no_limits(problem), gap=0.0)
    assert found is not None
    assert found.cuts > 0
    assert problem.fits(found.picks)
    assert found.value == pytest.approx(honest.value)


def test_a_solver_that_never_keeps_the_rows_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = a_problem(3, n_parts=8, n_schemes=4)
    goal = objective("mean", problem.uniform_bits, 0)
    lax = replace(problem, budget_bytes=problem.size_of(problem.dearest))
    tight = replace(problem, budget_bytes=problem.size_of(problem.cheapest))
    rows = program._Rows  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(program, "_Rows", lambda p, g, lim: rows(lax, g, lim))
    with pytest.raises(EngineError, match="please report"):
        search(tight, goal, no_limits(problem))


def test_no_node_at_all_is_refused_or_solved_before_the_tree() -> None:
    problem = a_problem(11, n_parts=30, n_schemes=6, n_languages=12)
    try:
        assert solve(problem, nodes=1).gap >= 0
    except PlanError as error:
        assert "allow more nodes" in str(error)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_most_to_gain_is_never_below_what_any_plan_gains(seed: int) -> None:
    problem = a_problem(seed)
    most = most_to_gain(problem)
    goal = objective("worst-quarter", problem.uniform_bits, 0)
    blind = solve(problem, "mean")
    limits = limits_of(problem, blind=blind.picks)
    best, free = (by_trying(problem, goal, lim)[0][0] for lim in (limits, no_limits(problem)))
    assert most.blind == pytest.approx(float(value_of(goal, problem.damage_of(blind.picks))))
    assert most.bound <= best * (1 + 1e-6)
    assert most.free_bound <= free * (1 + 1e-6)
    assert 0 <= most.share <= most.free_share < 1


def test_where_languages_share_one_table_there_is_nothing_to_gain() -> None:
    problem = a_problem(5, n_parts=8, n_schemes=5)
    shared = problem.damage_bits[:1] * np.array([1.0, 2.0, 0.3, 5.0])[:, None, None]
    problem = replace(problem, damage_bits=shared)
    assert solve(problem).value == pytest.approx(solve(problem, "mean").value, rel=1e-4)
    assert best_plans(problem, n=1)[0].shares == pytest.approx([solve(problem).value] * 4)


def test_what_the_solver_prints_is_not_among_a_commands_data(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    solving = program.milp

    def loud(*args: Any, **how: Any) -> Any:
        ctypes.CDLL(None).puts(b"tmpSolver.run();")  # into C's buffer, as HiGHS does
        os.write(1, b"and at once")
        return solving(*args, **how)

    monkeypatch.setattr(program, "milp", loud)
    print("before", flush=True)
    assert solve(a_problem(1)).value <= 1 + 1e-9
    print("after", flush=True)
    assert capfd.readouterr().out == "before\nafter\n"


def test_the_solver_works_without_a_standard_output() -> None:
    code = (
        "import os; os.close(1)\n"
        "from bitgap.protect.example import PROBLEM\n"
        "from bitgap.protect.solve import solve\n"
        "raise SystemExit(0 if solve(PROBLEM).has_choice else 3)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
