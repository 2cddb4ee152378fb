"""How often refutations are wrong, and what guards them: profiles whose correlation is known.

Each scenario is many worlds of one kind, judged by the real engine with every guard: the tests that
must concur, each block left out, and a correlation of twice the smallest effect of interest planted
in all families at once (in a single model, in its own profiles). Beside the rule of version 3
stands what version 2 would have said, which asked for no more than an interval under the smallest
effect of interest. Pure numpy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bitgap.experiments.protocol.family_rule import Correlation, Testable
from bitgap.experiments.protocol.planted_profile import planted_correlation
from bitgap.records import Control, Finding, Floats, Label, Verdict
from bitgap.stats.across import judge_families
from bitgap.stats.profiles import correlate_profiles
from bitgap.stats.verdicts import Part, Thresholds, judge
from validation.counts import Count
from validation.truth_table import BLANK, profile

SPIKE = 6.0
"""How far an end block lies beyond all others, in the profile's own units."""
NULL = Control(name="absent", kind="negative", passed=True, detail="")
CORRELATION = Correlation(name="mean correlation", x="x", y="y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Worlds of one kind.

    Attributes:
        told: What is true in them.
        families: M; one is a single model, judged by its own rule.
        layers: L of every family.
        slope: True correlation over blocks.
        sesoi: Smallest effect of interest.
        spikes: Size of what end blocks have on top, by block: the sign of the predictor's spike
            times the sign of the outcome's.
        kind: How profiles go with depth.
        limits: Required of a label: at most so often, or, where negative, at least so often.
    """

    told: str
    families: int = 10
    layers: int = 24
    slope: float
    sesoi: float
    spikes: Mapping[int, int] | None = None
    kind: str = "ar"
    limits: Mapping[Label, float]


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        told="r = .46, half as much again as matters", slope=0.46, sesoi=0.3,
        limits={"supported": -0.8, "refuted": 0.05},
    ),
    Scenario(
        told="r = .55, about twice what matters on Fisher's z", slope=0.55, sesoi=0.3,
        limits={"supported": -0.8, "refuted": 0.05},
    ),
    Scenario(told="nothing", slope=0.0, sesoi=0.3, limits={"refuted": -0.8, "supported": 0.05}),
    Scenario(
        told="just what matters", slope=0.3, sesoi=0.3, limits={"refuted": 0.05, "small": 0.05}
    ),
    Scenario(told="half of what matters", slope=0.15, sesoi=0.3, limits={"supported": 0.05}),
    Scenario(
        told="r = .7, opposite spikes at block 0", families=7, layers=12, slope=0.7, sesoi=0.5,
        spikes={0: -1}, limits={"refuted": 0.05},
    ),
    Scenario(
        told="r = .7, opposite spikes at the last block", families=7, layers=12, slope=0.7,
        sesoi=0.5, spikes={-1: -1}, limits={"refuted": 0.05},
    ),
    Scenario(
        told="r = .7, opposite spikes at both ends", families=7, layers=12, slope=0.7, sesoi=0.5,
        spikes={0: -1, -1: -1}, limits={"refuted": 0.05},
    ),
    Scenario(
        told="just what matters, opposite spikes at both ends", slope=0.3, sesoi=0.3,
        spikes={0: -1, -1: -1}, limits={"refuted": 0.05, "small": 0.05},
    ),
    Scenario(
        told="nothing, like spikes at block 0", families=7, layers=12, slope=0.0, sesoi=0.5,
        spikes={0: 1}, limits={"supported": 0.05},
    ),
    Scenario(
        told="nothing, like spikes at both ends", slope=0.0, sesoi=0.3, spikes={0: 1, -1: 1},
        limits={"supported": 0.05},
    ),
    Scenario(
        told="one model of 12 blocks, nothing", families=1, layers=12, slope=0.0, sesoi=0.5,
        limits={"refuted": 0.05, "supported": 0.05},
    ),
    Scenario(
        told="one model of 12 blocks, just what matters", families=1, layers=12, slope=0.5,
        sesoi=0.5, limits={"refuted": 0.05},
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GuardTally:
    """What was said of many worlds of one kind.

    Attributes:
        scenario: Their kind.
        n: How many.
        labels: How often each label was reached.
        before: In how many version 2 would have refuted, its positive controls being found.
        planted: In how many the planted correlation was detected.
    """

    scenario: Scenario
    n: int
    labels: Counter[str]
    before: int
    planted: int

    def rate(self, label: str) -> Count:
        """Returns how often a label was reached."""
        return Count(self.labels[label], self.n)


def guard_tally(scenario: Scenario, n: int, seed: int, thresholds: Thresholds) -> GuardTally:
    """Returns what the engine says of n worlds.

    Args:
        scenario: Their kind.
        n: How many.
        seed: Of the first.
        thresholds: What was declared.
    """
    rng = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    labels, before, planted = Counter[str](), 0, 0
    for _ in range(n):
        verdict, part, plant = _judged(scenario, rng, thresholds)
        labels[verdict.label] += 1
        before += part.estimate.high is not None and part.estimate.high < scenario.sesoi
        planted += plant.passed is True
    return GuardTally(scenario, n, labels, before, planted)


def _judged(
    scenario: Scenario, rng: np.random.Generator, thresholds: Thresholds
) -> tuple[Verdict, Part, Control]:
    profiles = [_pair(scenario, rng) for _ in range(scenario.families)]
    sesoi, alpha = scenario.sesoi, thresholds.alpha
    if scenario.families == 1:
        x, y = profiles[0]
        found = correlate_profiles(x, y, thresholds.level).part("correlation", sesoi)
        plant = planted_correlation(x, y, sesoi, thresholds)
        return judge([found], [NULL, plant], alpha=alpha), found, plant
    findings: Testable = [(str(i), _finding(x, y)) for i, (x, y) in enumerate(profiles)]
    across = CORRELATION(findings, thresholds)
    plant = CORRELATION.planted(findings, thresholds, sesoi)
    verdict = judge_families([across], [sesoi], [NULL], thresholds, own=[(plant,)])
    return verdict, across.part(sesoi, alpha), plant


def _pair(scenario: Scenario, rng: np.random.Generator) -> tuple[Floats, Floats]:
    x, own = (profile(scenario.kind, rng, scenario.layers) for _ in range(2))
    y = scenario.slope * x + np.sqrt(1 - scenario.slope**2) * own
    for block, sign in (scenario.spikes or {}).items():
        x[block] = x.max() + SPIKE
        y[block] = y.max() + SPIKE if sign > 0 else y.min() - SPIKE
    return x, y


def _finding(x: Floats, y: Floats) -> Finding:
    rows = [{"x": a, "y": b} for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return replace(BLANK, tables={"blocks": rows})
