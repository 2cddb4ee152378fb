"""Plans: which scheme each matrix, the embedding and the head get, with one canonical text each.

A plan's text names it everywhere: in the store, in scores, on the command line::

    fp                                        nothing is rounded
    rtn4-g128                                 every block's linears
    rtn4-g128 protect 0,9,11                  all but three blocks
    rtn4-g128 blocks 3=rtn8-g128,5-7=rtn3-g32 head rtn8-channel
    rtn4-g128 units mlp.down_proj=rtn6-g128,0-2.self_attn.v_proj=fp
    fp units 3.mlp.down_proj=rtn3-g128        one matrix rounded and nothing else
    seed4 protect 0,11                        the origin's scope: embedding and head too

The first word is the base scheme; it goes to every block, and to embedding and head where its
scope is all weights. Options follow in any order: ``protect LIST`` keeps blocks in full precision,
``blocks LIST=SCHEME,...`` gives some another scheme, ``units MATRIX=SCHEME,...`` single matrices of
all blocks or, with numbers in front, of some, and ``embedding SCHEME`` and ``head SCHEME`` overrule
the base. Ranges such as ``0-2`` are allowed in all lists. This module imports no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import index

from bitgap.errors import PlanError, SchemeError
from bitgap.quant.schemes import parse_scheme
from bitgap.quant.variants import UNIT, Variant, parse_variant

_ARGUMENTS = {
    "protect": "block numbers such as 0,9,11 or 0-2",
    "blocks": "blocks and schemes such as 3=rtn8-g128,5-7=rtn3-g32",
    "units": "matrices and schemes such as mlp.down_proj=rtn6-g128,3.mlp.up_proj=fp",
    "embedding": "a scheme such as rtn8-channel",
    "head": "a scheme such as rtn8-channel",
}
LIGHT_BLOCKS = 2
"""Rounded blocks up to which a plan is light."""
_SPAN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_UNITS = re.compile(rf"(?:([0-9-]+)\.)?({UNIT.pattern})")


@dataclass(frozen=True, slots=True)
class Plan:
    """One variant for each block, and a scheme for embedding and head; all as canonical names.

    Names given in another form are made canonical, so equal plans are equal and hash alike.

    Raises:
        PlanError: If there is no block, or a variant is malformed.
        SchemeError: If a name is no scheme.
    """

    blocks: tuple[str, ...]
    """Variant of each block, L0 first: a scheme's name, ``fp`` where the block is protected, or a
    scheme with some matrices' own, see :mod:`bitgap.quant.variants`."""
    embedding: str = "fp"
    """Scheme of the token embedding."""
    head: str = "fp"
    """Scheme of the language-model head; may differ from a tied embedding's."""

    def __post_init__(self) -> None:
        _check_size(len(self.blocks))
        canonical = tuple(parse_variant(name).name for name in self.blocks)
        object.__setattr__(self, "blocks", canonical)
        object.__setattr__(self, "embedding", parse_scheme(self.embedding).name)
        object.__setattr__(self, "head", parse_scheme(self.head).name)

    @classmethod
    def uniform(cls, scheme: str, n_blocks: int, protect: Iterable[int] = ()) -> Plan:
        """Returns the plan that gives one scheme to all blocks but the protected ones.

        Embedding and head get it too if its scope is all weights.

        Args:
            scheme: Scheme name.
            n_blocks: Number of blocks of the model.
            protect: Block numbers to keep in full precision, in any order.

        Raises:
            PlanError: If there is no block, or none of a number in protect.
            SchemeError: If the name is no scheme.
        """
        _check_size(n_blocks)
        kept = frozenset(_existing(index(number), n_blocks) for number in protect)
        outside = _outside(scheme)
        blocks = tuple("fp" if number in kept else scheme for number in range(n_blocks))
        return cls(blocks, embedding=outside, head=outside)

    @classmethod
    def only(cls, scheme: str, n_blocks: int, block: int) -> Plan:
        """Returns the plan that rounds one block and nothing else, embedding and head included.

        Args:
            scheme: Scheme name, whatever its scope.
            n_blocks: Number of blocks of the model.
            block: The block's number.

        Raises:
            PlanError: If there is no block of that number.
            SchemeError: If the name is no scheme.

        Example:
            >>> Plan.only("rtn4-g128", 4, 2).text
            'rtn4-g128 protect 0,1,3'
        """
        _check_size(n_blocks)
        number = _existing(index(block), n_blocks)
        return cls(tuple(scheme if i == number else "fp" for i in range(n_blocks)))

    @classmethod
    def only_unit(cls, scheme: str, n_blocks: int, block: int, unit: str) -> Plan:
        """Returns the plan that rounds one matrix of one block and nothing else.

        Args:
            scheme: Scheme name.
            n_blocks: Number of blocks of the model.
            block: The block's number.
            unit: The matrix' name in the block.

        Raises:
            PlanError: If there is no block of that number, or no matrix could have the name.

        Example:
            >>> Plan.only_unit("rtn4-g128", 4, 2, "mlp.down_proj").text
            'fp units 2.mlp.down_proj=rtn4-g128'
        """
        return cls.only(Variant("fp", {unit: scheme}).name, n_blocks, block)

    @classmethod
    def parse(cls, text: str, n_blocks: int) -> Plan:
        """Returns the plan of a text; see the module's first lines for the form.

        Args:
            text: Such as ``rtn4-g128 protect 0,9-11``; spaces after commas do no harm.
            n_blocks: Number of blocks of the model.

        Raises:
            PlanError: If the text is malformed (the message names the word), names a block that is
                not there, or gives a block twice.
        """
        _check_size(n_blocks)
        if not isinstance(text, str):
            raise PlanError(f"plan {text!r} is no text; write one such as 'rtn4-g128 protect 0,11'")
        return _Reader(text, n_blocks).plan()

    @property
    def text(self) -> str:
        """The one canonical text: ``Plan.parse(plan.text, n)`` gives back this plan and no other.

        The base is the commonest scheme among the blocks that are not protected, the first met of
        equally common ones, and ``fp`` where all are protected. Protected blocks are listed one by
        one; neighbours with one other scheme are listed as a range, and so are those in which a
        matrix has another scheme than the rest of its block.
        """
        variants = [parse_variant(name) for name in self.blocks]
        schemes = [variant.scheme for variant in variants]
        base = _commonest(schemes)
        words = [base]
        kept = [str(number) for number, name in enumerate(schemes) if name == "fp"]
        if base != "fp" and kept:
            words += ["protect", ",".join(kept)]
        if others := _runs_other_than(base, schemes):
            words += ["blocks", ",".join(others)]
        if units := _runs_of_units(variants):
            words += ["units", ",".join(units)]
        for option, scheme in (("embedding", self.embedding), ("head", self.head)):
            if scheme != _outside(base):
                words += [option, scheme]
        return " ".join(words)

    @property
    def protected(self) -> tuple[int, ...]:
        """Numbers of the blocks kept in full precision as wholes, ascending."""
        return tuple(number for number, name in enumerate(self.blocks) if name == "fp")

    @property
    def mask(self) -> int:
        """The protected blocks as bits: bit l is set where block l is protected."""
        return sum(1 << number for number in self.protected)

    @property
    def is_full_precision(self) -> bool:
        """Whether nothing at all is rounded, embedding and head included."""
        return {*self.blocks, self.embedding, self.head} == {"fp"}

    @property
    def is_light(self) -> bool:
        """Whether one or two blocks are all that is rounded: less than rounded products can tell.

        Example:
            >>> [Plan.parse(f"rtn4-g128 protect {kept}", 4).is_light for kept in ("0,1", "0")]
            [True, False]
        """
        rounded = sum(name != "fp" for name in self.blocks)
        return {self.embedding, self.head} == {"fp"} and 1 <= rounded <= LIGHT_BLOCKS


