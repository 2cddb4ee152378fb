"""What experiments are made of: who may enter, shapes of controls, costs, records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitgap.experiments.catalog import find
from bitgap.experiments.protocol.controls import (
    labels_permuted,
    must_agree,
    must_not_show,
    with_labels_permuted,
)
from bitgap.experiments.protocol.experiment import Cost
from bitgap.experiments.protocol.scores import eligible_languages
from bitgap.experiments.protocol.tables import block_rows
from bitgap.quant.plan import Plan
from bitgap.records import Estimate, Observations, finite
from bitgap.stats.bootstrap import bootstrap_p, percentile_estimate
from harness import QUICK, kept_scores

CLEAR = Estimate(value=1.0, low=0.5, high=1.5, unit="x")
ABSENT = Estimate(value=0.1, low=-0.5, high=0.7, unit="x")


# -- languages ------------------------------------------------------------------------------------


def observations(**text: object) -> Observations:
    kl = np.full((2, 3, 4), 0.5)
    kl[1, 2] = 1e-6
    arrays, facts = kept_scores({"plans": kl}, **text)  # type: ignore[arg-type]
    return Observations(experiment="T-000", version=1, arrays=arrays, facts=facts)


def test_a_language_enters_in_all_plans_or_in_none_and_says_why_not():
    made = observations(collapsed=[1], floor_nats=1e-6)
    found = eligible_languages(made, ["plans"], readable=["plans"])
    assert found.eligible.tolist() == [True, False, False]
    assert found.left_out == {"x1": "collapsed", "x2": "below resolution"}
    assert found.sentence == " Left out: x1 (collapsed), x2 (below resolution)."
    assert found.gate_reason is None
    assert found.displayed.tolist() == found.eligible.tolist()
    # Resolution counts only where damage is read.
    unread = eligible_languages(made, ["plans"], readable=[])
    assert unread.left_out == {"x1": "collapsed"}


def test_where_no_language_may_enter_all_are_shown_beside_the_gate():
    found = eligible_languages(observations(collapsed=[0, 1, 2]), ["plans"], readable=[])
    assert not found.eligible.any()
    assert found.displayed.all()
    assert found.gate_reason is not None and "en collapsed" in found.gate_reason


def test_shuffled_labels_stay_in_their_sentence_and_leave_others_alone():
    values = np.arange(2 * 4 * 50, dtype=float).reshape(2, 4, 50)
    shuffled = with_labels_permuted(values, np.array([True, True, False, True]))
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), values)
    np.testing.assert_array_equal(shuffled[:, 2], values[:, 2])
    assert (shuffled[:, [0, 1, 3]] != values[:, [0, 1, 3]]).any()


# -- controls -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("effect", "passed"), [(CLEAR, False), (ABSENT, True)])
def test_a_twin_must_not_show_a_clear_effect(effect, passed):
    check = must_not_show("twin", effect, 0.5, "should show none")
    assert (check.kind, check.passed, check.estimate) == ("negative", passed, effect)


def test_an_effect_must_be_clear_exactly_where_the_experiments_own_is():
    for effect in (CLEAR, ABSENT):
        for theta in (CLEAR, ABSENT):
            assert must_agree("x", effect, theta, 0.5, "").passed is (effect == theta)


def test_labels_are_an_invariance():
    assert labels_permuted(False, "moved").kind == "invariance"


# -- costs and records ----------------------------------------------------------------------------


def test_cost_is_of_shared_prefixes_streams_passes_and_heads():
    def scored(n: int) -> list[list[Plan]]:
        # Two plans that share their first n − 1 blocks; full precision is not counted.
        plans = [Plan.uniform("rtn4-g32", n), Plan.uniform("rtn4-g32", n, [n - 1])]
        return [[*plans, Plan.uniform("fp", n)]]

    cost = Cost.of(
        scored, streamed=lambda n: [[Plan.uniform("fp", n)]], passes=2, heads=lambda n: n
    )
    assert cost.block_evaluations(5) == (5 + 1) + 5 + 2 * 5
    assert cost.head_evaluations(5) == 2 + 5
    assert cost.share_of(10) == 1.0
    assert Cost.of(passes=1, sentences=5).share_of(10) == 0.5


def test_a_hypothesis_that_cannot_be_tested_says_so_everywhere():
    finding = find("T-004").untestable(
        QUICK, "2 blocks", primary="x", unit="dB", part="contrast", original_measure={}, tables={}
    )
    assert finding.verdict.label == "not testable"
    assert finding.sentence == "Not testable here: 2 blocks."
    assert finding.estimates["x"].value is None
    assert finding.estimates["x"].reason == finding.verdict.reason == "2 blocks"
    assert finding.verdict.sesoi == QUICK.of("H2.1")["sesoi"]


def test_rows_hold_none_where_a_number_is_missing():
    rows = block_rows({"a": np.array([1.0, np.nan]), "b": np.array([np.inf, 2.0])})
    assert rows == [{"block": 0, "a": 1.0, "b": None}, {"block": 1, "a": None, "b": 2.0}]
    assert finite(None) is None
    assert finite(np.float32(0.5)) == 0.5


def test_a_p_is_never_0_and_undefined_draws_speak_against():
    assert bootstrap_p(np.full(99, 1.0)) == 0.01
    assert bootstrap_p(np.array([1.0, -1.0, 0.0, np.nan])) == 4 / 5


def test_a_percentile_interval_holds_its_share_of_draws():
    draws = np.arange(1001.0)
    found = percentile_estimate(500, draws, unit="x", level=0.9, n=7, method="m")
    assert (found.value, found.low, found.high) == pytest.approx((500, 50, 950))
    assert (found.level, found.n, found.method) == (0.9, 7, "m")


def test_thresholds_say_how_to_resample():
    assert QUICK.how == {"seed": 0, "draws": 300, "level": QUICK.level}
    assert replace(QUICK, draws=5).how["draws"] == 5
