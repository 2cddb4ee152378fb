"""What chance makes: random plans, searches on permuted labels, and searches on resampled text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bitgap.errors import PlanError
from bitgap.protect.comparators import worst_set
from bitgap.protect.problem import Picks, Problem
from bitgap.protect.records import DamageTable
from bitgap.protect.solve import solve
from bitgap.protect.tables import draws_of, permuted
from bitgap.records import Floats

RANDOM_PLANS = 99
PLACEBOS = 19
"""Searches on permuted labels: the fewest whose p can be .05."""
STABILITY_DRAWS = 20
"""Searches on resampled text: a share of them is known to a tenth."""

Solver = Callable[[Problem], Picks]
"""How a problem is solved."""


def random_plans(problem: Problem, n: int, seed: int) -> tuple[Picks, ...]:
    """Returns random plans that fill the budget.

    Every part draws a scheme; while that is too much, a random part steps down to its next smaller
    one; then random steps up are taken while they fit.

    Args:
        problem: Table and budget.
        n: How many.
        seed: Of the draws.

    Example:
        >>> plans = random_plans(PROBLEM, 5, seed=0)
        >>> all(PROBLEM.fits(p) for p in plans), len(set(plans))
        (True, 5)
    """
    rng = np.random.default_rng(seed)
    ladders = [_ladder(problem, g) for g in range(len(problem.parts))]
    return tuple(_random_plan(problem, ladders, rng) for _ in range(n))


def _ladder(problem: Problem, part: int) -> list[int]:
    """Returns the schemes that a part may have, the smallest first."""
    may = [column for column in range(len(problem.schemes)) if problem.allowed[part, column]]
    return sorted(may, key=lambda column: (int(problem.size_bytes[part, column]), column))


def _random_plan(problem: Problem, ladders: list[list[int]], rng: np.random.Generator) -> Picks:
    rungs = [int(rng.integers(len(ladder))) for ladder in ladders]
    sizes = [[int(problem.size_bytes[g, c]) for c in one] for g, one in enumerate(ladders)]
    room = problem.budget_bytes - sum(s[r] for s, r in zip(sizes, rungs, strict=True))
    while room < 0:
        g = int(rng.choice([g for g, rung in enumerate(rungs) if rung > 0]))
        room += sizes[g][rungs[g]] - sizes[g][rungs[g] - 1]
        rungs[g] -= 1
    steps = np.repeat(np.arange(len(ladders)), max(len(ladder) for ladder in ladders))
    for g in map(int, rng.permutation(steps)):
        if rungs[g] + 1 < len(ladders[g]):
            step = sizes[g][rungs[g] + 1] - sizes[g][rungs[g]]
            if step <= room:
                room -= step
                rungs[g] += 1
    return tuple(ladder[r] for ladder, r in zip(ladders, rungs, strict=True))


def random_p(gains: Floats) -> float:
    """Returns how improbable a recipe is among random plans: (1 + as good) / (R + 1).

    Args:
        gains: What the recipe gains on each random plan, (R); 0 or less where that is as good.

    Example:
        >>> random_p(np.array([0.5, 0.2, -0.1]))
        0.5
    """
    return (1 + int((gains <= 0).sum())) / (1 + len(gains))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placebo:
    """What a search on permuted labels came to."""

    picks: Picks
    worst: tuple[str, ...]
    """What it took for the worst set."""


def placebo_plans(
    table: DamageTable,
    problem: Problem,
    n: int = PLACEBOS,
    *,
    seed: int,
    solver: Solver | None = None,
    blind: Picks | None = None,
) -> tuple[Placebo, ...]:
    """Returns what the search makes of tables whose labels say nothing.

    Labels of languages are permuted within every sentence, so that what is found for "the worst
    languages" is noise, and so is which these are. What such plans gain in their own worst sets is
    the null of what the recipe gains in its.

    Args:
        table: With sentences.
        problem: Made of it.
        n: How many.
        seed: Of the permutations.
        solver: How a problem is solved; :func:`~bitgap.protect.solve.solve` when None.
        blind: The language-blind plan by the table, where it is known; searched when None.

    Raises:
        StoreError: If the table has no sentences.

    Example:
        >>> [PROBLEM.fits(one.picks) for one in placebo_plans(TABLE, PROBLEM, 2, seed=0)]
        [True, True]
    """
    rng = np.random.default_rng(seed)
    # No permutation changes the mean over languages, so there is one blind plan for all.
    by_table = blind or solve(problem, "mean").picks

    def sparing(drawn: Problem) -> Picks:
        return solve(drawn, blind=by_table).picks

    solving = solver or sparing
    found = list[Placebo]()
    for _ in range(n):
        drawn = replace(problem, damage_bits=_damage_for(problem, permuted(table, rng)))
        found.append(Placebo(picks=solving(drawn), worst=worst_set(drawn, by_table)))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """How often a recipe's choices come again when the text is resampled."""

    draws: int
    scheme: Mapping[str, float]
    """Share of the draws in which a unit got the same scheme."""
    bits: Mapping[str, float]
    """The same of bits: groups may differ."""


