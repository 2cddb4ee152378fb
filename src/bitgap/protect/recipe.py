"""``recipe.toml``: which scheme every unit gets, for whom, found how; sealed before it is proved.

The file is TOML with its keys in one order, so that the same recipe is the same bytes. Its *seal*
is a hash over all but the proof, which is added later without breaking it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bitgap.codec import from_json, to_json
from bitgap.errors import PlanError, StoreError, one_line
from bitgap.files import write_text
from bitgap.protect.records import DamageTable
from bitgap.protect.sizes import Budget
from bitgap.protect.solve import Solution

FORMAT = "bitgap recipe"
VERSION = 1
_HEAD = "# Which scheme every unit gets. Made by `bitgap protect`, read by `bitgap export`.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeUnit:
    """What one unit gets."""

    scheme: str
    bytes: int
    """What it then takes in the file."""
    matrices: tuple[str, ...]
    """Weight matrices that it holds, as the model names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A plan by unit, with what it was made of."""

    format: str = FORMAT
    version: int = VERSION
    model: str
    """Name of the model."""
    fingerprint: str
    """Of its weights."""
    budget: str
    """As it was asked for."""
    budget_bytes: int
    """Of the file."""
    bytes: int
    """Of the file: units and what is stored whole."""
    fixed_bytes: int
    """What is stored whole."""
    objective: str
    no_harm: tuple[str, ...]
    """Who must not be worse off than under the uniform plan."""
    spare: float | None = None
    """What the search let a language pay against the language-blind plan, as a share."""
    target: str = ""
    """Toolchain that must load it; empty for any."""
    seed: int
    table: str
    """SHA-256 of the damage table."""
    split: str
    """SHA-256 of the split of sentences."""
    commands: tuple[str, ...] = ()
    """What made it."""
    units: Mapping[str, RecipeUnit]
    proof: str = ""
    """SHA-256 of the proof; empty until there is one. No part of the seal."""
    sealed: str = field(default="")
    """The seal, as it stands in the file; empty in a recipe that was never written."""

    def __post_init__(self) -> None:
        if self.format != FORMAT or self.version != VERSION:
            raise ValueError(
                f"it is a {self.format!r} of version {self.version}, not a {FORMAT!r} of {VERSION}"
            )
        taken = sum(unit.bytes for unit in self.units.values()) + self.fixed_bytes
        if taken != self.bytes:
            raise ValueError(f"its units and fixed parts take {taken} bytes, not {self.bytes}")

    @property
    def seal(self) -> str:
        """SHA-256 over all but the proof, hexadecimal."""
        content = to_json(replace(self, proof="", sealed=""))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def schemes(self) -> dict[str, str]:
        """Scheme of every unit."""
        return {name: unit.scheme for name, unit in self.units.items()}


def make_recipe(
    table: DamageTable,
    solution: Solution,
    budget: Budget,
    *,
    split: str,
    seed: int,
    no_harm: tuple[str, ...] = (),
    spare: float | None = None,
    target: str = "",
    commands: tuple[str, ...] = (),
) -> Recipe:
    """Returns the recipe of a solution.

    Args:
        table: That it was found by.
        solution: The plan.
        budget: That it keeps.
        split: Digest of the split of sentences.
        seed: Of split and search.
        no_harm: As the search had it.
        spare: As the search had it.
        target: Toolchain that must load it.
        commands: What made it.

    Raises:
        PlanError: If the plan is none of the table's, or takes more than the budget.

    Example:
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=100, asked="28.4kB")
        >>> recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        >>> read_text(text_of(recipe), "recipe.toml").seal == recipe.seal
        True
    """
    facts = table.facts
    given = dict(solution.schemes)
    units = dict[str, RecipeUnit]()
    for unit, choices in zip(facts.units, facts.choices, strict=True):
        by_name = {choice.scheme: choice for choice in choices if choice is not None}
        choice = by_name.get(given.get(unit.name, ""))
        if choice is None:
            raise PlanError(
                f"unit {unit.name!r} was given {given.get(unit.name)!r}; the table has "
                f"{', '.join(by_name)}"
            )
        units[unit.name] = RecipeUnit(
            scheme=choice.scheme,
            bytes=choice.size_bytes,
            matrices=tuple(matrix.name for matrix in unit.matrices),
        )
    taken = sum(unit.bytes for unit in units.values()) + budget.fixed_bytes
    if taken > budget.size_bytes:
        raise PlanError(f"the plan takes {taken} bytes, and the budget is {budget.size_bytes}")
    return Recipe(
        model=facts.model,
        fingerprint=facts.fingerprint,
        budget=budget.asked,
        budget_bytes=budget.size_bytes,
        bytes=taken,
        fixed_bytes=budget.fixed_bytes,
        objective=solution.objective,
        no_harm=no_harm,
        spare=spare,
        target=target,
        seed=seed,
        table=table.digest,
        split=split,
        commands=commands,
        units=units,
    )


def text_of(recipe: Recipe) -> str:
    """Returns a recipe as TOML, with its seal; the same recipe is the same text.

    Example:
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
        >>> text = text_of(make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0))
        >>> text.splitlines()[1]
        'format = "bitgap recipe"'
    """
    content: dict[str, Any] = to_json(replace(recipe, sealed=recipe.seal))
    units = content.pop("units")
    lines = [f"{key} = {_toml(value)}" for key, value in content.items() if value is not None]
    lines += ["", "[units]"]
    lines += [f"{_quoted(name)} = {_toml(unit)}" for name, unit in units.items()]
    return _HEAD + "\n".join(lines) + "\n"


def read_text(text: str, name: str) -> Recipe:
    """Returns the recipe that a text holds.

    Args:
        text: As :func:`text_of` wrote it.
        name: Of the file, for messages.

    Raises:
        StoreError: If it is no TOML, no recipe, or its seal is broken.

    Example:
        >>> read_text("format = ", "recipe.toml")
        Traceback (most recent call last):
        ...
        bitgap.errors.StoreError: 'recipe.toml' is no TOML: Invalid value (at end of document); \
