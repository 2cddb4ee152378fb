"""The harness itself: every check in it can fail."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitgap.records import Observations
from harness import (
    as_json,
    assert_null,
    assert_planted,
    assert_pure,
    check_docstring,
    check_figure,
    from_json,
    over_sentences,
)


def observations(seed: int = 0) -> Observations:
    numbers = np.random.default_rng(seed).normal(size=20)
    return Observations(experiment="T-000", version=1, arrays={"x": numbers}, facts={"n": 20})


def verdict_of(label: str) -> Any:
    return SimpleNamespace(verdict=SimpleNamespace(label=label))


def one_in(n: int) -> Any:
    """A judge that supports one in n, whatever it sees."""
    return lambda found, _: verdict_of(
        "supported" if abs(found.arrays["x"][0] * 1e6) % n < 1 else "refuted"
    )


def test_null_passes_a_judge_at_its_rate_and_fails_a_credulous_one():
    assert_null(one_in(20), observations, seeds=range(200))
    with pytest.raises(AssertionError, match="where nothing is there"):
        assert_null(one_in(4), observations, seeds=range(200))


def test_planted_fails_a_blind_judge():
    assert_planted(one_in(1), observations, seeds=range(20))
    with pytest.raises(AssertionError):
        assert_planted(one_in(2), observations, seeds=range(50))


def test_purity_fails_a_judge_that_writes_draws_or_remembers():
    def clean(found: Observations, _: Any) -> Any:
        return float(found.arrays["x"].sum())

    def writing(found: Observations, _: Any) -> Any:
        found.arrays["x"][0] = 0.0

    def drawing(found: Observations, _: Any) -> Any:
        return np.random.default_rng().normal()

    def remembering(found: Observations, _: Any) -> Any:
        return id(found.arrays["x"])

    assert_pure(clean, observations())
    with pytest.raises(ValueError, match="read-only"):
        assert_pure(writing, observations())
    for impure in (drawing, remembering):
        with pytest.raises(AssertionError):
            assert_pure(impure, observations())


def test_observations_come_back_from_json_to_the_bit():
    given = replace(observations(), arrays={"x": np.array([[0.1, np.nan]]), "n": np.arange(3)})
    back = from_json(as_json(given))
    assert back.facts == given.facts
    for name, array in given.arrays.items():
        assert back.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(back.arrays[name], array)


def chart(**changes: Any) -> dict[str, Any]:
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": [{"a": 1, "b": 2.0}]},
        "mark": "bar",
        "encoding": {"x": {"field": "a", "type": "ordinal"},
                     "y": {"field": "b", "type": "quantitative"}},
    }  # fmt: skip
    return {**spec, **changes}


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": {"values": []}},
        {"mark": "blob"},
        {"data": {"values": [{"a": 1}]}},
        {"data": {"values": [{"a": 1, "b": None}]}},
        {"encoding": {"x": {"field": "a", "type": "number"}}},
        {"$schema": "https://example.org"},
    ],
)
def test_a_figure_that_shows_nothing_is_found_out(wrong):
    check_figure(chart())
    with pytest.raises(AssertionError):
        check_figure(chart(**wrong))


def test_a_figure_with_nan_is_found_out():
    with pytest.raises(ValueError, match="not JSON compliant"):
        check_figure(chart(data={"values": [{"a": 1, "b": float("nan")}]}))


def test_a_docstring_without_question_heading_formula_or_citation_is_found_out():
    whole = (
        "T-000 · H0.0: is it?\n\nPrediction: yes.\n\nMethod: look (Nobody 1999).\n\n"
        "Statistic: half of it.\n\n    θ = x / 2\n\nRule: above 0.\n\nCost: none.\n\nPrior: none.\n"
    )
    check_docstring(whole)
    spoilt = [
        whole.replace(missing, "") for missing in ("?", "Cost: ", "yes.", "    θ = x / 2", "1999")
    ]
    for text in [
        *spoilt,
        whole.replace("Rule: above 0.\n\nCost: none.", "Cost: none.\n\nRule: none."),
    ]:
        with pytest.raises(AssertionError):
            check_docstring(text)


def test_sentences_scatter_about_their_totals():
    made = over_sentences(np.random.default_rng(0), np.array([1.0, 4.0]), 3, 2000)
    np.testing.assert_allclose(made.mean((1, 2)), [1.0, 4.0], rtol=4 * 0.2 / np.sqrt(6000))
    assert made.min() > 0
