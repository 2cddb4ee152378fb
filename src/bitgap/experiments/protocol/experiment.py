"""What an experiment is: declared in its package's first file, its parts loaded by name.

``bitgap.experiments.t004_residual_propagation`` declares; ``.measure``, ``.judge`` and ``.figure``
beside it do. A declaration imports none of its parts, so listing experiments loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

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
        package: Name of the package that declares it and holds its parts.
        id: Such as ``T-004``.
        hypothesis: Such as ``H2.1``.
        title: A noun phrase for what is measured.
        question: What the reader learns, one sentence.
        phase: Key of :data:`PHASES`.
        value: How much of the theory hangs on it.
        params: Its parameters, a frozen dataclass with defaults.
        passes: What it costs, where it scores no plans; with plans, ``COST`` of its ``plans``.
        version: Raised whenever the measurement changes meaning.
        reads_inputs: Whether the measurement reads more of a lab than its text; ``inputs(lab)`` of
            its ``measure`` then names it.
    """

    package: str
    id: str
    hypothesis: str
    title: str
    question: str
    phase: int
    value: Value
    params: Any
    passes: Cost | None = None
    version: int = 1
    reads_inputs: bool = False

    @property
    def cost(self) -> Cost:
        """What it costs."""
        return self.passes or cast(Cost, self._part("plans").COST)

    @property
    def measure(self) -> Callable[[Lab, str, Any], Observations]:
        """``measure(lab, scheme, params)``; the only part that sees a model."""
        return self._part("measure").measure

    @property
    def judge(self) -> Callable[[Observations, Thresholds], Finding]:
        """``judge(observations, thresholds)``; pure."""
        return self._part("judge").judge

    @property
    def figure(self) -> Callable[[Finding], Mapping[str, Any]]:
        """``figure(finding)``; a Vega-Lite specification."""
        return self._part("figure").figure

    @property
    def profile(self) -> Callable[[Finding], Sequence[float | None]] | None:
        """What it says of every block, (L) numbers or None, for its link with what protecting a
        block saves; None where it has no such profile.
        """
        return getattr(self._part("judge"), "profile", None)

    def inputs(self, lab: Lab) -> Mapping[str, Any]:
        """Returns what of a lab, beside its text, the measurement reads, JSON-serialisable; part
        of the key of its observations.
        """
        return self._part("measure").inputs(lab) if self.reads_inputs else {}

    def _part(self, name: str) -> Any:
        return import_module(f"{self.package}.{name}")
