"""Pages as text: what every one holds, that it asks for nothing, and that data stay text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from paper_samples import control, estimate, finding, formal, investigation, masks, theory

from bitgap.experiments.catalog import find
from bitgap.report.comparison import compared
from bitgap.report.page import compare_html, report_html
from bitgap.report.run import Run, run_in_hand
from bitgap.report.words.phrases import LABELS
from bitgap.show.to_html import GLYPHS
from bitgap.theory.origin.ledger import Ledger, Row
from bitgap.theory.records import Meaning

HOSTILE = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
VOID = {"meta", "img", "input", "br", "hr", "link"}


class Page(HTMLParser):
    """A page taken apart: its tags, its scripts and its ids; it must be well formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif not self._open or self._open[-1] != "style":
            self.text.append(data)

    def having(self, name: str) -> list[str | None]:
        """Returns the values of an attribute, in order."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    @property
    def said(self) -> str:
        """The text that is read, with single spaces."""
        return " ".join(" ".join(self.text).split())

    @property
    def payload(self) -> dict[str, Any]:
        """What the script reads."""
        return next(json.loads(text) for at, text in self.scripts if at.get("id") == "payload")


def replayed() -> Run:
    row = Row(claim="4", text="Hebrew is hurt", where="exp1", model="tiny", measured={}, found={},
              exact="undefined", exact_reason="no weights", outcome="holds", reason="1.2 [1, 1.4]",
              outcome_here="fails", reason_here="-0.3 [-0.4, -0.2]", parts=(), left_out={},
              how="replayed")  # fmt: skip
    ledger = Ledger(model="tiny", family="gpt2", scheme="rtn4-g128", n_sentences=9,
                    n_triple_sentences=4, languages=("en", "he"), rows=(row,))  # fmt: skip
    return alone("replicate", ledger=ledger)


def alone(command: str, **record: Any) -> Run:
    """Returns a run of a verb that makes one record."""
    run = investigation()
    assert run.provenance is not None
    return run_in_hand(Run(store=run.store, number=run.number, command=command, about=run.about,
                           provenance=run.provenance, **record))  # fmt: skip


RUNS = {
    "investigate": lambda: investigation(finding(), formal(), masks=known()),
    "audit": lambda: alone("audit", report=investigation().report),
    "map": lambda: alone("map", layer_map=investigation().layer_map),
    "theory": lambda: told(theory()),
    "replicate": replayed,
}


def told(run: Run) -> Run:
    """Returns a theory run that also says what follows from it."""
    follows = Meaning(hypothesis="H2.1", says="errors travel", because="it was seen")
    assert run.theory is not None
    outcomes = replace(run.theory.outcomes, established=(follows,))
    return replace(run, theory=replace(run.theory, outcomes=outcomes))


def known() -> Any:
    return masks(reference=(0.2, 0.1), other=(0.4, 0.15))


@pytest.fixture(scope="module", params=[*RUNS, "compare"])
def text(request: pytest.FixtureRequest) -> str:
    if request.param == "compare":
        return compare_html(compared([investigation(), investigation(model="other")]))
    return report_html(RUNS[request.param]())


@pytest.fixture(scope="module")
def investigated() -> Page:
    return Page(report_html(RUNS["investigate"]()))


# -- what every page keeps -------------------------------------------------------------------------


def test_a_page_is_well_formed_and_each_id_stands_once(text: str) -> None:
    ids = Page(text).having("id")
    assert len(ids) == len(set(ids))
    assert "main" in ids


def test_a_page_names_nothing_to_fetch(text: str) -> None:
    page = Page(text)
    assert all(str(source).startswith("data:image/") for source in page.having("src"))
    assert all(str(link).startswith("#") for link in page.having("href"))
    assert not re.search(r"@import|url\(", re.search(r"<style>(.*?)</style>", text, re.S)[1])  # type: ignore[index]


def test_only_the_page_s_own_scripts_may_run(text: str) -> None:
    page = Page(text)
    policy = next(str(at["content"]) for _, at in page.tags if "http-equiv" in at)
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    running = [body for at, body in page.scripts if at.get("type") == "module"]
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in running]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests


def test_a_page_is_light(text: str) -> None:
    assert len(text.encode()) < 6_000_000


def test_every_link_leads_to_a_place_in_the_page(text: str) -> None:
    page = Page(text)
    assert {str(link)[1:] for link in page.having("href")} <= set(page.having("id"))


def test_every_figure_has_a_picture_and_words_for_it(text: str) -> None:
    page = Page(text)
    pictures = [at for tag, at in page.tags if tag == "img"]
    assert len(pictures) == len(page.having("data-figure"))
    assert all(len(str(at["alt"]).split()) > 2 for at in pictures)
    assert set(page.having("data-figure")) <= set(page.payload["figures"])


def test_every_table_has_a_caption_and_its_heads_a_scope(text: str) -> None:
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in at for tag, at in page.tags if tag == "th")


# -- what is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("label", LABELS)
def test_a_verdict_is_a_sign_a_word_and_a_reason(label: str) -> None:
    page = Page(report_html(investigation(finding("H2.1", label))))
    assert f"{GLYPHS[label]} {label}" in page.said
    assert f"{label} for its reason" in page.said
    assert page.having("data-hypothesis") == ["H2.1"]


def test_a_section_tells_question_estimates_controls_and_doubts(investigated: Page) -> None:
    said = investigated.said
    assert find("T-004").question in said
    for words in (
        "+0.250 [+0.150, +0.350]", "nothing to measure", "✓ held", "seen of twin",
        "What would change our mind", "The origin’s own measure", "Declared:",
    ):  # fmt: skip
        assert words in said


def test_a_control_that_failed_or_did_not_run_is_told_apart() -> None:
    ran = (control("a", passed=True), control("b", passed=False), control("c", passed=None))
    said = Page(report_html(investigation(finding(controls=ran)))).said
    for name, came_out in (("a", "✓ held"), ("b", "✗ failed"), ("c", "– not run")):
        assert f"{name} negative {came_out} seen of {name}" in said


def test_a_number_that_is_not_there_is_a_dash_with_its_reason() -> None:
    page = Page(report_html(investigation(finding(estimates={"contrast": estimate(None)}))))
    assert "– share nothing to measure" in page.said
    assert "There is no number to judge: nothing to measure." in page.said


def test_a_page_says_how_it_is_made_again(investigated: Page) -> None:
    assert "bitgap report 7 --store some.db" in investigated.said
    for words in ("the model's fingerprint " + "f" * 64, "thresholds hash 0123456789ab", "seed 0"):
        assert words in investigated.said


def test_a_run_judged_by_later_thresholds_says_so() -> None:
    run = investigation()
    assert "thresholds declared since" not in report_html(run)
    assert "thresholds declared since" in report_html(replace(run, thresholds_changed=True))


def test_languages_are_set_in_their_own_direction(investigated: Page) -> None:
    own = {at["lang"]: at["dir"] for tag, at in investigated.tags if tag == "bdi" and "lang" in at}
    assert own["he"] == own["ar"] == "rtl"
    assert own["ja"] == "ltr"


def test_an_unknown_verb_gets_a_plain_page() -> None:
    page = Page(report_html(alone("later")))
    assert "thresholds hash" in page.said
    assert not page.having("data-figure")
    assert page.payload["figures"] == {}


# -- the explorer ----------------------------------------------------------------------------------


def test_a_set_of_layers_can_be_explored_only_where_sets_were_scored(investigated: Page) -> None:
    assert investigated.having("data-block") == [str(i) for i in range(6)]
    assert investigated.having("data-language") == ["en", "he"]
    assert investigated.having("data-preset") == ["none", "origin", "damage", "even"]
    assert investigated.payload["explorer"]["masks"] == [0, 0b110001]
    bare = Page(report_html(investigation(masks=None)))
    assert not bare.having("data-block")
    assert bare.payload["explorer"] is None


# -- runs side by side -----------------------------------------------------------------------------


def test_runs_stand_side_by_side_with_a_verdict_each() -> None:
    runs = [
        replace(investigation(model=model), findings=(finding(label=label),))
        for model, label in (("a", "refuted"), ("b", "inconclusive"))
    ]
    page = Page(compare_html(compared(runs)))
    assert "H2.1 errors of the first block travel ✗ refuted ? inconclusive" in page.said
    assert set(page.payload["figures"]) >= {"languages", "blocks"}


# -- text that would be more -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["report", "compare", "theory"])
def test_what_looks_like_markup_stays_text(kind: str) -> None:
    # The separators end a line in a script, though not in JSON.
    bad = finding(title=f"{HOSTILE}\u2028\u2029", sentence=HOSTILE, controls=(control(HOSTILE),))
    run = investigation(bad, model=HOSTILE, corpus=HOSTILE)
    if kind == "theory":
        run = told(theory(bad))
        assert run.theory is not None
        first, *others = run.theory.models
        models = (replace(first, model=HOSTILE), *others)
        run.result["models"][0]["model"] = HOSTILE
        run = replace(run, theory=replace(run.theory, models=models))
    text = compare_html(compared([run, investigation()])) if kind == "compare" else report_html(run)
    page = Page(text)
    assert len(page.scripts) == 3
    assert not any("onerror" in at for _, at in page.tags)
    assert "<img src=x onerror=alert(2)>" in page.said
    payload = re.search(r'id="payload">(.*?)</script>', text, re.S)
    assert payload is not None
    assert not set("<>&\u2028\u2029") & set(payload[1])
