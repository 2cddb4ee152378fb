"""Table and budget as one problem, and what any plan for it does and takes.

A plan is given as *picks*: for every part of the problem the column of its scheme. A part is a
unit, or several that a target fuses, which share one scheme and count together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bitgap.errors import BudgetError, LanguageError, PlanError
from bitgap.protect.records import DamageTable
from bitgap.protect.toolchains import Toolchain, can_load, fused_sets
from bitgap.records import Bools, Floats, Integers

Picks = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """What is to be solved. Shapes use A languages that count, G parts and C schemes."""

    languages: tuple[str, ...]
    reference: int
    """Row of the reference language."""
    parts: tuple[tuple[str, ...], ...]
    """Units of each part, by name."""
    kinds: tuple[str, ...]
    """Kind of each part's first unit."""
    blocks: tuple[int | None, ...]
    """Block of each part; None outside of blocks."""
    schemes: tuple[str, ...]
    damage_bits: Floats
    """(A x G x C); NaN where a part may not have the scheme."""
    size_bytes: Integers
    """(G x C); 0 there."""
    allowed: Bools
    """(G x C)."""
    n_weights: Integers
    """Weights of each part, (G)."""
    budget_bytes: int
    """What all parts together may take."""

    # -- what plans take and do -------------------------------------------------------------------

    def size_of(self, picks: Sequence[int] | Integers) -> int:
        """Returns the bytes of a plan."""
        return int(self.size_bytes[np.arange(len(self.parts)), np.asarray(picks)].sum())

    def damage_of(self, picks: Sequence[int] | Integers) -> Floats:
        """Returns the damage of a plan by the table, (A), in bits per reference character."""
        return self.damage_bits[:, np.arange(len(self.parts)), np.asarray(picks)].sum(1)

    def fits(self, picks: Sequence[int] | Integers) -> bool:
        """Returns whether a plan has schemes that it may have, within the budget."""
        rows = np.arange(len(self.parts))
        return bool(self.allowed[rows, np.asarray(picks)].all()) and (
            self.size_of(picks) <= self.budget_bytes
        )

    def bits_of(self, size_bytes: int) -> float:
        """Returns so many bytes as bits a weight."""
        return 8 * size_bytes / int(self.n_weights.sum())

    def by_unit(self, picks: Sequence[int] | Integers) -> dict[str, str]:
        """Returns the scheme of every unit, by name."""
        return {
            unit: self.schemes[pick]
            for units, pick in zip(self.parts, picks, strict=True)
            for unit in units
        }

    def picks_of(self, schemes: Mapping[str, str]) -> Picks:
        """Returns the plan that gives units these schemes.

        Args:
            schemes: Of every unit, by name.

        Raises:
            PlanError: If a unit or scheme is not there, or fused units differ.
        """
        names = [unit for units in self.parts for unit in units]
        if wrong := sorted({*names} ^ schemes.keys()):
            known = "is not there" if wrong[0] in schemes else "has no scheme"
            raise PlanError(f"unit {wrong[0]!r} {known}; the model has {len(names)} units")
        picks = list[int]()
        for units in self.parts:
            given = {schemes[unit] for unit in units}
            if len(given) > 1:
                raise PlanError(f"{', '.join(units)} are fused and were given {sorted(given)}")
            (scheme,) = given
            if scheme not in self.schemes:
                raise PlanError(f"{units[0]} was given {scheme}; there are {self.schemes}")
            picks.append(self.schemes.index(scheme))
        return tuple(picks)

    # -- cheapest, dearest, uniform ---------------------------------------------------------------

    @cached_property
    def cheapest(self) -> Picks:
        """The plan of fewest bytes."""
        return _each(np.where(self.allowed, self.size_bytes, np.iinfo(np.int64).max).argmin(1))

    @cached_property
    def dearest(self) -> Picks:
        """The plan of most bytes."""
        return _each(np.where(self.allowed, self.size_bytes, -1).argmax(1))

    @property
    def has_choice(self) -> bool:
        """Whether more than one plan fits the budget."""
        sizes = np.where(self.allowed, self.size_bytes, np.iinfo(np.int64).max)
        if self.allowed.sum(1).max() < 2:
            return False
        # Any second plan takes at least the smallest step of one part, which may be none.
        steps = np.partition(sizes, 1, axis=1)[:, 1] - sizes.min(1)
        return self.size_of(self.cheapest) + int(steps.min()) <= self.budget_bytes

    def like(self, column: int) -> Picks:
        """Returns the plan that gives one scheme to all, or what comes nearest to it in bytes.

        Where a part may not have it, it gets the next that takes more, else the one that takes
        most: nothing is rounded harder than was asked.
        """
        picks = list[int]()
        for g in range(len(self.parts)):
            if self.allowed[g, column]:
                picks.append(column)
                continue
            wanted = float(self._nominal_bits[column])
            may = np.flatnonzero(self.allowed[g])
            enough = [int(c) for c in may if self._nominal_bits[c] >= wanted]
            pick = min(enough, key=lambda c: self._nominal_bits[c]) if enough else None
            picks.append(self.dearest[g] if pick is None else pick)
        return tuple(picks)

    @cached_property
    def _nominal_bits(self) -> Floats:
        """Bits a weight of each scheme over the parts that may have it, (C)."""
        weights = np.where(self.allowed, self.n_weights[:, None], 0).sum(0)
        taken = 8 * np.where(self.allowed, self.size_bytes, 0).sum(0)
        return np.where(weights > 0, taken / np.maximum(weights, 1), np.inf)

    @cached_property
    def uniform(self) -> Picks:
        """The uniform plan of the same bytes, with which all others are compared.

        The uniform plan that comes nearest to the budget from below, of two of one size the one of
        less damage; what is left is spent on the next larger uniform plan's schemes, evenly over
        the depth. Without a uniform plan that fits, the cheapest plan is raised.
        """
        known = [c for c in range(len(self.schemes)) if self.allowed[:, c].any()]
        plans = [self.cheapest, *(self.like(c) for c in known)]
        ranked = sorted({(self.size_of(p), float(self.damage_of(p).sum()), p) for p in plans})
        fitting = [p for size, _, p in ranked if size <= self.budget_bytes]
        if not fitting:
            return self.cheapest
        largest = self.size_of(fitting[-1])
        low = next(p for size, _, p in ranked if size == largest)
        above = next((p for size, _, p in ranked if size > self.budget_bytes), low)
        return self.raised(low, above)

    def raised(self, low: Picks, high: Picks, parts: Collection[int] | None = None) -> Picks:
        """Returns a plan with parts raised to another's schemes, evenly over depth, while it fits.

        Args:
            low: Where from; fits.
            high: Where to.
            parts: Those that may be raised; all when None.
        """
        picks, size = list(low), self.size_of(low)
        for g in _evenly(len(self.parts)):
            step = int(self.size_bytes[g, high[g]] - self.size_bytes[g, picks[g]])
            if (parts is None or g in parts) and 0 < step <= self.budget_bytes - size:
                picks[g], size = high[g], size + step
        return tuple(picks)

    @cached_property
    def uniform_bits(self) -> Floats:
        """Damage of the uniform plan, (A).

        Raises:
            LanguageError: If it does a language no damage, so that nothing is a share of it.
        """
        found = self.damage_of(self.uniform)
        if (none := np.flatnonzero(~(found > 0))).size:
            raise LanguageError(
                f"{self.languages[none[0]]} has no damage under the uniform plan of the same bytes "
                f"({found[none[0]]:.3g} bits), so that no share of it can be formed; leave it out, "
                f"or give a smaller budget"
            )
        return found

    def with_budget(self, budget_bytes: int) -> Problem:
        """Returns the same problem under another budget, which must be one that has plans.

        Raises:
            BudgetError: If it is below the floor or not below the ceiling.
        """
        other = replace(self, budget_bytes=budget_bytes)
        _check_budget(other)
        return other


