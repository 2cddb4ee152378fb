"""How a hypothesis is judged over model families: its statistics, and what else each must show.

An experiment's part ``families`` declares a :class:`Rule` as ``RULE``. A statistic is read off the
findings of single models; one that is none of the four here is any callable with a ``sesoi``.
Several checkpoints of one family come under one name and count as one unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from bitgap.experiments.protocol.controls import clear, detection, not_run
from bitgap.experiments.protocol.peak_window import read_without
from bitgap.experiments.protocol.planted_profile import planted_profiles, planted_strength
from bitgap.records import Control, Finding, Floats
from bitgap.stats.across import Across
from bitgap.stats.families import (
    FamilyEffect,
    FamilyEnds,
    FamilyPeak,
    FamilyProfiles,
    both_ends_across,
    correlation_across,
    correlations_with,
    effect_across,
    window_across,
)
from bitgap.stats.profiles import Peak, correlate_profiles
from bitgap.stats.verdicts import Thresholds

Testable = Sequence[tuple[str, Finding]]
"""(family, finding) of every checkpoint whose finding is testable; names repeat. Where the rule's
unit is the training mix, the name is the mix's."""

PLANTINGS = 20
"""How often a correlation is planted in all families at once."""

Condition = Callable[[Finding, Mapping[str, Any]], bool]
"""(finding, what was declared for its hypothesis) -> whether it holds in that family."""


