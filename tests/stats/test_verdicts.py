"""The verdict engine: a truth table, each clause by name, Holm, and how often it errs."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from planted_profiles import KINDS, pairs
from verdict_samples import ALPHA, SESOI, control, finding, part, sound

from bitgap.records import Control, Label, Verdict
from bitgap.stats.bootstrap import bootstrap_weights, estimate
from bitgap.stats.profiles import correlate_profiles, smallest_p_of_correlation
from bitgap.stats.verdicts import THIS_MODEL, Part, holm, judge, with_holm

# ------------------------------------------------------------------------------------ truth table

ESTIMATES = {
    "clear": (0.8, 0.6, 0.9),
    "just enough": (0.5, 0.01, 0.9),
    "wide": (0.8, -0.1, 1.4),
    "touching 0": (0.8, 0.0, 1.4),
    "too small, maybe": (0.45, 0.2, 0.7),
    "up to the SESOI": (0.3, 0.1, 0.5),
    "wholly under": (0.1, -0.1, 0.3),
    "wholly opposite": (-0.4, -0.6, -0.2),
    "no value": (None, None, None),
    "no interval": (0.8, None, None),
    "half an interval": (0.1, None, 0.3),
}
ABSENT = "absent"


def _rule(estimate: Any, p: Any, least: float, ran: dict[str, Any], extra: bool) -> Label:
    """Returns what method.md's section 2 says, for a single part."""
    value, low, high = estimate
    if value is None or low is None or high is None:
        return "inconclusive"
    if high < SESOI:
        return "refuted" if ran["positive"] is True else "inconclusive"
    supported = (
        value >= SESOI
        and low > 0
        and p is not None
        and not math.isnan(p)
        and p < ALPHA
        and least < ALPHA
        and ran["negative"] in (True, ABSENT)
        and ran["invariance"] is not False
        and ran["positive"] is True
        and extra
    )
    return "supported" if supported else "inconclusive"


def test_every_combination_gets_the_label_of_the_declared_rule():
    outcomes = (True, False, None, ABSENT)
    seen: set[Label] = set()
    for name, p, least in product(ESTIMATES, (0.001, 0.05, 0.2, None, math.nan), (1e-4, 0.05)):
        judged = part(*ESTIMATES[name], p=p, p_minimum=least)
        for positive, negative, invariance, extra in product(*[outcomes] * 3, (True, False)):
            ran = {"positive": positive, "negative": negative, "invariance": invariance}
            controls = [control(k, v) for k, v in ran.items() if v != ABSENT]  # type: ignore[arg-type]
            found = judge([judged], controls, alpha=ALPHA, extra=(extra, "the share is too small"))
            assert found.label == _rule(ESTIMATES[name], p, least, ran, extra), (name, p, ran)
            assert found.reason and found.scope == THIS_MODEL
            seen.add(found.label)
    assert seen == {"supported", "refuted", "inconclusive"}


CLAUSES: dict[str, tuple[Part, dict[str, bool | None], str]] = {
    "no interval": (part(0.8, None, None), {}, "effect has no interval: it was not measured"),
    "estimate under the SESOI": (part(0.45, 0.2, 0.7), {}, "neither clearly above 0 and at least"),
    "interval reaches 0": (part(0.8, -0.1, 1.4), {}, r"0.8 \[-0.1, 1.4\]: neither clearly"),
    "p": (part(p=0.2), {}, "p = 0.2, not under 0.05"),
    "no p": (part(p=None), {}, "p = none"),
    "p not a number": (part(p=math.nan), {}, "p = none"),
    "design": (part(p=0.2, p_minimum=1 / 6), {}, "design cannot reach α: .* 0.167"),
    "design at α exactly": (part(p=0.05, p_minimum=0.05), {}, "design cannot reach α"),
    "negative control": (part(), {"negative": False}, "control failed: the negative one"),
    "negative control not run": (part(), {"negative": None}, "not run: the negative one"),
    "invariance": (part(), {"invariance": False}, "control failed: the invariance one"),
    "positive control": (part(), {"positive": False}, "no positive control was detected"),
    "positive control not run": (part(), {"positive": None}, "no positive control was detected"),
    "small, undetected": (
        part(0.1, 0.0, 0.2),
        {"positive": False},
        r"effect is 0.1 \[0, 0.2\], under 0.5, but no positive control .* \(the positive one\)",
    ),
}


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_inconclusive_verdict_names_the_clause_that_failed(clause):
    judged, ran, reason = CLAUSES[clause]
    found = judge([judged], sound(**ran), alpha=ALPHA)
    assert found.label == "inconclusive"
    assert re.search(reason, found.reason)


