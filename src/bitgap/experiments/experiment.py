"""What an experiment is, and what its judge may look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bitgap.records import Finding, Observations
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

Value = Literal["high", "medium", "low"]

PHASES = {
    1: "weights and one forward pass",
    2: "interventions on single blocks",
    3: "factorials and sweeps",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an experiment costs on a model of L blocks, in passes over the whole text.

    Attributes:
        block_evaluations: Blocks run, by number of blocks L.
        head_evaluations: Heads run, by number of blocks L.
        of_map: Whether these are the layer map's masks, on the map's sentences, so that the main
            job pays for them once.
        sentences: How many sentences are passed over, where it is not the whole text.
    """

    block_evaluations: Callable[[int], int]
    head_evaluations: Callable[[int], int]
    of_map: bool = False
    sentences: int | None = None

    def share_of(self, n_sentences: int) -> float:
        """Returns the share of a text of N sentences that is passed over."""
        return 1.0 if self.sentences is None else min(1.0, self.sentences / n_sentences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One row of the catalog.

    Attributes:
        id: Such as ``T-004``.
        hypothesis: Such as ``H2.1``.
        title: A noun phrase for what is measured.
        question: What the reader learns, one sentence.
        phase: Key of :data:`PHASES`.
        value: How much of the theory hangs on it.
        cost: What it costs; None where it is not built yet.
        version: Raised whenever the measurement changes meaning.
        params: Its parameters, a frozen dataclass with defaults.
        measure: ``measure(lab, scheme, params)``; the only function that sees a model.
        judge: ``judge(observations, thresholds)``; pure.
        figure: ``figure(finding)``; a Vega-Lite specification.
        inputs: What of a lab, beside its text, the measurement reads, JSON-serialisable; part of
            the key of its observations.
        profile: What the experiment says of every block, (L) numbers or None, for its link with
            how much protecting a block is worth; None where there is no such profile.
    """

    id: str
    hypothesis: str
    title: str
    question: str
    phase: int
    value: Value
    cost: Cost | None = None
    version: int = 1
    params: Any = None
    measure: Callable[[Lab, str, Any], Observations] | None = None
    judge: Callable[[Observations, Thresholds], Finding] | None = None
    figure: Callable[[Finding], Mapping[str, Any]] | None = None
    inputs: Callable[[Lab], Mapping[str, Any]] = lambda lab: {}
    profile: Callable[[Finding], Sequence[float | None]] | None = None

    @property
    def built(self) -> bool:
        """Whether this version can run it."""
        return self.measure is not None and self.judge is not None
