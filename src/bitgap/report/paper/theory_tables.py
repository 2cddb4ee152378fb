"""Tables of a paper on model families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.report.paper.findings import GREEK
from bitgap.report.paper.text import PaperTable, number, plain, probability, signs
from bitgap.show.numbers import MISSING, Unit, short_name
from bitgap.show.words import RUNGS

Json = Mapping[str, Any]


def theory_tables(result: Json) -> list[PaperTable]:
    """Returns the tables that only a run over families has."""
    tables = [_models(result["models"]), _pillars(result["pillars"]), _families(result["findings"])]
    formal = next((f for f in result["findings"] if f["hypothesis"] == "formal"), None)
    if formal is not None:
        found = formal["tables"]
        tables += [_ladder(found), _budget(found["f0"]), _slopes(found["coefficients"])]
    tables += [_forecasts(result["forecasts"]["summary"]), _regression(result["seed_regression"])]
    return [table for table in tables if table.rows]


def _models(rows: Sequence[Json]) -> PaperTable:
    unit = Unit.of(row["damage"] for row in rows)
    body = []
    for row in rows:
        whole = sum(row["damage_by_block"])
        shares = [f"{100 * k / whole:.0f}" for k in row["damage_by_block"]] if whole > 0 else []
        body.append(
            (
                short_name(row["model"]), row["family"], row["n_blocks"], row["scheme"],
                plain(row["bits_per_byte_reference"], ".2f"), plain(row["disparity"]),
                plain(row["damage"] * unit.factor, ".1f"), " ".join(shares) or MISSING,
            )
        )  # fmt: skip
    return PaperTable(
        id="models",
        caption="Models. Bits per byte are of the reference language in full precision; D (log2 "
        f"ratio) and K ({unit.name} per English character) with every block rounded; shares are of "
        "the damage that single blocks do, in %, first block first.",
        head=("Model", "Family", "L", "Scheme", "bits/byte", "D", "K", "Shares by block"),
        rows=tuple(body),
        widths=("auto", "auto", "auto", "auto", "auto", "auto", "auto", "1fr"),
        right=frozenset({2, 4, 5, 6}),
    )


def _pillars(rows: Sequence[Json]) -> PaperTable:
    return PaperTable(
        id="pillars",
        caption="Pillars of the Gateway-Bottleneck theory. One is held if a hypothesis it rests on "
        "is supported, fallen if all of them are refuted, and open otherwise.",
        head=("Pillar", "Rests on", "State"),
        rows=tuple((r["pillar"], ", ".join(r["rests_on"]), r["state"]) for r in rows),
        widths=("1fr", "auto", "auto"),
    )


def _families(findings: Sequence[Json]) -> PaperTable:
    body = [
        (
            f["hypothesis"],
            short_name(r["model"]) + ("" if r["speaks"] else " †"),
            r["verdict"],
            number(r["value"], (r["low"], r["high"])),
            signs(r["unit"]),
        )
        for f in findings
        for r in f["tables"].get("families", ())
    ]
    return PaperTable(
        id="families",
        caption="Every hypothesis in every model, judged alone. † a further model of a family, "
        "shown beside the one that speaks for it.",
        head=("", "Model", "Verdict alone", "Statistic [95 %]", "Unit"),
        rows=tuple(body),
        widths=("auto", "auto", "auto", "auto", "1fr"),
        right=frozenset({3}),
    )


def _ladder(found: Json) -> PaperTable:
    names = ("r2_in_sample", "r2_within", "r2_lofo", "spearman_lofo")
    body = [
        (r["response"], r["rung"], r["families"], f"{r['n_rows']:,}",
         *(plain(r.get(name)) for name in names))
        for r in found["ladder"]
    ]  # fmt: skip
    draws = found["f5_draws"]
    return PaperTable(
        id="ladder",
        caption="The ladder of the formal model, for the log2 damage ratio, the worth of a block "
        "for |D|, and the origin's disparity (seed): "
        f"{'; '.join(f'{rung} {name}' for rung, name in RUNGS.items())}. "
        "R² in sample, with each family's own slopes, and held out (LOFO). "
        f"Three random smooth features of depth earn {plain(draws['mean'])} on average "
        f"and {plain(draws['percentile_95'])} at their 95th percentile of {draws['draws']} draws.",
        head=("Response", "Rung", "Families", "Rows", "R²", "R², own", "R², LOFO", "ρ, LOFO"),
        rows=tuple(body),
        widths=("1fr", "1fr", *["auto"] * 6),
        right=frozenset(range(2, 8)),
    )


def _budget(rows: Sequence[Json]) -> PaperTable:
    names = ("r2", "spearman", "rmse_log2", "r2_F1", "r2_F3", "r2_additive", "r2_log_damage")
    return PaperTable(
        id="budget",
        caption="D of every scored set of protected blocks, forecast by the second-order error "
        "budget F0 with nothing fitted; beside it position (F1), the formula (F3), and adding up "
        "measured single-block damage. Last: R² of log damage of single blocks.",
        head=(
            "Model",
            "Sets",
            "R², F0",
            "ρ, F0",
            "RMSE",
            "R², F1",
            "R², F3",
            "R², sum",
            "R², log k",
        ),
        rows=tuple(
            (short_name(r["model"]), f"{r['masks']:,}", *(plain(r.get(name)) for name in names))
            for r in rows
        ),
        widths=("1fr", *["auto"] * 8),
        right=frozenset(range(1, 9)),
    )


def _slopes(rows: Sequence[Json]) -> PaperTable:
    return PaperTable(
        id="slopes",
        caption="Slopes of the formula over families; it asks for all of α, β and γ above 0.",
        head=("Response", "Coefficient", "Over families [95 %]", "p, cluster", "p, swap"),
        rows=tuple(
            (
                r["response"], f"{GREEK.get(r['coefficient'], r['coefficient'])} ({r['term']})",
                number(r["mean"], (r["low"], r["high"])),
                probability(r["p_wild_cluster"]), probability(r["p_model_swap"]),
            )
            for r in rows
        ),
        widths=("1fr", "1fr", "auto", "auto", "auto"),
        right=frozenset({2, 3, 4}),
    )  # fmt: skip


_WHO = {"forecast": "forecast", "origin": "{0, .75L, last}", "first_three": "first three blocks",
        "largest_damage": "largest damage (knows the measurement)"}  # fmt: skip


def _forecasts(rows: Sequence[Json]) -> PaperTable:
    asked = {"disparity": "least |D|", "damage": "least K"}
    marks = {True: "yes", False: "no", None: MISSING}
    return PaperTable(
        id="forecasts",
        caption="Triples named for families held out, from the configuration alone or from weights "
        "and one forward pass. Percentile among all triples: 0 is best, 50 is chance; by |D| "
        "(disparity) it is no answer for the gap between languages. A success "
        "is the best tenth in two families of three.",
        head=("From", "For", "Triple by", "Best tenth", "Mean percentile", "Success"),
        rows=tuple(
            (
                r["kind"], asked[r["objective"]], _WHO.get(r["who"], r["who"]),
                f"{r['successes']} of {r['families']}",
                MISSING if r["mean_percentile"] is None else f"{100 * r['mean_percentile']:.0f}",
                marks[r["success"]],
            )
            for r in rows
        ),
        widths=("auto", "auto", "1fr", "auto", "auto", "auto"),
        right=frozenset({3, 4}),
    )  # fmt: skip


def _regression(rows: Sequence[Json]) -> PaperTable:
    return PaperTable(
        id="regression",
        caption="The origin's regression of log(disparity + 1) on variance, outlier ratio, "
        "sparsity and position, refitted on every source; beside R² that with each block left "
        "out, and the R² that 95 % of fits to unrelated predictors stay below.",
        head=("Source", "n", "R²", "R², left out", "R², unrelated", "p"),
        rows=tuple(
            (short_name(r["source"]), r["n"], plain(r["r2"], ".2f"),
             plain(r["r2_leave_one_out"], ".2f"), plain(r["r2_null"], ".2f"), probability(r["p"]))
            for r in rows
        ),
        widths=("1fr", *["auto"] * 5),
        right=frozenset(range(1, 6)),
    )  # fmt: skip
