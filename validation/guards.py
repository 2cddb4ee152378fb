"""How often refutations are wrong, and what guards them: profiles whose correlation is known.

Each scenario is many worlds of one kind, judged by the real engine with every guard: the tests that
must concur, each block left out, and a correlation of twice the smallest effect of interest planted
in all families at once (in a single model, in its own profiles). Beside the rule of version 3
stands what version 2 would have said, which asked for no more than an interval under the smallest
effect of interest, and left no block out. Which guard keeps a refutation back is counted too. Pure
numpy.
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
from bitgap.stats.profiles import WITHOUT_ENDS, correlate_profiles
from bitgap.stats.verdicts import Part, Thresholds, judge, load_thresholds
from validation.counts import Count
from validation.truth_table import BLANK, hypotheses, profile

SPIKE = 6.0
"""How far an end block lies beyond all others, in the profile's own units."""
NULL = Control(name="absent", kind="negative", passed=True, detail="")
MEMBERS = len(hypotheses(load_thresholds()))
"""Hypotheses that Holm is taken over."""
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
        kind: How profiles go with depth; ``independent`` is noise of each block's own.
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
        told="nothing, 14 families", families=14, slope=0.0, sesoi=0.3, limits={"refuted": -0.8},
    ),
    Scenario(
        told="nothing, each block for itself", slope=0.0, sesoi=0.3, kind="independent",
        limits={"refuted": -0.8, "supported": 0.05},
    ),
    Scenario(
        told="nothing, random walks", slope=0.0, sesoi=0.3, kind="walk",
        limits={"supported": 0.05},
    ),
    Scenario(
        told="just what matters", slope=0.3, sesoi=0.3, limits={"refuted": 0.05, "small": 0.05}
    ),
    Scenario(
        told="just what matters, each block for itself", slope=0.3, sesoi=0.3, kind="independent",
        limits={"refuted": 0.05, "small": 0.05},
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


GUARDS = (
    "equivalence",
    "sign flip",
    "model swap",
    "planted correlation",
    "without an end block, or both",
    "without an inner block",
)
"""What a refutation needs beside an interval under the smallest effect of interest, in order."""


@dataclass(frozen=True, slots=True)
class GuardTally:
    """What was said of many worlds of one kind.

    Attributes:
        scenario: Their kind.
        n: How many.
        labels: How often each label was reached.
        before: In how many version 2 would have refuted, its positive controls being found.
        loose: How many would be supported if no block were left out.
        planted: In how many the planted correlation was detected.
        after_holm: How many are refuted also at twelve times the p of equivalence: as if the other
            eleven hypotheses were there.
        kept_back: By guard, how many refutations of version 2 it keeps back.
        alone: By guard, how many of these no other guard keeps back.
    """

    scenario: Scenario
    n: int
    labels: Counter[str]
    before: int
    loose: int
    planted: int
    after_holm: int
    kept_back: Counter[str]
    alone: Counter[str]

    def rate(self, label: str) -> Count:
        """Returns how often a label was reached."""
        return Count(self.labels[label], self.n)

    def __add__(self, other: GuardTally) -> GuardTally:
        """Returns both together; of one scenario."""
        return GuardTally(
            self.scenario,
            self.n + other.n,
            self.labels + other.labels,
            self.before + other.before,
            self.loose + other.loose,
            self.planted + other.planted,
            self.after_holm + other.after_holm,
            self.kept_back + other.kept_back,
            self.alone + other.alone,
        )


def guard_tally(scenario: Scenario, n: int, seed: int, thresholds: Thresholds) -> GuardTally:
    """Returns what the engine says of n worlds.

    Args:
        scenario: Their kind.
        n: How many.
        seed: Of the first.
        thresholds: What was declared.
    """
    # By name, so that a scenario that comes in between leaves the others' worlds as they are.
    rng = np.random.default_rng([seed, *scenario.told.encode()])
    labels, kept_back, alone = Counter[str](), Counter[str](), Counter[str]()
    before = loose = planted = after_holm = 0
    for _ in range(n):
        verdict, part, plant, unguarded = _judged(scenario, rng, thresholds)
        labels[verdict.label] += 1
        under = part.estimate.high is not None and part.estimate.high < scenario.sesoi
        before += under
        loose += unguarded.label == "supported"
        planted += plant.passed is True
        p = verdict.p_equivalence
        after_holm += (
            verdict.label == "refuted" and p is not None and MEMBERS * p < thresholds.alpha
        )
        if under and verdict.label != "small":
            failed = [g for g, holds in _guards(part, plant, thresholds.alpha) if not holds]
            kept_back.update(failed)
            alone.update(failed if len(failed) == 1 else ())
            # The engine and this list must be of one mind, or the shares tell of another rule.
            assert (verdict.label == "refuted") == (not failed), (verdict, failed)
    return GuardTally(scenario, n, labels, before, loose, planted, after_holm, kept_back, alone)


def _guards(part: Part, plant: Control, alpha: float) -> list[tuple[str, bool]]:
    """Returns each guard of a refutation by name, and whether it lets it pass."""
    p, last = part.p_equivalence, len(part.without) - 2
    ends = {f"without block {i}" for i in (0, -1, last)} | {WITHOUT_ENDS}
    under = {
        name: left.high is not None and left.high < part.sesoi
        for name, left in part.without.items()
    }
    holds = [
        p is not None and p < alpha,
        part.concurring.get("sign flip", 0.0) < alpha,
        part.concurring.get("model swap", 0.0) < alpha,
        plant.passed is True,
        all(holds for name, holds in under.items() if name in ends),
        all(holds for name, holds in under.items() if name not in ends),
    ]
    return list(zip(GUARDS, holds, strict=True))


def _judged(
    scenario: Scenario, rng: np.random.Generator, thresholds: Thresholds
) -> tuple[Verdict, Part, Control, Verdict]:
    """Returns the verdict, its part, the planted control, and what is said if no block is left
    out for support.
    """
    profiles = [_pair(scenario, rng) for _ in range(scenario.families)]
    sesoi, alpha = scenario.sesoi, thresholds.alpha
    if scenario.families == 1:
        x, y = profiles[0]
        found = correlate_profiles(x, y, thresholds.level).part("correlation", sesoi)
        plant = planted_correlation(x, y, sesoi, thresholds)
        verdict, loose = (
            judge([one], [NULL, plant], alpha=alpha)
            for one in (found, replace(found, over_blocks=False))
        )
        return verdict, found, plant, loose
    findings: Testable = [(str(i), _finding(x, y)) for i, (x, y) in enumerate(profiles)]
    across = CORRELATION(findings, thresholds)
    plant = CORRELATION.planted(findings, thresholds, sesoi)
    verdict = judge_families([across], [sesoi], [NULL], thresholds, own=[(plant,)])
    loose = verdict
    if (across.estimate.high or 0.0) >= sesoi:  # else it is not for support
        unbound = replace(across, over_blocks=False)
        loose = judge_families([unbound], [sesoi], [NULL], thresholds, own=[(plant,)])
    return verdict, across.part(sesoi, alpha), plant, loose


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
