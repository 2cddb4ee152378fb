"""The page of recipes has no number but those of its records, and says what each came to."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bitgap.protect.calibration import calibrate
from bitgap.protect.example import PROBLEM, TABLE, made_scores
from bitgap.protect.outcome import Measured, Outcome, UnitChoice
from bitgap.protect.proof import Rival, prove
from bitgap.protect.recipe import make_recipe, read_text, text_of
from bitgap.protect.sizes import Budget
from bitgap.protect.solve import most_to_gain, solve
from bitgap.report.docs_pages.recipes import (
    recipes_page,
    record_of,
    refusal_of,
    searches_table,
    theory_table,
    verdicts_table,
)

QUESTION = {"model": "example", "budget": 4.25, "command": "bitgap protect example --budget 4.25"}


@pytest.fixture(scope="module")
def found() -> Outcome:
    """An outcome of the example, with the ends' plan and random ones among what was scored."""
    assert TABLE.sentence_bits is not None and TABLE.characters is not None
    ours, blind = solve(PROBLEM, spare=None), solve(PROBLEM, "mean").picks
    blocks = {b for b in PROBLEM.blocks if b is not None}
    ends = PROBLEM.raised(
        PROBLEM.cheapest, PROBLEM.dearest,
        [g for g, b in enumerate(PROBLEM.blocks) if b in (0, max(blocks))],
    )  # fmt: skip
    plans = {"recipe": ours.picks, "uniform": PROBLEM.uniform, "ends protected": ends,
             "language-blind": blind, "r0": PROBLEM.cheapest}  # fmt: skip
    parts = np.arange(len(PROBLEM.parts))
    bits = [TABLE.sentence_bits[:, parts, np.array(picks)].sum(1) for picks in plans.values()]
    scores = made_scores(list(plans), TABLE.facts.languages, np.array(bits), TABLE.characters)
    names = ["uniform", "ends protected", "language-blind"]
    budget = Budget(size_bytes=28_288, fixed_bytes=0, asked="4.25 bits a weight")
    recipe = make_recipe(TABLE, ours, budget, split="2" * 64, seed=0)
    proof = prove(
        scores, "recipe", [Rival(name=name, plan=name) for name in names], ["he"], seal="0" * 64,
        split="2" * 64, seed=0, random=["r0"], draws=200,
    )  # fmt: skip
    units = tuple(
        UnitChoice(
            unit=unit.name, kind=unit.kind, block=unit.block, n_weights=unit.n_weights,
            scheme=dict(ours.schemes)[unit.name], bits=4.0, size_bytes=1, same_bits=None,
            others={name: PROBLEM.by_unit(plans[name])[unit.name] for name in names},
        )
        for unit in TABLE.facts.units
    )  # fmt: skip
    measured = [
        Measured(name=name, plan=name, size_bytes=1, slack_bytes=0, search_bits=(),
                 confirm_bits=tuple(map(float, PROBLEM.damage_of(plans[name]))))
        for name in ["recipe", *names]
    ]  # fmt: skip
    none = Measured(name="most varied 2 protected", plan="", size_bytes=0, slack_bytes=0,
                    search_bits=(), confirm_bits=(), reason="the same blocks as ends protected",
                    )  # fmt: skip
    rng = np.random.default_rng(0)
    true = rng.gamma(4, 1, (12, 3)) + 0.1
    return Outcome(
        recipe=read_text(text_of(recipe), "recipe.toml"), languages=PROBLEM.languages,
        reference="en", left_out={}, budget_bits=4.25, instrument="screen",
        n_sentences={"calibrate": 8, "search": 12, "confirm": 20}, most=most_to_gain(PROBLEM),
        foreseen=0.05, calibration=calibrate(PROBLEM.languages, true, true), refined=0,
        value=ours.value, bound=ours.bound, gap=ours.gap, has_choice=True, units=units,
        plans=(*measured, none), proof=proof, notes=("A note of the search.",),
    )  # fmt: skip


def test_a_record_is_json_and_the_page_is_made_of_it_alone(found: Outcome) -> None:
    kept = json.loads(json.dumps(record_of(found, QUESTION)))
    page = recipes_page([kept], "make recipes")
    assert page == recipes_page([record_of(found, QUESTION)], "make recipes")
    assert "## example, 4.25 bits a weight" in page
    assert "A note of the search." in page
    assert "`bitgap protect example --budget 4.25`" in page
    assert "the same blocks as ends protected" in page
    for title in ("Verdicts", "Searches", "### What the theory would have chosen"):
        assert title in page
    assert "random plans" in page and "None" not in page and "nan" not in page


def test_a_search_that_nobody_can_make_is_told_with_its_reason(found: Outcome) -> None:
    refused = refusal_of("the reference en is left out (collapsed)", QUESTION | {"budget": 3.25})
    page = recipes_page([json.loads(json.dumps(refused))], "make recipes")
    assert "## example, 3.25 bits a weight" in page
    assert "No recipe: the reference en is left out (collapsed)." in page
    both = recipes_page([refused, record_of(found, QUESTION)], "make recipes")
    assert "No recipe: " in both and "Verdicts" in both


def test_verdicts_are_those_of_the_proof(found: Outcome) -> None:
    rows = verdicts_table([record_of(found, QUESTION)]).rows
    assert [row[1] for row in rows] == [
        "uniform", "ends protected", "language-blind", "1 random plans",
    ]  # fmt: skip
    for row, one in zip(rows, found.proof.against, strict=False):
        assert row[4] == one.verdict
        assert one.gain.value is not None
        assert row[2].value == pytest.approx(100 * (1 - 2**-one.gain.value))
    # German and English pay for Hebrew where nobody asks them.
    assert rows[2][5] == "en, de"
    assert rows[-1][4] == "0 as good as the recipe (p = 0.50)"


def test_blocks_of_most_bits_are_told_for_every_plan(found: Outcome) -> None:
    table = theory_table(record_of(found, QUESTION))
    by_plan = {row[0]: row for row in table.rows}
    assert by_plan["uniform"][1] == "all 4.0"
    assert by_plan["uniform"][2] is None
    assert by_plan["ends protected"][1].startswith("L0 6.0, L2 6.0, L1 2.0")
    assert by_plan["recipe"][2] is None
    assert -1 <= by_plan["ends protected"][2] <= 1


def test_a_search_without_a_choice_or_a_record_is_told(found: Outcome) -> None:
    bare = replace(found, most=None, foreseen=None, calibration=None, has_choice=False)
    (row,) = searches_table([record_of(bare, QUESTION)]).rows
    assert row[-1] is None and row[-2] is None and row[5] is None
    assert "No recipe is recorded yet." in recipes_page([], "make recipes")
