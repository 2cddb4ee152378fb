"""The verdict engine: a truth table, each clause by name, Holm, and how often it errs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from planted_profiles import KINDS, pairs
from verdict_samples import ALPHA, SESOI, control, estimated, finding, part, sound

from bitgap.records import Control, Estimate, Label, Verdict
from bitgap.stats.bootstrap import (
    bootstrap_p,
    bootstrap_p_equivalence,
    bootstrap_weights,
    estimate,
)
from bitgap.stats.profiles import correlate_profiles
from bitgap.stats.verdicts import THIS_MODEL, LeftOut, Part, holm, judge, with_holm

# ------------------------------------------------------------------------------------ truth table

ESTIMATES = {
    "clear": (0.8, 0.6, 0.9),
    "just enough": (0.5, 0.01, 0.9),
    "wide": (0.8, -0.1, 1.4),
    "touching 0": (0.8, 0.0, 1.4),
    "too small, maybe": (0.45, 0.2, 0.7),
    "up to the SESOI": (0.3, 0.1, 0.5),
    "small": (0.3, 0.1, 0.45),
    "small, just": (0.3, 1e-9, 0.4999),
    "wholly under": (0.1, -0.1, 0.3),
    "under, touching 0": (0.1, 0.0, 0.3),
    "wholly opposite": (-0.4, -0.6, -0.2),
    "no value": (None, None, None),
    "no interval": (0.8, None, None),
    "half an interval": (0.1, None, 0.3),
}
ABSENT = "absent"
OUTCOMES = (True, False, None, ABSENT)
CONCURRING: dict[str, dict[str, float]] = {
    "no other test": {},
    "all concur": {"sign flip": 0.01, "model swap": 0.049},
    "one does not": {"sign flip": 0.01, "model swap": 0.05},
    "one is undefined": {"sign flip": math.nan},
}
WITHOUT: dict[str, dict[str, tuple[Any, Any, Any]]] = {
    "no profile": {},
    "every block": {"without block 0": (0.1, -0.2, 0.3), "without block 1": (0.2, 0.0, 0.49)},
    "but the last": {"without block 0": (0.1, -0.2, 0.3), "without block 11": (0.4, 0.3, 0.5)},
    "undefined without one": {"without block 0": (0.2, None, None)},
    "as large without any": {
        "without block 0": (0.5, 0.01, 0.9),
        "without both ends": (0.7, 0.2, 1),
    },
    "smaller without one": {"without block 0": (0.7, 0.2, 1), "without block 1": (0.49, 0.1, 0.9)},
    "unclear without both ends": {
        "without block 0": (0.7, 0.2, 1),
        "without both ends": (0.6, 0.0, 1),
    },
}


def _rule(judged: Part, ran: dict[str, Any], extra: bool, chance: float = 0.0) -> Label:
    """Returns what version 3 says of a single part, as method-2.md and the declaration word it."""

    def holds(p: float | None) -> bool:
        return p is not None and not math.isnan(p) and p < ALPHA

    estimate = judged.estimate
    if None in (estimate.value, estimate.low, estimate.high):
        return "inconclusive"
    value, low, high = estimate.value, estimate.low, estimate.high
    assert value is not None and low is not None and high is not None
    intact = ran["A/A"] is not False and ran["invariance"] is not False
    if high < SESOI and low > chance:
        return "small" if intact else "inconclusive"
    stays_there = [
        e.value is not None and e.low is not None and e.value >= SESOI and e.low > chance
        for e in judged.without.values()
    ]
    stays_under = [e.high is not None and e.high < SESOI for e in judged.without.values()]
    if (
        high < SESOI
        and low <= chance
        and intact
        and holds(judged.p_equivalence)
        and all(map(holds, judged.concurring.values()))
        and all(stays_under)
        and ran["positive"] is True
    ):
        return "refuted"
    if (
        value >= SESOI
        and low > chance
        and high >= SESOI
        and holds(judged.p)
        and judged.p_minimum < ALPHA
        and ran["negative"] in (True, ABSENT)
        and ran["A/A"] in (True, ABSENT)
        and ran["invariance"] is not False
        and ran["positive"] is True
        and (all(stays_there) or not judged.over_blocks)
        and extra
    ):
        return "supported"
    return "inconclusive"


def _ran(ran: dict[str, Any]) -> list[Control]:
    controls = [control(k, v) for k, v in ran.items() if v != ABSENT and k != "A/A"]  # type: ignore[arg-type]
    if ran["A/A"] != ABSENT:
        controls.append(control("negative", ran["A/A"], name="A/A: random halves"))
    return controls


def _every_control() -> Iterator[dict[str, Any]]:
    for positive, negative, invariance, halves in product(*[OUTCOMES] * 4):
        yield {
            "positive": positive, "negative": negative, "invariance": invariance, "A/A": halves,
        }  # fmt: skip


def _held_against_the_rule(judged: Part, extra: bool = True, chance: float = 0.0) -> set[Label]:
    """Judges a part under every outcome of its controls, and returns the labels that came out."""
    seen: set[Label] = set()
    for ran in _every_control():
        found = judge([judged], _ran(ran), alpha=ALPHA, extra=(extra, "the share is too small"))
        assert found.label == _rule(judged, ran, extra, chance), (judged, ran, found)
        assert found.reason and found.scope == THIS_MODEL and not found.parts
        seen.add(found.label)
    return seen


@pytest.mark.parametrize("name", ESTIMATES)
def test_every_way_to_support_gets_the_label_of_the_declared_rule(name):
    seen: set[Label] = set()
    for p, least, extra in product((0.001, 0.05, None, math.nan), (1e-4, 0.05), (True, False)):
        judged = part(*ESTIMATES[name], p=p, p_minimum=least)
        seen |= _held_against_the_rule(judged, extra)
    assert seen == LABELS_OF.get(name, {"inconclusive"}), seen


@pytest.mark.parametrize("over_blocks", [True, False])
@pytest.mark.parametrize("name", ["clear", "just enough", "wide", "wholly under"])
def test_what_supports_a_link_of_profiles_does_so_without_any_block(name, over_blocks):
    seen: dict[str, set[Label]] = {}
    for left in WITHOUT:
        judged = part(
            *ESTIMATES[name],
            without={k: estimated(*ends) for k, ends in WITHOUT[left].items()},
            over_blocks=over_blocks,
        )
        seen[left] = _held_against_the_rule(judged)
    if name in ("clear", "just enough"):
        # What is no profile has no block to leave out.
        free = {"no profile", "as large without any"} if over_blocks else {*WITHOUT}
        assert {left for left, labels in seen.items() if "supported" in labels} == free


LABELS_OF: dict[str, set[Label]] = {
    "clear": {"supported", "inconclusive"},
    "just enough": {"supported", "inconclusive"},
    "small": {"small", "inconclusive"},
    "small, just": {"small", "inconclusive"},
    "wholly under": {"refuted", "inconclusive"},
    "under, touching 0": {"refuted", "inconclusive"},
    "wholly opposite": {"refuted", "inconclusive"},
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_every_way_to_refute_gets_the_label_of_the_declared_rule(name):
    equivalences = (0.001, 0.05, None, math.nan)
    for p, equal, concur, left in product((0.001, None), equivalences, CONCURRING, WITHOUT):
        judged = part(
            *ESTIMATES[name],
            p=p,
            p_equivalence=equal,
            concurring=CONCURRING[concur],
            without={k: estimated(*ends) for k, ends in WITHOUT[left].items()},
        )
        _held_against_the_rule(judged)


@pytest.mark.parametrize("chance", [0.25, -0.3])
def test_chance_is_what_an_interval_is_compared_with(chance):
    # Where nothing is .25, [.2, .35] is nothing; where nothing is −.3, [−.1, .3] is something.
    for name in ESTIMATES:
        _held_against_the_rule(part(*ESTIMATES[name], chance=chance), chance=chance)
    nothing = judge([part(0.3, 0.2, 0.35, chance=0.25)], sound(), alpha=ALPHA)
    assert nothing.label == "refuted"
    something = judge([part(0.1, -0.1, 0.3, chance=-0.3)], sound(), alpha=ALPHA)
    assert something.label == "small"
    half = judge([part(0.8, 0.2, 0.9, chance=0.25)], sound(), alpha=ALPHA)
    assert half.label == "inconclusive" and "neither clearly above 0.25" in half.reason


UNDER = (0.1, -0.1, 0.2)
SMALL = (0.2, 0.1, 0.3)
CLAUSES: dict[str, tuple[Part, list[Control], str]] = {
    "no interval": (
        part(0.8, None, None), sound(), "effect has no interval: it was not measured",
    ),
    "estimate under the SESOI": (
        part(0.45, 0.2, 0.7), sound(), "neither clearly above 0 and at least",
    ),
    "interval reaches 0": (part(0.8, -0.1, 1.4), sound(), r"0.8 \[-0.1, 1.4\]: neither clearly"),
    "p": (part(p=0.2), sound(), "p = 0.2, not under 0.05"),
    "no p": (part(p=None), sound(), "p = none"),
    "p not a number": (part(p=math.nan), sound(), "p = none"),
    "design": (part(p=0.2, p_minimum=1 / 6), sound(), "design cannot reach α: .* 0.167"),
    "design at α exactly": (part(p=0.05, p_minimum=0.05), sound(), "design cannot reach α"),
    "negative control": (part(), sound(negative=False), "control failed: the negative one"),
    "negative control not run": (part(), sound(negative=None), "not run: the negative one"),
    "invariance": (part(), sound(invariance=False), "control failed: the invariance one"),
    "positive control": (
        part(), sound(positive=False), r"no positive control was detected \(the positive one\)",
    ),
    "positive control not run": (part(), sound(positive=None), "no positive control was detected"),
    "none was run": (part(), [], r"no positive control was detected \(none was run\)"),
    "smaller without a block": (
        part(without={"without block 0": estimated(0.4, 0.1, 0.9)}, over_blocks=True), sound(),
        r"but without block 0 it is 0.4 \[0.1, 0.9\], not at least 0.5 and clearly above 0",
    ),
    "unclear without both ends": (
        part(without={"without both ends": estimated(0.7, -0.1, 0.9)}, over_blocks=True), sound(),
        r"but without both ends it is 0.7 \[-0.1, 0.9\], not at least 0.5 and clearly above 0",
    ),
    "no interval without a block": (
        part(without={"without block 3": estimated(0.7, None, None)}, over_blocks=True), sound(),
        "but without block 3 there is no interval: it was not measured",
    ),
    "refuted, undetected": (
        part(*UNDER), sound(positive=False),
        r"effect is 0.1 \[-0.1, 0.2\], under 0.5, but no positive control .* \(the positive one\)",
    ),
    "refuted, halves differ": (
        part(*UNDER), [*sound(), control("negative", False, name="A/A: halves")],
        r"under 0.5, but halves of one text differ .* \(A/A: halves\)",
    ),
    "refuted, an invariance": (
        part(*UNDER), sound(invariance=False), r"but an invariance did not hold \(the inv",
    ),
    "refuted, no test": (
        part(*UNDER, p_equivalence=None), sound(), "but no test rejects that it is at least that",
    ),
    "refuted, p": (
        part(*UNDER, p_equivalence=0.2), sound(), "at least that has p = 0.2, not under 0.05",
    ),
    "refuted, a test": (
        part(*UNDER, concurring={"sign flip": 0.2}), sound(), "the sign flip does not reject",
    ),
    "refuted, a block": (
        part(*UNDER, without={"without block 0": estimated(0.4, 0.1, 0.7)}), sound(),
        r"but without block 0 it is 0.4 \[0.1, 0.7\], which reaches 0.5",
    ),
    "refuted, no interval without a block": (
        part(*UNDER, without={"without block 3": estimated(0.4, None, None)}), sound(),
        "without block 3 there is no interval: it was not measured",
    ),
    "small, halves differ": (
        part(*SMALL), [*sound(), control("negative", False, name="A/A: halves")],
        "but halves of one text differ",
    ),
    "small, an invariance": (part(*SMALL), sound(invariance=False), "an invariance did not hold"),
}  # fmt: skip


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_inconclusive_verdict_names_the_clause_that_failed(clause):
    judged, controls, reason = CLAUSES[clause]
    found = judge([judged], controls, alpha=ALPHA)
    assert found.label == "inconclusive"
    assert re.search(reason, found.reason), found.reason


def test_each_guard_of_a_refutation_has_a_clause_of_its_own():
    told = [
        judge([judged], controls, alpha=ALPHA).reason
        for name, (judged, controls, _) in CLAUSES.items()
        if name.startswith("refuted")
    ]
    assert len(told) == 8 and len(set(told)) == 8


def test_a_failed_further_condition_is_said_in_its_own_words():
    found = judge([part()], sound(), alpha=ALPHA, extra=(False, "the share is under one half"))
    assert (found.label, found.reason) == ("inconclusive", "the share is under one half")


def test_supported_refuted_and_small_carry_their_numbers():
    supported = judge([part()], sound(), alpha=ALPHA)
    assert (supported.label, supported.reason) == (
        "supported",
        "effect is 0.8 [0.6, 0.9], p = 0.001",
    )
    assert (supported.p, supported.p_minimum, supported.sesoi) == (0.001, 1e-4, SESOI)
    refuted = judge([part(0.1, 0.0, 0.2, p=0.3)], sound(), alpha=ALPHA)
    assert (refuted.label, refuted.reason) == (
        "refuted",
        "effect is 0.1 [0, 0.2], under 0.5, p of at least that = 0.001",
    )
    assert (refuted.p, refuted.p_equivalence) == (0.3, 0.001)
    small = judge([part(*SMALL, p_equivalence=None)], [], alpha=ALPHA)
    assert (small.label, small.reason) == (
        "small",
        "effect is 0.2 [0.1, 0.3], under 0.5 and above 0: there, but less than matters",
    )


@pytest.mark.parametrize("judged", [part(), part(0.1, 0.0, 0.2), part(None, None, None)])
def test_a_gate_closes_every_case(judged):
    found = judge([judged, judged], sound(), alpha=ALPHA, gate="nothing to explain")
    assert (found.label, found.reason, found.p) == ("not testable", "nothing to explain", None)
    assert found.p_equivalence is None and found.parts == ()


def test_too_few_units_conclude_nothing_whatever_was_found():
    for judged in (part(), part(*UNDER), part(*SMALL)):
        found = judge([judged], sound(), alpha=ALPHA, enough=(False, "3 families; 5 are needed"))
        assert (found.label, found.reason) == ("inconclusive", "3 families; 5 are needed")


def test_several_positive_controls_must_all_be_detected():
    both = [control("positive", name="P1"), control("positive", False, name="P5")]
    for judged in (part(), part(0.1, 0.0, 0.2)):
        assert judge([judged], both, alpha=ALPHA).label == "inconclusive"
        assert "(P5)" in judge([judged], both, alpha=ALPHA).reason
        assert "none was run" in judge([judged], [], alpha=ALPHA).reason


def test_without_a_block_is_asked_last_of_all():
    def never() -> dict[str, Estimate]:
        raise AssertionError("asked for")

    for judged, controls in ((part(), sound()), (part(*UNDER, p=0.3), sound(positive=False))):
        judge([replace(judged, without=LeftOut(never))], controls, alpha=ALPHA)
    unproven = part(without=LeftOut(never), over_blocks=True)
    assert judge([unproven], sound(positive=False), alpha=ALPHA).label == "inconclusive"
    for asked in (part(*UNDER, without=LeftOut(never)), unproven):
        with pytest.raises(AssertionError, match="asked for"):
            judge([asked], sound(), alpha=ALPHA)


# ------------------------------------------------------------------------------------------ parts

SAMPLES: dict[Label, Part] = {
    "supported": part(name="holds"),
    "refuted": part(*UNDER, name="fails"),
    "small": part(*SMALL, name="weak"),
    "inconclusive": part(0.45, 0.2, 0.7, name="open"),
}


def test_the_whole_of_all_parts_has_the_label_of_the_declared_rule():
    for labels in (*product(SAMPLES, repeat=2), *product(SAMPLES, repeat=3)):
        found = judge([SAMPLES[label] for label in labels], sound(), alpha=ALPHA)
        worst = ("refuted", "small", "inconclusive", "supported")
        assert found.label == next(label for label in worst if label in labels), labels
        # Each part has its own label, and the reason is that of the part that decides.
        assert [one.label for one in found.parts] == list(labels)
        assert [one.name for one in found.parts] == [SAMPLES[label].name for label in labels]
        assert found.reason == next(o.reason for o in found.parts if o.label == found.label)


def test_a_further_condition_is_of_the_whole():
    found = judge([part(), part(name="b")], sound(), alpha=ALPHA, extra=(False, "not enough"))
    assert (found.label, found.reason) == ("inconclusive", "not enough")
    assert [one.label for one in found.parts] == ["supported", "supported"]


def test_a_control_of_one_part_guards_that_part_alone():
    blind = part(*UNDER, name="b", controls=(control("positive", False, name="P4"),))
    found = judge([part(), blind], sound(), alpha=ALPHA)
    assert [one.label for one in found.parts] == ["supported", "inconclusive"]
    assert "(P4)" in found.reason
    seen = replace(blind, controls=(control("positive", name="P4"),))
    assert judge([part(), seen], [], alpha=ALPHA).parts[0].label == "inconclusive"
    assert judge([part(), seen], [], alpha=ALPHA).parts[1].label == "refuted"


def test_one_of_several_parts_is_refuted_at_alpha_over_their_number():
    # Each of k true parts may be refuted by chance, so each has a k-th of α.
    for k, label in ((1, "refuted"), (2, "refuted"), (3, "inconclusive")):
        parts = [part(*UNDER, p_equivalence=0.02), *[part(name=f"{i}") for i in range(k - 1)]]
        found = judge(parts, sound(), alpha=ALPHA)
        assert found.label == label
        assert found.p_equivalence == pytest.approx(0.02 * k if k < 3 else 0.003)
    # Where one part is refuted, the p is that part's, however small another's may be.
    guarded = part(*UNDER, p_equivalence=1e-6, concurring={"sign flip": 0.5}, name="b")
    found = judge([part(*UNDER, p_equivalence=0.01), guarded], sound(), alpha=ALPHA)
    assert (found.label, found.p_equivalence) == ("refuted", pytest.approx(0.02))


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
        (part(0.2, 0.1, 0.3), "small"),
    ):
        for parts in ([part(), other], [other, part()]):
            assert judge(parts, sound(), alpha=ALPHA).label == label
    assert judge(
        [part(), part(0.1, 0, 0.2, name="second")], sound(), alpha=ALPHA
    ).reason.startswith("second")


def test_one_model_never_speaks_for_the_theory():
    for judged in (part(), part(0.1, 0.0, 0.2), part(p=0.2), part(*SMALL)):
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


def test_holm_changes_no_label_but_support_and_refutation():
    small = judge([part(*SMALL, p=0.9)], sound(), alpha=ALPHA)
    unclear = judge([part(p=0.4)], sound(), alpha=ALPHA)
    refuted = judge([part(0.1, 0.0, 0.2, p=0.9)], sound(), alpha=ALPHA)
    before = (small, unclear, refuted)
    for one, after in zip(before, with_holm([finding(v) for v in before], ALPHA), strict=True):
        assert replace(after.verdict, p_holm=None, p_equivalence_holm=None) == one
        assert after.verdict.p_holm is not None


def _refuted(p: float, **how: Any) -> Verdict:
    return judge([part(*UNDER, p=0.5, p_equivalence=p, **how)], sound(), alpha=ALPHA)


def test_a_refutation_that_holm_takes_away_becomes_inconclusive():
    found = with_holm([finding(_refuted(p)) for p in (0.005, 0.04, 0.012)], ALPHA)
    assert [f.verdict.p_equivalence_holm for f in found] == pytest.approx([0.015, 0.04, 0.024])
    assert [f.verdict.label for f in found] == ["refuted"] * 3
    found = with_holm([finding(_refuted(p)) for p in (0.02, 0.04, 0.04)], ALPHA)
    assert {f.verdict.label for f in found} == {"inconclusive"}
    assert found[0].verdict.reason.endswith(
        "under 0.5, p of at least that = 0.02; "
        "the p of equivalence after Holm is 0.06, not under 0.05"
    )


def test_support_and_refutation_are_two_families():
    mixed = [finding(_supported(0.03)), finding(_refuted(0.03))]
    mixed = [replace(f, verdict=replace(f.verdict, **gone)) for f, gone in zip(
        mixed, ({"p_equivalence": None}, {"p": None}), strict=True)]  # fmt: skip
    assert [f.verdict.label for f in with_holm(mixed, ALPHA)] == ["supported", "refuted"]
    # Whatever else could have been refuted counts, also what was not.
    also = [finding(_refuted(0.03)), finding(judge([part()], sound(), alpha=ALPHA))]
    assert with_holm(also, ALPHA)[0].verdict.p_equivalence_holm == pytest.approx(0.03)
    other = judge([part(p_equivalence=0.04)], sound(), alpha=ALPHA)
    assert with_holm([also[0], finding(other)], ALPHA)[0].verdict.label == "inconclusive"


def test_exploratory_refutations_are_at_their_own_p():
    mine, other = finding(_refuted(0.04)), replace(finding(_refuted(0.03)), hypothesis="H9.9")
    found = with_holm([mine, other], ALPHA, exploratory=frozenset({mine.hypothesis}))
    assert [f.verdict.label for f in found] == ["refuted", "refuted"]
    assert [f.verdict.p_equivalence_holm for f in found] == [None, pytest.approx(0.03)]


def test_parts_lose_what_holm_takes_away():
    parts = [part(p=0.02, name="a"), part(*UNDER, p_equivalence=0.015, name="b")]
    both = judge(parts, sound(), alpha=ALPHA)
    assert [one.label for one in both.parts] == ["supported", "refuted"]
    alone = with_holm([finding(both)], ALPHA)[0].verdict
    assert (alone.label, alone.parts) == ("refuted", both.parts)
    beside = [finding(both), finding(_supported(0.03)), finding(_refuted(0.04))]
    beside += [finding(_supported(0.04))]
    found = with_holm(beside, ALPHA)[0].verdict
    assert found.label == "inconclusive"
    assert [one.label for one in found.parts] == ["inconclusive", "inconclusive"]
    assert "p after Holm is 0.08" in found.parts[0].reason
    assert "the p of equivalence after Holm is" in found.parts[1].reason


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
            labels.append(judge([found.part("r", 0.1)], sound(), alpha=ALPHA).label)
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
        judged = Part(
            name="mean",
            estimate=found,
            sesoi=sesoi,
            p=bootstrap_p(draws),
            p_minimum=1 / 401,
            p_equivalence=bootstrap_p_equivalence(draws, sesoi),
        )
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


def test_half_the_sesoi_is_called_small_where_the_text_is_long_enough():
    labels = _labels(0.15, 0.5, 200, sesoi=0.3, times=150)
    assert _share(labels, "small") > 0.8
    assert _share(labels, "refuted") <= ALPHA + ERROR


def test_an_effect_of_the_sesoi_is_seldom_called_small():
    labels = _labels(0.3, 1.0, 400, sesoi=0.3)
    assert _share(labels, "small") <= ALPHA + ERROR
    assert _share(labels, "small") > 0


def test_twice_the_sesoi_is_supported_where_the_text_is_long_enough():
    assert _share(_labels(0.6, 1.0, 60, sesoi=0.3), "supported") > 0.8


def test_too_little_text_is_inconclusive_and_not_refuted():
    labels = _labels(0.6, 3.0, 10, sesoi=0.3)
    assert _share(labels, "inconclusive") > 0.7
    assert _share(labels, "refuted") <= ALPHA + ERROR
