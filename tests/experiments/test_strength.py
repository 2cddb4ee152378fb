"""How strong a plant must be: parabolas, saturation, crossed errors, and what cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from bitgap.experiments.plants.strength import TOLERANCE, strengths_for
from bitgap.experiments.protocol.effects import bounded_p, bounded_p_equivalence, planted
from bitgap.records import Estimate
from harness import QUICK


def search(theta, wanted: float = 0.2, start: float = 0.1, n: int = 1) -> list[float]:
    def all_at_once(trying: Mapping[int, float]) -> dict[int, float]:
        return {i: theta(s) for i, s in trying.items()}

    return strengths_for(all_at_once, n, without=theta(0.0), wanted=wanted, start=start)


@pytest.mark.parametrize("base", [0.0, -0.05, 0.1])
def test_the_strength_of_a_parabola_is_found_at_the_second_try(base):
    tried = list[float]()

    def theta(s: float) -> float:
        tried.append(s)
        return base + 7 * s**2

    (s,) = search(theta)
    assert theta(s) == pytest.approx(0.2)
    assert len(set(tried)) <= 3


def test_a_statistic_that_saturates_and_one_that_crosses_are_reached():
    for theta in (
        lambda s: s**2 / (0.01 + s**2),
        lambda s: -0.02 - 0.3 * s + 7 * s**2,
        lambda s: 0.01 + 0.6 * s + 2 * s**2,
    ):
        (s,) = search(theta)
        assert abs(theta(s) - 0.2) <= TOLERANCE * (0.2 - theta(0.0))


def test_what_is_too_large_without_a_plant_is_brought_down_by_the_opposite():
    def theta(s: float) -> float:
        return 0.5 + 7 * s * abs(s)

    (s,) = search(theta)
    assert s < 0
    assert theta(s) == pytest.approx(0.2, abs=0.03)


def test_a_plant_that_makes_the_statistic_undefined_is_weakened():
    (s,) = search(lambda s: 2 * s**2 / (0.001 - s**2) if s**2 < 0.001 else np.nan, start=0.3)
    assert 2 * s**2 / (0.001 - s**2) == pytest.approx(0.2, abs=0.03)


def test_nothing_is_planted_where_the_statistic_is_there_already_or_undefined():
    assert search(lambda _: 0.2, n=3) == [0.0] * 3
    assert search(lambda _: float("nan")) == [0.0]


def found(value: float, low: float) -> Estimate:
    return Estimate(value=value, low=low, high=value + 1, unit="dB")


def test_plants_are_found_where_their_effect_would_pass():
    many = [found(2.0, 0.5)] * 8 + [found(2.0, -0.1)] * 2
    control = planted("plant", many, 1.0, QUICK)
    assert control.passed is True
    assert "2.0 smallest effects of interest" in control.detail
    assert "8 of 10" in control.detail
    assert planted("plant", [*many, found(2.0, -0.1)], 1.0, QUICK).passed is False


def test_plants_that_are_larger_than_declared_or_undefined_are_not_run():
    assert planted("plant", [found(2.6, 1.0)] * 5, 1.0, QUICK).passed is None
    none = Estimate(value=None, unit="dB", reason="undefined")
    assert planted("plant", [none], 1.0, QUICK).passed is None


def test_p_of_few_units_is_no_smaller_than_chance_agreement():
    draws = np.full(999, 0.05)
    assert bounded_p(draws, 4) == (1 / 16, 1 / 16)
    assert bounded_p(draws, np.repeat(np.arange(4), 5)) == (1 / 16, 1 / 16)
    assert bounded_p_equivalence(draws, 0.1, 4) == 1 / 16
    assert bounded_p_equivalence(draws, 0.1, 100) == 1 / 1000
    assert bounded_p_equivalence(draws, 0.05, 100) == 1
