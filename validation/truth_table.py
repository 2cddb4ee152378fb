"""The verdict truth table: planted worlds of model families through the real verdict engine.

A *world* is M families of L layers in which each of the twelve hypotheses has a known truth:

========  =====================================================  ==================================
truth     what holds                                             what the engine should say
========  =====================================================  ==================================
none      no effect                                              "supported" in at most α of worlds
sesoi     the smallest effect of interest, exactly               "refuted" in at most α of worlds,
                                                                 and "small" likewise
half way  half of it                                             "small" where it can be seen
twice     twice that; for a correlation on Fisher's z scale      "supported" in at least 80 %
half      twice that for a random half, none for the others      no false "supported" in 1 − α
faint     no effect, and far too much noise to see one           "inconclusive"
few       no effect, in three families                           "inconclusive"
========  =====================================================  ==================================

Every statistic is made from what a family would hand in: profiles, effects with intervals,
bootstrap draws of a profile, outlyingness by layer. Controls count as sound and further declared
conditions as met, which is where false support is likeliest. Pure numpy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import ndtr, ndtri

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.family_rule import (
    BothEnds,
    Correlation,
    Effect,
    PeakInWindow,
)
from bitgap.records import Control, Estimate, Finding, Floats, Label, Verdict
from bitgap.stats.across import Across, judge_families
from bitgap.stats.families import (
    FamilyEffect,
    FamilyEnds,
    FamilyPeak,
    FamilyProfiles,
    both_ends_across,
    both_ends_percentile,
    correlation_across,
    effect_across,
    window_across,
)
from bitgap.stats.profiles import depths, detrend, in_window, locate_peak, window_share
from bitgap.stats.verdicts import Thresholds, with_holm
from bitgap.theory.formal import HYPOTHESIS as FORMAL

KINDS = ("ar", "walk", "trend")
TRUTHS = ("none", "sesoi", "half way", "twice", "half", "faint", "few")
FEW = 3
"""Families of the truth "few": under the five that are declared."""
SPREAD = 0.6
"""SD of an effect between families, in smallest effects of interest; with the error within a
family it comes to one: families differ by as much as matters."""
ERROR = 0.8
"""Mean standard error of an effect within a family, likewise."""
FAINT = 6.0
"""How many times that both are where the truth is "faint"."""
FAINT_Z = 2.0
"""SD of a correlation between families, on Fisher's z scale, where the truth is "faint"."""
DRAWS = 120
"""Bootstrap draws of a profile; its peak's place is read off them, not tested."""
BLANK = Finding(
    experiment="",
    hypothesis="",
    title="",
    primary="",
    estimates={},
    original_measure={},
    controls=(),
    verdict=Verdict(label="inconclusive", scope="", reason=""),
    sentence="",
)
_CONTROLS = (
    Control(name="planted", kind="positive", passed=True, detail=""),
    Control(name="absent", kind="negative", passed=True, detail=""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Some families, as far as they are known beforehand.

    Attributes:
        families: M.
        layers: L.
        kind: How profiles go with depth: ``ar``, ``walk`` or ``trend``.
        truth: One of :data:`TRUTHS`.
    """

    families: int
    layers: int
    kind: str
    truth: str

    @property
    def m(self) -> int:
        """How many families there are in this world."""
        return FEW if self.truth == "few" else self.families


@dataclass(frozen=True, slots=True)
class Tally:
    """What the engine said in many worlds of one kind.

    Attributes:
        world: Their kind.
        n: How many.
        labels: By hypothesis, how often each label was reached after Holm, with all hypotheses as
            the truth has them.
        alone: By hypothesis, how often "supported" also at twelve times its p: as if the other
            eleven hypotheses had no effect at all.
        before: By hypothesis, how often "refuted" at its own p of equivalence: as if no other
            hypothesis could be refuted.
        false: Worlds in which anything without an effect was supported.
        refuted: Worlds in which anything with an effect of the SESOI or more was refuted.
    """

    world: World
    n: int
    labels: Mapping[str, Counter[Label]]
    alone: Counter[str]
    before: Counter[str]
    false: int
    refuted: int


def tally(world: World, n: int, seed: int, thresholds: Thresholds) -> Tally:
    """Returns what the engine says in n worlds of one kind."""
    rng = np.random.default_rng([seed, *_numbers(world)])
    names = hypotheses(thresholds)
    labels: dict[str, Counter[Label]] = {name: Counter() for name in names}
    alone: Counter[str] = Counter()
    before: Counter[str] = Counter()
    false = refuted = 0
    for _ in range(n):
        effects = _effects(world, rng, len(names))
        judged = _judge(world, dict(zip(names, effects, strict=True)), rng, thresholds)
        wrong = wrongly_refuted = False
        before.update(f.hypothesis for f in judged if f.verdict.label == "refuted")
        judged = with_holm(judged, thresholds.alpha)
        for finding, effect in zip(judged, effects, strict=True):
            verdict = finding.verdict
            supported = verdict.label == "supported"
            # In a mixed world, only hypotheses without an effect are told of.
            if world.truth != "half" or effect == 0:
                labels[finding.hypothesis][verdict.label] += 1
            worst = verdict.p is not None and len(names) * verdict.p < thresholds.alpha
            alone[finding.hypothesis] += supported and worst
            wrong = wrong or (supported and effect == 0)
            wrongly_refuted |= verdict.label == "refuted" and effect >= 1
        false += wrong
        refuted += wrongly_refuted
    return Tally(world, n, labels, alone, before, false, refuted)


def hypotheses(thresholds: Thresholds) -> tuple[str, ...]:
    """Returns the family of twelve: the hypotheses that Holm is taken over."""
    return tuple(h for h in thresholds.hypotheses if h not in thresholds.exploratory)


def worlds(families: Sequence[int] = (5, 8), layers: Sequence[int] = (12, 24)) -> Iterator[World]:
    """Yields every kind of world; noise that hides everything needs no profile of each kind."""
    for truth in TRUTHS:
        kinds = KINDS if truth not in ("faint", "few", "half way") else ("ar",)
        for m in families[:1] if truth == "few" else families:
            for n_blocks in layers:
                for kind in kinds:
                    yield World(families=m, layers=n_blocks, kind=kind, truth=truth)


def _numbers(world: World) -> list[int]:
    order = [world.families, world.layers, KINDS.index(world.kind), TRUTHS.index(world.truth)]
    return order


def _effects(world: World, rng: np.random.Generator, n: int) -> list[float]:
    """Returns each hypothesis's effect in smallest effects of interest."""
    fixed = {"sesoi": 1.0, "half way": 0.5, "twice": 2.0}.get(world.truth, 0.0)
    if world.truth == "half":
        return [float(x) for x in 2.0 * (rng.permutation(n) < n // 2)]
    return [fixed] * n


def _judge(
    world: World, effects: Mapping[str, float], rng: np.random.Generator, thresholds: Thresholds
) -> list[Finding]:
    """Returns what is said of every hypothesis before Holm."""
    findings = []
    for name, effect in effects.items():
        makers = _makers(name)
        sizes = _part_effects(world, effect, len(makers), rng)
        made = [
            make(world, size, rng, thresholds) for make, size in zip(makers, sizes, strict=True)
        ]
        verdict = judge_families(
            [across for across, _ in made], [sesoi for _, sesoi in made], _CONTROLS, thresholds
        )
        findings.append(replace(BLANK, hypothesis=name, verdict=verdict))
    return findings


def _part_effects(world: World, effect: float, n: int, rng: np.random.Generator) -> list[float]:
    """Returns the effect of each part; a hypothesis of several is false if one part is.

    The least favourable of those is where all others are true.
    """
    sizes = [effect] * n
    if effect == 0 and world.truth in ("none", "half"):
        sizes = [2.0] * n
        sizes[rng.integers(n)] = 0.0
    return sizes


# -- what families hand in ------------------------------------------------------------------------

Made = tuple[Across, float]
Maker = Callable[[World, float, np.random.Generator, Thresholds], Made]


def profile(kind: str, rng: np.random.Generator, n: int) -> Floats:
    """Returns a profile of n layers: AR(1) at .7, a random walk, noise on a steep bend or alone."""
    noise = rng.normal(size=n)
    if kind == "independent":
        return noise
    if kind == "trend":
        r = depths(n)
        return rng.normal(0, 5) * r + rng.normal(0, 5) * r**2 + noise
    if kind == "walk":
        return noise.cumsum()
    noise[0] /= np.sqrt(1 - 0.7**2)
    for i in range(1, n):
        noise[i] += 0.7 * noise[i - 1]
    return noise


def _correlation(name: str, key: str) -> Maker:
    def make(world: World, effect: float, rng: np.random.Generator, thresholds: Thresholds) -> Made:
        sesoi = float(thresholds.of(name)[key])
        slope = float(np.tanh(effect * np.arctanh(sesoi)))
        faint = world.truth == "faint"
        made = []
        for i in range(world.m):
            # Families that disagree wildly are what hides a mean correlation.
            mine = float(np.tanh(FAINT_Z * rng.normal())) if faint else slope
            x, own = (profile(world.kind, rng, world.layers) for _ in range(2))
            y = mine * x + np.sqrt(1 - mine**2) * own
            made.append(FamilyProfiles(family=f"{i}", predictor=x, outcome=y))
        return correlation_across(made, level=thresholds.level), sesoi

    return make


def _effect(name: str, key: str) -> Maker:
    def make(world: World, effect: float, rng: np.random.Generator, thresholds: Thresholds) -> Made:
        sesoi = float(thresholds.of(name)[key])
        noise = sesoi * (FAINT if world.truth == "faint" else 1.0)
        errors = noise * ERROR * rng.uniform(0.7, 1.3, world.m)
        centre = effect * sesoi + noise * SPREAD * rng.normal(size=world.m)
        values = centre + errors * rng.normal(size=world.m)
        half = errors * ndtri((1 + thresholds.level) / 2)
        made = [
            FamilyEffect(
                family=f"{i}",
                estimate=Estimate(value=v, low=v - h, high=v + h, unit="", level=thresholds.level),
            )
            for i, (v, h) in enumerate(zip(values.tolist(), half.tolist(), strict=True))
        ]
        return effect_across(made, name=name, level=thresholds.level), sesoi

    return make


def _window(name: str, key: str) -> Maker:
    def make(world: World, effect: float, rng: np.random.Generator, thresholds: Thresholds) -> Made:
        sesoi, window = float(thresholds.of(name)[key]), thresholds.window
        null = window_share(world.layers, window)
        # A rate of hits: by chance, the smallest of interest, and 1 at twice that, which is .5.
        rate = min(1.0, effect * sesoi) if effect else null
        made = []
        for i in range(world.m):
            # Faint profiles are flat, so that nothing but their error decides where they peak.
            error = 0.3
            point = _peaked(world, rate, rng, window) + error * rng.normal(size=world.layers)
            draws = point + error * rng.normal(size=(DRAWS, world.layers))
            peak = locate_peak(draws, point, thresholds.level)
            made.append(FamilyPeak(family=f"{i}", peak=peak, n_blocks=world.layers))
        return window_across(made, window, level=thresholds.level), sesoi

    return make


def _peaked(
    world: World, rate: float, rng: np.random.Generator, window: tuple[float, float]
) -> Floats:
    """Returns a profile of unit spread that peaks in the window at a rate; flat if faint."""
    if world.truth == "faint":
        return np.zeros(world.layers)
    inside = in_window(depths(world.layers), window)
    at = rng.choice(np.flatnonzero(inside if rng.random() < rate else ~inside))
    made = profile(world.kind, rng, world.layers)
    made = (made - made.mean()) / made.std()
    made[at] = made.max() + 2.0
    return made


def _ends(name: str, key: str) -> Maker:
    def make(world: World, effect: float, rng: np.random.Generator, thresholds: Thresholds) -> Made:
        sesoi = float(thresholds.of(name)[key])
        lift = _lift(world.kind, world.layers, effect, sesoi)
        made = [
            FamilyEnds(family=f"{i}", outlyingness=_outlyingness(world, lift, rng))
            for i in range(world.m)
        ]
        return both_ends_across(made, level=thresholds.level), sesoi

    return make


def _outlyingness(world: World, lift: float, rng: np.random.Generator) -> Floats:
    """Returns how far each layer lies from its profile's trend, the ends lifted on top."""
    left = np.abs(detrend(profile(world.kind, rng, world.layers)))
    left /= left.mean()
    left[[0, -1]] += lift
    return left


@cache
def _lift(kind: str, layers: int, effect: float, sesoi: float) -> float:
    """Returns the lift of both ends at which their mean percentile is the planted one.

    The planted percentile is the SESOI, .9, or, at twice the distance from ½ in standard normal
    deviates, .995; where the best percentile of so few pairs lies under that, nearly the best.
    """
    if effect == 0:
        return 0.0
    best = 1 - 1 / (layers * (layers - 1))
    wanted = min(float(ndtr(effect * ndtri(sesoi))), best - 0.002)
    world = World(families=1, layers=layers, kind=kind, truth="none")
    rng = np.random.default_rng(0)
    flat = [_outlyingness(world, 0.0, rng) for _ in range(1500)]
    ends = np.isin(np.arange(layers), (0, layers - 1))

    def mean(lift: float) -> float:
        return float(np.mean([both_ends_percentile(out + lift * ends) for out in flat]))

    low, high = 0.0, 12.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < wanted else (low, middle)
    return (low + high) / 2


@cache
def _makers(hypothesis: str) -> tuple[Maker, ...]:
    """Returns what makes each statistic of a hypothesis, all of which must pass."""
    if hypothesis == FORMAL.id:  # its gain is an effect
        return (_effect(hypothesis, "sesoi"),)
    (experiment,) = (e for e in CATALOG if e.hypothesis.id == hypothesis)
    return tuple(_MAKERS[type(s)](hypothesis, s.sesoi) for s in experiment.rule.statistics)


_MAKERS: Mapping[type, Callable[[str, str], Maker]] = {
    Correlation: _correlation,
    Effect: _effect,
    PeakInWindow: _window,
    BothEnds: _ends,
}
