"""What is told of an audit of dependencies: found, nothing known, and nothing asked, apart."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from validation import dependencies as audit
from validation.dependencies import Answer, ask, installed, main, pinned, report, requirements

ROOT = Path(__file__).parents[2]
WHEN = datetime(2026, 11, 30, 22, 5, tzinfo=UTC)
KNOWN = {"dependencies": [
    {"name": "numpy", "version": "1.0", "vulns": [{"id": "PYSEC-1"}, {"id": "CVE-2"}]},
    {"name": "rich", "version": "15.0.0", "vulns": []},
    {"name": "ours", "skip_reason": "Dependency not found on PyPI"},
]}  # fmt: skip
UNKNOWN = {"dependencies": [{"name": "rich", "skip_reason": "Dependency not found on PyPI"}]}


def test_what_is_pinned_and_what_is_installed_is_asked_once() -> None:
    held = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert len(held) > 20 and "torch" in held
    assert pinned("# a\nA_b.c==1.0+cpu  # why\nx>=2\n\n") == {"a-b-c": "1.0+cpu"}
    assert "bitgap" not in installed() and "numpy" in installed()
    told = requirements([{"torch": "2.13.0"}, {"torch": "2.13.0+cpu", "numpy": "2.4.6"}])
    assert told == "numpy==2.4.6\ntorch==2.13.0\n"


def test_a_known_vulnerability_fails_and_is_named() -> None:
    lines, well = report([("pypi", audit.answer_of(KNOWN))], WHEN)
    assert well is False
    assert lines[0].startswith("2 versions audited by pypi as of 2026-11-30 22:05 UTC")
    assert "VULNERABLE: numpy 1.0: PYSEC-1, CVE-2" in lines
    assert "not audited, unknown to pypi: ours" in lines


def test_packages_that_are_passed_over_are_not_audited() -> None:
    """pip-audit itself exits 0 and says that no vulnerabilities were found."""
    answers = [("pypi", audit.answer_of(UNKNOWN)), ("osv", Answer(why="no network"))]
    lines, well = report(answers, WHEN)
    assert well is None
    assert lines == [
        "NOT REACHED: nothing was audited (pypi: it passed over all 1 packages; osv: no network)"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands in for Python")
@pytest.mark.parametrize(
    ("says", "code", "strict"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, 0),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X"}]}]}', 1, 1),
        ("", 0, audit.NOT_AUDITED),
        ("[]", 0, audit.NOT_AUDITED),
    ],
)
def test_codes(says: str, code: int, strict: int, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{says}'\necho 'no route to host' >&2\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    given = ["--python", str(python), "--constraints", str(ROOT / "constraints.txt")]
    assert main(given) == code
    assert main([*given, "--strict"]) == strict


def test_an_environment_without_pip_audit_says_so() -> None:
    found = ask(sys.executable, "pypi", "")
    assert found.audited == 0 and "pip_audit" in found.why
