"""The other plans of the same bytes: what a recipe must be better than, each by a rule of its own.

=====================  =============================================================================
uniform                one scheme for all, the rest of the bytes spread evenly over depth
uniform, finer groups  the finest groups, paid for with bits, evenly over depth
ends protected         first and last block at many bits, all others alike: the origin's rule
three quarters …       the same of the block at three quarters: what the origin's bottleneck says
most varied …          the same of as many blocks as the ends, those of the largest variance of
                       weights: what the origin's variance says
blocks …               the same of blocks that are named; the origin's three where nobody names them
weights alone          least squared error of the weights: what can be known without any text
language-blind         least mean damage, by the same table: who knows damage but no languages
reference alone        least damage to the reference: who looks at one language
random …               random plans that fill the budget
=====================  =============================================================================

Beating those of blocks shows what the theory would have cost. Beating uniform shows that mixed
precision works. Only beating the language-blind plan shows
that languages matter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bitgap.errors import PlanError
from bitgap.protect.objectives import QUARTER
from bitgap.protect.problem import Picks, Problem
from bitgap.protect.solve import solve
from bitgap.quant.schemes import RoundToNearest, parse_scheme
from bitgap.records import Floats
from bitgap.stats.mask_design import bottleneck_block, original_set

UNIFORM = "uniform"
BLIND = "language-blind"
RAISED_BITS = 2
"""By how many bits a protected block is above the uniform plan, where there is such a scheme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparator:
    """A plan that a recipe is compared with."""

    name: str
    picks: Picks | None
    """None where there is none under this budget."""
    size_bytes: int = 0
    slack_bytes: int = 0
    """Bytes of the budget that it leaves."""
    reason: str = ""
    """Why there is none."""


def comparators(
    problem: Problem,
    *,
    squared_error: Floats | None = None,
    log_variance: Floats | None = None,
    ends: int = 1,
    triples: Sequence[Sequence[int]] = (),
    blind: Picks | None = None,
) -> tuple[Comparator, ...]:
    """Returns every comparator under a budget but the random ones.

    Args:
        problem: Table and budget.
        squared_error: Of the weights of each part under each scheme, (G x C); without it there is
            no plan by weights alone.
        log_variance: Of the weights of each block, (L); without it there is no plan by variance.
        ends: Blocks at either end that are protected in one more plan, beside the first and last.
        triples: Sets of blocks to protect, such as the origin's.
        blind: The language-blind plan, where it is known; searched when None.

    Raises:
        PlanError: If a block is not there.

    Example:
        >>> [one.name for one in comparators(PROBLEM, triples=[(0, 1)]) if one.picks]
        ['uniform', 'ends protected', 'three quarters protected', 'blocks 0, 1', \
'language-blind', 'reference alone']
    """
    found = [
        _made(problem, UNIFORM, problem.uniform),
        _made(problem, "uniform, finer groups", finer_groups(problem)),
    ]
    there = dict[frozenset[int], str]()
    for name, those in theory_blocks(problem, log_variance, ends, triples).items():
        same = there.setdefault(frozenset(those), name)
        found.append(
            protected(problem, those, name) if same == name
            else _made(problem, name, None, f"the same blocks as {same}")
        )  # fmt: skip
    if squared_error is not None:
        found.append(_made(problem, "weights alone", by_weights(problem, squared_error)))
    found.append(_made(problem, BLIND, blind or solve(problem, "mean").picks))
    found.append(_made(problem, "reference alone", solve(problem, "reference").picks))
    return tuple(found)


def theory_blocks(
    problem: Problem,
    log_variance: Floats | None = None,
    ends: int = 1,
    triples: Sequence[Sequence[int]] = (),
) -> dict[str, tuple[int, ...]]:
    """Returns the blocks that each part of the origin's theory would protect, by the plan's name.

    Boundary: first and last. Bottleneck: the one at three quarters of the depth. Variance: those
    whose weights vary most, as many as the ends. All of it: the origin's three, 0, .75 L and L−1,
    where no triple is named.

    Args: As for :func:`comparators`.

    Raises:
        PlanError: If a block is not there.

    Example:
        >>> theory_blocks(PROBLEM, np.array([0.0, 2.0, 1.0]))["most varied 2 protected"]
        (1, 2)
    """
    blocks = sorted({b for b in problem.blocks if b is not None})
    n = len(blocks)
    found = dict[str, tuple[int, ...]]()
    if n > 1:
        found["ends protected"] = (blocks[0], blocks[-1])
        found["three quarters protected"] = (blocks[bottleneck_block(n)],)
        if log_variance is not None:
            most = np.argsort(-log_variance, kind="stable")[: max(1, min(2, n - 1))]
            found[f"most varied {len(most)} protected"] = tuple(
                sorted(blocks[int(i)] for i in most)
            )
        if not triples and n > 3:
            triples = [[blocks[i] for i in original_set(n)]]
    for triple in triples:
        found[f"blocks {', '.join(map(str, triple))}"] = tuple(triple)
    if ends > 1:
        at_ends = tuple(sorted({*blocks[:ends], *blocks[-ends:]}))
        found[f"{ends} blocks at either end protected"] = at_ends
    return found


def _made(problem: Problem, name: str, picks: Picks | None, reason: str = "") -> Comparator:
    if picks is None:
        why = reason or "the schemes in the table make no other"
        return Comparator(name=name, picks=None, reason=f"{why}, in {problem.budget_bytes} bytes")
    size = problem.size_of(picks)
    return Comparator(
        name=name, picks=picks, size_bytes=size, slack_bytes=problem.budget_bytes - size
    )