restore it, or make it again
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no TOML error
        raise StoreError(
            f"{name!r} is no TOML: {one_line(error)}; restore it, or make it again"
        ) from None
    if content.get("format") != FORMAT:
        raise StoreError(f"{name!r} is no recipe; name a file that `bitgap protect` wrote")
    try:
        recipe = from_json(Recipe, content)
        seal = recipe.seal
    except ValueError as error:  # TOML knows nan and inf, which no seal is made of
        raise StoreError(f"{name!r} cannot be read: {error}; make it again") from None
    if recipe.sealed != seal:
        raise StoreError(
            f"the seal of {name!r} is broken: it was changed after it was found, so that no proof "
            f"is of it; restore it, or make it again"
        )
    return recipe


def write_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Writes ``recipe.toml``, over what was there; whole or not at all.

    Raises:
        StoreError: If it cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
        >>> recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_recipe(recipe, pathlib.Path(folder) / "recipe.toml")
        ...     read_recipe(pathlib.Path(folder) / "recipe.toml").schemes == recipe.schemes
        True
    """
    try:
        write_text(Path(path), text_of(recipe))
    except OSError as error:
        raise StoreError(
            f"cannot write {os.fspath(path)!r} ({error.strerror or error}); name a file in a "
            f"folder that can be written"
        ) from error


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Returns the recipe of a file.

    Raises:
        StoreError: If it cannot be read, is no recipe, or its seal is broken.

    Example:
        >>> read_recipe("nowhere.toml")
        Traceback (most recent call last):
        ...
        bitgap.errors.StoreError: cannot read 'nowhere.toml' (No such file or directory); name a \
file that `bitgap protect` wrote
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot read {name!r} ({error.strerror or error}); name a file that `bitgap protect` "
            f"wrote"
        ) from None
    except UnicodeDecodeError as error:
        raise StoreError(f"{name!r} is no recipe: it is not UTF-8 ({error.reason})") from None
    return read_text(text, name)


def check_model(recipe: Recipe, fingerprint: str) -> None:
    """Refuses a recipe that was made for other weights.

    Raises:
        PlanError: Naming both fingerprints.

    Example:
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
        >>> recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        >>> check_model(recipe, TABLE.facts.fingerprint)
    """
    if recipe.fingerprint != fingerprint:
        raise PlanError(
            f"the recipe was made for {recipe.model} ({recipe.fingerprint[:12]}…), and the model "
            f"given has other weights ({fingerprint[:12]}…); give that model, or make a recipe for "
            f"this one"
        )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        inside = (f"{_key(k)} = {_toml(v)}" for k, v in value.items())  # type: ignore[reportUnknownVariableType]
        return f"{{ {', '.join(inside)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"  # type: ignore[reportUnknownArgumentType]
    return repr(value)


def _key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else _quoted(name)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's too; DEL alone JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