def test_a_failed_further_condition_is_said_in_its_own_words():
    found = judge([part()], sound(), alpha=ALPHA, extra=(False, "the share is under one half"))
    assert (found.label, found.reason) == ("inconclusive", "the share is under one half")


def test_supported_and_refuted_carry_their_numbers():
    supported = judge([part()], sound(), alpha=ALPHA)
    assert (supported.label, supported.reason) == (
        "supported",
        "effect is 0.8 [0.6, 0.9], p = 0.001",
    )
    assert (supported.p, supported.p_minimum, supported.sesoi) == (0.001, 1e-4, SESOI)
    refuted = judge([part(0.1, 0.0, 0.2, p=0.3)], sound(), alpha=ALPHA)
    assert refuted.label == "refuted"
    assert "0.1 [0, 0.2], under 0.5" in refuted.reason
    assert refuted.p == 0.3


@pytest.mark.parametrize("judged", [part(), part(0.1, 0.0, 0.2), part(None, None, None)])
def test_a_gate_closes_every_case(judged):
    found = judge([judged], sound(), alpha=ALPHA, gate="nothing to explain")
    assert (found.label, found.reason, found.p) == ("not testable", "nothing to explain", None)


def test_several_positive_controls_must_all_be_detected():
    both = [control("positive", name="P1"), control("positive", False, name="P5")]
    for judged in (part(), part(0.1, 0.0, 0.2)):
        assert judge([judged], both, alpha=ALPHA).label == "inconclusive"
    assert "(P5)" in judge([part(0.1, 0.0, 0.2)], both, alpha=ALPHA).reason
    assert "none was run" in judge([part(0.1, 0.0, 0.2)], [], alpha=ALPHA).reason


def test_all_parts_must_pass_and_the_largest_p_counts():
    weak = part(p=0.03, p_minimum=0.01, name="second", sesoi=0.02)
    found = judge([part(), weak], sound(), alpha=ALPHA)
    assert (found.label, found.p, found.p_minimum) == ("supported", 0.03, 0.01)
    for other, label in (
        (part(p=0.06), "inconclusive"),
        (part(p=None), "inconclusive"),
        (part(0.45, 0.2, 0.7), "inconclusive"),
        (part(None, None, None), "inconclusive"),
        (part(p_minimum=0.2), "inconclusive"),
        (part(0.1, 0.0, 0.2), "refuted"),
    ):
        for parts in ([part(), other], [other, part()]):
            assert judge(parts, sound(), alpha=ALPHA).label == label
    assert judge(
        [part(), part(0.1, 0, 0.2, name="second")], sound(), alpha=ALPHA
    ).reason.startswith("second")


def test_one_model_never_speaks_for_the_theory():
    for judged in (part(), part(0.1, 0.0, 0.2), part(p=0.2)):
        found = judge([judged], sound(), alpha=ALPHA)
        (adjusted,) = with_holm([finding(found)], ALPHA)
        for verdict in (found, adjusted.verdict):
            assert verdict.scope == "this model"
            assert "theory" not in verdict.reason and "famil" not in verdict.reason


# ------------------------------------------------------------------------------------------- Holm


