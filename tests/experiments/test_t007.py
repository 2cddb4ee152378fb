"""T-007: planted bottlenecks, flat profiles, and a judge that can say all four."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus

from bitgap.errors import UsageError
from bitgap.experiments import t007_bottleneck as t007
from bitgap.experiments.t007_bottleneck.measure import block_products
from bitgap.lab.activations import Activations
from bitgap.records import Floats, Observations
from bitgap.stats.dimension import unit_products
from bitgap.stats.profiles import depths, window_share
from harness import (
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    covers,
)

BLOCKS, UNITS, WIDTH = 12, 24, 16
IN_WINDOW = 8
# One model's p is the window's share of its blocks, 2 of 12, which α = .05 does not let through.
LENIENT = replace(QUICK, alpha=0.2)


# -- observations whose truth is known ------------------------------------------------------------


def dims(place: int | None = IN_WINDOW, low: int = 6, high: int = 12) -> list[int]:
    """Dimensions of every block: ``high``, and ``low`` at one place if any."""
    return [low if block == place else high for block in range(BLOCKS)]


def sums(rng: np.random.Generator, dimensions: list[int], tokens: int = 8) -> dict[str, Floats]:
    """Products and traces of blocks whose states are isotropic in so many dimensions."""
    units = np.repeat(np.arange(UNITS, dtype=np.int64), tokens)
    made = [unit_products(rng.normal(size=(len(units), k)), units, UNITS) for k in dimensions]
    return {
        "products": np.array([products for products, _ in made]),
        "traces": np.array([traces for _, traces in made]),
    }


def observe(
    seed: int = 0,
    *,
    place: int | None = IN_WINDOW,
    low: int = 6,
    shuffled: int | None = 0,
    untrained: int | None = None,
    massive: int | None = None,
    missed: int = 0,
) -> Observations:
    """Observations whose dimension is lowest at block ``place``; None for a flat profile."""
    rng = np.random.default_rng(seed)
    own = sums(rng, dims(place, low))
    other = own if massive is None else sums(rng, dims(massive, low))
    planted = sums(rng, [12] * missed + [3] * (BLOCKS - missed))
    arrays: dict[str, Any] = {
        **own,
        "by_language": np.array([[k, k + 1.0] for k in dims(place, low)]),
        "plain": np.array(dims(place, low), dtype=float) - 1,
        "rank_me": np.array(dims(place, low), dtype=float),
        "components_95": np.array(dims(place, low), dtype=float),
        "gride": np.full((BLOCKS, 2), 5.0),
        "planted_block": np.arange(BLOCKS),
    }
    for name, found in (
        ("massive", other),
        ("shuffled", sums(rng, dims(shuffled))),
        ("random", sums(rng, dims(untrained))),
        ("planted", planted),
    ):
        arrays |= {f"{name}_{key}": values for key, values in found.items()}
    return Observations(
        experiment=t007.ID,
        version=1,
        arrays=arrays,
        facts={
            "languages": ["en", "he"],
            "n_blocks": BLOCKS,
            "width": WIDTH,
            "n_tokens": 100,
            "planted_rank": 3,
            "clipped": 0,
            "params": {"scales": [1, 2]},
        },
    )


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_a_planted_minimum_in_the_window():
    assert_planted(t007.EXPERIMENT.judge, observe, seeds=range(20), thresholds=LENIENT)


@pytest.mark.parametrize("place", [0, 4, 11])
def test_judge_refutes_a_minimum_elsewhere_also_at_an_end(place):
    assert_planted(
        t007.EXPERIMENT.judge, lambda s: observe(s, place=place), seeds=range(20), label="refuted"
    )


def test_a_flat_profile_is_supported_no_oftener_than_chance():
    def make(seed: int) -> Observations:
        return observe(seed, place=None)

    assert_null(t007.EXPERIMENT.judge, make, seeds=range(100), thresholds=LENIENT)


def test_an_interval_that_holds_interior_and_end_is_no_support():
    # Two equal minima, one in the window and one at the end.
    torn = observe()
    torn.arrays["products"][0] = torn.arrays["products"][IN_WINDOW][::-1, ::-1]
    torn.arrays["traces"][0] = torn.arrays["traces"][IN_WINDOW][::-1]
    finding = t007.EXPERIMENT.judge(torn, LENIENT)
    assert finding.verdict.label == "inconclusive"
    assert "reaches outside" in finding.verdict.reason or "touches" in finding.verdict.reason


def test_one_model_cannot_support_at_the_declared_level():
    finding = t007.EXPERIMENT.judge(observe(), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "cannot reach α" in finding.verdict.reason
    assert finding.verdict.p == window_share(BLOCKS, QUICK.window)


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"missed": 4}, "planted effects were missed: P4"),
        ({"shuffled": 8}, "tokens in random order"),
        ({"untrained": 8}, "random-init twin"),
        ({"massive": 2}, "massive values"),
    ],
)
def test_each_control_alone_keeps_support_back(change, clause):
    assert t007.EXPERIMENT.judge(observe(), LENIENT).verdict.label == "supported"
    finding = t007.EXPERIMENT.judge(observe(**change), LENIENT)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_a_control_that_was_not_run_keeps_support_back():
    without = observe()
    arrays = {k: v for k, v in without.arrays.items() if not k.startswith("random_")}
    finding = t007.EXPERIMENT.judge(replace(without, arrays=arrays), LENIENT)
    assert "was not run" in finding.verdict.reason
    assert control(finding, "random-init twin").passed is None


def test_no_block_in_the_window_is_not_testable():
    finding = t007.EXPERIMENT.judge(observe(), replace(LENIENT, window=(0.74, 0.75)))
    assert finding.verdict.label == "not testable"
    assert finding.verdict.p is None


def test_the_interval_of_the_dimension_covers_the_truth():
    covered = [
        covers(t007.EXPERIMENT.judge(observe(seed), QUICK).estimates["minimum_dimension"], 6)
        for seed in range(40)
    ]
    # 95 % nominal; 40 draws of it fall under 31 less than once in a thousand.
    assert sum(covered) >= 31


def test_origin_measure_is_where_the_fewest_components_are():
    seed = t007.EXPERIMENT.judge(observe(place=3), QUICK).original_measure
    assert seed["minimum_of_components_95"].value == depths(BLOCKS)[3]
    assert seed["components_95_there"].value == 6


def test_finding_and_figure_can_be_shown():
    finding = t007.EXPERIMENT.judge(observe(), QUICK)
    assert_presentable(t007.EXPERIMENT, finding)
    figure: Any = t007.EXPERIMENT.figure(finding)
    band = figure["layer"][0]["data"]["values"][0]
    assert (band["from"], band["to"]) == (0.65 * 11, 0.85 * 11)
    assert "fewer than the 320" in finding.sentence
    undefined = observe()
    undefined.arrays["gride"][:] = np.nan
    assert_presentable(t007.EXPERIMENT, t007.EXPERIMENT.judge(undefined, QUICK))


# -- measurement ----------------------------------------------------------------------------------


def activations(states: Floats) -> Activations:
    """Activations of two languages with given states at two blocks, (2 x n x d)."""
    _, n, d = states.shape
    sites = np.zeros((4, n, d), dtype=np.float32)
    sites[1:3] = states
    ids = np.arange(n)
    return Activations(
        languages=("en", "he"), language=ids % 2, sentence=ids // 4, token=ids, previous=ids,
        states=sites, ordinary=np.ones((4, n), dtype=bool), pooled=sites[:3, None, None, 0],
        count=np.ones((4, 2)), mean=np.zeros((4, 2, d)), power=np.zeros((4, 2, d)),
    )  # fmt: skip


def test_massive_values_are_clipped_unless_asked_for():
    states = np.random.default_rng(0).normal(size=(2, 40, 6))
    states[1, :, 0] = 5000 * np.sign(states[1, :, 0])
    found = activations(states)
    cut, kept = (block_products(found, 96, massive=m) for m in (False, True))
    np.testing.assert_array_equal(cut["products"][0], kept["products"][0])
    assert cut["traces"][1].sum() < 0.1 * kept["traces"][1].sum()


def test_units_are_sentences_or_groups_of_them():
    found = activations(np.random.default_rng(0).normal(size=(2, 40, 6)))
    assert block_products(found, 96)["products"].shape == (2, 10, 10)
    grouped = block_products(found, 5)
    assert grouped["products"].shape == (2, 5, 5)
    assert grouped["traces"].sum() == pytest.approx(block_products(found, 96)["traces"].sum())


def test_units_blocks_and_plantings_of_a_model_are_those_asked_for():
    lab = make_lab("gpt2", blocks=6, corpus=write_corpus(16, ("en", "de", "he")))
    params = t007.Params(control_sentences=8, shuffled_sentences=8, planted_seeds=12)
    measured = t007.EXPERIMENT.measure(lab, "rtn4-g32", params)
    assert measured.arrays["products"].shape == (6, 16, 16)
    assert measured.arrays["random_products"].shape == (6, 8, 8)
    assert measured.arrays["planted_block"].tolist() == [0, 1, 2, 3, 4, 5] * 2
    finding = t007.EXPERIMENT.judge(measured, QUICK)
    assert control(finding, "P4").passed is True
    assert_presentable(t007.EXPERIMENT, finding)


def test_bottlenecks_planted_in_a_models_states_are_found_at_every_block():
    lab = make_lab("llama", blocks=5, corpus=write_corpus(16, ("en", "de", "he")))
    params = t007.Params(control_sentences=4, shuffled_sentences=4, planted_seeds=10)
    found = control(
        t007.EXPERIMENT.judge(t007.EXPERIMENT.measure(lab, "rtn4-g32", params), QUICK), "P4"
    )
    assert found.passed is True
    assert "of 10" in found.detail


def test_too_few_sentences_are_refused_with_what_to_do():
    with pytest.raises(UsageError, match="at least 3"):
        t007.EXPERIMENT.measure(make_lab("gpt2", corpus=write_corpus(2)), "rtn4-g32", t007.Params())
