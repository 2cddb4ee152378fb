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
    shapley = f"φ: Shapley value over {over}, how much keeping the block whole lowers K, G or |D|."
    columns = (
        Column("shapley_damage", "φ K", "interval", **bits, signed=True,
               note=f"{shapley} K is the mean over languages. {unit.note}; D in log2 ratio."),
        Column("shapley_gap", "φ G", "interval", **bits, signed=True),
        Column("shapley_disparity", "φ |D|", "interval", signed=True),
        Column("single_damage", "K alone", "interval", **bits,
               note="alone: only this block is rounded."),
        Column("protected_damage", "K kept", "interval", **bits),
        Column("protected_disparity", "D kept", "interval", signed=True,
               note="kept: only this block is kept whole."),
    )  # fmt: skip
    gaps = [
        column.name
        for column in columns
        if any(None in (row[column.key], *row[f"{column.key}_ci"]) for row in rows)
    ]
    whole = (Column("block", "block"), *columns)
    missing = (
        f"{MISSING} under {', '.join(gaps)}: under some of the masks behind it the reference or "
        "every other language is collapsed or below resolution."
    )
    return Table(
        id="map",
        title=f"What each block does{f', {model}' if model else ''} at {found['scheme']}",
        columns=whole,
        rows=by_key(whole, ({**row, "block": f"L{row['block']}"} for row in rows)),
        notes=("Intervals of 95 % over sentences.", *([missing] if gaps else [])),
    )


def map_unit(found: Json) -> Unit:
    """Returns the unit of a map's damage."""
    return Unit.of(row["shapley_damage"] for row in found["blocks"])


def best_sets_table(layer_map: Record | Json, model: str = "") -> Table:
    """Returns a row a size; none where there is no set to choose. As :func:`map_table`."""
    found = json_of(layer_map)
    unit = Unit.of(row["least_damage"]["damage"] for row in found["best_sets"])
    even = [row["least_disparity"] for row in found["best_sets"]]
    notes = ["No intervals: a best of many sets, chosen on these very sentences, flatters itself."]
    if None in even:
        notes.append("none: every such set harms somebody, or leaves D without a value.")
    return Table(
        id="sets",
        title=f"Best sets to keep whole{f', {model}' if model else ''}",
        columns=(
            Column("size", "size", "count"),
            Column("sets", "of", "count"),
            Column("least_damage", "least K", width=1.0),
            Column("damage", "K", "number", unit.name, unit.factor, decimals=2,
                   note=f"{unit.note}."),
            Column("least_disparity", "least |D|, nobody worse off", width=1.0),
            Column("disparity", "D", "number", signed=True),
        ),
        rows=tuple(
            (
                row["size"],
                row["sets"],
                block_list(row["least_damage"]["blocks"]),
                row["least_damage"]["damage"],
                block_list(fair["blocks"]) if fair else "none",
                fair["disparity"] if fair else None,
            )
            for row, fair in zip(found["best_sets"], even, strict=True)
        ),
        notes=tuple(notes),
    )  # fmt: skip
