"""A recipe: who gains and who pays, its proof, what every unit got, other budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.show.numbers import Unit
from bitgap.show.table import Column, Record, Table, Value, json_of
from bitgap.show.tables.unit_map import short_units

Json = Mapping[str, Any]

BLIND, UNIFORM = "language-blind", "uniform"
_OUTSIDE = "outside"


def recipe_languages_table(outcome: Record | Json) -> Table:
    """Returns a row a language: damage under the recipe, and its change against two plans.

    Args:
        outcome: A :class:`bitgap.protect.outcome.Outcome`, or its JSON.
    """
    found = json_of(outcome)
    plans = {one["name"]: one for one in found["plans"]}
    against = {one["rival"]["name"]: one for one in found["proof"]["against"]}
    unit = Unit.of((x for one in found["plans"] for x in one["confirm_bits"]), found["reference"])
    worst = {*found["proof"]["worst"]}
    rows = [
        (
            code + ("*" if code in worst else ""),
            _damage(plans, "recipe", i),
            _damage(plans, UNIFORM, i),
            _damage(plans, BLIND, i),
            _change(against.get(UNIFORM), code),
            _change(against.get(BLIND), code),
        )
        for i, code in enumerate(found["languages"])
    ]
    left_out = [f"{code} is left out: {why}." for code, why in found["left_out"].items()]
    return Table(
        id="recipe-languages",
        title="Who gains, and who pays",
        columns=(
            Column("language", "language", "language", width=1.0),
            Column("recipe", "recipe", "number", unit.name, unit.factor,
                   note=f"recipe: its damage K on the sentences that confirm. {unit.note}."),
            Column("uniform", "uniform", "number", unit.name, unit.factor,
                   note="uniform: the uniform plan of the same bytes."),
            Column("blind", "blind", "number", unit.name, unit.factor,
                   note="blind: the plan of least mean damage, which knows no languages."),
            Column("off_uniform", "off uniform", "interval", "%", decimals=1, signed=True,
                   note="off uniform, off blind: change of damage against these; below 0 a "
                   "language gains, above it pays."),
            Column("off_blind", "off blind", "interval", "%", decimals=1, signed=True),
        ),
        rows=tuple(rows),
        notes=(
            *((("* the worst set: the quarter of the languages that the language-blind plan hurts "
               "most, fixed on the text of the search."),) if worst else ()),
            *left_out,
            "Intervals of 95 % over sentences, or documents.",
        ),
    )  # fmt: skip


def _damage(plans: Mapping[str, Json], name: str, i: int) -> float | None:
    one = plans.get(name)
    return one["confirm_bits"][i] if one and one["confirm_bits"] else None


def _change(against: Json | None, code: str) -> Value:
    """Returns the change of a language's damage in percent."""
    if against is None:
        return Value(None, reason="there is no such plan")
    one = against["change"].get(code)
    if one is None:
        return Value(None, reason=against["left_out"].get(code, "left out"))
    value, low, high = (
        None if x is None else 100 * (2**x - 1) for x in (one["value"], one["low"], one["high"])
    )
    return Value(value, low, high, one["reason"] or "")


def proof_table(outcome: Record | Json) -> Table:
    """Returns a row a comparator: what the recipe gains on it, and the verdict. As
    :func:`recipe_languages_table`.
    """
    found = json_of(outcome)
    against = {one["rival"]["name"]: one for one in found["proof"]["against"]}
    rows = list[tuple[Any, ...]]()
    for plan in found["plans"][1:]:
        one = against.get(plan["name"])
        if one is None:
            none = Value(None)
            rows.append((plan["name"], None, none, none, None, None, plan["reason"], ""))
            continue
        rows.append((
            plan["name"],
            plan["slack_bytes"],
            spared(one["gain"]),
            spared(one["mean_gain"]),
            None if one["detectable"] is None else 100 * (1 - 2 ** -one["detectable"]),
            None if one["optimism"] is None else 100 * (2 ** one["optimism"] - 1),
            one["verdict"],
            one["reason"],
        ))  # fmt: skip
    return Table(
        id="proof",
        title="What the recipe gains on plans of the same bytes",
        columns=(
            Column("plan", "against", width=0.3),
            Column("slack", "slack", "count", "bytes",
                   note="slack: bytes of the budget that the plan leaves."),
            Column("gain", "worst hit", "interval", "%", decimals=1, signed=True,
                   note="worst hit: how much less damage the recipe does to the worst set, by the "
                   "mean of the logarithm."),
            Column("mean", "mean", "interval", "%", decimals=1, signed=True,
                   note="mean: how much less the mean over languages is."),
            Column("detectable", "shown from", "number", "%", decimals=1,
                   note="shown from: smallest gain of the worst hit that so much text finds in "
                   "80 %."),
            Column("optimism", "optimism", "number", "%", decimals=1, signed=True,
                   note="optimism: gain on the text of the search less this one."),
            Column("verdict", "verdict", width=0.3),
            Column("why", "why", width=0.4),
        ),
        rows=tuple(rows),
        notes=tuple(_chance(found["proof"])),
    )  # fmt: skip


