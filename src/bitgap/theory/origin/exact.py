"""Whether the origin's very numbers come out again: its checkpoint, its way, one per cent.

The origin's sentences are not part of this project, so a failure may be the text's; it is said.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bitgap.languages import language
from bitgap.records import Estimate, Floats, ModelInfo
from bitgap.theory.origin.blocks import KINDS, design_of, kurtosis_z, profile_of, regression
from bitgap.theory.origin.claims import (
    CANNOT,
    Claim,
    Outcome,
    Part,
    Table,
    Untestable,
    of_parts,
    reproduced,
)
from bitgap.theory.origin.quantities import quantity_of
from bitgap.theory.origin.record import Case
from bitgap.theory.origin.setup import is_origins_own

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
            out[name] = _number(_value(case, of, name))
        except Untestable:
            continue
    return out


def _table_values(case: Case, table: Table) -> dict[str, float | None]:
    if case.n_blocks != len(table.values):
        return {}
    try:
        if table.profile in KINDS:
            plans = tuple(f"{table.profile}-{block}" for block in range(case.n_blocks))
            values = _d_seed(case, plans)
        else:
            values = profile_of(case, table, "seed")
    except Untestable:
        return {}
    return {f"L{i}": _number(value) for i, value in enumerate(values)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _first(case: Case) -> Floats:
    return np.eye(case.origin.scores.n_sentences)[:1]


def _d_seed(case: Case, plans: tuple[str, ...]) -> Floats:
    for plan in plans:
        case.origin.row(plan)
    return case.origin.value("seed", plans, _first(case))[0]


def _value(case: Case, claim: Claim, name: str) -> float:
    if case.origin.has(name):
        return float(_d_seed(case, (name,))[0])
    if name in _SPECIAL:
        return _SPECIAL[name](case)
    part = next((part for part in claim.parts if part.quantity == name), None)
    if part is None:
        raise Untestable(f"{name!r} is not defined")
    return _of_part(case, part)


def _of_part(case: Case, part: Part) -> float:
    found = quantity_of(case, part, "seed")
    if isinstance(found, Estimate):
        return np.nan if found.value is None else found.value
    return float(found.statistic(np.eye(found.readings.scores.n_sentences)[:1])[0])


def _biases(case: Case) -> float:
    with_biases, without = _d_seed(case, ("biases", "none"))
    return float(with_biases - without)


def _random(case: Case) -> Floats:
    plans = tuple(case.expand(case.origin, ("random",)))
    return _d_seed(case, plans)


def _fit(case: Case) -> tuple[float, Floats]:
    plans = tuple(case.expand(case.origin, ("only",)))
    left = _d_seed(case, plans)[None] + 1
    r2, _, coefficients = regression(design_of(case), np.log(np.where(left > 0, left, np.nan)))
    return float(r2[0]), coefficients[0]


def _gain_ratio(case: Case) -> float:
    readings = case.origin
    raw = readings.raw("seed", _first(case))[0]
    gain = raw[readings.row("none")] - raw[readings.row("consolidation")]
    rich = readings.mask(lambda code: language(code).morphologically_rich)
    if not rich.any() or rich.all():
        raise Untestable("languages are all of one morphological group")
    return float(gain[rich].mean() / gain[~rich].mean())


_SPECIAL = {
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
