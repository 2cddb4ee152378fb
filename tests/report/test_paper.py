"""Papers: what a run says decides every sentence, and no text of it becomes markup."""

from __future__ import annotations

import json
import re
import string
import sys
from dataclasses import asdict, replace
from importlib import resources
from itertools import product
from pathlib import Path

import pytest
import yaml
from paper_samples import (
    control,
    finding,
    formal,
    investigation,
    masks,
    remade,
    small_map,
    theory,
)

from bitgap.errors import MissingExtra, UsageError
from bitgap.records import Control, Estimate
from bitgap.report.paper import paper_pdf, paper_source
from bitgap.report.paper.figures import paper_figures
from bitgap.report.paper.findings import (
    controls_sentence,
    formal_sentences,
    gap_sections,
)
from bitgap.report.paper.story import _family_materials
from bitgap.report.paper.text import markup, number, probability, sentence
from bitgap.report.paper.triple import protection_sentences, title
from bitgap.report.words.phrases import LABELS
from bitgap.show.charts import Figure
from bitgap.show.to_typst import Markup, escape

HOSTILE = r"a_b*c #x $y <script>@z [b] `r` \q {j} // n /* m */ = h ~ -- ... 'q' \"w\" http://u.v"
PLAIN = """
#let plain(c) = {
  if type(c) == str { c }
  else if c.has("text") { c.text }
  else if c.has("children") { c.children.map(plain).join() }
  else { " " }
}
"""


def printed(*lines: str) -> list[str]:
    """Returns what Typst makes of lines of markup, as text without any markup."""
    typst = pytest.importorskip("typst")
    source = PLAIN + "\n".join(f"#metadata(plain([{line}])) <line>" for line in lines)
    found = typst.query(source.encode(), "<line>", field="value")
    return json.loads(found) if isinstance(found, str) else found


# --------------------------------------------------------------------------- text from data


def test_text_prints_as_it_stands():
    hard = [
        HOSTILE,
        "1. no list",
        "12.5 it is",
        "- no list",
        "+ 1",
        "= no heading",
        "/ t: d",
        "-1 and -?",
        "שלום (עולם)",
        "日本語",
        "العربية",
        "a\u00a0b",
        "u{41}",
        "&amp; %",
    ]
    assert printed(*map(escape, hard)) == hard


def test_every_pair_of_signs_prints_as_it_stands():
    pairs = [a + b + "x" for a, b in product(string.punctuation, repeat=2)]
    assert printed(*map(escape, pairs)) == pairs


def test_lines_and_invisible_marks_do_not_survive():
    assert escape("a\n\n= b\u202ec\x00") == escape("a = bc")


def test_markup_stays_and_its_parts_are_escaped():
    assert markup("*{}* {}", "a*b", Markup("_c_")) == "*a\\*b* _c_"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.012, "0.012"), (1e-5, "1·10⁻⁵"), (1.0, "1"), (0.0, "0")],
)
def test_probabilities(value, shown):
    assert probability(value) == shown


def test_numbers_have_true_minus_signs_and_reasons_when_missing():
    assert number(-0.25, (-0.5, 0.125)) == "−0.250 [−0.500, +0.125]"
    assert number(None) == "–"
    assert sentence("rank of -rho is -0.5, random-init 5 %") == (
        "Rank of −ρ is −0.5, random-init 5\u00a0%."
    )


# --------------------------------------------------------------------------- chosen sentences


def test_controls_are_told_as_they_came_out():
    def told(*controls: Control) -> str:
        return controls_sentence([asdict(one) for one in controls])

    held, failed = control("twin"), control("shuffle", passed=False)
    found, missed = control("P3", "positive"), control("P3", "positive", False)
    assert told() == "It has no controls."
    assert told(held, found) == "Its null control held; the planted effect was found."
    assert told(held, failed, missed) == (
        "One null control of 2 failed (shuffle); the planted effect was missed."
    )
    assert "could be run" in told(control("twin", passed=None))


@pytest.mark.parametrize("label", LABELS)
def test_a_verdict_decides_what_the_paper_says(label):
    text = paper_source(investigation(finding(label=label))).files["paper.typ"]
    others = [f"The verdict is *{escape(other)}*" for other in LABELS if other != label]
    assert f"The verdict is *{escape(label)}*" in text
    assert not any(other in text for other in others)
    assert ("No hypothesis is refuted." in text) is (label != "refuted")
    assert ("None of the one hypothesis is supported" in text) is (label != "supported")


def test_refuted_says_why_absence_counts_only_where_a_plant_was_found():
    told = gap_sections(investigation(finding()).result["findings"], families=False)
    assert "a planted one was found" in told[0].sections[0].text
    bare = investigation(finding(controls=())).result["findings"]
    assert "a planted one was found" not in gap_sections(bare, families=False)[0].sections[0].text


