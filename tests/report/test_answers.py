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


def layer_map(
    shares: Sequence[float], rank_damage: int | None = 1, spread: float | None = 0.3,
    s_ends: Sequence[float | None] = (0.2, 0.4), *, text: float | None = None, sets: int = 221,
) -> dict[str, Any]:  # fmt: skip
    """A map whose blocks have these shares of the damage; {0, 9, 11} beats this share by S."""
    whole = 0.02
    rows = [
        {"block": i, "shapley_damage": s * whole,
         "shapley_damage_ci": [0.9 * s * whole, 1.1 * s * whole],
         "spread_fall": 0.1, "spread_fall_ci": [-0.1, 0.3], "spread_fall_established": True}
        for i, s in enumerate(shares)
    ]  # fmt: skip
    beats = None if rank_damage is None else 1 - (rank_damage - 1) / (sets - 1)
    origin = {"blocks": [0, 9, 11], "sets": sets, "of_all": sets, "rank_damage": rank_damage,
              "rank_damage_ci": [1.0, 4.0], "beats_damage": beats, "beats_damage_ci": [beats] * 2,
              "beats_spread": spread, "beats_spread_ci": list(s_ends),
              "beats_spread_per_text": spread if text is None else text,
              "beats_spread_per_text_ci": [None, None]}  # fmt: skip
    return {"blocks": rows, "n_blocks": 12, "masks": 4096, "original_set": origin, "best_sets": []}


def language(damage: float, ratio: float, share: float, **changed: Any) -> dict[str, Any]:
    return {
        "damage": damage, "log_ratio": ratio, "log_ratio_ci": [ratio - 0.1, ratio + 0.1],
        "log_from_mean": ratio, "log_from_mean_ci": [ratio - 0.1, ratio + 0.1],
        "learned_share": share, "learned_share_ci": [0.9 * share, 1.1 * share],
        "collapsed": False, "below_resolution": False,
    } | changed  # fmt: skip


def audit(**changed: Any) -> dict[str, Any]:
    rows = {"en": language(0.01, 0.0, 0.01), "he": language(0.02, 1.0, 0.03),
            "eu": language(0.005, -1.0, 0.002)}  # fmt: skip
    return {
        "languages": rows, "reference": "en", "S": 0.82, "S_ci": [0.8, 0.9], "S_reason": None,
        "S_per_text": 0.9, "S_per_text_ci": [0.8, 1.0], "D_per_token": 0.4,
        "D_per_token_ci": [0.3, 0.5], "sign_depends_on_unit": False,
        "D": 0.5, "D_ci": [0.4, 0.6], "D_reason": None,
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
    ("share", "ends", "says", "told"),
    [
        (0.19, (0.1, 0.3), "They leave more inequality between languages than 81 % [70, 90]",
         "more inequality (S) than 81 % [70, 90] of them"),
        (0.95, (0.9, 1.0), "By the spread between languages they are a good choice as well.",
         "less inequality (S) than 95 % [90, 100] of them"),
        (0.7, (0.6, 0.8), "they are better than most as well", "less inequality (S) than 70 %"),
        (0.45, (0.3, 0.6), "a set like any other", "more inequality (S) than 55 % [40, 70]"),
    ],
)  # fmt: skip
def test_a_place_by_s_is_told_with_its_interval_and_both_objectives(
    share: float, ends: tuple[float, float], says: str, told: str
) -> None:
    why = of_map(layer_map(ENDS, 2, share, ends))
    assert "good choice for damage" in why.short and says in why.short
    line = next(d for d in why.details if d.startswith("{0, 9, 11} leaves less damage than 100 %"))
    assert told in line


def test_a_place_by_s_that_turns_round_per_text_is_not_established() -> None:
    why = of_map(layer_map(ENDS, 2, 0.2, (0.1, 0.3), text=0.8))
    assert "is not established: per token and per text" in why.short
    assert any("not established: S is smaller than under 20 %" in d for d in why.details)


def test_without_a_place_by_s_nothing_is_said_of_it() -> None:
    assert "inequality" not in of_map(layer_map(ENDS, 2, None)).short


def test_blocks_that_even_out_are_named_only_where_both_units_agree() -> None:
    found = layer_map(ENDS)
    clear = {"spread_fall": 0.2, "spread_fall_ci": [0.1, 0.3]}
    found["blocks"][2] |= clear
    found["blocks"][3] |= clear | {"spread_fall_established": False}
    found["blocks"][4] |= {"spread_fall": -0.2, "spread_fall_ci": [-0.3, -0.1]}
    line = of_map(found, "blocks").details[-1]
    assert line.startswith("Keeping L2 alone clearly makes S smaller; keeping L4 makes it larger")
    assert "for L3 it is not established" in line


