"""What a search for a recipe stands on: what was asked, the text split, and what it will cost.

All that can be wrong with what was asked is found here, before anything is measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from bitgap.errors import PlanError, UsageError
from bitgap.lab.bench import Bench
from bitgap.lab.engine.budget import Preflight
from bitgap.lab.protect.table import INSTRUMENTS, Choices, Instrument, screen_s, table_plans
from bitgap.lab.protect.units import ModelUnits, choices_of, default_schemes, loadable, units_of
from bitgap.protect.calibration import AT_ONCE, MOST_MEASURED, PLANS
from bitgap.protect.comparators import Comparator, comparators
from bitgap.protect.nulls import PLACEBOS, RANDOM_PLANS, STABILITY_DRAWS, random_plans
from bitgap.protect.objectives import LINEAR, Name, objective
from bitgap.protect.problem import Picks, Problem, make_problem
from bitgap.protect.records import DamageTable, TableFacts
from bitgap.protect.sizes import Budget, budget_of
from bitgap.protect.solve import HARMED, NO_HARM, SPARE, solve
from bitgap.protect.split import Split, split_sentences
from bitgap.protect.swaps import swaps
from bitgap.protect.toolchains import OUTSIDE, Toolchain, toolchain
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import parse_scheme
from bitgap.show.words import duration

AUTO_WORK = 3e13
"""Multiplications up to which ``auto`` takes swaps: ten minutes at 50 billion a second. Counted and
not timed, so that the same question has the same answer on a busy machine, and half done."""
BEST = 10
"""Best plans by the table that are measured, with and without languages."""
FRONTIER_POINTS = 7
"""Budgets beside the one that was asked for."""
DRAW_GAP = 1e-3
"""Optimality gap of searches on resampled text, which differ by more than that."""
_STAND_INS = 4
"""Made-up tables that are solved to say what solving takes, at most, and in"""
_STAND_INS_S = 1.0
"""so many seconds of a processor, after which no further one is begun."""

PlanChoice = Literal["auto", "screen", "swaps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a recipe is to be like; a budget in one of three ways."""

    budget: float | None = None
    """Bits a weight of the units, scales included."""
    size: str | int | None = None
    """Of the file: bytes, or text such as ``180MB``."""
    like: str | os.PathLike[str] | None = None
    """A file, or a folder, that it may be as large as."""
    instrument: PlanChoice = "auto"
    objective: str = "worst-quarter"
    no_harm: Collection[str] = NO_HARM
    """Who must not be worse off than under the uniform plan: ``reference``, ``mean``, ``all``."""
    spare: float | None = SPARE
    """What a language may pay against the language-blind plan, as a share; anything when None."""
    target: str = ""
    """Toolchain that must load the result; any when empty."""
    schemes: Sequence[str] = ()
    """Choices of units; those of the target, or all common ones, when empty."""
    ends: int = 1
    """Blocks at either end that the comparator *ends protected* keeps at more bits."""
    triples: Sequence[Sequence[int]] = ()
    """Sets of blocks that are compared with likewise."""
    frontier: bool = False
    """Whether the best plans of other budgets are measured too, not only read off the table."""
    random: int = RANDOM_PLANS
    """Random plans that the recipe is held against."""
    placebos: int = PLACEBOS
    """Searches on permuted labels."""
    draws: int = STABILITY_DRAWS
    """Searches on resampled text."""
    command: str = ""
    """What is told to have made the recipe."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A search that can begin."""

    asked: Asked
    bench: Bench
    """All of the text."""
    units: ModelUnits
    schemes: tuple[str, ...]
    choices: Choices
    target: Toolchain | None
    budget: Budget
    split: Split
    instrument: Instrument
    guess: Problem
    """Sizes as they are and damage as bits alone would have it."""

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.bench.settings.seed

    @property
    def base(self) -> dict[str, str]:
        """The uniform plan of these bytes, around which swaps are measured."""
        return self.guess.by_unit(self.guess.uniform)

    def part(self, *sentences: Sequence[int]) -> Bench:
        """Returns the bench on some of the sentences that are scored, in their order."""
        wanted = sorted(i for part in sentences for i in part)
        return self.bench.on(sentences=self.bench.text.kept[wanted])

    @cached_property
    def found_on(self) -> Bench:
        """The text of the table: that which calibrates and that which is searched on."""
        return self.part(self.split.calibrate, self.split.search)

    @cached_property
    def calibrate(self) -> Bench:
        """The text on which the table is held against random plans."""
        return self.part(self.split.calibrate)

    @cached_property
    def search(self) -> Bench:
        """The text on which the best plans are measured."""
        return self.part(self.split.search)

    @cached_property
    def confirm(self) -> Bench:
        """The text that the search does not see."""
        return self.part(self.split.confirm)

    def plans(self, problem: Problem, picks: Sequence[Picks]) -> list[Plan]:
        """Returns plans of picks."""
        return [self.units.plan(problem.by_unit(one)) for one in picks]


