"""docs/results.md and what the README shows of it: who counts, in short, and beside it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from evidence_samples import additive
from finding_samples import finding

from bitgap.records import Estimate, Finding, PartVerdict
from bitgap.report.docs_pages.results import results_page
from bitgap.theory.hypotheses import HYPOTHESES
from bitgap.theory.roles import declared_roles
from bitgap.theory.run import judge_all

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "docs")]

import readme  # noqa: E402  # pyright: ignore[reportMissingImports]


def findings() -> list[Finding]:
    """Returns one of each hypothesis: open, but one ruled out and one judged in two wordings."""
    wide = Estimate(
        value=0.1, low=-0.2, high=0.4, unit="share", n=6, method="random-effects t over 6 families"
    )
    made = []
    for h in HYPOTHESES:
        if h == "depth":
            continue
        one = finding("T", h, {"x": wide}, label="refuted" if h == "H3.1" else "inconclusive")
        if h == "formal":
            empty = ("ladder", "f0", "coefficients", "vif", "power")
            tables = {name: [] for name in empty}
            tables["f5_draws"] = {"draws": 0, "mean": None, "percentile_95": None}
            one = replace(one, tables=tables)
        if h == "H2.1":
            part = PartVerdict(name="gain at the last state", label="supported", reason="they are")
            one = replace(one, verdict=replace(one.verdict, parts=(part,)))
        made.append(one)
    return made


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("bitgap.theory.run.theory_findings", lambda given, _: findings())
    made = []
    for i, family in enumerate(("gpt2", "opt", "bloom")):
        known = {"bits_per_byte": dict.fromkeys(("en", "de", "he", "fi"), 2.0)}
        made.append(replace(additive(family, i), n_parameters=4_000_000, **known))
        later = additive(family, 50 + i, slope=0.3, spread=0.4)
        name = f"{family}-24"
        weights = declared_roles()["confirmation"][name]
        known |= {"model": name, "fingerprint": weights, "n_parameters": 7_000_000}
        made.append(replace(later, **known))
    return results_page(judge_all(made, "smoke").as_dict(), {"command": "bitgap theory"})


def test_the_answer_of_confirmation_models_comes_first_and_others_beside(page: str) -> None:
    short = page.index("### In short")
    beside = page.index("### Beside it: the exploratory models")
    assert page.index("From confirmation models") < short < beside
    scope = "in 3 models of 3 families of {} million parameters, 8 blocks"
    assert scope.format(7) in page[short:beside]
    assert scope.format(4) not in page[short:beside]
    assert scope.format(4) in page[beside:]
    forecasts = page[page.index("## Forecasts of confirmation models") :]
    assert "### Each later model" in forecasts and "Each family held out" not in forecasts
    assert "## Each family held out" in page
    assert "nan" not in page.lower().replace("nance", "")


def test_each_hypothesis_stands_in_both_wordings_with_what_it_would_take(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| H2.1 | Activations")]
    assert rows and "**supported**" in rows[0] and "**inconclusive**" in rows[0]
    (row, *_) = [line for line in page.splitlines() if line.startswith("| H3.1 | Represent")]
    assert row.endswith("nothing more |")
    open_ = [line for line in page.splitlines() if line.startswith("| H1.1 | Layers")]
    assert " families to be " in open_[0]


def test_the_readme_shows_the_answer_in_short_and_of_whom_it_is(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.md").write_text(page, encoding="utf-8")
    monkeypatch.setattr(readme, "DOCS", tmp_path)
    text = readme.filled("<!-- table: answer --><!-- end -->")
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert text.splitlines()[2].startswith("From confirmation models")
    assert [line.split(":")[0] for line in lines] == [
        "- For damage",
        "- For the gap S, the spread of log2 damage per token over languages",
        "- Why it is so",
    ]
    assert "|" not in text and "H3.1 is ruled out" in text
    (tmp_path / "results.md").write_text("# nothing", encoding="utf-8")
    # A page that was judged before there were answers: the README says that there is none yet.
    assert "None yet" in readme.filled("<!-- table: answer --><!-- end -->")
