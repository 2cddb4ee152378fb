"""Synthetic model families whose theory is known, and what the formal model says of them.

==========  ======================================================================================
truth       what holds
==========  ======================================================================================
formal      S of a block has one slope per SD of variance, boundary and bottleneck, and smooth noise
nuisance    S is a smooth function of depth, each model's own; predictors have nothing to do with it
budget      k = α t² exactly, S being each model's own; predictors have nothing to do with it
==========  ======================================================================================

Predictors go with depth as layer profiles do, autocorrelated or trended, on top of a bend that all
families share or not. Damage adds up over blocks, so masks, Shapley values and the origin's ratio
follow from that of single blocks. Pure numpy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bitgap.quant.sets import membership
from bitgap.records import Finding, Floats, Integers
from bitgap.stats.profiles import depths
from bitgap.stats.verdicts import Thresholds, load_thresholds
from bitgap.theory.evidence import Evidence, spread_of
from bitgap.theory.formal.controls import between_rungs, per_spread, planted_slope
from bitgap.theory.formal.inference import THETA, moments, terms
from bitgap.theory.formal.model import judge_formal
from bitgap.theory.formal.rows import (
    LADDER,
    ORIGINAL_TERMS,
    gather_rows,
    model_rows,
    smooth_features,
)
from validation.counts import Count
from validation.truth_table import profile

FAMILIES = ("gpt2", "opt", "bloom", "gpt_neox", "llama", "qwen3", "gemma", "mpt", "phi", "falcon")
MASKS = 96
"""Masks drawn beside the empty and the full one."""
ORDERS = 64
"""Orders of protection that Shapley values are the mean over."""


TWICE = 2 * float(load_thresholds().of("formal")["sesoi"])
"""Twice the smallest gain of interest, as it is declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TheoryWorld:
    """Some families, as far as they are known beforehand."""

    truth: str = "formal"
    """``formal``, ``nuisance`` or ``budget``."""
    families: int = 8
    """M."""
    layers: tuple[int, ...] = (24,)
    """L of the families in turn."""
    languages: int = 16
    """A, the reference included; as many as the bundled text has."""
    checkpoints: int = 1
    """Models of each family."""
    kind: str = "ar"
    """How predictors go with depth: ``ar``, ``walk`` or ``trend``."""
    shared: float = 0.0
    """Size of the bends that predictors of all families share, in SDs of what is their own."""
    gain: float = TWICE
    """Planted gain in R² over position, if the truth is ``formal``."""
    noise: float = 0.3
    """SD over blocks of S's smooth noise, log2."""
    own_noise: float = 0.3
    """SD of S's noise in each block of its own, log2; and how far which languages a block hurts
    more is its own, in SDs over languages of what all blocks of a model share."""
    budget_noise: float = 0.3
    """SD of log2 k − log2 αt², of each (block, language); 0 where the truth is ``budget``."""


LOUD = TheoryWorld(noise=0.05, own_noise=0.1)
"""Little noise, so that what is planted stands out."""

NULLS: Mapping[str, TheoryWorld] = {
    "smooth in depth, autocorrelated predictors": TheoryWorld(truth="nuisance"),
    "smooth in depth, trends and a shared bend": TheoryWorld(
        truth="nuisance", families=5, kind="trend", shared=1.5
    ),
    "an error budget, random walks": TheoryWorld(truth="budget", kind="walk"),
    "an error budget, 24, 28 and 32 blocks": TheoryWorld(
        truth="budget", families=6, layers=(24, 28, 32)
    ),
}
"""Worlds in which the theory is not true."""

PLANTED: Mapping[str, TheoryWorld] = {
    "little noise": LOUD,
    "little noise, six families": replace(LOUD, families=6),
    "noise of .1 and a shared bend": replace(LOUD, noise=0.1, shared=1.5),
    "noise of .3": TheoryWorld(),
}
"""Worlds in which it is, at twice the smallest effect of interest."""


class Unplantable(ValueError):
    """No slope on the three predictors gains as much as is to be planted."""


