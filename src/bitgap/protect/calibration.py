"""Whether a table may be trusted, and what is done on true damage.

A table says that damage is a sum over units. Some forty random plans of the budget are measured
exactly, and the table is accepted only if it ranks and sizes them rightly in every language. Below
3 bits it often does not; then the search goes on by true damage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from bitgap.errors import UsageError
from bitgap.protect.objectives import objective, value_of
from bitgap.protect.problem import Picks, Problem
from bitgap.protect.program import Limits
from bitgap.protect.solve import NO_HARM, SPARE, Solution, beside_blind
from bitgap.protect.swaps import swaps
from bitgap.records import Floats

AT_ONCE = 8
"""Plans one or two changes away that are measured together."""
MOST_MEASURED = 200
"""Plans that one walk measures at most."""
PLANS = 40
"""Random plans that a table is held against."""
FEWEST_PLANS = 10
"""Under which nothing is said: ranks of fewer agree by chance."""
RANK = 0.8
"""Smallest rank correlation with measured damage, in every language."""
SIZE = (0.8, 1.25)
"""Where the sum over units may lie, as a share of measured damage: the median over plans."""

TrueDamage = Callable[[Sequence[Picks]], Floats]
"""Measures plans: damage in bits per reference character, (P x A)."""
Better = Callable[[Picks, Picks, str, int], bool]
"""Whether a plan is shown to be better than another by an objective, among so many that are tried:
:meth:`bitgap.protect.shown.Shown.better`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A table held against measured plans."""

    languages: tuple[str, ...]
    n_plans: int
    rank: tuple[float | None, ...]
    """Spearman's correlation of predicted and measured damage over plans, of each language."""
    size: tuple[float | None, ...]
    """Predicted over measured damage, the median over plans."""
    trusted: bool
    reasons: tuple[str, ...]
    """Why not, one a language; empty where it is trusted."""


def calibrate(
    languages: Sequence[str], predicted_bits: Floats, measured_bits: Floats
) -> Calibration:
    """Returns whether a table predicts the damage of plans that were measured.

    Args:
        languages: Names, (A).
        predicted_bits: Sums over units, (P x A).
        measured_bits: Damage of the same plans on the same text, (P x A).

    Raises:
        UsageError: If the arrays do not fit, or plans are too few to say anything.

    Example:
        >>> true = np.linspace(1, 2, 12)[:, None] * np.array([1.0, 3.0])
        >>> calibrate(["en", "he"], 0.9 * true, true).trusted
        True
        >>> calibrate(["en", "he"], 0.5 * true, true).reasons[0]
        'en: the sum over units is 0.50 of what is measured, outside 0.8 to 1.25'
    """
    shape = (len(predicted_bits), len(languages))
    if predicted_bits.shape != shape or measured_bits.shape != shape:
        raise UsageError(
            f"predictions of shape {predicted_bits.shape} were to be held against measurements of "
            f"shape {measured_bits.shape} in {len(languages)} languages; give both of all plans"
        )
    if shape[0] < FEWEST_PLANS:
        raise UsageError(
            f"{shape[0]} plans were measured; a table is held against {FEWEST_PLANS} or more"
        )
    ranks, sizes, reasons = list[float | None](), list[float | None](), list[str]()
    for name, said, seen in zip(languages, predicted_bits.T, measured_bits.T, strict=True):
        rank, size = rank_correlation(said, seen), _ratio(said, seen)
        ranks.append(rank)
        sizes.append(size)
        why = _why_not(rank, size)
        if why:
            reasons.append(f"{name}: {why}")
    return Calibration(
        languages=tuple(languages),
        n_plans=shape[0],
        rank=tuple(ranks),
        size=tuple(sizes),
        trusted=not reasons,
        reasons=tuple(reasons),
    )


def rank_correlation(one: Floats, other: Floats) -> float | None:
    """Returns Spearman's correlation; None where either is the same throughout.

    Args:
        one: Values, (N).
        other: Values of the same things, (N).

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([3.0, 1.0, 2.0]))
        -0.5
        >>> rank_correlation(np.ones(3), np.arange(3.0)) is None
        True
    """
    from scipy.stats import rankdata  # half a second, which who audits would pay too

    a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (one, other))
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm > 0 else None


