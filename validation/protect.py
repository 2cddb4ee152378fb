"""Worlds in which it is known whether languages matter, to count how often a proof is wrong.

In every world the damage of a plan is the sum over units of d[language, unit, bits], and a sentence
has that times noise: of its own, heavy-tailed and in part shared by languages, as parallel
sentences share content; of each unit in it; and a little of each choice. The search sees one text,
the proof another. As in a real search, a plan that knows languages is taken only where the text of
the search shows that it gains.

*One table*: d is the same for all languages but for a level each. There is nothing that knowing
languages could gain on the language-blind plan, so that every "helps" against it is false.

*Planted*: three of twelve languages need one small unit that others hardly do, by so much that the
best plan that spares all others gains twice :data:`SMALLEST` in these languages on the language-
blind one. The levels of the three are low, since the blind plan has the least total damage: what
languages of equal damage gain on it, others pay (see ADR 0041).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import get_args

import numpy as np

from bitgap.protect.comparators import BLIND, UNIFORM, worst_set
from bitgap.protect.example import made_scores
from bitgap.protect.nulls import PLACEBOS, placebo_plans
from bitgap.protect.problem import Picks, Problem, make_problem
from bitgap.protect.proof import Label, Proof, Rival, prove
from bitgap.protect.records import DamageTable, Matrix, TableFacts, Unit
from bitgap.protect.shown import Shown
from bitgap.protect.sizes import plain_choice
from bitgap.protect.solve import MARGIN, SPARE, solve
from bitgap.records import Floats, Scores
from validation.counts import Count

BITS = (2, 3, 4, 5, 6)
GROUPS = (128, 64)
SMALLEST = MARGIN
"""Smallest gain of interest, as a share of damage: what counts as no harm counts as no gain."""
LABELS: tuple[Label, ...] = get_args(Label)
HELPS = LABELS[:2]
_BUDGET_BITS = 3.25
_LANGUAGES = tuple("en de fr es ru tr fi hu ja zh he ar".split())
_HURT = (9, 10, 11)
_NEEDED = 2
"""The unit that the hurt languages need: keys and values of the first block, which are small."""
_CHARACTERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeWorld:
    """One kind of world."""

    name: str
    planted: bool = False
    search: int = 300
    """Sentences that are searched on."""
    confirm: int = 500
    """Sentences that confirm; both as a text of 1,000 is split."""
    spare: float | None = SPARE
    required: bool = True
    """Whether a planted effect must be found in it; of few sentences it is told how often it is."""


RECIPE_WORLDS = (
    RecipeWorld(name="one table"),
    RecipeWorld(name="one table, others may pay", spare=None),
    RecipeWorld(name="one table, a text of 100 sentences", search=30, confirm=50),
    RecipeWorld(name="planted", planted=True),
    RecipeWorld(
        name="planted, a text of 100 sentences", planted=True, search=30, confirm=50, required=False
    ),
)


@dataclass(frozen=True, slots=True)
class RecipeTally:
    """Verdicts against the language-blind plan, and what was true."""

    world: RecipeWorld
    labels: Counter[Label] = field(default_factory=Counter[Label])
    gains: tuple[float, ...] = ()
    """True gain of the recipe in the worst set, log2 ratio, one a world."""
    wrong_sides: int = 0
    """Languages called unharmed that were harmed by more than the margin, in truth."""
    languages: int = 0
    """Languages that were judged."""
    uniform: Counter[Label] = field(default_factory=Counter[Label])
    kept_blind: int = 0
    """Worlds in which the search showed nothing, so that the language-blind plan was taken."""

    def __add__(self, other: RecipeTally) -> RecipeTally:
        return RecipeTally(
            self.world,
            self.labels + other.labels,
            self.gains + other.gains,
            self.wrong_sides + other.wrong_sides,
            self.languages + other.languages,
            self.uniform + other.uniform,
            self.kept_blind + other.kept_blind,
        )

    @property
    def n(self) -> int:
        """Worlds."""
        return sum(self.labels.values())

    def rate(self, *labels: Label) -> Count:
        """Returns how often the verdict was one of these."""
        return Count(sum(self.labels[label] for label in labels), self.n)

    @property
    def mean_gain(self) -> float:
        """Mean of the true gains."""
        return sum(self.gains) / len(self.gains) if self.gains else 0.0

    @property
    def over_uniform(self) -> Count:
        """How often the recipe was said to help against the uniform plan."""
        return Count(sum(self.uniform[label] for label in HELPS), self.n)


def recipe_tally(world: RecipeWorld, seeds: Iterable[int]) -> RecipeTally:
    """Returns what is said in so many worlds.

    Args:
        world: Their kind.
        seeds: One a world.
    """
    tally = RecipeTally(world)
    for seed in seeds:
        tally += judged_world(world, seed)
    return tally


def judged_world(world: RecipeWorld, seed: int) -> RecipeTally:
    """Returns what is said in one world: search, placebos, proof on other sentences.

    Args:
        world: Its kind.
        seed: Of all of it.
    """
    rng = np.random.default_rng([seed, len(world.name)])
    truth = _planted(rng, world) if world.planted else _shared(rng)
    table = _sampled(truth, world.search, rng)
    problem = _problem(table)
    blind = solve(problem, "mean").picks
    ours = solve(problem, spare=world.spare, blind=blind).picks
    shown = Shown(partial(_searched, table, problem), problem.uniform, problem.reference, seed)
    worst = worst_set(problem, blind)
    kept_blind = bool(shown.why_not(ours, blind, worst))
    if kept_blind:
        ours = blind
    plans = {"recipe": ours, UNIFORM: problem.uniform, BLIND: blind}
    text = _Text(truth, world.confirm, rng)
    proof = _proved(text, plans, worst, seed)
    if proof.verdict in HELPS:
        # A placebo can only take a "helps" back, so it is searched where there is one.
        placebos = placebo_plans(
            table, problem, PLACEBOS, seed=seed,
            solver=lambda p: solve(p, spare=world.spare, blind=blind).picks,
        )  # fmt: skip
        named = {f"placebo {i}": one for i, one in enumerate(placebos)}
        plans |= {name: one.picks for name, one in named.items()}
        proof = _proved(text, plans, worst, seed, {n: one.worst for n, one in named.items()})
    return replace(
        _counted(world, proof, problem, truth, ours, blind, worst), kept_blind=int(kept_blind)
    )


def _searched(table: DamageTable, problem: Problem, plans: Sequence[Picks]) -> Scores:
    """Returns what plans do on the text of the search: the table is exact on it, and additive."""
    assert table.sentence_bits is not None and table.characters is not None
    parts = np.arange(len(problem.parts))
    bits = [table.sentence_bits[:, parts, np.array(picks)].sum(1) for picks in plans]
    names = [f"{i}" for i in range(len(plans))]
    return made_scores(names, problem.languages, np.array(bits), table.characters)


def _counted(
    world: RecipeWorld,
    proof: Proof,
    problem: Problem,
    truth: Floats,
    ours: Picks,
    blind: Picks,
    worst: tuple[str, ...],
) -> RecipeTally:
    of_uniform, of_blind = proof.against
    true = replace(problem, damage_bits=truth)
    change = np.log2(true.damage_of(ours) / true.damage_of(blind))
    harmed = {one for one, c in zip(_LANGUAGES, change, strict=True) if c > np.log2(1 + MARGIN)}
    shown = set(of_blind.change) - set(of_blind.not_shown)
    rows = [_LANGUAGES.index(one) for one in worst]
    return RecipeTally(
        world,
        Counter({of_blind.verdict: 1}),
        (float(-change[rows].mean()),),
        len(harmed & shown),
        len(of_blind.change),
        Counter({of_uniform.verdict: 1}),
    )


# -- worlds ---------------------------------------------------------------------------------------


def _units() -> tuple[Unit, ...]:
    def unit(name: str, kind: str, block: int | None, n_out: int) -> Unit:
        matrices = (Matrix(name=name, n_out=n_out, n_in=128),)
        return Unit(name=name, kind=kind, block=block, matrices=matrices)

    sizes = {"q": 64, "kv": 8, "o": 64, "gate_up": 256, "down": 128}
    blocks = [unit(f"{b}.{k}", k, b, n) for b in range(4) for k, n in sizes.items()]
    return (unit("embedding", "tied", None, 512), *blocks)


_UNITS = _units()
_SCHEMES = tuple(f"rtn{bits}-g{group}" for bits in BITS for group in GROUPS)
_FALL = np.array([4.0**-bits * (group / 64) ** 0.3 for bits in BITS for group in GROUPS])
"""What of a unit's damage is left by each scheme: a quarter a bit, and less by finer groups."""


