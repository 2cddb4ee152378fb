"""Variants: what plans choose among for one block, each with one canonical name.

A variant is a scheme for all matrices of the block, and may give some of them another one::

    rtn4-g128
    rtn4-g128/rtn6-g128@mlp.down_proj/fp@self_attn.v_proj
    fp/rtn3-g128@mlp.down_proj                    one matrix rounded and nothing else

A *unit* is a matrix of a block, by the name that the block's linears have in
:meth:`bitgap.models.decoder.Decoder.block_linears`. A variant needs no model: whether the units it
names are there is checked by the bank. This module imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from bitgap.errors import PlanError, SchemeError
from bitgap.quant.schemes import parse_scheme

UNIT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")
"""What a unit may be called: a path of attributes, such as ``self_attn.v_proj``."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How one block is rounded: one scheme, but for some of its matrices.

    Names given in another form are made canonical, and a unit that has the block's own scheme is
    not named, so equal variants are equal and hash alike.

    Raises:
        PlanError: If a unit has no possible name, or the block's scheme is for more than matrices.
        SchemeError: If a name is no scheme.

    Example:
        >>> Variant("rtn4-g128", {"mlp.up": "rtn4-g128", "mlp.down": "rtn6-g128"}).name
        'rtn4-g128/rtn6-g128@mlp.down'
    """

    scheme: str
    """Canonical name of the scheme of the matrices that are not named."""
    units: Mapping[str, str]
    """Canonical scheme of each matrix that has another one, sorted by the matrix' name."""

    def __post_init__(self) -> None:
        parsed = parse_scheme(self.scheme)
        given = {unit: parse_scheme(name).name for unit, name in sorted(self.units.items())}
        others = {unit: name for unit, name in given.items() if name != parsed.name}
        for unit in others:
            if not UNIT.fullmatch(unit):
                raise PlanError(
                    f"{unit!r} can be no matrix of a block; expected a name such as mlp.down_proj"
                )
        wider = [name for name in (parsed.name, *others.values())
                 if parse_scheme(name).scope == "all-weights"]  # fmt: skip
        if others and wider:
            raise PlanError(
                f"{wider[0]} is for all weights of a block, norm gains too, so single matrices "
                f"({', '.join(others)}) cannot differ; use a scheme for matrices, such as rtn4-g128"
            )
        object.__setattr__(self, "scheme", parsed.name)
        object.__setattr__(self, "units", others)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def name(self) -> str:
        """The one canonical name: ``parse_variant(name)`` gives back this variant and no other."""
        return "/".join([self.scheme, *(f"{name}@{unit}" for unit, name in self.units.items())])

    def of(self, unit: str) -> str:
        """Returns the scheme of a matrix.

        Example:
            >>> parse_variant("fp/rtn3-g128@mlp.down").of("mlp.down")
            'rtn3-g128'
        """
        return self.units.get(unit, self.scheme)


def parse_variant(text: str) -> Variant:
    """Returns the variant of a name; a scheme's name is one too.

    Raises:
        PlanError: If a unit is malformed or named twice.
        SchemeError: If a name is no scheme.

    Example:
        >>> parse_variant("rtn4-g128/fp@v/rtn4-g128@up").name
        'rtn4-g128/fp@v'
    """
    if not isinstance(text, str):
        raise SchemeError(f"{text!r} is no text; give a scheme such as 'rtn4-g128'")
    return _parse(text)


@lru_cache(maxsize=65536)
def _parse(text: str) -> Variant:
    scheme, *parts = text.split("/")
    units: dict[str, str] = {}
    for part in parts:
        name, at, unit = part.partition("@")
        if not at:
            raise PlanError(
                f"{text!r}: {part!r} names no matrix; expected SCHEME@MATRIX, such as "
                f"rtn6-g128@mlp.down_proj"
            )
        if unit in units:
            raise PlanError(f"{text!r} gives {unit} twice; keep one of them")
        units[unit] = name
    return Variant(scheme, units)