def prepare(bench: Bench, asked: Asked) -> Prepared:
    """Returns a search that can begin, or refuses what was asked.

    Args:
        bench: Model and text.
        asked: What the recipe is to be like.

    Raises:
        UsageError: If a name or number is none that is known.
        BudgetError: If the budget is below what the smallest plan takes, or above the largest.
        PlanError: If a unit has no choice, or a block is not there.
        CorpusError: If the text is too small to be split; says how many sentences are needed.
    """
    target = loadable(bench, toolchain(asked.target)) if asked.target else None
    units = units_of(bench)
    schemes = tuple(parse_scheme(s).name for s in asked.schemes) or default_schemes(target)
    choices = choices_of(units.units, schemes, target)
    if not asked.schemes and not all(map(any, choices)):
        schemes = (*schemes, *_channels(schemes))
        choices = choices_of(units.units, schemes, target)
    stay = [u.kind in OUTSIDE and not any(c) for u, c in zip(units.units, choices, strict=True)]
    if target is not None and FP not in schemes and any(stay):
        # A target that rounds tables, but not this one.
        schemes = (*schemes, FP)
        choices = choices_of(units.units, schemes, target)
    for unit, row in zip(units.units, choices, strict=True):
        if not any(row):
            where = "" if target is None else f" that {target.name} can load"
            why = target.refusal(unit, schemes[0]) if target is not None else None
            raise PlanError(
                f"{unit.name} ({unit.matrices[0].n_out} x {unit.matrices[0].n_in}) has no choice"
                f"{where} among {', '.join(schemes)}{f' ({why})' if why else ''}; give other "
                f"schemes{', or another target' if target is not None else ''}"
            )
    budget = budget_of(
        units.units,
        bits=asked.budget,
        size=asked.size,
        like=asked.like,
        fixed_bytes=units.fixed_bytes,
    )
    guess = make_problem(_guess(bench, units, choices, schemes), budget.units_bytes, target=target)
    sampled = bench.documents
    n = len(bench.text.kept)
    split = split_sentences(n if sampled is None else sampled, bench.settings.seed)
    if asked.instrument not in ("auto", *INSTRUMENTS):
        raise UsageError(
            f"instrument {asked.instrument!r} is not known; there are auto, "
            f"{', '.join(INSTRUMENTS)}"
        )
    found = Prepared(
        asked, bench, units, schemes, choices, target, budget, split,
        "screen" if asked.instrument == "screen" else "swaps", guess,
    )  # fmt: skip
    for triple in asked.triples:
        _check_blocks(triple, bench.n_blocks)
    most = max(1, bench.n_blocks // 2)
    if not 1 <= asked.ends <= most:
        raise UsageError(
            f"{asked.ends} blocks at either end were to be protected; the model has "
            f"{bench.n_blocks}, so give 1 to {most}"
        )
    _check_names(asked)
    if asked.instrument == "auto" and swaps_work(found) > AUTO_WORK:
        found = replace(found, instrument="screen")
    return found


def _check_names(asked: Asked) -> None:
    """Refuses an objective, or somebody to spare, that is not known."""
    if asked.objective not in get_args(Name):
        raise UsageError(
            f"objective {asked.objective!r} is not known; there are {', '.join(get_args(Name))}"
        )
    if unknown := sorted({*asked.no_harm} - {*HARMED}):
        raise UsageError(f"no harm to {unknown[0]!r} was asked for; it can be {', '.join(HARMED)}")


def _check_blocks(blocks: Sequence[int], n_blocks: int) -> None:
    for block in blocks:
        if not 0 <= block < n_blocks:
            raise PlanError(
                f"block {block} is to be protected; the model has {n_blocks} blocks, 0 to "
                f"{n_blocks - 1}"
            )


def _channels(schemes: Sequence[str]) -> list[str]:
    names = [s for s in schemes if s != FP]
    return list(dict.fromkeys(f"{name.split('-')[0]}-channel" for name in names))


def _guess(
    bench: Bench, units: ModelUnits, choices: Choices, schemes: Sequence[str]
) -> DamageTable:
    """Returns a table in which damage falls fourfold with each bit of codes and scales."""
    bits = np.array([
        [np.nan if c is None else 8 * c.size_bytes / unit.n_weights for c in row]
        for unit, row in zip(units.units, choices, strict=True)
    ])  # fmt: skip
    damage = np.array([unit.n_weights for unit in units.units])[:, None] * 4.0**-bits
    facts = TableFacts(
        model=bench.info.name,
        fingerprint=bench.info.fingerprint,
        corpus=bench.corpus.info.fingerprint,
        instrument="none",
        languages=(bench.corpus.reference,),
        reference=bench.corpus.reference,
        units=units.units,
        schemes=tuple(schemes),
        choices=tuple(map(tuple, choices)),
    )
    return DamageTable(facts=facts, damage_bits=damage[None])


# -- what it costs ---------------------------------------------------------------------------------


def swaps_work(work: Prepared) -> float:
    """Returns the multiplications that a table by swaps would take."""
    n_blocks, rows = work.bench.n_blocks, 0.0
    head = work.bench.decoder.tail.weight.numel()
    total = sum(u.n_weights for u in work.units.units if u.block is not None)
    for unit, row in zip(work.units.units, work.choices, strict=True):
        ends = 1 if unit.block is None else 2
        share = 1.0 if unit.block is None else 1 - unit.block / n_blocks
        rows += ends * sum(c is not None for c in row) * (total * share + head)
    tokens = work.bench.text.counts.tokens[:, [*work.split.calibrate, *work.split.search]]
    return float(rows * tokens.sum())


@dataclass(frozen=True, slots=True)
class Costs:
    """What each step is expected to take, in seconds, and all of it as one request."""

    table_s: float
    calibrate_s: float
    search_s: float
    refine_s: float
    """What is added to the search where the table is not trusted, so that it goes by measuring."""
    n_refined: int
    """Plans that are measured then."""
    solve_s: float
    confirm_s: float
    whole: Preflight
    """Where the table is trusted."""

    def sentence(self, instrument: str) -> str:
        """Returns what each step takes, in a line.

        Args:
            instrument: What the table is made by.
        """
        return (
            f"table by {instrument} {duration(self.table_s)}, calibration "
            f"{duration(self.calibrate_s)}, solving {duration(self.solve_s)}, search "
            f"{duration(self.search_s)}, proof {duration(self.confirm_s)}; where the table is not "
            f"trusted, up to {self.n_refined} more plans are measured in {duration(self.refine_s)}"
        )


def foresee(work: Prepared) -> Costs:
    """Returns what a search will cost; measures the machine's speed.

    Plans that are not known yet are stood in for by random ones of the same bytes.

    Args:
        work: From :func:`prepare`.
    """
    asked, problem = work.asked, work.guess
    compared = [c.picks for c in _comparators(work, problem) if c.picks is not None]

    def plans(n: int, seed: int) -> list[Plan]:
        return work.plans(problem, random_plans(problem, n, seed))

    own = work.plans(problem, compared)
    table = work.found_on.preflight(
        [work.units.plan(work.base), *table_plans(work.units, work.choices, work.instrument,
                                                  work.base)])  # fmt: skip
    if work.instrument == "screen":
        more = screen_s(work.found_on, work.schemes, [None, work.units.plan(work.base)])
        table = replace(table, time_s=table.time_s + more)
    calibrate = work.calibrate.preflight(plans(PLANS, work.seed))
    search = work.search.preflight([*own, *plans(2 * BEST, work.seed + 1)])
    n_refined = (2 if asked.objective in LINEAR else 3) * MOST_MEASURED
    near_s = work.search.preflight(work.plans(problem, _near(problem, work.seed + 3))).time_s
    refine_s = near_s * n_refined / AT_ONCE
    stand_ins = plans(asked.random + asked.placebos + 1, work.seed + 2)
    confirm = work.confirm.preflight([*own, *stand_ins])
    whole = table
    for one in (calibrate, search, confirm):
        whole = whole.and_also(one, one.n_plans)
    solve_s = solving_s(work)
    whole = replace(whole, time_s=whole.time_s + solve_s)
    return Costs(
        table_s=table.time_s,
        calibrate_s=calibrate.time_s,
        search_s=search.time_s,
        refine_s=refine_s,
        n_refined=n_refined,
        solve_s=solve_s,
        confirm_s=confirm.time_s,
        whole=whole,
    )


def _near(problem: Problem, seed: int) -> list[Picks]:
    """Returns as many plans a step away from a random one as are measured together."""
    (begin,) = random_plans(problem, 1, seed)
    goal = objective("mean", problem.uniform_bits, problem.reference)
    return [picks for _, picks in swaps(problem, goal, begin, AT_ONCE)]


def solving_s(work: Prepared) -> float:
    """Returns the seconds of one processor that all solving is expected to take.

    Made-up tables of the same shape are solved, with and without languages, and timed; what a
    program takes hangs on its size, on limits by language and on the machine.

    Args:
        work: From :func:`prepare`.
    """
    asked = work.asked
    if not work.guess.has_choice:
        return 0.0
    rng = np.random.default_rng(0)
    blind_s, aware_s = list[float](), list[float]()
    while len(blind_s) < _STAND_INS and sum(blind_s) + sum(aware_s) < _STAND_INS_S:
        table = _stand_in(work.guess, work.bench.languages, rng)
        began = time.process_time()
        blind = solve(table, "mean").picks
        between = time.process_time()
        with suppress(PlanError):  # a limit that no plan of a made-up table keeps
            solve(table, asked.objective, no_harm=asked.no_harm, spare=asked.spare, blind=blind)
        blind_s.append(between - began)
        aware_s.append(time.process_time() - between)
    # The best ones, those by weights and for the reference, on other budgets, and for each draw.
    n_blind = BEST + 2 + FRONTIER_POINTS + asked.draws
    n_aware = BEST + asked.placebos + FRONTIER_POINTS + asked.draws
    return n_blind * float(np.mean(blind_s)) + n_aware * float(np.mean(aware_s))


def _stand_in(guess: Problem, languages: Sequence[str], rng: np.random.Generator) -> Problem:
    """Returns a problem of the same sizes with damage drawn at random.

    Parts differ by a factor of some three, languages by two, and by a fifth in a part.
    """
    n, (g, c) = len(languages), guess.allowed.shape
    spread = (
        rng.normal(0, 1.0, (1, g, 1))
        + rng.normal(0, 0.7, (n, 1, 1))
        + rng.normal(0, 0.2, (n, g, 1))
        + rng.normal(0, 0.03, (n, g, c))
    )
    return replace(
        guess,
        languages=tuple(languages),
        reference=0,
        damage_bits=guess.damage_bits * np.exp(spread),
    )


def _comparators(work: Prepared, problem: Problem) -> tuple[Comparator, ...]:
    """Returns comparators of the same number and bytes, as stand-ins."""
    return comparators(problem, ends=work.asked.ends, triples=work.asked.triples,
                       log_variance=np.zeros(work.bench.n_blocks))  # fmt: skip
