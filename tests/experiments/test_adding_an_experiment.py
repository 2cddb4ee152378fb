"""Adding an experiment is one folder and one line in the catalog: done here, to a copy.

The package is copied, a folder is put beside the experiments', its name is written into the
catalog and its smallest effect of interest is declared, as for any hypothesis. Every verb and page
must then have it, in its own words.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import bitgap
from bitgap.experiments.catalog import CATALOG, find
from cli_samples import write_corpus_folder

TOY = Path(__file__).parent / "toy"
DOCS = Path(__file__).parents[2] / "docs" / "_ext"
WORDS = {
    "claim": "rounding does damage",
    "prediction": "a model whose blocks are all rounded predicts otherwise than before",
    "question": "Does rounding do any damage at all?",
    "reading": "A bar a language: how much its predictions move.",
    "gap": "What else was asked?",
}
SCRIPT = """
import contextlib, io, json, sys
from bitgap.cli.main import main

def printed(*arguments):
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        code = main([*arguments, "--store", "toy.db"])
    assert code == 0, (arguments, code)
    return screen.getvalue()

model = sys.argv[1]
answers = {
    "list": printed("list", model),
    "show": printed("show", "t11", "--model", model),
    "theory": printed("theory", model, "--tier", "smoke", "--corpus", "text", "--json",
                      "--page", "theory.md", "--no-report"),
    "results": printed("results", "--json"),
    "investigate": printed("investigate", model, "--tier", "smoke", "--corpus", "text",
                           "--out", "out"),
}
for run, folder in (("1", "one"), ("2", "all")):
    printed("report", run, "--out", folder)

from bitgap.report.paper import paper_source
from bitgap.report.run import read_run
for run, folder in (("1", "one"), ("2", "all")):
    answers[f"paper {folder}"] = paper_source(read_run(run, "toy.db")).files["paper.typ"]

sys.path.insert(0, sys.argv[2])
import generated
answers["docs"] = generated.experiments() + generated.rules()
print(json.dumps(answers))
"""


def add_to_a_copy(folder: Path) -> Path:
    """Returns a copy of the sources with the toy in it: one folder, one line, one declaration."""
    source = folder / "src"
    shutil.copytree(
        Path(bitgap.__file__).parent,
        source / "bitgap",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copytree(TOY, source / "bitgap" / "experiments" / "toy")
    catalog = source / "bitgap" / "experiments" / "catalog.py"
    lines = catalog.read_text(encoding="utf-8")
    last = f'    "{CATALOG[-1].package.rsplit(".", 1)[1]}",\n'
    assert lines.count(last) == 1
    catalog.write_text(lines.replace(last, f'{last}    "toy",\n'), encoding="utf-8")
    with (source / "bitgap" / "stats" / "thresholds.yaml").open("a", encoding="utf-8") as file:
        file.write("  H5.1: {experiment: T-011, statistic: mean damage, sesoi: 0.001}\n")
    return source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def answers(folder: Path, tiny: Path) -> Mapping[str, str]:
    """What every verb says where the toy is an experiment."""
    source = add_to_a_copy(folder)
    write_corpus_folder(folder / "text")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny), str(DOCS)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_it_is_listed_and_shown(answers: Mapping[str, str]):
    assert re.search(r"T-011 +H5\.1", answers["list"])
    assert answers["show"].startswith("T-011 · H5.1")
    assert "sesoi 0.001" in flat(answers["show"]) and "repeats" in answers["show"]
    with pytest.raises(Exception, match="no experiment"):  # and here it is not
        find("T-011")


def test_it_is_measured_and_judged_with_the_others(answers: Mapping[str, str], folder: Path):
    runs = json.loads(answers["results"])["runs"]
    (toy,) = (f for f in runs[0]["findings"] if f["hypothesis"] == "H5.1")
    assert toy["verdict"]["reason"] and toy["estimates"]["damage"]["value"] > 0
    assert toy["tables"]["damage"][0]["part"] == "1", "the tier's own parameter"
    assert len(runs[0]["findings"]) == len(CATALOG) + 1
    assert "H5.1" in answers["investigate"]
    assert (folder / "out" / "t-011.vl.json").is_file()


def test_it_is_a_member_of_the_theory(answers: Mapping[str, str], folder: Path):
    theory = json.loads(answers["theory"])
    (toy,) = (f for f in theory["findings"] if f["hypothesis"] == "H5.1")
    assert toy["primary"] == "mean damage over families"
    said = [row for rows in ("established", "ruled_out", "open") for row in
            theory["outcomes"][rows] if row["hypothesis"] == "H5.1"]  # fmt: skip
    assert [row["says"] for row in said] == ["rounding all blocks does damage that can be measured"]
    assert "H5.1, toy damage" in (folder / "theory.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("run", ["one", "all"])
def test_the_page_tells_it_in_its_own_words(answers: Mapping[str, str], folder: Path, run: str):
    page = (folder / run / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section class="experiment" id="h-h5-1"') :]
    section = section[: section.index("</section>")]
    assert WORDS["claim"] in page and WORDS["gap"] in page
    assert WORDS["question"] in section
    assert (WORDS["reading"] in section) == (run == "one")
    assert not placeholder(section)


@pytest.mark.parametrize("run", ["one", "all"])
def test_the_paper_tells_it_in_its_own_words(answers: Mapping[str, str], run: str):
    paper = answers[f"paper {run}"]
    section = paper[paper.index("=== H5.1, toy damage") :]
    section = section[: section.index("\n= ")]
    assert f"The prediction is that {WORDS['prediction']}." in section
    assert "Further hypotheses" in paper
    assert not placeholder(section)


def test_the_docs_have_its_card_and_its_declared_effect(answers: Mapping[str, str]):
    docs = answers["docs"]
    card = docs[docs.index("### Toy damage") :]
    assert "*T-011 · hypothesis H5.1.* Does rounding do any damage at all?" in card
    assert "`repeats = 3`" in card and "once would do" in card
    assert re.search(r"\| H5\.1 \| T-011 \| mean damage \| 0\.001 \|", docs)
    assert not placeholder(card[: card.index("Version")])


def placeholder(text: str) -> str | None:
    """Returns what stands where a word is missing, if anything does."""
    found = re.search(r"—\.|that —|: –$|\bNone\b(?! of)|KeyError|\bnan\b", text)
    return found and found[0]
