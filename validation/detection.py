"""What every experiment's controls do on a real model, and what it says where nothing is.

Each experiment of the catalog is measured and judged, by its own code, on a small text for several
seeds of the lab; each seed draws its own sentences. Its positive controls plant their effects as
often as its parameters say, twenty times, so several seeds are several times twenty. The same is
done on random-init twins of the model, in which no hypothesis about training can be true: there
"supported" is false.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.experiments.protocol.experiment import Experiment
from bitgap.records import Control, ControlKind, Label
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """On what the experiments are run.

    Attributes:
        languages: Codes; the reference is among them.
        sentences: How many, drawn anew for each seed.
        seeds: Of the labs on the model itself.
        twin_seeds: Of the random-init twins.
        scheme: How blocks are rounded.
        overrides: Parameters by name, for every experiment that has one of this name.
        own_overrides: Parameters of single experiments, by id, on top.
        twin_overrides: As ``overrides``, on twins and on top of all; their own controls may be
            fewer.
    """

    languages: tuple[str, ...]
    sentences: int
    seeds: tuple[int, ...]
    twin_seeds: tuple[int, ...]
    scheme: str
    overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    own_overrides: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict[str, Mapping[str, Any]]
    )
    twin_overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Part:
    """One lab that experiments are run on.

    Attributes:
        seed: Of the lab and of its sentences.
        twin: Whether the model is a random-init twin.
    """

    seed: int
    twin: bool

    def __str__(self) -> str:
        return f"{'a random-init twin' if self.twin else 'the model'}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one experiment did on one lab.

    Attributes:
        experiment: Id.
        part: On which lab.
        label: The verdict; None where it could not be measured or judged.
        controls: Its controls.
        failure: Why there is no verdict.
        wall_s: How long it took.
    """

    experiment: str
    part: Part
    label: Label | None
    controls: tuple[Control, ...]
    failure: str | None
    wall_s: float


@dataclass(slots=True)
class ControlCount:
    """One control over all seeds.

    Attributes:
        name: As its experiment calls it.
        kind: Negative, positive or invariance.
        passed: Seeds in which it passed.
        failed: Seeds in which it failed.
        not_run: Seeds in which it could not be run.
        detail: What it said last.
    """

    name: str
    kind: ControlKind
    passed: int = 0
    failed: int = 0
    not_run: int = 0
    detail: str = ""


@dataclass(slots=True)
class Detection:
    """What one experiment did on all labs.

    Attributes:
        experiment: Which.
        verdicts: On the model, over seeds.
        twins: On random-init twins, over seeds.
        controls: On the model, in the experiment's order.
        failures: What could not be measured or judged, and why, one sentence each.
        wall_s: How long it took in all.
    """

    experiment: Experiment
    verdicts: Counter[Label] = field(default_factory=Counter[Label])
    twins: Counter[Label] = field(default_factory=Counter[Label])
    controls: dict[str, ControlCount] = field(default_factory=dict[str, ControlCount])
    failures: list[str] = field(default_factory=list[str])
    wall_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Counts what it did on one more lab."""
        self.wall_s += outcome.wall_s
        if outcome.label is None:
            self.failures.append(f"on {outcome.part}: {outcome.failure}")
            return
        if outcome.part.twin:
            self.twins[outcome.label] += 1
            return
        self.verdicts[outcome.label] += 1
        for control in outcome.controls:
            row = self.controls.setdefault(control.name, ControlCount(control.name, control.kind))
            row.passed += control.passed is True
            row.failed += control.passed is False
            row.not_run += control.passed is None
            row.detail = control.detail


def parts(setting: Setting) -> list[Part]:
    """Returns the labs of a setting, those on the model first."""
    return [
        *(Part(seed, False) for seed in setting.seeds),
        *(Part(seed, True) for seed in setting.twin_seeds),
    ]


def outcomes(
    lab: Lab,
    part: Part,
    catalog: Sequence[Experiment],
    setting: Setting,
    thresholds: Thresholds,
) -> list[Outcome]:
    """Returns what each experiment of a catalog does on one lab, in order.

    Args:
        lab: Model and text to draw from; nothing is stored in it.
        part: Which seed, and whether on a twin.
        catalog: The experiments.
        setting: On what to run them.
        thresholds: What was declared.
    """
    # One lab for all, so that the pass they share is made once.
    mine = _drawn(lab, setting, part)
    return [_outcome(experiment, mine, part, setting, thresholds) for experiment in catalog]


def merged(catalog: Sequence[Experiment], found: Iterable[Outcome]) -> list[Detection]:
    """Returns outcomes counted by experiment, in the catalog's order; unbuilt ones empty."""
    by_id = {experiment.id: Detection(experiment) for experiment in catalog}
    for outcome in found:
        by_id[outcome.experiment].add(outcome)
    return list(by_id.values())


def _drawn(lab: Lab, setting: Setting, part: Part) -> Lab:
    """Returns a lab on sentences of a seed's own, in a store of its own."""
    from bitgap.lab.lab import Lab
    from bitgap.models.twins import loaded_with, random_twin

    n = lab.corpus.n_sentences
    rng = np.random.default_rng(part.seed)
    chosen = np.sort(rng.permutation(n)[: min(setting.sentences, n)])
    text = lab.corpus.select(setting.languages, chosen)
    mine = Lab.of(lab.loaded, text, settings=replace(lab.settings, seed=part.seed))
    if not part.twin:
        return mine
    untrained = random_twin(lab.loaded.model, part.seed)
    return mine.twin(loaded_with(lab.loaded, untrained, "random"))


def _outcome(
    experiment: Experiment, lab: Lab, part: Part, setting: Setting, thresholds: Thresholds
) -> Outcome:
    start = time.perf_counter()
    label, controls, failure = None, (), None
    try:
        observations = experiment.measure(
            lab, setting.scheme, _parameters(experiment, setting, part.twin)
        )
        finding = experiment.judge(observations, thresholds)
        label, controls = finding.verdict.label, finding.controls
    except Exception as error:  # one experiment's fault must not cost the hours of all others
        failure = f"{type(error).__name__}: {error}"
    return Outcome(experiment.id, part, label, controls, failure, time.perf_counter() - start)


def _parameters(experiment: Experiment, setting: Setting, twin: bool) -> Any:
    if experiment.params is None:
        return None
    has = {f.name for f in fields(experiment.params)}
    wanted = {**setting.overrides, **setting.own_overrides.get(experiment.id, {})}
    wanted |= setting.twin_overrides if twin else {}
    return replace(experiment.params, **{k: v for k, v in wanted.items() if k in has})
