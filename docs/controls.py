"""Fills the marked place of ``controls.md``: how often each positive control was found.

    python docs/controls.py            # writes controls.md
    python docs/controls.py --check    # exits 1 if it differs from what would be written

What is found hangs on the model, so it is read off the evidence of three (``evidence/``), which has
findings with their controls. Nothing is measured and no torch is needed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bitgap.experiments.catalog import CATALOG
from bitgap.records import Control, Finding
from bitgap.show.to_markdown import rows_of
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.evidence import Evidence
from bitgap.theory.files import SUFFIX, read_evidence

DOCS = Path(__file__).parent
PAGE = DOCS / "controls.md"
EVIDENCE = DOCS.parent / "evidence"
MODELS = ("reference", "llama-12", "opt-12")
"""One that ships with the package, and one each of the two families that differ most from it."""

_PLACE = re.compile(r"(<!-- table: found -->)(.*?)(<!-- end -->)", re.DOTALL)
_TOLD = re.compile(r"in (\d+) of (\d+) plantings")
_NOT_YET = "No evidence of these models is here yet."


def filled(text: str, folder: Path = EVIDENCE) -> str:
    """Returns the page with its marked place as the evidence in a folder has it."""
    return _PLACE.sub(lambda m: f"{m[1]}\n\n{found(held(folder))}\n\n{m[3]}", text)


def held(folder: Path) -> list[Evidence]:
    """Returns the evidence of those of the models that a folder has, in their order."""
    files = [folder / f"{name}{SUFFIX}" for name in MODELS]
    return [read_evidence(file) for file in files if file.is_file()]


def found(evidence: Sequence[Evidence]) -> str:
    """Returns the table of positive controls and what follows from it."""
    if not evidence:
        return _NOT_YET
    # As it was judged with other thresholds, it would say what no longer is asked.
    now = load_thresholds().hash
    stale = [e.model for e in evidence if {f.thresholds_hash for f in e.findings.values()} != {now}]
    if stale:
        return f"{_NOT_YET} What there is of {', '.join(stale)} was judged with other thresholds."
    rows, blind = list[list[str]](), list[str]()
    for experiment in CATALOG:
        findings = [one.findings.get(experiment.hypothesis.id) for one in evidence]
        names = dict.fromkeys(c.name for f in findings if f for c in f.controls if _planted(c))
        told = {n: [_count(f, n) for f in findings] for n in sorted(names)}
        rows += [[experiment.id, name, *cells] for name, cells in told.items()]
        for one, finding in zip(evidence, findings, strict=True):
            if finding is not None and (missed := _missed(finding)):
                blind.append(
                    f"- **{experiment.hypothesis.id}** in {one.model}: {'; '.join(missed)}."
                )
    table = rows_of(["experiment", "positive control", *(one.model for one in evidence)], rows)
    share = load_thresholds().detection_share
    parts = [f"In how many plantings each was found, {share:.0%} needed.", table]
    if blind:
        said = f"Where fewer than {share:.0%} were found, this hypothesis cannot say *refuted*:"
        parts += [said, "\n".join(blind)]
    return "\n\n".join(parts)


def _planted(control: Control) -> bool:
    return control.kind == "positive"


def _count(finding: Finding | None, name: str) -> str:
    control = next((c for c in finding.controls if c.name == name), None) if finding else None
    if control is None:
        return "–"
    told = _TOLD.search(control.detail)
    if told is None:
        return "not run" if control.passed is None else "found" if control.passed else "missed"
    return f"{told[1]} of {told[2]}"


def _missed(finding: Finding) -> list[str]:
    """Returns which plants were not found often enough, or not run."""
    return [
        f"{c.name} ({_count(finding, c.name)})"
        for c in finding.controls
        if _planted(c) and c.passed is not True
    ]


def main(arguments: list[str]) -> int:
    """Writes the page, or with ``--check`` compares it; returns the exit status."""
    text = PAGE.read_text(encoding="utf-8")
    made = filled(text)
    if arguments == ["--check"]:
        if made != text:
            print(f"{PAGE.name} is not what evidence says; run docs/controls.py", file=sys.stderr)
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