def test_a_number_is_not_told_twice():
    reason = "errors is 0.25 [0.15, 0.35], under 0.5, and it was found"
    run = investigation(
        finding(sentence="Errors is 0.25 [0.15, 0.35] over 7 families.",
                verdict=replace(finding().verdict, reason=reason))
    )  # fmt: skip
    text = gap_sections(run.result["findings"], families=True)[0].sections[0].text
    assert text.count("0.15") == 1
    assert "it is under 0.5, and it was found" in text


def test_the_formal_model_is_told_by_which_rung_predicts_best():
    def told(**rungs: float) -> str:
        return formal_sentences(theory(formal(**rungs)).result["findings"])[0]

    assert ": F0 predicts best" in told(budget=0.6, formula=-0.1)
    assert ": F3 predicts best" in told(budget=0.1, formula=0.7)
    assert ": F1 predicts best" in told(budget=-0.5, formula=-0.1)
    assert formal_sentences(investigation().result["findings"]) == []


def test_titles_say_what_came_out():
    titles = {
        (d, g): title(theory(damage=d, spread=g)) for d, g in product((True, False), repeat=2)
    }
    assert "Worth Protecting Against Damage:" in titles[True, False]
    assert "Not Special for Damage:" in titles[False, True]
    # The title is of damage; the place by S is told in the text.
    assert all(titles[d, True] == titles[d, False] for d in (True, False))
    assert titles[True, True].endswith("Evidence from Two Model Families")


def test_a_rank_that_is_not_clear_earns_no_claim():
    run = investigation(model="some/folder/my-model")
    origin = dict(run.result["map"]["original_set"])

    def of(**ranks) -> str:
        found = dict(run.result["map"]) | {"original_set": origin | ranks | {"sets": 101}}
        return title(replace(run, result=dict(run.result) | {"map": found}))

    clear = {"rank_damage": 3, "rank_damage_ci": [1, 9]}
    for share in (0.1, 0.5, 0.9):
        said = of(**clear, beats_spread=share)
        assert said.startswith("L0, L4 and L5 Are Worth")
        assert said.endswith("Against Damage: A Case Study of my-model")
    unclear = {"rank_damage": 9, "rank_damage_ci": [1, 30]}
    assert of(**unclear).startswith("Why These Blocks? One Explanation of")


@pytest.mark.parametrize(
    ("reference", "other", "said"),
    [
        ((1.0, 2.0), (4.0, 5.0), "levelling down"),
        ((2.0, 1.0), (8.0, 2.0), "come out more even, and English gains as well"),
        ((2.0, 1.0), (4.0, 3.0), "Every language gains, but not alike"),
        ((2.0, 1.0), (4.0, 5.0), "English gains, but not alike"),
        ((1.0, 2.0), (2.0, 9.0), "neither evens"),
    ],
)
def test_protection_is_judged_by_what_it_does_to_the_reference(reference, other, said):
    told = protection_sentences(masks(reference=reference, other=other))
    assert said in told[1]
    assert "English" in told[0] and "takes S from" in told[0]


def test_protection_that_evens_out_in_one_unit_alone_is_not_established():
    # Hebrew has four tokens for one: per token it was hurt less than English all along.
    told = protection_sentences(masks(reference=(2.0, 1.0), other=(4.0, 1.5), per_token=0.25))
    assert "is not established: S is larger per token and smaller per text" in told[1]


def test_nothing_is_said_of_protection_without_masks():
    assert protection_sentences(None) == ()


# --------------------------------------------------------------------------- whole papers


def test_numbers_come_from_the_run():
    run = investigation()
    text = paper_source(run).files["paper.typ"]
    assert run.report is not None
    s = Estimate(value=7.125, low=6.5, high=7.5, unit="log2 units")
    changed = paper_source(remade(run, report=replace(run.report, spread=s)))
    told = escape("is 7.12 [6.50, 7.50]")
    assert told not in text
    assert told in changed.files["paper.typ"]


def test_no_text_of_a_run_becomes_markup():
    hostile = finding(
        title=HOSTILE,
        sentence=HOSTILE,
        controls=(control(HOSTILE, passed=False), control(HOSTILE, "positive", False)),
        verdict=replace(finding().verdict, reason=HOSTILE),
    )
    run = investigation(hostile, model=HOSTILE, corpus=HOSTILE, languages=("en", "he", "x#y", "zh"))
    files = paper_source(replace(run, store=HOSTILE))
    assert "#x $y <script>@z" not in re.sub(r'#raw\("(?:[^"\\]|\\.)*"\)', "", _body(files))
    assert paper_pdf(files).startswith(b"%PDF")


def _body(files) -> str:
    return files.files["paper.typ"].partition("#set page(")[2]


@pytest.mark.parametrize("make", [investigation, theory])
def test_the_same_run_gives_the_same_bytes(make):
    pytest.importorskip("typst")
    first, second = (paper_source(make()) for _ in range(2))
    assert first == second
    assert paper_pdf(first) == paper_pdf(second)
    assert b"2026-03-04" in paper_pdf(first)