class Statistic(Protocol):
    """A number over families, with its test."""

    @property
    def sesoi(self) -> str:
        """Key of its declared smallest effect of interest."""
        ...

    def __call__(self, findings: Testable, thresholds: Thresholds) -> Across:
        """Returns the number with its interval and tests."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one hypothesis is judged across families.

    Attributes:
        statistics: All of which must pass.
        further: What else a family must show for support, by how it is told.
        informative: Whether a family's finding can speak at all, and how to say that it cannot;
            one that cannot is left out.
        unit: What is exchangeable: model families, or, where the claim is about languages, the
            mixes that models were trained on. How languages differ is nearly the same in all models
            of one mix, so that these are one unit.
        written: A statistic of the origin's own wording, where that names another than what is
            asked; judged by the same rule beside the verdict, which it cannot change.
    """

    statistics: tuple[Statistic, ...]
    further: Mapping[str, Condition] = field(default_factory=dict[str, Condition])
    informative: tuple[Condition, str] | None = None
    unit: Literal["family", "mix"] = "family"
    written: Statistic | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """The mean over families of a correlation of two profiles over blocks.

    Attributes:
        name: What it is.
        x: Column of the finding's table ``blocks``.
        y: Likewise; of several columns the mean.
        sign: −1 where a negative correlation supports the hypothesis.
        sesoi: Key of its smallest effect of interest.
    """

    name: str
    x: str
    y: str | tuple[str, ...]
    sign: float = 1.0
    sesoi: str = "sesoi"

    def __call__(self, findings: Testable, thresholds: Thresholds) -> Across:
        """Returns it over the families given."""
        return correlation_across(self._profiles(findings), name=self.name, level=thresholds.level)

    def _profiles(self, findings: Testable) -> list[FamilyProfiles]:
        return [
            FamilyProfiles(
                family=family,
                predictor=column(f.tables["blocks"], self.x),
                outcome=self.sign * column(f.tables["blocks"], self.y),
            )
            for family, f in findings
        ]

    def planted(self, findings: Testable, thresholds: Thresholds, sesoi: float) -> Control:
        """Returns the positive control of the pooled correlation: twice the SESOI in every family.

        What one model of twelve blocks cannot find, ten families may; so whether this design is
        blind is asked of all families together.

        Args:
            findings: As it is called with.
            thresholds: What was declared.
            sesoi: Smallest effect of interest.
        """
        strength = planted_strength(sesoi, thresholds)
        name = f"planted across families: {self.name} of {strength:.2g}"
        profiles = self._profiles(findings)
        left_out = correlation_across(profiles, level=thresholds.level).left_out
        kept = [f for f in profiles if f.family not in left_out and _varies(f)]
        if len({f.family for f in kept}) < 2:
            return not_run(name, "positive", "fewer than two families have the profiles")
        outcomes = [
            planted_profiles(f.predictor, f.outcome, strength, PLANTINGS, seed)
            for seed, f in enumerate(kept)
        ]
        found = [
            p < thresholds.alpha and clear(estimate, sesoi)
            for estimate, p in correlations_with(kept, outcomes, thresholds.level)
        ]
        sought = f"at least {sesoi:g}, clearly above 0 and p under {thresholds.alpha:g}"
        return detection(name, found, sought, thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The mean over families of an estimate, by random effects."""

    name: str
    estimate: str
    sesoi: str = "sesoi"

    def __call__(self, findings: Testable, thresholds: Thresholds) -> Across:
        """Returns it over the families given."""
        families = [
            FamilyEffect(family=family, estimate=f.estimates[self.estimate])
            for family, f in findings
        ]
        return effect_across(families, name=self.name, level=thresholds.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakInWindow:
    """In how many families a profile has its extreme in the declared window of depth.

    Attributes:
        name: What it is.
        estimate: The place of the extreme, in relative depth; the finding's table ``profile`` has
            a row a block, and its table ``without`` may have the place without each.
        sesoi: Key of its smallest effect of interest.
    """

    name: str
    estimate: str
    sesoi: str = "sesoi"

    def __call__(self, findings: Testable, thresholds: Thresholds) -> Across:
        """Returns it over the families given."""
        families = [
            FamilyPeak(
                family=family,
                peak=_peak(f, self.estimate),
                n_blocks=len(f.tables["profile"]),
            )
            for family, f in findings
        ]
        return window_across(families, thresholds.window, name=self.name, level=thresholds.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class BothEnds:
    """How far both end blocks stand out among all pairs, by the table ``outlying``."""

    sesoi: str = "sesoi"

    def __call__(self, findings: Testable, thresholds: Thresholds) -> Across:
        """Returns it over the families given."""
        families = [
            FamilyEnds(family=family, outlyingness=column(f.tables["outlying"], "value"))
            for family, f in findings
        ]
        return both_ends_across(families, level=thresholds.level)


def column(rows: Sequence[Mapping[str, Any]], name: str | tuple[str, ...]) -> Floats:
    """Returns a column of a table, (L), NaN where there is no number; of several the mean."""
    if not isinstance(name, str):
        return np.mean([column(rows, one) for one in name], axis=0)
    values = [row[name] for row in rows]
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _varies(family: FamilyProfiles) -> bool:
    found = correlate_profiles(family.predictor, family.outcome).estimate
    return found.value is not None


def _peak(finding: Finding, estimate: str) -> Peak:
    place, n_blocks = finding.estimates[estimate], len(finding.tables["profile"])
    assert place.value is not None
    without = read_without(finding.tables.get("without", {}))
    # The share of draws at the mode is no part of the test across families.
    return Peak(
        place=place,
        block=round(place.value * (n_blocks - 1)),
        share=float("nan"),
        leave_out=lambda: without,
    )


# -- conditions -----------------------------------------------------------------------------------


def low_above(estimate: str, bound: float) -> Condition:
    """Returns the condition that an interval lies above a bound."""

    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        low = finding.estimates[estimate].low
        return low is not None and low > bound

    return holds


def positive(estimate: str) -> Condition:
    """Returns the condition that a value is above 0."""

    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        value = finding.estimates[estimate].value
        return value is not None and value > 0

    return holds


def at_least(estimate: str, threshold: str) -> Condition:
    """Returns the condition that a value reaches what was declared under a key."""

    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        value = finding.estimates[estimate].value
        return value is not None and value >= declared[threshold]

    return holds


def same_sign(one: str, other: str) -> Condition:
    """Returns the condition that two values have one sign."""

    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        a, b = finding.estimates[one].value, finding.estimates[other].value
        return a is not None and b is not None and a * b > 0

    return holds


def told_true(table: str, *keys: str) -> Condition:
    """Returns the condition that a table of facts has True under all of some keys."""

    def holds(finding: Finding, declared: Mapping[str, Any]) -> bool:
        return all(bool(finding.tables[table][key]) for key in keys)

    return holds
