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
    spread: float | None = None
    """S with every block rounded, log2."""
    spread_by_block: tuple[float | None, ...] = ()
    """S with one block rounded alone, (L)."""
    role: str = "exploratory"
    """``confirmation`` where the thresholds were declared before the model was measured."""
    n_parameters: int | None = None
    mix: str | None = None
    """What it was trained on."""
    corpus: str = ""
    """What it was measured on."""


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
    masks: Mapping[str, Mapping[str, Any]]
    """By kind and quantity, means over families of ``spearman``, ``rmse`` and ``covered``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What models something is said of."""

    models: int
    families: int
    parameters_least: int | None
    parameters_most: int | None
    blocks: tuple[int, ...]
    """Numbers of blocks that occur."""
    corpora: tuple[str, ...]
    """Texts they were measured on."""
    mixes: tuple[str, ...]
    """What they were trained on, where their folders say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceFact:
    """One number of the first block, the one at three quarters, the last, or all three."""

    objective: str
    """``damage`` or ``spread``."""
    what: str
    place: str
    value: float
    low: float
    high: float
    """95 % interval over families."""
    null: float
    """What it would be if the place were nothing special."""
    families: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedHypothesis:
    """One hypothesis as it was written, as it must be asked, and what came of both."""

    hypothesis: str
    written: str
    written_label: str | None
    """What is said of the origin's own wording; None where it is not judged by itself."""
    written_because: str | None
    asked: str
    label: str
    because: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    takes: str
    """What it would take to decide it; empty where it is decided or cannot be tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Why these blocks, as far as some models say."""

    scope: Scope
    places: tuple[PlaceFact, ...]
    hypotheses: tuple[AskedHypothesis, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the models of one role say."""

    role: str
    findings: tuple[Finding, ...]
    pillars: tuple[Pillar, ...]
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Theory:
    """What all models say together; its JSON has the same names."""

    tier: str
    """How much text was looked at."""
    models: tuple[MeasuredModel, ...]
    """All that were looked at, whatever their role."""
    findings: tuple[Finding, ...]
    """Theory-level, one a member of the family of twelve, with Holm over them; of the models of
    :attr:`role` alone."""
    pillars: tuple[Pillar, ...]
    outcomes: Outcomes
    forecasts: Forecasts
    original_regression: tuple[RegressionRow, ...] = field(metadata={"formerly": "seed_regression"})
    """The origin's regression, as published and on every model."""
    thresholds_hash: str
    role: str = "exploratory"
    """Whose findings, pillars and outcomes these are: those of ``confirmation`` models where there
    are any, since only they were not seen before the thresholds were declared."""
    answer: Answer | None = None
    """Likewise; None in runs from before it was formed."""
    beside: Judged | None = None
    """What exploratory models say, beside what counts; None where they are what there is."""
    later: Forecasts | None = None
    """Confirmation models forecast from exploratory ones; :attr:`forecasts` holds families of the
    exploratory ones out."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the theory as JSON."""
        return to_json(self)
