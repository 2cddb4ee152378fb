"""A recipe for a model in hand: table, calibration, search, seal, proof, in this order.

Every measurement goes through the store, so that a search that was stopped goes on where it was,
and ends in the same recipe. The recipe is sealed and stored before the first plan is scored on the
text that confirms.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bitgap.disparity.formulas import below_resolution, collapsed, damage_bits
from bitgap.errors import BudgetError, LanguageError, PlanError, StoreError
from bitgap.lab.protect.search import Clock, Say, Search
from bitgap.lab.protect.steps import DRAW_GAP, FRONTIER_POINTS, Costs, Prepared, foresee
from bitgap.lab.protect.table import damage_table, scored, squared_errors
from bitgap.lab.store import content_key
from bitgap.models.gauge import raw_log_variance
from bitgap.protect.comparators import Comparator, comparators
from bitgap.protect.nulls import Stability, placebo_plans, stability
from bitgap.protect.objectives import LINEAR
from bitgap.protect.outcome import (
    FrontierPoint,
    Measured,
    Outcome,
    UnitChoice,
    proof_digest,
)
from bitgap.protect.problem import Picks, Problem, make_problem
from bitgap.protect.proof import Proof, Rival, foreseen_detectable, prove, sealed
from bitgap.protect.recipe import Recipe, make_recipe, read_recipe, read_text, text_of, write_recipe
from bitgap.protect.records import DamageTable
from bitgap.protect.solve import solve
from bitgap.protect.tables import write_table
from bitgap.records import Floats, Observations, Scores

RECIPE = "recipe.toml"
TABLE = "damage.table.zip"


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
    clock = Clock(costs or foresee(work))
    with clock.step("table", clock.costs.table_s):
        table = table_of(work)
    if table.facts.left_out:
        tell("; ".join(f"{code} is left out: {why}" for code, why in table.facts.left_out.items()))
    problem = make_problem(table, work.budget.units_bytes, target=work.target)
    search = Search(work, table, problem, clock, tell)
    search.find()
    recipe = _seal(search, out)
    tell(f"recipe sealed ({recipe.seal[:12]}), {recipe.bytes} of {recipe.budget_bytes} bytes")
    return _Proving(search, recipe).outcome(out)


def _seal(search: Search, out: str | os.PathLike[str] | None) -> Recipe:
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
    store, key = work.bench.store, content_key("recipe", work.bench.text_key, made.seal)
    if store.get_observations(key) is None:  # sealed before, it is not written again
        store.put_observations(
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

    def __init__(self, search: Search, recipe: Recipe) -> None:
        self.search, self.recipe, self.seal = search, recipe, sealed(recipe)
        self.work, self.problem = search.work, search.problem
        self.picks = search.chosen.picks
        self.notes = search.notes

    def outcome(self, out: str | os.PathLike[str] | None) -> Outcome:
        """Returns all that was found, and adds the proof to the recipe."""
        work, search, problem = self.work, self.search, self.problem
        # Squared errors are read off the weights, which is no solving; the table's step has them.
        errors, log_variance = self._of_weights()
        with search.clock.step("solving", search.clock.costs.solve_s):
            compared = self._comparators(errors, log_variance)
            placebos = self._placebos()
            stable = self._stability()
            curve = self._frontier()
            worst = search.worst
            foreseen = self._foreseen(worst)
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

    def _of_weights(self) -> tuple[Floats, Floats]:
        """Returns ‖ΔW‖² of every part and scheme, and log variance of each block's weights."""
        work, problem = self.work, self.problem
        errors = squared_errors(work.bench, work.units, work.choices, work.schemes)
        names = [unit.name for unit in work.units.units]
        by_part = [errors[[names.index(u) for u in units]].sum(0) for units in problem.parts]
        return np.array(by_part), raw_log_variance(work.bench.decoder)

    def _comparators(self, errors: Floats, log_variance: Floats) -> tuple[Comparator, ...]:
        asked = self.work.asked
        # The blind plan was searched by the same effort as the recipe, not by the table alone.
        return comparators(
            self.problem,
            squared_error=errors,
            log_variance=log_variance,
            ends=asked.ends,
            triples=asked.triples,
            blind=self.search.blind,
        )

    def _placebos(self) -> list[tuple[Picks, tuple[str, ...]]]:
        asked, search = self.work.asked, self.search
        if not self.problem.has_choice or asked.objective in LINEAR:
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
        found = placebo_plans(
            search.table, self.problem, asked.placebos, seed=self.work.seed, blind=search.by_table
        )
        return [(one.picks, one.worst) for one in found]

    def _stability(self) -> Stability | None:
        search, asked = self.search, self.work.asked
        if search.refined or not self.problem.has_choice or not asked.draws:
            return None

        def again(problem: Problem) -> Picks:
            known = partial(solve, problem, gap=DRAW_GAP)
            blind = known("mean").picks
            return known(
                asked.objective, no_harm=asked.no_harm, spare=asked.spare, blind=blind
            ).picks

        return stability(search.table, self.problem, self.picks, asked.draws,
                         seed=self.work.seed, solver=again)  # fmt: skip

    def _foreseen(self, worst: Sequence[str]) -> float | None:
        bits, problem = self.search.table.sentence_bits, self.problem
        if bits is None or not problem.has_choice or self.search.found == self.search.blind:
            return None
        facts = self.search.table.facts
        names = [unit.name for unit in facts.units]
        rows = [[names.index(unit) for unit in units] for units in problem.parts]
        counted = [facts.languages.index(one) for one in problem.languages]
        by_part = np.array([bits[counted][:, members].sum(1) for members in rows])
        units = [problem.languages.index(one) for one in worst]
        n = self.work.confirm.text.counts.tokens.shape[1]
        found = foreseen_detectable(
            by_part.transpose(1, 0, 2, 3), self.search.found, self.search.blind, units, n
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


def _row(scores: Scores, plan: str) -> tuple[float, ...]:
    return tuple(map(float, damage_bits(scores.select(plans=[plan]))[0]))
