"""The mixed-integer program, solved by HiGHS and held against the true rows.

One binary variable for every scheme that a part may have, exactly one of them 1 a part. The mean
of the k largest weighted damages is t + Σ z_λ / k with z_λ ≥ w_λ d_λ − t and z_λ ≥ 0 (Rockafellar &
Uryasev 2000), so that the whole is linear.

HiGHS works to absolute tolerances: it drops coefficients of 1e-9, takes objectives of 1e-7 for
nothing and says *optimal*, and accepts rows that are missed by 1e-6. So every row is scaled to
about 1, the objective to :data:`_SCALE`, sizes are counted in their greatest common divisor, and
the plan that comes back is held against the true rows: bytes in whole numbers, damage in float64.
A plan that misses one is cut off and the program solved again.

HiGHS takes no plan to begin from through scipy, and looks at every scheme of every part. So the
linear relaxation is solved first. Its value plus a scheme's reduced cost is a floor under every
plan that has the scheme (Dantzig, Fulkerson & Johnson 1954); where a plan is known that is below
it, the scheme is left out. Of a thousand some dozens stay, among them those of all better plans.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, vstack

from bitgap.errors import EngineError, PlanError
from bitgap.protect.objectives import Objective, value_of
from bitgap.protect.problem import Picks, Problem
from bitgap.protect.swaps import bettered, by_price, swaps
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
_NEAR = 0.02
"""Of swaps from a plan, schemes are tried that a plan so much worse could have."""
_ROUNDING = 1e-6
"""By how much of it HiGHS may be wrong about an objective."""
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
        return bool((np.append(damage_bits, damage_bits.mean()) <= self.with_slack_bits).all())

    @property
    def with_slack_bits(self) -> Floats:
        """Limits of languages, then of the mean, (A + 1), with room for rounding.

        Damage below rounding is negative as often as not, and so are limits that were made of it.
        """
        limits = np.append(self.language_bits, self.mean_bits)
        return limits + SLACK * np.abs(limits)


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
    known: Sequence[Picks] = (),
    nodes: int = NODES,
    gap: float = GAP,
) -> Found | None:
    """Returns the best plan within limits; None where no plan keeps them.

    Args:
        problem: Table and budget.
        goal: What is made small.
        limits: What must not be exceeded.
        without: Plans that are not wanted.
        known: Plans that may be good; the better they are, the faster it is.
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
    return Program(problem, goal, limits).best(without=without, known=known, nodes=nodes, gap=gap)


class Program:
    """One objective under one budget and limits, of which plan after plan is asked."""

    def __init__(self, problem: Problem, goal: Objective, limits: Limits) -> None:
        self.problem, self.goal, self.limits = problem, goal, limits
        self._cap = _CAP * float(value_of(goal, problem.damage_of(problem.uniform)))
        self._hopeful = _hopeful(problem, goal, limits, self._cap)

    def best(
        self,
        *,
        without: Sequence[Picks] = (),
        known: Sequence[Picks] = (),
        nodes: int = NODES,
        gap: float = GAP,
    ) -> Found | None:
        """Returns the best plan within limits. As :func:`search`."""
        found = None
        if self._hopeful.any(1).all():
            found = self._within.best(without, known, nodes, gap)
        if (found is None or found.value > self._cap) and not (
            self._hopeful == self.problem.allowed
        ).all():
            found = self._whole.best(without, known, nodes, gap)
        return found

    def near(self, picks: Picks, most: int) -> list[Picks]:
        """Returns the best plans within limits that are one or two changes away."""
        value = float(value_of(self.goal, self.problem.damage_of(picks)))
        searcher = self._within if value <= self._cap else self._whole
        cells = searcher.cells_below(value * (1 + _NEAR))
        found = swaps(self.problem, self.goal, picks, most, cells=cells,
                      limits_bits=self.limits.with_slack_bits)  # fmt: skip
        return [plan for _, plan in found]

    @cached_property
    def _within(self) -> _Searcher:
        return _Searcher(self.problem, self._hopeful, self.goal, self.limits)

    @cached_property
    def _whole(self) -> _Searcher:
        return _Searcher(self.problem, self.problem.allowed, self.goal, self.limits)


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
    most = limits.with_slack_bits[:, None, None]
    within = (at_least <= most[:-1]).all(0) & (at_least.mean(0) <= most[-1])
    weighted = np.maximum(goal.weights[:, None, None] * at_least, 0.0)
    if goal.linear:
        bound = weighted.sum(0) / min(goal.k, np.count_nonzero(goal.weights))
    else:
        bound = weighted.max(0) / goal.k
    return problem.allowed & within & (bound <= cap + SLACK * abs(cap))


