"""What an export holds against its recipe, and how far its logits are from the simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bitgap.show.table import Column, Table

Json = Mapping[str, Any]


def held_table(made: Json) -> Table:
    """Returns a row for each scheme of a verified export, with what it became.

    Args:
        made: A :class:`bitgap.jobs.export_records.Verification` as JSON.
    """
    kinds = Counter((one["asked"], one["stored"], one["loaded"]) for one in made["matrices"])
    sizes = Counter[tuple[str, str, str]]()
    worst: dict[tuple[str, str, str], float] = {}
    for one in made["matrices"]:
        key = (one["asked"], one["stored"], one["loaded"])
        sizes[key] += one["n_bytes"]
        worst[key] = max(worst.get(key, 0.0), one["error"])
    return Table(
        id="export",
        title=f"{made['target']}: what the file holds",
        columns=(
            Column("asked", "recipe"),
            Column("stored", "in the file"),
            Column("loaded", "in the toolchain"),
            Column("matrices", "matrices", "count"),
            Column("bytes", "bytes", "count"),
            Column(
                "error",
                "off by",
                "p",
                note="off by: largest difference from the simulation, over the largest weight",
            ),
        ),
        rows=tuple(
            (asked, stored, loaded or None, n, sizes[key], worst[key])
            for key, n in sorted(kinds.items())
            for asked, stored, loaded in [key]
        ),
    )


def logits_table(made: Json) -> Table:
    """Returns a row a language: how far logits are from the simulation's.

    Args:
        made: A :class:`bitgap.jobs.export_records.Verification` as JSON.
    """
    return Table(
        id="export_logits",
        title=f"{made['target']}: logits against the simulation",
        columns=(
            Column("language", "language", "language"),
            Column("tokens", "tokens", "count"),
            Column("largest", "largest", "p", unit="nats"),
            Column("mean", "mean", "p", unit="nats"),
            Column("relative", "relative", "p"),
            Column("storing", "storing", "p"),
            Column("plan", "the plan's own", "p"),
        ),
        rows=tuple(
            (
                one["language"],
                one["n_tokens"],
                one["largest"],
                one["mean"],
                one["relative"],
                one.get("storing", 0.0),
                one["plan"],
            )
            for one in made["logits"]
        ),
        notes=(
            f"relative: of the norm of the logits; up to {made['tolerance']:.0e} is explained "
            f"({made['arithmetic']})",
            "storing: what scales and whole matrices of 16 bits move, which is in the simulation",
            "the plan's own: how far it moves logits from full precision",
        ),
    )
