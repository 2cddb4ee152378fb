"""A table is believed where it predicts, refused where it does not, and then truth decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protect_worlds import a_problem, by_trying

from bitgap.errors import UsageError
from bitgap.protect.calibration import best_measured, calibrate, refine
from bitgap.protect.nulls import random_plans
from bitgap.protect.objectives import Objective, objective, value_of
from bitgap.protect.problem import Picks, Problem
from bitgap.protect.program import no_limits
from bitgap.protect.solve import best_plans
from bitgap.records import Floats

NAMES = ["en", "he"]
TRUE = np.random.default_rng(0).gamma(4, 1, (40, 2)) + 0.1


def test_a_table_that_is_right_is_trusted() -> None:
    found = calibrate(NAMES, TRUE, TRUE)
    assert found.trusted
    assert found.rank == (1.0, 1.0)
    assert found.size == (1.0, 1.0)
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (TRUE * [1.0, 1.3], "he: the sum over units is 1.30 of what is measured"),
        (TRUE * [0.7, 1.0], "en: the sum over units is 0.70"),
        (np.column_stack([TRUE[:, 0], TRUE[::-1, 1]]), "he: rank correlation"),
        (np.column_stack([np.ones(40), TRUE[:, 1]]), "en: plans do not differ"),
    ],
)
def test_one_language_that_is_wrong_is_enough(made: Floats, reason: str) -> None:
    found = calibrate(NAMES, made, TRUE)
    assert not found.trusted
    (only,) = found.reasons
    assert only.startswith(reason)


def test_limits_are_where_they_are_said_to_be() -> None:
    for factor, trusted in ((0.81, True), (0.79, False), (1.24, True), (1.26, False)):
        assert calibrate(NAMES, factor * TRUE, TRUE).trusted is trusted


def test_too_few_plans_and_arrays_of_others_are_refused() -> None:
    with pytest.raises(UsageError, match="9 plans were measured; a table is held against 10"):
        calibrate(NAMES, TRUE[:9], TRUE[:9])
    with pytest.raises(UsageError, match=r"\(40, 2\) .* \(39, 2\)"):
        calibrate(NAMES, TRUE, TRUE[:39])
    with pytest.raises(UsageError, match="in 3 languages"):
        calibrate(["en", "de", "he"], TRUE, TRUE)


def test_random_plans_of_an_additive_model_calibrate_its_table() -> None:
    problem = a_problem(1, n_parts=12, n_schemes=5)
    problem = problem.with_budget(_middle(problem))
    plans = random_plans(problem, 40, seed=0)
    truth = np.array([problem.damage_of(p) for p in plans])
    noisy = truth * np.random.default_rng(1).gamma(200, 1 / 200, truth.shape)
    assert calibrate(problem.languages, noisy, truth).trusted
    assert not calibrate(problem.languages, truth**3, truth).trusted


def _middle(problem: Problem) -> int:
    return (problem.size_of(problem.cheapest) + problem.size_of(problem.dearest)) // 2


class Interacting:
    """True damage with interaction between neighbouring parts, which no table knows."""

    def __init__(self, problem: Problem, strength: float) -> None:
        self.problem, self.strength, self.asked = problem, strength, 0

    def __call__(self, plans: Sequence[Picks]) -> Floats:
        self.asked += len(plans)
        return np.array([self._one(p) for p in plans])

    def _one(self, picks: Picks) -> Floats:
        single = self.problem.damage_bits[:, np.arange(len(picks)), np.array(picks)]
        pairs = np.sqrt(single[:, 1:] * single[:, :-1]).sum(1)
        return single.sum(1) + self.strength * pairs


@pytest.mark.parametrize("name", ["mean", "worst-quarter"])
def test_swaps_on_true_damage_come_near_the_best_plan_where_the_table_errs(name: str) -> None:
    started, ended = list[float](), list[float]()
    for seed in range(6):
        problem = a_problem(seed, n_parts=5, n_schemes=4, whole=True)
        problem = problem.with_budget(_middle(problem))
        truth = Interacting(problem, 2.0)
        starts = [plan.picks for plan in best_plans(problem, name, 5)]
        found = refine(problem, starts, truth, name, no_harm=(), most=300)
        goal = objective(name, truth([problem.uniform])[0], 0)
        plans = by_trying(problem, goal, no_limits(problem))
        best = min(_value(goal, truth, plan) for _, plan in plans)
        assert problem.fits(found.picks)
        assert best <= found.value + 1e-9 <= found.started + 2e-9
        started.append(found.started / best)
        ended.append(found.value / best)
    assert max(ended) < 1.05
    assert np.mean(ended) <= np.mean(started)


def _value(goal: Objective, truth: Interacting, picks: Picks) -> float:
    return float(value_of(goal, truth([picks])[0]))


def test_refining_asks_no_more_than_it_may_and_is_the_same_each_time() -> None:
    problem = a_problem(2, n_parts=6, n_schemes=5)
    problem = problem.with_budget(_middle(problem))
    with pytest.raises(UsageError, match=r"1 plans to start from .* and 1 measurements allowed"):
        refine(problem, [problem.cheapest], Interacting(problem, 1.0), most=1)
    for most in (3, 10, 41):
        truth = Interacting(problem, 1.0)
        found = refine(problem, [problem.cheapest], truth, most=most)
        assert truth.asked == found.measured <= most
        assert refine(problem, [problem.cheapest], Interacting(problem, 1.0), most=most) == found


def test_a_step_that_harms_the_reference_is_not_taken() -> None:
    problem = a_problem(4, n_parts=5, n_schemes=4, whole=True)
    problem = problem.with_budget(_middle(problem))
    truth = Interacting(problem, 0.5)
    found = refine(problem, [problem.uniform], truth, "worst", no_harm=("all", "mean"))
    here, uniform = truth([found.picks, problem.uniform])
    assert (here <= uniform * (1 + 1e-9)).all()
    assert found.value <= found.started == 1.0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_best_of_ten_is_measured(seed: int) -> None:
    problem = a_problem(seed, n_parts=4)
    plans = best_plans(problem, n=5)
    truth = Interacting(problem, 3.0)
    chosen = best_measured(problem, plans, truth, no_harm=())
    goal = objective("worst-quarter", truth([problem.uniform])[0], 0)
    values = [_value(goal, truth, plan.picks) for plan in plans]
    assert _value(goal, truth, chosen.picks) == min(values)


def test_the_tables_best_stands_where_all_break_the_limits() -> None:
    problem = a_problem(6, n_parts=6, n_schemes=5)
    problem = problem.with_budget(_middle(problem))
    plans = best_plans(problem, n=3)

    def truth(asked: Sequence[Picks]) -> Floats:
        return np.array([np.full(4, 1.0 if p == problem.uniform else 2.0) for p in asked])

    assert problem.uniform not in [plan.picks for plan in plans]
    assert best_measured(problem, plans, truth) == plans[0]
