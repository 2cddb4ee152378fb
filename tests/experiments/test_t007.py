"""T-007: planted bottlenecks, flat profiles, and a judge that can say all four."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus

from bitgap.errors import UsageError
from bitgap.experiments import t007_bottleneck as t007
from bitgap.experiments.t007_bottleneck.measure import block_products, text_units
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
LENIENT = replace(QUICK, alpha=0.2, halves=20)


# -- observations whose truth is known ------------------------------------------------------------


def dims(
    place: int | None = IN_WINDOW, low: int = 6, high: int = 12, valley: bool = True
) -> list[int]:
    """Dimensions of every block: ``high``, and ``low`` at one place if any, a valley's floor."""
    beside = low + 2 if valley else high
    return [
        high if place is None or abs(block - place) > 1 else low if block == place else beside
        for block in range(BLOCKS)
    ]


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
    without: int | None = -1,
    valley: bool = True,
) -> Observations:
    """Observations whose dimension is lowest at block ``place``; None for a flat profile."""
    rng = np.random.default_rng(seed)
    without = place if without == -1 else without
    own = sums(rng, dims(place, low, valley=valley))
    other = own if massive is None else sums(rng, dims(massive, low))
    planted = sums(rng, [12] * missed + [3] * (BLOCKS - missed))
    arrays: dict[str, Any] = {
        **own,
        "by_language": np.array([[k, k + 1.0] for k in dims(place, low)]),
        "without_language": np.stack(
            [np.array(dims(at, low), dtype=float) for at in (place, without)], axis=1
        ),
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
        version=t007.EXPERIMENT.version,
        arrays=arrays,
        facts={
            "languages": ["en", "he"],
            "n_blocks": BLOCKS,
            "width": WIDTH,
            "n_tokens": 100,
            "unit": "sentence",
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


def test_a_minimum_that_one_block_makes_refutes_nothing():
    # Without it the profile is flat and its lowest block may well lie in the window.
    finding = t007.EXPERIMENT.judge(observe(place=2, valley=False), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert "without block 2" in finding.verdict.reason


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"missed": 4}, "planted effects were missed"),
        ({"massive": 8}, "massive values"),
        ({"without": 8}, "each language left out"),
    ],
)
def test_each_guard_alone_keeps_refutation_back(change, clause):
    assert t007.EXPERIMENT.judge(observe(place=2), QUICK).verdict.label == "refuted"
    finding = t007.EXPERIMENT.judge(observe(place=2, **change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


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
        ({"without": 2}, "each language left out"),
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
    cut, kept = (block_products(found, np.arange(10), massive=m) for m in (False, True))
    np.testing.assert_array_equal(cut["products"][0], kept["products"][0])
    assert cut["traces"][1].sum() < 0.1 * kept["traces"][1].sum()


def test_products_are_of_the_units_that_are_given():
    found = activations(np.random.default_rng(0).normal(size=(2, 40, 6)))
    whole = block_products(found, np.arange(10))
    assert whole["products"].shape == (2, 10, 10)
    grouped = block_products(found, np.arange(10) // 2)
    assert grouped["products"].shape == (2, 5, 5)
    assert grouped["traces"].sum() == pytest.approx(whole["traces"].sum())
    # A group's trace is that of its sentences.
    np.testing.assert_allclose(grouped["traces"], whole["traces"].reshape(2, 5, 2).sum(-1))


@pytest.mark.parametrize(
    ("documents", "most", "units", "unit"),
    [
        (None, 96, [0, 1, 2, 3, 4, 5], "sentence"),
        ([9, 9, 4, 4, 4, 7], 96, [0, 0, 1, 1, 1, 2], "document"),
        # Two documents make one pair, which cannot be resampled.
        ([9, 9, 4, 4, 4, 4], 96, [0, 1, 2, 3, 4, 5], "sentence"),
        (None, 4, [0, 1, 2, 3, 0, 1], "group of sentences"),
        ([9, 8, 7, 6, 6, 5], 3, [0, 1, 2, 0, 0, 1], "group of documents"),
    ],
)
def test_a_unit_is_a_document_where_three_are_known(documents, most, units, unit):
    told = None if documents is None else np.array(documents)
    found, what = text_units(6, told, most)
    assert (found.tolist(), what) == (units, unit)


def test_intervals_are_over_documents_where_units_are_such():
    made = observe()
    over = t007.EXPERIMENT.judge(
        replace(made, facts={**made.facts, "unit": "group of documents"}), QUICK
    )
    assert "documents" in str(over.estimates["minimum_dimension"].method)
    assert "sentences" in str(
        t007.EXPERIMENT.judge(made, QUICK).estimates["minimum_dimension"].method
    )


def test_the_ratio_without_a_language_is_that_of_the_others():
    lab = make_lab("gpt2", blocks=3, corpus=write_corpus(12, ("en", "de", "he")))
    params = t007.Params(control_sentences=4, shuffled_sentences=4, planted_seeds=1)
    measured = t007.EXPERIMENT.measure(lab, "rtn4-g32", params)
    assert measured.arrays["without_language"].shape == (3, 3)
    # In each language alone is what is left without both others.
    two = lab.on(languages=["en", "de"])
    pair = t007.EXPERIMENT.measure(two, "rtn4-g32", params)
    np.testing.assert_allclose(
        pair.arrays["without_language"], pair.arrays["by_language"][:, ::-1], rtol=1e-6
    )
    finding = t007.EXPERIMENT.judge(measured, QUICK)
    assert set(finding.tables["minimum_without_language"]) == {"en", "de", "he"}


def test_a_text_of_documents_is_measured_in_documents():
    corpus = replace(
        write_corpus(16, ("en", "de", "he")), documents=tuple(i // 4 for i in range(16))
    )
    lab = make_lab("gpt2", blocks=3, corpus=corpus)
    params = t007.Params(control_sentences=8, shuffled_sentences=8, planted_seeds=2)
    measured = t007.EXPERIMENT.measure(lab, "rtn4-g32", params)
    assert measured.facts["unit"] == "document"
    assert measured.arrays["traces"].shape == (3, 4)
    assert measured.arrays["planted_products"].shape == (2, 4, 4)
    assert measured.arrays["random_traces"].shape == (3, 4)
    assert measured.arrays["documents"].tolist() == list(corpus.documents or ())
    assert_presentable(t007.EXPERIMENT, t007.EXPERIMENT.judge(measured, QUICK))


def test_halves_of_one_text_seldom_differ():
    few = replace(QUICK, draws=150, halves=40)
    alarms = sum(
        control(t007.EXPERIMENT.judge(observe(seed), few), "A/A").passed is False
        for seed in range(20)
    )
    assert alarms <= 4  # of 20 at 5 %, 1e-3 of the binomial


def test_halves_differ_where_neighbours_say_the_same():
    rng, few, n = np.random.default_rng(0), replace(QUICK, draws=150, halves=40), 96
    units = np.repeat(np.arange(n, dtype=np.int64), 8)

    def passed(run: int) -> bool | None:
        """Whether halves agree where so many sentences in turn fill one dimension, or twelve."""
        narrow = (units // run) % 2 == 0
        states = rng.normal(size=(len(units), 12))
        states[narrow, 1:] = 0
        products, traces = unit_products(states, units, n)
        made = observe()
        arrays = {k: v for k, v in made.arrays.items() if not k.startswith("planted")}
        arrays["products"] = np.repeat(products[None], BLOCKS, axis=0)
        arrays["traces"] = np.repeat(traces[None], BLOCKS, axis=0)
        return control(t007.EXPERIMENT.judge(replace(made, arrays=arrays), few), "A/A").passed

    assert passed(1) is True
    assert passed(12) is False


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
