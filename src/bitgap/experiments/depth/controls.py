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

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.depth.ranks import beaten_share, log_disparity, share_estimate, share_p
from bitgap.experiments.protocol.controls import absent, detection, not_run
from bitgap.quant.sets import layers_in, mask_of
from bitgap.records import Bools, Control, Floats, Integers, Observations
from bitgap.stats.bootstrap import few_estimates
from bitgap.stats.verdicts import Thresholds


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