def worst_set(problem: Problem, blind: Picks) -> tuple[str, ...]:
    """Returns the quarter of the languages that the language-blind plan hurts most, by the table.

    As shares of what the uniform plan does to them; rounded up.

    Args:
        problem: Made of the table of the text that is searched on.
        blind: The language-blind plan.

    Example:
        >>> from bitgap.protect.solve import solve
        >>> worst_set(PROBLEM, solve(PROBLEM, "mean").picks)
        ('he',)
    """
    shares = problem.damage_of(blind) / problem.uniform_bits
    n = math.ceil(QUARTER * len(problem.languages))
    worst = sorted(np.argsort(-shares, kind="stable").tolist()[:n])
    return tuple(problem.languages[int(i)] for i in worst)


def finer_groups(problem: Problem) -> Picks | None:
    """Returns the uniform plan with the finest groups, paid for with bits; None without a choice.

    Example:
        >>> finer_groups(PROBLEM) is None  # all schemes have groups of 64
        True
    """
    groups = {
        column: int(scheme.group)
        for column, name in enumerate(problem.schemes)
        if name != "fp" and isinstance(scheme := _scheme(name), RoundToNearest)
        and isinstance(scheme.group, int)
    }  # fmt: skip
    if len(set(groups.values())) < 2:
        return None
    finest = [c for c, group in groups.items() if group == min(groups.values())]
    plans = {problem.like(column) for column in finest}
    ranked = sorted(plans, key=problem.size_of)
    fitting = [p for p in ranked if problem.size_of(p) <= problem.budget_bytes]
    if not fitting:
        return None
    above = next((p for p in ranked if problem.size_of(p) > problem.budget_bytes), fitting[-1])
    picks = problem.raised(fitting[-1], above)
    return None if picks == problem.uniform else picks


def _scheme(name: str) -> object:
    try:
        return parse_scheme(name)
    except ValueError:
        return None  # a type that only its format has


def protected(problem: Problem, blocks: Collection[int], name: str) -> Comparator:
    """Returns the plan that keeps some blocks at many bits and all else alike, in the same bytes.

    Protected blocks have the scheme that is :data:`RAISED_BITS` above the uniform plan's, or the
    next lower one where the bytes do not reach; the others the largest uniform plan that is left,
    with the rest spread evenly.

    Args:
        problem: Table and budget.
        blocks: Numbers of the blocks.
        name: What the plan is called.

    Raises:
        PlanError: If a block is not there.

    Example:
        >>> PROBLEM.by_unit(protected(PROBLEM, (0, 2), "ends protected").picks)["2.mlp"]
        'rtn6-g64'
    """
    known = {b for b in problem.blocks if b is not None}
    if missing := sorted({*blocks} - known):
        raise PlanError(f"block {missing[0]} is to be protected; the model has {len(known)} blocks")
    inside = [g for g, block in enumerate(problem.blocks) if block in blocks]
    others = {g for g in range(len(problem.parts)) if g not in inside}
    ranked = sorted({problem.like(c) for c in range(len(problem.schemes))}, key=problem.size_of)
    sizes = [problem.bits_of(problem.size_of(plan)) for plan in ranked]
    most = problem.bits_of(problem.budget_bytes) + RAISED_BITS
    high = [plan for plan, bits in zip(ranked, sizes, strict=True) if bits <= most]
    for top in reversed(high):
        fitting = [
            plan
            for low in ranked
            if problem.size_of(low) < problem.size_of(top)
            and problem.size_of(plan := _mixed(low, top, inside)) <= problem.budget_bytes
        ]
        if fitting:
            low = max(fitting, key=problem.size_of)
            above = [_mixed(plan, top, inside) for plan in ranked]
            larger = [p for p in above if problem.size_of(p) > problem.budget_bytes]
            picks = problem.raised(low, larger[0], others) if larger else low
            return _made(problem, name, picks)
    return _made(problem, name, None, "too few bytes are left to protect them")


def _mixed(low: Picks, top: Picks, inside: Collection[int]) -> Picks:
    return tuple(t if g in inside else p for g, (p, t) in enumerate(zip(low, top, strict=True)))


def by_weights(problem: Problem, squared_error: Floats) -> Picks:
    """Returns the plan of least squared error of the weights, which asks no text.

    Args:
        problem: Table and budget.
        squared_error: ‖ΔW‖² of each part under each scheme, (G x C); only allowed ones are read.

    Raises:
        PlanError: If the array does not fit, or misses an allowed scheme.

    Example:
        >>> error = PROBLEM.n_weights[:, None] * 4.0 ** -np.array([2, 3, 4, 5, 6, 8])
        >>> PROBLEM.fits(by_weights(PROBLEM, error))
        True
    """
    if squared_error.shape != problem.allowed.shape:
        raise PlanError(
            f"squared errors of shape {squared_error.shape} were given for "
            f"{problem.allowed.shape} parts and schemes"
        )
    if not np.isfinite(squared_error[problem.allowed]).all():
        raise PlanError("the squared error of a scheme that may be chosen is missing")
    alone = replace(
        problem,
        languages=(problem.languages[problem.reference],),
        reference=0,
        damage_bits=np.where(problem.allowed, squared_error, np.nan)[None],
    )
    return solve(alone, "reference").picks