def spared(gain: Json) -> Value:
    """Returns a gain in log2 ratio as damage that is spared, in percent.

    Args:
        gain: An estimate's JSON.
    """
    value, low, high = (
        None if x is None else 100 * (1 - 2**-x) for x in (gain["value"], gain["low"], gain["high"])
    )
    return Value(value, low, high, gain["reason"] or "")


def _chance(proof: Json) -> list[str]:
    said = list[str]()
    if (one := proof["random"]) is not None:
        said.append(
            f"Of {one['n']} random plans of the same bytes {_as_good(one)} are as good to the "
            f"worst hit (p = {one['p']:.2f})."
        )
    if (one := proof["placebo"]) is not None:
        said.append(
            f"Of {one['n']} searches on permuted labels {_as_good(one)} gain as much on the "
            f"language-blind plan (p = {one['p']:.2f})."
        )
    return said


def _as_good(chance: Json) -> int:
    return round(chance["p"] * (chance["n"] + 1)) - 1


def recipe_table(outcome: Record | Json) -> Table:
    """Returns a row a block, with the scheme of each of its units. As
    :func:`recipe_languages_table`.
    """
    found = json_of(outcome)
    rows: dict[str, dict[str, str]] = {}
    names = list[str]()
    for one in found["units"]:
        place, name = place_of(one)
        rows.setdefault(place, {})[name] = short_scheme(one["scheme"])
        names += [] if name in names else [name]
    short = short_units([name for name in names if name != _OUTSIDE])
    return Table(
        id="recipe",
        title="What every unit gets",
        columns=(
            Column("block", "block"),
            *(Column(name, short.get(name, "scheme")) for name in names),
        ),
        rows=tuple((place, *(of.get(name) for name in names)) for place, of in rows.items()),
        notes=("4 g64: rounded to 4 bits, 64 weights of a row share a scale.",),
    )


def short_scheme(scheme: str) -> str:
    """Returns a scheme as a cell has it: bits, and what shares a scale.

    Example:
        >>> short_scheme("rtn4-g64"), short_scheme("rtn8-channel"), short_scheme("fp")
        ('4 g64', '8 channel', 'fp')
    """
    return scheme.removeprefix("rtn").replace("-", " ", 1)


def place_of(unit: Json) -> tuple[str, str]:
    """Returns the row and the column of a unit: its block and its name there."""
    if unit["block"] is None:
        return unit["unit"], _OUTSIDE
    return f"L{unit['block']}", unit["unit"].partition(".")[2]


def frontier_table(outcome: Record | Json) -> Table:
    """Returns a row a budget: damage of the best plan and of the uniform one. As
    :func:`recipe_languages_table`.
    """
    found = json_of(outcome)
    points: Sequence[Json] = found["frontier"]
    unit = Unit.of((x for one in points for x in one["uniform_bits"]), found["reference"])
    measured = bool(points) and points[0]["measured"]

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    return Table(
        id="frontier",
        title="Other budgets",
        columns=(
            Column("bits", "bits a weight", "number", decimals=2),
            Column("bytes", "file", "count", "bytes"),
            Column("mean", "mean K", "number", unit.name, unit.factor,
                   note=f"K: damage, mean over languages. {unit.note}."),
            Column("uniform", "uniform", "number", unit.name, unit.factor),
            Column("share", "share", "number", "%", 100.0, decimals=0,
                   note="share: of the uniform plan's damage."),
            Column("worst", "worst language", "text"),
        ),
        rows=tuple(
            (
                one["bits"],
                one["size_bytes"],
                mean(one["damage_bits"]),
                mean(one["uniform_bits"]),
                mean(one["damage_bits"]) / mean(one["uniform_bits"]),
                _worst(found["languages"], one),
            )
            for one in points
        ),
        notes=(
            "Measured on the sentences that confirm; the plans were found on others."
            if measured else "By the damage table alone: nothing of it was measured again, but "
            "at the budget asked for.",
        ),
    )  # fmt: skip


def _worst(languages: Sequence[str], point: Json) -> str:
    shares = [a / b for a, b in zip(point["damage_bits"], point["uniform_bits"], strict=True)]
    i = max(range(len(shares)), key=shares.__getitem__)
    return f"{languages[i]}, {shares[i]:.0%} of uniform"


def steps_table(outcome: Record | Json) -> Table:
    """Returns a row a step of the work. As :func:`recipe_languages_table`."""
    found = json_of(outcome)
    return Table(
        id="steps",
        title="What it took",
        columns=(
            Column("step", "step"),
            Column("predicted", "predicted", "number", "s", decimals=1),
            Column(
                "took",
                "took",
                "number",
                "s",
                decimals=1,
                note="took: by the clock, whatever ran beside it.",
            ),
            Column(
                "processor",
                "processors",
                "number",
                "s",
                decimals=1,
                note="processors: what all threads together were at work.",
            ),
        ),
        rows=tuple(
            (one["name"], one["predicted_s"], one["took_s"], one.get("processor_s"))
            for one in found["steps"]
        ),
    )
