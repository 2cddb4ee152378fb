"""The first answers: chosen by the numbers, so that other numbers give other sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bitgap.report.run import Run, read_run
from bitgap.report.words.answers import answers
from bitgap.report.words.phrases import among, joined, percent, times
from bitgap.report.words.theory import theory_answers
from bitgap.show.withdrawn import NO_GAP_RANK


def layer_map(
    shares: Sequence[float], rank_damage: int | None = 1, rank_d: int | None = 1,
    d_ends: Sequence[float | None] = (1.0, 5.0), sets: int = 221,
) -> dict[str, Any]:  # fmt: skip
    """A map whose blocks have these shares of the damage; {0, 9, 11} has these ranks."""
    whole = 0.02
    rows = [
        {"block": i, "shapley_damage": s * whole,
         "shapley_damage_ci": [0.9 * s * whole, 1.1 * s * whole],
         "shapley_disparity": 0.1, "shapley_disparity_ci": [-0.1, 0.3]}
        for i, s in enumerate(shares)
    ]  # fmt: skip
    origin = {"blocks": [0, 9, 11], "sets": sets, "rank_damage": rank_damage,
              "rank_damage_ci": [1.0, 4.0], "rank_disparity": rank_d,
              "rank_disparity_ci": list(d_ends)}  # fmt: skip
    return {"blocks": rows, "n_blocks": 12, "masks": 4096, "original_set": origin, "best_sets": []}


def language(damage: float, ratio: float, share: float, **changed: Any) -> dict[str, Any]:
    return {
        "damage": damage, "log_ratio": ratio, "log_ratio_ci": [ratio - 0.1, ratio + 0.1],
        "learned_share": share, "learned_share_ci": [0.9 * share, 1.1 * share],
        "collapsed": False, "below_resolution": False,
    } | changed  # fmt: skip


def audit(**changed: Any) -> dict[str, Any]:
    rows = {"en": language(0.01, 0.0, 0.01), "he": language(0.02, 1.0, 0.03),
            "eu": language(0.005, -1.0, 0.002)}  # fmt: skip
    return {
        "languages": rows, "reference": "en", "D": 0.5, "D_ci": [0.4, 0.6], "D_reason": None,
        "D_share": 0.3, "D_share_ci": [0.1, 0.5], "share_agrees": True, "G": 0.001,
        "G_ci": [0.0, 0.002],
    } | changed  # fmt: skip


def stored(**result: Any) -> Run:
    return Run(
        store="x.db", number=1, command="investigate", result=result, findings=(), masks=None
    )


def of_map(found: dict[str, Any], key: str = "why", findings: Sequence[Any] = ()) -> Any:
    told = {a.key: a for a in answers(stored(map=found, findings=list(findings)))}
    return told[key]


EVEN = [1 / 12] * 12
ENDS = [0.4, *[0.04] * 8, 0.05, 0.04, 0.19]


def test_a_set_that_is_good_for_damage_is_said_to_be() -> None:
    short = of_map(layer_map(ENDS)).short
    assert short.startswith("A good choice for damage, because L0 and L11 carry 59 % of it")
    assert "L9 is an ordinary block (5 %)" in short


def test_a_set_that_is_bad_for_damage_is_said_to_be() -> None:
    assert "not special for damage" in of_map(layer_map(EVEN, 150)).short


@pytest.mark.parametrize(
    ("rank", "ends"), [(1, (1.0, 5.0)), (110, (90.0, 130.0)), (200, (180.0, 215.0))]
)
def test_no_place_by_absolute_d_is_an_answer_for_the_gap(
    rank: int, ends: tuple[float, float]
) -> None:
    why = of_map(layer_map(ENDS, 2, rank, ends))
    gap = why.short[why.short.index("For the gap between languages") :]
    assert gap == f"For the gap between languages this map has no answer: {NO_GAP_RANK}."
    low, high = ends
    assert any(d.endswith(f"number {rank} [{low:.0f}, {high:.0f}].") for d in why.details)
    assert not any("chance" in d.partition("|D|")[2] for d in why.details)


def test_without_a_rank_by_absolute_d_nothing_is_said_of_it() -> None:
    assert "|D|" not in of_map(layer_map(ENDS, 2, None)).short


def test_the_first_of_few_sets_is_not_among_the_best() -> None:
    few = of_map(layer_map(ENDS, 1, 1, (1.0, 2.0), sets=3)).short
    assert "not special for damage" in few and "among the best" not in few


def test_a_set_that_cannot_be_ranked_says_why() -> None:
    found = layer_map(ENDS, None, None)
    found["original_set"] = {"blocks": [0, 9, 11], "rank_damage": None, "reason": "not all scored"}
    assert "cannot be ranked" in of_map(found).short and "not all scored" in of_map(found).short


def test_the_block_at_three_quarters_is_placed_among_those_inside() -> None:
    shares = [0.3, *[0.01] * 7, 0.2, 0.1, 0.1, 0.23]
    assert any(
        "L9 carries 10 %, the 2nd most of the 10" in d for d in of_map(layer_map(shares)).details
    )


def test_layers_that_stand_out_are_named_with_their_shares() -> None:
    assert of_map(layer_map(ENDS), "blocks").short == (
        "L0 (40 % [36, 44]) and L11 (19 % [17, 21]) stand out by what they carry of the damage; "
        "next is L9 with 5 % [4, 5]."
    )
    assert of_map(layer_map(EVEN), "blocks").short.startswith("None stands out")


@pytest.mark.parametrize("label", ["supported", "refuted", "inconclusive", "not testable"])
def test_reasons_are_told_by_what_became_of_them(label: str) -> None:
    findings = [{"hypothesis": h, "verdict": {"label": label}} for h in ("H3.1", "synergy")]
    details = of_map(layer_map(ENDS), findings=findings).details
    told = next(d for d in details if d.startswith(label.capitalize()))
    assert "(H3.1)" in told and "(synergy)" in told
    assert any("None of the reasons" in d for d in details) == (label != "supported")


def languages(**changed: Any) -> Any:
    return answers(stored(audit=audit(**changed)))[0]


def test_who_is_hurt_is_told_with_ratios_to_the_reference() -> None:
    assert languages().short == (
        "Hebrew is hurt most, 2.00 [1.87, 2.14] times the damage of English, "
        "Basque least, 0.50 [0.47, 0.54] times the damage of English."
    )


def test_collapsed_languages_are_named_and_are_not_the_worst() -> None:
    rows = audit()["languages"] | {"ja": language(9.0, 9.0, 9.0, collapsed=True)}
    said = languages(languages=rows)
    assert said.short.startswith("Hebrew is hurt most")
    assert any(d.startswith("Collapsed") and "Japanese" in d for d in said.details)


def test_an_interval_over_zero_is_not_told_as_a_difference() -> None:
    assert any("is not settled" in d for d in languages(D=0.1, D_ci=[-0.1, 0.3]).details)
    assert any("lose 1.41 [1.32, 1.52] times" in d for d in languages().details)


@pytest.mark.parametrize(("share", "agrees"), [(-0.3, False), (0.3, True)])
def test_of_the_learned_share_nothing_is_concluded(share: float, agrees: bool) -> None:
    ends = [share - 0.1, share + 0.1]
    told = languages(D_share=share, D_share_ci=ends, share_agrees=agrees).details
    (line,) = (d for d in told if "share of what was learned D" in d)
    assert f"{share:+.1f}" in line and "neither its size nor its sign is established" in line
    assert not any("the sign turns" in d or "of the same sign" in d for d in told)


def test_an_undefined_disparity_says_why() -> None:
    said = languages(D=None, D_ci=None, D_reason="the reference is below resolution")
    assert any("the reference is below resolution" in d for d in said.details)


def test_codes_that_are_no_language_stay_as_they_are() -> None:
    rows = {"en": language(0.01, 0.0, 0.01), "<b>x": language(0.02, 1.0, 0.03)}
    assert languages(languages=rows).short.startswith("<b>x is hurt most")


def test_every_kind_of_run_has_answers(kept: Path) -> None:
    for number in range(1, 8):
        found = answers(read_run(str(number), str(kept)))
        assert found, number
        for answer in found:
            assert answer.short.endswith(".") and answer.question.endswith("?")
            assert "None" not in answer.short.replace("None of", "").replace("None stands", "")
            assert "nan" not in " ".join(answer.details).lower().split()


def theory(successes: dict[str, bool]) -> dict[str, Any]:
    summary = [
        {"who": "origin", "kind": "config", "objective": name, "families": 7, "success": good,
         "successes": 6 if good else 1, "mean_percentile": 0.05}
        for name, good in successes.items()
    ]  # fmt: skip
    model = {"model": "a/b", "disparity": 0.2, "damage_by_block": [0.4, 0.1, 0.5]}
    return {
        "forecasts": {"summary": summary}, "pillars": [], "outcomes": {"suggested": []},
        "models": [model, model | {"model": "c", "disparity": None}],
        "findings": [{"hypothesis": "H1.1", "verdict": {"label": "supported"}}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "gap", "says"),
    [
        (True, True, "For damage they are among the best triples"),
        (True, False, "For damage they are among the best triples"),
        (False, True, "For damage they are not among the best triples"),
        (False, False, "For damage they are not among the best triples"),
    ],
)
def test_the_theory_answers_by_its_hits(damage: bool, gap: bool, says: str) -> None:
    why, who, _, stand = theory_answers(theory({"damage": damage, "disparity": gap}))
    assert why.short.startswith(says)
    assert "for the gap between languages these runs have no answer" in why.short
    assert all(("chance" in d) == ("least damage" in d) for d in why.details)
    assert who.short.startswith("In 1 of 1 models") and any(
        "Without a D that counts" in d and "c." in d for d in who.details
    )
    assert stand.short == "H1.1 is supported."


def test_words_for_numbers() -> None:
    assert percent(0.3333, (0.2, 0.45)) == "33 % [20, 45]"
    assert percent(0.5, (None, 1.0)) == "50 %"
    assert times(1.5) == "1.50 times"
    assert joined(["a", "b", "c"]) == "a, b and c" and joined(["a"]) == "a"
    assert [among(n) for n in (1, 2, 3, 11, 22)] == [
        "the most", "the 2nd most", "the 3rd most", "the 11th most", "the 22nd most",
    ]  # fmt: skip
