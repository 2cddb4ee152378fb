"""Window hits: every clause of the shared rule, and how it joins other parts of a hypothesis."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_contract import observe
from test_t008 import QUICK as FEW_WORDS
from test_t008 import observe as observe_words

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.family_rule import PeakInWindow
from bitgap.experiments.protocol.peak_window import (
    empty_window,
    is_hit,
    judge_window,
    read_without,
    told_without,
)
from bitgap.records import Control, ControlKind, Estimate, Observations, Verdict
from bitgap.stats.profiles import Peak, locate_peak
from bitgap.stats.verdicts import Thresholds, load_thresholds
from harness import QUICK

LENIENT = replace(QUICK, alpha=0.2)
L = 12


def peak(low: float, value: float, high: float) -> Peak:
    place = Estimate(value=value / 11, low=low / 11, high=high / 11, unit="relative depth", n=2000)
    return Peak(place, int(value), 1.0, tuple(np.eye(L)[int(value)]))


def check(kind: ControlKind, passed: bool | None) -> Control:
    return Control(name=f"the {kind} one", kind=kind, passed=passed, detail="")


GOOD = [check("negative", True), check("invariance", True), check("positive", True)]
INSIDE = peak(8, 8, 9)


def judged(found: Peak = INSIDE, checks: list[Control] | None = None, **how: object) -> Verdict:
    controls = GOOD if checks is None else checks
    return judge_window(found, L, controls, LENIENT, hypothesis="H3.1", **how)  # type: ignore[arg-type]


def also(label: str, p: float | None = 0.001) -> Verdict:
    made = Verdict(
        label="supported", scope="this model", reason="its reason", p=p, p_minimum=0.3,
        p_equivalence=0.001,
    )  # fmt: skip
    return replace(made, label=label)  # type: ignore[arg-type]


def test_support_needs_the_whole_interval_inside():
    verdict = judged()
    assert (verdict.label, verdict.p, verdict.p_minimum) == ("supported", 2 / 12, 2 / 12)
    assert "reaches outside" in judged(peak(4, 8, 9)).reason
    assert "still touches" in judged(peak(4, 5, 8)).reason
    assert judged(peak(4, 5, 8)).p == 1.0


@pytest.mark.parametrize("place", [0, 7, 10, 11])
def test_an_interval_wholly_outside_refutes_if_plantings_were_found(place):
    assert judged(peak(place, place, place)).label == "refuted"
    for bad in ([], [check("positive", False)], [check("positive", None)]):
        verdict = judged(peak(place, place, place), [*GOOD[:2], *bad])
        assert verdict.label == "inconclusive"
        assert "missed" in verdict.reason
    assert "none was run" in judged(peak(place, place, place), GOOD[:2]).reason


@pytest.mark.parametrize(
    ("bad", "clause"),
    [
        (check("negative", False), "a control failed"),
        (check("invariance", False), "a control failed"),
        (check("negative", None), "a control was not run"),
        (check("positive", False), "planted effects were missed"),
    ],
)
def test_every_control_can_keep_support_back(bad, clause):
    verdict = judged(checks=[*GOOD, bad])
    assert verdict.label == "inconclusive"
    assert clause in verdict.reason


def test_an_invariance_that_could_not_be_tried_does_not():
    assert judged(checks=[*GOOD, check("invariance", None)]).label == "supported"


def test_one_model_of_twelve_blocks_cannot_reach_alpha():
    verdict = judge_window(INSIDE, L, GOOD, QUICK, hypothesis="H3.1", what="minimum")
    assert verdict.label == "inconclusive"
    assert "one model cannot reach α" in verdict.reason
    assert verdict.reason.startswith("the minimum is at r = 0.73")


def test_gates_come_first():
    assert judged(gate="nothing there").reason == "nothing there"
    assert judged(gate="nothing there").p is None
    narrow = replace(LENIENT, window=(0.74, 0.75))
    empty = judge_window(INSIDE, L, GOOD, narrow, hypothesis="H3.1")
    assert empty.label == "not testable"
    assert empty.reason == empty_window(L, (0.74, 0.75))
    assert empty_window(L, LENIENT.window) is None


def test_other_parts_must_pass_too():
    both = judged(also=also("supported"))
    assert (both.label, both.p, both.p_minimum) == ("supported", 2 / 12, 0.3)
    assert judged(also=also("supported", 0.19)).p == 0.19
    assert judged(also=also("refuted")).label == "refuted"
    assert judged(also=also("inconclusive")).label == "inconclusive"
    assert "its reason" in judged(also=also("inconclusive")).reason
    assert judged(also=also("not testable")).label == "not testable"
    assert judged(peak(0, 0, 0), also=also("supported")).label == "refuted"
    assert judged(also=also("inconclusive", None)).p is None
    assert judged(also=also("small")).label == "small"
    # One refuted side refutes, whatever the other is.
    assert judged(peak(0, 0, 0), also=also("small")).label == "refuted"


def test_each_part_has_its_own_label_and_is_refuted_at_alpha_over_their_number():
    both = judged(peak(0, 0, 0), also=also("supported"))
    assert [one.label for one in both.parts] == ["refuted", "supported"]
    assert both.p_equivalence == pytest.approx(2 / 2001)
    assert judged(peak(0, 0, 0)).parts == ()
    # α is .2 here: .15 alone is under it, and as one of two parts it is not.
    weak = replace(also("refuted"), p_equivalence=0.15)
    found = judged(also=weak)
    assert found.label == "inconclusive"
    assert "as one of 2 parts its p of equivalence is 0.3" in found.reason


OUTSIDE = peak(0, 0, 0)


@pytest.mark.parametrize(
    ("found", "checks", "clause"),
    [
        (replace(OUTSIDE, shares=()), GOOD, "no test rejects that it lies inside"),
        (
            replace(OUTSIDE, shares=(0.7, *[0.0] * 7, 0.3, 0.0, 0.0, 0.0)), GOOD,
            "that it lies inside has p = 0.3",
        ),
        (
            OUTSIDE, [*GOOD, Control(name="A/A: h", kind="negative", passed=False, detail="")],
            "halves of one text differ",
        ),
        (OUTSIDE, [*GOOD, check("invariance", False)], "an invariance did not hold"),
        (
            replace(OUTSIDE, leave_out=lambda: {"without block 0": INSIDE.place}), GOOD,
            r"without block 0 it is at r = 0.73",
        ),
        (
            replace(OUTSIDE, leave_out=lambda: {"without block 0": peak(1, 2, 8).place}), GOOD,
            r"without block 0 it is at r = 0.18 [0.09, 0.73]",
        ),
    ],
)  # fmt: skip
def test_each_guard_of_a_refutation_has_its_clause(found, checks, clause):
    verdict = judged(found, checks)
    assert verdict.label == "inconclusive"
    assert clause in verdict.reason


def test_a_profile_that_peaks_elsewhere_without_any_block_is_refuted():
    point = np.linspace(5.0, 0.0, L)
    draws = point + 0.01 * np.random.default_rng(0).normal(size=(500, L))
    assert judged(locate_peak(draws, point)).label == "refuted"
    # The same with a hump in the window that only block 0 overtops.
    point = np.where(np.arange(L) == 8, 4.8, np.where(np.arange(L) == 0, 5.0, 0.0))
    draws = point + 0.01 * np.random.default_rng(0).normal(size=(500, L))
    verdict = judged(locate_peak(draws, point))
    assert verdict.label == "inconclusive" and "without block 0" in verdict.reason


def test_places_without_a_block_are_told_and_read_back():
    point = np.linspace(5.0, 0.0, L)
    found = locate_peak(np.tile(point, (30, 1)), point)
    told = json.loads(json.dumps(told_without(found)))
    assert read_without(told) == dict(found.without)


def test_ends_of_the_window_are_in_it():
    at_end = Estimate(value=0.65, low=0.65, high=0.85, unit="relative depth")
    assert is_hit(Peak(at_end, 0, 1.0), (0.65, 0.85))
    assert not is_hit(peak(7, 7, 7), (0.65, 0.85))
    assert np.isclose(7 / 11, 0.636, atol=1e-3)


def told_to_families(name: str, observations: Observations, thresholds: Thresholds = QUICK) -> None:
    experiment = next(e for e in CATALOG if e.id == name)
    (window,) = [s for s in experiment.rule.statistics if isinstance(s, PeakInWindow)]
    finding = experiment.judge(observations, replace(thresholds, draws=50, halves=8))
    without = read_without(finding.tables["without"])
    assert len(without) >= len(finding.tables["profile"]), finding.verdict.reason
    assert "without block 0" in window([("a", finding)], load_thresholds()).leave_out()


@pytest.mark.parametrize("name", ["T-007", "T-009"])
def test_where_a_peak_is_without_each_block_reaches_the_families(name: str) -> None:
    """Over families a refutation asks what is left without each block; with no table it cannot."""
    told_to_families(name, observe(next(e for e in CATALOG if e.id == name)))


def test_where_selectivity_peaks_without_each_block_reaches_the_families() -> None:
    told_to_families("T-008", observe_words(), FEW_WORDS)
