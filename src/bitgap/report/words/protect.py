"""What a recipe costs, who gains and who pays, and whether knowing languages mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitgap.languages import named
from bitgap.report.words.phrases import Answer, joined
from bitgap.show.numbers import lacks

Json = Mapping[str, Any]
BLIND, UNIFORM = "language-blind", "uniform"


def recipe_answers(result: Json) -> tuple[Answer, ...]:
    """Returns the answers of a run of protect."""
    return (_cost(result), _gains(result), _mattered(result))


def _cost(result: Json) -> Answer:
    recipe = result["recipe"]
    spread = _bits_spread(result["units"])
    short = (
        f"{recipe['bytes']:,} bytes, {recipe['budget_bytes'] - recipe['bytes']:,} under the "
        f"budget of {recipe['budget']}, as every plan it is compared with may take: {spread}."
    )
    if not result["has_choice"]:
        short = f"There was no choice: of all plans only this one fits {recipe['budget']}."
    details = [
        f"{recipe['fixed_bytes']:,} bytes of it are stored whole whatever the plan.",
        f"By the table the objective ({recipe['objective']}) is {result['value']:.3f} of the "
        f"uniform plan's, and no plan's is below {result['bound']:.3f}.",
        *result["notes"],
    ]
    if (calibration := result["calibration"]) is not None:
        details.insert(1, _trusted(result, calibration))
    return Answer("cost", "What does it cost?", short, tuple(details))


def _bits_spread(units: Sequence[Json]) -> str:
    by_bits: dict[float, int] = {}
    for one in units:
        by_bits[one["bits"]] = by_bits.get(one["bits"], 0) + one["n_weights"]
    whole = sum(by_bits.values())
    return joined([f"{n / whole:.0%} of the weights at {bits:g} bits"
                   for bits, n in sorted(by_bits.items())])  # fmt: skip


def _trusted(result: Json, calibration: Json) -> str:
    n = calibration["n_plans"]
    if calibration["trusted"]:
        low = min(r for r in calibration["rank"] if r is not None)
        return (
            f"The table, by {result['instrument']}, ranks {n} measured random plans with a "
            f"correlation of {low:.2f} or more in every language, and was trusted."
        )
    return (
        f"The table, by {result['instrument']}, was held against {n} measured random plans and "
        f"not trusted ({calibration['reasons'][0]}); {result['refined']} plans were measured "
        f"instead."
    )


def _against(result: Json, name: str) -> Json | None:
    return next((a for a in result["proof"]["against"] if a["rival"]["name"] == name), None)


def _gains(result: Json) -> Answer:
    question = "Who gains, and who pays?"
    one = _against(result, UNIFORM)
    if one is None:
        return Answer("gains", question, "There is no uniform plan of these bytes.", ())
    sure = {c: e for c, e in one["change"].items() if not lacks((e["low"], e["high"]))}
    gain = [c for c, e in sure.items() if e["high"] < 0]
    pay = [c for c, e in sure.items() if e["low"] > 0]
    open_ = [c for c in sure if c not in gain and c not in pay]
    parts = [f"Against the uniform plan of the same bytes {_names(gain)} "
             f"{'gains' if len(gain) == 1 else 'gain'}" if gain else
             "Against the uniform plan of the same bytes no language surely gains"]  # fmt: skip
    parts.append(f"{_names(pay)} {'pays' if len(pay) == 1 else 'pay'}" if pay else "nobody surely "
                 "pays")  # fmt: skip
    mean = one["mean_gain"]
    details = [f"{one['verdict'].capitalize()}: {one['reason']}."]
    if mean["value"] is not None:
        details.append(f"The mean over languages is {_percent_less(mean)}.")
    if open_:
        details.append(f"Not told: {_names(open_)}.")
    details += [f"{_name(c)}: {_change(e)}." for c, e in sorted(
        one["change"].items(), key=lambda item: item[1]["value"] or 0.0)]  # fmt: skip
    details += [f"{_name(c)} has no number: {why}." for c, why in one["left_out"].items()]
    details += [f"{_name(c)} is left out: {why}." for c, why in result["left_out"].items()]
    return Answer("gains", question, f"{', and '.join(parts)}.", tuple(details))


def _mattered(result: Json) -> Answer:
    question = "Did it matter to know languages?"
    one = _against(result, BLIND)
    if one is None:
        return Answer("mattered", question, "Not known: no language-blind plan was scored.", ())
    said = {
        "helps, nobody harmed": "Yes: the worst hit are hurt less than under the language-blind "
        "plan of the same bytes, and nobody is harmed.",
        "helps, harm not excluded": "The worst hit are hurt less than under the language-blind "
        "plan of the same bytes; that nobody is harmed is not shown.",
        "no detectable gain": "No gain could be told from noise on the plan of least mean damage, "
        "which knows no languages and has the same bytes.",
        "harms": "It did harm: the language-blind plan of the same bytes is better for somebody.",
    }[one["verdict"]]
    if one["rival"]["plan"] == result["plans"][0]["plan"]:
        said = "No: the recipe is the plan of least mean damage, which knows no languages."
    details = [f"{one['verdict'].capitalize()}: {one['reason']}."]
    worst = result["proof"]["worst"]
    details.append(f"Judged by {_names(worst)}, which the language-blind plan hurts most, as "
                   f"fixed on the text of the search.")  # fmt: skip
    if one["detectable"] is not None:
        details.append(
            f"So much text finds a gain of {1 - 2 ** -one['detectable']:.1%} in 80 % of cases."
        )
    if (most := result["most"]) is not None:
        share = max(0.0, 1 - most["bound"] / most["blind"])
        free = max(0.0, 1 - most["free_bound"] / most["blind"])
        details.append(
            f"By the table {share:.1%} could be gained at most if nobody pays, {free:.1%} if "
            f"others may."
        )
    for key, what in (("placebo", "searches on permuted labels"), ("random", "random plans")):
        if (chance := result["proof"][key]) is not None:
            details.append(f"Against {chance['n']} {what}: p = {chance['p']:.2f}.")
    return Answer("mattered", question, said, tuple(details))


def _percent_less(gain: Json) -> str:
    less = [100 * (1 - 2**-x) for x in (gain["value"], gain["low"], gain["high"]) if x is not None]
    ends = f" [{less[1]:.1f}, {less[2]:.1f}]" if len(less) == 3 else ""
    word = "less" if less[0] >= 0 else "more"
    return f"{abs(less[0]):.1f} %{ends} {word}"


def _change(one: Json) -> str:
    if one["value"] is None:
        return f"no number ({one['reason']})"
    value = 100 * (2 ** one["value"] - 1)
    if lacks((one["low"], one["high"])):
        return f"{value:+.1f} %, no interval ({one['reason']})"
    low, high = (100 * (2**x - 1) for x in (one["low"], one["high"]))
    return f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"


def _names(codes: Sequence[str]) -> str:
    return joined([_name(code) for code in codes])


def _name(code: str) -> str:
    return named(code).name