def make_problem(
    table: DamageTable,
    budget_bytes: int,
    *,
    target: Toolchain | None = None,
    fused: Sequence[Sequence[str]] = (),
    only: Mapping[str, Collection[str]] | None = None,
) -> Problem:
    """Returns the problem of a table under a budget.

    Args:
        table: Damage of every choice; languages that it leaves out do not count.
        budget_bytes: What the units together may take.
        target: Toolchain that must load the result; any when None.
        fused: Units, by name, that share one scheme, beside those that the target fuses.
        only: Schemes that units may have, by unit; whatever there is of those that are not named.

    Raises:
        PlanError: If a unit is not there, stands in two fused sets, or is left without a scheme.
        LanguageError: If the reference is left out, or no language counts.
        BudgetError: If the budget is below the floor or above the ceiling.

    Example:
        >>> problem = make_problem(TABLE, 28288)
        >>> problem.by_unit(problem.uniform)["0.mlp"], problem.size_of(problem.uniform)
        ('rtn4-g64', 28288)
        >>> make_problem(TABLE, 1000)
        Traceback (most recent call last):
        ...
        bitgap.errors.BudgetError: 1000 bytes (0.15 bits a weight) were given to the units, which \
take 14976 (2.25) at least and 54912 (8.25) at most; give a budget between these
    """
    facts = table.facts
    if facts.reference in facts.left_out:
        raise LanguageError(
            f"the reference {facts.reference} is left out ({facts.left_out[facts.reference]}), so "
            f"that nobody can say whether it is hurt; take another reference"
        )
    names = [unit.name for unit in facts.units]
    sets = [*map(tuple, fused), *(fused_sets(target, facts.units) if target else ())]
    parts = _joined(names, sets)
    rows = [[names.index(unit) for unit in units] for units in parts]
    may = table.there & np.array(
        [[target is None or can_load(target, u, s) for s in facts.schemes] for u in facts.units]
    )
    for unit, schemes in (only or {}).items():
        if unit not in names:
            raise PlanError(f"unit {unit!r} is not there; there are {', '.join(names[:8])} …")
        may[names.index(unit)] &= np.isin(facts.schemes, list(schemes))
    allowed = np.array([may[members].all(0) for members in rows])
    if (none := np.flatnonzero(~allowed.any(1))).size:
        where = "" if target is None else f" that {target.name} can load"
        raise PlanError(f"{', '.join(parts[int(none[0])])} has no scheme{where}; allow one")
    counted = [facts.languages.index(one) for one in table.counted]
    damage = np.array([table.damage_bits[counted][:, members].sum(1) for members in rows])
    sizes = np.array([table.size_bytes[members].sum(0) for members in rows])
    problem = Problem(
        languages=table.counted,
        reference=table.counted.index(facts.reference),
        parts=parts,
        kinds=tuple(facts.units[members[0]].kind for members in rows),
        blocks=tuple(facts.units[members[0]].block for members in rows),
        schemes=facts.schemes,
        damage_bits=np.where(allowed, damage.transpose(1, 0, 2), np.nan),
        size_bytes=np.where(allowed, sizes, 0),
        allowed=allowed,
        n_weights=np.array([sum(facts.units[m].n_weights for m in members) for members in rows]),
        budget_bytes=budget_bytes,
    )
    _check_budget(problem)
    return problem


