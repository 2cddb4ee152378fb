"""The mixed-integer program, solved by HiGHS and held against the true rows.

One binary variable for every scheme that a part may have, exactly one of them 1 a part. The mean
of the k largest weighted damages is t + Σ z_λ / k with z_λ ≥ w_λ d_λ − t and z_λ ≥ 0 (Rockafellar &
Uryasev 2000), so that the whole is linear.

HiGHS works to absolute tolerances: it drops coefficients of 1e-9, takes objectives of 1e-7 for
nothing and says *optimal*, and accepts rows that are missed by 1e-6. So every row is scaled to
about 1, the objective to :data:`_SCALE`, sizes are counted in their greatest common divisor, and
the plan that comes back is held against the true rows: bytes in whole numbers, damage in float64.
A plan that misses one is cut off and the program solved again.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from bitgap.errors import EngineError, PlanError
from bitgap.protect.objectives import Objective, value_of
from bitgap.protect.problem import Picks, Problem
from bitgap.records import Bools, Floats

NODES = 20_000
"""Nodes after which a search stops, with what it has and its bound. Not seconds, so that the same
problem has the same plan on every machine."""
GAP = 1e-4
"""Optimality gap at which a search stops."""
SLACK = 1e-9
"""By how much of itself a limit may be missed: rounding only."""
_SCALE = 1e3
_CUTS = 50
_CAP = 2.0
"""Times the uniform plan's objective, over which nothing is looked for at first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan must not do, in bits per reference character; infinite where it may."""

    language_bits: Floats
    """Largest damage of each language, (A)."""
    mean_bits: float
    """Largest mean over languages."""

    def kept_by(self, damage_bits: Floats) -> bool:
        """Returns whether damage, (A), is within them but for rounding."""
        within = damage_bits <= self.language_bits * (1 + SLACK)
        return bool(within.all()) and float(damage_bits.mean()) <= self.mean_bits * (1 + SLACK)


