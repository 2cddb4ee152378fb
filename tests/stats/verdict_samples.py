"""Parts, controls and findings to judge, each sound unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.records import Control, ControlKind, Estimate, Finding, Verdict
from bitgap.stats.verdicts import Part

SESOI = 0.5
ALPHA = 0.05


def part(
    value: float | None = 0.8,
    low: float | None = 0.6,
    high: float | None = 0.9,
    *,
    p: float | None = 0.001,
    p_minimum: float = 1e-4,
    name: str = "effect",
    sesoi: float = SESOI,
    p_equivalence: float | None = 0.001,
    chance: float = 0.0,
    concurring: Mapping[str, float] | None = None,
    without: Mapping[str, Estimate] | None = None,
    controls: tuple[Control, ...] = (),
    over_blocks: bool = False,
) -> Part:
    return Part(
        name=name,
        estimate=estimated(value, low, high),
        sesoi=sesoi,
        p=p,
        p_minimum=p_minimum,
        p_equivalence=p_equivalence,
        chance=chance,
        concurring=concurring or {},
        without={} if without is None else without,
        controls=controls,
        over_blocks=over_blocks,
    )


def estimated(value: Any, low: Any, high: Any) -> Estimate:
    return Estimate(value=value, low=low, high=high, unit="r", reason="it was not measured")


def control(kind: ControlKind, passed: bool | None = True, name: str | None = None) -> Control:
    return Control(name=name or f"the {kind} one", kind=kind, passed=passed, detail="")


def sound(
    *, positive: bool | None = True, negative: bool | None = True, invariance: bool | None = True
) -> list[Control]:
    """Returns one control of each kind."""
    return [
        control("positive", positive),
        control("negative", negative),
        control("invariance", invariance),
    ]


def finding(verdict: Verdict, experiment: str = "T-000") -> Finding:
    return Finding(
        experiment=experiment,
        hypothesis="H0",
        title="",
        primary="effect",
        estimates={},
        original_measure={},
        controls=(),
        verdict=verdict,
        sentence="",
    )
