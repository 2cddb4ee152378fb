"""What came out over model families: models, pillars, the formal model, forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import MISSING, Unit, short_name
from bitgap.show.table import Column, Table, Value, by_key
from bitgap.show.withdrawn import caveat_of
from bitgap.show.words import RUNGS

Json = Mapping[str, Any]

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ"}
OBJECTIVES = {"spread": "S", "damage": "damage"}
QUANTITIES = OBJECTIVES | {"disparity": "D (described)"}
_WHO = {
    "forecast": "the forecast",
    "origin": "the origin's rule",
    "first_three": "first three blocks",
    "largest_damage": "largest damage (measured)",
}


def models_table(rows: Sequence[Json]) -> Table:
    """Returns a row a model."""
    unit = Unit.typical(row["damage"] for row in rows)
    return Table(
        id="models",
        title=f"Models: {len(rows)} of {len({row['family'] for row in rows})} families",
        columns=(
            Column("model", "model"),
            Column("family", "family"),
            Column("role", "role"),
            Column("mix", "trained on"),
            Column("n_blocks", "L", "count"),
            Column("scheme", "scheme"),
            Column("bits_per_byte", "bits/byte", "number", decimals=3,
                   note="bits/byte: of the reference language in full precision."),
            Column("spread", "S", "number", decimals=3,
                   note="S: spread over languages of log2 damage per token, with every block "
                   "rounded."),
            Column("disparity", "D", "number", decimals=3, signed=True,
                   note="D: mean log2 damage ratio per text, with every block rounded; described."),
            Column("damage", "K", "number", unit.name, unit.factor,
                   note=f"K: mean damage, with every block rounded. {unit.note}."),
            Column("shares", "% by block", width=1.0,
                   note="% by block: shares of the damage that single blocks do, first block "
                   "first."),
            Column("spreads", "S by block", width=1.0, note="S by block: of each block alone."),
            Column("left_out", "languages left out"),
        ),
        rows=tuple(
            (
                short_name(row["model"]), row["family"], row["role"], row["mix"] or MISSING,
                row["n_blocks"], row["scheme"],
                row["bits_per_byte_reference"], row["spread"], row["disparity"], row["damage"],
                _series(row["damage_by_block"], ".0f", sum(row["damage_by_block"]) / 100),
                _series(row["spread_by_block"], ".2f"),
                ", ".join(sorted(row["left_out"])) or "none",
            )
            for row in rows
        ),
        notes=tuple(
            f"{short_name(row['model'])} leaves out {', '.join(sorted(row['left_out']))}."
            for row in rows
            if row["left_out"]
        ),
    )  # fmt: skip


def _series(values: Sequence[float | None], form: str, whole: float = 1.0) -> str:
    if not whole > 0:
        return MISSING
    return " ".join(MISSING if v is None else format(v / whole, form) for v in values)


def pillars_table(rows: Sequence[Json]) -> Table:
    """Returns a row a pillar."""
    columns = (
        Column("pillar", "pillar", width=1.0),
        Column("rests_on", "rests on"),
        Column("state", "state", "label"),
    )
    return Table(
        id="pillars",
        title="Pillars of the Gateway-Bottleneck theory",
        columns=columns,
        rows=by_key(columns, ({**row, "rests_on": ", ".join(row["rests_on"])} for row in rows)),
        notes=("A pillar is held if a hypothesis it rests on is supported, fallen if all of them "
               "are refuted, and open otherwise. They are not averaged into a score.",),
    )  # fmt: skip


def suggested_table(rows: Sequence[Json]) -> Table:
    """Returns a row a hypothesis that the data suggest."""
    return Table(
        id="suggested",
        title="New hypotheses that the data suggest",
        columns=(
            Column("hypothesis", "hypothesis", width=1.0),
            Column("value", "over families", "estimate", signed=True),
            Column("null", "if nothing were there"),
            Column("unit", "unit"),
            Column("families", "families", "count"),
            Column("caveat", "to be read with"),
        ),
        rows=tuple(
            (row["hypothesis"], Value.told(row), f"{row['null']:.2g}", row["unit"],
             row["families"], caveat_of(row))
            for row in rows
        ),
        notes=("Exploratory: read off the same models, so each is to be declared and tested on "
               "others.",),
    )  # fmt: skip


def places_table(rows: Sequence[Json]) -> Table:
    """Returns a row a number of one of the three blocks, or of all three."""
    return Table(
        id="places",
        title="What the three blocks are, for damage and for the gap",
        columns=(
            Column("objective", "for"),
            Column("what", "what", width=1.0),
            Column("place", "of"),
            Column("value", "over families", "estimate", signed=True),
            Column("null", "of an ordinary one"),
            Column("families", "families", "count"),
        ),
        rows=tuple(
            (OBJECTIVES.get(row["objective"], row["objective"]), row["what"], row["place"],
             Value.told(row), f"{row['null']:.2g}", row["families"])
            for row in rows
        ),
        notes=("Means over families, a family's checkpoints averaged first, with 95 % intervals. "
               "S is the spread over languages of log2 damage per token.",),
    )  # fmt: skip


def asked_table(rows: Sequence[Json]) -> Table:
    """Returns a row a hypothesis: as it was written, as it must be asked, what it would take."""
    return Table(
        id="asked",
        title="Each hypothesis as it was written and as it must be asked",
        columns=(
            Column("hypothesis", "hypothesis"),
            Column("written", "as the origin wrote it", width=1.0),
            Column("written_label", "verdict on that", "label"),
            Column("asked", "as it must be asked", width=1.0),
            Column("label", "verdict", "label"),
            Column("value", "effect", "estimate", signed=True),
            Column("takes", "what it would take", width=1.0),
        ),
        rows=tuple(
            (row["hypothesis"], row["written"], row["written_label"] or "not judged apart",
             row["asked"], row["label"], Value.told(row), row["takes"] or "nothing more")
            for row in rows
        ),
        notes=("Numbers of families are for the first statistic of a hypothesis, at the effect and "
               "the spread between families that were seen, with a power of 80 %: an order of "
               "magnitude, for planning.",),
    )  # fmt: skip


def ladder_table(tables: Json) -> Table:
    """Returns a row a response and rung of the formal model.

    Args:
        tables: Of the finding on the formal model.
    """
    columns = (
        Column("response", "response"),
        Column("rung", "rung"),
        Column("from", "predicts from", width=1.0),
        Column("families", "families", "count"),
        Column("n_rows", "rows", "count"),
        _third("r2_in_sample", "R² in sample"),
        _third("r2_within", "R², own slopes"),
        _third("r2_lofo", "R² held out"),
        _third("spearman_lofo", "Spearman held out"),
    )
    draws = tables["f5_draws"]
    mean, high = (columns[-1].text(draws[name]) for name in ("mean", "percentile_95"))
    return Table(
        id="ladder",
        title="The formal model, rung by rung",
        columns=columns,
        rows=by_key(columns, ({**row, "from": RUNGS.get(row["rung"])} for row in tables["ladder"])),
        notes=(
            "Held out: in a family that was left out of the fit.",
            f"F5 has R² held out {mean} on average and {high} at the 95th percentile of "
            f"{draws['draws']} draws, which is what a nuisance that is smooth in depth earns; F3 "
            "has to be above that.",
        ),
    )


def _third(key: str, name: str) -> Column:
    """Returns a column of shares of variance or correlations, to three decimals."""
    return Column(key, name, "number", decimals=3)


def budget_table(tables: Json) -> Table:
    """Returns a row a model: how well the error budget forecasts the S of every scored set."""
    columns = (
        Column("model", "model", width=1.0),
        Column("masks", "sets", "count"),
        _third("r2", "R² of S"),
        _third("spearman", "Spearman"),
        _third("rmse_log2", "RMSE, log2"),
        _third("r2_additive", "R², adding up"),
        _third("spearman_additive", "Spearman, adding up"),
        _third("r2_disparity", "R² of D"),
        _third("r2_spread_by_block", "R² of S by block"),
        _third("r2_log_damage", "R² of log k"),
    )
    return Table(
        id="budget",
        title="S of every scored set, forecast by the error budget F0 with nothing fitted",
        columns=columns,
        rows=by_key(columns, ({**row, "model": short_name(row["model"])} for row in tables["f0"])),
        notes=("Adding up forecasts S from the measured damage of single blocks, so that it lacks "
               "non-linearity and nothing else. R² of log k is of single blocks by αt²; D is "
               "described.",),
    )  # fmt: skip


def power_table(tables: Json) -> Table:
    """Returns a row a planted gain: how often these families find it."""
    columns = (
        _third("gain", "planted gain in R²"),
        Column("found", "found", "count"),
        Column("plantings", "of", "count"),
    )
    return Table(
        id="power",
        title="What these families would find",
        columns=columns,
        rows=by_key(columns, tables.get("power", ())),
        notes=("Planted in what common slopes leave unexplained; found where the estimate reaches "
               "the smallest effect of interest and its interval is above 0.",),
    )  # fmt: skip


def slopes_table(tables: Json) -> Table:
    """Returns a row a coefficient of the formula."""
    return Table(
        id="slopes",
        title="Slopes of the formula over families",
        columns=(
            Column("response", "response", width=1.0),
            Column("coefficient", "coefficient", width=1.0),
            Column("mean", "over families", "estimate", signed=True),
            Column("p_wild_cluster", "p, wild cluster", "p"),
            Column("p_model_swap", "p, model swap", "p"),
        ),
        rows=tuple(
            (row["response"], f"{GREEK.get(row['coefficient'], row['coefficient'])} "
             f"({row['term']})", Value(row["mean"], row["low"], row["high"]),
             row["p_wild_cluster"], row["p_model_swap"])
            for row in tables["coefficients"]
        ),
        notes=("The formula asks for all of α, β and γ above 0.",),
    )  # fmt: skip


def inflation_table(tables: Json) -> Table:
    """Returns a row a rung and term: how much of a term the others say."""
    columns = (Column("rung", "rung"), Column("term", "term"), _third("vif", "inflation"))
    rows = by_key(columns, tables["vif"])
    return Table(id="inflation", title="Variance inflation", columns=columns, rows=rows)


def forecasts_table(rows: Sequence[Json], later: bool = False) -> Table:
    """Returns a row a way of naming three blocks for models not learned from, over families.

    Args:
        rows: A way of naming each.
        later: Whether they are of models measured later, and not of families held out in turn.
    """
    columns = (
        Column("kind", "from"),
        Column("objective", "for least"),
        Column("who", "triple by", width=1.0),
        Column("hits", "hits"),
        _third("mean_percentile", "mean percentile"),
        Column("success", "success", "flag"),
    )
    named = (
        {**row, "who": _WHO.get(row["who"], row["who"]),
         "objective": OBJECTIVES.get(row["objective"], row["objective"]),
         "hits": f"{row['successes']} of {row['families']}"}
        for row in rows
    )  # fmt: skip
    return Table(
        id="forecasts",
        title=f"Triples named for {'later models' if later else 'families held out'}",
        columns=columns,
        rows=by_key(columns, named),
        notes=(
            "From the configuration alone, or from weights and one forward pass, learned from the "
            f"{'exploratory models' if later else 'other families'}; largest damage knows the "
            "measurement and is no forecast. Percentile of the triple among all triples: 0 is the "
            "best, one half is chance; a hit is .10 or less, success hits in two families of "
            "three.",
            "By S, the spread over languages of log2 damage per token, or by mean damage. Where "
            "not all triples were measured they are expanded from measured pairs.",
        ),
    )


def forecast_table(rows: Sequence[Json], later: bool = False) -> Table:
    """Returns a row a model not learned from and kind of forecast: how good it was.

    Args:
        rows: A model and kind each.
        later: Whether the models were measured later, and not held out in turn.
    """
    columns = (
        Column("model", "model"),
        Column("kind", "from"),
        _third("spearman", "Spearman of S"),
        _third("rmse", "RMSE, log2"),
        _third("covered", "intervals that hold"),
        _third("spearman_damage", "Spearman of damage"),
        _third("covered_damage", "intervals that hold, damage"),
        Column("spread", "least S"),
        Column("damage", "least damage"),
    )

    def triple(one: Json) -> str:
        if one["percentile"] is None:
            return f"{one['blocks']}: {one.get('reason', 'not measured')}"
        percentile, regret = (columns[2].text(one[key]) for key in ("percentile", "regret"))
        return f"{one['blocks']}: {percentile}, regret {regret}"

    named = (
        {**row["masks"]["spread"], "model": short_name(row["model"]), "kind": row["kind"],
         **{f"{key}_damage": row["masks"]["damage"][key] for key in ("spearman", "covered")},
         **{key: triple(row["objectives"][key]) for key in OBJECTIVES}}
        for row in rows
    )  # fmt: skip
    return Table(
        id="forecast",
        title="Each later model" if later else "Each family held out",
        columns=columns,
        rows=by_key(columns, named),
    )


def scores_table(rows: Sequence[Json]) -> Table:
    """Returns a row a kind of forecast and quantity: means over families, later and held out.

    Args:
        rows: By ``kind``, what ``later`` models came to and what families ``held_out`` did; both
            by quantity. The second may be empty.
    """
    told = {"spearman": "Spearman", "rmse": "RMSE, log2", "covered": "intervals that hold"}
    when = {"later": "later", "held_out": "held out"}
    columns = (
        Column("kind", "from"),
        Column("quantity", "of sets of blocks"),
        *(
            _third(f"{score}_{key}", f"{said}, {name}")
            for key, name in when.items()
            for score, said in told.items()
        ),
    )
    shown = (
        {"kind": row["kind"], "quantity": name}
        | {
            f"{score}_{key}": row[key].get(quantity, {}).get(score)
            for key in when
            for score in told
        }
        for row in rows
        for quantity, name in QUANTITIES.items()
    )
    return Table(
        id="scores",
        title="How good forecasts were",
        columns=columns,
        rows=by_key(columns, shown),
        notes=("A forecast's intervals are of 90 %.",),
    )


def regression_table(rows: Sequence[Json]) -> Table:
    """Returns a row a source that the origin's regression was fitted to."""
    columns = (
        Column("source", "on", width=1.0),
        Column("n", "n", "count"),
        _third("r2", "R²"),
        _third("intercept", "intercept"),
        _third("variance", "variance"),
        _third("r2_adjusted", "adjusted"),
        _third("r2_leave_one_out", "left out"),
        _third("r2_null", "null"),
        _third("r2_null_smooth", "smooth null"),
        Column("p", "p", "p"),
    )
    fits = (
        {**row, "source": short_name(row["source"]), "r2": Value(row["r2"], reason=row["reason"])}
        for row in rows
    )
    return Table(
        id="regression",
        title="The origin's regression of log(disparity + 1)",
        columns=columns,
        rows=by_key(columns, fits),
        notes=("On variance, outlier ratio, sparsity and position, as it was published (on numbers "
               "typed in), on what the origin measured, and on every model here. left out: R² at "
               "blocks left out of the fit; null, smooth null: 95 % of fits to unrelated, and to "
               "smooth, responses have less.",),
    )  # fmt: skip
