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

import numpy as np

from bitgap.experiments.depth.ranks import (
    log_disparity,
    rank_share,
    row_of,
    share_estimate,
    share_p,
)
from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    detection,
    labels_permuted,
    must_exceed,
    not_run,
    with_labels_permuted,
)
from bitgap.quant.sets import blocks_in
from bitgap.records import Bools, Control, Floats, Observations
from bitgap.stats.bootstrap import Statistic, few_estimates
from bitgap.stats.verdicts import Thresholds


def depth_controls(
    observations: Observations, row: int, displayed: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of the origin's triple.

    Args:
        observations: Of the depth experiment.
        row: Of the triple.
        displayed: Languages that enter, (A).
        thresholds: What was declared.
    """
    return [
        *_shifted(observations, row, displayed, thresholds),
        _untrained(observations, thresholds),
        _permuted(observations.arrays["triples_kl"], row, displayed),
        _planted(observations, thresholds),
    ]


def _shifted(
    observations: Observations, row: int, displayed: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns that the triple beats those whose middle block is one up or down, by K and by |D|."""
    arrays, facts = observations.arrays, observations.facts
    triples = arrays["triples"]
    first, middle, last = blocks_in(int(triples[row]))
    places = [m for m in (middle - 1, middle + 1) if first < m < last]
    rows = [row, *(row_of(triples, (first, m, last)) for m in places)]
    kl, none = arrays["triples_kl"][rows], arrays["base_kl"][0][displayed].mean(0)
    damage = kl[:, displayed].mean(1)
    logs = log_disparity(kl, displayed, facts["languages"].index(facts["reference"]))

    def by_damage(weights: Floats) -> Floats:
        own, *others = (weights @ damage.T / (weights @ none)[:, None]).T
        return (np.min(others, axis=0) - own)[:, None]

    def by_disparity(weights: Floats) -> Floats:
        own, *others = np.abs(logs(weights)).T
        return (np.min(others, axis=0) - own)[:, None]

    def worse(what: str, statistic: Statistic, unit: str) -> Control:
        surplus = few_estimates(statistic, damage.shape[-1], unit=unit, **thresholds.how)[0]
        return must_exceed(
            f"middle block shifted by one, {what}",
            surplus,
            f"block {middle} should do better than {' and '.join(map(str, places))} in its place, "
            f"or it is not that block",
        )

    return [
        worse("damage", by_damage, "share of K(none)"),
        worse("|D|", by_disparity, "log2 ratio"),
    ]


def _untrained(observations: Observations, thresholds: Thresholds) -> Control:
    if "random_kl" not in observations.arrays:
        return not_run(RANDOM_TWIN, "negative", absent(observations.facts, "random"))
    kl, sesoi = observations.arrays["random_kl"], thresholds.of("depth")["sesoi"]
    if 1 / len(kl) >= thresholds.alpha:
        why = f"among {len(kl)} triples no rank is extreme at {thresholds.alpha:g}"
        return not_run(RANDOM_TWIN, "negative", why)
    shares = [
        share_estimate(rank_share(values, 0), kl.shape[-1], thresholds) for values in _both(kl)
    ]
    extreme = [
        share.value is not None
        and share.value >= sesoi
        and share_p(share, len(kl))[0] < thresholds.alpha
        for share in shares
    ]
    return Control(
        name=RANDOM_TWIN,
        kind="negative",
        passed=not all(extreme),
        detail=f"blocks that learned nothing should not rank the triple among the best of "
        f"{len(kl)}, or its place alone does it",
        estimate=shares[0],
    )


def _both(kl: Floats) -> tuple[Statistic, Statistic]:
    """Returns |D| and mean K as functions of weights, (W x T) each; the reference comes first."""
    damage, logs = kl.mean(1), log_disparity(kl, np.ones(int(kl.shape[1]), dtype=bool), 0)

    def disparity(weights: Floats) -> Floats:
        return np.abs(logs(weights))

    def mean_damage(weights: Floats) -> Floats:
        return weights @ damage.T

    return disparity, mean_damage


def _permuted(kl: Floats, row: int, displayed: Bools) -> Control:
    shuffled = with_labels_permuted(kl, displayed)
    before, after = (values[:, displayed].mean(1).sum(-1) for values in (kl, shuffled))
    # Sums in another order may differ in the last bit, which may not decide a rank.
    slack = 1e-12 * np.abs(before).max()
    changed = (before < before[row] - slack) != (after < after[row] - slack)
    detail = "the rank by mean damage may not hang on languages' names"
    return labels_permuted(not bool(changed.any()), detail)


def _planted(observations: Observations, thresholds: Thresholds) -> Control:
    name, sesoi = "P2 in three blocks", thresholds.of("depth")["sesoi"]
    if "biased_kl" not in observations.arrays:
        return not_run(name, "positive", absent(observations.facts, "biased"))
    detected = list[bool]()
    for kl in observations.arrays["biased_kl"]:
        ones = np.ones((1, kl.shape[-1]))
        shares = [float(rank_share(values, 0)(ones)[0, 0]) for values in _both(kl)]
        detected.append(min(shares) >= sesoi)
    return detection(name, detected, f"they should beat {sesoi:.0%} of triples by both", thresholds)
