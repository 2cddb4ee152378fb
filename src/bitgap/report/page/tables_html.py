"""The tables at the end of a page: every number of the run, as rows of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.languages import named
from bitgap.quant.sets import mask_of
from bitgap.report.figures.model import set_name
from bitgap.show.numbers import MISSING, Unit, short_name, told

Json = Mapping[str, Any]


Table = dict[str, Any]
"""``caption``, ``head`` and ``rows``; a cell is text, or a language with its own name."""


def language_rows(audit: Json) -> Table:
    """Returns damage by language, worst first."""
    rows = audit["languages"]
    unit = Unit.of(row["damage"] for row in rows.values())
    order = sorted(rows, key=lambda code: -(rows[code]["damage"] or 0.0))
    body = [
        [named(code), *_cells(rows[code], unit), _marks(rows[code])]
        for code in order
    ]  # fmt: skip
    return {
        "caption": f"Damage by language. K and Δ in {unit.name} ({unit.note}); intervals of 95 % "
        f"over {audit['n_sentences']} sentences; {audit['method']}.",
        "head": ["language", "K", "K/M, %", "Δ", "log2 K to the reference", "of it, a token",
                 "of it, more tokens", "tokens", ""],
        "rows": body,
    }  # fmt: skip


def _cells(row: Json, unit: Unit) -> list[str]:
    return [
        _told(row, "damage", "ci", unit.factor, signed=False),
        _told(row, "learned_share", "learned_share_ci", 100.0, signed=False),
        _told(row, "delta", "delta_ci", unit.factor),
        _told(row, "log_ratio", "log_ratio_ci"),
        _told(row, "log_ratio_per_token", "log_ratio_per_token_ci"),
        _told(row, "log_token_premium", "log_token_premium_ci"),
        f"{row['tokens']:,}",
    ]


def _told(row: Json, name: str, ends: str, factor: float = 1.0, *, signed: bool = True) -> str:
    if row[name] is None:
        reason = row.get(f"{name}_reason")
        return f"{MISSING} ({reason})" if reason else MISSING
    return told(row[name], row[ends], factor, signed=signed)


def _marks(row: Json) -> str:
    said = [name.replace("_", " ") for name in ("collapsed", "below_resolution") if row[name]]
    return ", ".join(said)


def layer_rows(found: Json) -> Table:
    """Returns what each layer does, kept alone and in company."""
    rows = found["layers"]
    unit = Unit.of(row["shapley_damage"] for row in rows)
    columns = (
        ("shapley_damage", unit.factor), ("shapley_gap", unit.factor), ("shapley_disparity", 1.0),
        ("single_damage", unit.factor), ("protected_damage", unit.factor),
        ("protected_disparity", 1.0),
    )  # fmt: skip
    body = [
        [f"L{row['layer']}"]
        + [_told(row, name, f"{name}_ci", factor, signed=name.startswith("shapley")
                 or name.endswith("disparity")) for name, factor in columns]
        for row in rows
    ]  # fmt: skip
    sets = "all sets" if found["all_masks"] else "a sample of sets"
    return {
        "caption": f"The layer map. φ: Shapley value over {sets}; alone: only this block is "
        f"rounded; kept: only this block is kept whole. K and G in {unit.name} ({unit.note}).",
        "head": ["block", "φ of K", "φ of G", "φ of |D|", "K alone", "K kept", "D kept"],
        "rows": body,
    }


def best_set_rows(found: Json) -> Table:
    """Returns the best sets of every size."""
    unit = Unit.of(row["least_damage"]["damage"] for row in found["best_sets"])
    body = []
    for row in found["best_sets"]:
        least, even = row["least_damage"], row["least_disparity"]
        body.append(
            [
                str(row["size"]), str(row["sets"]), set_name(mask_of(least["layers"])),
                f"{least['damage'] * unit.factor:.3g}",
                set_name(mask_of(even["layers"])) if even else "none",
                f"{even['disparity']:+.3f}" if even else MISSING,
            ]
        )  # fmt: skip
    return {
        "caption": "Best sets of each size. No intervals: a best of many sets, chosen on these "
        "very sentences, flatters itself. The most even set harms nobody.",
        "head": ["size", "sets", "least damage", f"its K, {unit.name}", "most even", "its D"],
        "rows": body,
    }


def ledger_rows(result: Json) -> Table:
    """Returns the origin's claims and what became of each."""
    body = [
        [row["claim"], row["text"], f"{row['outcome']}: {row['reason']}",
         f"{row['outcome_here']}: {row['reason_here']}", row["how"]]
        for row in result["rows"]
    ]  # fmt: skip
    return {
        "caption": "The origin's claims. A claim holds or fails only if the interval is clear of "
        "the threshold that was declared for it beforehand.",
        "head": ["claim", "says", "in the origin's measure", "in ours", "how"],
        "rows": body,
    }


def model_rows(result: Json) -> Table:
    """Returns the models of a theory run."""
    body = [
        [short_name(m["model"]), m["family"], str(m["n_blocks"]), m["scheme"],
         MISSING if m["disparity"] is None else f"{m['disparity']:+.3f}", f"{m['damage']:.4f}",
         ", ".join(sorted(m["left_out"])) or "none"]
        for m in result["models"]
    ]  # fmt: skip
    return {
        "caption": "The models. D, log2 ratio, and mean K, bits per English character, with every "
        "block rounded.",
        "head": ["model", "family", "blocks", "scheme", "D", "K", "languages left out"],
        "rows": body,
    }
