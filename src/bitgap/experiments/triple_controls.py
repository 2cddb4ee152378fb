"""The controls of depth: the triple's rank on a twin, beside its neighbours, and planted.

=========  ===================================================  ================================
shifted    the middle block one up or down                      must be worse
random     fresh weights as the class draws them                must not rank the triple high
labels     languages' names shuffled within every sentence      must leave the rank by K
biased     P2 in three random blocks                            must be found the best three
=========  ===================================================  ================================

The twin is a fair null: its blocks have depth but have learned nothing, so a triple that ranks high
there ranks high for where it is. Twin and plantings rank against a random part of the triples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import Bools, disparity
from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.controls import absent, detection, not_run
from bitgap.experiments.mask_controls import in_few_languages, kl_of, layers_in
from bitgap.experiments.triple_ranks import beaten_share, log_disparity, share_estimate, share_p
from bitgap.quant.plan import Plan
from bitgap.records import Control, Floats, Integers, Observations
from bitgap.stats.bootstrap import few_estimates
from bitgap.stats.interactions import mask_of
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

# -- measurement ----------------------------------------------------------------------------------


def biased_kl(
    few: Lab, scheme: str, triples: Sequence[int], *, others: int, plantings: int, strength: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns damage under triples where P2 is planted in three blocks, or why it could not be.

    Args:
        few: Model and text.
        scheme: How the other blocks are rounded.
        triples: All masks of three.
        others: How many beside the planted ones are scored, drawn anew each time.
        plantings: S; each in another triple.
        strength: Of the error, see :func:`bitgap.experiments.biased_blocks.plant_bias`.

    Returns:
        ``biased_kl``, (S x 1+T x A' x N), the planted triple first; or the fact ``no_biased``.
    """
    from bitgap.experiments.biased_blocks import biased_plan, hurt_side, plant_bias

    mine = in_few_languages(few)
    n = mine.n_blocks
    unbiased = disparity(mine.score([Plan.uniform(scheme, n)], "controls"))[0]
    side = hurt_side(float(unbiased), mine.languages, mine.corpus.reference)
    try:
        variant = plant_bias(mine, scheme, side, strength=strength, seed=mine.settings.seed)
    except UnsupportedArchitecture as error:
        return {}, {"no_biased": str(error)}
    rng, found = np.random.default_rng(mine.settings.seed), []
    for _ in range(plantings):
        drawn = rng.permutation(len(triples))[: others + 1]
        planted = layers_in(triples[drawn[0]])
        found.append(
            kl_of(
                mine,
                [biased_plan(scheme, variant, n, planted, layers_in(triples[t])) for t in drawn],
            )
        )
    mine.bank.drop(variant)
    return {"biased_kl": np.array(found)}, {}


# -- judgement ------------------------------------------------------------------------------------