def _commonest(schemes: Sequence[str]) -> str:
    counts = Counter(name for name in schemes if name != "fp")
    return max(counts, key=counts.__getitem__, default="fp")  # the first met wins a tie


def _runs_other_than(base: str, schemes: Sequence[str]) -> list[str]:
    runs: list[str] = []
    for name, members in groupby(range(len(schemes)), key=schemes.__getitem__):
        first, *rest = members
        if name not in (base, "fp"):
            runs.append(f"{first}-{rest[-1]}={name}" if rest else f"{first}={name}")
    return runs


def _runs_of_units(variants: Sequence[Variant]) -> list[str]:
    """Returns assignments to matrices, by name of the matrix and then by block."""
    runs: list[str] = []
    for unit in sorted({unit for variant in variants for unit in variant.units}):
        given = [variant.units.get(unit) for variant in variants]
        for name, members in groupby(range(len(given)), key=given.__getitem__):
            first, *rest = members
            if name is not None:
                runs.append(
                    f"{first}-{rest[-1]}.{unit}={name}" if rest else f"{first}.{unit}={name}"
                )
    return runs


def mask_plans(scheme: str, n_blocks: int, masks: Iterable[int]) -> tuple[Plan, ...]:
    """Returns the plan of each mask, in the order given.

    Args:
        scheme: Of the blocks that are not protected (and of embedding and head, if its scope is
            all weights).
        n_blocks: Number of blocks of the model.
        masks: Integers in which bit l is set where block l is protected; 0 protects nothing.

    Raises:
        PlanError: If there is no block, or a mask has a bit beyond the last block.
        SchemeError: If the name is no scheme.

    Example:
        >>> [plan.text for plan in mask_plans("rtn4-g128", 3, [0, 5])]
        ['rtn4-g128', 'rtn4-g128 protect 0,2']
    """
    _check_size(n_blocks)
    outside = _outside(scheme)
    plans = []
    for mask in map(index, masks):
        if not 0 <= mask < 1 << n_blocks:
            raise PlanError(
                f"mask {mask} was asked of {n_blocks} blocks; masks run from 0 (nothing protected) "
                f"to {(1 << n_blocks) - 1} (every block protected)"
            )
        blocks = tuple("fp" if mask >> number & 1 else scheme for number in range(n_blocks))
        plans.append(Plan(blocks, embedding=outside, head=outside))
    return tuple(plans)


