"""What the README promises is there: numbers, files of its tree, commands, the Python example."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bitgap.cli.main import make_parser
from bitgap.disparity.layer_map import OriginalRank, ScoredSet
from bitgap.records import Estimate
from bitgap.stats.verdicts import load_thresholds

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs" / "excerpts")]

import readme  # noqa: E402  # pyright: ignore[reportMissingImports]
import record  # noqa: E402  # pyright: ignore[reportMissingImports]

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str = "") -> list[str]:
    """Returns what stands between fences, of one language."""
    parts = README.split("```")[1::2]
    heads = [part.partition("\n") for part in parts]
    return [body for head, _, body in heads if head == language]


def tree() -> list[Path]:
    (listing,) = [block for block in blocks() if block.startswith("src/bitgap/")]
    found = []
    for line in listing.splitlines():
        base = ROOT / "src" / "bitgap" if line.startswith(" ") else ROOT
        names = line.strip().split("   ")[0].split()
        found += [base / name for name in names if name.endswith(("/", ".py"))]
    return found


def test_every_path_of_the_tree_exists() -> None:
    paths = tree()
    assert len(paths) > 15
    assert [str(path) for path in paths if not path.exists()] == []


def test_every_source_file_or_folder_has_its_line() -> None:
    told = {path.name for path in tree()}
    package = ROOT / "src" / "bitgap"
    there = {p.name for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert there - told <= {"__init__.py", "__main__.py"}


def test_every_command_shown_is_understood() -> None:
    lines = [
        line for block in blocks() for line in block.splitlines() if line.startswith("bitgap ")
    ]
    assert len(lines) >= 6
    for line in lines:
        words = line.split("#")[0].split()[1:]
        make_parser().parse_args(words)


def test_every_make_target_shown_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake (\w+)", "\n".join(blocks())))
    assert targets >= {"demo", "test"}
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"\b[A-Z]+_[A-Z]+\b", README.replace("LC_ALL", "")) == []


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_example_runs(code: str, tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert out.returncode == 0, out.stderr
    assert "Estimate(value=" in out.stdout


# -- numbers --------------------------------------------------------------------------------------


def marked(kind: str) -> list[str]:
    """Returns what the page asks for by a kind of mark."""
    return re.findall(rf"<!-- {kind}: (\w+) -->", README)


def test_no_number_in_a_marked_place_is_typed_in() -> None:
    assert readme.filled(README) == README, "run `make readme`"


def test_every_table_that_can_be_made_is_shown_once_and_every_number_somewhere() -> None:
    assert sorted(marked("table")) == sorted(readme.TABLES)
    assert set(marked("number")) == set(readme.NUMBERS)
    assert README.count("<!-- end -->") == len(marked("table")) + len(marked("number"))


def test_a_table_that_is_typed_in_would_be_seen() -> None:
    outside = re.sub(r"(?s)<!-- table: .*?<!-- end -->", "", README)
    assert [line for line in outside.splitlines() if line.startswith("|")] == []


def test_a_number_that_was_changed_is_put_right() -> None:
    changed = README.replace(" 2.95 [", " 2.94 [", 1)
    assert changed != README
    assert readme.filled(changed) == README


def test_verdicts_over_families_are_those_of_the_results_page() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    page = page.split("## Verdicts of the theory")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in readme.families().splitlines()[2:]]
    assert len(rows) > 10
    for name, _, verdict, *numbers in ([first.removeprefix("| "), *rest] for first, *rest in rows):
        label, _, note = verdict.partition(": ")
        said = "Formal model" if name == "formal" else name
        (line,) = (ln for ln in page.splitlines() if ln[2:].casefold().startswith(said.casefold()))
        *told, scope, _ = line.split(" | ")[1:]
        assert [*told, scope.split(":")[0]] == [label, *(n.removesuffix(" |") for n in numbers)]
        assert ("Withdrawn" in line) == bool(note)


KEPT = sorted({*record.README_COMMANDS, *record.REAL_COMMANDS})


@pytest.mark.parametrize("name", KEPT)
def test_records_are_small_and_judged_by_todays_thresholds(name: str) -> None:
    kept = record.README / f"{name}.json"
    assert kept.stat().st_size < 100_000
    result = json.loads(kept.read_text(encoding="utf-8"))
    judged = [result["provenance"], *result.get("findings", ())]
    assert {one["thresholds_hash"] for one in judged} == {load_thresholds().hash}
    assert sorted(path.stem for path in record.README.iterdir()) == KEPT


def test_a_page_without_the_table_that_is_asked_for_says_so() -> None:
    with pytest.raises(ValueError, match="no table of nothing"):
        readme.page_table("results.md", "nothing")


def test_what_is_kept_of_an_investigation_is_what_the_readme_reads() -> None:
    result = json.loads((record.HERE / "investigate.json").read_text(encoding="utf-8"))
    kept = record.readme_excerpt(result | {"provenance": {}})
    shown = readme.record("investigate")
    assert kept.keys() == shown.keys()
    assert kept["map"].keys() == shown["map"].keys()
    # A tier that draws no triples at random cannot place the set, and says so.
    one = Estimate(value=1.0, low=1.0, high=2.0, unit="rank")
    of = ScoredSet(blocks=(0,), damage=0.1, disparity=0.1)
    (standing,) = shown["map"].values()
    sets = 1 if "sets" in standing else None
    ranked = OriginalRank(of=of, sets=sets, rank_damage=one, rank_disparity=one)
    assert standing.keys() == ranked.as_dict().keys()
    assert sets is not None or standing["reason"]
    assert kept["findings"][0].keys() == shown["findings"][0].keys()
