"""What a file does to each language as its toolchain runs it, and what it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import Unit
from bitgap.show.table import Column, Record, Table, Value, json_of

Json = Mapping[str, Any]


def runtime_tables(runtimes: Record | Json, audit: Record | Json | None) -> list[Table]:
    """Returns a table a runtime that ran: a row a language, beside what the weights alone do.

    Args:
        runtimes: A :class:`bitgap.disparity.runtimes.Runtimes`, or its JSON.
        audit: The report of the weights, or its JSON; None where they were not read.
    """
    weights: Json = {} if audit is None else json_of(audit)["languages"]
    runs = json_of(runtimes)["runs"]
    return [_runtime_table(run, weights) for run in runs if not run["failure"]]


def runtime_failures(runtimes: Record | Json | None) -> list[str]:
    """Returns what is to be said of runtimes that did not run.

    Args:
        runtimes: As for :func:`runtime_tables`, or None.
    """
    runs = () if runtimes is None else json_of(runtimes)["runs"]
    return [f"Not run: {run['failure']}." for run in runs if run["failure"]]


def _runtime_table(run: Json, weights: Json) -> Table:
    languages = run["languages"]
    unit = Unit.of(row["damage"] for row in languages.values())
    name, packages = run["runtime"], run["versions"].items()
    versions = ", ".join(f"{package} {version}" for package, version in packages)
    notes = [f"Run by {versions}." if versions else ""]
    if run["apart_nats"] is not None:
        notes.append(
            f"No sentence's K is further than {run['apart_nats']:.2g} nats a token from that of "
            f"the weights alone."
        )
    known = run["apart_nats"] is not None
    read = (
        Column("weights", "K weights", "interval", unit.name, unit.factor,
               note="K weights: damage of the file's weights alone, in float32."),
        Column("extra", "added", "interval", unit.name, unit.factor, signed=True,
               note="added: K run less K weights."),
    ) if known else ()  # fmt: skip
    return Table(
        id=f"run-{name.replace('.', '-')}",
        title=f"As {name} runs it",
        columns=(
            Column("language", "language", "language", width=1.0),
            Column("damage", "K run", "interval", unit.name, unit.factor,
                   note=f"K run: damage as the toolchain runs it. {unit.note}."),
            *read,
            Column("delta", "Δ run", "interval", unit.name, unit.factor, signed=True,
                   note="Δ run: change of NLL as it runs."),
            Column("flips", "flips", "interval", "%", 100.0,
                   note="flips: share of tokens whose most likely next one changed, as it runs."),
        ),
        rows=tuple(
            (
                code,
                Value.of(row, "damage"),
                *((Value.of(weights[code], "damage", "ci") if code in weights else None,
                   Value.of(row, "extra")) if known else ()),
                Value.of(row, "delta"),
                Value.of(row, "flips"),
            )
            for code, row in languages.items()
        ),
        notes=tuple(filter(None, ("Intervals of 95 % over sentences.", *notes))),
    )  # fmt: skip


def generation_table(generation: Record | Json) -> Table:
    """Returns a row a language: how the file's continuations differ from the whole model's.

    Args:
        generation: A :class:`bitgap.disparity.generation.Generation`, or its JSON.
    """
    found = json_of(generation)
    rows = found["languages"].items()
    told = found["identifier"]
    by = "not told, as no language identifier is installed: pip install 'bitgap[identify]'"
    if told:
        by = f"told by {told} among the corpus' languages and English"

    def share(name: str, head: str, note: str, *, signed: bool = False) -> Column:
        return Column(name, head, "interval", "%", 100.0, signed=signed, note=note)

    columns: Sequence[tuple[Column, str]] = (
        (share("agreement", "agree", "agree: share of the whole model's tokens before the first "
               "that the file writes otherwise."), "agreement"),
        (share("same", "same", "same: continuations that are the same to the end."), "same"),
        (share("repetition", "repeats", "repeats: runs of four tokens of the file that came "
               "before."), "repetition"),
        (share("repetition_added", "added", "added: that, less the whole model's.", signed=True),
         "repetition_added"),
        (share("script", "script", "script: continuations of the file most of whose letters are "
               "in another script than the prompt's."), "script"),
        (share("confusion", "left", f"left: continuations of the file in another language than "
               f"the prompt, {by}."), "confusion"),
        (share("confusion_added", "more", "more: that, less the whole model's.", signed=True),
         "confusion_added"),
        (share("confusion_text", "text", "text: the corpus' own second halves that are taken for "
               "another language, the identifier's error."), "confusion_text"),
    )  # fmt: skip
    return Table(
        id="generation",
        title="Greedy continuations, whole model against file",
        columns=(
            Column("language", "language", "language", width=1.0),
            *(column for column, _ in columns),
        ),
        rows=tuple((code, *(Value.of(row, key) for _, key in columns)) for code, row in rows),
        notes=(
            f"The first half of {found['sentences']} sentences, continued by at most "
            f"{found['new_tokens']} tokens. Intervals of 95 % over sentences.",
        ),
    )


def examples_table(generation: Record | Json) -> Table:
    """Returns a row a language: where the two first part ways.

    As :func:`generation_table`.
    """
    found = json_of(generation)
    return Table(
        id="continuations",
        title="Where they part first",
        columns=(
            Column("language", "language", "language", width=0.5),
            Column("prompt", "prompt", width=1.0),
            Column("whole", "whole model", width=1.0),
            Column("file", "file", width=1.0),
        ),
        rows=tuple(
            (code, one["prompt"], one["whole"].strip(), one["file"].strip())
            for code, one in found["examples"].items()
        ),
    )
