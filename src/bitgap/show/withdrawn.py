"""What was said and is withdrawn: each statement once, with why, for every page that shows it.

Verdicts and numbers stay as they were judged and measured; what may no longer be concluded from
them is said beside them. LOG.md has each withdrawal with the numbers behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
WITHDRAWN_ON = "2026-11-29"

NO_GAP_RANK = (
    "|D| lets languages cancel, and in the published runs it orders plans one way per text and the "
    "other way per token, so that a rank by it does not answer for the gap between languages"
)
"""Why neither a good nor a bad place by |D| says anything of the gap."""
SMEARED_PROFILES = (
    "profiles are interpolated in relative depth, which smears the first block's share over the "
    "early blocks of a model deeper than those learned from"
)
"""What is wrong with a prediction for a deeper model, from its weights or from its config."""
CONFIG_PREDICTIONS = f"predictions from a configuration alone are withdrawn ({WITHDRAWN_ON})"
"""Of an architecture nothing but such profiles is known."""

_REFUTATIONS: Mapping[str, str] = {
    "H1.3": f"a block's worth was measured as a fall of |D|, and {NO_GAP_RANK}",
    "depth": f"as far as it rests on the rank by |D|, since {NO_GAP_RANK}",
}

_SUGGESTIONS: Mapping[str, str] = {
    "r² over blocks of log sensitivity with log damage": (
        "rounding in groups gives all blocks nearly the same relative error, so that little but "
        "sensitivity is left for damage to go with"
    ),
}


def withdrawal(finding: Json) -> str:
    """Returns why a finding's verdict is withdrawn, as a sentence; empty where it stands.

    Args:
        finding: As JSON; its hypothesis and its verdict's label are read.
    """
    if finding["verdict"]["label"] != "refuted":
        return ""
    return _dated(_REFUTATIONS.get(finding["hypothesis"]))


def withdrawn_outcome(key: str, row: Json) -> str:
    """Returns why a line of what follows is withdrawn, as a sentence; empty where it stands.

    Args:
        key: ``established``, ``ruled_out`` or ``open``.
        row: The line; its hypothesis is read.
    """
    return _dated(_REFUTATIONS.get(row["hypothesis"])) if key == "ruled_out" else ""


def withdrawn_suggestion(row: Json) -> str:
    """Returns why a suggested hypothesis is withdrawn, as a sentence; empty where it stands."""
    return _dated(_SUGGESTIONS.get(row["unit"]))


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


def _dated(why: str | None) -> str:
    return f"Withdrawn {WITHDRAWN_ON}: {why}." if why else ""
