"""Small problems to solve, with the truth found by trying every plan."""

from __future__ import annotations

from itertools import product

import numpy as np

from bitgap.protect.objectives import Objective, value_of
from bitgap.protect.problem import Picks, Problem
from bitgap.protect.program import Limits
from bitgap.records import Floats


def a_problem(
    seed: int,
    *,
    n_languages: int = 4,
    n_parts: int = 4,
    n_schemes: int = 3,
    whole: bool = False,
    scale: float = 1.0,
    forbidden: float = 0.0,
) -> Problem:
    """Returns a random problem; whole sizes of a few bytes, so that many plans fit exactly."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 6, n_parts)
    bits = np.arange(2, 2 + n_schemes)
    size = weights[:, None] * (bits if whole else bits * 1000 + rng.integers(0, 50, n_schemes))
    base = rng.gamma(1.0, 1.0, (n_languages, n_parts)) * rng.gamma(1.0, 1.0, n_parts)
    damage = base[:, :, None] * 4.0**-bits * rng.gamma(20, 1 / 20, (n_languages, 1, n_schemes))
    allowed = rng.random((n_parts, n_schemes)) >= forbidden
    allowed[np.arange(n_parts), rng.integers(0, n_schemes, n_parts)] = True
    least = np.where(allowed, size, size.max()).min(1).sum()
    most = np.where(allowed, size, 0).max(1).sum()
    return Problem(
        languages=tuple(f"l{i}" for i in range(n_languages)),
        reference=0,
        parts=tuple((f"{i}.u",) for i in range(n_parts)),
        kinds=("u",) * n_parts,
        blocks=tuple(range(n_parts)),
        schemes=tuple(f"rtn{b}-g64" for b in bits),
        damage_bits=np.where(allowed, scale * damage, np.nan),
        size_bytes=np.where(allowed, size, 0),
        allowed=allowed,
        n_weights=8 * weights,
        budget_bytes=int(rng.integers(least, most + 1)),
    )


def every_plan(problem: Problem) -> list[Picks]:
    """Returns all plans that fit."""
    may = [np.flatnonzero(row).tolist() for row in problem.allowed]
    return [picks for picks in product(*may) if problem.fits(picks)]


def by_trying(problem: Problem, goal: Objective, limits: Limits) -> list[tuple[float, Picks]]:
    """Returns value and plan of all plans within limits, the best first."""
    plans = every_plan(problem)
    damage = [problem.damage_of(p) for p in plans]
    return sorted(
        (float(value_of(goal, d)), p)
        for p, d in zip(plans, damage, strict=True)
        if limits.kept_by(d)
    )


def by_dynamic_programming(problem: Problem, cost: Floats) -> float:
    """Returns the least sum of a cost, (G x C), within the budget, byte by byte."""
    best = np.zeros(problem.budget_bytes + 1)
    for g in range(len(problem.parts)):
        new = np.full_like(best, np.inf)
        for c in np.flatnonzero(problem.allowed[g]):
            size = int(problem.size_bytes[g, c])
            if size <= problem.budget_bytes:
                moved = np.full_like(best, np.inf)
                moved[size:] = best[: len(best) - size] + cost[g, c]
                new = np.minimum(new, moved)
        best = new
    return float(best[-1])
