"""A judge is asked once of the same observations, and again of others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bitgap.experiments.judging import judged
from bitgap.records import Finding, Observations
from bitgap.stats.verdicts import load_thresholds

SEEN = Observations(
    experiment="T-001", version=1, arrays={"x": np.arange(6.0).reshape(2, 3)}, facts={"a": 1}
)


@pytest.fixture
def asked() -> list[Observations]:
    return []


def judge_of(asked: list[Observations]) -> Any:
    def judge(observations: Observations, _: Any) -> Finding:
        asked.append(observations)
        return object()  # type: ignore[return-value]

    return judge


def test_the_same_observations_are_judged_once(asked: list[Observations]) -> None:
    judge, thresholds = judge_of(asked), load_thresholds()
    again = replace(SEEN, arrays={"x": SEEN.arrays["x"].copy()})
    assert judged(judge, SEEN, thresholds) is judged(judge, again, thresholds)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"arrays": {"x": np.arange(6.0).reshape(3, 2)}},
        {"arrays": {"x": np.arange(6).reshape(2, 3)}},
        {"arrays": {"y": SEEN.arrays["x"]}},
        {"arrays": {"x": SEEN.arrays["x"] + np.eye(2, 3) * 1e-12}},
        {"facts": {"a": 2}},
        {"version": 2},
        {"experiment": "T-002"},
    ],
)
def test_whatever_differs_is_judged_anew(
    changed: dict[str, Any], asked: list[Observations]
) -> None:
    judge, thresholds = judge_of(asked), load_thresholds()
    judged(judge, SEEN, thresholds)
    judged(judge, replace(SEEN, **changed), thresholds)
    judged(judge, SEEN, replace(thresholds, hash="another"))
    assert len(asked) == 3
