"""What each verb prints: its tables, and the lines between them, in at most 80 columns.

Each ``*_view`` takes the JSON result of a verb and returns what to show, so that nothing is
printed which ``--json`` does not have, but for what is withdrawn (:mod:`bitgap.show.withdrawn`).
Every measured number stands beside its interval, or the reason why it has none is told below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from bitgap.show.numbers import MISSING, block_list, plan_name, short_name, told
from bitgap.show.tables.audit import damage_table, flips_table, summary_rows
from bitgap.show.tables.calibration import answer_rows, calibration_table, gains_table
from bitgap.show.tables.contents import contents_line, places_table, tensors_table
from bitgap.show.tables.file_map import part_languages_table, parts_table
from bitgap.show.tables.findings import OUTCOMES, verdict_table
from bitgap.show.tables.gate import gate_table
from bitgap.show.tables.layer_map import best_sets_table, map_table, map_unit
from bitgap.show.tables.origin import outcome_table
from bitgap.show.tables.plan import preflights_table, priority_table
from bitgap.show.tables.protect import (
    frontier_table,
    proof_table,
    recipe_languages_table,
    recipe_table,
)
from bitgap.show.tables.runs import (
    catalog_table,
    change_table,
    damages_table,
    disparities_table,
    files_table,
    runs_table,
    verdicts_table,
)
from bitgap.show.tables.runtimes import generation_table, runtime_failures, runtime_tables
from bitgap.show.tables.theory import (
    QUANTITIES,
    forecasts_table,
    ladder_table,
    models_table,
    pillars_table,
    regression_table,
)
from bitgap.show.tables.unit_map import unit_languages_table, unit_table
from bitgap.show.to_terminal import (
    bullets,
    label,
    lines_of,
    section,
    spaced,
    titled,
    to_terminal,
)
from bitgap.show.withdrawn import (
    caveat_of,
    withdrawal,
)
from bitgap.show.words import (
    MORE,
    count,
    duration,
    each_once,
    equivalence_words,
    origin_place,
    part_lines,
    sharing,
    size,
)

Json = Mapping[str, Any]


def preflight_view(result: Json) -> Any:
    """Shows ``--dry-run``."""
    cost = result["preflight"]
    new = cost["plans"] - cost["plans_in_store"]
    return lines_of(
        (
            ("plans", f"{new} to score of {cost['plans']}"),
            ("blocks", f"{cost['block_evaluations']} to run ({sharing(cost)})"),
            ("heads", f"{cost['head_evaluations']} to run"),
            ("text", count(cost["token_rows"], "token row")),
            *([("workers", str(n))] if (n := cost.get("workers", 1)) > 1 else []),
            *([("chosen", why)] if (why := cost.get("chosen")) else []),
            (
                "time",
                f"about {duration(cost['time_s'])}"
                f"{f' for scoring; {MORE}' if cost.get('of_scoring') else ''}",
            ),
            ("memory", f"about {size(cost['memory_bytes'])} beside the model"),
            # Only where the model is larger than that, and is walked block by block.
            *([("weights", f"{size(read)} to read")] if (read := cost.get("read_bytes")) else []),
            *([("disk", f"{size(disk)} of states")] if (disk := cost.get("disk_bytes")) else []),
        )
    )


def repair_view(result: Json) -> Any:
    """Shows what a repair of a store kept."""
    rows = [(table, count(n, "row")) for table, n in result["kept"].items()]
    if result["whole"]:
        return lines_of((("store", f"{result['store']} is whole; nothing was changed"), *rows))
    lost = [f"{n} of {table}" for table, n in result["dropped"].items() if n]
    lost += [f"{table}: a part could not be read" for table in result["unreadable"]]
    return lines_of(
        (
            ("store", f"{result['store']} holds what is whole"),
            *rows,
            ("dropped", "; ".join(lost) or "nothing that could be read"),
            ("damaged", f"kept as {result['damaged']}"),
            ("go on", "the commands that measured what is gone measure it again"),
        )
    )


def preflights_view(result: Json) -> Any:
    """Shows ``--dry-run`` of several models."""
    return titled(preflights_table(result["preflights"]))


# -- one model ------------------------------------------------------------------------------------


def audit_view(result: Json) -> Any:
    """Shows damage by language, and what sums it up."""
    whole = damage_table(result)
    others = whole.where("log_ratio", lambda cell: cell is not None)
    ratios = ("log_ratio", "log_ratio_per_token", "log_token_premium")
    tokens = whole.only("language", "log_from_mean", "tokens")
    return spaced(
        _head(result),
        to_terminal(whole.only("language", "damage", "delta", "learned_share")),
        to_terminal(tokens),
        to_terminal(others.only("language", *ratios)),
        Group(*bullets((*whole.reading, *whole.gaps))),
        lines_of(summary_rows(result)),
        *([titled(flips_table(flips))] if (flips := result.get("flips")) else []),
        *_as_run(result),
        *([titled(places_table(held))] if (held := result.get("contents")) else []),
        Group(*bullets(result["caveats"])),
    )


def _as_run(result: Json) -> list[Any]:
    """Returns what a file does as it runs, and what it writes."""
    found: list[Any] = []
    if runtimes := result.get("runtimes"):
        known = result if result.get("contents") else None
        for table in runtime_tables(runtimes, known):
            here = {column.key for column in table.columns}
            groups = (("damage", "weights"), ("extra", "delta"), ("flips",))
            parts = [("language", *(key for key in group if key in here)) for group in groups]
            found.append(
                section(
                    table.title,
                    spaced(*(to_terminal(table.only(*keys)) for keys in parts)),
                    *bullets(table.reading),
                )
            )
        if failures := runtime_failures(runtimes):
            found.append(Group(*bullets(failures)))
    if written := result.get("generation"):
        table = generation_table(written)
        shown = [("agreement", "same"), ("repetition", "repetition_added", "script")]
        if written["identifier"]:
            shown.append(("confusion", "confusion_added", "confusion_text"))
        parts = [to_terminal(table.only("language", *keys)) for keys in shown]
        found.append(section(table.title, spaced(*parts), *bullets(table.reading)))
    return found


def gate_view(result: Json) -> Any:
    """Shows whether a plan may replace full precision."""
    return spaced(_head(result), titled(gate_table(result)), Text(f"gate: {result['gate']}"))


def contents_view(result: Json) -> Any:
    """Shows what a quantized file holds."""
    tensors = tensors_table(result)
    return spaced(
        section(result["file"], Text(contents_line(result))),
        to_terminal(places_table(result)),
        to_terminal(tensors.only("name", "stored", "bits", "share")),
        Group(*bullets(filter(None, [c.note for c in tensors.columns]))),
    )


def _head(result: Json) -> Group:
    text = f"{result['corpus']}, {count(result['sentences'], 'sentence')}"
    short = result.get("sentences_too_short") or 0
    if long := (result.get("sentences_dropped") or 0) - short:
        text += f" ({long} too long for the model left out)"
    if short:
        text += f" ({short} too short to be scored left out)"
    unreadable: Mapping[str, str] = result.get("languages_unreadable") or {}
    for code, why in unreadable.items():
        text += f" (without {code}: {why})"
    text += f", {result['arithmetic']} arithmetic"
    if "floor_bits" in result:
        text += f", numerical floor {result['floor_bits']:.1e} bits a token"
    if result.get("prefix"):  # runs stored before 2026-11-30 do not say
        text += f", {result['prefix']}"
    held = result.get("contents")
    return section(
        f"{result['model']}: {held['file'] if held else plan_name(result['plan'])}",
        Text(text, style="dim"),
    )


def map_view(result: Json) -> Any:
    """Shows what each block contributes, and the best sets."""
    whole, unit, base = map_table(result), map_unit(result), result["unprotected"]
    damage = told(base["damage"], base["damage_ci"], unit.factor, signed=False)
    spread = told(base.get("spread"), base.get("spread_ci"), signed=False)
    masks = count(result["masks"], "mask")
    nothing = Text(f"{masks} scored; with nothing kept K {damage} {unit.name}, S {spread}")
    sets = best_sets_table(result)
    return spaced(
        Group(_head(result), nothing),
        to_terminal(whole.only("block", "shapley_damage", "shapley_gap")),
        to_terminal(whole.only("block", "spread_fall", "spread_fall_per_text")),
        to_terminal(whole.only("block", "single_damage", "protected_damage")),
        to_terminal(whole.only("block", "single_spread", "protected_spread")),
        Group(*bullets(whole.reading)),
        titled(sets) if sets.rows else Text("One block: no set to choose."),
        Group(*bullets([_origin_line(result["original_set"]), *result["caveats"]])),
    )


def unit_map_view(result: Json) -> Any:
    """Shows which matrices hurt which languages."""
    return spaced(
        _head({**result, "plan": f"each matrix alone at {result['unit_scheme']}"}),
        titled(unit_table(result)),
        titled(unit_languages_table(result)),
    )


def calibration_view(result: Json) -> Any:
    """Shows which text should calibrate."""
    return spaced(
        _head({**result, "plan": f"calibrated by language at {result['calibration_scheme']}"}),
        lines_of(answer_rows(result)),
        titled(calibration_table(result)),
        titled(gains_table(result)),
    )


def protect_view(result: Json) -> Any:
    """Shows a recipe and its proof."""
    whole, languages, frontier = (
        proof_table(result), recipe_languages_table(result), frontier_table(result)
    )  # fmt: skip
    recipe = result["recipe"]
    asked = [
        ("file", f"{recipe['bytes']:,} of {recipe['budget_bytes']:,} bytes ({recipe['budget']})"),
        ("table", f"by {result['instrument']}, {_trust(result)}"),
        ("objective", f"{recipe['objective']}, {result['value']:.3f} of the uniform plan's; none "
         f"below {result['bound']:.3f} by the table (gap {result['gap']:.2%})"),
        ("seal", recipe["sealed"][:16]),
    ]  # fmt: skip
    if not result["has_choice"]:
        asked.append(("choice", "none: no other plan fits this budget"))
    if result["most"] is not None:
        most = result["most"]
        most_line = f"{1 - most['bound'] / most['blind']:.1%} if nobody pays"
        asked.append(("to gain", f"off the language-blind plan at most {most_line}"))
    return spaced(
        _head({**result, "plan": f"recipe of {result['budget_bits']:.2f} bits a weight"}),
        lines_of(asked),
        to_terminal(languages),
        Group(*bullets((*languages.reading, *languages.gaps))),
        to_terminal(whole.only("plan", "gain", "mean", "verdict")),
        Group(*bullets((*whole.reading, *whole.gaps))),
        titled(recipe_table(result)),
        titled(frontier) if frontier.rows else Text("No other budget was looked at."),
        Group(*bullets(result["notes"])),
    )


def _trust(result: Json) -> str:
    found = result["calibration"]
    if found is None:
        return "not needed"
    if found["trusted"]:
        return f"trusted after {found['n_plans']} measured plans"
    return f"not trusted ({found['reasons'][0]}), so {result['refined']} plans were measured"


def file_map_view(result: Json) -> Any:
    """Shows which parts of a file hurt which languages."""
    parts = parts_table(result)
    return spaced(
        _head({**result, "plan": f"parts of {result['file']}"}),
        section(
            parts.title,
            to_terminal(parts.only("part", "alone", "relief")),
            Text(),
            to_terminal(parts.only("part", "stored", "bits", "extra")),
            *bullets(parts.reading),
        ),
        titled(part_languages_table(result)),
    )


def _origin_line(origin: Json) -> str:
    said = origin_place(origin)
    return f"The origin's set {block_list(origin['blocks'])} {said}."


def investigation_view(result: Json) -> Any:
    """Shows the audit, the map and the verdicts."""
    names = ("model", "corpus", "arithmetic", "languages_unreadable", "prefix", "reference")
    shared = {name: result.get(name) for name in names}
    audit, layer_map = result["audit"], result["map"]
    tried = result["collapsed_below"].items()
    return spaced(
        section(
            f"Operating point {result['operating_point']}, tier {result['tier']}",
            *bullets(f"{scheme}: {', '.join(codes)} collapsed" for scheme, codes in tried),
        ),
        audit_view(shared | {"sentences": audit["n_sentences"]} | audit),
        map_view(shared | {"plan": f"map at {layer_map['scheme']}"} | layer_map),
        Group(*verdicts(result["findings"])),
        _links(result["links"]),
        _verdicts(result["findings"]),
        _work_line(result["work"]),
    )


def _links(rows: Sequence[Json]) -> Any:
    if not rows:
        return Text("No experiment has a profile to compare with what protecting a block is worth.")
    games = {"spread": "less S", "disparity": "less |D|", "damage": "less K"}
    lines = [
        f"{row['experiment']} {row['title'].lower()}, with {games[row['game']]}: "
        + (told(row["r"], row["r_ci"]) if row["r"] is not None else f"none, {row['r_reason']}")
        for row in rows
    ]
    title = "Does protecting the blocks that stand out help? (r over blocks, exploratory)"
    return section(title, *bullets(lines))


def _verdicts(findings: Sequence[Json]) -> Any:
    """Shows every hypothesis with its verdict, effect, interval and p, a row each."""
    if not findings:
        return Text("No experiment was run.")
    columns = ("hypothesis", "verdict", "effect", "p", "p_holm", "p_minimum")
    return titled(verdict_table(findings).only(*columns))


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
        names = (finding["experiment"], finding["hypothesis"], finding["title"])
        line = Text(f"{' '.join(each_once(names))}: ")
        line.append_text(label(verdict["label"]))
        ps = [
            f"{name} {verdict[key]:.3g}"
            for name, key in (("p", "p"), ("Holm p", "p_holm"), ("smallest p", "p_minimum"))
            if verdict[key] is not None and verdict["label"] != "not testable"
        ]
        ps += filter(None, [equivalence_words(verdict)])
        body = [
            Text(finding["sentence"]),
            Text(verdict["reason"] + (f"; {', '.join(ps)}" if ps else ""), style="dim"),
            *bullets([*part_lines(verdict), *filter(None, [withdrawal(finding)])]),
            *bullets(_estimate(name, one) for name, one in finding["estimates"].items()),
            *bullets(map(_control, finding["controls"])),
        ]
        out += [line, Padding(Group(*body), (0, 0, 1, 2))]
    return out


def _estimate(name: str, estimate: Json) -> str:
    words, ends = name.replace("_", " "), (estimate["low"], estimate["high"])
    if estimate["value"] is None:
        return f"{words}: none, {estimate['reason']}"
    text = f"{words} {told(estimate['value'], ends)} {estimate['unit']}"
    return f"{text} (no interval: {estimate['reason']})" if None in ends else text


def _control(control: Json) -> str:
    outcome = OUTCOMES[control["passed"]]
    text = f"{control['kind']} control {control['name']}: "
    if control["passed"]:
        return text + outcome
    return f"{text}{outcome.upper() if control['passed'] is False else outcome} " + (
        f"({control['detail']})"
    )


# -- the catalog and the store --------------------------------------------------------------------


def list_view(result: Json) -> Any:
    """Shows the catalog."""
    return titled(catalog_table(result))


def show_view(result: Json) -> Any:
    """Shows one experiment."""
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
        section(
            " · ".join(each_once((result["id"], result["hypothesis"], result["title"]))),
            Text(result["question"]),
        ),
        *map(Text, paragraphs),
        Group(
            *map(Text, facts),
            Text(f"declared ({result['thresholds_hash']}): {declared}", style="dim"),
        ),
    )


def results_view(result: Json) -> Any:
    """Shows what a store holds."""
    runs, texts = result["runs"], result["texts"]
    plans = count(sum(text["plans"] for text in texts), "plan")
    held = f"{plans} scored on {count(len(texts), 'text')}"
    parts: list[Any] = [
        section(result["store"], Text(held, style="dim")),
        to_terminal(runs_table(runs)) if runs else Text("No run was finished yet."),
    ]
    for run in runs:
        if run["findings"]:
            changed = ", thresholds changed since" if run["thresholds_changed"] else ""
            title = f"Run {run['run']}, judged again{changed}:"
            parts.append(section(title, *verdicts(run["findings"])))
    return spaced(*parts)


def comparison_view(result: Json) -> Any:
    """Shows runs side by side; names stand once, numbers in the tables."""
    runs = result["runs"]
    names = [str(i) for i in range(1, len(runs) + 1)]
    legend = [
        f"{name}: {run['label']} (run {run['run']})" for name, run in zip(names, runs, strict=True)
    ]
    parts: list[Any] = [section("Runs", *bullets(legend)), titled(damages_table(runs, names)),
                        titled(disparities_table(runs, names))]  # fmt: skip
    if (files := files_table(runs)).rows:
        what = to_terminal(files.only("file", "mib", "bits", "worst", "damage"))
        more = to_terminal(files.only("file", "S", "flips"))
        parts.insert(1, section(files.title, what, Text(), more, *bullets(files.reading)))
    if any(run["verdicts"] for run in runs):
        parts.append(titled(verdicts_table(runs, names)))
    whys = [f"{name}: {run['answers']['why']}" for name, run in zip(names, runs, strict=True)
            if "why" in run["answers"]]  # fmt: skip
    if whys:
        parts.append(section("Why the origin's blocks?", *bullets(whys)))
    parts += map(_change, result["changes"])
    return spaced(*parts)


def _change(change: Json) -> Any:
    verdict = (
        "better: S falls and nobody is levelled down"
        if change["better"]
        else f"not shown to be better: {'; '.join(change['failed'])}"
    )
    table = change_table(change)
    return section(table.title, *bullets([verdict]), to_terminal(table))


# -- model families -------------------------------------------------------------------------------


def theory_view(result: Json) -> Any:
    """Shows models, verdicts, pillars, forecasts and what follows."""
    findings = result["findings"]
    models = ("model", "family", "n_blocks", "scheme", "spread", "disparity", "damage")
    regression = ("source", "n", "r2", "r2_leave_one_out", "r2_null", "p")
    return spaced(
        titled(models_table(result["models"]).only(*models)),
        Text(
            f"What follows is of {result['role']} models alone"
            + (
                "; of exploratory ones the page and the JSON tell beside."
                if result["beside"]
                else "."
            )
        ),
        _verdicts(findings),
        section("Why", to_terminal(verdict_table(findings).only("hypothesis", "why"))),
        _formal(findings),
        titled(pillars_table(result["pillars"])),
        _outcomes(result["outcomes"]),
        _forecasts(result["forecasts"]),
        titled(regression_table(result["original_regression"]).only(*regression)),
    )


def _formal(findings: Iterable[Json]) -> Any:
    formal = next(f for f in findings if f["hypothesis"] == "formal")
    table = ladder_table(formal["tables"]).where("response", lambda cell: cell == "spread")
    return titled(table.only("rung", "from", "r2_lofo"))


def _outcomes(outcomes: Json) -> Any:
    parts: list[Any] = []
    for key, title in (
        ("established", "What is established"),
        ("ruled_out", "What is ruled out"),
        ("open", "What stays open"),
    ):
        if outcomes[key]:
            lines = [f"{row['hypothesis']}: {row['says']}" for row in outcomes[key]]
            parts.append(section(title, *bullets(lines)))
    if outcomes["suggested"]:
        lines = [
            f"{row['hypothesis']}: {told(row['value'], (row['low'], row['high']))} over "
            f"{row['families']} families, {row['null']:.2g} if nothing were there; {row['unit']}. "
            f"{caveat_of(row)}".rstrip(" .")
            for row in outcomes["suggested"]
        ]
        title = "What the data suggest instead (exploratory; to be tested on other models)"
        parts.append(section(title, *bullets(lines)))
    return spaced(*parts)


def _forecasts(forecasts: Json) -> Any:
    if not forecasts["summary"]:
        return Text("Forecasts of a family held out need three families.")
    masks = [f"{kind}, of masks: {_scored(one)}" for kind, one in forecasts["masks"].items()]
    return Group(titled(forecasts_table(forecasts["summary"])), *bullets(masks))


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def prediction_view(result: Json) -> Any:
    """Shows a prediction that was just made."""
    facts = [
        ("made", result["made"]),
        ("from", "the config alone" if result["kind"] == "config" else "weights and one pass"),
        ("learned from", ", ".join(short_name(one["model"]) for one in result["zoo"])),
        ("sha256", result["sha256"]),
        ("file", result["file"]),
    ]
    rows = [
        f"for the least {'S' if name == 'spread' else name}: keep {block_list(row['blocks'])}; "
        f"log2 S then {_range(row['spread'])}, log2 of the damage left {_range(row['damage'])}, "
        f"D {_range(row['disparity'])}"
        for name, row in result["protect"].items()
    ]
    rows.append(f"{len(result['masks'])} random sets are in the file, each number with its "
                "interval")  # fmt: skip
    shares = " ".join(f"{share:.0%}" for share in result["damage_shares"])
    rows.append(f"shares of damage by block: {shares}")
    rows.append(f"intervals of {result['level']:.0%}, from how families that were held out came "
                f"out; there {_scored(result['held_out'])}")  # fmt: skip
    title = f"Prediction for {short_name(result['target'])}, {result['n_blocks']} blocks"
    return section(title, lines_of(facts), *bullets(rows))


def _range(value: Sequence[float]) -> str:
    return told(value[0], value[1:])


def check_view(result: Json) -> Any:
    """Shows how good predictions were."""
    parts: list[Any] = []
    for row in result["checks"]:
        masks = row["masks"]
        lines = [
            f"{QUANTITIES[name]}, {masks[name]['n']} of {masks['asked']} sets: "
            f"{_one_score(masks[name])}"
            + (f" ({masks[name]['reason']})" if masks[name].get("reason") else "")
            for name in QUANTITIES
        ]
        lines.append(f"in families held out: {_scored(row['held_out'])}")
        for name, one in row["objectives"].items():
            lines.append(f"least {name}: {_placed(one)}; {one['triples']} triples")
            lines += [f"  instead {who}: {_placed(other)}"
                      for who, other in one["baselines"].items()]  # fmt: skip
        title = (
            f"{short_name(row['target'])} ({row['kind']}), made {row['made']}, against "
            f"{short_name(row['model'])}"
        )
        parts.append(section(title, *bullets(lines)))
    for row in result["summary"]:
        title = (
            f"Predictions from {row['kind']}: {row['models']} models, {row['families']} families"
        )
        lines = [f"later: {_scored(row['later'])}", f"held out: {_scored(row['held_out'])}"]
        parts.append(section(title, *bullets(lines)))
    if result["unscored"]:
        lines = [f"{row['file']}: {row['reason']}" for row in result["unscored"]]
        parts.append(section("Not scored", *bullets(lines)))
    return spaced(*parts)


def _scored(by_quantity: Json) -> str:
    """Returns how forecasts of each quantity did, in words."""
    return "; ".join(f"{QUANTITIES[name]} {_one_score(one)}" for name, one in by_quantity.items())


def _one_score(one: Json) -> str:
    return (
        f"Spearman {_number(one['spearman'], '+.2f')}, error {_number(one['rmse'], '.3f')} log2, "
        f"{_number(one['covered'], '.0%')} of intervals hold it"
    )


def _placed(one: Json) -> str:
    blocks = "any three" if one["blocks"] is None else block_list(one["blocks"])
    if one["percentile"] is None:
        return f"{blocks}: {one.get('reason', 'not measured')}"
    return f"{blocks}: percentile {one['percentile']:.2f}, regret {_number(one['regret'], '.3g')}"


def plan_view(result: Json) -> Any:
    """Shows the priority matrix, and what a large model would take."""
    return spaced(titled(priority_table(result)), _at_scale(result["at_scale"]))


def _at_scale(scale: Json) -> Any:
    assumed, memory, least = scale["assumptions"], scale["memory_bytes"], scale["gpus_at_least"]
    hours = ", ".join(
        f"{row['id']} {_number(row['hours'], '.3g')}" for row in scale["rows"] if row["hours"]
    )
    lines = [
        f"about {scale['hours']:.3g} hours for all of it ({scale['flops']:.2g} FLOPs)",
        f"hours by experiment, alone: {hours}",
        f"memory: {size(memory['model'])} in bf16 (at least {least['model']} GPUs), "
        f"{size(memory['model_and_rounded_blocks'])} with every block's rounded copy (at least "
        f"{least['model_and_rounded_blocks']})",
        *(f"{name.replace('_', ' ')}: {value}" for name, value in assumed.items()),
    ]
    if not scale["fits"]:
        lines.append("these GPUs do not hold it all at once")
    title = f"{scale['model']}, {assumed['languages']} languages, {assumed['gpus']} GPUs"
    return section(title, *bullets(lines))


def ledger_view(result: Json) -> Any:
    """Shows every claim of the origin and what became of it."""
    parts: list[Any] = [
        Text(
            f"The origin's claims on {short_name(result['model'])}, ours at {result['scheme']}",
            style="bold",
        )
    ]
    for row in result["rows"]:
        line = Text(f"{row['claim']}. {row['text']}: ")
        line.append_text(label(row["outcome"])).append(" in the origin's measure, ")
        line.append_text(label(row["outcome_here"])).append(" in ours")
        reasons = dict.fromkeys(
            (f"origin's: {row['reason']}", f"ours: {row['reason_here']}",
             f"exactly: {row['exact']}, {row['exact_reason']}")
        )  # fmt: skip
        parts.append(Group(line, *bullets(reasons)))
    counts = outcome_table(result)
    names = [column.name for column in counts.columns[1:]]
    lines = [
        f"{kind}: " + ", ".join(f"{n} {name}" for name, n in zip(names, found, strict=True) if n)
        for kind, *found in counts.rows
    ]
    return spaced(*parts, section(counts.title, *bullets(lines)))