def stability(
    table: DamageTable,
    problem: Problem,
    picks: Picks,
    draws: int = STABILITY_DRAWS,
    *,
    seed: int,
    solver: Solver | None = None,
) -> Stability:
    """Returns how often each unit gets the same bits over bootstrap draws of the table.

    Args:
        table: With sentences, or draws of its own.
        problem: Made of it.
        picks: The recipe's plan.
        draws: How many searches.
        seed: Of the draws.
        solver: As for :func:`placebo_plans`.

    Raises:
        StoreError: If the table can not be resampled.

    Example:
        >>> found = stability(TABLE, PROBLEM, solve(PROBLEM).picks, 5, seed=0)
        >>> found.bits["0.mlp"]
        1.0
    """
    solving = solver or _solved
    bits = _bits_of(table, problem)
    same_scheme, same_bits = np.zeros(len(picks)), np.zeros(len(picks))
    rows, own = np.arange(len(picks)), np.array(picks)
    for damage in draws_of(table, draws, seed):
        drawn = replace(table, damage_bits=damage, sentence_bits=None, characters=None,
                        documents=None, draws_bits=None)  # fmt: skip
        again = np.array(solving(replace(problem, damage_bits=_damage_for(problem, drawn))))
        same_scheme += again == own
        same_bits += bits[rows, again] == bits[rows, own]
    units = [(unit, g) for g, names in enumerate(problem.parts) for unit in names]
    return Stability(
        draws=draws,
        scheme={unit: float(same_scheme[g] / draws) for unit, g in units},
        bits={unit: float(same_bits[g] / draws) for unit, g in units},
    )


def _solved(problem: Problem) -> Picks:
    return solve(problem).picks


def _damage_for(problem: Problem, table: DamageTable) -> Floats:
    """Returns the damage of a table in the shape of a problem that was made of its like."""
    names = [unit.name for unit in table.facts.units]
    if problem.languages != table.counted or problem.schemes != table.facts.schemes:
        raise PlanError("the table and the problem are not of the same languages and schemes")
    rows = [[names.index(unit) for unit in units] for units in problem.parts]
    counted = [table.facts.languages.index(one) for one in table.counted]
    damage = np.array([table.damage_bits[counted][:, members].sum(1) for members in rows])
    return np.where(problem.allowed, damage.transpose(1, 0, 2), np.nan)


def _bits_of(table: DamageTable, problem: Problem) -> Floats:
    by_name = {unit.name: row for unit, row in zip(table.facts.units, table.facts.choices,
                                                   strict=True)}  # fmt: skip
    rows = [[c.bits if c else np.nan for c in by_name[units[0]]] for units in problem.parts]
    return np.array(rows)
