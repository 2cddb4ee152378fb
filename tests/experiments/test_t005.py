"""T-005: planted gateways, drifting and wandering nulls, and weights of real modules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lab_samples import make_lab, write_corpus
from scipy import stats

from bitgap.experiments import t005_gateway_structure as t005
from bitgap.experiments.t005_gateway_structure.judge import _part, _percentile
from bitgap.records import Floats, Observations
from bitgap.stats.outlyingness import prediction_t
from bitgap.stats.verdicts import Part
from harness import (
    QUICK,
    assert_null,
    assert_planted,
    assert_presentable,
    control,
    labels,
)

BLOCKS, KINDS = 16, ["q", "k", "v", "o", "up", "down"]
MEASURES = ["stable_rank", "entropy_rank", "energy_ratio", "kurtosis", "crest"]
BOTH = (0, BLOCKS - 1)


# -- observations whose truth is known ------------------------------------------------------------


def profiles(
    rng: np.random.Generator,
    n: int = BLOCKS,
    *,
    raised: tuple[int, ...] = (),
    height: float = 12.0,
    drift: float = 0.5,
    memory: float = 0.3,
    plain: bool = False,
) -> Floats:
    """Measures that drift and wander with depth, (kinds x measures x L), some blocks raised.

    ``plain`` ends lie on the line through the five blocks beside them: there is nothing to see.
    """
    y = rng.normal(size=(len(KINDS), 1, n)) + rng.normal(size=(len(KINDS), len(MEASURES), n))
    for block in range(1, n):
        y[..., block] += memory * y[..., block - 1]
    y += drift * rng.normal(size=(len(KINDS), len(MEASURES), 1)) * np.arange(n)
    y[:4, :, list(raised)] += height
    for end, side in ((0, range(1, 6)), (n - 1, range(n - 6, n - 1))) if plain else ():
        slope, level = np.polyfit(list(side), y[..., list(side)].reshape(-1, 5).T, 1)
        y[..., end] = (slope * end + level).reshape(y.shape[:2])
    return y


def observe(
    seed: int = 0,
    *,
    raised: tuple[int, ...] = BOTH,
    untrained: tuple[int, ...] = (),
    shuffled: tuple[int, ...] = (),
    missed: int = 0,
    plain: bool = False,
    n: int = BLOCKS,
    memory: float = 0.3,
) -> Observations:
    """Observations of a model in which some blocks stand out by their weights."""
    rng = np.random.default_rng(seed)
    measures = profiles(rng, n, raised=raised, memory=memory, plain=plain)
    planted = np.tile(measures[2:4][:, :, [0, -1]], (10, 1, 1, 1))
    planted[missed:] += 60.0
    if missed:
        planted[:missed] = measures[2:4][:, :, [1, 1]] * 0 + measures[2:4, :, 2:3]
    twins = [
        np.array([profiles(rng, n, raised=r) for _ in range(6)]) for r in (untrained, shuffled)
    ]
    return Observations(
        experiment=t005.ID,
        version=2,
        arrays={
            "measures": measures,
            "origin": np.abs(rng.normal(size=(3, n))) + 1,
            "random": twins[0],
            "shuffled": twins[1],
            "planted": planted,
        },
        facts={
            "n_blocks": n,
            "kinds": KINDS,
            "measures": MEASURES,
            "spectral": [0, 1, 2],
            "planted_factor": 8.0,
            "params": {},
        },
    )


# -- the judge ------------------------------------------------------------------------------------


def test_judge_finds_planted_gateways():
    assert_planted(t005.EXPERIMENT.judge, observe, seeds=range(20))


def test_judge_refutes_where_ends_lie_on_the_trend_of_their_side():
    found = labels(
        t005.EXPERIMENT.judge, lambda s: observe(s, raised=(), plain=True), range(10), QUICK
    )
    assert found["refuted"] >= 8, found


def test_interior_blocks_that_stand_out_are_never_called_ends_and_often_stay_open():
    # One block more or less moves a rank: what hangs on one interior block is not refuted.
    found = labels(t005.EXPERIMENT.judge, lambda s: observe(s, raised=(3, 7, 11)), range(10), QUICK)
    assert found["supported"] == 0


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_ends_of_drifting_profiles_are_supported_no_oftener_than_chance(memory):
    assert_null(
        t005.EXPERIMENT.judge, lambda s: observe(s, raised=(), memory=memory), seeds=range(40)
    )


def test_one_end_is_inconclusive_and_named():
    named = supported = 0
    for seed in range(20):
        verdict = t005.EXPERIMENT.judge(observe(seed, raised=(0,)), QUICK).verdict
        named += verdict.label == "inconclusive" and "the first block alone" in verdict.reason
        assert verdict.label != "refuted"
        supported += verdict.label == "supported"
    # The pair's p does not see that one end is true: the other is the second of all by chance once
    # in fifteen, among the first two twice, and oftener where noise comes in heaps. A family's
    # Holm leaves the first case alone.
    assert stats.binom.sf(supported - 1, 20, 0.2) > 1e-3
    assert named >= 10


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"untrained": BOTH}, "a control failed: random-init twins"),
        ({"shuffled": BOTH}, "a control failed: entries shuffled"),
    ],
)
def test_each_negative_control_alone_keeps_support_back(change, clause):
    assert t005.EXPERIMENT.judge(observe(), QUICK).verdict.label == "supported"
    finding = t005.EXPERIMENT.judge(observe(**change), QUICK)
    assert finding.verdict.label == "inconclusive"
    assert clause in finding.verdict.reason


def test_a_percentile_that_untrained_twins_share_is_no_support():
    # A twin that is the model itself: whatever columns are drawn, there is no difference.
    made = observe()
    arrays: Any = made.arrays
    arrays["random"] = arrays["measures"][None]
    finding = t005.EXPERIMENT.judge(made, QUICK)
    beyond = finding.estimates["percentile_beyond_twins"]
    assert beyond.value == beyond.low == beyond.high == 0
    assert finding.verdict.label == "inconclusive"


def test_what_twins_have_is_taken_off_in_place():
    beyond = [
        t005.EXPERIMENT.judge(observe(s, untrained=r), QUICK).estimates["percentile_beyond_twins"]
        for s in range(10)
        for r in ((), BOTH)
    ]
    trained, shared = beyond[::2], beyond[1::2]
    # Ends of twins like any blocks are at the middle; raised as high as the model's, beside it.
    assert np.mean([e.value for e in trained]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([e.value for e in shared]) == pytest.approx(0.0, abs=0.05)
    assert all(e.low > 0 for e in trained)


def test_one_interior_block_left_out_can_keep_a_refutation_back():
    made = observe(raised=())
    finding = t005.EXPERIMENT.judge(made, QUICK)
    part = _part_of(made)
    assert sorted(part.without) == sorted(f"without block {i}" for i in range(1, BLOCKS - 1))
    assert part.chance == QUICK.of("H2.2")["chance"] == 0.5
    if finding.verdict.label == "refuted":
        assert all(e.high < part.sesoi for e in part.without.values())


def _part_of(made: Observations) -> Part:
    measures = made.arrays["measures"]
    theta, outlying, _ = _percentile(prediction_t(measures), QUICK)
    return _part(measures, theta, outlying, QUICK)


def test_the_plant_halves_what_is_left_of_the_scale():
    sesoi = QUICK.of("H2.2")["sesoi"]
    wanted = 1 - (1 - sesoi) / QUICK.planted_strength
    assert t005.Params().planted_percentile == pytest.approx(wanted)


def test_an_interval_that_holds_the_middle_of_all_pairs_is_no_support():
    made = observe()
    arrays: Any = made.arrays
    # One kind of matrix alone makes the ends stand out, and is not in every resample.
    arrays["measures"][1:4, :, [0, -1]] -= 12.0
    finding = t005.EXPERIMENT.judge(made, QUICK)
    theta = finding.estimates["percentile_of_ends"]
    assert theta.low is not None
    assert theta.low <= 0.5
    assert finding.verdict.label == "inconclusive"


def test_few_blocks_are_not_testable():
    for n in (1, 2, 7):
        finding = t005.EXPERIMENT.judge(observe(n=n, raised=()), QUICK)
        assert finding.verdict.label == "not testable"
        assert f"{n} blocks" in finding.verdict.reason
        assert_presentable(t005.EXPERIMENT, finding)


def test_smallest_p_is_one_pair_of_all():
    finding = t005.EXPERIMENT.judge(observe(), QUICK)
    assert finding.verdict.p_minimum == 1 / 120
    assert finding.verdict.p == pytest.approx(1 / 120)


def test_interval_is_of_columns_and_says_so():
    theta = t005.EXPERIMENT.judge(observe(3), QUICK).estimates["percentile_of_ends"]
    assert theta.n == len(KINDS) * len(MEASURES)
    assert "columns" in theta.method
    assert theta.low is not None
    assert theta.value is not None
    assert theta.low <= theta.value


def test_origin_z_is_told_with_its_p():
    made = observe(n=12, raised=(0, 11))
    arrays: Any = made.arrays
    arrays["origin"][2] = [9.0, *np.tile([1.0, 3.0], 5), 2.0]
    seed = t005.EXPERIMENT.judge(made, QUICK).original_measure
    assert seed["kurtosis_z_first"].value == pytest.approx(7 / np.std([1, 3] * 5, ddof=1))
    assert seed["kurtosis_z_last"].value == pytest.approx(0)
    assert (
        seed["kurtosis_z_first"].reason == "|z| > 2 against 10 middle blocks has p = 0.09, not .05"
    )


def test_missing_exponents_do_not_break_the_judge():
    made = observe()
    arrays: Any = made.arrays
    arrays["measures"][:, 2, ::2] = np.nan
    arrays["measures"][1, 2] = np.nan
    finding = t005.EXPERIMENT.judge(made, QUICK)
    assert_presentable(t005.EXPERIMENT, finding)


def test_finding_and_figure_can_be_shown():
    finding = t005.EXPERIMENT.judge(observe(), QUICK)
    assert_presentable(t005.EXPERIMENT, finding)
    assert len(t005.EXPERIMENT.figure(finding)["concat"]) == 2
    assert "both" not in finding.sentence
    assert finding.sentence.startswith("The first and the last block stand out")


# -- on models ------------------------------------------------------------------------------------


def test_planted_ends_of_a_small_model_are_found_and_nothing_else():
    lab = make_lab("llama", blocks=9, corpus=write_corpus(4))
    params = t005.Params(twins=2, planted_seeds=3, tail_draws=5, planted_width=16)
    measured = t005.EXPERIMENT.measure(lab, "rtn4-g32", params)
    assert measured.arrays["measures"].shape == (7, 7, 9)
    assert measured.arrays["random"].shape == measured.arrays["shuffled"].shape == (2, 7, 7, 9)
    assert measured.arrays["planted"].shape == (3, 2, 7, 2)
    assert measured.facts["planted_factor"] in params.planted_factors
    finding = t005.EXPERIMENT.judge(measured, QUICK)
    assert_presentable(t005.EXPERIMENT, finding)
    # An untrained model: nothing stands out until it is planted.
    assert finding.verdict.label != "supported"
    assert control(finding, "P1").passed is True


def test_planted_ends_of_an_untrained_model_are_supported():
    lab = make_lab("gpt2", blocks=16, corpus=write_corpus(4))
    measured = t005.EXPERIMENT.measure(
        lab, "rtn4-g32", t005.Params(twins=1, planted_seeds=1, planted_width=16)
    )
    arrays = dict(measured.arrays)
    arrays["measures"] = arrays["measures"].copy()
    rows = [measured.facts["kinds"].index(kind) for kind in ("v", "o")]
    for row, planted in zip(rows, arrays["planted"][0], strict=True):
        arrays["measures"][row][:, [0, -1]] = planted
    finding = t005.EXPERIMENT.judge(replace(measured, arrays=arrays), QUICK)
    value = finding.estimates["percentile_of_ends"].value
    assert value is not None
    assert value >= 0.9


def test_a_model_of_few_blocks_is_measured_without_controls():
    lab = make_lab("gpt2", corpus=write_corpus(4))
    measured = t005.EXPERIMENT.measure(lab, "rtn4-g32", t005.Params())
    assert set(measured.arrays) == {"measures", "origin"}
    assert t005.EXPERIMENT.judge(measured, QUICK).verdict.label == "not testable"