def depth_controls(
    observations: Observations, mine: int, shown: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the origin's triple.

    Args:
        observations: Of the depth experiment.
        mine: Row of the triple.
        shown: Languages that enter, (A).
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    reference = facts["languages"].index(facts["reference"])
    kl = arrays["triples_kl"]
    return [
        *_shifted(arrays, mine, shown, reference, facts["n_blocks"], thresholds),
        _random(arrays, facts, thresholds),
        _permuted(kl, mine, shown),
        _planted(arrays, facts, thresholds),
    ]


def _shifted(
    arrays: Mapping[str, Any],
    mine: int,
    shown: Bools,
    reference: int,
    n_blocks: int,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns that the triple beats those whose middle block is one up or down, by K and by |D|."""
    triples: Integers = arrays["triples"]
    first, middle, last = layers_in(int(triples[mine]))
    places = [m for m in (middle - 1, middle + 1) if first < m < last]
    rows = [mine, *(int(np.flatnonzero(triples == mask_of((first, m, last)))[0]) for m in places)]
    kl, none = arrays["triples_kl"][rows], arrays["base_kl"][0][shown].mean(0)
    damage = kl[:, shown].mean(1)
    logs = log_disparity(kl, shown, reference)

    def by_damage(weights: Floats) -> Floats:
        mine, *others = (weights @ damage.T / (weights @ none)[:, None]).T
        return (np.min(others, axis=0) - mine)[:, None]

    def by_disparity(weights: Floats) -> Floats:
        mine, *others = np.abs(logs(weights)).T
        return (np.min(others, axis=0) - mine)[:, None]

    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    out, n = [], damage.shape[-1]
    for statistic, what, unit in (
        (by_damage, "damage", "share of K(none)"),
        (by_disparity, "|D|", "log2 ratio"),
    ):
        found = few_estimates(statistic, n, unit=unit, **how)[0]
        out.append(
            Control(
                name=f"middle block shifted by one, {what}",
                kind="negative",
                passed=found.low is not None and found.low > 0,
                detail=f"block {middle} should do better than {' and '.join(map(str, places))} in "
                f"its place, or it is not that block",
                estimate=found,
            )
        )
    return out


def _random(arrays: Mapping[str, Any], facts: Mapping[str, Any], thresholds: Thresholds) -> Control:
    name = "random-init twin"
    if "random_kl" not in arrays:
        return not_run(name, "negative", absent(facts, "random"))
    kl, sesoi = arrays["random_kl"], thresholds.of("depth")["sesoi"]
    if 1 / len(kl) >= thresholds.alpha:
        why = f"among {len(kl)} triples no rank is extreme at {thresholds.alpha:g}"
        return not_run(name, "negative", why)
    extreme, shares = [], []
    for values in _both(kl):
        found = share_estimate(beaten_share(values, 0), kl.shape[-1], thresholds)
        p, _ = share_p(found, len(kl))
        shares.append(found)
        extreme.append(found.value is not None and found.value >= sesoi and p < thresholds.alpha)
    return Control(
        name=name,
        kind="negative",
        passed=not all(extreme),
        detail=f"blocks that learned nothing should not rank the triple among the best of "
        f"{len(kl)}, or its place alone does it",
        estimate=shares[0],
    )


def _both(kl: Floats) -> tuple[Any, Any]:
    """Returns |D| and mean K as functions of weights, (W x T) each; the reference comes first."""
    damage, logs = kl.mean(1), log_disparity(kl, np.ones(kl.shape[1], dtype=bool), 0)
    return (lambda w: np.abs(logs(w))), (lambda w: w @ damage.T)


def _permuted(kl: Floats, mine: int, shown: Bools) -> Control:
    """Returns the invariance: languages' names shuffled within every sentence leave K's rank."""
    rng, rows = np.random.default_rng(0), np.flatnonzero(shown)
    shuffled = kl.copy()
    for s in range(kl.shape[-1]):
        shuffled[:, rows, s] = kl[:, rng.permutation(rows), s]
    before, after = (values[:, shown].mean(1).sum(-1) for values in (kl, shuffled))
    # Sums in another order may differ in the last bit, which may not decide a rank.
    slack = 1e-12 * np.abs(before).max()
    changed = (before < before[mine] - slack) != (after < after[mine] - slack)
    return Control(
        name="language labels permuted",
        kind="invariance",
        passed=not bool(changed.any()),
        detail="the rank by mean damage may not hang on languages' names",
    )


def _planted(
    arrays: Mapping[str, Any], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name, sesoi = "P2 in three blocks", thresholds.of("depth")["sesoi"]
    if "biased_kl" not in arrays:
        return not_run(name, "positive", absent(facts, "biased"))
    found = []
    for kl in arrays["biased_kl"]:
        ones = np.ones((1, kl.shape[-1]))
        shares = [float(beaten_share(values, 0)(ones)[0, 0]) for values in _both(kl)]
        found.append(min(shares) >= sesoi)
    return detection(name, found, f"they should beat {sesoi:.0%} of triples by both", thresholds)
