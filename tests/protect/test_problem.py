"""Budgets, uniform plans, fused units, limits: what a problem is before it is solved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protect_worlds import a_problem, every_plan

from bitgap.errors import BudgetError, LanguageError, PlanError, UsageError
from bitgap.protect.example import PROBLEM, TABLE
from bitgap.protect.objectives import objective, tail_mean, value_of
from bitgap.protect.problem import make_problem
from bitgap.protect.records import DamageTable, Matrix, TableFacts, Unit
from bitgap.protect.sizes import plain_choice
from bitgap.protect.solve import filled_up, frontier, limits_of, solve
from bitgap.protect.toolchains import toolchain


def fused_table() -> DamageTable:
    """Two blocks of q, k, v and o, and an embedding that must stay whole for some targets."""
    names = [(f"{b}.{kind}", kind, b) for b in range(2) for kind in ("q", "k", "v", "o")]
    units = tuple(
        Unit(name=name, kind=kind, block=b, matrices=(Matrix(name=name, n_out=32, n_in=128),))
        for name, kind, b in [*names, ("embedding", "tied", None)]
    )
    schemes = ("rtn3-g128", "rtn4-g128", "rtn8-g128", "fp")
    rng = np.random.default_rng(0)
    base = rng.gamma(2, 1, (2, len(units), 1)) * 4.0 ** -np.array([3, 4, 8, 40])
    return DamageTable(
        facts=TableFacts(
            model="fused", fingerprint="0" * 64, corpus="1" * 64, instrument="example",
            languages=("en", "he"), reference="en", units=units, schemes=schemes,
            choices=tuple(tuple(plain_choice(unit, s) for s in schemes) for unit in units),
        ),
        damage_bits=base,
    )  # fmt: skip


def test_fused_units_share_a_scheme_and_a_target_gets_what_it_loads() -> None:
    table = fused_table()
    problem = make_problem(table, 28_000, target=toolchain("vllm"))
    assert problem.parts[0] == ("0.q", "0.k", "0.v")
    assert len(problem.parts) == 5
    found = dict(solve(problem).schemes)
    assert set(found) == {unit.name for unit in table.facts.units}
    for block in range(2):
        assert len({found[f"{block}.{kind}"] for kind in "qkv"}) == 1
    assert found["embedding"] == "fp"
    assert set(found.values()) <= {"rtn4-g128", "rtn8-g128", "fp"}
    # A part is the sum of its units, in bytes and in damage.
    free = make_problem(table, 28_000)
    same = free.picks_of(found)
    assert free.size_of(same) == problem.size_of(problem.picks_of(found))
    assert np.allclose(free.damage_of(same), problem.damage_of(problem.picks_of(found)))


def test_units_can_be_held_to_schemes() -> None:
    only = {"embedding": ["rtn8-g128"], "0.o": ["fp"]}
    found = dict(solve(make_problem(fused_table(), 30_000, only=only)).schemes)
    assert (found["embedding"], found["0.o"]) == ("rtn8-g128", "fp")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"only": {"9.q": ["fp"]}}, "unit '9.q' is not there"),
        ({"only": {"0.q": ["rtn2-g64"]}}, "0.q has no scheme"),
        ({"fused": [("0.q", "7.k")]}, "unit '7.k' is to be fused and is not there"),
        ({"fused": [("0.q", "0.k"), ("0.k", "0.v")]}, "'0.k' is in two fused sets"),
        ({"target": toolchain("gguf"), "only": {"0.o": ["rtn4-g128"]}}, "that gguf can load"),
    ],
)
def test_what_is_not_there_is_named(how: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_problem(fused_table(), 20_000, **how)  # type: ignore[arg-type]


def test_plans_by_name_are_those_of_the_problem() -> None:
    problem = make_problem(fused_table(), 28_000, target=toolchain("vllm"))
    plan = dict(solve(problem).schemes)
    for change, message in (
        ({"9.q": "fp"}, "unit '9.q' is not there"),
        ({"0.q": "fp"}, "are fused and were given"),
        ({"0.o": "rtn5-g64"}, "0.o was given rtn5-g64"),
    ):
        with pytest.raises(PlanError, match=message):
            problem.picks_of({**plan, **change})
    with pytest.raises(PlanError, match=r"'0\.o' has no scheme"):
        problem.picks_of({name: scheme for name, scheme in plan.items() if name != "0.o"})


def test_floor_and_ceiling_are_told() -> None:
    floor, ceiling = 14_976, 54_912
    for budget in (floor - 1, ceiling + 1):
        with pytest.raises(BudgetError, match=f"take {floor} .* at least and {ceiling} "):
            make_problem(TABLE, budget)
    at_floor = make_problem(TABLE, floor)
    assert not at_floor.has_choice
    assert "There is no choice here" in solve(at_floor).sentence()
    # The smallest step is one bit of the smallest unit.
    step = 64 * 64 // 8
    assert not make_problem(TABLE, floor + step - 1).has_choice
    assert make_problem(TABLE, floor + step).has_choice
    assert "gap" in solve(make_problem(TABLE, floor + step)).sentence()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), forbidden=st.sampled_from([0.0, 0.4]))
def test_there_is_a_choice_where_more_than_one_plan_fits(seed: int, forbidden: float) -> None:
    problem = a_problem(seed, n_parts=3, forbidden=forbidden, whole=True)
    assert problem.has_choice == (len(every_plan(problem)) > 1)
    assert problem.fits(problem.uniform)


def test_the_reference_must_count() -> None:
    left = replace(TABLE, facts=replace(TABLE.facts, left_out={"en": "collapsed"}))
    with pytest.raises(LanguageError, match=r"reference en is left out \(collapsed\)"):
        make_problem(left, 20_000)
    left = replace(TABLE, facts=replace(TABLE.facts, left_out={"he": "collapsed"}))
    assert make_problem(left, 20_000).languages == ("en", "de")


def test_a_language_without_damage_is_named() -> None:
    none = TABLE.damage_bits.copy()
    none[1] = 0.0
    problem = make_problem(replace(TABLE, damage_bits=none), 28_288)
    with pytest.raises(LanguageError, match="de has no damage under the uniform plan"):
        solve(problem)


def test_the_uniform_plan_is_uniform_where_it_fits_and_spread_evenly_where_bytes_are_left() -> None:
    assert set(PROBLEM.uniform) == {2}
    larger = PROBLEM.with_budget(28_288 + 3 * 64 * 64 // 8)
    raised = [g for g, pick in enumerate(larger.uniform) if pick == 3]
    assert {larger.uniform[g] for g in range(7)} == {2, 3}
    assert larger.size_of(larger.uniform) == larger.budget_bytes
    assert max(raised) - min(raised) >= 2


def test_the_uniform_plan_of_less_damage_is_taken_of_two_of_one_size() -> None:
    four, five = 2, 3
    choices = [list(row) for row in TABLE.facts.choices]
    for row in choices:
        of_four = row[four]
        assert of_four is not None
        row[five] = replace(of_four, scheme=TABLE.facts.schemes[five])
    table = replace(TABLE, facts=replace(TABLE.facts, choices=tuple(map(tuple, choices))))
    assert set(make_problem(table, 28_288).uniform) == {3}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_filling_up_never_hurts_a_language_and_leaves_no_free_step(seed: int) -> None:
    problem = a_problem(seed, n_parts=5, whole=True)
    start = problem.cheapest
    filled = filled_up(problem, start)
    assert problem.fits(filled)
    assert (problem.damage_of(filled) <= problem.damage_of(start) + 1e-12).all()
    assert filled_up(problem, filled) == filled


def test_objectives_are_of_the_languages_they_name() -> None:
    uniform = np.array([1.0, 2.0, 4.0, 8.0])
    damage = np.array([0.5, 1.0, 4.0, 2.0])  # shares .5, .5, 1, .25
    values = {
        name: float(value_of(objective(name, uniform, 1), damage))
        for name in ("worst-quarter", "worst", "mean", "reference")
    }
    assert values == pytest.approx(
        {"worst-quarter": 1.0, "worst": 1.0, "mean": 7.5 / 15, "reference": 0.5}
    )
    with pytest.raises(UsageError, match="there are worst-quarter, worst, mean, reference"):
        objective("best", uniform, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(0, 1))
def test_the_tail_mean_lies_between_mean_and_largest_and_is_their_ends(
    values: list[float], at: float
) -> None:
    v = np.array(values)
    k = 1 + at * (len(v) - 1)
    assert v.mean() - 1e-9 <= tail_mean(v, k) <= v.max() + 1e-9
    assert tail_mean(v, 1.0) == pytest.approx(v.max())
    assert tail_mean(v, float(len(v))) == pytest.approx(v.mean())


def test_limits_are_named_and_the_blind_plan_always_keeps_them() -> None:
    with pytest.raises(UsageError, match="no harm to 'worst' was asked for"):
        limits_of(PROBLEM, ["worst"])
    everyone = limits_of(PROBLEM, ["all"]).language_bits
    assert np.array_equal(everyone, PROBLEM.uniform_bits)
    for seed in range(20):
        problem = a_problem(seed)
        blind = solve(problem, "mean").picks
        limits = limits_of(problem, ["all", "mean", "reference"], blind=blind, spare=0.0)
        assert limits.kept_by(problem.damage_of(blind))


def test_shorter_files_hurt_more_along_the_frontier() -> None:
    plans = frontier(PROBLEM, [18_000, 24_000, 30_000, 50_000], "mean")
    sums = [sum(plan.damage_bits) for plan in plans]
    assert sums == sorted(sums, reverse=True)
    assert all(plan.slack_bytes >= 0 for plan in plans)
    with pytest.raises(BudgetError):
        frontier(PROBLEM, [1000])


def test_what_others_pay_is_bounded_by_spare() -> None:
    blind = np.array(solve(PROBLEM, "mean").damage_bits)
    free = np.array(solve(PROBLEM, spare=None).damage_bits)
    assert (free / blind).max() > 1.1
    for spare in (0.0, 0.05, 0.12):
        spared = np.array(solve(PROBLEM, spare=spare).damage_bits)
        assert (spared <= blind * (1 + spare + 1e-9)).all()
    assert solve(PROBLEM, spare=0.2).value < solve(PROBLEM, spare=0.0).value
