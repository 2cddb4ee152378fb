"""Results in a notebook: the numbers of the terminal, escaped, and frames that hold them all."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from lab_samples import make_lab, write_corpus

import bitgap
from bitgap.errors import MissingExtra, UsageError
from bitgap.records import Control, Estimate, Finding, Verdict
from bitgap.show import frames


def finding(**changes: Any) -> Finding:
    estimate = Estimate(value=0.5, low=0.25, high=0.75, unit="share", n=9, method="told")
    given: dict[str, Any] = {
        "experiment": "T-004",
        "hypothesis": "H2.1",
        "title": "Residual propagation",
        "primary": "snr_contrast",
        "estimates": {"snr_contrast": estimate},
        "original_measure": {"cosine": Estimate(value=0.9, unit="cosine", reason="no uncertainty")},
        "controls": (Control(name="one", kind="negative", passed=True, detail="held"),),
        "verdict": Verdict(label="inconclusive", scope="this model", reason="because"),
        "sentence": "It is so.",
        "tables": {"blocks": [{"block": 0, "x": 1.5}, {"block": 1, "x": None}], "law": 3},
    }
    return Finding(**(given | changes))


@pytest.fixture(scope="module")
def lab() -> bitgap.Lab:
    return make_lab(corpus=write_corpus(4, ("en", "he", "ar")))


def test_a_finding_shows_its_verdict_sentence_and_numbers():
    html = frames.html(finding())
    for said in ("inconclusive", "It is so.", "0.500", "0.250", "negative control one: held"):
        assert said in html
    assert html.startswith("<pre") and html.count("<pre") == 1


def test_text_in_a_finding_stays_text():
    html = frames.html(finding(sentence="<script>alert(1)</script> & more."))
    assert "<script" not in html
    assert "&lt;script&gt;" in html and "&amp; more" in html


def test_a_findings_frame_has_a_row_an_estimate():
    frame = bitgap.frame(finding())
    assert list(frame["estimate"]) == ["snr_contrast", "cosine"]
    assert list(frame["measure"]) == ["rigorous", "origin"]
    assert frame.loc[0, ["value", "low", "high", "n"]].tolist() == [0.5, 0.25, 0.75, 9]


def test_a_findings_tables_are_frames_by_name():
    frame = bitgap.frame(finding(), "blocks")
    assert frame["x"].iloc[0] == 1.5 and frame["x"].isna().iloc[1]
    for wrong in ("law", "nothing"):
        with pytest.raises(UsageError, match="there are blocks"):
            bitgap.frame(finding(), wrong)


def test_audit_and_map_of_a_lab_show_themselves_and_are_frames(lab):
    report = lab.audit("rtn3-g32 protect 1")
    assert report.plan == "rtn3-g32 protect 1"
    assert "rtn3-g32 protect 1" in frames.html(report)
    frame = bitgap.frame(report)
    assert list(frame["language"]) == ["en", "he", "ar"]
    assert frame["damage"].tolist() == [one.damage.value for one in report.languages]
    assert (frame["damage_low"] < frame["damage"]).all()
    found = lab.map("rtn3-g32")
    assert found.design.complete and len(found.design.masks) == 8
    frame = bitgap.frame(found)
    assert list(frame["block"]) == [0, 1, 2]
    assert (frame["shapley_damage_low"] <= frame["shapley_damage"]).all()
    assert "Best sets" in frames.html(found)


def test_a_frame_without_pandas_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without_pandas(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(MissingExtra, match=r"bitgap\[notebook\]"):
        bitgap.frame(finding())


# -- bitgap.run ------------------------------------------------------------------------------------


def test_run_gives_one_finding_and_measures_once(lab):
    found = bitgap.run("t009", lab, scheme="rtn3-g32", control_sentences=4)
    assert (found.experiment, found.hypothesis) == ("T-009", "H3.3")
    assert found.verdict.p_holm is None
    done = lab.ledger.block_rows
    assert bitgap.run("T-009", lab, scheme="rtn3-g32", control_sentences=4) == found
    assert lab.ledger.block_rows == done


@pytest.mark.parametrize(
    ("asked", "options", "told"),
    [
        ("T-099", {}, "no experiment 'T-099'"),
        ("T-009", {"tier": "huge"}, "no tier 'huge'"),
        ("T-009", {"colour": 3}, "no parameter 'colour'.*n_components"),
    ],
)
def test_run_says_what_is_wrong(lab, asked, options, told):
    with pytest.raises(UsageError, match=told):
        bitgap.run(asked, lab, scheme="rtn3-g32", **options)
