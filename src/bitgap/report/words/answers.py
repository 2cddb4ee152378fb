"""What a reader wants to know first, answered from a run's numbers alone.

Every sentence is chosen by the numbers, and none by what is expected: the same rules say "they are
not special here" of one model and would say the opposite of another. Nothing is judged here;
verdicts are quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bitgap.disparity.audit import SHARE_UNSETTLED
from bitgap.report.run import Run, audit_of, map_of
from bitgap.report.words.calibration import calibration_answers
from bitgap.report.words.phrases import (
    BEST,
    LABELS,
    Answer,
    among,
    joined,
    language_name,
    percent,
    times,
    verdict_answer,
)
from bitgap.report.words.protect import recipe_answers
from bitgap.report.words.runtimes import runtime_answer
from bitgap.report.words.theory import ledger_answers, theory_answers
from bitgap.show.numbers import lacks, told
from bitgap.show.words import beaten, origin_place
from bitgap.stats.mask_design import original_set
from bitgap.theory.hypotheses import HYPOTHESES

__all__ = ["Answer", "answers"]
Json = Mapping[str, Any]


# An average block is worth 1/L; twice that stands out.
_STANDS_OUT = 2.0


def answers(run: Run) -> tuple[Answer, ...]:
    """Returns the answers that a run can give, the most asked for first."""
    result = run.result
    if run.command == "theory":
        return theory_answers(result)
    if run.command == "replicate":
        return ledger_answers(result)
    if run.outcome is not None:
        return recipe_answers(result)
    if run.calibration is not None:
        return calibration_answers(result)
    found: list[Answer] = []
    layer_map, audit = map_of(run), audit_of(run)
    if layer_map and layer_map["blocks"]:
        found.append(_why(layer_map, result.get("findings", ())))
    # Where the weights were not read, the audit's own numbers are the runtime's.
    runtimes = result.get("runtimes") if result.get("contents") else None
    ran = runtime_answer(runtimes, audit) if runtimes and audit else None
    if ran is not None:
        found.append(ran)
    if audit:
        found.append(_languages(audit, "by its weights alone" if ran else ""))
    if layer_map and layer_map["blocks"]:
        found.append(_blocks(layer_map))
    if result.get("findings"):
        found.append(verdict_answer(result["findings"]))
    return tuple(found)


def _languages(audit: Json, by: str = "") -> Answer:
    rows, reference = audit["languages"], audit["reference"]
    counted = {c: r for c, r in rows.items() if not (r["collapsed"] or r["below_resolution"])}
    question = f"Which languages are hurt{f' {by}' if by else ''}, and how much?"
    details = [*_collapsed_line(rows), *_spread_lines(audit), _disparity_line(audit)]
    details += _gap_line(audit)
    details += _share_line(audit)
    known = {c: r for c, r in counted.items() if r["damage"] is not None}
    if len(known) < 2:
        return Answer("languages", question, "No two languages can be compared.", tuple(details))
    worst = max(known, key=lambda c: known[c]["damage"])
    best = min(known, key=lambda c: known[c]["damage"])
    short = (
        f"{language_name(worst)} is hurt most{_against(known[worst], worst, reference)}, "
        f"{language_name(best)} least{_against(known[best], best, reference)}."
    )
    by_share = {c: r for c, r in known.items() if r["learned_share"] is not None}
    if len(by_share) > 1:
        top = max(by_share, key=lambda c: by_share[c]["learned_share"])
        share = by_share[top]
        same = "also " if top == worst else ""
        details.insert(
            0,
            f"Counted as a share of what the model had learned, {language_name(top)} {same}comes "
            f"out highest: {percent(share['learned_share'], share['learned_share_ci'], 2)}.",
        )
    return Answer("languages", question, short, tuple(details))


def _against(row: Json, code: str, reference: str) -> str:
    if code == reference or row["log_ratio"] is None:
        return ""
    ratio, ends = 2 ** row["log_ratio"], row["log_ratio_ci"]
    shown = None if lacks(ends) else [2**end for end in ends]
    return f", {times(ratio, shown)} the damage of {language_name(reference)}"


def _collapsed_line(rows: Json) -> list[str]:
    gone = [language_name(c) for c, row in rows.items() if row["collapsed"]]
    faint = [language_name(c) for c, row in rows.items() if row["below_resolution"]]
    said = list[str]()
    if gone:
        said.append(f"Collapsed, no better than add-one unigrams: {', '.join(gone)}.")
    if faint:
        said.append(f"Damage below what can be resolved: {', '.join(faint)}.")
    return said


def _spread_lines(audit: Json) -> list[str]:
    """Returns S per token and per text, and who is above and below."""
    s = audit.get("S")
    if s is None:
        why = audit.get("S_reason", "this run was stored before it was formed")
        return [f"S, the spread of damage between languages, is undefined: {why}."]
    said = (
        f"S, the spread over languages of log2 damage per token, is "
        f"{told(s, audit['S_ci'], signed=False)}; for the same text, more tokens included, "
        f"{told(audit['S_per_text'], audit['S_per_text_ci'], signed=False)}."
    )
    sides = {"more": 1.0, "less": -1.0}
    clear = {
        side: [
            language_name(code)
            for code, row in audit["languages"].items()
            if not lacks(ends := row["log_from_mean_ci"])
            and (min(ends) if sign > 0 else -max(ends)) > 0
        ]
        for side, sign in sides.items()
    }
    each = [f"{joined(names)} {side}" for side, names in clear.items() if names]
    who = f"Per token clearly {joined(each)} than the languages' mean." if each else (
        "Per token no language is clearly off the languages' mean."
    )  # fmt: skip
    return [said, who]


def _disparity_line(audit: Json) -> str:
    d, ends = audit["D"], audit["D_ci"]
    reference = language_name(audit["reference"])
    if d is None:
        return f"D, the mean log2 damage ratio to {reference}, is undefined: {audit['D_reason']}."
    said = f"D, the mean log2 damage ratio to {reference}, is {told(d, ends)}"
    if audit.get("sign_depends_on_unit"):
        meaning = (
            f"per token it is {told(audit['D_per_token'], audit['D_per_token_ci'])}, so that "
            f"whether other languages lose more or less than {reference} is not established"
        )
    elif lacks(ends):
        meaning = "it has no interval"
    elif ends[0] <= 0 <= ends[1]:
        meaning = f"whether other languages lose more or less than {reference} is not settled"
    else:
        ratio = times(2**d, [2**end for end in ends])
        meaning = f"on average other languages lose {ratio} what {reference} loses"
    return f"{said}: {meaning}."


def _share_line(audit: Json) -> list[str]:
    """Returns D_share, with why nothing is concluded from it where it rests on few tokens."""
    if audit["D"] is None or audit["D_share"] is None:
        return []
    shown = told(audit["D_share"], audit["D_share_ci"])
    if audit.get("unigram_tokens") is not None:
        return [
            f"As a share of what was learned D is {shown}; what was learned is told by unigrams of "
            f"other text."
        ]
    return [f"As a share of what was learned D comes out at {shown}; {SHARE_UNSETTLED}."]


def _gap_line(audit: Json) -> list[str]:
    if audit["G"] is None:
        return []
    shown = told(audit["G"], audit["G_ci"])
    return [f"G, the gap on real text, is {shown} bits per English character."]


def _blocks(found: Json) -> Answer:
    rows, n = found["blocks"], found["n_blocks"]
    whole = sum(row["shapley_damage"] for row in rows)
    question = "Which blocks matter?"
    if not whole > 0:
        return Answer("blocks", question, "Rounding does no damage that could be shared out.", ())
    ranked = sorted(rows, key=lambda row: -row["shapley_damage"])
    loud = [row for row in ranked if row["shapley_damage"] / whole >= _STANDS_OUT / n]
    short = _stands_out(loud, ranked, whole, n)
    average = percent(1 / n)
    details = [
        f"Shares are Shapley values over {found['masks']:,} sets of protected blocks; an average "
        f"block has {average}."
    ]
    details += _evening_line(rows)
    return Answer("blocks", question, short, tuple(details))


def _stands_out(loud: Sequence[Json], ranked: Sequence[Json], whole: float, n: int) -> str:
    def share(row: Json) -> str:
        return percent(row["shapley_damage"] / whole, _over(row["shapley_damage_ci"], whole))

    if not loud:
        top = ranked[0]
        return f"None stands out; L{top['block']} carries most of the damage, {share(top)}."
    rest = ranked[len(loud) :]
    after = f"; next is L{rest[0]['block']} with {share(rest[0])}" if rest else ""
    if len(loud) == 1:
        return f"L{loud[0]['block']} stands out: it carries {share(loud[0])} of the damage{after}."
    each = joined([f"L{row['block']} ({share(row)})" for row in loud])
    return f"{each} stand out by what they carry of the damage{after}."


def _over(ends: Sequence[float | None], whole: float) -> list[float] | None:
    return None if lacks(ends) else [end / whole for end in ends if end is not None]


def _evening_line(rows: Sequence[Json]) -> list[str]:
    """Returns which blocks, kept whole alone, clearly even languages out, and which do not.

    What turns round between per token and per text is not established and counts as neither.
    """
    known = [r for r in rows if r.get("spread_fall") is not None]
    clear = [r for r in known if not lacks(r["spread_fall_ci"])]
    alike = [r for r in clear if r["spread_fall_established"]]
    better = [r["block"] for r in alike if r["spread_fall_ci"][0] > 0]
    worse = [r["block"] for r in alike if r["spread_fall_ci"][1] < 0]
    turned = [
        r["block"]
        for r in clear
        if r["spread_fall_established"] is False
        and (r["spread_fall_ci"][0] > 0 or r["spread_fall_ci"][1] < 0)
    ]
    if not clear:
        return ["What a block does to the spread between languages could not be told."]
    said = f"Keeping {_named(better)} alone clearly makes S smaller" if better else (
        "Keeping no single block alone clearly makes S smaller"
    )  # fmt: skip
    said += f"; keeping {_named(worse)} makes it larger" if worse else ""
    said += (
        f"; for {_named(turned)} it is not established, as S per text moves the other way"
        if turned
        else ""
    )
    return [f"{said}."]


def _named(blocks: Iterable[int]) -> str:
    return joined([f"L{block}" for block in blocks])


def _why(found: Json, findings: Iterable[Json]) -> Answer:
    blocks = found["original_set"]["blocks"] or original_set(found["n_blocks"])
    origin, details = found["original_set"], list[str]()
    short = f"{_for_damage(found, blocks)} {_for_gap(origin)}".strip()
    details += [line for line in (_rank_line(origin), _place_line(found)) if line]
    details += _mechanism_lines({f["hypothesis"]: f for f in findings})
    return Answer("why", f"Why {_named(blocks)}?", short, tuple(details))


def _standing(origin: Json) -> float | None:
    """Returns the share of sets of its size that do less damage; None where unknown."""
    beats, rank = origin.get("beats_damage"), origin.get("rank_damage")
    if beats is not None and origin["sets"] > 1:
        return 1 - beats
    return None if rank is None or origin["sets"] < 2 else rank / origin["sets"]


def _for_damage(found: Json, blocks: Sequence[int]) -> str:
    origin, standing = found["original_set"], _standing(found["original_set"])
    if standing is None:
        why = origin.get("reason", "its rank is undefined")
        said = f"This set cannot be ranked against all others of its size here: {why}."
        load = _load(found, blocks)
        return f"{said} Of the damage, {load}" if load else said
    if standing > BEST:
        return "They are not special for damage here."
    load = _load(found, blocks, " of it")
    if not load:
        return "They are a good choice for damage, though none of them carries much of it."
    return f"A good choice for damage, because {load}"


def _load(found: Json, blocks: Sequence[int], of: str = "") -> str:
    """Returns what the set carries of the damage, or nothing where no block of it stands out."""
    whole = sum(row["shapley_damage"] for row in found["blocks"])
    share = (
        {row["block"]: row["shapley_damage"] / whole for row in found["blocks"]} if whole else {}
    )
    loud = [block for block in blocks if share.get(block, 0.0) > 1.25 / found["n_blocks"]]
    quiet = [block for block in blocks if block not in loud]
    if not loud:
        return ""
    said = f"{_named(loud)} {_carry(loud)} {percent(sum(share[x] for x in loud))}{of}"
    if not quiet:
        return f"{said}."
    theirs = percent(sum(share[x] for x in quiet)) + (" together" if len(quiet) > 1 else "")
    own = "is an ordinary block" if len(quiet) == 1 else "are ordinary blocks"
    return f"{said}; {_named(quiet)} {own} ({theirs})."


def _carry(blocks: Sequence[int]) -> str:
    return "carries" if len(blocks) == 1 else "carry"


def _for_gap(origin: Json) -> str:
    """Returns how the set stands by S, the spread between languages."""
    token, text = origin.get("beats_spread"), origin.get("beats_spread_per_text")
    if token is None or text is None:
        return ""
    low, high = origin["beats_spread_ci"]
    if (token > 0.5) != (text > 0.5):
        return (
            "Whether they leave languages more even than other sets is not established: per token "
            "and per text they come out on different sides of chance."
        )
    if lacks((low, high)) or low <= 0.5 <= high:
        return "By the spread between languages they are a set like any other."
    if token > 0.5:
        best = "a good choice" if token >= 1 - BEST else "better than most"
        return f"By the spread between languages they are {best} as well."
    more = beaten(origin, "beats_spread", against=True)
    return f"They leave more inequality between languages than {more} of the sets of their size."


def _rank_line(origin: Json) -> str:
    """Returns where the set stands by damage and by S, with intervals."""
    if origin.get("rank_damage") is None and origin.get("beats_damage") is None:
        return ""
    if origin.get("beats_damage") is not None:
        name = "{" + ", ".join(map(str, origin["blocks"])) + "}"
        return f"{name} {origin_place(origin)}."
    ends = origin["rank_damage_ci"]
    shown = "" if lacks(ends) else f" [{ends[0]:.0f}, {ends[1]:.0f}]"
    return (
        f"Of {origin['sets']} sets of that size it is number {origin['rank_damage']}{shown} by "
        f"least damage, where chance is {(origin['sets'] + 1) / 2:.0f}."
    )


def _place_line(found: Json) -> str:
    """Returns what the set's middle block is worth beside the others inside."""
    blocks, n = found["original_set"]["blocks"], found["n_blocks"]
    inside = [row for row in found["blocks"] if 0 < row["block"] < n - 1]
    if len(blocks) != 3 or len(inside) < 2:
        return ""
    middle = blocks[1]
    worth = {row["block"]: row["shapley_damage"] for row in inside}
    place = 1 + sum(value > worth[middle] for value in worth.values())
    whole = sum(row["shapley_damage"] for row in found["blocks"])
    ends = [found["blocks"][0]["shapley_damage"], found["blocks"][n - 1]["shapley_damage"]]
    if not whole > 0:
        return ""
    return (
        f"L0 and L{n - 1} carry {percent(ends[0] / whole)} and {percent(ends[1] / whole)} of the "
        f"damage; L{middle} carries {percent(worth[middle] / whole)}, {among(place)} of the "
        f"{len(inside)} blocks between."
    )


def _mechanism_lines(findings: Mapping[str, Json]) -> list[str]:
    """Returns the explanations that were offered, by what became of them."""
    by_label: dict[str, list[str]] = {}
    for name, record in HYPOTHESES.items():
        if record.explains_triple and name in findings:
            label = findings[name]["verdict"]["label"]
            parts = [one["label"] for one in findings[name]["verdict"].get("parts") or ()]
            same = parts.count(label)
            some = f", {same} of {len(parts)} parts" if 0 < same < len(parts) else ""
            by_label.setdefault(label, []).append(f"{record.claim} ({name}{some})")
    lines = [
        f"{label.capitalize()}: {'; '.join(by_label[label])}."
        for label in LABELS
        if label in by_label
    ]
    if lines and "supported" not in by_label:
        lines.insert(0, "None of the reasons offered for them is supported on this model.")
    return lines
