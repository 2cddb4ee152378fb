"""What an experiment is: declared in its package's first file, its parts loaded by name.

``bitgap.experiments.t004_residual_propagation`` declares; ``.measure``, ``.judge`` and ``.figure``
beside it do. A declaration imports none of its parts, so listing experiments loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

from bitgap.experiments.protocol.hypothesis import Hypothesis
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan
from bitgap.records import Control, Estimate, Finding, Observations, Verdict
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.experiments.protocol.family_rule import Rule
    from bitgap.lab.lab import Lab
    from bitgap.show.charts import Figure

Value = Literal["high", "medium", "low"]

COST_SCHEME = "rtn4-g128"
"""Scheme whose plans costs are told of; another's plans are as many."""

NOT_TESTABLE = "not_testable"
"""Fact of observations that were not made, with the reason: what the model lacks."""

PHASES = {
    1: "weights and one forward pass",
    2: "interventions on single blocks",
    3: "factorials and sweeps",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Plans that an experiment has a lab score, which other experiments may have it score as well.

    Attributes:
        plans: Scored together, so that they share what they have in common.
        sentences: On how many sentences, spread over the text; all when None.
        exact: Whether in float32 whatever the lab's arithmetic is.
    """

    plans: Sequence[Plan]
    sentences: int | None = None
    exact: bool = False


def _nothing_drawn(finding: Finding) -> Mapping[str, Any]:
    """Returns the figure of a finding without numbers: its sentence."""
    return {
        "data": {"values": [{"told": finding.sentence}]},
        "mark": {"type": "text", "limit": 560},
        "encoding": {"text": {"field": "told", "type": "nominal"}},
        "width": 580,
        "height": 40,
    }


def _nothing(n_blocks: int) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an experiment costs on a model of L blocks, in passes over the whole text.

    Attributes:
        block_evaluations: Blocks run, by number of blocks L.
        head_evaluations: Heads run, by number of blocks L.
        own_blocks: Those of them that no other experiment can share: streams and passes.
        own_heads: Heads likewise.
        of_map: Whether these are the layer map's masks, on the map's sentences, so that the main
            job pays for them once.
        sentences: How many sentences are passed over, where it is not the whole text.
    """

    block_evaluations: Callable[[int], int]
    head_evaluations: Callable[[int], int]
    own_blocks: Callable[[int], int] = _nothing
    own_heads: Callable[[int], int] = _nothing
    of_map: bool = False
    sentences: int | None = None

    @classmethod
    def of(
        cls,
        scored: Callable[[int], Iterable[Sequence[Plan]]] | None = None,
        *,
        streamed: Callable[[int], Iterable[Sequence[Plan]]] | None = None,
        passes: int = 0,
        heads: Callable[[int], int] | None = None,
        of_map: bool = False,
        sentences: int | None = None,
    ) -> Cost:
        """Returns the cost of plans as an experiment runs them.

        Args:
            scored: Requests on a model of L blocks, each some plans that are scored together and
                share what they have in common; full precision is measured once for all
                experiments and not counted.
            streamed: Requests whose states are looked at, block by block; no head is run.
            passes: Further passes through all blocks, no head.
            heads: Further heads, by L.
            of_map: Whether what is scored are the layer map's masks.
            sentences: How many sentences are passed over, where it is not the whole text.
        """

        def requests(n: int) -> Iterable[PlanTree]:
            for plans in scored(n) if scored else ():
                yield PlanTree([plan for plan in plans if not plan.is_full_precision])

        def own_blocks(n: int) -> int:
            streams = [PlanTree(plans) for plans in (streamed(n) if streamed else ())]
            return passes * n + sum(tree.work().block_evaluations for tree in streams)

        def blocks(n: int) -> int:
            return own_blocks(n) + sum(tree.work().block_evaluations for tree in requests(n))

        def all_heads(n: int) -> int:
            scored_heads = sum(tree.work().head_evaluations for tree in requests(n))
            return scored_heads + (heads(n) if heads else 0)

        return cls(
            block_evaluations=blocks,
            head_evaluations=all_heads,
            own_blocks=own_blocks,
            own_heads=heads or _nothing,
            of_map=of_map,
            sentences=sentences,
        )

    def share_of(self, n_sentences: int) -> float:
        """Returns the share of a text of N sentences that is passed over."""
        return 1.0 if self.sentences is None else min(1.0, self.sentences / n_sentences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One row of the catalog.

    Attributes:
        package: Name of the package that declares it and holds its parts.
        id: Such as ``T-004``.
        hypothesis: What it tests, with all wordings.
        title: A noun phrase for what is measured.
        question: What the reader learns, one sentence.
        phase: Key of :data:`PHASES`.
        value: How much of the theory hangs on it.
        params: Its parameters, a frozen dataclass with defaults.
        figure_reading: How its figure is read: what stands where, and what bars are.
        tiers: Parameters that differ from their defaults in a tier of the main job, by its name.
        passes: What it costs, where it scores no plans; with plans, ``COST`` of its ``plans``.
        version: Raised whenever the measurement changes meaning.
        reads_inputs: Whether the measurement reads more of a lab than its text; ``inputs(lab)`` of
            its ``measure`` then names it.
    """

    package: str
    id: str
    hypothesis: Hypothesis
    title: str
    question: str
    phase: int
    value: Value
    params: Any
    figure_reading: str
    tiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    passes: Cost | None = None
    version: int = 1
    reads_inputs: bool = False

    @property
    def cost(self) -> Cost:
        """What it costs."""
        return self.passes or cast(Cost, self._part("plans").COST)

    def asked(
        self, n_blocks: int, params: Any, *, seed: int = 0, scheme: str = COST_SCHEME
    ) -> Sequence[Asked]:
        """Returns what it has a lab score of its text, controls left out.

        Args:
            n_blocks: L.
            params: Its parameters.
            seed: Of noise and samples.
            scheme: How blocks are rounded.
        """
        if self.passes is not None:
            return ()
        asked = getattr(self._part("plans"), "asked", None)
        return () if asked is None else asked(n_blocks, scheme, params, seed)

    def sentences_of(self, params: Any) -> int | None:
        """Returns on how many sentences what only it runs is run; on all the text when None."""
        told = None if self.passes else getattr(self._part("plans"), "sentences", None)
        return self.cost.sentences if told is None else told(params)

    @property
    def measure(self) -> Callable[[Lab, str, Any], Observations]:
        """``measure(lab, scheme, params)``; the only part that sees a model."""
        return self._part("measure").measure

    @property
    def judge(self) -> Callable[[Observations, Thresholds], Finding]:
        """``judge(observations, thresholds)``; pure.

        Observations that could not be made are judged here, alike for all experiments.
        """
        own = self._part("judge").judge

        @wraps(own)
        def judged(observations: Observations, thresholds: Thresholds) -> Finding:
            gate = observations.facts.get(NOT_TESTABLE)
            if gate is None:
                return own(observations, thresholds)
            return self.untestable(
                thresholds,
                str(gate).rstrip("."),
                primary="statistic",
                unit="",
                part=self.title,
                original_measure={},
                tables={},
            )

        return judged

    @property
    def figure(self) -> Callable[[Finding], Mapping[str, Any]]:
        """``figure(finding)``; a Vega-Lite specification."""
        own = self._part("figure").figure

        @wraps(own)
        def drawn(finding: Finding) -> Mapping[str, Any]:
            return own(finding) if finding.tables else _nothing_drawn(finding)

        return drawn

    @property
    def further_figures(self) -> Callable[[Finding], Sequence[Figure]]:
        """``further_figures(finding)``; what is drawn beside its figure, nothing for most."""
        own = getattr(self._part("figure"), "further_figures", None)
        return lambda finding: own(finding) if own and finding.tables else ()

    @property
    def rule(self) -> Rule:
        """How its hypothesis is judged over model families, where it is."""
        return self._part("families").RULE

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

    # -- the records that its parts hand out --------------------------------------------------

    def observed(
        self,
        lab: Lab,
        scheme: str,
        params: Any,
        arrays: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> Observations:
        """Returns observations whose facts also tell scheme, number of blocks and parameters."""
        common = {"scheme": scheme, "n_blocks": lab.n_blocks, "params": asdict(params)}
        return Observations(
            experiment=self.id, version=self.version, arrays=arrays, facts={**common, **facts}
        )

    def finding(
        self,
        thresholds: Thresholds,
        *,
        primary: str,
        estimates: Mapping[str, Estimate],
        original_measure: Mapping[str, Estimate],
        controls: Sequence[Control],
        verdict: Verdict,
        sentence: str,
        tables: Mapping[str, Any],
    ) -> Finding:
        """Returns the finding of this experiment; arguments as :class:`Finding`'s attributes."""
        return Finding(
            experiment=self.id,
            hypothesis=self.hypothesis.id,
            title=self.title,
            primary=primary,
            estimates=estimates,
            original_measure=original_measure,
            controls=tuple(controls),
            verdict=verdict,
            sentence=sentence,
            tables=tables,
            thresholds_hash=thresholds.hash,
        )

    def untestable(
        self,
        thresholds: Thresholds,
        gate: str,
        *,
        primary: str,
        unit: str,
        part: str,
        original_measure: Mapping[str, Estimate],
        tables: Mapping[str, Any],
        estimates: Mapping[str, Estimate] | None = None,
        controls: Sequence[Control] = (),
    ) -> Finding:
        """Returns the finding on a model that the hypothesis cannot be tested on.

        Args:
            thresholds: What was declared.
            gate: Why not, as the start of a sentence without its stop.
            primary: Key of the statistic that has no value then.
            unit: Its unit.
            part: What the verdict calls it.
            original_measure: The origin's own measure.
            tables: What can be shown all the same.
            estimates: Further estimates that exist all the same.
            controls: Those that were run.
        """
        missing = Estimate(value=None, unit=unit, reason=gate)
        sesoi = thresholds.of(self.hypothesis.id)["sesoi"]
        asked = Part(name=part, estimate=missing, sesoi=sesoi, p=None, p_minimum=1.0)
        return self.finding(
            thresholds,
            primary=primary,
            estimates={primary: missing, **(estimates or {})},
            original_measure=original_measure,
            controls=controls,
            verdict=judge_parts([asked], controls, alpha=thresholds.alpha, gate=gate),
            sentence=f"Not testable here: {gate}.",
            tables=tables,
        )

    def _part(self, name: str) -> Any:
        return import_module(f"{self.package}.{name}")
