"""Every record that crosses a module boundary. Read this file first.

Records are frozen and know nothing of torch. Arrays are numpy and are never written to after the
record is made. A number that is missing is ``None`` with a reason, never 0 and never NaN.

The flow: a lab makes :class:`Scores` and :class:`Observations`; ``disparity`` and ``stats`` turn
them into :class:`Estimate`; an experiment's judge turns those into a :class:`Finding`, which holds
:class:`Control` and a :class:`Verdict`. :class:`ModelInfo`, :class:`CorpusInfo` and
:class:`Provenance` say what was measured, on what, and by what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

Arithmetic = Literal["exact", "fast"]
Label = Literal["supported", "refuted", "small", "inconclusive", "not testable"]
Units = int | Integers
"""What is resampled: a number of exchangeable units, or the cluster of each sentence, (N)."""
ControlKind = Literal["negative", "positive", "invariance"]


def finite(value: Any) -> float | None:
    """Returns a number for a record: None where it is missing, infinite or NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def defined(values: Floats) -> Floats:
    """Returns values, of any shape, with NaN for those that are infinite."""
    return np.where(np.isfinite(values), values, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One number with its uncertainty, or the reason why there is none."""

    value: float | None
    """Point estimate, or None when it could not be formed."""
    unit: str
    """Unit of value, low and high, such as ``bits per English character`` or ``log2 ratio``."""
    low: float | None = None
    """Lower end of the interval."""
    high: float | None = None
    """Upper end of the interval."""
    level: float = 0.95
    """Coverage the interval aims at."""
    n: int = 0
    """Number of resampled units (sentences, models or blocks)."""
    method: str = ""
    """How the interval was made, such as ``BCa bootstrap over sentences, 2000 draws``."""
    reason: str | None = None
    """Why value or interval is missing, or a caveat that belongs to the number."""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"Estimate.{name} is {number}; use None and a reason instead")
        if (self.value is None or self.low is None or self.high is None) and not self.reason:
            raise ValueError("an Estimate without a value or interval needs a reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model is, as far as results depend on it."""

    name: str
    """Folder or hub id as the user gave it; ``reference`` for the bundled model."""
    family: str
    """``config.model_type``, such as ``gpt2`` or ``qwen3``; the unit of theory-level tests."""
    class_name: str
    """The transformers class, such as ``GPT2LMHeadModel``."""
    n_blocks: int
    """Number of decoder layers L."""
    width: int
    """Residual width d."""
    vocabulary: int
    """Rows of the unembedding."""
    context: int | None
    """Longest sequence in tokens, or None where the model has no limit."""
    n_parameters: int
    """Number of distinct trained numbers (tied ones once)."""
    tied: bool
    """Whether head and embedding are one matrix."""
    fingerprint: str
    """SHA-256 over the weights and the parts of the config that change the function (hex)."""
    note: str = ""
    """What the model's folder says of its weights that belongs beside every result, such as that
    they were rounded before; empty where it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusInfo:
    """What a corpus is, as far as results depend on it."""

    name: str
    languages: tuple[str, ...]
    """ISO 639 codes in the order of the rows of every array."""
    n_sentences: int
    """Number of aligned sentences, the same in every language."""
    source: str
    """Who wrote it."""
    licence: str
    """SPDX id or the source's own words."""
    fingerprint: str
    """SHA-256 over languages and sentences (hex)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCounts:
    """How long each sentence is; integer arrays, (languages x sentences)."""

    tokens: Integers
    """Scored tokens: those that are predicted, so without the BOS."""
    bytes: Integers
    """UTF-8 bytes."""
    characters: Integers
    """Unicode code points after NFC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What some plans did to some text: per-sentence sums that every statistic starts from.

    Shapes use P plans, A languages and N sentences. Values are in nats and summed over the scored
    tokens of a sentence. Row order is that of ``plans`` and ``languages``.
    """

    plans: tuple[str, ...]
    """Canonical plan texts, such as ``rtn4-g128 protect 0,11``."""
    languages: tuple[str, ...]
    nll_nats: Floats
    """Negative log-likelihood under each plan, (P x A x N)."""
    kl_nats: Floats
    """KL divergence from full precision to the plan, (P x A x N), never below 0 by more than the
    numerical floor."""
    nll_fp_nats: Floats
    """Negative log-likelihood in full precision, (A x N)."""
    unigram_nats: Floats
    """Add-one unigram cross-entropy of the same tokens, (A x N): by counts of other text where
    there are any, else counted on the other sentences."""
    counts: TextCounts
    floor_nats: float
    """Numerical floor: largest |KL| per token between two evaluations of one plan that differ in
    batching only."""
    arithmetic: Arithmetic
    reference: str = "en"
    """The language that damage is compared with and normalised by."""
    documents: Integers | None = None
    """Number of the document that each sentence is from, (N); None where that is not known and
    every sentence counts as a document of its own."""
    unigram_tokens: Integers | None = None
    """Tokens of other text that each language's unigrams rest on, (A), 0 where they were counted on
    the other sentences; None where not known, as in what was stored before 2026-11-30."""
    vocabulary: int | None = None
    """Number of logits V; None where not known."""
    floors_nats: Floats | None = None
    """Floor of each plan, (P), where plans were scored in more than one arithmetic; None where
    ``floor_nats``, which is the largest then, is that of all."""

    def __post_init__(self) -> None:
        shape = (len(self.plans), len(self.languages), self.nll_fp_nats.shape[-1])
        for name, want in (
            ("nll_nats", shape),
            ("kl_nats", shape),
            ("nll_fp_nats", shape[1:]),
            ("unigram_nats", shape[1:]),
        ):
            found = getattr(self, name).shape
            if found != want:
                raise ValueError(f"Scores.{name} has shape {found}, expected {want}")
        lengths = {"documents": shape[2], "unigram_tokens": shape[1], "floors_nats": shape[0]}
        for name, length in lengths.items():
            values = getattr(self, name)
            if values is not None and values.shape != (length,):
                raise ValueError(f"Scores.{name} has shape {values.shape}, expected ({length},)")
        if self.reference not in self.languages:
            raise ValueError(f"reference {self.reference!r} is not among {self.languages}")

    @property
    def n_sentences(self) -> int:
        """Number of aligned sentences."""
        return int(self.nll_fp_nats.shape[1])

    @property
    def floor_by_plan(self) -> Floats:
        """Numerical floor of each plan in nats per token, (P)."""
        whole = np.full(len(self.plans), self.floor_nats)
        return whole if self.floors_nats is None else self.floors_nats

    @property
    def units(self) -> Units:
        """What is resampled: the number of sentences, or each sentence's document, (N)."""
        return self.n_sentences if self.documents is None else self.documents

    def select(
        self,
        *,
        plans: Sequence[str] | None = None,
        languages: Sequence[str] | None = None,
        sentences: Sequence[int] | Integers | None = None,
    ) -> Scores:
        """Returns the same scores for some plans, languages or sentences, in the order given.

        Args:
            plans: Canonical plan texts; all when None.
            languages: Codes, which must include the reference; all when None.
            sentences: Sentence numbers from 0; all when None.

        Raises:
            KeyError: If a plan or language is not there.
        """
        plan_rows = _positions(self.plans, plans, "plan")
        rows = _positions(self.languages, languages, "language")
        columns = range(self.n_sentences) if sentences is None else [int(i) for i in sentences]
        grid = np.ix_(rows, list(columns))
        cube = np.ix_(plan_rows, rows, list(columns))
        counts = TextCounts(
            tokens=self.counts.tokens[grid],
            bytes=self.counts.bytes[grid],
            characters=self.counts.characters[grid],
        )
        return replace(
            self,
            plans=tuple(self.plans[i] for i in plan_rows),
            languages=tuple(self.languages[i] for i in rows),
            nll_nats=self.nll_nats[cube],
            kl_nats=self.kl_nats[cube],
            nll_fp_nats=self.nll_fp_nats[grid],
            unigram_nats=self.unigram_nats[grid],
            counts=counts,
            documents=None if self.documents is None else self.documents[list(columns)],
            unigram_tokens=None if self.unigram_tokens is None else self.unigram_tokens[rows],
            floors_nats=None if self.floors_nats is None else self.floors_nats[plan_rows],
        )


def _positions(have: Sequence[str], wanted: Sequence[str] | None, what: str) -> list[int]:
    if wanted is None:
        return list(range(len(have)))
    where = {name: i for i, name in enumerate(have)}
    missing = [name for name in wanted if name not in where]
    if missing:
        raise KeyError(f"{what} {missing[0]!r} was not scored; there are {len(have)}")
    return [where[name] for name in wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What one experiment measured; all that its judge may look at."""

    experiment: str
    """Id, such as ``T-004``."""
    version: int
    """Version of the measurement; raised whenever its numbers change meaning."""
    arrays: Mapping[str, NDArray[Any]]
    """Measured arrays; the experiment's docstring gives shapes and units."""
    facts: Mapping[str, Any]
    """Measured scalars and names, JSON-serialisable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A check that could have made the finding worthless."""

    name: str
    kind: ControlKind
    passed: bool | None
    """True or False as it came out; None when it was not run, with the reason in detail."""
    detail: str
    """One sentence: what was expected, what was seen."""
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartVerdict:
    """What the declared rule says of one part of a hypothesis, by its own controls."""

    name: str
    """The claim, as a noun phrase."""
    label: Label
    reason: str
    """The clause that decided, in one sentence."""
    p: float | None = None
    """One-sided p of its statistic, unadjusted; None where no valid p exists."""
    p_equivalence: float | None = None
    """One-sided p that its effect is at least the SESOI, times the number of parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the declared rule says of one hypothesis."""

    label: Label
    scope: str
    """``this model``, or ``M families``, and after a colon what is known of them, such as
    ``this model: reference, 12 blocks, bundled text, 32 sentences``."""
    reason: str
    """The clause that decided, in one sentence."""
    sesoi: float | None = None
    """Smallest effect of interest, in the unit of the primary statistic."""
    p: float | None = None
    """One-sided p of the primary statistic, unadjusted; None where no valid p exists."""
    p_holm: float | None = None
    """p after Holm over the hypotheses judged together; None until the family is complete."""
    p_minimum: float | None = None
    """Smallest p this design can reach."""
    p_equivalence: float | None = None
    """One-sided p that the effect is at least the SESOI, which a refutation must reject; of
    several parts the smallest times their number. None where no valid p exists."""
    p_equivalence_holm: float | None = None
    """The same after Holm over the hypotheses judged together."""
    parts: tuple[PartVerdict, ...] = ()
    """The label of each part of a hypothesis that makes several claims; empty for one claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One experiment's result: estimates, controls and verdict, with what the reader needs."""

    experiment: str
    hypothesis: str
    title: str
    primary: str
    """Key in ``estimates`` of the statistic that the verdict rests on."""
    estimates: Mapping[str, Estimate]
    original_measure: Mapping[str, Estimate] = field(metadata={"formerly": "seed_measure"})
    """The origin's own measure on the same data, for comparison only."""
    controls: tuple[Control, ...]
    verdict: Verdict
    sentence: str
    """What came out, in one plain sentence for a reader who has read nothing else."""
    tables: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Per-block numbers for the figure, JSON-serialisable."""
    thresholds_hash: str = ""
    """Hash of the declared thresholds the verdict was made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where numbers came from."""

    bitgap: str
    python: str
    torch: str
    transformers: str
    numpy: str
    device: str
    threads: int
    arithmetic: Arithmetic
    seed: int
    started: str
    """UTC, ISO 8601."""
    wall_s: float
    thresholds_hash: str