class _Searcher:
    """Searches among some of the schemes; the linear relaxation is solved once."""

    def __init__(self, problem: Problem, allowed: Bools, goal: Objective, limits: Limits) -> None:
        self.problem, self.goal, self.limits = problem, goal, limits
        self.within = replace(problem, allowed=allowed)
        self.rows = _Rows(self.within, goal, limits)

    @cached_property
    def relaxed(self) -> _Relaxed | None:
        """The relaxation; None where not even parts of schemes keep the limits."""
        return self.rows.relaxed()

    def cells_below(self, value: float) -> Bools:
        """Returns the schemes that a plan of so small an objective can have, (G x C)."""
        if self.relaxed is None:
            return self.within.allowed
        return self.within.allowed & (self.relaxed.floor <= value + _ROUNDING * abs(value))

    def best(
        self, without: Sequence[Picks], known: Sequence[Picks], nodes: int, gap: float
    ) -> Found | None:
        if self.relaxed is None:
            return None
        to_beat, value = self._to_beat(without, known)
        cells = self.cells_below(value)
        rows = self.rows
        if not (cells == self.within.allowed).all():
            rows = _Rows(replace(self.within, allowed=cells), self.goal, self.limits)
        return self._solved(rows, cells, without, to_beat, nodes, gap)

    def _to_beat(
        self, without: Sequence[Picks], known: Sequence[Picks]
    ) -> tuple[Picks | None, float]:
        """Returns the best plan that is at hand, and its objective; infinite where there is none.

        A plan that is bettered by swaps lets more schemes be left out, which is worth more than the
        swaps take; but where plans are unwanted they are near the best, and so are those at hand.
        """
        banned = {*without}
        started = [*known]
        if self.goal.linear and not without:
            cost = np.einsum("a,agc->gc", self.goal.weights, self.problem.damage_bits)
            started.append(by_price(self.within, cost))
        best, value = None, np.inf
        for picks in dict.fromkeys(started):
            if picks not in banned and self._kept(picks):
                own = float(value_of(self.goal, self.problem.damage_of(picks)))
                best, value = (picks, own) if own < value else (best, value)
        if best is None or without:
            return best, value
        cells = self.cells_below(value)
        better = bettered(self.problem, self.goal, best, cells=cells,
                          limits_bits=self.limits.with_slack_bits)  # fmt: skip
        if self._kept(better):
            best = better
        return best, float(value_of(self.goal, self.problem.damage_of(best)))

    def _kept(self, picks: Picks) -> bool:
        return self.problem.fits(picks) and self.limits.kept_by(self.problem.damage_of(picks))

    def _solved(
        self,
        rows: _Rows,
        cells: Bools,
        without: Sequence[Picks],
        to_beat: Picks | None,
        nodes: int,
        gap: float,
    ) -> Found | None:
        parts = np.arange(len(self.problem.parts))
        banned = [p for p in without if cells[parts, np.array(p)].all()]
        cuts = 0
        while cuts <= _CUTS:
            result = rows.solve(banned, nodes=nodes, gap=gap)
            bound = -np.inf if result.mip_dual_bound is None else result.mip_dual_bound / _SCALE
            n_nodes = int(result.mip_node_count or 0)
            if result.x is None:
                if to_beat is not None:  # nothing better, but for rounding, or nothing in time
                    return self._found(to_beat, bound, n_nodes, cuts)
                if result.status == 2:
                    return None
                raise PlanError(
                    f"no plan was found within {nodes} nodes ({result.message}); allow more "
                    f"nodes, or fewer schemes"
                )
            picks = rows.picks_of(result.x)
            if self._kept(picks):
                found = self._found(picks, bound, n_nodes, cuts)
                if to_beat is None:
                    return found
                other = self._found(to_beat, bound, n_nodes, cuts)
                return other if other.value < found.value else found
            banned.append(picks)
            cuts += 1
        raise EngineError(
            f"HiGHS returned {cuts} plans in a row that its rows allow and the true ones do not; "
            f"please report it with the table"
        )

    def _found(self, picks: Picks, bound: float, nodes: int, cuts: int) -> Found:
        value = float(value_of(self.goal, self.problem.damage_of(picks)))
        assert self.relaxed is not None
        # HiGHS bounds its own, rounded problem; a plan's value can be below by rounding.
        return Found(picks, value, min(value, max(bound, self.relaxed.value)), nodes, cuts)


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
    relaxed = _Rows(replace(problem, allowed=kept), goal, limits).relaxed()
    return None if relaxed is None else relaxed.value


