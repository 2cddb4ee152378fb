"""What was said and no longer holds: each statement once, with why, for every page that shows it.

Verdicts of runs stored before version 3 of the thresholds stay as they were judged; what may not be
concluded from them is said beside them, and what holds is read off a run judged today. LOG.md has
each withdrawal with the numbers behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
WITHDRAWN_ON = "2026-11-29"

_BY_D = (
    "it was judged by |D|, in which languages cancel, so that it orders plans one way per text and "
    "the other way per token; judged again it is by S, the spread over languages"
)
_REFUTATIONS: Mapping[str, str] = {"H1.3": _BY_D, "depth": _BY_D}

_SUGGESTIONS: Mapping[str, str] = {
    "r² over blocks of log sensitivity with log damage": (
        "So high because rounding in groups equalises the relative error of blocks: little but "
        "sensitivity is left for damage to go with."
    ),
}


def withdrawal(finding: Json) -> str:
    """Returns why a finding's verdict is withdrawn, as a sentence; empty where it stands.

    Only refutations by rules older than version 3 are, which knew no equivalence test.

    Args:
        finding: As JSON; its hypothesis and its verdict are read.
    """
    verdict = finding["verdict"]
    if verdict["label"] != "refuted" or verdict.get("p_equivalence") is not None:
        return ""
    why = _REFUTATIONS.get(finding["hypothesis"])
    return f"Withdrawn {WITHDRAWN_ON}: {why}." if why else ""


def caveat_of(row: Json) -> str:
    """Returns what a suggested hypothesis must be read with, as a sentence; empty for nothing."""
    return _SUGGESTIONS.get(row["unit"], "")


def withdrawn_names(findings: Sequence[Json]) -> list[str]:
    """Returns the hypotheses whose verdict is withdrawn."""
    return [f["hypothesis"] for f in findings if withdrawal(f)]


def with_note(said: str, note: str) -> str:
    """Returns a sentence or table cell with a withdrawal after it, in bold in Markdown."""
    if not note:
        return said
    head, _, why = note.partition(":")
    stop = "" if said.endswith((".", ")")) else "."
    return f"{said}{stop} **{head}**:{why}"