def _ratio(predicted: Floats, measured: Floats) -> float | None:
    return float(np.median(predicted / measured)) if (measured > 0).all() else None


def _why_not(rank: float | None, size: float | None) -> str:
    if rank is None or size is None:
        return "plans do not differ, or do no damage, so that nothing can be compared"
    if rank < RANK:
        return f"rank correlation with measured damage is {rank:.2f}, below {RANK}"
    if not SIZE[0] <= size <= SIZE[1]:
        return (
            f"the sum over units is {size:.2f} of what is measured, outside {SIZE[0]} to {SIZE[1]}"
        )
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """What a search on true damage came to."""

    picks: Picks
    value: float
    """The objective, measured, as a share of the uniform plan's."""
    started: float
    """The same of the best plan that it began with."""
    measured: int
    """Plans that were measured."""
    steps: int
    """Swaps that led there."""


def best_measured(
    problem: Problem,
    plans: Sequence[Solution],
    true_damage: TrueDamage,
    goal: str = "worst-quarter",
    no_harm: Collection[str] = NO_HARM,
    *,
    blind: Picks | None = None,
    spare: float | None = SPARE,
    better: Better | None = None,
) -> Solution:
    """Returns the plan that is best when all are measured; the table's best if none keeps limits.

    With ``better`` the table's best stands unless another is shown to be better, so that noise does
    not choose among plans that are as good as alike.

    Args:
        problem: Table and budget.
        plans: The best by the table, the best first.
        true_damage: Measures plans.
        goal: Name of an objective.
        no_harm: Who must not be worse off than under the uniform plan, as measured.
        blind: The language-blind plan; nothing is compared with it when None.
        spare: What a language may pay against it, as measured, as a share; anything when None.
        better: Says whether a plan is shown to be better than another; what is measured is taken
            for true when None.

    Example:
        >>> from bitgap.protect.solve import best_plans
        >>> plans = best_plans(PROBLEM, n=3)
        >>> truth = lambda plans: np.array([PROBLEM.damage_of(p) for p in plans])
        >>> best_measured(PROBLEM, plans, truth) == plans[0]
        True
    """
    judged = _Judged(problem, true_damage, goal, no_harm, blind, spare)
    values = judged.values([plan.picks for plan in plans])
    if not np.isfinite(values).any():
        return plans[0]
    if better is None:
        return plans[int(values.argmin())]
    for i in map(int, values.argsort(kind="stable")):
        if i == 0 or not np.isfinite(values[i]):
            break
        if better(plans[i].picks, plans[0].picks, goal, len(plans) - 1):
            return plans[i]
    return plans[0]


