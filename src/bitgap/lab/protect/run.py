"""A recipe for a model in hand: table, calibration, search, seal, proof, in this order.

Every measurement goes through the store, so that a search that was stopped goes on where it was,
and ends in the same recipe. The recipe is sealed and stored before the first plan is scored on the
text that confirms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from bitgap.disparity.formulas import below_resolution, collapsed, damage_bits
from bitgap.errors import BudgetError, LanguageError, PlanError, StoreError
from bitgap.lab.bench import Bench
from bitgap.lab.protect.steps import BEST, Costs, Prepared, foresee
from bitgap.lab.protect.table import damage_table, scored, squared_errors
from bitgap.lab.store import content_key
from bitgap.protect.calibration import (
    PLANS,
    Calibration,
    TrueDamage,
    best_measured,
    calibrate,
    refine,
)
from bitgap.protect.comparators import (
    BLIND,
    Comparator,
    comparators,
    protected,
    worst_set,
)
from bitgap.protect.nulls import Stability, placebo_plans, random_plans, stability
from bitgap.protect.outcome import (
    FrontierPoint,
    Measured,
    Outcome,
    Step,
    UnitChoice,
    proof_digest,
)
from bitgap.protect.problem import Picks, Problem, make_problem
from bitgap.protect.proof import Proof, Rival, foreseen_detectable, prove, sealed
from bitgap.protect.recipe import Recipe, make_recipe, read_recipe, read_text, text_of, write_recipe
from bitgap.protect.records import DamageTable
from bitgap.protect.solve import MostToGain, Solution, best_plans, most_to_gain, solution_of, solve
from bitgap.protect.tables import on_sentences, write_table
from bitgap.records import Floats, Observations, Scores

RECIPE = "recipe.toml"
TABLE = "damage.table.zip"
FRONTIER_POINTS = 7
"""Budgets beside the one that was asked for."""

Say = Callable[[str], None]


@dataclass(eq=False)
class _Clock:
    """Notes what each step took beside what it was said to take."""

    costs: Costs
    steps: list[Step] = field(default_factory=list[Step])

    @contextmanager
    def step(self, name: str, predicted_s: float) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps.append(Step(name=name, predicted_s=predicted_s, took_s=time.monotonic() - began))


def table_of(work: Prepared) -> DamageTable:
    """Returns the damage table of a model, on the text that calibrates and is searched on.

    Languages that collapse under the uniform plan, or are hurt by it less than can be told, are
    left out of it.

    Args:
        work: From :func:`bitgap.lab.protect.steps.prepare`.

    Raises:
        LanguageError: If the reference is such a language.
    """
    bench = work.found_on
    base = scored(bench, [work.units.plan(work.base)], "uniform plan")
    left_out = _left_out(base)
    if bench.corpus.reference in left_out:
        raise LanguageError(
            f"the reference {bench.corpus.reference} is left out "
            f"({left_out[bench.corpus.reference]}), so that nobody can say whether it is hurt; "
            f"give a larger budget, or take another reference"
        )
    return damage_table(
        bench,
        work.units,
        work.choices,
        work.schemes,
        work.instrument,
        work.base,
        left_out=left_out,
    )


def _left_out(base: Scores) -> dict[str, str]:
    gone, faint = collapsed(base)[0], below_resolution(base)[0]
    found = dict[str, str]()
    for i, code in enumerate(base.languages):
        if gone[i]:
            found[code] = "collapsed under the uniform plan of the same bytes"
        elif faint[i]:
            found[code] = "damage of the uniform plan is below the numerical floor's resolution"
    return found


def protect(
    work: Prepared,
    costs: Costs | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    say: Say | None = None,
) -> Outcome:
    """Returns the recipe of the same bytes that hurts least, with its proof.

    Args:
        work: From :func:`bitgap.lab.protect.steps.prepare`.
        costs: What it was said to cost; foreseen when None.
        out: Folder for ``recipe.toml`` and the damage table; neither is written when None.
        say: Is told, in a sentence, what each step came to.

    Raises:
        LanguageError: If the reference collapsed, or no share of a language's damage can be formed.
        PlanError: If no plan keeps the limits.
        StoreError: If something cannot be written; what was measured is kept.
    """
    tell = say or (lambda _: None)
    if out is not None:
        # Better told before a measurement than after.
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write in {os.fspath(out)!r} ({error.strerror or error}); name a folder "
                f"that can be made"
            ) from error
    clock = _Clock(costs or foresee(work))
    with clock.step("table", clock.costs.table_s):
        table = table_of(work)
    if table.facts.left_out:
        tell("; ".join(f"{code} is left out: {why}" for code, why in table.facts.left_out.items()))
    problem = make_problem(table, work.budget.units_bytes, target=work.target)
    search = _Search(work, table, problem, clock, tell)
    search.find()
    recipe = _seal(search, out)
    tell(f"recipe sealed ({recipe.seal[:12]}), {recipe.bytes} of {recipe.budget_bytes} bytes")
    return _Proving(search, recipe).outcome(out)


class _Search:
    """Finds the recipe, and the language-blind plan by the same effort."""

    chosen: Solution
    blind: Picks

    def __init__(
        self, work: Prepared, table: DamageTable, problem: Problem, clock: _Clock, tell: Say
    ) -> None:
        self.work, self.table, self.problem = work, table, problem
        self.clock, self.tell = clock, tell
        self.calibration: Calibration | None = None
        self.most: MostToGain | None = None
        self.refined, self.solved_s = 0, 0.0
        self.random = random_plans(problem, work.asked.random, work.seed)

    def find(self) -> None:
        """Searches by the table, and where it is not to be trusted, by measuring."""
        asked, problem, costs = self.work.asked, self.problem, self.clock.costs
        if not problem.has_choice:
            self.chosen = solve(problem, asked.objective, no_harm=asked.no_harm, spare=None)
            self.blind = self.chosen.picks
            self.tell(self.chosen.sentence())
            return
        with self.clock.step("calibration", costs.calibrate_s):
            self.calibration = self._calibrated()
        began = time.monotonic()
        blinds = best_plans(problem, "mean", BEST)
        self.most = most_to_gain(problem, asked.objective, no_harm=asked.no_harm,
                                 spare=np.inf if asked.spare is None else asked.spare)  # fmt: skip
        self.tell(
            f"against the language-blind plan the objective can fall by {self.most.share:.1%} at "
            f"most if nobody pays, by {self.most.free_share:.1%} if others may"
        )
        plans = best_plans(
            problem, asked.objective, BEST, no_harm=asked.no_harm, spare=asked.spare,
            blind=blinds[0].picks,
        )  # fmt: skip
        self.solved_s = time.monotonic() - began
        with self.clock.step("search", costs.search_s):
            true = self._true(self.work.search, "search, best plans")
            if self.calibration.trusted:
                self._measure(plans, blinds, true)
            else:
                why = "; ".join(self.calibration.reasons[:3])
                self.tell(f"the table is not trusted ({why}): the search goes on by measuring")
                self._refine(plans, blinds, true)

    def _calibrated(self) -> Calibration:
        picks = random_plans(self.problem, PLANS, self.work.seed)
        measured = self._true(self.work.calibrate, "calibration, random plans")(picks)
        predicted = np.array([self._on_calibrate.damage_of(one) for one in picks])
        return calibrate(self.problem.languages, predicted, measured)

    @cached_property
    def _on_calibrate(self) -> Problem:
        """The same problem by the table of the calibrating sentences alone."""
        split = self.work.split
        whole = sorted([*split.calibrate, *split.search])
        rows = np.flatnonzero(np.isin(whole, split.calibrate))
        table = on_sentences(self.table, rows)
        return make_problem(table, self.problem.budget_bytes, target=self.work.target)

    def _true(self, bench: Bench, label: str) -> TrueDamage:
        def measure(picks: Sequence[Picks]) -> Floats:
            plans = self.work.plans(self.problem, picks)
            scores = scored(bench, plans, label)
            # Plans that are there twice have one row.
            rows = scores.select(
                plans=[plan.text for plan in plans], languages=self.problem.languages
            )
            return damage_bits(rows)

        return measure

    def _measure(
        self, plans: Sequence[Solution], blinds: Sequence[Solution], true: TrueDamage
    ) -> None:
        asked = self.work.asked
        self.blind = best_measured(self.problem, blinds, true, "mean", ()).picks
        by_table = asked.objective in ("mean", "reference")
        self.chosen = best_measured(
            self.problem, plans, true, asked.objective, () if by_table else asked.no_harm,
            blind=None if by_table else self.blind, spare=asked.spare,
        )  # fmt: skip

    def _refine(
        self, plans: Sequence[Solution], blinds: Sequence[Solution], true: TrueDamage
    ) -> None:
        # Both searches measure as much, so that neither gains by effort.
        asked, problem = self.work.asked, self.problem
        starts = [problem.uniform, *(one.picks for one in blinds)]
        blind = refine(problem, starts, true, "mean", no_harm=())
        self.blind = blind.picks
        by_table = asked.objective in ("mean", "reference")
        ours = refine(
            problem, [self.blind, *(one.picks for one in plans)], true, asked.objective,
            no_harm=() if by_table else asked.no_harm,
            blind=None if by_table else self.blind, spare=asked.spare,
        )  # fmt: skip
        self.refined = blind.measured + ours.measured
        self.chosen = solution_of(problem, asked.objective, ours.picks, plans[0].bound)


def _seal(search: _Search, out: str | os.PathLike[str] | None) -> Recipe:
    """Returns the recipe as it was written, stored under its model and text, before the proof."""
    work, asked = search.work, search.work.asked
    made = make_recipe(
        search.table,
        search.chosen,
        work.budget,
        split=work.split.digest,
        seed=work.seed,
        no_harm=tuple(asked.no_harm),
        spare=asked.spare,
        target=asked.target,
        commands=(asked.command,) if asked.command else (),
    )
    text = text_of(made)
    key = content_key("recipe", work.bench.text_key, made.seal)
    work.bench.store.put_observations(
        key, Observations(experiment="recipe", version=1, arrays={}, facts={"toml": text})
    )
    if out is None:
        return read_text(text, RECIPE)
    folder = Path(out)
    write_table(search.table, folder / TABLE)
    write_recipe(made, folder / RECIPE)
    return read_recipe(folder / RECIPE)


class _Proving:
    """Scores a sealed recipe and all that it is compared with on the text that confirms."""

    def __init__(self, search: _Search, recipe: Recipe) -> None:
        self.search, self.recipe, self.seal = search, recipe, sealed(recipe)
        self.work, self.problem = search.work, search.problem
        self.picks = search.chosen.picks
        self.notes = list[str]()

    def outcome(self, out: str | os.PathLike[str] | None) -> Outcome:
        """Returns all that was found, and adds the proof to the recipe."""
        work, search, problem = self.work, self.search, self.problem
        compared = self._comparators()
        began = time.monotonic()
        placebos = self._placebos()
        stable = self._stability()
        curve = self._frontier()
        worst = worst_set(problem, search.blind)
        foreseen = self._foreseen(worst)
        solved_s = time.monotonic() - began + search.solved_s
        search.clock.steps.append(
            Step(name="solving", predicted_s=search.clock.costs.solve_s, took_s=solved_s)
        )
        if foreseen is not None:
            search.tell(
                f"against the language-blind plan a gain of {foreseen:.3f} in log2 is the smallest "
                f"that {len(work.split.confirm)} confirming sentences are expected to show"
            )
        with search.clock.step("proof", search.clock.costs.confirm_s):
            proof, measured = self._proved(compared, placebos, worst)
            curve = self._measured_frontier(curve)
        recipe = replace(self.recipe, proof=proof_digest(proof))
        if out is not None:
            write_recipe(recipe, Path(out) / RECIPE)
        chosen = search.chosen
        return Outcome(
            recipe=recipe,
            languages=problem.languages,
            reference=problem.languages[problem.reference],
            left_out=dict(search.table.facts.left_out),
            budget_bits=problem.bits_of(problem.budget_bytes),
            instrument=work.instrument,
            n_sentences={
                name: len(getattr(work.split, name)) for name in ("calibrate", "search", "confirm")
            },
            most=search.most,
            foreseen=foreseen,
            calibration=search.calibration,
            refined=search.refined,
            value=chosen.value,
            bound=chosen.bound,
            gap=chosen.gap,
            has_choice=problem.has_choice,
            units=self._units(compared, stable),
            plans=measured,
            proof=proof,
            frontier=curve,
            steps=tuple(search.clock.steps),
            notes=tuple(self.notes),
        )

    def _comparators(self) -> tuple[Comparator, ...]:
        work, problem = self.work, self.problem
        errors = squared_errors(work.bench, work.units, work.choices, work.schemes)
        names = [unit.name for unit in work.units.units]
        by_part = np.array([errors[[names.index(u) for u in units]].sum(0)
                            for units in problem.parts])  # fmt: skip
        found = [
            # The blind plan was searched by the same effort as the recipe, not by the table alone.
            replace(one, picks=self.search.blind, size_bytes=problem.size_of(self.search.blind),
                    slack_bytes=problem.budget_bytes - problem.size_of(self.search.blind))
            if one.name == BLIND else one
            for one in comparators(problem, squared_error=by_part, triples=work.asked.triples)
        ]  # fmt: skip
        n, ends = problem_blocks(problem), work.asked.ends
        if ends > 1:
            blocks = (*range(ends), *range(n - ends, n))
            found.append(protected(problem, blocks, f"{ends} blocks at either end protected"))
        return tuple(found)

    def _placebos(self) -> list[tuple[Picks, tuple[str, ...]]]:
        asked, search = self.work.asked, self.search
        if not self.problem.has_choice or asked.objective in ("mean", "reference"):
            self.notes.append(
                "No search on permuted labels was made: there is nothing that labels could change."
            )
            return []
        if search.refined:
            self.notes.append(
                "The table was not trusted, so the recipe was found by measuring; searches on "
                "permuted labels and other budgets go by the table alone, and how often a unit "
                "gets the same bits is not told."
            )
        found = placebo_plans(search.table, self.problem, asked.placebos, seed=self.work.seed)
        return [(one.picks, one.worst) for one in found]

    def _stability(self) -> Stability | None:
        search, asked = self.search, self.work.asked
        if search.refined or not self.problem.has_choice or not asked.draws:
            return None

        def again(problem: Problem) -> Picks:
            return solve(problem, asked.objective, no_harm=asked.no_harm, spare=asked.spare).picks

        return stability(search.table, self.problem, self.picks, asked.draws,
                         seed=self.work.seed, solver=again)  # fmt: skip

    def _foreseen(self, worst: Sequence[str]) -> float | None:
        bits, problem = self.search.table.sentence_bits, self.problem
        if bits is None or not problem.has_choice or self.picks == self.search.blind:
            return None
        facts = self.search.table.facts
        names = [unit.name for unit in facts.units]
        rows = [[names.index(unit) for unit in units] for units in problem.parts]
        counted = [facts.languages.index(one) for one in problem.languages]
        by_part = np.array([bits[counted][:, members].sum(1) for members in rows])
        units = [problem.languages.index(one) for one in worst]
        n = self.work.confirm.text.counts.tokens.shape[1]
        found = foreseen_detectable(
            by_part.transpose(1, 0, 2, 3), self.picks, self.search.blind, units, n
        )
        return found if np.isfinite(found) else None

    # -- scored on the text that confirms --------------------------------------------------------

    def _proved(
        self,
        compared: Sequence[Comparator],
        placebos: Sequence[tuple[Picks, tuple[str, ...]]],
        worst: Sequence[str],
    ) -> tuple[Proof, tuple[Measured, ...]]:
        search, work, problem = self.search, self.work, self.problem
        there = [(one, one.picks) for one in compared if one.picks is not None]
        ours, *theirs = work.plans(problem, [self.picks, *(picks for _, picks in there)])
        random = work.plans(problem, search.random)
        nulls = work.plans(problem, [picks for picks, _ in placebos])
        on_search = scored(work.search, [ours, *theirs], "search, comparators")
        on_confirm = scored(work.confirm, [ours, *theirs, *random, *nulls], "proof")
        counted = list(problem.languages)
        on_search = on_search.select(languages=counted)
        on_confirm = on_confirm.select(languages=counted)
        rivals = [
            Rival(name=one.name, plan=plan.text, size_bytes=one.size_bytes,
                  slack_bytes=one.slack_bytes)
            for (one, _), plan in zip(there, theirs, strict=True)
        ]  # fmt: skip
        proof = prove(
            on_confirm,
            ours.text,
            rivals,
            worst,
            seal=self.seal,
            split=work.split.digest,
            seed=work.seed,
            search=on_search,
            random=[plan.text for plan in random],
            placebo=[(plan.text, rows) for plan, (_, rows) in zip(nulls, placebos, strict=True)],
        )
        fixed = work.budget.fixed_bytes

        def measured(name: str, plan: str, size: int) -> Measured:
            return Measured(
                name=name,
                plan=plan,
                size_bytes=size + fixed,
                slack_bytes=problem.budget_bytes - size,
                search_bits=_row(on_search, plan),
                confirm_bits=_row(on_confirm, plan),
            )

        rows = [measured("recipe", ours.text, problem.size_of(self.picks))]
        by_name = {rival.name: rival for rival in rivals}
        for one in compared:
            rival = by_name.get(one.name)
            rows.append(
                measured(one.name, rival.plan, one.size_bytes) if rival else Measured(
                    name=one.name, plan="", size_bytes=0, slack_bytes=0, search_bits=(),
                    confirm_bits=(), reason=one.reason)
            )  # fmt: skip
        return proof, tuple(rows)

    # -- other budgets ---------------------------------------------------------------------------

    def _frontier(self) -> list[tuple[Problem, Picks]]:
        """Returns the best plans by the table at other budgets, as far as there are such."""
        problem, asked = self.problem, self.work.asked
        if not problem.has_choice:
            return []
        low, high = (problem.size_of(p) for p in (problem.cheapest, problem.dearest))
        # Evenly in bits, where each halves damage.
        budgets = {int(b) for b in np.linspace(low, high, FRONTIER_POINTS + 2)[1:-1]}
        found = list[tuple[Problem, Picks]]()
        for budget in sorted({*budgets, problem.budget_bytes}):
            other = problem.with_budget(budget)
            if budget == problem.budget_bytes:
                found.append((other, self.picks))
                continue
            try:
                plan = solve(other, asked.objective, no_harm=asked.no_harm, spare=asked.spare)
            except (PlanError, LanguageError, BudgetError):
                continue
            found.append((other, plan.picks))
        return found

    def _measured_frontier(
        self, curve: Sequence[tuple[Problem, Picks]]
    ) -> tuple[FrontierPoint, ...]:
        if not curve:
            return ()
        pairs = [picks for problem, own in curve for picks in (own, problem.uniform)]
        measured = self.work.asked.frontier
        if measured:
            plans = self.work.plans(self.problem, pairs)
            scores = scored(self.work.confirm, plans, "frontier")
            rows = scores.select(
                plans=[plan.text for plan in plans], languages=self.problem.languages
            )
            damage = damage_bits(rows)
        else:
            damage = np.array([self.problem.damage_of(picks) for picks in pairs])
        return tuple(
            FrontierPoint(
                size_bytes=problem.size_of(own) + self.work.budget.fixed_bytes,
                bits=problem.bits_of(problem.size_of(own)),
                damage_bits=tuple(map(float, damage[2 * i])),
                uniform_bits=tuple(map(float, damage[2 * i + 1])),
                schemes=problem.by_unit(own),
                measured=measured,
            )
            for i, (problem, own) in enumerate(curve)
        )

    # -- units -----------------------------------------------------------------------------------

    def _units(
        self, compared: Sequence[Comparator], stable: Stability | None
    ) -> tuple[UnitChoice, ...]:
        others: dict[str, Mapping[str, str]] = {
            one.name: self.problem.by_unit(one.picks) for one in compared if one.picks is not None
        }
        rows = list[UnitChoice]()
        for unit, choices in zip(self.work.units.units, self.work.choices, strict=True):
            got = self.recipe.units[unit.name]
            (choice,) = (c for c in choices if c is not None and c.scheme == got.scheme)
            rows.append(
                UnitChoice(
                    unit=unit.name,
                    kind=unit.kind,
                    block=unit.block,
                    n_weights=unit.n_weights,
                    scheme=got.scheme,
                    bits=choice.bits,
                    size_bytes=got.bytes,
                    same_bits=None if stable is None else stable.bits[unit.name],
                    others={name: plan[unit.name] for name, plan in others.items()},
                )
            )
        return tuple(rows)


def problem_blocks(problem: Problem) -> int:
    """Returns how many blocks a problem's parts are of."""
    return len({block for block in problem.blocks if block is not None})


def _row(scores: Scores, plan: str) -> tuple[float, ...]:
    return tuple(map(float, damage_bits(scores.select(plans=[plan]))[0]))