def no_limits(problem: Problem) -> Limits:
    """Returns limits that allow everything.

    Example:
        >>> no_limits(PROBLEM).mean_bits
        inf
    """
    return Limits(np.full(len(problem.languages), np.inf), np.inf)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to."""

    picks: Picks
    value: float
    """The objective of the plan."""
    bound: float
    """No plan has a smaller one (dual bound)."""
    nodes: int
    """Nodes of the search tree."""
    cuts: int
    """Plans that HiGHS gave and the true rows refused."""

    @property
    def gap(self) -> float:
        """How much smaller the objective of the best plan might be, as a share of it."""
        return max(0.0, (self.value - self.bound) / abs(self.value)) if self.value else 0.0


def search(
    problem: Problem,
    goal: Objective,
    limits: Limits,
    *,
    without: Sequence[Picks] = (),
    nodes: int = NODES,
    gap: float = GAP,
) -> Found | None:
    """Returns the best plan within limits; None where no plan keeps them.

    Args:
        problem: Table and budget.
        goal: What is made small.
        limits: What must not be exceeded.
        without: Plans that are not wanted.
        nodes: Nodes of the tree after which the best so far is returned.
        gap: Optimality gap at which it stops.

    Raises:
        PlanError: If nothing was found within the nodes, though there may be something.
        EngineError: If HiGHS keeps returning plans that the true rows refuse.

    Example:
        >>> from bitgap.protect.objectives import objective
        >>> goal = objective("mean", PROBLEM.uniform_bits, PROBLEM.reference)
        >>> found = search(PROBLEM, goal, no_limits(PROBLEM))
        >>> PROBLEM.by_unit(found.picks)["0.attention"], round(found.value, 3), found.gap < 1e-4
        ('rtn5-g64', 0.575, True)
    """
    cap = _CAP * float(value_of(goal, problem.damage_of(problem.uniform)))
    kept = _hopeful(problem, goal, limits, cap)
    found = None
    if kept.any(1).all():
        within = replace(problem, allowed=kept)
        found = _search(problem, within, goal, limits, without, nodes, gap)
    if (found is None or found.value > cap) and not (kept == problem.allowed).all():
        found = _search(problem, problem, goal, limits, without, nodes, gap)
    return found


def _hopeful(problem: Problem, goal: Objective, limits: Limits, cap: float) -> Bools:
    """Returns the schemes that a plan within limits and under a cap can have, (G x C).

    A scheme that alone breaks a limit or the cap, whatever all other parts have, is in no such
    plan. Without them the rows' largest entries are near 1 too, where one part of two bits may do a
    thousand times what the uniform plan does, and HiGHS takes x within 1e-6 for whole.
    """
    damage = np.where(problem.allowed, problem.damage_bits, np.inf)
    least = damage.min(2)
    # Of each language: a part with this scheme, all others at their least.
    at_least = np.where(problem.allowed, damage - least[:, :, None], 0.0)
    at_least += least.sum(1)[:, None, None]
    within = (at_least <= limits.language_bits[:, None, None] * (1 + SLACK)).all(0)
    within &= at_least.mean(0) <= limits.mean_bits * (1 + SLACK)
    weighted = np.maximum(goal.weights[:, None, None] * at_least, 0.0)
    if goal.linear:
        bound = weighted.sum(0) / min(goal.k, np.count_nonzero(goal.weights))
    else:
        bound = weighted.max(0) / goal.k
    return problem.allowed & within & (bound <= cap * (1 + SLACK))


def _search(
    problem: Problem,
    within: Problem,
    goal: Objective,
    limits: Limits,
    without: Sequence[Picks],
    nodes: int,
    gap: float,
) -> Found | None:
    rows = _Rows(within, goal, limits)
    rows_of = np.arange(len(within.parts))
    banned = [p for p in without if within.allowed[rows_of, np.array(p)].all()]
    cuts = 0
    while cuts <= _CUTS:
        result = rows.solve(banned, whole=True, nodes=nodes, gap=gap)
        if result.status == 2:
            return None
        if result.x is None:
            raise PlanError(
                f"no plan was found within {nodes} nodes ({result.message}); allow more nodes, or "
                f"fewer schemes"
            )
        picks = rows.picks_of(result.x)
        damage = problem.damage_of(picks)
        if problem.fits(picks) and limits.kept_by(damage):
            value = float(value_of(goal, damage))
            # HiGHS bounds its own, rounded problem; a plan's value can be below by rounding.
            bound = min(value, float(result.mip_dual_bound) / _SCALE)
            return Found(picks, value, bound, int(result.mip_node_count), cuts)
        banned.append(picks)
        cuts += 1
    raise EngineError(
        f"HiGHS returned {cuts} plans in a row that its rows allow and the true ones do not; "
        f"please report it with the table"
    )


def relaxed_bound(problem: Problem, goal: Objective, limits: Limits) -> float | None:
    """Returns a bound below every plan's objective: what parts of schemes would reach.

    None where not even parts of schemes keep the limits.

    Example:
        >>> from bitgap.protect.objectives import objective
        >>> goal = objective("mean", PROBLEM.uniform_bits, PROBLEM.reference)
        >>> round(relaxed_bound(PROBLEM, goal, no_limits(PROBLEM)), 3)
        0.575
    """
    # A scheme that no plan within limits can have only loosens the bound.
    cap = float(value_of(goal, problem.damage_of(problem.uniform)))
    kept = _hopeful(problem, goal, limits, cap if limits.kept_by(problem.uniform_bits) else np.inf)
    if not kept.any(1).all():
        return None
    rows = _Rows(replace(problem, allowed=kept), goal, limits)
    result = rows.solve((), whole=False, nodes=0, gap=0.0)
    return None if result.x is None else float(result.fun) / _SCALE


@contextmanager
def _silent() -> Generator[None]:
    """Keeps what HiGHS prints of itself from standard output, where a command's data goes.

    It prints a line where it repairs a solution, whatever ``disp`` says, through C's own buffer
    (``findings/scipy-milp-prints.sh``).
    """
    try:
        flush, kept = ctypes.CDLL(None).fflush, os.dup(1)
    except (OSError, TypeError):  # no standard output, or no C library to ask
        yield
        return
    flush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


class _Rows:
    """The program in the form that HiGHS takes: x of every allowed cell, then t, then z."""

    def __init__(self, problem: Problem, goal: Objective, limits: Limits) -> None:
        self.problem, self.goal = problem, goal
        self.part, self.column = np.nonzero(problem.allowed)
        self.n = len(self.part)
        self.damage = problem.damage_bits[:, self.part, self.column]  # (A x n)
        tail = 0 if goal.linear else 1 + len(problem.languages)
        self.width = self.n + tail
        ones = csr_array(
            (np.ones(self.n), (self.part, np.arange(self.n))),
            shape=(len(problem.parts), self.width),
        )
        self.fixed = [LinearConstraint(ones, 1, 1), *self._size(), *self._limits(limits)]
        weighted = goal.weights[:, None] * self.damage
        if goal.linear:
            n_counted = min(goal.k, np.count_nonzero(goal.weights))
            self.cost = _SCALE * weighted.sum(0) / n_counted
        else:
            n_languages = len(problem.languages)
            above = np.hstack([weighted, -np.ones((n_languages, 1)), -np.eye(n_languages)])
            self.fixed.append(LinearConstraint(above, -np.inf, 0))
            tail_cost = np.concatenate([[1.0], np.full(n_languages, 1 / goal.k)])
            self.cost = _SCALE * np.concatenate([np.zeros(self.n), tail_cost])

    def _size(self) -> list[LinearConstraint]:
        # Beyond what the cheapest plan takes, in the greatest common divisor of all steps.
        sizes = self.problem.size_bytes[self.part, self.column]
        least = self.problem.size_bytes[np.arange(len(self.problem.parts)), self.problem.cheapest]
        steps = sizes - least[self.part]
        unit = int(np.gcd.reduce(steps))
        room = self.problem.budget_bytes - int(least.sum())
        if unit == 0:
            return []
        most = max(1, room // unit)
        return [LinearConstraint(self._row(steps / unit / most), -np.inf, room // unit / most)]

    def _limits(self, limits: Limits) -> list[LinearConstraint]:
        found = list[LinearConstraint]()
        for damage, limit in zip(self.damage, limits.language_bits, strict=True):
            if np.isfinite(limit):
                found.append(LinearConstraint(self._row(damage / limit), -np.inf, 1))
        if np.isfinite(limits.mean_bits):
            row = self._row(self.damage.mean(0) / limits.mean_bits)
            found.append(LinearConstraint(row, -np.inf, 1))
        return found

    def _row(self, values: Floats) -> Floats:
        return np.concatenate([values, np.zeros(self.width - self.n)])[None]

    def solve(self, banned: Sequence[Picks], *, whole: bool, nodes: int, gap: float):
        constraints = list(self.fixed)
        if banned:
            cell = {
                (g, c): i
                for i, (g, c) in enumerate(
                    zip(self.part.tolist(), self.column.tolist(), strict=True)
                )
            }
            rows = [
                csr_array(
                    (np.ones(len(picks)), (np.zeros(len(picks), dtype=int),
                                           [cell[g, c] for g, c in enumerate(picks)])),
                    shape=(1, self.width),
                )
                for picks in banned
            ]  # fmt: skip
            most = len(self.problem.parts) - 1
            constraints.append(LinearConstraint(vstack(rows), -np.inf, most))
        tail = self.width - self.n
        lowest = np.concatenate([np.zeros(self.n), np.full(min(tail, 1), -np.inf)])
        lowest = np.concatenate([lowest, np.zeros(max(tail - 1, 0))])
        highest = np.concatenate([np.ones(self.n), np.full(tail, np.inf)])
        with _silent():
            return milp(
                self.cost,
                integrality=np.concatenate([np.full(self.n, int(whole)), np.zeros(tail)]),
                bounds=Bounds(lowest, highest),
                constraints=constraints,
                options={"node_limit": nodes, "mip_rel_gap": gap} if whole else {},
            )

    def picks_of(self, x: Floats) -> Picks:
        """Returns each part's scheme: the cell that is nearest to 1."""
        cells = np.full(self.problem.allowed.shape, -1.0)
        cells[self.part, self.column] = x[: self.n]
        return tuple(int(c) for c in cells.argmax(1))
