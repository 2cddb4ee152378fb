"""Texts of calibration against languages of evaluation, and what each choice of text gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitgap.show.numbers import Unit, told
from bitgap.show.table import Column, Record, Table, Value, json_of

Json = Mapping[str, Any]

_WITH_INTERVALS = 4
"""Languages up to which a cell has room for its interval."""


def calibration_table(calibration: Record | Json) -> Table:
    """Returns a row a text of calibration, with the damage of each language after it.

    Args:
        calibration: A :class:`bitgap.disparity.calibration.Calibration`, or its JSON.
    """
    found = json_of(calibration)
    codes = found["languages"]
    unit = Unit.of((v for row in found["rows"] for v in row["damage"]), found["reference"])
    roomy = len(codes) <= _WITH_INTERVALS
    return Table(
        id="calibration",
        title=f"Damage by text of calibration at {found['calibration_scheme']}, {unit.name}",
        columns=(
            Column("text", "calibrated on"),
            *(
                Column(code, code, "interval" if roomy else "number", factor=unit.factor)
                for code in codes
            ),
            Column("spread", "S", "interval", decimals=2,
                   note="S: standard deviation over languages of log2 damage per token."),
        ),
        rows=tuple(
            (
                row["text"],
                *(Value(v, *ends) for v, ends in zip(row["damage"], row["damage_ci"], strict=True)),
                Value(row["spread"], *row["spread_ci"]),
            )
            for row in found["rows"]
        ),
        notes=(
            f"A column is the language that damage K is measured on. {unit.note}.",
            f"Rounded with error feedback on {found['n_tokens']:,} tokens of the text in the first "
            f"column; nearest and one bit more are rounded to nearest, without a text.",
            f"Intervals of 95 % over {found['n_sentences']} sentences, which calibrated nothing"
            + ("." if roomy else "; those of single cells are in the JSON."),
        ),
    )  # fmt: skip


def gains_table(calibration: Record | Json) -> Table:
    """Returns a row a language: what its own text gains over others', and the mixture over it.

    As :func:`calibration_table`.
    """
    found = json_of(calibration)
    columns = ("own", "from_reference", "mixture")
    rows: list[tuple[Any, ...]] = []
    for a, code in enumerate(found["languages"]):
        out = found["left_out"].get(code, "")
        cells = (Value(found[name][a], *found[f"{name}_ci"][a]) for name in columns)
        rows.append((f"{code}*" if out else code, *cells))
    rows.append(("mean", *(
        Value(found[f"{name}_mean"], *found[f"{name}_mean_ci"]) for name in columns
    )))  # fmt: skip
    reference = found["reference"]
    notes = ["In log2 of damage: +1 is half of it. Means leave out what is marked by *."] * bool(
        found["left_out"]
    ) or ["In log2 of damage: +1 is half of it."]
    return Table(
        id="calibration-gains",
        title="What the text of calibration gains",
        columns=(
            Column("language", "language"),
            Column("own", "own text", "interval", decimals=2, signed=True,
                   note="own text: over the other languages' texts."),
            Column("from_reference", f"not {reference}", "interval", decimals=2, signed=True,
                   note=f"not {reference}: its own text over {reference}'s."),
            Column("mixture", "mixture", "interval", decimals=2, signed=True,
                   note="mixture: over its own text; below 0 where its own is better."),
        ),
        rows=tuple(rows),
        notes=(*notes, *(f"* {code}: {why}." for code, why in found["left_out"].items())),
    )  # fmt: skip


def answer_rows(calibration: Record | Json) -> list[tuple[str, str]]:
    """Returns what is asked first, each with its number: calibration, own text, a bit, which.

    As :func:`calibration_table`.
    """
    found = json_of(calibration)
    rows = [
        ("calibration", f"takes off {_gain(found, 'feedback_mean')}, mixture against nearest"),
        ("own text", f"{_gain(found, 'own_mean')}, against other languages' texts{_lot(found)}"),
        ("mixture", f"{_gain(found, 'mixture_mean')}, against own text"),
        ("one bit", f"{_gain(found, 'bit_mean')}, rounded to nearest"),
        ("S", f"{_gain(found, 'spread_change', 'log2 units')}, from {found['reference']}'s text to "
              f"the mixture"),
    ]  # fmt: skip
    if found["bit_less_own"] is not None:
        said = {
            "bits": "one bit more takes off more than the own language's text does",
            "language": "the own language's text takes off more than one bit more",
            "not told": "which takes off more, a bit or the own language's text, is not told",
        }
        rows.append(("answer", f"{said[found['matters']]} ({_gain(found, 'bit_less_own')})"))
    return rows


def _gain(found: Json, name: str, unit: str = "log2") -> str:
    return f"{told(found[name], found[f'{name}_ci'])} {unit}"


def _lot(found: Json) -> str:
    if found["chance"] is None:
        return ""
    return f"; {found['chance']:.2g} of {found['orders']:,} assignments by lot do as well"
