"""What of a model can have bits of its own, its choices with their bytes, and plans of these."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from bitgap.errors import MissingExtra, ModelError, PlanError, SchemeError
from bitgap.lab.bench import Bench
from bitgap.models.matrices import StackView
from bitgap.models.roles import LINEAR_KINDS
from bitgap.protect.records import TIED, Choice, Matrix, Unit
from bitgap.protect.sizes import plain_choice
from bitgap.protect.toolchains import OUTSIDE, Toolchain, can_load
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import FULL_PRECISION_BITS, parse_scheme
from bitgap.quant.variants import Variant

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = ("g32", "g64", "g128")
"""Choices that a unit has where nobody says otherwise."""
_WHOLE = "fp"
_EXPERT = re.compile(r"(^|\.)experts\.\d+\.")
_FUSED = {
    **dict.fromkeys(("c_attn", "Wqkv", "qkv_proj", "query_key_value"), "qkv"),
    "gate_up_proj": "gate_up",
}


@dataclass(frozen=True, slots=True, eq=False)
class ModelUnits:
    """The units of a model, and which linears of its blocks each holds."""

    units: tuple[Unit, ...]
    """Embedding first, then by block, head last."""
    linears: Mapping[str, tuple[str, ...]]
    """Of each unit in a block, the names of its linears there."""
    n_blocks: int
    fixed_bytes: int
    """What is stored whole whatever the plan: norms, biases, position tables, at 16 bits."""
    unwatched: frozenset[str] = frozenset()
    """Units of which no pass over all tokens tells: experts, embedding and head. They are few, and
    scored whatever the instrument."""

    def plan(self, schemes: Mapping[str, str]) -> Plan:
        """Returns the plan that gives units these schemes; those that are not named stay whole.

        Args:
            schemes: By the unit's name.

        Raises:
            PlanError: If a unit is not there.

        Example:
            >>> from bitgap import Lab
            >>> units = units_of(Lab.from_pretrained(languages="de").spread(2))
            >>> units.plan({"embedding": "rtn8-g64", "3.mlp.c_fc": "rtn4-g64"}).text
            'fp units 3.mlp.c_fc=rtn4-g64 embedding rtn8-g64 head rtn8-g64'
        """
        by_name = {unit.name: unit for unit in self.units}
        if unknown := sorted(schemes.keys() - by_name.keys()):
            raise PlanError(
                f"unit {unknown[0]!r} is not there; there are {', '.join(list(by_name)[:6])} …"
            )
        of_block: list[dict[str, str]] = [{} for _ in range(self.n_blocks)]
        ends = {"embedding": _WHOLE, "head": _WHOLE}
        for name, scheme in schemes.items():
            unit = by_name[name]
            if unit.block is not None:
                of_block[unit.block] |= dict.fromkeys(self.linears[name], scheme)
            elif unit.kind == TIED:
                ends = dict.fromkeys(ends, scheme)
            else:
                ends[unit.kind] = scheme
        counts = [sum(u.block == b for u in self.units) for b in range(self.n_blocks)]
        blocks = [
            _variant(given, n_units=n, n_given=sum(by_name[s].block == b for s in schemes))
            for b, (given, n) in enumerate(zip(of_block, counts, strict=True))
        ]
        return Plan(tuple(blocks), **ends)


def _variant(given: Mapping[str, str], *, n_units: int, n_given: int) -> str:
    """Returns the one name of a block whose linears have these schemes."""
    # Of all linears the commonest scheme, the first met of two, so that one plan has one name.
    counts = Counter(given.values())
    whole = n_given == n_units and counts
    base = max(counts, key=counts.__getitem__) if whole else _WHOLE
    return Variant(base, given).name


def units_of(bench: Bench) -> ModelUnits:
    """Returns what of a model can have bits of its own.

    Every linear of a block is a unit, experts of one kind are one together, and so are embedding
    and head where they are one matrix.

    Args:
        bench: Model and any text.

    Example:
        >>> from bitgap import Lab
        >>> found = units_of(Lab.from_pretrained(languages="de").spread(2))
        >>> [(u.name, u.kind, u.n_weights) for u in found.units[:3]]
        [('embedding', 'tied', 2097152), ('0.attn.c_attn', 'qkv', 196608), \
('0.attn.c_proj', 'o', 65536)]
    """
    decoder = bench.decoder
    matrices = dict[str, list[Matrix]]()
    linears = dict[str, list[str]]()
    of_unit = dict[str, tuple[str, int]]()
    for i in range(bench.n_blocks):
        root = f"{decoder.family.blocks}.{i}."
        for name, view in decoder.block_linears(i).items():
            stacked = isinstance(view, StackView)
            group = view.parameter if stacked else _EXPERT.sub(r"\1experts.", name)
            unit = f"{i}.{group}"
            n_out, n_in = view.shape
            own = f"{root}{name}" if stacked else f"{root}{name}.weight"
            matrices.setdefault(unit, []).append(Matrix(name=own, n_out=n_out, n_in=n_in))
            linears.setdefault(unit, []).append(name)
            of_unit[unit] = (kind_of(group), i)
    within = [
        Unit(name=name, kind=of_unit[name][0], block=of_unit[name][1], matrices=tuple(held))
        for name, held in matrices.items()
    ]
    units = (*_embedding(bench), *within, *_head(bench))
    watched = {
        f"{i}.{name}"
        for i in range(bench.n_blocks)
        for name in decoder.block_matrices(i).see_all_tokens
    }
    n_other = bench.info.n_parameters - sum(unit.n_weights for unit in units)
    return ModelUnits(
        units=units,
        linears={name: tuple(names) for name, names in linears.items()},
        n_blocks=bench.n_blocks,
        fixed_bytes=FULL_PRECISION_BITS // 8 * max(0, n_other),
        unwatched=frozenset(
            unit.name
            for unit in units
            if unit.block is None
            or not watched.issuperset(f"{unit.block}.{name}" for name in linears[unit.name])
        ),
    )


def kind_of(name: str) -> str:
    """Returns what a linear does, by its name in its block.

    Example:
        >>> kind_of("self_attn.q_proj"), kind_of("attn.c_proj"), kind_of("attn.c_attn")
        ('q', 'o', 'qkv')
    """
    parent, _, leaf = name.rpartition(".")
    if leaf == "c_proj":
        return "o" if "attn" in parent else "down"
    return _FUSED.get(leaf) or LINEAR_KINDS.get(leaf, name)


def _embedding(bench: Bench) -> list[Unit]:
    decoder = bench.decoder
    base = f"{decoder.family.base}." if decoder.family.base else ""
    tables = decoder.embedding_weights()
    held = tuple(
        Matrix(name=f"{base}{name}", n_out=tables[name].shape[0], n_in=tables[name].shape[1])
        for name in decoder.token_embedding_names
        if tables[name].ndim == 2
    )
    kind = TIED if bench.info.tied else "embedding"
    return [Unit(name="embedding", kind=kind, block=None, matrices=held)] if held else []


def _head(bench: Bench) -> list[Unit]:
    if bench.info.tied:
        return []
    n_out, n_in = bench.decoder.tail.weight.shape
    name = f"{bench.decoder.family.head}.weight"
    held = (Matrix(name=name, n_out=n_out, n_in=n_in),)
    return [Unit(name="head", kind="head", block=None, matrices=held)]


def loadable(bench: Bench, target: Toolchain) -> Toolchain:
    """Returns a target that asks its writer what it can store of a model's own matrices.

    Args:
        bench: Whose model it is.
        target: From :func:`bitgap.protect.toolchains.toolchain`.

    Raises:
        ModelError: If the target has no place for the model, whatever the recipe.
    """
    from bitgap.formats.source import Source
    from bitgap.formats.targets import find_target

    writer, source = find_target(target.name), Source.in_hand(bench.loaded)
    # The library may be missing here and be where it is exported; the export asks again.
    with suppress(MissingExtra):
        writer.check_matrices(source)

    def refusal(unit: Unit, scheme: str) -> str | None:
        for matrix in unit.matrices:
            try:
                place = source.place(matrix.name)
            except ModelError:
                return f"{target.name} has no place for {matrix.name}"
            if (why := writer.refusal(place, scheme)) is not None:
                return why
        return None

    return replace(target, refusal=refusal)


def default_schemes(target: Toolchain | None = None) -> tuple[str, ...]:
    """Returns the choices that units have where nobody says otherwise.

    Args:
        target: Toolchain that must load the result: its bits and groups alone, and ``fp`` where it
            leaves embedding and head whole.

    Example:
        >>> len(default_schemes()), default_schemes()[:4]
        (18, ('rtn2-g128', 'rtn2-g64', 'rtn2-g32', 'rtn3-g128'))
    """
    groups = sorted(GROUPS if target is None else {*target.groups} & {*GROUPS},
                    key=lambda g: -int(g[1:]))  # fmt: skip
    bits = BITS if target is None else tuple(b for b in BITS if b in target.bits)
    named = tuple(f"rtn{b}-{g}" for b in bits for g in groups)
    return named if target is None or target.outside else (*named, _WHOLE)


def choices_of(
    units: Sequence[Unit], schemes: Sequence[str], target: Toolchain | None = None
) -> tuple[tuple[Choice | None, ...], ...]:
    """Returns what each unit may have, with the bytes, (units x schemes); None what it may not.

    A group that does not divide a unit's columns is left to others, as few toolchains store it;
    where no scheme is left, channels of it would be, so the groups are all kept. ``fp`` is for
    units outside the blocks alone, where a target rounds them by none of the schemes.

    Args:
        units: Of the model.
        schemes: Names.
        target: Toolchain that must load the result; any when None.

    Raises:
        SchemeError: If a name is no rounding scheme of matrices.
    """
    for scheme in schemes:
        parsed = parse_scheme(scheme)
        if scheme != _WHOLE and (parsed.scope != "linears" or not hasattr(parsed, "granularity")):
            raise SchemeError(
                f"{scheme} was given as a choice for units; give rounding schemes of matrices, "
                f"such as rtn4-g64"
            )
    return tuple(_row(unit, schemes, target) for unit in units)


def _row(unit: Unit, schemes: Sequence[str], target: Toolchain | None) -> tuple[Choice | None, ...]:
    def divides(scheme: str) -> bool:
        group = getattr(parse_scheme(scheme), "group", None)
        return not isinstance(group, int) or all(m.n_in % group == 0 for m in unit.matrices)

    def loads(scheme: str) -> bool:
        return target is None or can_load(target, unit, scheme)

    def may(scheme: str) -> bool:
        if scheme == _WHOLE:
            rounded = any(loads(one) for one in schemes if one != _WHOLE)
            return unit.kind in OUTSIDE and not rounded
        return loads(scheme)

    known = [s for s in schemes if may(s)]
    fitting = [s for s in known if divides(s)] or known
    return tuple(plain_choice(unit, s) if s in fitting else None for s in schemes)
