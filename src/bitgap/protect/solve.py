"""Plans under a budget: the best, the ten best, one for every budget, and what could be gained.

The plan is searched in two steps. The language-blind optimum comes first: least mean damage. Then
the languages worst hit are hurt least, while

- the reference and the mean over languages are no worse than under the uniform plan,
- no language is worse than under the *language-blind* plan by more than :data:`SPARE`.

The last is what makes "nobody pays" reachable: the blind plan has the least total damage, so that
whoever gains against it gains from others, and without a limit others pay as much as the objective
likes. Half of the margin of harm is left for what the table gets wrong. ``spare=None`` drops it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from bitgap.errors import PlanError, UsageError
from bitgap.protect.objectives import LINEAR, Objective, objective, value_of
from bitgap.protect.problem import Picks, Problem
from bitgap.protect.program import (
    GAP,
    NODES,
    Found,
    Limits,
    Program,
    no_limits,
    relaxed_bound,
)
from bitgap.records import Floats

MARGIN = 0.02
"""Rise of a language's damage that counts as no harm, as a share of it."""
SPARE = MARGIN / 2
"""What the search lets a language pay against the language-blind plan, as a share of its damage."""
NO_HARM = ("reference", "mean")
"""Who must not be worse off than under the uniform plan of the same bytes."""
HARMED = ("reference", "mean", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A plan and how good it is known to be."""

    objective: str
    picks: Picks
    """Column of each part's scheme, in the order of the problem's parts."""
    schemes: tuple[tuple[str, str], ...]
    """Scheme of each unit, in order."""
    size_bytes: int
    """What the units take."""
    budget_bytes: int
    """What they may take."""
    value: float
    """The objective, as a share of the uniform plan's."""
    bound: float
    """No plan has a smaller one."""
    gap: float
    """By how much of it the objective may be above the best."""
    damage_bits: tuple[float, ...]
    """By the table, of each language that counts, in bits per reference character."""
    shares: tuple[float, ...]
    """The same as shares of the uniform plan's."""
    nodes: int
    """Nodes of the search."""
    has_choice: bool
    """False where no other plan fits the budget."""

    @property
    def slack_bytes(self) -> int:
        """Bytes of the budget that are left."""
        return self.budget_bytes - self.size_bytes

    def sentence(self) -> str:
        """Returns what was found, in one sentence."""
        if not self.has_choice:
            return (
                f"There is no choice here: of all plans only this one fits {self.budget_bytes} "
                f"bytes; give a larger budget"
            )
        return (
            f"{self.objective}: {self.value:.4f} of the uniform plan's, none below "
            f"{self.bound:.4f} (gap {self.gap:.2%}), {self.size_bytes} of {self.budget_bytes} bytes"
        )


def limits_of(
    problem: Problem,
    no_harm: Collection[str] = NO_HARM,
    *,
    blind: Picks | None = None,
    spare: float | None = SPARE,
) -> Limits:
    """Returns who must not be worse off, as limits on damage.

    Args:
        problem: Table and budget.
        no_harm: Of ``reference``, ``mean`` and ``all``: no worse than under the uniform plan.
        blind: The language-blind plan; nothing is compared with it when None.
        spare: What a language may pay against it, as a share; nothing is asked when None. What the
            blind plan itself does is always allowed, so that there is a plan.

    Raises:
        UsageError: If a name is none of these.

    Example:
        >>> limits_of(PROBLEM, ["reference"]).language_bits.round(4)
        array([0.0293,    inf,    inf])
    """
    if unknown := sorted({*no_harm} - {*HARMED}):
        raise UsageError(f"no harm to {unknown[0]!r} was asked for; it can be {', '.join(HARMED)}")
    uniform = problem.uniform_bits
    limits = uniform.copy() if "all" in no_harm else np.full(len(uniform), np.inf)
    if "reference" in no_harm:
        limits[problem.reference] = uniform[problem.reference]
    mean = float(uniform.mean()) if "mean" in no_harm else np.inf
    found = Limits(limits, mean)
    if blind is not None and spare is not None:
        found = beside_blind(found, problem.damage_of(blind), spare)
    return found


def beside_blind(limits: Limits, by_blind: Floats, spare: float) -> Limits:
    """Returns limits by which no language pays more than so much against the language-blind plan.

    Args:
        limits: Others, which hold too, but for what the blind plan itself does.
        by_blind: Its damage, (A), in bits per reference character.
        spare: What a language may pay, as a share of it.

    Example:
        >>> beside_blind(Limits(np.array([1.0, 9.0]), 3.0), np.array([2.0, 2.0]), 0.5).language_bits
        array([2., 3.])
    """
    language = np.maximum(np.minimum(limits.language_bits, by_blind * (1 + spare)), by_blind)
    return Limits(language, max(limits.mean_bits, float(by_blind.mean())))


def solve(
    problem: Problem,
    goal: str = "worst-quarter",
    *,
    no_harm: Collection[str] = NO_HARM,
    spare: float | None = SPARE,
    blind: Picks | None = None,
    nodes: int = NODES,
    gap: float = GAP,
) -> Solution:
    """Returns the best plan by a table.

    Args:
        problem: Table and budget.
        goal: Name of an objective. ``mean`` and ``reference`` know no language but one, or none:
            they are searched without limits, as who knows no languages would.
        no_harm: Who must not be worse off than under the uniform plan.
        spare: What a language may pay against the language-blind plan, as a share; None for any.
        blind: The language-blind plan, where it is known; searched when None.
        nodes: Nodes of the search tree after which the best so far is returned.
        gap: Optimality gap at which the search stops.

    Raises:
        UsageError: If there is no such objective, or nobody of that name to spare.
        PlanError: If no plan keeps the limits.

    Example:
        >>> found = solve(PROBLEM)
        >>> dict(found.schemes)["1.attention"], round(found.value, 3), found.slack_bytes
        ('rtn4-g64', 0.761, 0)
        >>> found = solve(PROBLEM, spare=None)  # others may pay for it, and do
        >>> dict(found.schemes)["1.attention"], round(found.value, 3)
        ('rtn5-g64', 0.655)
    """
    (found,) = best_plans(
        problem, goal, 1, no_harm=no_harm, spare=spare, blind=blind, nodes=nodes, gap=gap
    )
    return found


def best_plans(
    problem: Problem,
    goal: str = "worst-quarter",
    n: int = 10,
    *,
    no_harm: Collection[str] = NO_HARM,
    spare: float | None = SPARE,
    blind: Picks | None = None,
    nodes: int = NODES,
    gap: float = GAP,
) -> tuple[Solution, ...]:
    """Returns the best plans by a table, the best first; fewer where there are no more.

    Each plan found is cut off and the program solved again, so they are the n best but for the
    gap. Other arguments as :func:`solve`.

    Raises:
        UsageError: If there is no such objective, or nobody of that name to spare.
        PlanError: If no plan keeps the limits.

    Example:
        >>> [round(plan.value, 3) for plan in best_plans(PROBLEM, "mean", 3)]
        [0.575, 0.617, 0.626]
    """
    made = objective(goal, problem.uniform_bits, problem.reference)
    if goal in LINEAR:
        limits = no_limits(problem)
    else:
        if spare is not None and blind is None:
            blind = solve(problem, "mean", nodes=nodes, gap=gap).picks
        limits = limits_of(problem, no_harm, blind=blind, spare=spare)
    found = list[Solution]()
    seen = list[Picks]()
    program = Program(problem, made, limits)
    # The blind plan keeps the limits, which are made beside it.
    known = [problem.uniform, *([] if blind is None else [blind])]
    while len(found) < n:
        one = program.best(without=seen, known=known, nodes=nodes, gap=gap)
        if one is None:
            break
        if n > 1:
            # The next best are mostly a swap away from the best.
            known = list(dict.fromkeys([*known, *program.near(one.picks, n)]))
        seen.append(one.picks)
        filled = filled_up(problem, one.picks)
        if filled in (plan.picks for plan in found):
            continue
        if filled != one.picks:
            seen.append(filled)
        found.append(_solution(problem, made, one, filled))
    if not found:
        raise PlanError(
            f"no plan of {problem.budget_bytes} bytes keeps all limits ({', '.join(no_harm)}, "
            f"spare {spare}); lift one of them, or give a larger budget"
        )
    return tuple(sorted(found, key=lambda plan: plan.value))


def filled_up(problem: Problem, picks: Picks) -> Picks:
    """Returns a plan with what is left of its budget spent where it hurts no language.

    One scheme of one part is changed at a time, that which lowers the mean most, as long as it fits
    and no language loses. An objective of the worst languages alone leaves the others' bytes lying.

    Example:
        >>> worse = PROBLEM.picks_of({**dict(solve(PROBLEM).schemes), "0.mlp": "rtn2-g64"})
        >>> PROBLEM.by_unit(filled_up(PROBLEM, worse))["0.mlp"]
        'rtn4-g64'
    """
    current = np.array(picks)
    rows = np.arange(len(current))
    while True:
        room = problem.budget_bytes - problem.size_of(current)
        steps = problem.size_bytes - problem.size_bytes[rows, current][:, None]
        change = problem.damage_bits - problem.damage_bits[:, rows, current][:, :, None]
        may = problem.allowed & (steps <= room) & (np.nan_to_num(change, nan=1.0) <= 0).all(0)
        gain = np.where(may, np.nan_to_num(change, nan=0.0).mean(0), 0.0)
        if gain.min() >= 0:
            return tuple(int(c) for c in current)
        part, column = np.unravel_index(int(gain.argmin()), gain.shape)
        current[part] = column


def solution_of(problem: Problem, goal: str, picks: Picks, bound: float) -> Solution:
    """Returns a plan that was found otherwise, such as by measuring, as a solution.

    Args:
        problem: Table and budget.
        goal: Name of the objective.
        picks: The plan.
        bound: By the table no plan has a smaller objective.

    Example:
        >>> found = solution_of(PROBLEM, "mean", PROBLEM.uniform, 0.575)
        >>> round(found.value, 3), round(found.gap, 3)
        (1.0, 0.425)
    """
    made = objective(goal, problem.uniform_bits, problem.reference)
    value = float(value_of(made, problem.damage_of(picks)))
    return _solution(problem, made, Found(picks, value, min(value, bound), 0, 0), picks)


def _solution(problem: Problem, goal: Objective, found: Found, picks: Picks) -> Solution:
    damage = problem.damage_of(picks)
    value = float(value_of(goal, damage))
    bound = min(value, found.bound)
    return Solution(
        objective=goal.name,
        picks=picks,
        schemes=tuple(problem.by_unit(picks).items()),
        size_bytes=problem.size_of(picks),
        budget_bytes=problem.budget_bytes,
        value=value,
        bound=bound,
        gap=max(0.0, (value - bound) / abs(value)) if value else 0.0,
        damage_bits=tuple(map(float, damage)),
        shares=tuple(map(float, damage / problem.uniform_bits)),
        nodes=found.nodes,
        has_choice=problem.has_choice,
    )


def frontier(
    problem: Problem, budgets_bytes: Sequence[int], goal: str = "worst-quarter", **how: object
) -> tuple[Solution, ...]:
    """Returns the best plan at each budget, from one table.

    Shares are of the uniform plan at that budget; ``damage_bits`` compares over budgets.

    Args:
        problem: Table and any budget.
        budgets_bytes: What units may take, in any order.
        goal: Name of an objective.
        how: As for :func:`solve`.

    Raises:
        BudgetError: If one is below the floor or above the ceiling.

    Example:
        >>> [round(sum(p.damage_bits), 3) for p in frontier(PROBLEM, [20000, 28288, 40000], "mean")]
        [0.29, 0.045, 0.005]
    """
    return tuple(
        solve(problem.with_budget(budget), goal, **how)  # type: ignore[arg-type]
        for budget in budgets_bytes
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MostToGain:
    """What knowing languages can gain at most, before anything is searched."""

    objective: str
    blind: float
    """The objective under the language-blind optimum."""
    bound: float
    """No plan within the limits has a smaller one, by linear relaxation."""
    free_bound: float
    """None has a smaller one, whatever others pay."""

    @property
    def share(self) -> float:
        """Largest fall of the objective against the blind optimum if nobody pays, as a share."""
        return max(0.0, 1 - self.bound / self.blind)

    @property
    def free_share(self) -> float:
        """The same if others may pay anything."""
        return max(0.0, 1 - self.free_bound / self.blind)


def most_to_gain(
    problem: Problem,
    goal: str = "worst-quarter",
    *,
    no_harm: Collection[str] = NO_HARM,
    spare: float = SPARE,
    blind: Picks | None = None,
    nodes: int = NODES,
) -> MostToGain:
    """Returns what the language-aware plan can gain on the blind one at most, by the table.

    Args:
        problem: Table and budget.
        goal: Name of an objective.
        no_harm: As for :func:`solve`.
        spare: As for :func:`solve`.
        blind: The language-blind plan, where it is known; searched when None.
        nodes: Of the search for the blind plan.

    Example:
        >>> most = most_to_gain(PROBLEM)
        >>> round(most.blind, 3), round(most.share, 3), round(most.free_share, 3)
        (0.761, 0.035, 0.191)
    """
    made = objective(goal, problem.uniform_bits, problem.reference)
    if blind is None:
        blind = solve(problem, "mean", nodes=nodes).picks
    value = float(value_of(made, problem.damage_of(blind)))
    within = relaxed_bound(problem, made, limits_of(problem, no_harm, blind=blind, spare=spare))
    free = relaxed_bound(problem, made, no_limits(problem))
    bound = value if within is None else min(value, within)
    return MostToGain(
        objective=goal,
        blind=value,
        bound=bound,
        # Whoever may pay anything can do what those who spare can; two programs differ by rounding.
        free_bound=bound if free is None else min(bound, free),
    )