def make_families(world: TheoryWorld, seed: int) -> list[Evidence]:
    """Returns the evidence of one world.

    Args:
        world: What is known.
        seed: Of everything drawn.

    Raises:
        ValueError: If more families are asked for than have names.
        Unplantable: If what is to be planted cannot be, in the world of this seed.
    """
    if world.families > len(FAMILIES):
        raise ValueError(f"{world.families} families asked for; {len(FAMILIES)} have names")
    rng = np.random.default_rng([seed, world.families, *world.layers])
    made = [
        _model(world, family, checkpoint, world.layers[i % len(world.layers)], rng)
        for i, family in enumerate(FAMILIES[: world.families])
        for checkpoint in range(world.checkpoints)
    ]
    return _with_theory(made, world, rng) if world.truth == "formal" else made


def _model(
    world: TheoryWorld, family: str, checkpoint: int, n: int, rng: np.random.Generator
) -> Evidence:
    r = depths(n)
    hump, slope = (world.shared * _unit(x) for x in (np.sin(np.pi * r**1.5), np.sqrt(r)))
    spread = world.noise * _unit(profile("ar", rng, n))
    if world.truth == "nuisance":
        spread = smooth_features(r, rng, ()) + spread / 3
    spread = spread + world.own_noise * rng.normal(size=n)
    variance, dimension = (_unit(profile(world.kind, rng, n)) for _ in range(2))
    blank = np.zeros((n, world.languages))
    empty = Evidence(
        model=f"{family}-{n}-{checkpoint}",
        family=family,
        fingerprint=f"{family}{checkpoint}",
        scheme="rtn4-g128",
        languages=tuple(f"l{i}" for i in range(world.languages)),
        t2=np.exp(rng.normal(-4, 0.3, n)),
        log_variance=variance + slope,
        log_dimension=3 + dimension + hump,
        log_error_ratio=np.hstack([np.zeros((n, 1)), rng.normal(0, 0.1, (n, world.languages - 1))]),
        sensitivity=blank,
        single=blank,
        tokens=np.full(world.languages, 1000),
        masks=_masks(n, rng),
        damage=np.zeros((MASKS + 2, world.languages)),
        shapley={},
        original_predictors={
            "variance": np.exp(variance),
            "outlier_ratio": 1 + 0.1 * rng.normal(size=n),
            "sparsity": 7 + rng.normal(size=n),
        },
        original_disparity=np.zeros(n),
    )
    noise = 0.0 if world.truth == "budget" else world.budget_noise
    return with_spread(empty, spread, rng, noise, own=world.own_noise)


def _unit(values: Floats) -> Floats:
    return (values - values.mean()) / values.std()


def _masks(n: int, rng: np.random.Generator) -> Integers:
    inside = rng.integers(1, 2**n - 1, size=MASKS)
    while len(np.unique(inside)) < MASKS:
        inside = rng.integers(1, 2**n - 1, size=MASKS)
    return np.sort(np.concatenate([[0], inside, [2**n - 1]])).astype(np.int64)


LEVEL = 3.0
"""Mean S of worlds, log2: far enough from 0 that nothing planted reaches it."""


def with_spread(
    evidence: Evidence,
    spread: Floats,
    rng: np.random.Generator,
    budget_noise: float,
    *,
    own: float = 0.0,
    languages: Floats | None = None,
) -> Evidence:
    """Returns a model whose single blocks have exactly an S, and all that follows from it.

    Args:
        evidence: Whose t², masks and predictors are kept.
        spread: S of every block about :data:`LEVEL`, (L).
        rng: Source of the reference's sensitivity and of the noise.
        budget_noise: SD of log2 k − log2 αt².
        own: How far which languages a block hurts more is its own.
        languages: log2 damage per token of each in every block, up to place and scale, (A); drawn
            when None.
    """
    n, a = len(spread), len(evidence.languages)
    shared = rng.normal(size=a) if languages is None else languages
    apart = _standard(shared + own * rng.normal(size=(n, a)))
    level = np.exp(0.5 * _unit(profile("ar", rng, n)))[:, None]
    size = np.maximum(LEVEL + spread - spread.mean(), 0.05)[:, None]
    single = level * evidence.t2[:, None] * evidence.tokens * 2.0 ** (size * apart)
    alpha = single / evidence.t2[:, None] * 2.0 ** (budget_noise * rng.normal(size=(n, a)))
    damage = (1 - membership(evidence.masks, n)) @ single
    return replace(
        evidence,
        single=single,
        sensitivity=alpha,
        damage=damage,
        shapley={"spread": shapley_of_spread(single, evidence.tokens, rng)},
        original_disparity=disparity_ratio(single.sum(0) - single),
    )


