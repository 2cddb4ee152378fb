"""Results as tables of at most 80 columns.

Each ``*_view`` takes the JSON result of a verb and returns what to show, so a table never says
anything that ``--json`` does not, but for what is withdrawn (:mod:`bitgap.show.withdrawn`). Every
measured number stands beside its interval, or the reason why it has none is told below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bitgap.show.numbers import (
    MISSING,
    Columns,
    Notes,
    Unit,
    aligned,
    bullets,
    grid,
    layer_list,
    told,
)
from bitgap.show.withdrawn import withdrawal
from bitgap.show.words import count, duration, sharing, size

Json = Mapping[str, Any]


_STYLES = {"supported": "green", "refuted": "red", "inconclusive": "yellow", "not testable": "dim"}


_FLAGS = {
    "collapsed": ("*", "collapsed: no better than add-one unigrams"),
    "below_resolution": ("°", "below resolution: under ten times the numerical floor"),
}


_MODEL_WIDTH = 22


def spaced(*parts: Any) -> Group:
    """Returns parts one below the other with an empty line between."""
    return Group(*(Padding(part, (0, 0, 1 if i < len(parts) else 0, 0))
                   for i, part in enumerate(parts, start=1)))  # fmt: skip


def preflight_view(result: Json) -> Any:
    """Shows ``--dry-run``."""
    cost = result["preflight"]
    new = cost["plans"] - cost["plans_in_store"]
    return grid(
        (
            ("plans", f"{new} to score of {cost['plans']}"),
            ("blocks", f"{cost['block_evaluations']} to run ({sharing(cost)})"),
            ("heads", f"{cost['head_evaluations']} to run"),
            ("text", count(cost["token_rows"], "token row")),
            ("time", f"about {duration(cost['time_s'])}"),
            ("memory", f"about {size(cost['memory_bytes'])} beside the model"),
        )
    )


def audit_view(result: Json) -> Any:
    """Shows damage by language, and what sums it up."""
    rows, reference = result["languages"], result["reference"]
    unit, notes = Unit.of(row["damage"] for row in rows.values()), Notes()
    tables = _damage_table(rows, unit, notes), _ratio_table(rows, reference, notes)
    flags = [
        f"{mark} {said}"
        for name, (mark, said) in _FLAGS.items()
        if any(row[name] for row in rows.values())
    ]
    legend = [
        f"K: damage. Δ: change of NLL. {unit.note}. K/M: damage as a share of what the model had "
        f"learned. 95 %: interval over sentences.",
        f"K/K_{reference}, in log2, is the sum of the two beside it: damage to a token, and the "
        f"premium, tokens for the same sentences.",
        *flags,
        *notes.lines(),
    ]
    return spaced(
        _head(result),
        *tables,
        Group(*bullets(legend)),
        _summary(result, unit),
        Group(*bullets(result["caveats"])),
    )


def _head(result: Json) -> Group:
    said = f"{result['corpus']}, {count(result['sentences'], 'sentence')}"
    if result.get("sentences_dropped"):
        said += f" ({result['sentences_dropped']} too long for the model left out)"
    for code, why in (result.get("languages_unreadable") or {}).items():
        said += f" (without {code}: {why})"
    said += f", {result['arithmetic']} arithmetic"
    if "floor_bits" in result:
        said += f", numerical floor {result['floor_bits']:.1e} bits a token"
    title = Text(f"{result['model']}: {result['plan']}", style="bold")
    return Group(title, Text(said, style="dim"))


def _damage_table(rows: Mapping[str, Json], unit: Unit, notes: Notes) -> Table:
    table = Columns("language", [code + _marks(row) for code, row in rows.items()])
    for header, name, ends, factor in (
        ("K, " + unit.name, "damage", "ci", unit.factor),
        ("Δ, " + unit.name, "delta", "delta_ci", unit.factor),
        ("K/M, %", "learned_share", "learned_share_ci", 100.0),
    ):
        table.measure(header, rows.values(), name, ends, factor, signed=name == "delta")
        notes.gather(header.split(",")[0], rows, name, ends)
    table.add("tokens", [str(row["tokens"]) for row in rows.values()])
    return table.render()


def _ratio_table(rows: Mapping[str, Json], reference: str, notes: Notes) -> Table:
    others = {code: row for code, row in rows.items() if code != reference}
    table = Columns("language", [code + _marks(row) for code, row in others.items()])
    for header, name in (
        (f"K/K_{reference}", "log_ratio"),
        ("per token", "log_ratio_per_token"),
        ("premium", "log_token_premium"),
    ):
        table.measure(header, others.values(), name, f"{name}_ci", signed=True, decimals=2)
        notes.gather(header, others, name, f"{name}_ci")
    return table.render()


def _marks(row: Json) -> str:
    return "".join(mark for name, (mark, _) in _FLAGS.items() if row[name])


def _summary(result: Json, unit: Unit) -> Table:
    parts, harm = result["decomposition"], result["H"]
    rows, last = [], None
    for label, values, name, factor, meaning in (
        ("D", result, "D", 1.0, "mean log2 damage ratio to the reference"),
        ("  per token", parts, "kl_per_token", 1.0, "its part from damage to a token"),
        ("  premium", parts, "token_premium", 1.0, "its part from needing more tokens"),
        ("D_share", result, "D_share", 1.0, "the same of K/M"),
        ("G, " + unit.name, result, "G", unit.factor, "gap: mean Δ less the reference's"),
        ("H, " + unit.name, harm, "mean", unit.factor, "harm: mean Δ over languages"),
        ("  largest", harm, "max", unit.factor, "Δ of the language worst off"),
        ("D_seed", result, "D_seed", 1.0, "the origin's perplexity ratio"),
    ):
        reason = values[f"{name}_reason"]
        number = told(values[name], values[f"{name}_ci"], factor)
        why = "for the same reason" if reason and reason == last else reason
        rows.append((label, number, f"{meaning}; {why}" if why else meaning))
        last = reason
    return grid(rows)


def map_view(result: Json) -> Any:
    """Shows what each layer contributes, and the best sets."""
    rows = result["layers"]
    unit = Unit.of(row["shapley_damage"] for row in rows)
    names, gaps = [f"L{row['layer']}" for row in rows], []
    whole, alone = Columns("layer", names), Columns("layer", names)
    for table, header, name, factor in (
        (whole, "φ K, " + unit.name, "shapley_damage", unit.factor),
        (whole, "φ G, " + unit.name, "shapley_gap", unit.factor),
        (whole, "φ |D|", "shapley_disparity", 1.0),
        (alone, "K alone, " + unit.name, "single_damage", unit.factor),
        (alone, "K kept, " + unit.name, "protected_damage", unit.factor),
        (alone, "D kept", "protected_disparity", 1.0),
    ):
        signed = header[0] in "φD"
        table.measure(header, rows, name, f"{name}_ci", factor, signed=signed)
        if any(None in (row[name], *row[f"{name}_ci"]) for row in rows):
            gaps.append(header.split(",")[0])
    over = "all sets" if result["all_masks"] else "a sample of sets"
    legend = [
        f"φ: Shapley value over {over}: how much keeping the layer whole lowers K, G and |D|. "
        f"K is the mean over languages. {unit.note}; D in log2 ratio.",
        "alone: only this layer is rounded. kept: only this layer is kept whole. 95 %: interval "
        "over sentences.",
    ]
    if gaps:
        legend.append(
            f"{MISSING} under {', '.join(gaps)}: under some of the masks behind it the reference "
            f"or every other language is collapsed or below resolution."
        )
    return spaced(
        Group(_head(result), _nothing_kept(result, unit)),
        whole.render(),
        alone.render(),
        Group(*bullets(legend)),
        _best_sets(result["best_sets"], unit),
        Group(*bullets([_origin_line(result["origin_set"]), *result["caveats"]])),
    )


def _nothing_kept(result: Json, unit: Unit) -> Text:
    base = result["unprotected"]
    damage = told(base["damage"], base["damage_ci"], unit.factor, signed=False)
    disparity = told(base["disparity"], base["disparity_ci"])
    masks = count(result["masks"], "mask")
    return Text(f"{masks} scored; with nothing kept K {damage} {unit.name}, D {disparity}")


def _best_sets(rows: Sequence[Json], unit: Unit) -> Any:
    if not rows:
        return Text("One block: no set to choose.")
    least = [row["least_damage"] for row in rows]
    even = [row["least_disparity"] or {} for row in rows]
    table = Columns("size", [str(row["size"]) for row in rows])
    table.add("of", [str(row["sets"]) for row in rows])
    table.add("least K", [layer_list(one["layers"]) for one in least], left=True)
    table.add("K, " + unit.name, aligned([one["damage"] for one in least], unit.factor))
    fair = [layer_list(one["layers"]) if one else "none" for one in even]
    table.add("least |D|, nobody worse off", fair, left=True)
    table.add("D", aligned([one.get("disparity") for one in even], signed=True))
    said = ["No intervals: a best of many sets, chosen on these very sentences, flatters itself."]
    if "none" in fair:
        said.append("none: every such set harms somebody, or leaves D without a value.")
    return Group(Text("Best sets to keep whole", style="bold"), table.render(), *bullets(said))


def _origin_line(origin: Json) -> str:
    layers = layer_list(origin["layers"])
    if origin["rank_damage"] is None:
        return f"The origin's set {layers}: no rank, {origin.get('reason', 'it is undefined')}."

    def rank(name: str) -> str:
        low, high = origin[f"rank_{name}_ci"]
        ends = "" if low is None or high is None else f" [{low:.0f}, {high:.0f}]"
        return f"{origin[f'rank_{name}']}{ends}"

    said = f"rank {rank('damage')} of {origin['sets']} by least damage"
    if origin["rank_disparity"] is not None:
        said += f", {rank('disparity')} by least |D| per text, which is no answer for the gap"
    return f"The origin's set {layers}: {said}."


def investigation_view(result: Json) -> Any:
    """Shows the audit, the map and the verdicts."""
    names = ("model", "corpus", "arithmetic", "languages_unreadable")
    shared = {name: result.get(name) for name in names}
    audit, layers = result["audit"], result["map"]
    head = Text(f"Operating point {result['operating_point']}, tier {result['tier']}", style="bold")
    tried = result["collapsed_below"].items()
    return spaced(
        Group(head, *bullets(f"{s}: {', '.join(codes)} collapsed" for s, codes in tried)),
        audit_view(shared | {"sentences": audit["n_sentences"]} | audit),
        map_view(shared | {"plan": f"map at {layers['scheme']}"} | layers),
        Group(*verdicts(result["findings"])),
        _links(result["links"]),
        verdict_table(result["findings"]),
        _work_line(result["work"]),
    )


def _links(rows: Sequence[Json]) -> Any:
    if not rows:
        return Text("No experiment has a profile to compare with what protecting a block is worth.")
    games = {"disparity": "less |D|", "damage": "less K"}
    lines = [
        f"{row['experiment']} {row['title'].lower()}, with {games[row['game']]}: "
        + (told(row["r"], row["r_ci"]) if row["r"] is not None else f"none, {row['r_reason']}")
        for row in rows
    ]
    title = "Does protecting the blocks that stand out help? (r over blocks, exploratory)"
    return Group(Text(title, style="bold"), *bullets(lines))


def verdict_table(findings: Iterable[Json]) -> Any:
    """Shows every hypothesis with its verdict, effect, interval and p, a row each."""
    rows = list(findings)
    if not rows:
        return Text("No experiment was run.")
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("hypothesis", "verdict", "effect", "p", "Holm p", "least p"):
        table.add_column(name, justify="right" if name.endswith("p") else "left")
    for row in rows:
        verdict, primary = row["verdict"], row["estimates"][row["primary"]]
        label = Text(verdict["label"], style=_STYLES.get(verdict["label"], ""))
        effect = told(primary["value"], (primary["low"], primary["high"]))
        ps = (verdict[key] for key in ("p", "p_holm", "p_minimum"))
        shown = (MISSING if p is None else f"{p:.3g}" for p in ps)
        table.add_row(row["hypothesis"], label, effect, *shown)
    said = [
        "effect: each hypothesis' own statistic, with its unit above; p one-sided, Holm over the "
        "hypotheses that have one, least: the smallest p this design can reach."
    ]
    return Group(Text("Verdicts", style="bold"), table, *bullets(said))


def _work_line(work: Json) -> Text:
    needed, alone = work["block_evaluations"], work["block_evaluations_without_sharing"]
    return Text(
        f"{count(needed, 'block evaluation')} of the whole text, {alone} had nothing been shared "
        f"({sharing(work)}); {work['head_evaluations']} heads, "
        f"{work['head_evaluations_without_sharing']} without."
    )


def verdicts(findings: Iterable[Json]) -> list[Any]:
    """Returns what was found of each hypothesis, with every estimate and control."""
    out: list[Any] = []
    for finding in findings:
        verdict = finding["verdict"]
        line = Text(f"{finding['experiment']} {finding['hypothesis']} {finding['title']}: ")
        line.append(verdict["label"], style=_STYLES.get(verdict["label"], ""))
        ps = [
            f"{name} {verdict[key]:.3g}"
            for name, key in (("p", "p"), ("Holm p", "p_holm"), ("smallest p", "p_minimum"))
            if verdict[key] is not None
        ]
        body = [
            Text(finding["sentence"]),
            Text(verdict["reason"] + (f"; {', '.join(ps)}" if ps else ""), style="dim"),
            *bullets(filter(None, [withdrawal(finding)])),
            *bullets(_estimate(name, one) for name, one in finding["estimates"].items()),
            *bullets(map(_control, finding["controls"])),
        ]
        out += [line, Padding(Group(*body), (0, 0, 1, 2))]
    return out


def _estimate(name: str, estimate: Json) -> str:
    label, ends = name.replace("_", " "), (estimate["low"], estimate["high"])
    if estimate["value"] is None:
        return f"{label}: none, {estimate['reason']}"
    said = f"{label} {told(estimate['value'], ends)} {estimate['unit']}"
    return f"{said} (no interval: {estimate['reason']})" if None in ends else said


def _control(control: Json) -> str:
    mark = {True: "held", False: "FAILED", None: "not run"}[control["passed"]]
    said = f"{control['kind']} control {control['name']}: {mark}"
    return said if control["passed"] else f"{said} ({control['detail']})"


def list_view(result: Json) -> Any:
    """Shows the catalog."""
    rows = result["experiments"]
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("id", "hypothesis", "what", "phase", "value", "blocks", "heads"):
        table.add_column(name, justify="right" if name in ("blocks", "heads") else "left")
    for row in rows:
        costs = (row["block_evaluations"], row["head_evaluations"])
        cells = (row["id"], row["hypothesis"], row["title"], str(row["phase"]), row["value"])
        table.add_row(*cells, *map(str, costs))
    said = ["blocks, heads: passes of the text through one block, or the head, sharing aside."]
    model = result["model"] or "the bundled model"
    title = Text(f"Experiments on {model}, {count(result['n_blocks'], 'block')}", style="bold")
    return Group(title, table, *bullets(said))


def show_view(result: Json) -> Any:
    """Shows one experiment."""
    title = Text(f"{result['id']} · {result['hypothesis']} · {result['title']}", style="bold")
    method = result["method"]
    # A docstring's own line ends fit the source, not the terminal.
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", method.strip())]
    facts = [f"phase {result['phase']}: {result['phase_name']}; value {result['value']}"]
    if result["block_evaluations"] is not None:
        blocks = count(result["block_evaluations"], "block")
        facts.append(f"cost: {blocks}, {count(result['head_evaluations'], 'head')}")
    facts += [f"{name} = {value}" for name, value in result["parameters"].items()]
    declared = ", ".join(f"{name} {value}" for name, value in result["declared"].items())
    return spaced(
        Group(title, Text(result["question"])),
        *map(Text, paragraphs),
        Group(
            *map(Text, facts),
            Text(f"declared ({result['thresholds_hash']}): {declared}", style="dim"),
        ),
    )


def results_view(result: Json) -> Any:
    """Shows what a store holds."""
    runs, texts = result["runs"], result["texts"]
    table = Columns("run", [str(run["run"]) for run in runs])
    table.add("command", [run["command"] for run in runs], left=True)
    table.add("model", [_tail(str(run["model"])) for run in runs], left=True)
    table.add("plan", [str(run["plan"]) for run in runs], left=True)
    started = [run["provenance"]["started"][:16].replace("T", " ") for run in runs]
    table.add("started, UTC", started, left=True)
    table.add("took", [duration(run["provenance"]["wall_s"]) for run in runs])
    plans = count(sum(text["plans"] for text in texts), "plan")
    held = f"{plans} scored on {count(len(texts), 'text')}"
    parts: list[Any] = [
        Group(Text(result["store"], style="bold"), Text(held, style="dim")),
        table.render() if runs else Text("No run was finished yet."),
    ]
    for run in runs:
        if run["findings"]:
            changed = ", thresholds changed since" if run["thresholds_changed"] else ""
            title = Text(f"Run {run['run']}, judged again{changed}:", style="bold")
            parts.append(Group(title, *verdicts(run["findings"])))
    return spaced(*parts)


def _tail(name: str) -> str:
    return name if len(name) <= _MODEL_WIDTH else "…" + name[1 - _MODEL_WIDTH :]