def refine(
    problem: Problem,
    starts: Sequence[Picks],
    true_damage: TrueDamage,
    goal: str = "worst-quarter",
    *,
    no_harm: Collection[str] = NO_HARM,
    blind: Picks | None = None,
    spare: float | None = SPARE,
    better: Better | None = None,
    at_once: int = AT_ONCE,
    most: int = MOST_MEASURED,
) -> Refined:
    """Returns a plan bettered by swaps on true damage.

    A swap changes the schemes of two parts, or of one, and stays within the budget. Those that the
    table likes best are measured some at a time; the best of them is taken if it betters the
    objective and keeps the limits, and where none of a batch does, the next are tried. The table
    only orders: a table that ranks badly costs measurements and nothing else. Where no swap is
    better, the walk begins again at the next best start.

    Args:
        problem: Table and budget.
        starts: Where to begin, such as the ten best plans by the table.
        true_damage: Measures plans.
        goal: Name of an objective.
        no_harm: Who must not be worse off than under the uniform plan, as measured.
        blind: The language-blind plan; nothing is compared with it when None.
        spare: What a language may pay against it, as measured, as a share; anything when None.
        better: Says whether a swap is shown to better a plan, and one walk's end another's; what is
            measured is taken for true when None.
        at_once: Plans measured together.
        most: Plans measured at most; the uniform plan and the starts are among them.

    Raises:
        UsageError: If there is no start, or no more may be measured than the starts take.

    Example:
        >>> truth = lambda plans: np.array([PROBLEM.damage_of(p) for p in plans])
        >>> better = refine(PROBLEM, [PROBLEM.uniform], truth, "mean", most=60)
        >>> better.value < better.started, PROBLEM.fits(better.picks)
        (True, True)
    """
    begin = tuple(dict.fromkeys(starts))
    if not begin or most < 1 + len(begin):
        raise UsageError(
            f"{len(begin)} plans to start from and the uniform one were to be measured, and {most} "
            f"measurements allowed; allow more, or give fewer plans"
        )
    judged = _Judged(problem, true_damage, goal, no_harm, blind, spare)

    def taken(plan: Picks, value: float, walk: _Walk, among: int) -> bool:
        # From a plan that breaks the limits every one that keeps them is a step.
        if value >= walk.value or better is None or not np.isfinite(walk.value):
            return value < walk.value
        return better(plan, walk.picks, goal, among)

    values = [float(value) for value in judged.values(begin)]
    unlimited = judged.last
    # Of starts that all break the limits, the one that breaks them at the least objective.
    order = sorted(range(len(begin)), key=lambda i: (values[i], unlimited[i]))
    found = _Walk(begin[order[0]], values[order[0]], 0)
    started, measured, tried = unlimited[order[0]], 1 + len(begin), {*begin}
    for i in order:
        walk = _Walk(begin[i], values[i], 0)
        while measured < most:
            # So many that enough are left without those that were tried.
            near = swaps(problem, judged.by_table, walk.picks, most - measured + len(tried))
            moves = [plan for _, plan in near if plan not in tried]
            onward = None
            while moves and onward is None and measured < most:
                batch, moves = moves[:at_once], moves[at_once:]
                batch = batch[: most - measured]
                tried.update(batch)
                seen = judged.values(batch)
                measured += len(batch)
                plan, value = batch[int(seen.argmin())], float(seen.min())
                if taken(plan, value, walk, len(batch)):
                    onward = _Walk(plan, value, walk.steps + 1)
            if onward is None:
                break
            walk = onward
        if taken(walk.picks, walk.value, found, len(begin)):
            found = walk
    return Refined(
        picks=found.picks,
        value=found.value if np.isfinite(found.value) else started,
        started=started,
        measured=measured,
        steps=found.steps,
    )


@dataclass(frozen=True, slots=True)
class _Walk:
    """Where a search has come to."""

    picks: Picks
    value: float
    steps: int


class _Judged:
    """Plans judged by measured damage against the measured uniform plan."""

    def __init__(
        self,
        problem: Problem,
        true_damage: TrueDamage,
        goal: str,
        no_harm: Collection[str],
        blind: Picks | None,
        spare: float | None,
    ) -> None:
        self.true_damage = true_damage
        ours = [problem.uniform] if blind is None else [problem.uniform, blind]
        uniform, *others = true_damage(ours)
        self.goal = objective(goal, uniform, problem.reference)
        limits = _measured_limits(uniform, problem.reference, no_harm)
        if spare is not None:
            for by_blind in others:
                limits = beside_blind(limits, by_blind, spare)
        self.limits = limits
        self.by_table = objective(goal, problem.uniform_bits, problem.reference)
        self.last = list[float]()

    def values(self, plans: Sequence[Picks]) -> Floats:
        """Returns the objective of each plan, (P); infinite where it breaks a limit."""
        damage = self.true_damage(plans)
        found = value_of(self.goal, damage)
        self.last = [float(v) for v in found]
        kept = [self.limits.kept_by(one) for one in damage]
        return np.where(kept, found, np.inf)


def _measured_limits(uniform: Floats, reference: int, no_harm: Collection[str]) -> Limits:
    limits = uniform.copy() if "all" in no_harm else np.full(len(uniform), np.inf)
    if "reference" in no_harm:
        limits[reference] = uniform[reference]
    return Limits(limits, float(uniform.mean()) if "mean" in no_harm else np.inf)
