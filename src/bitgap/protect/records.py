"""Units, choices and the damage table: what is known of a model before bits are given out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bitgap.codec import encode
from bitgap.errors import PlanError
from bitgap.records import Bools, Floats, Integers, Units

TIED = "tied"
"""Kind of the unit that is embedding and head at once: one matrix, counted once, acting twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One weight matrix of a model."""

    name: str
    """As the model names it, such as ``model.layers.0.self_attn.q_proj.weight``."""
    n_out: int
    """Rows."""
    n_in: int
    """Columns; groups run along them."""

    def __post_init__(self) -> None:
        if self.n_out < 1 or self.n_in < 1:
            raise ValueError(f"{self.name} has shape ({self.n_out}, {self.n_in}); it holds nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a toolchain can give bits of its own."""

    name: str
    """Such as ``3.qkv`` or ``embedding``; no other unit's."""
    kind: str
    """Its part in a block, the same in every block: ``qkv`` or ``q``, ``o``, ``down`` …; else
    ``embedding``, ``head``, or :data:`TIED` for one matrix that is both."""
    block: int | None
    """Number of its block; None of embedding and head."""
    matrices: tuple[Matrix, ...]
    """What it holds."""

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return sum(m.n_out * m.n_in for m in self.matrices)


def check_units(units: Sequence[Unit]) -> None:
    """Refuses units of which one has no matrix, or two have a name or a matrix in common.

    A matrix that stands in two units would be paid for twice, as a tied head would beside its
    embedding.

    Raises:
        PlanError: Naming what is there twice.

    Example:
        >>> one = Matrix(name="w", n_out=4, n_in=8)
        >>> check_units([Unit(name="0.o", kind="o", block=0, matrices=(one,))])
    """
    if not units:
        raise PlanError("a model was given without units; there is nothing to give bits to")
    for unit in units:
        if not unit.matrices:
            raise PlanError(f"unit {unit.name!r} holds no matrix; leave it out")
    for what, names in (
        ("unit", [unit.name for unit in units]),
        ("matrix", [matrix.name for unit in units for matrix in unit.matrices]),
    ):
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise PlanError(
                f"{what} {twice[0]!r} is there twice; a tied matrix is one unit of kind {TIED!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to store one unit, with the bytes that it takes in the file."""

    scheme: str
    """Name of the scheme, such as ``rtn4-g64``."""
    bits: float
    """Bits of a code."""
    group: str
    """What shares a scale: ``g64``, ``channel``, ``tensor``, or empty where nothing is scaled."""
    codes_bytes: int
    scales_bytes: int = 0
    zeros_bytes: int = 0
    padding_bytes: int = 0
    """What the format adds to fill words, rows or alignment, and shapes that it stores."""

    def __post_init__(self) -> None:
        parts = (self.codes_bytes, self.scales_bytes, self.zeros_bytes, self.padding_bytes)
        if min(parts) < 0 or not self.scheme:
            raise ValueError(f"choice {self.scheme!r} takes {parts} bytes; none can be below 0")

    @property
    def size_bytes(self) -> int:
        """All bytes that it takes."""
        return self.codes_bytes + self.scales_bytes + self.zeros_bytes + self.padding_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """What a damage table is of: all of it but its arrays."""

    model: str
    """Name of the model."""
    fingerprint: str
    """Of the model's weights."""
    corpus: str
    """Fingerprint of the text that damage was measured on."""
    instrument: str
    """What made the numbers, such as ``screen`` or ``swaps``."""
    languages: tuple[str, ...]
    """Rows of the arrays."""
    reference: str
    """The language whose characters damage is divided by."""
    units: tuple[Unit, ...]
    """Columns of the arrays."""
    schemes: tuple[str, ...]
    """Their last axis: names of the choices."""
    choices: tuple[tuple[Choice | None, ...], ...]
    """Each unit's choice of that name, (units x schemes); None where it has none."""
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    """Languages that no plan is chosen by, such as those that collapsed, with the reason."""

    def __post_init__(self) -> None:
        check_units(self.units)
        if self.reference not in self.languages:
            raise ValueError(f"reference {self.reference!r} is not among {self.languages}")
        if unknown := self.left_out.keys() - {*self.languages}:
            raise ValueError(f"{min(unknown)!r} is left out, but not among {self.languages}")
        widths = {len(row) for row in self.choices}
        if len(self.choices) != len(self.units) or widths != {len(self.schemes)}:
            raise ValueError("choices are not one row a unit and one column a scheme")
        for unit, row in zip(self.units, self.choices, strict=True):
            if not any(row):
                raise ValueError(f"unit {unit.name!r} has no choice at all")
            for scheme, choice in zip(self.schemes, row, strict=True):
                if choice is not None and choice.scheme != scheme:
                    raise ValueError(f"{choice.scheme!r} stands where {scheme!r} belongs")


@dataclass(frozen=True, kw_only=True)
class DamageTable:
    """What every choice for every unit does to every language.

    Shapes use A languages, U units, C schemes, N sentences and B draws. Damage is K in bits per
    character of the reference, of one unit under one choice; NaN where a unit lacks a choice. The
    damage of a plan is the sum over its units, as far as :mod:`bitgap.protect.calibration` finds
    that it is.
    """

    facts: TableFacts
    damage_bits: Floats
    """(A x U x C)."""
    sentence_bits: Floats | None = None
    """The same in bits a sentence, (A x U x C x N), where the instrument knows it."""
    characters: Integers | None = None
    """Characters of the reference's sentences, (N)."""
    documents: Integers | None = None
    """Document of each sentence, (N); None where each counts as its own."""
    draws_bits: Floats | None = None
    """``damage_bits`` of resampled text, (B x A x U x C), from an instrument that gives no
    sentences."""

    def __post_init__(self) -> None:
        facts = self.facts
        shape = (len(facts.languages), len(facts.units), len(facts.schemes))
        if self.damage_bits.shape != shape:
            raise ValueError(f"damage_bits has shape {self.damage_bits.shape}, expected {shape}")
        if self.sentence_bits is not None:
            n = 0 if self.characters is None else len(self.characters)
            if self.sentence_bits.shape != (*shape, n) or n < 1:
                raise ValueError(
                    f"sentence_bits has shape {self.sentence_bits.shape}, expected {(*shape, n)}"
                )
            if self.documents is not None and self.documents.shape != (n,):
                raise ValueError(f"documents has shape {self.documents.shape}, expected ({n},)")
        if self.draws_bits is not None and self.draws_bits.shape[1:] != shape:
            raise ValueError(f"draws_bits has shape {self.draws_bits.shape}, expected B x {shape}")
        there = self.there
        for row, language in enumerate(facts.languages):
            known = np.isfinite(self.damage_bits[row])
            if language not in facts.left_out and not known[there].all():
                unit, scheme = map(int, np.argwhere(there & ~known)[0])
                raise ValueError(
                    f"damage to {language} of {facts.units[unit].name} under "
                    f"{facts.schemes[scheme]} is no number; leave the language out, with a reason, "
                    f"if it collapsed"
                )

    @property
    def there(self) -> Bools:
        """Which units have which choices, (U x C)."""
        return np.array([[one is not None for one in row] for row in self.facts.choices])

    @property
    def size_bytes(self) -> Integers:
        """Bytes of every choice, (U x C); 0 where there is none."""
        rows = [[one.size_bytes if one else 0 for one in row] for row in self.facts.choices]
        return np.array(rows, dtype=np.int64)

    @property
    def counted(self) -> tuple[str, ...]:
        """Languages that are not left out."""
        return tuple(one for one in self.facts.languages if one not in self.facts.left_out)

    @property
    def sampled(self) -> Units | None:
        """What is resampled, where sentences are known: their number, or each one's document."""
        if self.characters is None:
            return None
        return len(self.characters) if self.documents is None else self.documents

    def arrays(self) -> dict[str, Floats | Integers]:
        """Returns the arrays that are there, by name."""
        found = {
            "damage_bits": self.damage_bits,
            "sentence_bits": self.sentence_bits,
            "characters": self.characters,
            "documents": self.documents,
            "draws_bits": self.draws_bits,
        }
        return {name: values for name, values in found.items() if values is not None}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all of it, hexadecimal."""
        seen = hashlib.sha256(encode(self.facts).encode())
        for name, values in sorted(self.arrays().items(), key=lambda one: one[0]):
            seen.update(f"{name}{values.shape}".encode())
            seen.update(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).data)
        return seen.hexdigest()
