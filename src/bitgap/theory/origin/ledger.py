"""The replication ledger: every claim of the origin, replayed, with how and what came out.

Each claim is judged three times. *Exactly*: its numbers come out again, to one per cent; this
takes the very checkpoint, so for most models it cannot be tested. *In kind, in the origin's
measure*: what the claim says of direction or order, with the origin's scope and scheme, on the
model at hand. *In ours*: the same by |D|, where |G| must agree in sign, at the operating point
where the claim is about whole blocks, without languages that collapsed or are below resolution.
The rules stand in ``claims.toml``. Beside the interval over sentences stands what single sentences
say, since the origin had one per language.

Replaying measures; judging a :class:`~bitgap.theory.origin.readings.Case` is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.codec import to_json
from bitgap.theory.origin.claims import (
    CANNOT,
    OUTCOMES,
    Claim,
    Outcome,
    Table,
    load_claims,
    of_parts,
)
from bitgap.theory.origin.judging import (
    JudgedPart,
    exact_values,
    judge_exact,
    judge_part,
    judge_table,
)
from bitgap.theory.origin.readings import Case
from bitgap.theory.origin.regression import RegressionRow
from bitgap.theory.origin.setup import SETS, block_at, blocks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One claim or table of the origin, replayed."""

    claim: str
    """Number of the claim, or ``table: <name>``."""
    text: str
    where: str
    model: str
    measured: Mapping[str, float]
    """What the origin reported."""
    found: Mapping[str, float | None]
    """The same numbers here, in the origin's way: its scheme, one sentence."""
    exact: Outcome
    exact_reason: str
    outcome: Outcome
    """In kind, in the origin's measure."""
    reason: str
    outcome_here: Outcome
    """In kind, in ours."""
    reason_here: str
    parts: tuple[JudgedPart, ...]
    left_out: Mapping[str, str]
    """Languages that do not count in our measure, and why."""
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The replay of all claims on one model."""

    model: str
    family: str
    scheme: str
    n_sentences: int
    n_triple_sentences: int
    languages: tuple[str, ...]
    rows: tuple[Row, ...]
    regression: RegressionRow | None = None
    """The origin's regression as it was published, if it was given."""

    def row(self, claim: int | str) -> Row:
        """Returns the row of a claim.

        Raises:
            KeyError: If there is none.
        """
        for row in self.rows:
            if row.claim == str(claim):
                return row
        raise KeyError(f"the ledger has no claim {claim!r}")

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many claims, without tables, came out how: exactly, in kind, and in our measure."""
        claims = [row for row in self.rows if row.claim.isdigit()]
        kinds = {"exact": "exact", "in kind": "outcome", "in our measure": "outcome_here"}
        out = dict[str, dict[str, int]]()
        for name, attribute in kinds.items():
            found = Counter(getattr(row, attribute) for row in claims)
            out[name] = {outcome: found[outcome] for outcome in OUTCOMES}
        return out

    def as_dict(self) -> dict[str, Any]:
        """Returns the ledger, JSON-ready."""
        return to_json(self) | {"counts": self.counts}


def families_claimed() -> set[str]:
    """Returns the families that some claim is about by name."""
    return {claim.family for claim in load_claims()[0]} - {"gpt2"}


def judge_case(
    case: Case,
    others: Mapping[str, Case] | None = None,
    regression: RegressionRow | None = None,
) -> Ledger:
    """Returns the ledger of a case that was measured.

    Args:
        case: The model at hand.
        others: Models of other families, by family.
        regression: Reported beside claim 15.
    """
    claims, tables = load_claims()
    families = {**(others or {}), case.model.family: case}
    rows = [_claim_row(claim, _case_for(claim, case, families)) for claim in claims]
    scores, triples = case.origin.scores, case.origin_triples
    return Ledger(
        model=case.model.name,
        family=case.model.family,
        scheme=case.scheme,
        n_sentences=scores.n_sentences,
        n_triple_sentences=0 if triples is None else triples.scores.n_sentences,
        languages=scores.languages,
        rows=(*rows, *(_table_row(table, case) for table in tables)),
        regression=regression,
    )


def _case_for(claim: Claim, case: Case, families: Mapping[str, Case]) -> Case | None:
    # What was claimed of GPT-2 is asked of the model at hand; the rest is about one other family.
    return case if claim.family == "gpt2" else families.get(claim.family)


def _claim_row(claim: Claim, case: Case | None) -> Row:
    common: dict[str, Any] = {
        "claim": str(claim.number),
        "text": claim.text,
        "where": claim.where,
        "measured": claim.measured,
    }
    if case is None:
        why = f"the claim is about {claim.family}, and no model of that family was given"
        return Row(**common, **_cannot(why))
    parts = tuple(judge_part(case, part) for part in claim.parts)
    found = exact_values(case, claim)
    exact, exact_reason = judge_exact(case.model, claim.family, claim.measured, found)
    plans = tuple(dict.fromkeys(plan for part in claim.parts for plan in part.rests_on))
    return Row(
        **common,
        model=case.model.name,
        found=found,
        exact=exact,
        exact_reason=exact_reason,
        **_outcomes(parts),
        parts=parts,
        left_out=_left_out(case, plans),
        how=told_plans(plans, case),
    )


def _table_row(table: Table, case: Case) -> Row:
    judged = judge_table(case, table)
    measured = {f"L{i}": float(value) for i, value in enumerate(table.values)}
    found = exact_values(case, table)
    exact, exact_reason = judge_exact(case.model, "gpt2", measured, found)
    return Row(
        claim=f"table: {table.name}",
        text=f"per-block table {table.name!r} ({table.source})",
        where=table.source,
        model=case.model.name,
        measured=measured,
        found=found,
        exact=exact,
        exact_reason=exact_reason,
        **_outcomes((judged,)),
        parts=(judged,),
        left_out={},
        how=f"{table.profile} by block; rank correlation with the table at the same depths",
    )


def _cannot(why: str) -> dict[str, Any]:
    return {
        "model": "none",
        "found": {},
        "exact": CANNOT,
        "exact_reason": why,
        "outcome": CANNOT,
        "reason": why,
        "outcome_here": CANNOT,
        "reason_here": why,
        "parts": (),
        "left_out": {},
        "how": "not measured",
    }


def _outcomes(parts: Sequence[JudgedPart]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for suffix, side in (("", "origin"), ("_here", "here")):
        judged = [getattr(part, side) for part in parts]
        outcome = of_parts([one.outcome for one in judged])
        deciding = [
            f"{part.says}: {one.reason}"
            for part, one in zip(parts, judged, strict=True)
            if one.outcome == outcome
        ]
        out |= {f"outcome{suffix}": outcome, f"reason{suffix}": "; ".join(deciding)}
    return out


def _left_out(case: Case, plans: Sequence[str]) -> dict[str, str]:
    readings = case.readings(tuple(plans), "disparity")
    present = [plan for plan in case.expand(readings, tuple(plans)) if readings.has(plan)]
    return readings.left_out(present) if present else {}


def told_plans(plans: Sequence[str], case: Case) -> str:
    """Returns one line on which blocks each plan protects in this model."""
    told = list[str]()
    for plan in plans:
        if plan in SETS or plan in ("even", "odd"):
            kept = ",".join(map(str, blocks_of(plan, case.n_blocks))) or "nothing"
            told.append(f"{plan} keeps {kept}")
        else:
            told.append(_OTHER_PLANS.get(plan, plan))
    if "consolidation" in plans:
        told.append(f"consolidation is block {block_at(9, case.n_blocks)}")
    measured = case.readings(tuple(plans), "disparity") is case.here
    scheme = f"; our measure at {case.scheme}" if measured else "; our measure on the same plans"
    return f"seed4: {'; '.join(told)}{scheme}" if told else "weights or activations alone"


_OTHER_PLANS = {
    "only": "one block kept, each in turn",
    "embeddings": "embeddings and a tied head kept",
    "biases": "biases of blocks rounded too",
    "random": "11.4 % of every block matrix kept at random",
    "magnitude": "the largest 38.6 % of every block matrix kept",
    "int8": "the triple's blocks at 8 bits instead of whole",
}
