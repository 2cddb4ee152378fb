"""The site builds without a warning, asks nothing of the network, and shows what commands print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import generated  # pyright: ignore[reportMissingImports]
import pytest
import record  # pyright: ignore[reportMissingImports]
from docs_samples import DOCS, ROOT, steps

from bitgap import __all__ as public
from bitgap.cli.main import make_parser
from bitgap.experiments.catalog import CATALOG
from bitgap.stats.verdicts import load_thresholds


class Page(HTMLParser):
    """What a page loads, where it links to, and which places it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.places.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.loads.append(found["href"])
        elif "src" in found:
            self.loads.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", folder / "trees", DOCS, folder / "out"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-4000:]
    assert built.stderr.strip() == ""
    return folder / "out"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_there(site: Path) -> None:
    for source in DOCS.rglob("*.md"):
        assert (site / source.relative_to(DOCS).with_suffix(".html")).is_file(), source


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    remote = {load for page in pages.values() for load in page.loads if urlsplit(load).netloc}
    assert remote == set()
    styles = " ".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", styles) == []


def test_every_link_inside_leads_somewhere(pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not there.exists() or (
                place and there in pages and place not in pages[there].places
            ):
                broken.append((path.name, link))
    assert broken == []


def test_every_verb_and_option_is_on_the_command_page() -> None:
    told = generated.commands()
    parser = make_parser()
    (verbs,) = (action for action in parser._actions if action.metavar == "COMMAND")
    assert verbs.choices
    for name, verb in dict(verbs.choices).items():  # pyright: ignore[reportArgumentType]
        assert f"## bitgap {name}\n" in told
        for action in verb._actions:
            assert all(f"`{o}" in told or o in ("-h", "--help") for o in action.option_strings)


def test_every_experiment_has_its_card(site: Path) -> None:
    method = (site / "method.html").read_text(encoding="utf-8")
    for experiment in CATALOG:
        assert experiment.question in method.replace("’", "'").replace("&#39;", "'")
    assert load_thresholds().hash in method


def test_public_names_are_described(site: Path) -> None:
    described = "".join(path.read_text("utf-8") for path in (site / "api").glob("*.html"))
    for name in set(public) - {"__version__"}:
        assert re.search(rf'id="bitgap\.(?:\w+\.)*{name}"', described), name


def test_characters_of_docstrings_are_shown_as_they_are() -> None:
    made = generated.plain("a*b* |t| [x] :class:`~bitgap.quant.plan.Plan` and ``x_1``")
    assert made == r"a\*b\* \|t\| \[x\] `Plan` and `x_1`"
    assert generated.plain("gains *less*, a*2, 2*x*") == r"gains *less*, a\*2, 2\*x\*"


# -- excerpts -------------------------------------------------------------------------------------


def test_excerpts_are_of_commands_that_the_tutorial_shows() -> None:
    shown = [step.text for step in steps("tutorial")]
    assert [line for line in record.COMMANDS.values() if line not in shown] == []
    assert sorted(record.COMMANDS) == sorted(
        path.stem for path in generated.EXCERPTS.glob("*.json")
    )


@pytest.mark.parametrize("name", record.COMMANDS)
def test_what_is_kept_is_of_today(name: str) -> None:
    result = json.loads((generated.EXCERPTS / f"{name}.json").read_text(encoding="utf-8"))
    hashes = {finding["thresholds_hash"] for finding in result.get("findings", ())}
    assert hashes <= {load_thresholds().hash}
    assert len(result.get("findings", CATALOG)) == len(CATALOG)
    assert max(map(len, generated.printed(name).splitlines())) <= 80


def test_the_audit_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bitgap.cli.main import main
    from bitgap.lab.engine import budget

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(budget, "tune_heap", lambda **_: None)
    assert main([*record.COMMANDS["audit"].split()[1:], "--no-report"]) == 0
    mine, kept = capsys.readouterr().out, generated.printed("audit")
    # Floating point differs in the last digit from one processor to the next.
    numbers = r"[+-]?\d+(?:\.\d+)?(?:e-\d+)?"
    assert re.sub(numbers, "#", mine).split() == re.sub(numbers, "#", kept).split()
    for one, other in zip(re.findall(numbers, mine), re.findall(numbers, kept), strict=True):
        assert float(one) == pytest.approx(float(other), rel=0.05, abs=0.02)


def test_an_excerpt_runs_from_one_line_to_another() -> None:
    shown = generated.excerpt("audit", "language  K", "en ").splitlines()
    assert shown[1].startswith("language") and shown[-2].startswith("en ")
    with pytest.raises(ValueError, match="no line"):
        generated.excerpt("audit", "no such line")
