"""Theory-level verdicts: planted across families they are found, and each clause can fail."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from finding_samples import (
    NEGATIVE,
    POSITIVE,
    blocks,
    effect,
    evidence,
    finding,
    place,
    with_control,
)

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.family_rule import Rule
from bitgap.records import Control, Estimate, Finding
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.evidence import Evidence
from bitgap.theory.families import across_families, pooled_controls, scope_of

THRESHOLDS = load_thresholds()
FAMILIES = ("gpt2", "opt", "bloom", "gpt_neox", "llama", "qwen3", "gemma")


def profiles(slope: float, seed: int = 0, n: int = 12) -> list[Evidence]:
    """Families in which log RE follows variance and log k follows log RE, both with a slope."""
    rng, found = np.random.default_rng(seed), []
    for family in FAMILIES:
        variance = rng.normal(size=n)
        error = -slope * variance + np.sqrt(1 - slope**2) * rng.normal(size=n)
        damage = slope * error + np.sqrt(1 - slope**2) * rng.normal(size=n)
        table = blocks(log_variance_fixed=variance, log_t2=error, log_k=damage)
        estimates = {"variance_and_error": effect(slope), "lmg_share_of_error": effect(0.8)}
        one = finding("T-002", "H1.2", estimates, tables={"blocks": table})
        found.append(evidence(family, one))
    return found


def cancelling(rho: Estimate, share: Estimate) -> dict[str, Estimate]:
    """Estimates of H2.3 that are the same under both rules for scales and both units."""
    return {
        "minus_rho": rho,
        "minus_rho_other": rho,
        "minus_rho_per_token": rho,
        "cancelled_share": share,
        "cancelled_share_other": share,
    }


def effects(values: list[float], **changes: object) -> list[Evidence]:
    tables = {"rank_from_below": 1, "n_pairs": 66}
    return [
        evidence(
            family,
            replace(
                finding("T-006", "H2.3", cancelling(effect(value), effect(0.2)), tables=tables),
                **changes,  # type: ignore[arg-type]
            ),
        )
        for family, value in zip(FAMILIES, values, strict=True)
    ]  # fmt: skip


def judged(hypothesis: str, found: list[Evidence]) -> Finding:
    (experiment,) = (e for e in CATALOG if e.hypothesis.id == hypothesis)
    return across_families(experiment, found, THRESHOLDS)


def test_every_member_of_the_family_but_the_formal_model_has_a_rule() -> None:
    declared = set(THRESHOLDS.hypotheses) - THRESHOLDS.exploratory
    rules = {e.hypothesis.id: e.rule for e in CATALOG if e.hypothesis.across_families}
    assert set(rules) == declared - {"formal"}
    assert all(rule.statistics for rule in rules.values())


def test_planted_correlations_over_blocks_are_supported() -> None:
    verdict = judged("H1.2", profiles(0.95)).verdict
    assert verdict.label == "supported", verdict.reason
    assert verdict.scope == "7 families: 7 models, 12 blocks"


def test_unrelated_profiles_are_not_supported() -> None:
    labels = [judged("H1.2", profiles(0.0, seed)).verdict.label for seed in range(12)]
    assert "supported" not in labels


def test_a_clear_effect_is_supported_and_a_clear_absence_refuted() -> None:
    assert judged("H2.3", effects([0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31])).verdict.label == (
        "supported"
    )
    none = judged("H2.3", effects([0.0, 0.01, -0.01, 0.0, 0.02, -0.02, 0.0]))
    assert none.verdict.label == "refuted"


def test_a_condition_of_single_models_must_hold_in_two_families_of_three() -> None:
    values = [0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31]
    verdict = judged("H2.3", effects(values, tables={"rank_from_below": 40, "n_pairs": 66})).verdict
    assert verdict.label == "inconclusive"
    assert "0% show that the pair is among the lowest" in verdict.reason


def test_the_window_is_judged_by_hits_over_families() -> None:
    def at(r: float, width: float = 0.05) -> list[Evidence]:
        table = {"profile": [{}] * 12}
        return [
            evidence(m, finding("T-007", "H3.1", {"minimum_depth": place(r, width)}, tables=table))
            for m in FAMILIES
        ]

    assert judged("H3.1", at(8 / 11)).verdict.label == "supported"
    assert judged("H3.1", at(0.09)).verdict.label == "refuted"
    assert judged("H3.1", at(8 / 11, width=0.4)).verdict.label == "inconclusive"


def test_families_that_are_not_testable_are_left_out_and_told() -> None:
    found = effects([0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31])
    for i in (0, 1):
        one = found[i].findings["H2.3"]
        closed = replace(one, verdict=replace(one.verdict, label="not testable"))
        found[i] = replace(found[i], findings={"H2.3": closed})
    result = judged("H2.3", found)
    assert set(result.tables["left_out"]) == {"gpt2", "opt"}
    assert result.verdict.scope == "5 families: 5 models, 12 blocks"
    assert result.sentence.startswith("In 5 models, 12 blocks: ")
    assert result.verdict.label == "supported"


def test_where_no_family_is_testable_neither_is_the_theory() -> None:
    none = Estimate(value=None, unit="share", reason="nothing there")
    closed = finding("T-006", "H2.3", cancelling(none, none), label="not testable")
    result = judged("H2.3", [evidence(m, closed) for m in FAMILIES])
    assert result.verdict.label == "not testable"
    assert "not testable for a reason" in result.verdict.reason


def test_fewer_than_five_families_conclude_nothing() -> None:
    found = effects([0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31])[:4]
    verdict = judged("H2.3", found).verdict
    assert verdict.label == "inconclusive"
    assert "5 are needed" in verdict.reason


def test_checkpoints_of_one_family_are_one_unit() -> None:
    found = effects([0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31])
    again = replace(found[0], model="another", fingerprint="another")
    once, twice = judged("H2.3", found), judged("H2.3", [*found, again])
    assert once.estimates == twice.estimates
    rows = twice.tables["families"]
    assert [row["speaks"] for row in rows if row["family"] == "gpt2"] == [True, True]


def test_checkpoints_of_one_family_are_averaged() -> None:
    values = [0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31]
    other = replace(effects([0.0] * 7)[0], model="another", fingerprint="another")
    found = judged("H2.3", [*effects(values), other])
    assert found.estimates["-rho(0, last)"].n == 7
    # The family is .15 and, as its checkpoints differ, less precisely known than the others: the
    # mean lies between that of seven alike and that of the six without it.
    alike = judged("H2.3", effects([0.15, *values[1:]])).estimates["-rho(0, last)"].value
    pooled = found.estimates["-rho(0, last)"].value
    assert alike is not None and pooled is not None
    assert alike < pooled < np.mean(values[1:])


def test_a_checkpoint_that_is_not_testable_leaves_its_family_in() -> None:
    values = [0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31]
    one = effects([0.0] * 7)[0].findings["H2.3"]
    closed = replace(one, verdict=replace(one.verdict, label="not testable"))
    other = replace(effects([0.0] * 7)[0], model="another", findings={"H2.3": closed})
    found = judged("H2.3", [*effects(values), other])
    assert found.estimates == judged("H2.3", effects(values)).estimates
    assert set(found.tables["left_out"]) == {"gpt2 (another)"}


def test_most_checkpoints_of_a_family_decide_on_its_controls() -> None:
    base = finding("T-006", "H2.3", {"minus_rho": effect(0.3)}, controls=())
    held, missed = (with_control(base, replace(NEGATIVE, passed=p)) for p in (True, False))
    said = [("opt", missed), ("opt", held), ("opt", held), ("gpt2", missed), ("gpt2", held)]
    (pooled,) = pooled_controls(said, THRESHOLDS)
    assert "1 of 2 families; not in gpt2" in pooled.detail


def test_a_rule_may_have_the_training_mix_as_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    (experiment,) = (e for e in CATALOG if e.hypothesis.id == "H2.3")
    by_mix = replace(experiment.rule, unit="mix")
    monkeypatch.setattr(type(experiment), "rule", property(lambda self: by_mix))
    mixes: dict[str, str] = dict(zip(FAMILIES, ("a", "a", "b", "b", "b", "c", "c"), strict=True))

    def known(one: Evidence, rule: Rule) -> str:
        return mixes[one.family] if rule.unit == "mix" else one.family

    found = effects([0.3, 0.4, 0.35, 0.3, 0.33, 0.36, 0.31])
    # Where no mix is known all models are one unit, and say nothing together.
    assert "1 training mix; 5 are needed" in judged("H2.3", found).verdict.reason
    monkeypatch.setattr("bitgap.theory.families._unit", known)
    judged_ = judged("H2.3", found)
    assert judged_.verdict.scope.startswith("3 training mixes: 7 models")
    assert judged_.estimates["-rho(0, last)"].n == 3


def test_a_correlation_is_planted_in_all_families_at_once() -> None:
    found = judged("H1.2", profiles(0.0))
    planted = [c for c in found.controls if c.name.startswith("planted across families")]
    assert len(planted) == 2 and all(c.kind == "positive" for c in planted)
    # Seven families of twelve blocks find .95 nearly always; profiles alike, they find it too.
    assert all(c.passed is True for c in planted), planted
    # One model's own plant then guards that model alone.
    own = Control(name="planted in the profiles: r of 0.95", kind="positive", passed=False,
                  detail="")  # fmt: skip
    blind = [
        replace(one, findings={"H1.2": with_control(one.findings["H1.2"], own)})
        for one in profiles(0.0)
    ]
    assert own.name not in {c.name for c in judged("H1.2", blind).controls}


def test_two_families_are_too_few_to_plant_in_one() -> None:
    found = judged("H1.2", profiles(0.5)[:1])
    planted = [c for c in found.controls if c.name.startswith("planted across families")]
    assert [c.passed for c in planted] == [None, None]


def test_a_scope_tells_sizes_depths_and_corpora() -> None:
    one = SimpleNamespace(n_blocks=12, n_parameters=3_200_000, corpus="bundled")
    two = SimpleNamespace(n_blocks=24, n_parameters=9_000_000, corpus="bundled")
    assert scope_of([one, two]) == (  # type: ignore[list-item]
        "2 models of 3.2 to 9 million parameters, 12 to 24 blocks, one corpus"
    )
    bare = SimpleNamespace(n_blocks=12)
    assert scope_of([bare]) == "1 model, 12 blocks"  # type: ignore[list-item]


@pytest.mark.parametrize(("failures", "passed"), [(0, True), (1, True), (2, False), (7, False)])
def test_a_negative_control_fails_when_chance_does_not_explain_it(
    failures: int, passed: bool
) -> None:
    base = finding("T-006", "H2.3", {"minus_rho": effect(0.3)}, controls=(POSITIVE,))
    found = [
        (m, with_control(base, replace(NEGATIVE, passed=i >= failures)))
        for i, m in enumerate(FAMILIES)
    ]
    pooled = {c.name: c for c in pooled_controls(found, THRESHOLDS)}
    assert pooled["null"].passed is passed


@pytest.mark.parametrize(("missed", "passed"), [(0, True), (1, True), (2, False)])
def test_a_positive_control_must_be_found_in_four_families_of_five(
    missed: int, passed: bool
) -> None:
    base = finding("T-006", "H2.3", {"minus_rho": effect(0.3)}, controls=())
    found = [
        (m, with_control(base, replace(POSITIVE, passed=i >= missed)))
        for i, m in enumerate(FAMILIES)
    ]
    assert pooled_controls(found, THRESHOLDS)[0].passed is passed


def test_a_control_that_no_family_could_run_is_not_run() -> None:
    absent = Control(name="twin", kind="negative", passed=None, detail="no")
    base = finding("T-006", "H2.3", {"minus_rho": effect(0.3)}, controls=(absent,))
    pooled = pooled_controls([(m, base) for m in FAMILIES], THRESHOLDS)
    assert pooled[0].passed is None


def test_one_family_whose_null_is_not_null_has_failed() -> None:
    """At α a single failure of one family is no chance; of two families one failure is."""
    control = Control(name="null", kind="negative", passed=False, detail="")
    held = replace(control, passed=True)
    one = [("a", with_control(finding("T-005", "H2.2", {"x": effect(0.5)}, controls=()), control))]
    two = [
        *one,
        ("b", with_control(finding("T-005", "H2.2", {"x": effect(0.5)}, controls=()), held)),
    ]
    thresholds = load_thresholds()
    assert [c.passed for c in pooled_controls(one, thresholds)] == [False]
    assert [c.passed for c in pooled_controls(two, thresholds)] == [True]


@pytest.mark.parametrize("truth", [0.95, -0.9])
def test_the_origin_s_own_predictor_is_judged_beside_and_moves_nothing(truth: float) -> None:
    """H1.3 names another predictor than the origin did; what is said of it enters no verdict."""
    rng = np.random.default_rng(3)
    halves = Control(name="A/A: random halves", kind="negative", passed=True, detail="")
    made, plain = [], []
    for name in "abcdefgh":
        fall, asked = rng.normal(size=(2, 24))
        noise = rng.normal(size=24)
        theirs = truth * fall + np.sqrt(1 - truth**2) * noise
        for into, original in ((made, theirs), (plain, noise)):
            told = finding(
                "T-003",
                "H1.3",
                {"inequality_and_fall": effect(0.1), "inequality_and_fall_per_text": effect(0.1)},
                tables={"blocks": blocks(inequality=asked, fall=fall, original_variance=original)},
                controls=(halves, POSITIVE),
            )
            into.append(evidence(name, told, n_blocks=24))
    experiment = next(e for e in CATALOG if e.id == "T-003")
    thresholds = load_thresholds()
    found, other = (across_families(experiment, m, thresholds) for m in (made, plain))
    (part,) = [p for p in found.verdict.parts if "the origin's own predictor" in p.name]
    assert part.label == ("supported" if truth > 0 else "refuted"), part.reason
    assert replace(found.verdict, parts=()) == replace(other.verdict, parts=())
    assert found.controls == other.controls
