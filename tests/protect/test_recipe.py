"""A recipe is the same bytes each time, is sealed, and says what is wrong with one that is not."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitgap.errors import PlanError, StoreError, UsageError
from bitgap.protect.example import PROBLEM, TABLE
from bitgap.protect.proof import sealed
from bitgap.protect.recipe import (
    Recipe,
    RecipeUnit,
    check_model,
    make_recipe,
    read_recipe,
    read_text,
    text_of,
    write_recipe,
)
from bitgap.protect.sizes import Budget
from bitgap.protect.solve import solve

BUDGET = Budget(size_bytes=28_400, fixed_bytes=100, asked="28.4kB")
SOLUTION = solve(PROBLEM)
MADE = make_recipe(
    TABLE, SOLUTION, BUDGET, split="2" * 64, seed=7, no_harm=("reference", "mean"), spare=0.01,
    target="torchao", commands=("bitgap protect model --size 28.4kB",),
)  # fmt: skip


def test_a_recipe_is_read_back_as_it_was(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    write_recipe(MADE, one)
    write_recipe(make_recipe(
        TABLE, solve(PROBLEM), BUDGET, split="2" * 64, seed=7, no_harm=("reference", "mean"),
        spare=0.01, target="torchao", commands=("bitgap protect model --size 28.4kB",),
    ), two)  # fmt: skip
    assert one.read_bytes() == two.read_bytes()
    read = read_recipe(one)
    assert replace(read, sealed="") == MADE
    assert read.sealed == MADE.seal == sealed(read)
    assert list(tmp_path.iterdir()) == [one, two] or len(list(tmp_path.iterdir())) == 2
    # Any reader of TOML sees the same.
    content = tomllib.loads(one.read_text(encoding="utf-8"))
    assert {name: unit["scheme"] for name, unit in content["units"].items()} == MADE.schemes
    assert sum(unit["bytes"] for unit in content["units"].values()) == MADE.bytes - 100
    write_recipe(read, two)
    assert one.read_bytes() == two.read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    scheme=st.text(st.characters(exclude_categories=["Cs"])),
    spare=st.none() | st.floats(0, 1),
)
def test_any_text_survives(name: str, scheme: str, spare: float | None) -> None:
    unit = RecipeUnit(scheme=scheme, bytes=10, matrices=(name, 'a"b\\c\x7f'))
    recipe = replace(MADE, units={name: unit}, bytes=110, model=name, spare=spare)
    assert replace(read_text(text_of(recipe), "x"), sealed="") == recipe


def test_a_proof_is_added_without_breaking_the_seal() -> None:
    proved = replace(MADE, proof="3" * 64)
    assert proved.seal == MADE.seal
    assert read_text(text_of(proved), "recipe.toml").proof == "3" * 64


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 7", "seed = 8", "the seal of 'recipe.toml' is broken"),
        ('scheme = "rtn4-g64"', 'scheme = "rtn5-g64"', "the seal of 'recipe.toml' is broken"),
        ("seed = 7\n", "", r"lacks \['seed'\]"),
        ("seed = 7", "seed = 7.5", "Recipe.seed does not fit: it is 7.5, not int"),
        ("seed = 7", "seeds = 7", "unknown fields"),
        ("fixed_bytes = 100", "fixed_bytes = 99", "take 28387 bytes, not 28388"),
        ("version = 1", "version = 2", "version 2, not a 'bitgap recipe' of 1"),
        ('format = "bitgap recipe"', 'format = "recipe"', "is no recipe"),
        ("[units]", "[units", "is no TOML"),
        ("bytes = 8704, matrices", "bytes = true, matrices", "does not fit: it is True, not int"),
    ],
)
def test_what_was_changed_is_told(old: str, new: str, message: str) -> None:
    text = text_of(MADE)
    assert old in text
    with pytest.raises(StoreError, match=message):
        read_text(text.replace(old, new, 1), "recipe.toml")


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match="is not UTF-8"):
        read_recipe(tmp_path / "bytes.toml")
    with pytest.raises(StoreError, match="Is a directory"):
        read_recipe(tmp_path)
    with pytest.raises(StoreError, match="cannot write"):
        write_recipe(MADE, tmp_path / "nowhere" / "recipe.toml")


def test_a_recipe_is_of_one_model_and_of_plans_that_fit() -> None:
    check_model(MADE, TABLE.facts.fingerprint)
    with pytest.raises(PlanError, match=r"made for example \(000000000000…\)"):
        check_model(MADE, "f" * 64)
    with pytest.raises(PlanError, match="takes 28388 bytes, and the budget is 28387"):
        make_recipe(TABLE, SOLUTION, replace(BUDGET, size_bytes=28_387), split="", seed=0)
    other = replace(SOLUTION, schemes=(("embedding", "rtn7-g64"), *SOLUTION.schemes[1:]))
    with pytest.raises(PlanError, match="'embedding' was given 'rtn7-g64'; the table has rtn2-g64"):
        make_recipe(TABLE, other, BUDGET, split="", seed=0)


def test_only_what_was_written_is_proved() -> None:
    with pytest.raises(UsageError, match="was not sealed"):
        sealed(MADE)
    changed = replace(read_text(text_of(MADE), "recipe.toml"), seed=8)
    with pytest.raises(UsageError, match="was not sealed"):
        sealed(changed)
    assert isinstance(changed, Recipe)
