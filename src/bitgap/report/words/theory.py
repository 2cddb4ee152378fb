"""The first answers of runs over model families, and of the origin's claims replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.report.words.phrases import Answer, joined, percent, verdict_answer
from bitgap.show.numbers import short_name, told
from bitgap.show.withdrawn import caveat_of

Json = Mapping[str, Any]

_PLURAL = {"holds": "hold", "fails": "fail", "unclear": "are unclear", "undefined": "are undefined",
           "cannot be tested here": "cannot be tested here"}  # fmt: skip


def theory_answers(result: Json) -> tuple[Answer, ...]:
    """Returns what a theory run says first."""
    return (
        _why(result),
        _languages(result["models"]),
        _blocks(result),
        verdict_answer(result["findings"]),
    )


def _why(result: Json) -> Answer:
    rows = {
        r["objective"]: r
        for r in result["forecasts"]["summary"]
        if r["who"] == "origin" and r["kind"] == "config"
    }
    details = [_hits(r, name) for name, r in rows.items() if r["families"]]
    if result["pillars"]:
        details.append(pillar_sentence(result["pillars"]))
    return Answer("why", "Why L0, the block at three quarters, and the last?",
                  _headline(rows), tuple(details))  # fmt: skip


def _headline(rows: Mapping[str, Json]) -> str:
    damage = rows.get("damage")
    if not damage or not damage["families"]:
        return "Too few families to say whether they are special."
    said = f"For damage they are {_place(damage)}"
    spread = rows.get("spread")
    if not spread or not spread["families"]:
        return f"{said}; by the spread between languages, S, these runs do not place them."
    return f"{said}; by the spread between languages, S, they are {_place(spread)}."


def _place(row: Json) -> str:
    """Returns whether a triple is among the best, and else on which side of chance it is."""
    if row["success"]:
        return "among the best triples in most families"
    mean = row["mean_percentile"]
    if mean is None or mean <= 0.5:
        return "not among the best triples in most families"
    return (
        f"worse than most triples: at percentile {100 * mean:.0f} on average, where 0 is the best "
        f"and 50 is chance"
    )


def _hits(row: Json, objective: str) -> str:
    by = {"damage": "least damage", "spread": "least S, the spread between languages"}.get(
        objective, "least |D|, in which languages cancel"
    )
    chance = " (50 is chance)" if row["mean_percentile"] else ""
    return f"By {by} the triple is {best_tenth(row)}{chance}."


def best_tenth(row: Json) -> str:
    """Returns in how many families a triple is among the best tenth, and where on average."""
    mean = row["mean_percentile"]
    place = "" if mean is None else f", on average at percentile {100 * mean:.0f}"
    return f"in the best tenth in {row['successes']} of {row['families']} families{place}"


def pillar_sentence(rows: Sequence[Json]) -> str:
    """Returns which of the theory's pillars are held, fallen or open."""
    states = [f"{row['pillar'].split(':')[0]} {row['state']}" for row in rows]
    return f"Of the theory's pillars: {joined(states)}."


def _languages(models: Sequence[Json]) -> Answer:
    known = [m for m in models if m["disparity"] is not None]
    question = "Are other languages hurt more than the reference?"
    if not known:
        return Answer("languages", question, "No model has a disparity that counts.", ())
    more = [m for m in known if m["disparity"] > 0]
    short = (
        f"In {len(more)} of {len(known)} models D, the mean log2 damage ratio, comes out above 0, "
        f"on the layer map's few sentences and without intervals, which each model's report has."
    )
    each = [f"{short_name(m['model'])} {m['disparity']:+.2f}" for m in known]
    none = [short_name(m["model"]) for m in models if m["disparity"] is None]
    details = [f"D by model: {', '.join(each)}."]
    if none:
        details.append(
            f"Without a D that counts, as under some plan too few languages do: {joined(none)}."
        )
    return Answer("languages", question, short, tuple(details))


def _blocks(result: Json) -> Answer:
    said = [suggestion(r) for r in result["outcomes"]["suggested"]]
    question = "Which blocks matter?"
    models = result["models"]
    first = [m["damage_by_block"][0] / sum(m["damage_by_block"]) for m in models
             if sum(m["damage_by_block"]) > 0]  # fmt: skip
    if not first:
        return Answer("blocks", question, "No damage could be shared out.", tuple(said))
    short = (
        f"The first block takes {percent(min(first))} to {percent(max(first))} of the damage that "
        f"single blocks do, by model."
    )
    return Answer("blocks", question, short, tuple(said))


def suggestion(row: Json) -> str:
    """Returns what the data suggest instead, with its interval and what chance would give."""
    head = row["hypothesis"][:1].upper() + row["hypothesis"][1:]
    shown = told(row["value"], (row["low"], row["high"]), signed=row["null"] == 0)
    said = (
        f"{head}: {row['unit']} {shown} over {row['families']} families "
        f"({row['null']:.2g} if nothing were there)."
    )
    return f"{said} {caveat_of(row)} Exploratory.".replace("  ", " ")


def ledger_answers(result: Json) -> tuple[Answer, ...]:
    """Returns what became of the origin's claims."""
    counts = result["counts"]
    asked = {"exact": "on the origin's own weights", "in kind": "in the origin's measure",
             "ours": "in our measure"}  # fmt: skip
    lines = [
        f"{(asked.get(kind) or kind).capitalize()}: "
        + ", ".join(_counted(found)) + "."
        for kind, found in counts.items()
    ]  # fmt: skip
    kind, found = list(counts.items())[-1]
    whole = sum(found.values())
    short = f"Of {whole} claims, {asked.get(kind, kind)}: " + joined(_counted(found))
    return (Answer("why", "What is left of the origin's claims?", f"{short}.", tuple(lines)),)


def _counted(found: Mapping[str, int]) -> list[str]:
    return [f"{n} {_PLURAL.get(name, name) if n > 1 else name}" for name, n in found.items() if n]
