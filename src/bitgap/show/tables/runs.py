"""What a store holds, what can be run, and runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bitgap.show.numbers import Unit, plan_name
from bitgap.show.table import Column, Table, Value, by_key
from bitgap.show.words import count, duration

Json = Mapping[str, Any]

_MODEL_WIDTH = 22


def runs_table(rows: Sequence[Json]) -> Table:
    """Returns a row a finished run."""
    return Table(
        id="runs",
        title="Runs",
        columns=(
            Column("run", "run", "count"),
            Column("command", "command"),
            Column("model", "model"),
            Column("plan", "plan"),
            Column("started", "started, UTC"),
            Column("took", "took"),
        ),
        rows=tuple(
            (row["run"], row["command"], _tail(str(row["model"])), plan_name(str(row["plan"])),
             row["provenance"]["started"][:16].replace("T", " "),
             duration(row["provenance"]["wall_s"]))
            for row in rows
        ),
    )  # fmt: skip


def _tail(name: str) -> str:
    return name if len(name) <= _MODEL_WIDTH else "…" + name[1 - _MODEL_WIDTH :]


def catalog_table(result: Json) -> Table:
    """Returns a row an experiment that can be run."""
    model = result["model"] or "the bundled model"
    columns = (
        Column("id", "id"),
        Column("hypothesis", "hypothesis"),
        Column("title", "what"),
        Column("phase", "phase", "count"),
        Column("value", "value"),
        Column("block_evaluations", "blocks", "count"),
        Column("head_evaluations", "heads", "count",
               note="blocks, heads: passes of the text through one block, or the head, sharing "
               "aside."),
    )  # fmt: skip
    return Table(
        id="catalog",
        title=f"Experiments on {model}, {count(result['n_blocks'], 'block')}",
        columns=columns,
        rows=by_key(columns, result["experiments"]),
    )


def damages_table(runs: Sequence[Json], names: Sequence[str]) -> Table:
    """Returns damage by language, a column a run.

    Args:
        runs: Rows of a comparison.
        names: What stands at the head of each.
    """
    codes = list(dict.fromkeys(code for run in runs for code in run["languages"]))
    unit = Unit.of(one["damage"] for run in runs for one in run["languages"].values())

    def damage(run: Json, code: str) -> Value | None:
        one = run["languages"].get(code)
        return None if one is None or one["damage"] is None else Value.of(one, "damage", "ci")

    return Table(
        id="damages",
        title="Damage by language",
        columns=(
            Column("language", "K", "language", unit.name,
                   note=f"K: damage. {unit.note}; intervals of 95 % over sentences."),
            *(Column(str(i), name, "estimate", factor=unit.factor) for i, name in enumerate(names)),
        ),
        rows=tuple((code, *(damage(run, code) for run in runs)) for code in codes),
    )  # fmt: skip


def verdicts_table(
    runs: Sequence[Json], names: Sequence[str], claim: Callable[[str], str] = lambda name: ""
) -> Table:
    """Returns a row a hypothesis, with its claim, and a column a run that has verdicts."""
    judged = [(run, name) for run, name in zip(runs, names, strict=True) if run["verdicts"]]
    hypotheses = list(dict.fromkeys(h for run, _ in judged for h in run["verdicts"]))
    return Table(
        id="verdicts-by-run",
        title="Verdicts, run by run",
        columns=(Column("hypothesis", "hypothesis"),
                 *(Column(str(i), name, "label") for i, (_, name) in enumerate(judged))),
        rows=tuple((f"{h} {claim(h)}".rstrip(), *(run["verdicts"].get(h) for run, _ in judged))
                   for h in hypotheses),
    )  # fmt: skip


def disparities_table(runs: Sequence[Json], names: Sequence[str]) -> Table:
    """Returns a row a run with what sums it up."""
    return Table(
        id="disparities",
        title="Spread, disparity and gap",
        columns=(
            Column("run", "run"),
            Column("S", "S", "estimate", signed=False,
                   note="S: spread over languages of log2 damage per token."),
            Column("S_per_text", "S per text", "estimate", signed=False),
            Column("D", "D", "estimate", signed=True,
                   note="D: mean log2 damage ratio to the reference."),
            Column("D_share", "D of K/M", "estimate", signed=True,
                   note="K/M: damage over what was learned."),
            Column("G", "G", "estimate", signed=True,
                   note="G: gap, bits. Intervals of 95 %."),
        ),
        rows=tuple(
            (name, *(Value.of(run, key) for key in ("S", "S_per_text", "D", "D_share", "G")))
            for name, run in zip(names, runs, strict=True)
        ),
    )  # fmt: skip


def files_table(runs: Sequence[Json]) -> Table:
    """Returns a row a quantized file, smallest first: its bytes, and what it does.

    Args:
        runs: Rows of a comparison; those that are of no file are left out.
    """
    files = sorted((run for run in runs if run["file"]), key=lambda run: run["file"]["n_bytes"])
    unit = Unit.of(one["damage"] for run in files for one in run["languages"].values())
    return Table(
        id="files",
        title="Bytes against damage",
        columns=(
            Column("file", "file", width=0.5),
            Column("mib", "MiB", "number", factor=2.0**-20, decimals=2),
            Column("bits", "bits", "number", decimals=2,
                   note="bits: of the file for each weight, scales included."),
            Column("worst", "most damage to", "language"),
            Column("damage", "K", "interval", unit.name, unit.factor,
                   note=f"K: damage to that language. {unit.note}."),
            Column("S", "S", "interval", decimals=2,
                   note="S: spread over languages of log2 damage per token."),
            Column("flips", "flips", "interval", "%", 100.0,
                   note="flips: share of tokens whose most likely next one changed, of the "
                   "language where most did."),
        ),
        rows=tuple(_file_row(run) for run in files),
        notes=("Intervals of 95 % over sentences.",),
    )  # fmt: skip


def _file_row(run: Json) -> tuple[Any, ...]:
    known = {c: one for c, one in run["languages"].items() if one["damage"] is not None}
    worst = max(known, key=lambda code: known[code]["damage"], default=None)
    flips: Json = run["flips"] or {}
    most = max(flips, key=lambda code: flips[code]["share"] or 0.0, default=None)
    return (
        run["file"]["file"],
        run["file"]["n_bytes"],
        run["file"]["bits"],
        worst or "",
        None if worst is None else Value.of(known[worst], "damage", "ci"),
        Value.of(run, "S"),
        None if most is None else Value.of(flips[most], "share"),
    )


def change_table(change: Json) -> Table:
    """Returns what changes from one plan to another on the same sentences."""
    named = {
        "spread_change": "S, the spread of log2 damage per token",
        "spread_per_text_change": "S per text",
        "disparity_change": "D",
        "disparity_per_token_change": "D per token",
        "gap_change": "G",
        "reference_damage_change": f"damage to {change['reference']}",
        "harm_mean_change": "mean harm",
        "harm_max_change": "largest harm",
    }
    changes = [(name, change[key]) for key, name in named.items()]
    changes += [(f"log2 damage, {code}", one) for code, one in change["log_damage_change"].items()]
    return Table(
        id="change",
        title=f"From {change['from']} to {change['to']}, sentence by sentence",
        columns=(
            Column("what", "what"),
            Column("change", "change", "estimate", signed=True),
            Column("unit", "unit"),
        ),
        rows=tuple((name, Value.told(one), one["unit"]) for name, one in changes),
        notes=("Intervals of 95 %.",),
    )
