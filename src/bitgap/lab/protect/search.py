"""The search for a recipe: the table held against measured plans, then solved, then measured.

The language-blind plan is searched by the same effort. A plan that knows languages takes its place
only where the text of the search shows that it should (:mod:`bitgap.protect.shown`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from bitgap.disparity.formulas import damage_bits
from bitgap.lab.bench import Bench
from bitgap.lab.protect.steps import BEST, Costs, Prepared
from bitgap.lab.protect.table import scored
from bitgap.protect.calibration import (
    PLANS,
    Calibration,
    TrueDamage,
    best_measured,
    calibrate,
    refine,
)
from bitgap.protect.comparators import worst_set
from bitgap.protect.nulls import random_plans
from bitgap.protect.objectives import LINEAR
from bitgap.protect.outcome import Step
from bitgap.protect.problem import Picks, Problem, make_problem
from bitgap.protect.records import DamageTable
from bitgap.protect.shown import Shown
from bitgap.protect.solve import MostToGain, Solution, best_plans, most_to_gain, solution_of, solve
from bitgap.protect.tables import on_sentences
from bitgap.records import Scores
from bitgap.show.words import duration

Say = Callable[[str], None]


@dataclass(eq=False)
class Clock:
    """Notes what each step took beside what it was said to take."""

    costs: Costs
    steps: list[Step] = field(default_factory=list[Step])

    @contextmanager
    def step(self, name: str, predicted_s: float) -> Iterator[None]:
        """Notes what is done within as one step; a second one of that name is added to it."""
        began, worked = time.monotonic(), time.process_time()
        yield
        step = Step(
            name=name,
            predicted_s=predicted_s,
            took_s=time.monotonic() - began,
            processor_s=time.process_time() - worked,
        )
        for i, one in enumerate(self.steps):
            if one.name == name:
                self.steps[i] = replace(
                    one, took_s=one.took_s + step.took_s,
                    processor_s=(one.processor_s or 0.0) + (step.processor_s or 0.0),
                )  # fmt: skip
                return
        self.steps.append(step)


class Search:
    """Finds the recipe, and the language-blind plan by the same effort."""

    chosen: Solution
    found: Picks
    """The plan that was found for the objective, whether it was taken or not."""
    blind: Picks
    by_table: Picks
    """The language-blind plan by the table alone."""

    def __init__(
        self, work: Prepared, table: DamageTable, problem: Problem, clock: Clock, tell: Say
    ) -> None:
        self.work, self.table, self.problem = work, table, problem
        self.clock, self.tell = clock, tell
        self.calibration: Calibration | None = None
        self.most: MostToGain | None = None
        self.refined = 0
        self.notes = list[str]()
        self.shown = Shown(
            partial(self._scores, work.search, "search, best plans"),
            problem.uniform, problem.reference, work.seed,
        )  # fmt: skip
        self.random = random_plans(problem, work.asked.random, work.seed)

    def find(self) -> None:
        """Searches by the table, and where it is not to be trusted, by measuring."""
        asked, problem, costs = self.work.asked, self.problem, self.clock.costs
        if not problem.has_choice:
            self.chosen = solve(problem, asked.objective, no_harm=asked.no_harm, spare=None)
            self.blind = self.by_table = self.found = self.chosen.picks
            self.tell(self.chosen.sentence())
            return
        with self.clock.step("calibration", costs.calibrate_s):
            self.calibration = self._calibrated()
        with self.clock.step("solving", costs.solve_s):
            plans, blinds = self._solved()
        more_s = 0.0 if self.calibration.trusted else costs.refine_s
        with self.clock.step("search", costs.search_s + more_s):
            true = self._true(self.work.search, "search, best plans")
            if self.calibration.trusted:
                self._measure(plans, blinds, true)
            else:
                why = "; ".join(self.calibration.reasons[:3])
                self.tell(
                    f"the table is not trusted ({why}): the search goes on by measuring, which "
                    f"may take {duration(more_s)} more"
                )
                self._refine(plans, blinds, true)
            self.found = self.chosen.picks
            self._guard(plans[0].bound)

    def _solved(self) -> tuple[tuple[Solution, ...], tuple[Solution, ...]]:
        """Returns the best plans by the table, with and without languages."""
        asked, problem = self.work.asked, self.problem
        blinds = best_plans(problem, "mean", BEST)
        blind = self.by_table = blinds[0].picks
        most = most_to_gain(
            problem, asked.objective, no_harm=asked.no_harm,
            spare=np.inf if asked.spare is None else asked.spare, blind=blind,
        )  # fmt: skip
        self.tell(
            f"against the language-blind plan the objective can fall by {most.share:.1%} at "
            f"most if nobody pays, by {most.free_share:.1%} if others may"
        )
        self.most = most
        plans = best_plans(
            problem, asked.objective, BEST, no_harm=asked.no_harm, spare=asked.spare, blind=blind
        )
        return plans, blinds

    def _guard(self, bound: float) -> None:
        """Takes the language-blind plan where the search shows nothing for one that knows more."""
        goal = self.work.asked.objective
        if goal in LINEAR:
            return
        if why := self.shown.why_not(self.chosen.picks, self.blind, self.worst):
            said = (
                f"Of the plan that was found for {goal}, {why}; the recipe is the language-blind "
                f"plan, which does the least damage in all"
            )
            self.tell(said)
            self.notes.append(f"{said}.")
            self.chosen = solution_of(self.problem, goal, self.blind, bound)

    @property
    def worst(self) -> tuple[str, ...]:
        """The worst set, which is fixed on the text of the search."""
        return worst_set(self.problem, self.blind)

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
        return lambda picks: damage_bits(self._scores(bench, label, picks))

    def _scores(self, bench: Bench, label: str, picks: Sequence[Picks]) -> Scores:
        plans = self.work.plans(self.problem, picks)
        # Plans that are there twice have one row in what is scored.
        return scored(bench, plans, label).select(
            plans=[plan.text for plan in plans], languages=self.problem.languages
        )

    def _measure(
        self, plans: Sequence[Solution], blinds: Sequence[Solution], true: TrueDamage
    ) -> None:
        asked = self.work.asked
        better = self.shown.better
        self.blind = best_measured(self.problem, blinds, true, "mean", (), better=better).picks
        by_table = asked.objective in LINEAR
        self.chosen = best_measured(
            self.problem, plans, true, asked.objective, () if by_table else asked.no_harm,
            blind=None if by_table else self.blind, spare=asked.spare, better=better,
        )  # fmt: skip

    def _refine(
        self, plans: Sequence[Solution], blinds: Sequence[Solution], true: TrueDamage
    ) -> None:
        asked, problem = self.work.asked, self.problem
        starts = [problem.uniform, *(one.picks for one in blinds)]
        better = self.shown.better
        blind = refine(problem, starts, true, "mean", no_harm=(), better=better)
        self.blind, self.refined = blind.picks, blind.measured
        by_table = asked.objective in LINEAR
        ours = refine(
            problem, [self.blind, *(one.picks for one in plans)], true, asked.objective,
            no_harm=() if by_table else asked.no_harm,
            blind=None if by_table else self.blind, spare=asked.spare, better=better,
        )  # fmt: skip
        self.refined += ours.measured
        if not by_table:
            # What was found from there may hurt less in all as well, which is no matter of
            # languages: so the language-blind search goes on by as much, and from that plan too.
            on = refine(problem, [ours.picks, self.blind], true, "mean", no_harm=(), better=better)
            self.blind = on.picks
            self.refined += on.measured
        self.chosen = solution_of(problem, asked.objective, ours.picks, plans[0].bound)
