"""What a search for a recipe came to, with its proof: one record that a run stores, pages show."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitgap.codec import encode, to_json
from bitgap.protect.calibration import Calibration
from bitgap.protect.proof import Proof
from bitgap.protect.recipe import Recipe
from bitgap.protect.solve import MostToGain


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChoice:
    """What one unit got."""

    unit: str
    kind: str
    block: int | None
    """None of embedding and head."""
    n_weights: int
    scheme: str
    bits: float
    """Bits of a code."""
    size_bytes: int
    same_bits: float | None
    """Share of searches on resampled text that gave it the same bits; None where the plan was found
    by measuring, which is not done again for every draw."""
    others: Mapping[str, str]
    """Its scheme in each plan that the recipe was compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one plan does, measured: damage in bits per reference character, by language in the
    order of the outcome's languages.
    """

    name: str
    plan: str
    """Its text; empty where there is none under this budget."""
    size_bytes: int
    """Of the file."""
    slack_bytes: int
    """Bytes of the budget that it leaves."""
    search_bits: tuple[float, ...]
    """On the text of the search."""
    confirm_bits: tuple[float, ...]
    """On the text that confirms."""
    reason: str = ""
    """Why there is no such plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """The best plan at one size."""

    size_bytes: int
    """Of the file."""
    bits: float
    """Bits a weight of the units."""
    damage_bits: tuple[float, ...]
    """By language: by the table, or measured on the text that confirms."""
    uniform_bits: tuple[float, ...]
    """The same of the uniform plan of these bytes."""
    schemes: Mapping[str, str]
    """Scheme of every unit."""
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One part of the work, with what it was said to take and took."""

    name: str
    predicted_s: float
    took_s: float
    processor_s: float | None = None
    """Of processors, all threads together: what it takes where nothing runs beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A recipe, how it was found, and what it gained on sentences that the search has not seen."""

    recipe: Recipe
    languages: tuple[str, ...]
    """Those that count, in the order of all numbers by language."""
    reference: str
    left_out: Mapping[str, str]
    """Languages that no plan was chosen by, with the reason."""
    budget_bits: float
    """Bits a weight that the units may take."""
    instrument: str
    n_sentences: Mapping[str, int]
    """Of ``calibrate``, ``search`` and ``confirm``."""
    most: MostToGain | None
    """What knowing languages could gain at most, by the table; None where there was no choice."""
    foreseen: float | None
    """Smallest gain on the language-blind plan that the confirming text was expected to show, of
    the plan that was found for the objective, whether it was taken or not."""
    calibration: Calibration | None
    """The table held against measured plans; None where there was no choice."""
    refined: int
    """Plans measured in the search on true damage; 0 where the table was trusted."""
    value: float
    """The objective by the table, as a share of the uniform plan's."""
    bound: float
    """By the table no plan has a smaller one."""
    gap: float
    """By how much of it the objective may be above the best, as a share."""
    has_choice: bool
    """False where no other plan fits the budget."""
    units: tuple[UnitChoice, ...]
    plans: tuple[Measured, ...]
    """The recipe first, then every comparator."""
    proof: Proof
    frontier: tuple[FrontierPoint, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON."""
        return to_json(self)


def proof_digest(proof: Proof) -> str:
    """Returns the SHA-256 of a proof, hexadecimal, as a recipe names it.

    Example:
        >>> from bitgap.protect.example import CONFIRM
        >>> from bitgap.protect.proof import Rival, prove
        >>> proof = prove(CONFIRM, "recipe", [Rival(name="uniform", plan="uniform")], ["he"],
        ...               seal="0" * 64, split="1" * 64, seed=0)
        >>> len(proof_digest(proof))
        64
    """
    return hashlib.sha256(encode(proof).encode()).hexdigest()