def _shared(rng: np.random.Generator) -> Floats:
    """Returns d, (A x U x C): a level of each language times one table."""
    level = np.exp(rng.normal(0, 0.7, len(_LANGUAGES)))
    size = np.array([unit.n_weights for unit in _UNITS]) / 1000
    need = size * np.exp(rng.normal(0, 1.0, len(_UNITS)))
    return 0.02 * level[:, None, None] * need[:, None] * _FALL


def _planted(rng: np.random.Generator, world: RecipeWorld) -> Floats:
    """Returns d of which three languages need one unit, so much that it gains twice the smallest.

    A world in which no need makes the best plan gain that, from half as much again on, is drawn
    anew: bits come in steps.
    """
    aim = float(np.log2(1 + 2 * SMALLEST))
    while True:
        shared = _shared(rng)
        hurt = list(_HURT)
        # Low levels: what they gain costs the others little, who have most of the damage.
        shared[hurt] *= 0.1 * shared[0, 0, 0] / shared[hurt, 0, 0][:, None, None]
        shared[:, _NEEDED] *= 0.3
        for factor in np.geomspace(8, 200, 12):
            truth = shared.copy()
            truth[hurt, _NEEDED] *= factor
            problem = _problem(_exact(truth))
            blind = solve(problem, "mean").picks
            ours = solve(problem, spare=world.spare, blind=blind).picks
            rows = [_LANGUAGES.index(one) for one in worst_set(problem, blind)]
            gain = np.log2(problem.damage_of(blind) / problem.damage_of(ours))[rows].mean()
            if gain > 1.5 * aim or rows != hurt:
                break
            if gain >= aim:
                return truth


