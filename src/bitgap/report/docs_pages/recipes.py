"""``docs/results-protect.md``: recipes of several models and budgets, and what proved of them.

Made of records alone, one a model and budget, which :func:`record_of` makes of an outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.protect.calibration import rank_correlation
from bitgap.protect.outcome import Outcome
from bitgap.quant.schemes import FULL_PRECISION_BITS, parse_scheme
from bitgap.report.words.protect import recipe_answers
from bitgap.show.table import Column, Table, Value
from bitgap.show.tables.protect import (
    proof_table,
    recipe_languages_table,
    spared,
    steps_table,
)
from bitgap.show.to_markdown import to_markdown

Json = Mapping[str, Any]
_RECIPE = "recipe"
_BLOCKS_TOLD = 3


def record_of(found: Outcome, question: Json) -> dict[str, Any]:
    """Returns what is kept of a recipe for the page.

    Each unit's schemes in all other plans and at other budgets are left out, as they are most of
    an outcome's bytes; what of them is told, bits of each block, is kept.

    Args:
        found: What :meth:`bitgap.Lab.protect` returned.
        question: What was asked, of which model and text.
    """
    whole = found.as_dict()
    for unit in whole["units"]:
        unit["others"] = {}
    for point in whole["frontier"]:
        point["schemes"] = {}
    return {"question": dict(question), "bits_by_block": _bits_by_block(found), "outcome": whole}


def refusal_of(why: str, question: Json) -> dict[str, Any]:
    """Returns what is kept for the page of a search that nobody can make, and why.

    Args:
        why: In words.
        question: What was asked, of which model and text.
    """
    return {"question": dict(question), "refused": why}


def _bits_by_block(found: Outcome) -> dict[str, list[float]]:
    """Returns the mean bits of a code in each block, of the recipe and every other plan."""
    inside = [unit for unit in found.units if unit.block is not None]
    blocks = sorted({unit.block for unit in inside if unit.block is not None})
    plans = [_RECIPE, *(inside[0].others if inside else ())]
    bits = dict[str, list[float]]()
    for plan in plans:
        bits[plan] = []
        for block in blocks:
            units = [unit for unit in inside if unit.block == block]
            schemes = [unit.scheme if plan == _RECIPE else unit.others[plan] for unit in units]
            weights = [unit.n_weights for unit in units]
            bits[plan].append(float(np.average([_bits(one) for one in schemes], weights=weights)))
    return bits


def _bits(scheme: str) -> float:
    return float(getattr(parse_scheme(scheme), "weight_bits", FULL_PRECISION_BITS))


def recipes_page(records: Sequence[Json], command: str) -> str:
    """Returns the page.

    Args:
        records: From :func:`record_of` and :func:`refusal_of`, in the order that they are told in.
        command: What makes the page.
    """
    intro = (
        "# Recipes: what was gained at the same size",
        f"Written by `{command}` from records, by no hand. Each recipe was searched on one part of "
        "the text, sealed, and compared on another part with plans of the same bytes: uniform, "
        "the blocks that the origin's theory would protect, what the weights alone say, random "
        "plans, and the *language-blind* plan of least mean damage. To beat uniform shows that "
        "mixed bits work; only to beat the language-blind plan shows that knowing languages "
        "matters. [How to read it](how-to/protect.md).",
    )
    if not records:
        return "\n\n".join((*intro, "No recipe is recorded yet.")) + "\n"
    parts, found = list(intro), [one for one in records if "outcome" in one]
    if found:
        parts += [to_markdown(verdicts_table(found)), to_markdown(searches_table(found))]
    for one in records:
        parts += _section(one) if "outcome" in one else _refused(one)
    return "\n\n".join(parts) + "\n"


def name_of(record: Json) -> str:
    """Returns what a recipe is called: its model and its budget."""
    return f"{record['question']['model']}, {record['outcome']['recipe']['budget']}"


def _refused(record: Json) -> list[str]:
    asked = record["question"]
    return [
        f"## {asked['model']}, {asked['budget']:g} bits a weight",
        f"No recipe: {record['refused']}.",
        f"`{asked['command']}`",
    ]


def verdicts_table(records: Sequence[Json]) -> Table:
    """Returns a row a recipe and plan that it is compared with.

    Args:
        records: From :func:`record_of`.
    """
    rows = list[tuple[Any, ...]]()
    for record in records:
        found = record["outcome"]
        for one in found["proof"]["against"]:
            rows.append((
                name_of(record), one["rival"]["name"], spared(one["gain"]),
                spared(one["mean_gain"]), one["verdict"], ", ".join(one["harmed"]) or "nobody",
            ))  # fmt: skip
        for name, chance in (("random plans", "random"), ("permuted labels", "placebo")):
            if (told := found["proof"][chance]) is not None:
                best = max(told["gains"], default=None)
                rows.append((
                    name_of(record), f"{told['n']} {name}", Value(None), Value(None),
                    _chance(chance, told, best), "",
                ))  # fmt: skip
    return Table(
        id="recipes-verdicts",
        title="Verdicts",
        columns=(
            Column("recipe", "recipe"),
            Column("against", "against"),
            Column("gain", "worst hit", "interval", "%", decimals=1, signed=True,
                   note="worst hit: how much less damage the recipe does to the quarter of the "
                   "languages that the language-blind plan hurts most, by the mean of the "
                   "logarithm, on the sentences that confirm."),
            Column("mean", "mean", "interval", "%", decimals=1, signed=True,
                   note="mean: how much less the mean over languages is."),
            Column("verdict", "verdict"),
            Column("harmed", "harm is shown to"),
        ),
        rows=tuple(rows),
        notes=("Intervals of 95 % over sentences, or documents.",),
    )  # fmt: skip


def _chance(kind: str, told: Json, best: float | None) -> str:
    as_good = round(told["p"] * (told["n"] + 1)) - 1
    if kind == "random":
        return f"{as_good} as good as the recipe (p = {told['p']:.2f})"
    most = "" if best is None else f"; the most that one gained is {1 - 2**-best:.1%}"
    return f"{as_good} gained as much on the language-blind plan (p = {told['p']:.2f}){most}"


def searches_table(records: Sequence[Json]) -> Table:
    """Returns a row a recipe: on what it was searched, and what could be gained or shown.

    Args:
        records: From :func:`record_of`.
    """
    rows = list[tuple[Any, ...]]()
    for record in records:
        found, n = record["outcome"], record["outcome"]["n_sentences"]
        checked = found["calibration"]
        ranks = [r for r in checked["rank"] if r is not None] if checked else []
        most = found["most"]
        rows.append((
            name_of(record),
            found["recipe"]["bytes"],
            found["recipe"]["budget_bytes"] - found["recipe"]["bytes"],
            f"{len(found['languages'])}, {n['calibrate']} + {n['search']} + {n['confirm']}",
            found["instrument"] + (f", {found['refined']} refined" if found["refined"] else ""),
            min(ranks, default=None),
            found["gap"],
            None if most is None else 1 - most["bound"] / most["blind"],
            None if found["foreseen"] is None else 1 - 2 ** -found["foreseen"],
        ))  # fmt: skip
    return Table(
        id="recipes-searches",
        title="Searches",
        columns=(
            Column("recipe", "recipe"),
            Column("bytes", "file", "count", "bytes"),
            Column("slack", "slack", "count", "bytes", note="slack: of the budget that is left."),
            Column("text", "text",
                   note="text: languages, and sentences that calibrate, search and confirm."),
            Column("instrument", "table by"),
            Column("rank", "rank", "number", decimals=2,
                   note="rank: lowest over languages of the rank correlation of the table's sums "
                   "with the measured damage of random plans; under .8 it is not trusted."),
            Column("gap", "gap", "number", "%", 100.0, decimals=2,
                   note="gap: by how much of it the objective may be above the best by the table."),
            Column("most", "at most", "number", "%", 100.0, decimals=1,
                   note="at most: what knowing languages can gain on the language-blind plan by "
                   "the table, if nobody pays."),
            Column("foreseen", "shown from", "number", "%", 100.0, decimals=1,
                   note="shown from: smallest gain on the language-blind plan that the text was "
                   "expected to show of the plan that was found, taken or not."),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def theory_table(record: Json) -> Table:
    """Returns a row a plan: which blocks it gives most bits, and how far the recipe agrees.

    Args:
        record: From :func:`record_of`.
    """
    bits: Mapping[str, Sequence[float]] = record["bits_by_block"]
    ours = bits[_RECIPE]
    gains = {one["rival"]["name"]: one for one in record["outcome"]["proof"]["against"]}
    rows = [
        (
            plan,
            _most_bits(of_block),
            None if plan == _RECIPE else _agreement(ours, of_block),
            spared(gains[plan]["gain"]) if plan in gains else Value(None),
        )
        for plan, of_block in bits.items()
    ]
    missing = [
        f"{one['name']}: {one['reason']}."
        for one in record["outcome"]["plans"] if not one["plan"]
    ]  # fmt: skip
    return Table(
        id="recipes-theory",
        title="What the theory would have chosen",
        columns=(
            Column("plan", "plan"),
            Column("blocks", "blocks of most bits",
                   note="Blocks with the mean bits of a code in their matrices."),
            Column("agreement", "agreement", "number", decimals=2, signed=True,
                   note="agreement: rank correlation over blocks with the recipe's bits; empty "
                   "where a plan gives all blocks the same."),
            Column("gain", "recipe spares the worst hit", "interval", "%", decimals=1,
                   signed=True),
        ),
        rows=tuple(rows),
        notes=tuple(missing),
    )  # fmt: skip


def _most_bits(of_block: Sequence[float]) -> str:
    if max(of_block) - min(of_block) < 1e-9:
        return f"all {of_block[0]:.1f}"
    order = sorted(range(len(of_block)), key=lambda block: (-of_block[block], block))
    return ", ".join(f"L{block} {of_block[block]:.1f}" for block in order[:_BLOCKS_TOLD])


def _agreement(ours: Sequence[float], other: Sequence[float]) -> float | None:
    # Means of the same bits may differ by rounding.
    return rank_correlation(np.round(ours, 9), np.round(other, 9))


def _section(record: Json) -> list[str]:
    found, asked = record["outcome"], record["question"]
    said = " ".join(answer.short for answer in recipe_answers(found))
    tables = (proof_table(found), theory_table(record), recipe_languages_table(found))
    return [
        f"## {name_of(record)}",
        f"Made by `{asked['command']}`.",
        said,
        *found["notes"],
        *(to_markdown(table, level=3) for table in tables if table.rows),
        to_markdown(replace(steps_table(found), title="What the steps took"), level=3),
    ]