def _check_budget(problem: Problem) -> None:
    floor, ceiling = problem.size_of(problem.cheapest), problem.size_of(problem.dearest)
    if not floor <= problem.budget_bytes <= ceiling:
        asked, least, most = map(problem.bits_of, (problem.budget_bytes, floor, ceiling))
        raise BudgetError(
            f"{problem.budget_bytes} bytes ({asked:.2f} bits a weight) were given to the units, "
            f"which take {floor} ({least:.2f}) at least and {ceiling} ({most:.2f}) at most; give a "
            f"budget between these"
        )


def _joined(names: Sequence[str], sets: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Returns units in order, those of one fused set together where its first one stands."""
    set_of = dict[str, tuple[str, ...]]()
    for one in map(tuple, sets):
        for unit in one:
            if unit not in names:
                raise PlanError(f"unit {unit!r} is to be fused and is not there")
            if set_of.get(unit, one) != one:
                raise PlanError(f"unit {unit!r} is in two fused sets, {set_of[unit]} and {one}")
            set_of[unit] = one
    return tuple(dict.fromkeys(set_of.get(name, (name,)) for name in names))


def _each(columns: Integers) -> Picks:
    return tuple(int(c) for c in columns)


def _evenly(n: int) -> list[int]:
    """Returns 0 … n−1 so that any beginning of it is spread over the whole (van der Corput)."""
    width = max(1, math.ceil(math.log2(max(n, 2))))
    turned = (int(f"{i:0{width}b}"[::-1], 2) for i in range(2**width))
    return [i for i in turned if i < n]
