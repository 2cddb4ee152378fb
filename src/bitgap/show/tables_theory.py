"""The theory's results as tables of at most 80 columns; see :mod:`bitgap.show.tables_model`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from bitgap.show.numbers import MISSING, Columns, Unit, bullets, grid, layer_list, short_name, told
from bitgap.show.tables_model import Json, spaced, verdict_table
from bitgap.show.withdrawn import (
    CONFIG_PREDICTIONS,
    NO_GAP_RANK,
    SMEARED_PROFILES,
    withdrawal,
    withdrawn_outcome,
    withdrawn_suggestion,
)
from bitgap.show.words import duration, size


def theory_view(result: Json) -> Any:
    """Shows models, verdicts, pillars, forecasts and what follows."""
    return spaced(
        _models(result["models"]),
        verdict_table(result["findings"]),
        _reasons(result["findings"]),
        _formal(result["findings"]),
        _pillars(result["pillars"]),
        _outcomes(result["outcomes"]),
        _forecasts(result["forecasts"]),
        _seed_regression(result["seed_regression"]),
    )


def preflights_view(result: Json) -> Any:
    """Shows ``--dry-run`` of several models."""
    rows = result["preflights"]
    table = Columns("model", [short_name(row["model"]) for row in rows])
    table.add("time", [duration(row["time_s"]) for row in rows])
    table.add("memory", [size(row["memory_bytes"]) for row in rows])
    total = sum(row["time_s"] for row in rows)
    said = [f"about {duration(total)} together, if the store held nothing"]
    return Group(table.render(), *bullets(said))


def _models(rows: Sequence[Json]) -> Any:
    table = Columns("model", [short_name(row["model"]) for row in rows])
    table.add("family", [row["family"] for row in rows], left=True)
    table.add("L", [str(row["n_blocks"]) for row in rows])
    table.add("scheme", [row["scheme"] for row in rows], left=True)
    table.add("bits/byte", [_number(row["bits_per_byte_reference"], ".2f") for row in rows])
    table.add("D", [_number(row["disparity"], "+.2f") for row in rows])
    unit = Unit.of(row["damage"] for row in rows)
    table.add(f"K, {unit.name}", [f"{row['damage'] * unit.factor:.3g}" for row in rows])
    families = len({row["family"] for row in rows})
    title = Text(f"{len(rows)} models of {families} families", style="bold")
    said = [
        "bits/byte of the reference language; D mean log2 damage ratio and K mean damage with "
        "nothing protected",
        unit.note,
    ]
    left = [f"{row['model']} leaves out {', '.join(sorted(row['left_out']))}"
            for row in rows if row["left_out"]]  # fmt: skip
    return Group(title, table.render(), *bullets([*said, *left]))


def _number(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _reasons(findings: Iterable[Json]) -> Any:
    lines = []
    for f in findings:
        lines.append(f"{f['hypothesis']}: {f['verdict']['reason']}")
        if why := withdrawal(f):
            lines.append(f"{f['hypothesis']}: {why}")
    return Group(Text("Why", style="bold"), *bullets(lines))


def _formal(findings: Iterable[Json]) -> Any:
    found = next(f for f in findings if f["hypothesis"] == "formal")
    rungs = {
        row["rung"]: row["r2_lofo"]
        for row in found["tables"]["ladder"]
        if row["response"] == "ratio"
    }
    names = {
        "F0": "error budget, nothing fitted",
        "F1": "position",
        "F2": "variance",
        "F3": "variance, boundary, bottleneck",
        "F4": "those and the local error ratio",
    }
    lines = [f"{rung} {told_}: {_number(rungs.get(rung), '+.2f')}"
             for rung, told_ in names.items()]  # fmt: skip
    draws = found["tables"]["f5_draws"]
    lines.append(
        f"F5 three smooth features of no meaning: {_number(draws['mean'], '+.2f')} on average, "
        f"{_number(draws['percentile_95'], '+.2f')} at the 95th percentile"
    )
    title = Text("The formal model: R² of log2 damage ratios in a family held out", style="bold")
    return Group(title, *bullets(lines))


def _pillars(rows: Sequence[Json]) -> Any:
    lines = [f"{r['state']}: {r['pillar']} ({', '.join(r['rests_on'])})" for r in rows]
    return Group(Text("Pillars of the Gateway-Bottleneck theory", style="bold"), *bullets(lines))


def _outcomes(said: Json) -> Any:
    parts: list[Any] = []
    for key, title in (
        ("established", "What is established"),
        ("ruled_out", "What is ruled out"),
        ("open", "What stays open"),
    ):
        if said[key]:
            lines = [
                f"{row['hypothesis']}: {row['says']}. {withdrawn_outcome(key, row)}".rstrip(" .")
                for row in said[key]
            ]
            parts.append(Group(Text(title, style="bold"), *bullets(lines)))
    if said["suggested"]:
        lines = [
            f"{row['hypothesis']}: {told(row['value'], (row['low'], row['high']))} over "
            f"{row['families']} families, {row['null']:.2g} if nothing were there; {row['unit']}. "
            f"{withdrawn_suggestion(row)}".rstrip(" .")
            for row in said["suggested"]
        ]
        title = Text("What the data suggest instead (exploratory; to be tested on other models)",
                     style="bold")  # fmt: skip
        parts.append(Group(title, *bullets(lines)))
    return spaced(*parts)


def _forecasts(said: Json) -> Any:
    rows = said["summary"]
    if not rows:
        return Text("Forecasts of a family held out need three families.")
    table = Columns("triple by", [_who(row) for row in rows])
    table.add("objective", [row["objective"] for row in rows], left=True)
    table.add("hits", [f"{row['successes']}/{row['families']}" for row in rows])
    table.add("mean percentile", [_number(row["mean_percentile"], ".2f") for row in rows])
    table.add("success", [_yes(row["success"]) for row in rows], left=True)
    notes = [
        "percentile of the three blocks named among all triples, 0 the best, chance one half; a "
        "hit is .10 or less, success two families of three",
        f"objective disparity: {NO_GAP_RANK}",
    ]
    notes += [
        f"{kind}: Spearman {_number(one['spearman'], '+.2f')} of predicted with measured D on "
        f"masks, {_number(one['covered'], '.0%')} of intervals hold it"
        for kind, one in said["masks"].items()
    ]
    title = Text("Every family held out, and forecast from the others", style="bold")
    return Group(title, table.render(), *bullets(notes))


def _who(row: Json) -> str:
    if row["who"] == "forecast":
        return f"forecast, {row['kind']}"
    return {"origin": "the origin's rule", "first_three": "first three blocks",
            "largest_damage": "largest damage (measured)"}[row["who"]]  # fmt: skip


def _yes(value: bool | None) -> str:
    return MISSING if value is None else "yes" if value else "no"


def _seed_regression(rows: Sequence[Json]) -> Any:
    fitted = [row for row in rows if row["r2"] is not None]
    table = Columns("on", [short_name(row["source"]) for row in fitted])
    table.add("n", [str(row["n"]) for row in fitted])
    for name, key in (("R²", "r2"), ("left out", "r2_leave_one_out"), ("null", "r2_null")):
        table.add(name, [_number(row[key], ".2f") for row in fitted])
    table.add("p", [f"{row['p']:.2g}" for row in fitted])
    notes = ["left out: R² at blocks left out of the fit; null: 95 % of unrelated fits have less"]
    notes += [f"{short_name(row['source'])}: {row['reason']}" for row in rows if row["r2"] is None]
    title = Text("The origin's regression of log(disparity + 1)", style="bold")
    return Group(title, table.render(), *bullets(notes))


def prediction_view(result: Json) -> Any:
    """Shows a prediction that was just made."""
    title = Text(f"Prediction for {short_name(result['target'])}, {result['n_blocks']} blocks",
                 style="bold")  # fmt: skip
    facts = [
        ("made", result["made"]),
        ("from", "the config alone" if result["kind"] == "config" else "weights and one pass"),
        ("learned from", ", ".join(short_name(one["model"]) for one in result["zoo"])),
        ("sha256", result["sha256"]),
        ("file", result["file"]),
    ]
    rows = [
        f"for the least {name}: keep {layer_list(row['blocks'])}; D then "
        f"{_range(row['disparity'])}, log2 of the damage left {_range(row['log2_damage_left'])}"
        for name, row in result["protect"].items()
    ]
    rows.append(f"D of {len(result['masks'])} random sets is in the file, each with its interval")
    shares = " ".join(f"{share:.0%}" for share in result["damage_shares"])
    rows.append(f"shares of damage by block: {shares}")
    level = f"intervals of {result['level']:.0%}, from how families that were held out came out"
    rows.append(SMEARED_PROFILES)
    if result["kind"] == "config":
        rows.append(CONFIG_PREDICTIONS)
    return Group(title, grid(facts), *bullets([*rows, level]))


def _range(value: Sequence[float]) -> str:
    return told(value[0], value[1:])


def check_view(result: Json) -> Any:
    """Shows how good predictions were."""
    parts: list[Any] = []
    for row in result["checks"]:
        masks = row["masks"]
        title = Text(f"{short_name(row['target'])} ({row['kind']}), made {row['made']}, against "
                     f"{short_name(row['model'])}", style="bold")  # fmt: skip
        lines = [
            f"D of {masks['n']} of {masks['asked']} sets: Spearman "
            f"{_number(masks['spearman'], '+.2f')}, error {_number(masks['rmse'], '.3f')} bits, "
            f"{_number(masks['covered'], '.0%')} of intervals hold it"
            + (f" ({masks['reason']})" if masks.get("reason") else "")
        ]
        for name, one in row["objectives"].items():
            lines.append(f"least {name}: {_placed(one)}; {one['triples']} triples")
            lines += [f"  instead {who}: {_placed(other)}"
                      for who, other in one["baselines"].items()]  # fmt: skip
        parts.append(Group(title, *bullets(lines)))
    return spaced(*parts)


def _placed(one: Json) -> str:
    blocks = "any three" if one["blocks"] is None else layer_list(one["blocks"])
    if one["percentile"] is None:
        return f"{blocks}: {one.get('reason', 'not measured')}"
    return f"{blocks}: percentile {one['percentile']:.2f}, regret {_number(one['regret'], '.3g')}"


def plan_view(result: Json) -> Any:
    """Shows the priority matrix, and what a large model would take."""
    matrix, scale = result["matrix"], result["at_scale"]
    rows = matrix["rows"]
    table = Columns("order", [str(row["order"]) for row in rows])
    table.add("experiment", [row["id"] for row in rows], left=True)
    table.add("hypothesis", [row["hypothesis"] for row in rows], left=True)
    table.add("phase", [str(row["phase"]) for row in rows])
    table.add("value", [row["value"] for row in rows], left=True)
    table.add("on", [row["device"] or MISSING for row in rows], left=True)
    times = [MISSING if row["time_s"] is None else duration(row["time_s"]) for row in rows]
    table.add("time", times)
    memory = [MISSING if r["memory_bytes"] is None else size(r["memory_bytes"]) for r in rows]
    table.add("memory", memory)
    model, languages = short_name(result["model"]), result["languages"]
    what = f"What to run first on {model}, {languages} languages, tier {result['tier']}"
    title = Text(what, style="bold")
    notes = [matrix["note"]]
    if matrix["time_s"] is not None:
        notes.append(f"all of it, sharing: about {duration(matrix['time_s'])}")
    return spaced(Group(title, table.render(), *bullets(notes)), _at_scale(scale))


def _at_scale(scale: Json) -> Any:
    assumed = scale["assumptions"]
    what = f"{scale['model']}, {assumed['languages']} languages, {assumed['gpus']} GPUs"
    title = Text(what, style="bold")
    hours = ", ".join(
        f"{row['id']} {_number(row['hours'], '.3g')}" for row in scale["rows"] if row["hours"]
    )
    least = scale["gpus_at_least"]
    lines = [
        f"about {scale['hours']:.3g} hours for all of it ({scale['flops']:.2g} FLOPs)",
        f"hours by experiment, alone: {hours}",
        f"memory: {size(scale['memory_bytes']['model'])} in bf16 (at least {least['model']} GPUs), "
        f"{size(scale['memory_bytes']['model_and_rounded_blocks'])} with every block's rounded "
        f"copy (at least {least['model_and_rounded_blocks']})",
        *(f"{name.replace('_', ' ')}: {value}" for name, value in assumed.items()),
    ]
    if not scale["fits"]:
        lines.append("these GPUs do not hold it all at once")
    return Group(title, *bullets(lines))


_OUTCOME_STYLES = {"holds": "green", "fails": "red", "unclear": "yellow"}


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
        line.append(row["outcome"], style=_OUTCOME_STYLES.get(row["outcome"], "dim"))
        line.append(" in the origin's measure, ")
        line.append(row["outcome_here"], style=_OUTCOME_STYLES.get(row["outcome_here"], "dim"))
        line.append(" in ours")
        reasons = dict.fromkeys(
            (f"origin's: {row['reason']}", f"ours: {row['reason_here']}",
             f"exactly: {row['exact']}, {row['exact_reason']}")
        )  # fmt: skip
        parts.append(Group(line, *bullets(reasons)))
    counts = [
        f"{kind}: " + ", ".join(f"{n} {name}" for name, n in found.items() if n)
        for kind, found in result["counts"].items()
    ]
    return spaced(*parts, Group(Text("Claims by outcome", style="bold"), *bullets(counts)))