def noise_plans(n_blocks: int, sizes: Sequence[float], n_draws: int, seed: int) -> list[Plan]:
    """Returns the L·T·S plans that add noise to one block each, by block, size, draw.

    One list for all experiments, so that a store shares their scores.

    Args:
        n_blocks: Number of blocks L of the model.
        sizes: T relative sizes of the noise.
        n_draws: Draws S of each.
        seed: Of the first draw; the next has the next seed.

    Example:
        >>> [plan.text for plan in noise_plans(2, [0.02], 1, seed=0)]
        ['noise0.02-s0 protect 1', 'noise0.02-s0 protect 0']
    """
    draws = [f"noise{t}-s{seed + s}" for t in sizes for s in range(n_draws)]
    return [Plan.only(draw, n_blocks, j) for j in range(n_blocks) for draw in draws]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one plan text; every refusal quotes the text and numbers the word, from 1."""

    text: str
    n_blocks: int

    def plan(self) -> Plan:
        words = re.sub(r"\s*([,=])\s*", r"\1", self.text).split()
        if not words:
            raise self._wrong(1, "is missing", "a scheme such as rtn4-g128")
        base = self._scheme(1, words[0])
        options = self._options(words)
        protected = dict.fromkeys(self._numbers(*options["protect"]), "fp")
        assigned = self._assigned(*options["blocks"])
        if both := sorted(protected.keys() & assigned.keys()):
            raise PlanError(
                f"plan {self.text!r} gives block {both[0]} twice, under protect and under blocks; "
                "keep one of them"
            )
        given: Mapping[int, str] = {**protected, **assigned}
        units = self._units(*options["units"])
        ends = {
            end: self._scheme(*options[end]) if options[end][1] else _outside(base)
            for end in ("embedding", "head")
        }
        blocks = [
            Variant(given.get(number, base), units.get(number, {})).name
            for number in range(self.n_blocks)
        ]
        return Plan(tuple(blocks), **ends)

    def _options(self, words: list[str]) -> dict[str, tuple[int, str]]:
        """Returns each option's argument with its word number; ("" at 0) where it is not given."""
        options: dict[str, tuple[int, str]] = dict.fromkeys(_ARGUMENTS, (0, ""))
        for at in range(1, len(words), 2):
            option = words[at]
            if option not in options:
                known = "protect, blocks, units, embedding or head"
                raise self._wrong(at + 1, f"is {option!r}", known)
            if options[option][1]:
                raise self._wrong(at + 1, f"is {option!r} again", "each option once")
            if at + 1 == len(words):
                raise self._wrong(at + 2, "is missing", f"{_ARGUMENTS[option]} after {option!r}")
            options[option] = (at + 2, words[at + 1])
        return options

    def _scheme(self, at: int, name: str) -> str:
        try:
            return parse_scheme(name).name
        except SchemeError as error:
            raise PlanError(f"plan {self.text!r}, word {at}: {error}") from None

    def _numbers(self, at: int, spans: str) -> list[int]:
        """Returns the block numbers of a list such as ``0,9-11``, none twice."""
        numbers: list[int] = []
        for span in spans.split(",") if spans else ():
            numbers += self._range(at, span)
        return self._each_once(at, numbers)

    def _assigned(self, at: int, assignments: str) -> dict[int, str]:
        """Returns the scheme of each block of a list such as ``3=rtn8-g128,5-7=rtn3-g32``."""
        pairs: list[tuple[int, str]] = []
        for assignment in assignments.split(",") if assignments else ():
            span, equals, name = assignment.partition("=")
            if not equals:
                raise self._wrong(at, f"has {assignment!r}", _ARGUMENTS["blocks"])
            scheme = self._scheme(at, name)
            pairs += [(number, scheme) for number in self._range(at, span)]
        self._each_once(at, [number for number, _ in pairs])
        return dict(pairs)

    def _units(self, at: int, assignments: str) -> dict[int, dict[str, str]]:
        """Returns by block the scheme of each matrix of a list such as ``3-5.mlp.up_proj=fp``."""
        found: dict[int, dict[str, str]] = {}
        for assignment in assignments.split(",") if assignments else ():
            where, equals, name = assignment.partition("=")
            match = _UNITS.fullmatch(where)
            if not equals or not match:
                raise self._wrong(at, f"has {assignment!r}", _ARGUMENTS["units"])
            scheme, (span, unit) = self._scheme(at, name), match.groups()
            for number in self._range(at, span) if span else range(self.n_blocks):
                if unit in found.setdefault(number, {}):
                    wanted = "each matrix of a block once"
                    raise self._wrong(at, f"gives {unit} of block {number} twice", wanted)
                found[number][unit] = scheme
        return found

    def _range(self, at: int, span: str) -> range:
        match = _SPAN.fullmatch(span)
        if not match:
            raise self._wrong(at, f"has {span!r}", _ARGUMENTS["protect"])
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise self._wrong(at, f"has {span!r}", f"the smaller number first, {last}-{first}")
        return range(_existing(first, self.n_blocks), _existing(last, self.n_blocks) + 1)

    def _each_once(self, at: int, numbers: list[int]) -> list[int]:
        if repeated := [number for number, count in Counter(numbers).items() if count > 1]:
            raise self._wrong(at, f"names block {repeated[0]} twice", "each block once")
        return numbers

    def _wrong(self, at: int, found: str, expected: str) -> PlanError:
        return PlanError(f"plan {self.text!r}: word {at} {found}; expected {expected}")


def _outside(scheme: str) -> str:
    """Returns what embedding and head get where only the blocks' scheme is told."""
    parsed = parse_scheme(scheme)
    return parsed.name if parsed.scope == "all-weights" else "fp"


def _check_size(n_blocks: int) -> None:
    if n_blocks < 1:
        raise PlanError(f"a plan was asked for {n_blocks} blocks; a model has at least one")


def _existing(number: int, n_blocks: int) -> int:
    if not 0 <= number < n_blocks:
        raise PlanError(
            f"block {number} was asked for, but the model has {n_blocks} blocks; "
            f"valid numbers are 0 to {n_blocks - 1}"
        )
    return number