def _closed_testing(ps: dict[str, float]) -> dict[str, float]:
    """Returns adjusted p from the closure of Bonferroni tests, which Holm's procedure is."""
    names = list(ps)
    subsets = [c for k in range(1, len(names) + 1) for c in combinations(names, k)]
    return {
        name: max(min(1.0, len(s) * min(ps[i] for i in s)) for s in subsets if name in s)
        for name in names
    }


@pytest.mark.parametrize("seed", range(6))
def test_holm_is_the_closure_of_bonferroni(seed):
    rng = np.random.default_rng(seed)
    ps = {f"h{i}": float(p) for i, p in enumerate(rng.beta(0.4, 3, size=7).round(seed % 3 + 1))}
    assert holm(ps) == pytest.approx(_closed_testing(ps))


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"only": 0.2}) == {"only": 0.2}
    assert holm({}) == {}


def _supported(p: float, least: float = 1e-4) -> Verdict:
    return judge([part(p=p, p_minimum=least)], sound(), alpha=ALPHA)


def test_support_that_holm_takes_away_becomes_inconclusive():
    verdicts = [_supported(0.005), _supported(0.04), _supported(0.012)]
    found = with_holm([finding(v, f"T-{i}") for i, v in enumerate(verdicts)], ALPHA)
    assert [f.verdict.p_holm for f in found] == pytest.approx([0.015, 0.04, 0.024])
    assert [f.verdict.label for f in found] == ["supported"] * 3
    more = [_supported(0.02), _supported(0.04), _supported(0.04)]
    found = with_holm([finding(v, f"T-{i}") for i, v in enumerate(more)], ALPHA)
    assert [f.verdict.p_holm for f in found] == pytest.approx([0.06, 0.08, 0.08])
    assert {f.verdict.label for f in found} == {"inconclusive"}
    assert found[0].verdict.reason == "p after Holm is 0.06, not under 0.05"


def test_a_design_too_small_for_its_family_says_so():
    # Alone it may reach 1/30; after eleven others nothing under 12/30 would have been possible.
    ps = [_supported(1 / 30, least=1 / 30), *[_supported(0.9) for _ in range(11)]]
    assert ps[0].label == "supported"
    first = with_holm([finding(v, f"T-{i}") for i, v in enumerate(ps)], ALPHA)[0].verdict
    assert first.label == "inconclusive"
    assert "the design cannot reach α here: its smallest p is 0.0333" in first.reason


def test_what_is_not_testable_is_outside_the_family():
    closed = judge([part(p=0.001)], sound(), alpha=ALPHA, gate="no disparity")
    found = with_holm([finding(_supported(0.03)), finding(closed), finding(closed)], ALPHA)
    assert found[0].verdict.p_holm == pytest.approx(0.03)
    assert found[0].verdict.label == "supported"
    assert found[1].verdict == closed


def test_two_findings_of_one_experiment_are_two_tests():
    found = with_holm([finding(_supported(0.02)), finding(_supported(0.04))], ALPHA)
    assert [f.verdict.p_holm for f in found] == pytest.approx([0.04, 0.04])
    found = with_holm([finding(_supported(0.03)), finding(_supported(0.04))], ALPHA)
    assert {f.verdict.label for f in found} == {"inconclusive"}


def test_holm_changes_no_label_but_support():
    refuted = judge([part(0.1, 0.0, 0.2, p=0.9)], sound(), alpha=ALPHA)
    unclear = judge([part(p=0.4)], sound(), alpha=ALPHA)
    found = with_holm([finding(refuted), finding(unclear)], ALPHA)
    for before, after in zip((refuted, unclear), found, strict=True):
        assert replace(after.verdict, p_holm=None) == before
        assert after.verdict.p_holm is not None


