"""What a file does as its toolchains run it, beside what its weights do alone, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.report.words.phrases import Answer, joined, language_name
from bitgap.show.numbers import lacks, told

Json = Mapping[str, Any]


def runtime_answer(runtimes: Json, weights: Json) -> Answer | None:
    """Returns what the first runtime that ran does to whom, and whether weights or running do it.

    Args:
        runtimes: A :class:`bitgap.disparity.runtimes.Runtimes` as JSON.
        weights: The report of the file's weights as JSON.

    Returns:
        The answer; None where no runtime has a number.
    """
    ran = [run for run in runtimes["runs"] if _known(run)]
    if not ran:
        return None
    first, *others = ran
    rows = _known(first)
    worst = max(rows, key=lambda code: rows[code]["damage"])
    per = f"bits per {language_name(weights['reference'])} character"
    most = f"{language_name(worst)} is hurt most, {_damage(rows[worst])} {per}"
    short = f"As {first['runtime']} runs it, {most}"
    shares = _of_running(first, weights)
    return Answer(
        "runs",
        f"What does it do as {first['runtime']} runs it?",
        f"{short}{f'; {shares[0]}' if shares else ''}.",
        (
            *shares[1:],
            *(f"{language_name(c)}: {_damage(row)}." for c, row in rows.items() if c != worst),
            *(_beside(other, worst) for other in others if worst in _known(other)),
        ),
    )  # fmt: skip


def _known(run: Json) -> dict[str, Json]:
    rows: dict[str, Json] = {} if run["failure"] else run["languages"]
    return {code: row for code, row in rows.items() if row["damage"] is not None}


def _damage(row: Json) -> str:
    return told(row["damage"], row["damage_ci"], signed=False)


def _of_running(run: Json, weights: Json) -> list[str]:
    """Returns what does most of the damage, where it can be told, and of whom it cannot."""
    sides: dict[str, list[str]] = {"running": [], "weights": [], "unclear": []}
    for code, row in _known(run).items():
        of_weights = weights["languages"].get(code, {}).get("damage")
        if row.get("extra") is None or of_weights is None:
            continue
        low, high = (None, None) if lacks(row["extra_ci"]) else row["extra_ci"]
        if low is not None and low > of_weights:
            side = "running"
        else:
            side = "weights" if high is not None and high < of_weights else "unclear"
        sides[side].append(language_name(code))
    said = {
        "running": "most of it is done by running it, and not by its weights, in",
        "weights": "most of it is done by its weights in",
        "unclear": "weights and running cannot be told apart in",
    }
    found = [f"{said[side]} {joined(names)}" for side, names in sides.items() if names]
    return found[:1] + [f"{one[0].upper()}{one[1:]}." for one in found[1:]]


def _beside(run: Json, code: str) -> str:
    return f"{language_name(code)} as {run['runtime']} runs it: {_damage(_known(run)[code])}."
