"""What a quantized file really holds: by block, and tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.table import Column, Record, Table, json_of
from bitgap.show.tables.unit_map import short_units
from bitgap.show.words import count, size

Json = Mapping[str, Any]

_MIB = 2.0**-20


def contents_line(contents: Record | Json) -> str:
    """Returns in one sentence what a file holds beside what it says of itself."""
    held = json_of(contents)
    claim = f"; it says of itself {held['claim']!r}" if held["claim"] else ""
    inner = held["block_bits"]
    blocks = "" if inner is None else f", {inner:.2f} in the matrices of its blocks"
    return (
        f"{held['file']} ({held['toolchain']}) holds {held['bits']:.2f} bits a weight over all "
        f"tensors{blocks}, {_bytes(held['n_bytes'])}{claim}."
    )


def _bytes(n: int) -> str:
    return count(n, "byte") if n < 1 << 20 else size(n)


def places_table(contents: Record | Json) -> Table:
    """Returns a row a block, and one for each tensor outside the blocks.

    Args:
        contents: A :class:`bitgap.formats.contents.Contents`, or its JSON.
    """
    held = json_of(contents)
    return Table(
        id="places",
        title=f"What {held['file']} holds, by block",
        columns=(
            Column("place", "where", width=0.3),
            Column("bits", "bits", "number", decimals=2,
                   note="bits: of the file for each weight, scales and zeros included."),
            Column("mib", "MiB", "number", factor=_MIB, decimals=2),
            Column("share", "share", "number", "%", 100.0, decimals=1,
                   note="share: of the bytes of all tensors."),
            Column("types", "types", width=0.7,
                   note="types: how matrices are stored, most first; of a block whose matrices "
                   "differ, which is stored how."),
        ),
        rows=tuple(
            (row["name"], row["bits"], row["n_bytes"], row["share"], _types(row))
            for row in held["places"]
        ),
        notes=(contents_line(held),),
    )  # fmt: skip


def _types(row: Json) -> str:
    units: Mapping[str, str] = row["by_unit"]
    if not units:
        return ", ".join(row["types"])
    short = short_units(list(units))
    by_type: dict[str, list[str]] = {}
    for unit, stored in units.items():
        by_type.setdefault(stored, []).append(short[unit])
    most, *others = (name for name in row["types"] if name in by_type)
    return ", ".join([most, *(f"{name} ({', '.join(by_type[name])})" for name in others)])


def tensors_table(contents: Record | Json) -> Table:
    """Returns a row a tensor. As :func:`places_table`."""
    held = json_of(contents)
    return Table(
        id="tensors",
        title=f"What {held['file']} holds, tensor by tensor",
        columns=(
            Column("name", "tensor"),
            Column("stored", "type"),
            Column("code_bits", "code", "number", "bits", decimals=1,
                   note="code: bits of one code, without scales."),
            Column("bits", "bits", "number", decimals=2,
                   note="bits: of the file for each weight, scales and zeros included."),
            Column("n_weights", "weights", "count"),
            Column("n_bytes", "bytes", "count"),
            Column("share", "share", "number", "%", 100.0, decimals=2,
                   note="share: of the bytes of all tensors."),
        ),
        rows=tuple(
            tuple(row[key] for key in
                  ("name", "stored", "code_bits", "bits", "n_weights", "n_bytes", "share"))
            for row in held["tensors"]
        ),
        notes=(contents_line(held),),
    )  # fmt: skip
