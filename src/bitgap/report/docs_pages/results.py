"""``docs/results.md``: what came out over the model families. No number in it is typed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import MISSING, short_name, told
from bitgap.show.to_markdown import table
from bitgap.show.withdrawn import (
    NO_GAP_RANK,
    with_note,
    withdrawal,
    withdrawn_outcome,
    withdrawn_suggestion,
)

Json = Mapping[str, Any]


def results_page(result: Json, facts: Mapping[str, object]) -> str:
    """Returns the page of a theory run.

    Args:
        result: As :meth:`bitgap.theory.run.Theory.as_dict` has it.
        facts: What it was made by and with, by name.
    """
    sections = (
        _header(facts),
        _verdicts(result["findings"]),
        _pillars(result),
        _outcomes(result["outcomes"]),
        _models(result["models"]),
        _by_family(result["findings"]),
        _controls(result["findings"]),
        _formal(result["findings"]),
        _forecasts(result["forecasts"]),
        _seed_regression(result["seed_regression"]),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(facts: Mapping[str, object]) -> str:
    return "\n\n".join(
        [
            "# Why these layers? What came out over model families",
            "Written by `bitgap theory`, by no hand. Every hypothesis was declared in "
            "`src/bitgap/stats/thresholds.yaml` before the zoo was measured; the rules of "
            "judgement are those of one model ([calibration](calibration.md)) and, across "
            "families, of the model as unit. *Refuted* means that the effect is clearly smaller "
            "than the smallest one of interest and that a planted one was found; *inconclusive* "
            "names the clause that failed.",
            table(["made with", ""], facts.items()),
        ]
    )


def _verdicts(findings: Sequence[Json]) -> str:
    rows = []
    for f in findings:
        verdict, primary = f["verdict"], f["estimates"][f["primary"]]
        rows.append(
            [
                f"{f['hypothesis']} {f['title'].lower()}",
                f"**{verdict['label']}**",
                _interval(primary),
                _p(verdict["p"]),
                _p(verdict["p_holm"]),
                verdict["scope"],
                with_note(verdict["reason"], withdrawal(f)),
            ]
        )
    head = ["hypothesis", "verdict", "statistic", "p", "Holm p", "scope", "why"]
    return "\n\n".join(["## Verdicts of the theory", table(head, rows)])


def _interval(estimate: Json) -> str:
    if estimate["value"] is None:
        return MISSING
    return told(estimate["value"], (estimate["low"], estimate["high"]))


def _p(p: float | None) -> str:
    return MISSING if p is None else f"{p:.3g}"


def _pillars(result: Json) -> str:
    rows = [[r["pillar"], ", ".join(r["rests_on"]), f"**{r['state']}**"] for r in result["pillars"]]
    return "\n\n".join(
        [
            "## Pillars of the Gateway-Bottleneck theory",
            "A pillar is held if a hypothesis it rests on is supported, fallen if all of them are "
            "refuted, and open otherwise. They are not averaged into a score.",
            table(["pillar", "rests on", "state"], rows),
        ]
    )


def _outcomes(said: Json) -> str:
    parts = ["## What follows"]
    for key, title in (
        ("established", "Established"),
        ("ruled_out", "Ruled out"),
        ("open", "Open"),
    ):
        lines = [
            with_note(
                f"- **{r['hypothesis']}**: {r['says']}. ({r['because']})", withdrawn_outcome(key, r)
            )
            for r in said[key]
        ]
        parts.append(f"### {title}\n\n" + ("\n".join(lines) or "Nothing."))
    if said["suggested"]:
        rows = [
            [
                with_note(r["hypothesis"], withdrawn_suggestion(r)),
                told(r["value"], (r["low"], r["high"])),
                f"{r['null']:.2g}",
                r["unit"],
                r["families"],
            ]
            for r in said["suggested"]
        ]
        parts.append(
            "### New hypotheses that the data suggest\n\n"
            "Exploratory: read off the same models, so each is to be declared and tested on "
            "others.\n\n"
            + table(
                ["hypothesis", "over families", "if nothing were there", "unit", "families"], rows
            )
        )
    return "\n\n".join(parts)


def _models(rows: Sequence[Json]) -> str:
    body = [
        [
            short_name(r["model"]), r["family"], r["n_blocks"], r["scheme"],
            "" if r["bits_per_byte_reference"] is None else f"{r['bits_per_byte_reference']:.3f}",
            _plain(r["disparity"]), f"{r['damage']:.4f}",
            _block_list(r["damage_by_block"], "{:.0%}", sum(r["damage_by_block"])),
            _block_list(r["ratio_by_block"], "{:+.2f}"),
            ", ".join(sorted(r["left_out"])) or "none",
        ]
        for r in rows
    ]  # fmt: skip
    head = ["model", "family", "L", "scheme", "bits/byte", "D", "K",
            "share of single-block damage, L0 first", "mean log2 damage ratio by block",
            "languages left out"]  # fmt: skip
    return "\n\n".join(
        [
            "## Models",
            "bits/byte is of the reference language's text in full precision; D, log2 ratio, and "
            "K, bits per English character, are with every block rounded.",
            table(head, body),
        ]
    )


def _block_list(values: Sequence[float | None], form: str, whole: float = 1.0) -> str:
    return " ".join(MISSING if v is None else form.format(v / whole) for v in values)


def _by_family(findings: Sequence[Json]) -> str:
    parts = ["## By family"]
    for f in findings:
        rows = f["tables"].get("families", [])
        if not rows:
            continue
        body = [
            [
                short_name(r["model"]) + ("" if r["speaks"] else " (beside)"),
                r["verdict"],
                _interval(r),
                r["reason"],
            ]
            for r in rows
        ]
        head = ["model", "verdict alone", f"statistic, {rows[0]['unit']}", "why"]
        across = "; ".join(f"{name}: {_interval(e)}" for name, e in f["estimates"].items())
        concurring = "; ".join(
            f"{r['test']} of {r['statistic']}: p = {r['p']:.3g}"
            for r in f["tables"].get("concurring", [])
        )
        said = f"{f['sentence']} Statistics: {across}." + (
            f" Tests that must concur: {concurring}." if concurring else ""
        )
        said = with_note(said, withdrawal(f))
        parts += [f"### {f['hypothesis']} {f['title'].lower()}", said, table(head, body)]
    return "\n\n".join(parts)


def _controls(findings: Sequence[Json]) -> str:
    marks = {True: "held", False: "**failed**", None: "not run"}
    rows = [
        [f["hypothesis"], c["kind"], c["name"], marks[c["passed"]], c["detail"]]
        for f in findings
        for c in f["controls"]
    ]
    head = ["hypothesis", "kind", "control", "", "over families"]
    return "\n\n".join(["## Controls", table(head, rows)])


def _formal(findings: Sequence[Json]) -> str:
    found = next((f for f in findings if f["hypothesis"] == "formal"), None)
    if found is None:
        return ""
    tables = found["tables"]
    rungs = [
        [r["response"], r["rung"], r["families"], r["n_rows"],
         *(_plain(r.get(k)) for k in ("r2_in_sample", "r2_within", "r2_lofo", "spearman_lofo"))]
        for r in tables["ladder"]
    ]  # fmt: skip
    names = ("r2", "spearman", "rmse_log2", "r2_F1", "r2_F3", "r2_additive",
             "spearman_additive", "r2_log_damage")  # fmt: skip
    masks = [
        [short_name(r["model"]), *(_plain(r.get(name)) for name in names)] for r in tables["f0"]
    ]
    slopes = [
        [r["response"], f"{r['coefficient']} ({r['term']})", _interval(r | {"value": r["mean"]}),
         _p(r["p_wild_cluster"]), _p(r["p_model_swap"])]
        for r in tables["coefficients"]
    ]  # fmt: skip
    draws = tables["f5_draws"]
    return "\n\n".join(
        [
            "## The formal model",
            found["sentence"],
            f"F5, three random smooth features of depth, has R² held out of "
            f"{_plain(draws['mean'])} on average and {_plain(draws['percentile_95'])} at its 95th "
            f"percentile over {draws['draws']} draws: what a nuisance that is smooth in depth "
            f"earns. F3 has to be above that.",
            table(["response", "rung", "families", "rows", "R² in sample", "R², own slopes",
                   "R² held out", "Spearman held out"], rungs),
            "F0, with nothing fitted, on the D of every mask. *Adding up* forecasts D from the "
            "measured damage of single blocks, so that it lacks non-linearity and nothing else:",
            table(["model", "R² of D", "Spearman", "RMSE, log2", "R² by F1", "R² by F3",
                   "R², adding up", "Spearman, adding up", "R² of log k = log αt²"], masks),
            table(["response", "coefficient", "over families", "p, wild cluster",
                   "p, model swap"], slopes),
            table(["rung", "term", "variance inflation"],
                  [[r["rung"], r["term"], _plain(r["vif"])] for r in tables["vif"]]),
        ]
    )  # fmt: skip


def _plain(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _forecasts(said: Json) -> str:
    if not said["rows"]:
        return ""
    summary = [
        [r["kind"], r["objective"], r["who"], f"{r['successes']} of {r['families']}",
         _plain(r["mean_percentile"]), {True: "yes", False: "no", None: MISSING}[r["success"]]]
        for r in said["summary"]
    ]  # fmt: skip
    each = [
        [short_name(r["model"]), r["kind"],
         *(_plain(r["masks"][name]) for name in ("spearman", "rmse", "covered"))]
        + [
            f"{one['blocks']}: {_plain(one['percentile'])}, regret {_plain(one['regret'])}"
            for one in (r["objectives"]["disparity"], r["objectives"]["damage"])
        ]
        for r in said["rows"]
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Forecasts of families held out",
            "From the config alone, or from weights and one forward pass, learned from the other "
            "families; no damage of the family forecast is used. Percentile of the triple named "
            "among all triples: 0 is the best, chance is one half; a success is .10 or less in two "
            "families of three. `largest_damage` knows the measurement and is no forecast. "
            f"Percentiles for `disparity` are by |D| per text: {NO_GAP_RANK}.",
            table(["kind", "objective", "triple by", "hits", "mean percentile", "success"],
                  summary),
            table(["model", "kind", "Spearman of D", "RMSE", "intervals that hold",
                   "least |D|", "least damage"], each),
        ]
    )  # fmt: skip


def _seed_regression(rows: Sequence[Json]) -> str:
    body = [
        [short_name(r["source"]), r["n"], _plain(r["intercept"]), _plain(r["variance"]),
         _plain(r["r2"]), _plain(r["r2_adjusted"]), _plain(r["r2_leave_one_out"]),
         _plain(r["r2_null"]), _plain(r["r2_null_smooth"]), _p(r["p"]), r["reason"]]
        for r in rows
    ]  # fmt: skip
    head = ["on", "n", "intercept", "variance", "R²", "adjusted", "R², block left out",
            "R² of 95 % of unrelated fits", "of fits to smooth responses", "p", ""]  # fmt: skip
    return "\n\n".join(
        [
            "## The origin's regression",
            "log(disparity + 1) on variance, outlier ratio, sparsity and position, as it was "
            "published (on numbers typed in), on what the origin measured, and on every model "
            "here.",
            table(head, body),
        ]
    )
