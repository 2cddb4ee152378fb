"""Files, folders and functions that guides name are where they say."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import bitgap

ROOT = Path(__file__).parents[2]
PACKAGE = Path(bitgap.__file__).parent
GUIDES = (
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/words.md",
    "docs/how-to/add-an-experiment.md",
)
ANYWHERE = {"measure.py", "twins.py", "judge.py", "figure.py", "families.py", "plans.py"}
"""Parts of an experiment, named without one; also ``controls.py`` of most."""
FORBIDDEN = {"utils.py"}
AT_THE_TOP = sorted(path.name for path in ROOT.glob("*.md"))
_FILE = re.compile(r"[\w./<>-]+(?:\.(?:py|yaml|toml|tsv|md)|/)")


def quoted(guide: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", (ROOT / guide).read_text(encoding="utf-8"))


def is_there(name: str) -> bool:
    pattern = name.replace("<name>", "*").strip("/")
    bases = (ROOT, PACKAGE, PACKAGE / "experiments", ROOT / "docs", PACKAGE / "cli")
    if "/" not in name and name in ANYWHERE | {"controls.py"}:
        return any((PACKAGE / "experiments").glob(f"*/{name}"))
    return any(any(base.glob(pattern)) for base in bases)


@pytest.mark.parametrize("guide", GUIDES)
def test_every_file_that_a_guide_names_exists(guide: str) -> None:
    names = [word for word in quoted(guide) if _FILE.fullmatch(word)]
    assert names
    assert [name for name in names if name not in FORBIDDEN and not is_there(name)] == []


@pytest.mark.parametrize("page", AT_THE_TOP)
def test_links_at_the_top_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) >= 3 or page != "README.md"
    for link in links:
        if not link.startswith(("http", "#")):
            assert (ROOT / link.partition("#")[0]).exists(), f"{page}: {link}"


@pytest.mark.parametrize("guide", [*GUIDES, "README.md", "docs/api/commands.md"])
def test_every_function_that_a_guide_names_exists(guide: str) -> None:
    for name in quoted(guide):
        if re.fullmatch(r"bitgap(\.\w+)+", name):
            assert has_home(name), f"{guide}: {name}"


def has_home(name: str) -> bool:
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[n:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


def test_what_is_not_there_is_seen() -> None:
    assert not is_there("lab/nowhere.py")
    assert not has_home("bitgap.lab.nowhere.function")
    assert not has_home("bitgap.disparity.formulas.no_such_formula")


def test_every_decision_is_listed_once() -> None:
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (ROOT / "docs/adr/README.md").read_text())
    assert listed == sorted(path.name for path in (ROOT / "docs/adr").glob("0*.md"))
