"""The origin's claims as they were declared, and the one rule that judges them. No torch.

``claims.toml`` holds what the origin reported and how each claim is judged; it was written before
any claim was replayed. :func:`decide` turns one estimate and one comparison into an outcome and
:func:`of_parts` several outcomes into a claim's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from bitgap.records import Estimate

Outcome = Literal["holds", "fails", "unclear", "undefined", "cannot be tested here"]
Compare = Literal["above", "below", "within"]
OUTCOMES: tuple[Outcome, ...] = ("holds", "fails", "unclear", "undefined", "cannot be tested here")
CANNOT: Outcome = "cannot be tested here"

NO_SAMPLING = "no sampling error: of the weights alone"
"""Method of an estimate that is exact, so that its value alone decides."""

N_CLAIMS, N_BLOCKS = 24, 12

TOLERANCE = 0.01
"""Relative difference up to which a number of the origin is reproduced (method, section 6)."""


class Untestable(Exception):
    """A claim, or a part of one, that this model, text or set of models cannot speak to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One comparison of a claim."""

    says: str
    """What should be so, in words."""
    quantity: str | None = None
    """Name of the number, or None for a difference of two plans."""
    less: str | None = None
    """Plan that should leave the lower disparity."""
    more: str | None = None
    """Plan that should leave the higher one."""
    plans: tuple[str, ...] = ()
    """Plans that a quantity rests on."""
    compare: Compare = "below"
    threshold: float = 0.0
    """In the origin's measure."""
    threshold_here: float | None = None
    """In ours; the same when None."""

    def __post_init__(self) -> None:
        if (self.quantity is None) == (self.less is None or self.more is None):
            raise ValueError(f"{self.says!r} needs a quantity, or less and more")

    @property
    def rests_on(self) -> tuple[str, ...]:
        """Plans that must be defined for the number to be."""
        return self.plans if self.less is None or self.more is None else (self.less, self.more)

    def limit(self, *, here: bool) -> float:
        """Returns the threshold in our measure (here) or in the origin's."""
        return self.threshold_here if here and self.threshold_here is not None else self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of the origin."""

    number: int
    text: str
    where: str
    """The origin's experiment."""
    parts: tuple[Part, ...]
    measured: Mapping[str, float]
    """The origin's values, by plan (D_original) or quantity; empty where it gave none."""
    family: str = "gpt2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One of the origin's per-block tables."""

    name: str
    profile: str
    """Which of our profiles it is held against."""
    values: tuple[float, ...]
    """L0 to L11."""
    source: str
    """Measured or typed in."""


@cache
def load_claims() -> tuple[tuple[Claim, ...], tuple[Table, ...]]:
    """Returns the claims by number, and the per-block tables.

    Raises:
        ValueError: If a claim is missing or the file is malformed.
    """
    text = (
        resources.files("bitgap.theory.origin").joinpath("claims.toml").read_text(encoding="utf-8")
    )
    content = tomllib.loads(text)
    claims = tuple(_claim(row) for row in content["claim"])
    if [claim.number for claim in claims] != list(range(1, N_CLAIMS + 1)):
        raise ValueError(f"claims.toml should hold claims 1 to {N_CLAIMS}, each once and in order")
    rows: list[dict[str, Any]] = content["table"]
    for row in rows:
        row["values"] = tuple(row["values"])
    tables = tuple(Table(**row) for row in rows)
    if any(len(table.values) != N_BLOCKS for table in tables):
        raise ValueError(f"a table of claims.toml has not {N_BLOCKS} values")
    return claims, tables


def _claim(row: Mapping[str, Any]) -> Claim:
    rest = {key: value for key, value in row.items() if key not in ("part", "measured")}
    found: list[dict[str, Any]] = row["part"]
    for part in found:
        part["plans"] = tuple(part.get("plans", ()))
    parts = tuple(Part(**part) for part in found)
    return Claim(**rest, parts=parts, measured=dict(row.get("measured", {})))


def decide(found: Estimate, compare: Compare, threshold: float) -> Outcome:
    """Returns what an estimate says of one comparison.

    Args:
        found: With its interval; without one only a number without sampling error decides.
        compare: On which side of the threshold the number should lie; ``within`` means between
            −threshold and threshold.
        threshold: Declared.
    """
    if found.value is None:
        return "undefined"
    if found.method == NO_SAMPLING:
        low = high = found.value
    elif found.low is None or found.high is None:
        return "unclear"
    else:
        low, high = found.low, found.high
    if compare == "within":
        if -threshold < low and high < threshold:
            return "holds"
        return "fails" if low > threshold or high < -threshold else "unclear"
    if compare == "below":
        low, high, threshold = -high, -low, -threshold
    if low > threshold:
        return "holds"
    return "fails" if high < threshold else "unclear"


def of_parts(outcomes: Sequence[Outcome]) -> Outcome:
    """Returns a claim's outcome: that of its worst part, a clear failure first of all."""
    for outcome in ("fails", CANNOT, "undefined", "unclear"):
        if outcome in outcomes:
            return outcome
    return "holds"


def reproduced(measured: float, found: float | None) -> Outcome:
    """Returns whether a number of the origin came out again, to one per cent."""
    if found is None:
        return "undefined"
    return "holds" if abs(found - measured) <= TOLERANCE * abs(measured) else "fails"
