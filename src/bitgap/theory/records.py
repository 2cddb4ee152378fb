"""What a theory run returns, over all models. No torch: a store gives it back without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bitgap.codec import to_json
from bitgap.records import Finding
from bitgap.theory.origin.regression import RegressionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """Who a model is and what was measured on it, with its blocks rounded at its scheme."""

    model: str
    family: str
    fingerprint: str
    n_blocks: int
    scheme: str
    languages: tuple[str, ...]
    """Those that count, reference first."""
    left_out: Mapping[str, str]
    """The others, with the reason."""
    bits_per_byte: Mapping[str, float]
    """Of full precision, by language."""
    bits_per_byte_reference: float | None
    disparity: float | None
    """D with every block rounded, log2 ratio."""
    damage: float
    """Mean K with every block rounded, bits per reference character."""
    damage_by_block: tuple[float, ...]
    """Mean k with one block rounded alone, (L), in the same unit."""
    ratio_by_block: tuple[float | None, ...]
    """D with one block rounded alone, (L)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pillar:
    """One pillar of the theory."""

    pillar: str
    rests_on: tuple[str, ...]
    """Hypotheses."""
    state: Literal["held", "fallen", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one verdict means."""

    hypothesis: str
    because: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What the data suggest instead: exploratory, over families, clear of what chance gives."""

    hypothesis: str
    unit: str
    value: float
    low: float
    high: float
    """95 % interval."""
    null: float
    """What would be seen if nothing were there."""
    families: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What is established, ruled out and open, and what the data suggest."""

    established: tuple[Meaning, ...]
    ruled_out: tuple[Meaning, ...]
    open: tuple[Meaning, ...]
    suggested: tuple[Suggestion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One model forecast from the other families, and scored."""

    family: str
    model: str
    n_blocks: int
    kind: str
    """What was known of it: ``config``, or ``weights``."""
    learned_from: tuple[str, ...]
    """Families."""
    masks: Mapping[str, Any]
    """As :class:`~bitgap.theory.forecast.scorecard.Scorecard` has it."""
    objectives: Mapping[str, Mapping[str, Any]]
    """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Successes:
    """How many families a way of forecasting was a success in."""

    kind: str
    objective: str
    who: str
    """``forecast``, or the baseline that it has to beat."""
    families: int
    successes: int
    mean_percentile: float | None
    """Of the triple named, among all: 0 is the best."""
    success: bool | None
    """Whether the declared share of families succeeded; None without families."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """Every family held out, and what the forecasts come to."""

    rows: tuple[HeldOut, ...]
    summary: tuple[Successes, ...]
    masks: Mapping[str, Mapping[str, float | None]]
    """By kind, means over models of ``spearman``, ``rmse`` and ``covered``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theory:
    """What all models say together; its JSON has the same names."""

    tier: str
    """How much text was looked at."""
    models: tuple[MeasuredModel, ...]
    """The first of each family speaks for it."""
    findings: tuple[Finding, ...]
    """Theory-level, one a member of the family of twelve, with Holm over them."""
    pillars: tuple[Pillar, ...]
    outcomes: Outcomes
    forecasts: Forecasts
    original_regression: tuple[RegressionRow, ...] = field(metadata={"formerly": "seed_regression"})
    """The origin's regression, as published and on every model."""
    thresholds_hash: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the theory as JSON."""
        return to_json(self)
