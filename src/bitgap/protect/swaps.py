"""Plans one or two changes away from another: what a search steps to, and what bounds a solver.

A swap changes the scheme of one part, or of two, and stays within the budget. Both searches use
them: that on true damage takes those that the table likes best and measures them, and the solver
takes the best of them for a plan to beat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitgap.protect.objectives import Objective, value_of
from bitgap.protect.problem import Picks, Problem
from bitgap.records import Bools, Floats

STEPS = 40
"""Swaps that :func:`bettered` takes at most."""


def swaps(
    problem: Problem,
    goal: Objective,
    picks: Picks,
    most: int,
    *,
    cells: Bools | None = None,
    limits_bits: Floats | None = None,
) -> list[tuple[float, Picks]]:
    """Returns the best plans one or two changes away that fit, by the table, the best first.

    Args:
        problem: Table and budget.
        goal: By which they are ordered.
        picks: Where from.
        most: How many at most.
        cells: Schemes that may be changed to, (G x C); all that are allowed when None.
        limits_bits: Largest damage, (A + 1), of each language and of the mean; any when None.

    Returns:
        The objective by the table, and the plan, of each.

    Example:
        >>> from bitgap.protect.objectives import objective
        >>> goal = objective("mean", PROBLEM.uniform_bits, PROBLEM.reference)
        >>> found = swaps(PROBLEM, goal, PROBLEM.uniform, 3)
        >>> [round(value, 3) for value, _ in found], PROBLEM.fits(found[0][1])
        ([0.665, 0.744, 0.75], True)
    """
    current, rows = np.array(picks), np.arange(len(picks))
    here = problem.damage_of(current)
    moved = (problem.allowed if cells is None else problem.allowed & cells).copy()
    moved[rows, current] = False
    part, column = np.nonzero(moved)
    step = (problem.size_bytes - problem.size_bytes[rows, current][:, None])[part, column]
    effect = (problem.damage_bits - problem.damage_bits[:, rows, current][:, :, None])[
        :, part, column
    ]
    room = problem.budget_bytes - problem.size_of(current)
    ranked = list[tuple[float, tuple[int, ...]]]()

    def add(damage: Floats, changes: Sequence[tuple[int, ...]]) -> None:
        values = value_of(goal, damage.T)
        if limits_bits is not None:
            both = np.vstack([damage, damage.mean(0)])
            values = np.where((both <= limits_bits[:, None]).all(0), values, np.inf)
        for j in values.argsort(kind="stable")[:most]:
            if np.isfinite(values[j]):
                ranked.append((float(values[j]), changes[int(j)]))

    singles = np.flatnonzero(step <= room)
    add(here[:, None] + effect[:, singles], [(int(i),) for i in singles])
    down, up = np.flatnonzero(step < 0), np.flatnonzero(step > 0)
    for i in down:
        with_it = up[(part[up] != part[i]) & (step[up] + step[i] <= room)]
        if with_it.size:
            add(here[:, None] + effect[:, [i]] + effect[:, with_it],
                [(int(i), int(j)) for j in with_it])  # fmt: skip
    ranked.sort(key=lambda one: one[0])
    return [
        (value, _changed(picks, [(int(part[i]), int(column[i])) for i in changes]))
        for value, changes in ranked[:most]
    ]


def bettered(
    problem: Problem,
    goal: Objective,
    picks: Picks,
    *,
    cells: Bools | None = None,
    limits_bits: Floats | None = None,
) -> Picks:
    """Returns a plan after so many best swaps as better it by the table, :data:`STEPS` at most.

    Args: As for :func:`swaps`.

    Example:
        >>> from bitgap.protect.objectives import objective
        >>> goal = objective("mean", PROBLEM.uniform_bits, PROBLEM.reference)
        >>> found = bettered(PROBLEM, goal, PROBLEM.uniform)
        >>> round(float(value_of(goal, PROBLEM.damage_of(found))), 3)
        0.575
    """
    value = float(value_of(goal, problem.damage_of(picks)))
    for _ in range(STEPS):
        found = swaps(problem, goal, picks, 1, cells=cells, limits_bits=limits_bits)
        # Less than rounding is no step, or two plans alike would be walked between for ever.
        if not found or found[0][0] >= value - 1e-12 * abs(value):
            break
        value, picks = found[0]
    return picks


def _changed(picks: Picks, changes: Sequence[tuple[int, int]]) -> Picks:
    new = list(picks)
    for part, column in changes:
        new[part] = column
    return tuple(new)


def by_price(problem: Problem, cost: Floats) -> Picks:
    """Returns a plan that is nearly best by one sum: at a price a byte, each part takes its best.

    The price is halved until the plan just fits (Everett 1963); what it leaves is for
    :func:`bettered`.

    Args:
        problem: Table and budget.
        cost: What each part under each scheme costs, (G x C); only allowed ones are read.

    Example:
        >>> PROBLEM.fits(by_price(PROBLEM, PROBLEM.damage_bits.sum(0)))
        True
    """
    costs = np.where(problem.allowed, cost, np.inf)
    sizes = problem.size_bytes.astype(np.float64)

    def plan(price: float) -> Picks:
        return tuple(int(c) for c in (costs + price * sizes).argmin(1))

    if not problem.fits(problem.cheapest):
        return problem.cheapest
    steps = np.ptp(np.where(problem.allowed, cost, np.nanmin(costs)), axis=1).sum()
    low, high = 0.0, float(steps) + 1e-300
    if problem.fits(plan(low)):
        return plan(low)
    while not problem.fits(plan(high)):  # in the end it is the cheapest plan
        low, high = high, 4 * high
    for _ in range(60):
        price = (low + high) / 2
        low, high = (low, price) if problem.fits(plan(price)) else (price, high)
    return plan(high)
