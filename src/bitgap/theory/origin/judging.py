"""The declared rule on the numbers of one case: in the origin's measure, and in ours. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bitgap.records import Estimate
from bitgap.theory.origin.blocks import KINDS, table_quantity
from bitgap.theory.origin.claims import CANNOT, Outcome, Part, Table, Untestable, decide
from bitgap.theory.origin.quantities import WITHOUT_GAP, quantity_of
from bitgap.theory.origin.readings import Measure
from bitgap.theory.origin.record import Case, Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One comparison in one measure."""

    outcome: Outcome
    reason: str
    estimate: Estimate | None = None
    gap: Estimate | None = None
    """G beside D, in our measure."""
    single: Mapping[str, float] | None = None
    """What single sentences say: the first one's value, the least, the most, and the share of
    sentences that agree with the comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPart:
    """One part of a claim, in both measures."""

    says: str
    compare: str
    threshold: float
    origin: Judged
    here: Judged


def judge_part(case: Case, part: Part) -> JudgedPart:
    """Returns what a part says of a case, in the origin's measure and in ours."""
    return JudgedPart(
        says=part.says,
        compare=part.compare,
        threshold=part.threshold,
        origin=_gated(case, part, lambda: quantity_of(case, part, "seed")),
        here=_with_gap(case, part, lambda measure: quantity_of(case, part, measure)),
    )


def judge_table(case: Case, table: Table) -> JudgedPart:
    """Returns whether one of the origin's per-layer tables goes with this model's, by ranks."""
    part = Part(
        says=f"ranks of blocks go with the origin's table {table.name!r}",
        quantity=table.name,
        plans=(table.profile,) if table.profile in KINDS else (),
        compare="above",
    )
    return JudgedPart(
        says=part.says,
        compare=part.compare,
        threshold=part.threshold,
        origin=_gated(case, part, lambda: table_quantity(case, table, "seed")),
        here=_with_gap(case, part, lambda measure: table_quantity(case, table, measure)),
    )


def _gated(case: Case, part: Part, make: Callable[[], Quantity]) -> Judged:
    """Returns the outcome in the origin's measure, undefined where its denominator is."""
    found = _judge(make, part, here=False)
    plan = _undefined_under(case, part)
    if plan is None or found.estimate is None:
        return found
    why = f"D_seed is undefined: the reference's own harm covers 0 under {plan!r}"
    return replace(found, outcome="undefined", reason=why)


def _undefined_under(case: Case, part: Part) -> str | None:
    # Increases by themselves, unlike their ratio to the reference's, need no gate.
    if part.quantity in _NO_RATIO:
        return None
    plans = [p for p in case.expand(case.origin, part.rests_on) if case.origin.has(p)]
    return case.origin.unsettled(plans)


_NO_RATIO = {
    *("r with resources", "rich gain more", "r of alignment"),
    *("r of outliers", "kurtosis over its limit", "heavier tails"),
}


def _judge(make: Callable[[], Quantity], part: Part, *, here: bool) -> Judged:
    """Returns the outcome of what ``make`` measures, or why it cannot be measured."""
    try:
        quantity = make()
        estimate, single = _estimated(quantity, part, here)
    except Untestable as error:
        return Judged(outcome=CANNOT, reason=str(error))
    threshold = part.limit(here=here)
    outcome = decide(estimate, part.compare, threshold)
    return Judged(
        outcome=outcome,
        reason=told_estimate(estimate, part.compare, threshold),
        estimate=estimate,
        single=single,
    )


def _estimated(
    quantity: Quantity, part: Part, here: bool
) -> tuple[Estimate, dict[str, float] | None]:
    if isinstance(quantity, Estimate):
        return quantity, None
    readings, statistic = quantity.readings, quantity.statistic
    each = readings.each_sentence(statistic)
    finite = each[np.isfinite(each)]
    single = None
    if len(finite) and len(each) > 1 and np.isfinite(each[0]):
        agrees = [_on_side(value, part, part.limit(here=here)) for value in finite]
        single = {
            "first": float(each[0]),
            "least": float(finite.min()),
            "most": float(finite.max()),
            "agree": float(np.mean(agrees)),
        }
    interval = readings.range_over_sentences if quantity.is_rank else readings.over_sentences
    return interval(statistic, quantity.unit), single


def _on_side(value: float, part: Part, threshold: float) -> bool:
    if part.compare == "within":
        return abs(value) < threshold
    return value > threshold if part.compare == "above" else value < threshold


def _with_gap(case: Case, part: Part, make: Callable[[Measure], Quantity]) -> Judged:
    """Returns the outcome by D, which G must not contradict."""
    judged = _judge(lambda: make("disparity"), part, here=True)
    if part.quantity in WITHOUT_GAP or judged.estimate is None:
        return judged
    gap = _judge(lambda: make("gap"), part, here=True).estimate
    outcome, reason = judged.outcome, judged.reason
    if outcome in ("holds", "fails") and part.compare != "within" and gap is not None:
        agrees = gap.value is not None and _on_side(gap.value, part, part.limit(here=True)) == (
            outcome == "holds"
        )
        if not agrees:
            outcome, reason = "unclear", f"{reason}, but G does not go the same way"
    return replace(judged, outcome=outcome, reason=reason, gap=gap)


def told_estimate(found: Estimate, compare: str, threshold: float) -> str:
    """Returns an estimate and what it is compared with, in words."""
    if found.value is None:
        return found.reason or "it has no value"
    ends = "" if found.low is None else f" [{found.low:.3g}, {found.high:.3g}]"
    why = f" ({found.reason})" if found.low is None and found.reason else ""
    limit = f"within ±{threshold:g}" if compare == "within" else f"{compare} {threshold:g}"
    return f"{found.value:.3g}{ends}{why}, asked {limit}"
