"""The declared rule on the numbers of one case: in the origin's measure, and in ours. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bitgap.languages import language
from bitgap.records import Estimate, Floats, ModelInfo, finite
from bitgap.theory.origin.claims import (
    CANNOT,
    Claim,
    Outcome,
    Part,
    Table,
    Untestable,
    decide,
    of_parts,
    reproduced,
)
from bitgap.theory.origin.quantities import (
    KINDS,
    WITHOUT_GAP,
    design_of,
    kurtosis_z,
    profile_of,
    quantity_of,
    regression,
    table_quantity,
)
from bitgap.theory.origin.readings import Case, Measure, Quantity
from bitgap.theory.origin.setup import is_origins_own


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
        origin=_gated(case, part, lambda: quantity_of(case, part, "original")),
        here=_with_gap(case, part, lambda measure: quantity_of(case, part, measure)),
    )


def judge_table(case: Case, table: Table) -> JudgedPart:
    """Returns whether one of the origin's per-block tables goes with this model's, by ranks."""
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
        origin=_gated(case, part, lambda: table_quantity(case, table, "original")),
        here=_with_gap(case, part, lambda measure: table_quantity(case, table, measure)),
    )


def _gated(case: Case, part: Part, make: Callable[[], Quantity]) -> Judged:
    """Returns the outcome in the origin's measure, undefined where its denominator is."""
    found = _judge(make, part, here=False)
    plan = _undefined_under(case, part)
    if plan is None or found.estimate is None:
        return found
    why = f"D_original is undefined: the reference's own harm covers 0 under {plan!r}"
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


_TEXT = "on this text; the origin's own sentences are not part of this project"


def judge_exact(
    info: ModelInfo,
    family: str,
    measured: Mapping[str, float],
    found: Mapping[str, float | None],
) -> tuple[Outcome, str]:
    """Returns whether every number of the origin came out again, and why.

    Args:
        info: The model; only the origin's own checkpoint can answer, told by its shape.
        family: That the claim is about.
        measured: The origin's numbers.
        found: Ours; those that are absent cannot be formed as the origin did.
    """
    if not is_origins_own(info, family):
        return CANNOT, f"{info.name} is not the {family} checkpoint that the origin measured"
    if not measured:
        return CANNOT, "the origin gave no number"
    if not found:
        return CANNOT, "the origin's way to its number is not known"
    outcomes: list[Outcome] = [reproduced(measured[name], value) for name, value in found.items()]
    off = [
        f"{name} {_told(value)} for {measured[name]:g}"
        for (name, value), outcome in zip(found.items(), outcomes, strict=True)
        if outcome != "holds"
    ]
    outcome = of_parts(outcomes)
    if outcome == "holds":
        return outcome, "every number came out again to one per cent"
    return outcome, f"{'; '.join(off)} {_TEXT}"


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def exact_values(case: Case, of: Claim | Table) -> dict[str, float | None]:
    """Returns the origin's numbers on this model, in its way: its scheme and the first sentence.

    Args:
        case: The model.
        of: Numbers with no known way to form them are left out.
    """
    if isinstance(of, Table):
        return _table_values(case, of)
    out: dict[str, float | None] = {}
    for name in of.measured:
        try:
            out[name] = finite(_value(case, of, name))
        except Untestable:
            continue
    return out


def _table_values(case: Case, table: Table) -> dict[str, float | None]:
    if case.n_blocks != len(table.values):
        return {}
    try:
        if table.profile in KINDS:
            plans = tuple(f"{table.profile}-{block}" for block in range(case.n_blocks))
            values = _d_original(case, plans)
        else:
            values = profile_of(case, table, "original")
    except Untestable:
        return {}
    return {f"L{i}": finite(value) for i, value in enumerate(values)}


def _first(case: Case) -> Floats:
    return np.eye(case.origin.scores.n_sentences)[:1]


def _d_original(case: Case, plans: tuple[str, ...]) -> Floats:
    for plan in plans:
        case.origin.row(plan)
    return case.origin.value("original", plans, _first(case))[0]


def _value(case: Case, claim: Claim, name: str) -> float:
    if case.origin.has(name):
        return float(_d_original(case, (name,))[0])
    if name in _SPECIAL:
        return _SPECIAL[name](case)
    part = next((part for part in claim.parts if part.quantity == name), None)
    if part is None:
        raise Untestable(f"{name!r} is not defined")
    return _of_part(case, part)


def _of_part(case: Case, part: Part) -> float:
    found = quantity_of(case, part, "original")
    if isinstance(found, Estimate):
        return np.nan if found.value is None else found.value
    return float(found.statistic(np.eye(found.readings.scores.n_sentences)[:1])[0])


def _biases(case: Case) -> float:
    with_biases, without = _d_original(case, ("biases", "none"))
    return float(with_biases - without)


def _random(case: Case) -> Floats:
    plans = tuple(case.expand(case.origin, ("random",)))
    return _d_original(case, plans)


def _fit(case: Case) -> tuple[float, Floats]:
    plans = tuple(case.expand(case.origin, ("only",)))
    left = _d_original(case, plans)[None] + 1
    r2, _, coefficients = regression(design_of(case), np.log(np.where(left > 0, left, np.nan)))
    return float(r2[0]), coefficients[0]


def _gain_ratio(case: Case) -> float:
    readings = case.origin
    raw = readings.raw("original", _first(case))[0]
    gain = raw[readings.row("none")] - raw[readings.row("consolidation")]
    rich = readings.mask(lambda code: language(code).morphologically_rich is True)
    others = readings.mask(lambda code: language(code).morphologically_rich is False)
    if not rich.any() or not others.any():
        raise Untestable("languages are all of one morphological group")
    return float(gain[rich].mean() / gain[others].mean())


_SPECIAL: Mapping[str, Callable[[Case], float]] = {
    "biases over none": _biases,
    "random least": lambda case: float(_random(case).min()),
    "random most": lambda case: float(_random(case).max()),
    "R2": lambda case: _fit(case)[0],
    "constant": lambda case: float(_fit(case)[1][0]),
    "coefficient of variance": lambda case: float(_fit(case)[1][1]),
    "kurtosis z of the last block": lambda case: kurtosis_z(case.profiles["kurtosis"], trend=False)[
        0
    ],
    "gain of rich over other": _gain_ratio,
}
