"""What each block contributes, and the best sets of blocks to keep whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.numbers import MISSING, Unit, block_list
from bitgap.show.table import Column, Record, Table, by_key, json_of

Json = Mapping[str, Any]


def map_table(layer_map: Record | Json, model: str = "") -> Table:
    """Returns a row a block.

    Args:
        layer_map: A :class:`bitgap.disparity.layer_map.LayerMap`, or its JSON.
        model: Its name, where a table stands among those of others.
    """
    found = json_of(layer_map)
    rows, unit = found["blocks"], map_unit(found)
    bits: dict[str, Any] = {"unit": unit.name, "factor": unit.factor}
    over = "all sets" if found["all_masks"] else "a sample of sets"
    shapley = f"φ: Shapley value over {over}, how much keeping the block whole lowers K or G."
    columns = (
        Column("shapley_damage", "φ K", "interval", **bits, signed=True,
               note=f"{shapley} K is the mean over languages. {unit.note}; S in log2 units."),
        Column("shapley_gap", "φ G", "interval", **bits, signed=True),
        Column("spread_fall", "off S", "interval", signed=True,
               note="off S: what keeping the block whole, alone, takes off S, the spread over "
               "languages of log2 damage per token; S has no value where nothing is rounded, so "
               "no Shapley value."),
        Column("spread_fall_per_text", "off S per text", "interval", signed=True),
        Column("single_damage", "K alone", "interval", **bits,
               note="alone: only this block is rounded."),
        Column("protected_damage", "K kept", "interval", **bits),
        Column("single_spread", "S alone", "interval"),
        Column("protected_spread", "S kept", "interval",
               note="kept: only this block is kept whole."),
        Column("protected_disparity", "D kept", "interval", signed=True),
    )  # fmt: skip
    gaps = [
        column.name
        for column in columns
        if any(None in (row.get(column.key), *row.get(f"{column.key}_ci", ())) for row in rows)
    ]
    whole = (Column("block", "block"), *columns)
    missing = (
        f"{MISSING} under {', '.join(gaps)}: under some of the masks behind it too few languages "
        "are neither collapsed nor below resolution."
    )
    turned = [f"L{row['block']}" for row in rows if row.get("spread_fall_established") is False]
    unsettled = (
        f"Off S not established for {', '.join(turned)}: S changes one way per token and the other "
        f"way per text."
    )
    return Table(
        id="map",
        title=f"What each block does{f', {model}' if model else ''} at {found['scheme']}",
        columns=whole,
        rows=by_key(whole, ({**row, "block": f"L{row['block']}"} for row in rows)),
        notes=(
            "Intervals of 95 % over sentences.",
            *([unsettled] if turned else []),
            *([missing] if gaps else []),
        ),
    )


def map_unit(found: Json) -> Unit:
    """Returns the unit of a map's damage."""
    return Unit.of((row["shapley_damage"] for row in found["blocks"]), found.get("reference"))


def best_sets_table(layer_map: Record | Json, model: str = "") -> Table:
    """Returns a row a size; none where there is no set to choose. As :func:`map_table`."""
    found = json_of(layer_map)
    damages = (row["least_damage"]["damage"] for row in found["best_sets"])
    unit = Unit.of(damages, found.get("reference"))
    even = [row.get("least_spread") for row in found["best_sets"]]
    notes = ["No intervals: a best of many sets, chosen on these very sentences, flatters itself."]
    if None in even:
        notes.append("none: every such set harms somebody, or leaves S without a value.")
    if any(row["sets"] < row.get("of_all", row["sets"]) for row in found["best_sets"]):
        notes.append("The best are the best of those that were scored.")
    return Table(
        id="sets",
        title=f"Best sets to keep whole{f', {model}' if model else ''}",
        columns=(
            Column("size", "size", "count"),
            Column("sets", "scored", "count"),
            Column("of_all", "of", "count"),
            Column("least_damage", "least K", width=1.0),
            Column("damage", "K", "number", unit.name, unit.factor, decimals=2,
                   note=f"{unit.note}."),
            Column("spread_there", "its S", "number", decimals=3),
            Column("least_spread", "least S, nobody worse off", width=1.0),
            Column("spread", "S", "number", decimals=3,
                   note="S: spread over languages of log2 damage per token."),
        ),
        rows=tuple(
            (
                row["size"],
                row["sets"],
                row.get("of_all"),
                block_list(row["least_damage"]["blocks"]),
                row["least_damage"]["damage"],
                row["least_damage"].get("spread"),
                block_list(fair["blocks"]) if fair else "none",
                fair["spread"] if fair else None,
            )
            for row, fair in zip(found["best_sets"], even, strict=True)
        ),
        notes=tuple(notes),
    )  # fmt: skip