def test_the_first_of_few_sets_is_not_among_the_best() -> None:
    few = of_map(layer_map(ENDS, 2, sets=3)).short
    assert "not special for damage" in few and "among the best" not in few


def test_a_set_that_cannot_be_ranked_says_why() -> None:
    found = layer_map(ENDS, None)
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


def test_s_is_told_first_and_a_sign_of_d_that_hangs_on_the_unit_is_not_established() -> None:
    said = languages().details
    assert any(d.startswith("S, the spread") and "0.820 [0.800, 0.900]" in d for d in said)
    assert any("clearly Hebrew more and Basque less" in d for d in said)
    turned = languages(sign_depends_on_unit=True, D_per_token=-0.4, D_per_token_ci=[-0.5, -0.3])
    assert any("per token it is -0.40" in d and "not established" in d for d in turned.details)
    old = audit()
    del old["S"], old["S_reason"]
    told = answers(stored(audit=old))[0].details
    assert any("stored before it was formed" in d for d in told)


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


def as_run(extra: float, **changed: Any) -> dict[str, Any]:
    rows = {
        code: {"damage": weights + extra, "damage_ci": [weights, weights + 2 * extra],
               "extra": extra, "extra_ci": [0.9 * extra, 1.1 * extra]}
        for code, weights in (("en", 0.01), ("he", 0.02))
    }  # fmt: skip
    rows["he"] |= changed
    return {"runtime": "llama.cpp", "failure": "", "versions": {}, "languages": rows}


def of_runtimes(*runs: dict[str, Any], **result: Any) -> dict[str, Any]:
    read = {"audit": audit(), "contents": {"tensors": []}, "runtimes": {"runs": list(runs)}}
    result = read | result
    return {a.key: a for a in answers(stored(**result))}


@pytest.mark.parametrize(
    ("extra", "side"), [(0.1, "by running it, and not"), (0.001, "by its weights in")]
)
def test_what_running_adds_is_told_first_and_by_what_it_is(extra: float, side: str) -> None:
    found = of_runtimes(as_run(extra))
    assert next(iter(found)) == "runs"
    short = found["runs"].short
    assert short.startswith("As llama.cpp runs it, Hebrew is hurt most, ")
    assert f"most of it is done {side}" in short and "English and Hebrew" in short
    assert "by its weights alone" in found["languages"].question


def test_weights_and_running_that_cannot_be_told_apart_are_not() -> None:
    found = of_runtimes(as_run(0.1, extra_ci=[0.01, 0.13]))["runs"]
    assert "English" in found.short and "Hebrew" not in found.short.partition(";")[2]
    assert "Weights and running cannot be told apart in Hebrew." in found.details


def test_a_runtime_that_failed_or_alone_has_the_numbers_is_not_told_beside_the_weights() -> None:
    failed = as_run(0.1) | {"failure": "it ended by itself", "languages": {}}
    for found in (of_runtimes(failed), of_runtimes(as_run(0.1), contents=None)):
        assert list(found) == ["languages"] and "weights" not in found["languages"].question


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


@pytest.mark.parametrize("damage", [True, False])
@pytest.mark.parametrize("spread", [True, False, None])
def test_the_theory_answers_by_its_hits(damage: bool, spread: bool | None) -> None:
    hits = {"damage": damage} | ({} if spread is None else {"spread": spread})
    why, who, _, stand = theory_answers(theory(hits))
    short = {True: "among the best triples", False: "not among the best triples"}
    assert why.short.startswith(f"For damage they are {short[damage]}")
    if spread is None:
        assert "these runs do not place them" in why.short
    else:
        assert f"by the spread between languages, S, they are {short[spread]}" in why.short
    assert who.short.startswith("In 1 of 1 models") and any(
        "Without a D that counts" in d and "c." in d for d in who.details
    )
    assert stand.short == "H1.1 is supported."


def test_a_triple_worse_than_most_is_said_to_be() -> None:
    found = theory({"damage": True, "spread": False})
    found["forecasts"]["summary"][1]["mean_percentile"] = 0.81
    why = theory_answers(found)[0]
    assert "worse than most triples: at percentile 81 on average" in why.short


def test_words_for_numbers() -> None:
    assert percent(0.3333, (0.2, 0.45)) == "33 % [20, 45]"
    assert percent(0.5, (None, 1.0)) == "50 %"
    assert times(1.5) == "1.50 times"
    assert joined(["a", "b", "c"]) == "a, b and c" and joined(["a"]) == "a"
    assert [among(n) for n in (1, 2, 3, 11, 22)] == [
        "the most", "the 2nd most", "the 3rd most", "the 11th most", "the 22nd most",
    ]  # fmt: skip


def test_triples_are_told_of_the_later_models_where_there_are_some() -> None:
    found = theory({"damage": True})
    found["later"] = theory({"damage": False})["forecasts"]
    assert theory_answers(found)[0].short.startswith("For damage they are not among the best")