def test_an_exploratory_hypothesis_is_judged_at_its_own_p_and_costs_the_others_nothing():
    family = [finding(_supported(0.04)), finding(_supported(0.03))]
    mine, other = with_holm(family, ALPHA, exploratory=frozenset({family[0].hypothesis}))
    assert (mine.verdict.label, mine.verdict.p_holm) == ("supported", None)
    assert other.hypothesis == mine.hypothesis  # both are, so neither is adjusted
    apart = replace(family[1], hypothesis="H9.9")
    mine, other = with_holm(
        [family[0], apart], ALPHA, exploratory=frozenset({family[0].hypothesis})
    )
    assert mine.verdict.p_holm is None
    assert other.verdict.p_holm == pytest.approx(0.03)


def test_a_family_of_twelve_errs_no_oftener_than_alpha():
    times, errors, rng = 1000, 0, np.random.default_rng(0)
    for _ in range(times):
        family = [finding(_supported(float(p)), str(i)) for i, p in enumerate(rng.uniform(size=12))]
        errors += any(f.verdict.label == "supported" for f in with_holm(family, ALPHA))
    assert errors / times <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / times)
    assert errors > 10  # exact under independence, so far fewer would be a blunt instrument


# ------------------------------------------------------------------------------- how often it errs


@pytest.mark.parametrize("n_blocks", [12, 24])
def test_unrelated_profiles_are_supported_no_oftener_than_alpha(n_blocks):
    labels = []
    for kind in KINDS:
        for x, y in pairs(kind, n_blocks, times=300, seed=21):
            found = correlate_profiles(x, y)
            least = smallest_p_of_correlation(found.dof)
            judged = Part(name="r", estimate=found.estimate, sesoi=0.1, p=found.p, p_minimum=least)
            labels.append(judge([judged], sound(), alpha=ALPHA).label)
    error = 3 * np.sqrt(ALPHA * (1 - ALPHA) / len(labels))
    assert np.mean([label == "supported" for label in labels]) <= ALPHA + error


def _labels(effect: float, spread: float, n: int, *, sesoi: float, times: int = 300) -> list[Label]:
    """Returns verdicts on means of n sentences, with a bootstrap p, as T-004 forms it."""
    labels: list[Label] = []
    controls: list[Control] = sound()
    for seed in range(times):
        x = np.random.default_rng(seed).normal(effect, spread, n)
        found = estimate(lambda w, x=x: w @ x / w.sum(1), n, unit="", seed=seed, draws=400)
        draws = bootstrap_weights(n, 400, seed) @ x / n
        p = (1 + int((draws <= 0).sum())) / 401
        judged = Part(name="mean", estimate=found, sesoi=sesoi, p=p, p_minimum=1 / 401)
        labels.append(judge([judged], controls, alpha=ALPHA).label)
    return labels


def _share(labels: list[Label], label: Label) -> float:
    return labels.count(label) / len(labels)


ERROR = 3 * np.sqrt(ALPHA * (1 - ALPHA) / 300)


def test_no_effect_is_seldom_supported_however_small_the_sesoi():
    labels = _labels(0.0, 1.0, 60, sesoi=1e-6)
    assert _share(labels, "supported") <= ALPHA + ERROR
    assert 0 < _share(labels, "supported")


def test_an_effect_of_the_sesoi_is_seldom_refuted():
    labels = _labels(0.3, 1.0, 60, sesoi=0.3)
    assert _share(labels, "refuted") <= ALPHA + ERROR


def test_no_effect_is_refuted_where_the_text_is_long_enough():
    assert _share(_labels(0.0, 1.0, 200, sesoi=0.3), "refuted") > 0.8


def test_twice_the_sesoi_is_supported_where_the_text_is_long_enough():
    assert _share(_labels(0.6, 1.0, 60, sesoi=0.3), "supported") > 0.8


def test_too_little_text_is_inconclusive_and_not_refuted():
    labels = _labels(0.6, 3.0, 10, sesoi=0.3)
    assert _share(labels, "inconclusive") > 0.7
    assert _share(labels, "refuted") <= ALPHA + ERROR