def _standard(values: Floats) -> Floats:
    """Returns values with mean 0 and population SD 1 over the last axis."""
    values = values - values.mean(-1, keepdims=True)
    return values / values.std(-1, keepdims=True)


def disparity_ratio(damage: Floats) -> Floats:
    """Returns the mean ratio to the reference's damage, (...)."""
    return (damage[..., 1:] / damage[..., :1]).mean(-1)


def shapley_of_spread(single: Floats, tokens: Integers, rng: np.random.Generator) -> Floats:
    """Returns the Shapley value of protecting each block in −S, where damage adds up, (L).

    A mean over random orders; of nothing rounded, S counts as 0.
    """
    n = len(single)
    orders = rng.permuted(np.tile(np.arange(n), (ORDERS, 1)), axis=1)
    left = single.sum(0) - single[orders].cumsum(1)[:, :-1]
    whole = np.broadcast_to(single.sum(0), (ORDERS, 1, single.shape[1]))
    size = spread_of(np.concatenate([whole, left], axis=1), tokens)
    fall = -np.diff(np.hstack([size, np.zeros((ORDERS, 1))]), axis=1)
    worth = np.zeros(n)
    np.add.at(worth, orders, fall / ORDERS)
    return worth


def _with_theory(
    made: Sequence[Evidence], world: TheoryWorld, rng: np.random.Generator
) -> list[Evidence]:
    """Returns models whose responses also have equal slopes on the origin's three predictors."""
    families, _ = gather_rows(made)
    upper = moments(families, terms(ORIGINAL_TERMS))
    slope = planted_slope(
        moments(families, terms(LADDER["F1"])),
        upper,
        between_rungs(families, LADDER["F1"], ORIGINAL_TERMS),
        world.gain,
    )
    if slope is None:
        raise Unplantable(f"no slope gains {world.gain} over position in this world")
    out = []
    for one in made:
        rows = model_rows(one, "spread")
        assert not isinstance(rows, str), rows
        planted = slope * (rows.design(ORIGINAL_TERMS) @ per_spread(upper))
        made_of = one.spread_by_block + planted
        out.append(with_spread(one, made_of, rng, world.budget_noise, own=world.own_noise))
    return out


@dataclass(frozen=True, slots=True)
class TheoryTally:
    """What the formal model said of many worlds of one kind.

    Attributes:
        world: Their kind.
        labels: How often each verdict was reached.
        reasons: How often each clause decided, by its first words.
        gain: Mean of θ.
        detected: How often the engine's own planted effect was found.
        drawn_again: How many seeds nothing could be planted in.
    """

    world: TheoryWorld
    labels: Counter[str]
    reasons: Counter[str]
    gain: float
    detected: Count
    drawn_again: int = 0

    def rate(self, label: str) -> Count:
        """Returns how often a verdict was reached."""
        return Count(self.labels[label], self.labels.total())


def rates(world: TheoryWorld, n: int, thresholds: Thresholds, *, seed: int = 0) -> TheoryTally:
    """Returns what the formal model says of n worlds of one kind.

    Args:
        world: Their kind.
        n: How many.
        thresholds: What was declared.
        seed: Of the first; the others follow it. A seed that nothing can be planted in is passed
            over, as long as most are not.
    """
    labels, reasons = Counter[str](), Counter[str]()
    thetas, detected = [], 0
    drawn_again = 0
    while labels.total() < n:
        try:
            families = make_families(world, seed + labels.total() + drawn_again)
        except Unplantable:
            drawn_again += 1
            if drawn_again > n:
                raise
            continue
        found = judge_formal(families, thresholds)
        labels[found.verdict.label] += 1
        reasons[_clause(found)] += 1
        theta = found.estimates["theta"].value
        thetas += [] if theta is None else [theta]
        detected += _detected(found)
    gain = float(np.mean(thetas)) if thetas else float("nan")
    return TheoryTally(world, labels, reasons, gain, Count(detected, n), drawn_again)


def _clause(finding: Finding) -> str:
    """Returns the clause that decided, its numbers left out."""
    reason = finding.verdict.reason.replace(f"{THETA}", "θ")
    return re.sub(r"\[?-?[0-9][-0-9.e,]*\]?", "", reason)[:60]


def _detected(finding: Finding) -> bool:
    return all(c.passed is True for c in finding.controls if c.kind == "positive")
