"""Findings of single models with just what the verdict across families reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.records import Control, Estimate, Finding, Floats, Verdict
from bitgap.theory.evidence import Evidence

POSITIVE = Control(name="planted", kind="positive", passed=True, detail="found")
NEGATIVE = Control(name="null", kind="negative", passed=True, detail="null")


def finding(
    experiment: str,
    hypothesis: str,
    estimates: Mapping[str, Estimate],
    *,
    tables: Mapping[str, Any] | None = None,
    controls: Sequence[Control] = (POSITIVE, NEGATIVE),
    label: Any = "inconclusive",
) -> Finding:
    return Finding(
        experiment=experiment,
        hypothesis=hypothesis,
        title="a sample",
        primary=next(iter(estimates)),
        estimates=estimates,
        original_measure={},
        controls=tuple(controls),
        verdict=Verdict(label=label, scope="this model", reason=f"{label} for a reason"),
        sentence="It is so.",
        tables=tables or {},
    )


def effect(value: float, spread: float = 0.05, unit: str = "share") -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread, unit=unit, n=9)


def place(r: float, width: float = 0.05) -> Estimate:
    return Estimate(value=r, low=r - width, high=r + width, unit="relative depth", n=9)


def blocks(**columns: Floats) -> list[dict[str, float]]:
    n = len(next(iter(columns.values())))
    return [
        {"block": i, **{name: float(values[i]) for name, values in columns.items()}}
        for i in range(n)
    ]


def evidence(family: str, *findings: Finding, n_blocks: int = 12, model: str = "") -> Evidence:
    ones = np.ones(n_blocks)
    pairs = np.ones((n_blocks, 2))
    return Evidence(
        model=model or f"{family}-{n_blocks}",
        family=family,
        fingerprint=family,
        scheme="rtn3-g128",
        languages=("en", "he"),
        t2=ones,
        log_variance=ones,
        log_dimension=ones,
        log_error_ratio=pairs,
        sensitivity=pairs,
        single=pairs,
        tokens=np.array([100, 150]),
        masks=np.array([0, 1]),
        damage=np.ones((2, 2)),
        shapley={},
        original_predictors={},
        original_disparity=ones,
        bits_per_byte={"en": 2.0, "he": 2.5},
        findings={f.hypothesis: f for f in findings},
    )


def with_control(one: Finding, control: Control) -> Finding:
    return replace(one, controls=(*one.controls, control))
