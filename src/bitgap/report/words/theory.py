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
    question = "Why L0, the block at three quarters, and the last?"
    # Of the models that the answer is of: exploratory ones only where there are no others.
    named = result.get("later") or result["forecasts"]
    rows = {
        r["objective"]: r
        for r in named["summary"]
        if r["who"] == "origin" and r["kind"] == "config"
    }
    details = [_hits(r, name) for name, r in rows.items() if r["families"]]
    if result["pillars"]:
        details.append(pillar_sentence(result["pillars"]))
    found = result.get("answer")
    if not found:
        return Answer("why", question, _headline(rows), tuple(details))
    first, *others = answer_sentences(found)
    return Answer("why", question, first, (*others, *details))


# -- the answer -----------------------------------------------------------------------------------


def answer_sentences(found: Json) -> tuple[str, ...]:
    """Returns why these blocks, as far as some models say, each sentence with its scope.

    Args:
        found: As :class:`bitgap.theory.records.Answer` has it.
    """
    facts = {(f["objective"], f["what"], f["place"]): f for f in found["places"]}
    by = [[f for key, f in facts.items() if key[0] == name] for name in ("damage", "spread")]
    if not all(by):
        return (
            f"Too few families to say whether these blocks are special ({scope_words(found)}).",
        )
    scope = scope_words(found)
    return (
        f"For damage: {_damage_words(by[0])} ({scope}).",
        f"For the gap S, the spread of log2 damage per token over languages: "
        f"{_spread_words(by[1])} ({scope}).",
        f"Why it is so: {_mechanism(found['hypotheses'])} ({scope}).",
    )


def scope_words(found: Json) -> str:
    """Returns what models something is said of, in words."""
    scope = found["scope"]
    least, most = scope["parameters_least"], scope["parameters_most"]
    size = "of unknown size" if least is None else f"of {_size(least, most)} parameters"
    blocks = joined([str(n) for n in scope["blocks"]])
    corpora = len(scope["corpora"])
    texts = "one corpus" if corpora == 1 else f"{corpora} corpora"
    told_texts = f", {texts}" if corpora else ""
    return (
        f"in {_counted_as(scope['models'], 'model')} of "
        f"{_counted_as(scope['families'], 'family', 'families')} {size}, {blocks} blocks"
        f"{told_texts}"
    )


def _size(least: int, most: int) -> str:
    low, high = (f"{n / 1e6:.3g}" for n in (least, most))
    return f"{low} million" if low == high else f"{low} to {high} million"


def _counted_as(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _interval(fact: Json, scale: float = 1.0, form: str = ".0f", signed: bool = False) -> str:
    sign = "+" if signed else ""
    value, low, high = (format(scale * fact[name], f"{sign}{form}") for name in
                        ("value", "low", "high"))  # fmt: skip
    return f"{value} [{low}, {high}]"


def _compared(fact: Json, more: str, less: str, neither: str) -> str:
    """Returns which side of what an ordinary block has an interval lies on, in the words given."""
    if fact["low"] > fact["null"]:
        return more
    return less if fact["high"] < fact["null"] else neither


def _damage_words(facts: Sequence[Json]) -> str:
    shares = [f for f in facts if f["what"].startswith("share of the damage that single")]
    each = [
        f"{f['place']} {_interval(f, 100)} % "
        f"({_compared(f, 'more than its share', 'less than its share', 'about its share')})"
        for f in shares
    ]
    said = (
        f"of what single blocks do, {joined(each)}, where an ordinary one does "
        f"{100 * shares[0]['null']:.0f} %"
    )
    for f in facts:
        if f["what"].startswith("share of all damage that protecting them"):
            said += f"; protecting the three saves {_interval(f, 100)} % of all damage"
        if f["what"].startswith("share of other triples"):
            said += f"; {_interval(f, 100)} % of other triples leave less damage (50 is chance)"
    return said


def _spread_words(facts: Sequence[Json]) -> str:
    alone = [f for f in facts if f["what"].startswith("S with it alone")]
    each = [
        f"{f['place']} {_interval(f, 1, '.2f', signed=True)} "
        f"({_compared(f, 'more unequal', 'more equal', 'like others')})"
        for f in alone
    ]
    said = f"against the median block, alone rounded, {joined(each)} in log2"
    for f in facts:
        if f["what"].startswith("change of S"):
            way = _compared(f, "raises S", "lowers S", "moves S by no clear amount")
            said += f"; protecting the three {way}, {_interval(f, 1, '.3f', signed=True)} log2"
        if f["what"].startswith("share of other triples"):
            said += f"; {_interval(f, 100)} % of other triples leave a smaller S (50 is chance)"
    return said


def _mechanism(hypotheses: Sequence[Json]) -> str:
    by: dict[str, list[str]] = {}
    for one in hypotheses:
        by.setdefault(one["label"], []).append(one["hypothesis"])
    words = {
        "supported": "is established", "small": "is there but smaller than declared to matter",
        "refuted": "is ruled out", "inconclusive": "is open",
        "not testable": "could not be asked here",
    }  # fmt: skip
    said = [f"{joined(by[label])} {how if len(by[label]) == 1 else _plural(how)}"
            for label, how in words.items() if label in by]  # fmt: skip
    head = "" if "supported" in by else "no mechanism that was asked about is established; "
    return head + "; ".join(said)


def _plural(how: str) -> str:
    return how.replace("is ", "are ", 1)


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
    spreads = sorted(m["spread"] for m in models if m.get("spread") is not None)
    apart = (
        f"Languages lie {spreads[0]:.2f} to {spreads[-1]:.2f} log2 apart (S, one SD of log2 damage "
        f"per token), by model. " if spreads else ""
    )  # fmt: skip
    short = (
        f"{apart}In {len(more)} of {len(known)} models D, the mean log2 damage ratio per text, "
        f"comes out above 0, without intervals, which each model's report has."
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