@dataclass(frozen=True, slots=True, eq=False)
class _Relaxed:
    """What parts of schemes would reach."""

    value: float
    """Below every plan's objective."""
    floor: Floats
    """Below the objective of every plan that has a scheme, (G x C)."""


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
        rows = [*self.damage, self.damage.mean(0)]
        for damage, limit in zip(rows, [*limits.language_bits, limits.mean_bits], strict=True):
            if np.isfinite(limit):
                # A side near 1, whatever its sign: HiGHS' tolerance is an absolute one.
                size = abs(limit) or float(np.abs(damage).max()) or 1.0
                found.append(LinearConstraint(self._row(damage / size), -np.inf, limit / size))
        return found

    def _row(self, values: Floats) -> Floats:
        return np.concatenate([values, np.zeros(self.width - self.n)])[None]

    def relaxed(self) -> _Relaxed | None:
        """Returns what parts of schemes would reach; None where not even these keep the limits.

        Raises:
            EngineError: If HiGHS does not solve it.
        """
        equal, *below = self.fixed
        # Sides above 1 follow from each part's schemes adding up to 1. A second bound would share
        # the reduced cost with the first.
        lowest, _ = self._bounds()
        with _silent():
            result = linprog(
                self.cost,
                A_ub=vstack([csr_array(one.A) for one in below]) if below else None,
                b_ub=np.concatenate([np.atleast_1d(self._ub(one)) for one in below])
                if below else None,
                A_eq=equal.A,
                b_eq=np.ones(len(self.problem.parts)),
                bounds=np.column_stack([lowest, np.full(self.width, np.inf)]),
                method="highs",
            )  # fmt: skip
        if result.status == 2:
            return None
        if result.x is None:
            raise EngineError(
                f"HiGHS did not solve a linear relaxation ({result.message}); please report it "
                f"with the table"
            )
        floor = np.full(self.problem.allowed.shape, np.inf)
        reduced = np.maximum(result.lower.marginals[: self.n], 0.0)
        floor[self.part, self.column] = (result.fun + reduced) / _SCALE
        return _Relaxed(float(result.fun) / _SCALE, floor)

    @staticmethod
    def _ub(one: LinearConstraint) -> Floats:
        return np.broadcast_to(np.asarray(one.ub, dtype=np.float64), one.A.shape[:1])

    def _bounds(self) -> tuple[Floats, Floats]:
        tail = self.width - self.n
        first = np.full(min(tail, 1), -np.inf)  # t may be anything, z is 0 or more
        lowest = np.concatenate([np.zeros(self.n), first, np.zeros(max(tail - 1, 0))])
        return lowest, np.concatenate([np.ones(self.n), np.full(tail, np.inf)])

    def solve(self, banned: Sequence[Picks], *, nodes: int, gap: float):
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
        with _silent():
            return milp(
                self.cost,
                integrality=np.concatenate([np.ones(self.n), np.zeros(self.width - self.n)]),
                bounds=Bounds(*self._bounds()),
                constraints=constraints,
                options={"node_limit": nodes, "mip_rel_gap": gap},
            )

    def picks_of(self, x: Floats) -> Picks:
        """Returns each part's scheme: the cell that is nearest to 1."""
        cells = np.full(self.problem.allowed.shape, -1.0)
        cells[self.part, self.column] = x[: self.n]
        return tuple(int(c) for c in cells.argmax(1))
