"""What one plan did: damage by language, and the numbers that sum it up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.numbers import Unit, plan_name, told
from bitgap.show.table import MARKS, Column, Record, Table, Value, json_of

Json = Mapping[str, Any]

FLAGS = {
    "collapsed": (MARKS[0], "collapsed: no better than add-one unigrams"),
    "below_resolution": (MARKS[1], "below resolution: under ten times the numerical floor"),
}
"""What is wrong with a language: its mark, and what that means."""


_NEVER_BELOW_0 = ("S", "S_per_text", "mean_absolute_log_ratio")


def damage_table(report: Record | Json, model: str = "") -> Table:
    """Returns a row a language, in the order of the audit.

    Args:
        report: A :class:`bitgap.disparity.records.DisparityReport`, or its JSON.
        model: Its name, where a table stands among those of others.
    """
    audit = json_of(report)
    languages, reference = audit["languages"], audit["reference"]
    unit = Unit.of((row["damage"] for row in languages.values()), reference)
    flags = [
        f"{mark} {meaning}."
        for name, (mark, meaning) in FLAGS.items()
        if any(row[name] for row in languages.values())
    ]
    return Table(
        id="audit",
        title=f"Damage by language{f', {model}' if model else ''} at {plan_name(audit['plan'])}",
        columns=(
            Column("language", "language", "language", width=1.0),
            Column("damage", "K", "interval", unit.name, unit.factor,
                   note=f"K: damage. {unit.note}."),
            Column("delta", "Δ", "interval", unit.name, unit.factor, signed=True,
                   note="Δ: change of NLL."),
            Column("learned_share", "K/M", "interval", "%", 100.0,
                   note="K/M: damage as a share of what the model had learned."),
            Column("tokens", "tokens", "count"),
            Column("log_from_mean", "off mean", "interval", decimals=2, signed=True,
                   note="off mean: log2 of damage to a token off the languages' mean; S is their "
                   "spread."),
            Column("log_ratio", f"K/K_{reference}", "interval", decimals=2, signed=True,
                   note=f"K/K_{reference}: log2 of the ratio to the reference's damage, the sum of "
                   "damage to a token and the premium."),
            Column("log_ratio_per_token", "per token", "interval", decimals=2, signed=True,
                   note="per token: the part from damage to a token."),
            Column("log_token_premium", "premium", "interval", decimals=2, signed=True,
                   note="premium: the part from more tokens for the same sentences."),
        ),
        rows=tuple(
            (
                code + flag_marks(row),
                Value.of(row, "damage", "ci"),
                Value.of(row, "delta"),
                Value.of(row, "learned_share"),
                row["tokens"],
                Value.of(row, "log_from_mean"),
                # The reference is 0 from itself by definition.
                *(None if code == reference else Value.of(row, name)
                  for name in ("log_ratio", "log_ratio_per_token", "log_token_premium")),
            )
            for code, row in languages.items()
        ),
        notes=(f"Intervals of 95 % over {audit['n_sentences']} sentences; {audit['method']}.",
               *flags),
    )  # fmt: skip


def flips_table(flips: Record | Json) -> Table:
    """Returns a row a language with the share of tokens whose most likely next token changed.

    Args:
        flips: A :class:`bitgap.disparity.flips.Flips`, or its JSON.
    """
    return Table(
        id="flips",
        title="Tokens whose most likely next one changed",
        columns=(
            Column("language", "language", "language", width=1.0),
            Column("share", "flips", "interval", "%", 100.0,
                   note="flips: share of tokens after which full precision and the file would "
                   "choose another token."),
            Column("flipped", "changed", "count"),
            Column("tokens", "tokens", "count"),
        ),
        rows=tuple(
            (code, Value.of(row, "share"), row["flipped"], row["tokens"])
            for code, row in json_of(flips).items()
        ),
        notes=("Intervals of 95 % over sentences. A change between two tokens that were all but "
               "equally likely costs little; K tells.",),
    )  # fmt: skip


def flag_marks(row: Json) -> str:
    """Returns the marks of what is wrong with a language."""
    return "".join(mark for name, (mark, _) in FLAGS.items() if row[name])


def summary_rows(audit: Json) -> list[tuple[str, str, str]]:
    """Returns S, D, G, H and their parts: name, value, and what it means or why it is missing."""
    parts, harm = audit["decomposition"], audit["H"]
    damages = (row["damage"] for row in audit["languages"].values())
    unit = Unit.of(damages, audit["reference"])
    rows: list[tuple[str, str, str]] = []
    last = None
    signs = "; its sign is not established" if audit.get("sign_depends_on_unit") else ""
    for name, values, key, factor, meaning in (
        ("S", audit, "S", 1.0, "gap: spread over languages of log2 damage per token"),
        ("  per text", audit, "S_per_text", 1.0, "the same for the same text, as users bear it"),
        ("|ratio|", audit, "mean_absolute_log_ratio", 1.0, "mean distance from the reference"),
        ("D", audit, "D", 1.0, f"mean log2 damage ratio to the reference{signs}"),
        ("  per token", parts, "kl_per_token", 1.0, "its part from damage to a token"),
        ("  premium", parts, "token_premium", 1.0, "its part from needing more tokens"),
        ("D_share", audit, "D_share", 1.0, "the same of K/M"),
        ("G, " + unit.name, audit, "G", unit.factor, "gap: mean Δ less the reference's"),
        ("H, " + unit.name, harm, "mean", unit.factor, "harm: mean Δ over languages"),
        ("  largest", harm, "max", unit.factor, "Δ of the language worst off"),
        ("D_original", audit, "D_original", 1.0, "the origin's perplexity ratio"),
    ):
        if key not in values:
            continue  # of a run stored before it was formed
        reason = values[f"{key}_reason"]
        number = told(values[key], values[f"{key}_ci"], factor, signed=key not in _NEVER_BELOW_0)
        why = "for the same reason" if reason and reason == last else reason
        rows.append((name, number, f"{meaning}; {why}" if why else meaning))
        last = reason
    return rows