def _exact(truth: Floats, sentence_bits: Floats | None = None) -> DamageTable:
    facts = TableFacts(
        model="planted", fingerprint="0" * 64, corpus="0" * 64, instrument="planted",
        languages=_LANGUAGES, reference="en", units=_UNITS, schemes=_SCHEMES,
        choices=tuple(tuple(plain_choice(unit, s) for s in _SCHEMES) for unit in _UNITS),
    )  # fmt: skip
    if sentence_bits is None:
        return DamageTable(facts=facts, damage_bits=truth)
    n = sentence_bits.shape[-1]
    return DamageTable(
        facts=facts,
        damage_bits=sentence_bits.sum(-1) / (n * _CHARACTERS),
        sentence_bits=sentence_bits,
        characters=np.full(n, _CHARACTERS),
    )


def _problem(table: DamageTable) -> Problem:
    n_weights = sum(unit.n_weights for unit in _UNITS)
    return make_problem(table, int(_BUDGET_BITS * n_weights / 8))


def _noise(shape: tuple[int, ...], n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Returns what a sentence is hurt by more than others, (A x 1 x N), and in a unit, (A x U x N).

    Excess kurtosis of a gamma of shape k is 6/k: 6 for the first, as damage per token has it.
    """
    alike = rng.gamma(2, 1 / 2, n)
    own = rng.gamma(2, 1 / 2, (shape[0], 1, n))
    return alike * own, rng.gamma(6, 1 / 6, (*shape[:2], n))


def _sampled(truth: Floats, n: int, rng: np.random.Generator) -> DamageTable:
    of_sentence, of_unit = _noise(truth.shape, n, rng)
    of_choice = rng.gamma(100, 1 / 100, (*truth.shape, n))
    noise = (of_sentence * of_unit)[:, :, None] * of_choice
    return _exact(truth, truth[..., None] * noise * _CHARACTERS)


class _Text:
    """A text of its own, on which plans do what they do."""

    def __init__(self, truth: Floats, n: int, rng: np.random.Generator) -> None:
        of_sentence, of_unit = _noise(truth.shape, n, rng)
        self.truth, self.noise = truth, of_sentence * of_unit
        self.n, self.seed = n, int(rng.integers(2**31))

    def damage(self, picks: Picks) -> Floats:
        """Returns the damage of a plan by sentence, (A x N)."""
        mean = self.truth[:, np.arange(len(picks)), np.array(picks)]
        return (mean[..., None] * self.noise * self._of_choices(picks)).sum(1) * _CHARACTERS

    def _of_choices(self, picks: Picks) -> Floats:
        """What a choice adds of its own, the same in every plan that has it, (A x U x N)."""
        shape = (len(_LANGUAGES), self.n)
        drawn = [
            np.random.default_rng([self.seed, part, pick]).gamma(100, 1 / 100, shape)
            for part, pick in enumerate(picks)
        ]
        return np.stack(drawn, axis=1)


def _proved(
    text: _Text,
    plans: Mapping[str, Picks],
    worst: Sequence[str],
    seed: int,
    placebos: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Proof:
    damage = {picks: text.damage(picks) for picks in set(plans.values())}
    sentence_bits = np.array([damage[picks] for picks in plans.values()])
    scores = made_scores(list(plans), _LANGUAGES, sentence_bits, np.full(text.n, _CHARACTERS))
    return prove(
        scores,
        "recipe",
        [Rival(name=name, plan=name) for name in (UNIFORM, BLIND)],
        worst,
        seal="planted",
        split="planted",
        seed=seed,
        placebo=list(placebos.items()),
        draws=1000,
    )
