"""``docs/replication.md``: the origin's claims, and what became of each. No number is typed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.numbers import MISSING
from bitgap.show.to_markdown import table
from bitgap.show.withdrawn import NO_GAP_RANK

Json = Mapping[str, Any]


def ledger_page(result: Json, facts: Mapping[str, object]) -> str:
    """Returns the page of a replay.

    Args:
        result: As :meth:`bitgap.theory.origin.ledger.Ledger.as_dict` has it.
        facts: What it was made by and with, by name.
    """
    counts = [[kind, *found.values()] for kind, found in result["counts"].items()]
    names = list(next(iter(result["counts"].values())))
    rows = [
        [
            row["claim"], row["text"], row["where"], _numbers(row["measured"]),
            _numbers(row["found"]), f"**{row['exact']}**: {row['exact_reason']}",
            f"**{row['outcome']}**: {row['reason']}",
            f"**{row['outcome_here']}**: {row['reason_here']}", row["how"],
        ]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["claim", "says", "where", "the origin's numbers", "the same here, the origin's way",
            "exactly", "in kind, the origin's measure", "in kind, ours", "how"]  # fmt: skip
    parts = [
        "# The origin's claims, replayed",
        "Written by `bitgap replicate`, by no hand. A claim is replayed *exactly* only on GPT-2's "
        "own weights; *in kind*, its direction or order is tested on the model at hand, in the "
        "origin's scope and measure, and in ours (block linears at the operating point, D and G). "
        "What each claim is held to was declared in `src/bitgap/theory/claims.toml` beforehand; it "
        "holds or fails only if the interval is clear of the threshold. Where ours is |D| per "
        f"text, the outcome is one of that measure alone: {NO_GAP_RANK}.",
        table(["made with", ""], {**facts, "model": result["model"]}.items()),
        table(["claims", *names], counts),
        table(head, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _numbers(values: Mapping[str, float | None]) -> str:
    return "; ".join(
        f"{name} {MISSING if v is None else format(v, '.4g')}" for name, v in values.items()
    )