def test_the_paper_tells_who_is_pooled_and_who_only_stands_beside():
    def materials(speaks: bool) -> str:
        rows = [{"model": "zoo/b-4", "speaks": True}, {"model": "zoo/c-8", "speaks": speaks}]
        models = [
            {"model": m, "family": "llama", "n_blocks": 4, "scheme": "rtn3-g128"}
            for m in ("zoo/b-4", "zoo/c-8")
        ]
        result = {"models": models, "corpus": "bundled", "tier": "smoke"}
        return " ".join(_family_materials(result | {"findings": [{"tables": {"families": rows}}]}))

    averaged, older = materials(True), materials(False)
    assert "one family, whose checkpoints are averaged" in averaged
    assert "llama (b-4, c-8)" in averaged and "not counted" not in averaged
    assert "llama (b-4)." in older and "not counted: c-8" in older


def test_a_theory_paper_tells_one_model_as_an_example(tmp_path: Path):
    pytest.importorskip("typst")
    files = paper_source(theory(), [investigation(model="worked")])
    text = files.files["paper.typ"]
    assert "== A worked example: worked" in text
    assert "predicts best" in text
    assert "The first block takes more" in text
    assert "left out" in text
    assert any(name.startswith("example-1-") for name in files.files)
    assert paper_pdf(files).startswith(b"%PDF")
    files.write(tmp_path / "new")
    assert {p.name for p in (tmp_path / "new").iterdir()} == set(files.files)


def test_missing_numbers_and_changed_thresholds_are_told():
    pytest.importorskip("typst")
    run = remade(investigation(), layer_map=small_map([0, 4]))
    files = paper_source(replace(run, thresholds_changed=True))
    text = files.files["paper.typ"]
    assert "which are not those the run was made with" in text
    assert "a sample of sets" in text
    assert "Best sets" not in text
    assert paper_pdf(files).startswith(b"%PDF")


def _panels(n: int, height: int, columns: int) -> dict:
    panel = {"mark": "point", "width": 280, "height": height,
             "encoding": {"x": {"field": "x", "type": "quantitative"}}}  # fmt: skip
    return {"data": {"values": [{"x": 1}]}, "concat": [panel] * n, "columns": columns}


@pytest.mark.parametrize(
    ("spec", "width"),
    [
        (_panels(1, 150, 1), (5.0, 9.0)),
        (_panels(9, 150, 1), (12.0, 15.8)),
        (_panels(3, 900, 1), (5.0, 15.8)),
    ],
)
def test_a_figure_fits_on_its_page(spec, width, monkeypatch: pytest.MonkeyPatch):
    from bitgap.report.figures import run as run_figures

    figure = Figure("one", "A title", "How to read it.", "What is seen", spec)
    monkeypatch.setattr(run_figures, "run_figures", lambda run: {"one": figure, "two": figure})
    found = paper_figures(investigation(), prefix="x-", only=["one"])
    assert set(found) == {"one"}
    assert found["one"].file == "x-one.svg"
    assert found["one"].caption == "A title. How to read it."
    drawn = float(found["one"].width.removesuffix("cm"))
    w, h = (float(re.search(rf'{side}="([0-9.]+)"', found["one"].svg)[1])
            for side in ("width", "height"))  # fmt: skip
    assert width[0] <= drawn <= width[1]
    assert drawn * h / w <= 19.01


def test_figures_are_shown_and_told():
    text = paper_source(investigation()).files["paper.typ"]
    for name in ("languages", "blocks"):
        assert f'#picture("{name}.svg", ' in text
        assert f"@fig-{name} shows it." in text


@pytest.mark.parametrize("verb", ["audit", "map", "replicate"])
def test_other_runs_are_refused(verb):
    with pytest.raises(UsageError, match=f"run 7 of some.db is of `bitgap {verb}`"):
        paper_source(replace(investigation(), command=verb))
    with pytest.raises(UsageError, match="give a run of `bitgap investigate`"):
        paper_source(theory(), [replace(investigation(), command=verb)])


def test_a_run_without_findings_is_refused():
    with pytest.raises(UsageError, match="no finding"):
        paper_source(remade(investigation(), findings=()))


def test_without_typst_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bitgap\[paper\]'"):
        paper_pdf(paper_source(theory()))


def test_every_work_is_cited_and_every_citation_is_there():
    folder = resources.files("bitgap.report").joinpath("templates")
    works = yaml.safe_load(folder.joinpath("references.yaml").read_text(encoding="utf-8"))
    names = [p.name for p in folder.iterdir() if p.name.startswith("paper")]
    text = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    cited = {*re.findall(r"@([a-z]+\d*)\b(?!-)", text), *re.findall(r"cite\(<(\w+)>", text)}
    assert cited == set(works)
    assert all(work["author"] and work["title"] for work in works.values())
