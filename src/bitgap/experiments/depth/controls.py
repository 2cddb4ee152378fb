"""The controls of depth: the triple's rank on a twin, beside its neighbours, and planted.

=========  ===================================================  ================================
shifted    the middle block one up or down                      must be worse, by damage and by S
random     fresh weights as the class draws them                must not rank the triple high
labels     languages' names shuffled within every sentence      must leave the rank by K
planted    three random blocks made special in K and in S       must be found the best three
=========  ===================================================  ================================

The twin is a fair null: its blocks have depth but have learned nothing, so a triple that ranks high
there ranks high for where it is. The plant is made in the statistics themselves, in what was
measured: see :func:`planted`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitgap.disparity.formulas import damage_bits, log_from_mean, spread
from bitgap.experiments.depth import ID
from bitgap.experiments.depth.ranks import (
    Objective,
    estimate_of,
    inverted,
    row_of,
    share_p,
    values_of,
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
from bitgap.experiments.protocol.scores import units_of, unpack_scores
from bitgap.quant.sets import blocks_in, popcount
from bitgap.records import Bools, Control, Floats, Integers, Observations, Scores, TextCounts
from bitgap.stats.bootstrap import Statistic, estimates
from bitgap.stats.ranks import share_beaten
from bitgap.stats.spreads import inverted_estimates
from bitgap.stats.verdicts import Thresholds

PLANTINGS = 20
"""How often the plant is made, each time in another triple; the method's number."""


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
        _planted(observations, displayed, thresholds),
    ]


def _shifted(
    observations: Observations, row: int, displayed: Bools, thresholds: Thresholds
) -> list[Control]:
    """Returns that the triple beats those whose middle block is one up or down, by K and by S."""
    triples, scores = observations.arrays["triples"], unpack_scores(observations, "triples")
    first, middle, last = blocks_in(int(triples[row]))
    places = [m for m in (middle - 1, middle + 1) if first < m < last]
    rows = [row, *(row_of(triples, (first, m, last)) for m in places)]
    few = scores.select(plans=[scores.plans[r] for r in rows])

    def worse(objective: Objective, what: str, unit: str) -> Control:
        of_s = objective != "damage"
        values = (inverted if of_s else values_of)(few, displayed, objective)

        def surplus(weights: Floats) -> Floats:
            own, *others = values(weights).T
            return (np.min(others, axis=0) - own)[:, None]

        statistic: Statistic = surplus
        with_intervals = inverted_estimates if of_s else estimates
        found = with_intervals(statistic, units_of(observations), unit=unit, **thresholds.how)[0]
        return must_exceed(
            f"middle block shifted by one, {what}",
            found,
            f"block {middle} should do better than {' and '.join(map(str, places))} in its place, "
            f"or it is not that block",
        )

    return [
        worse("damage", "damage", "bits per English character"),
        worse("spread", "S", "log2 units"),
    ]


def _untrained(observations: Observations, thresholds: Thresholds) -> Control:
    if "random_kl" not in observations.arrays:
        return not_run(RANDOM_TWIN, "negative", absent(observations.facts, "random"))
    kl, sesoi = observations.arrays["random_kl"], thresholds.of(ID)["sesoi"]
    if 1 / len(kl) >= thresholds.alpha:
        why = f"among {len(kl)} triples no rank is extreme at {thresholds.alpha:g}"
        return not_run(RANDOM_TWIN, "negative", why)
    twin = _twin_scores(kl, observations.arrays["random_tokens"])
    everyone = np.ones(int(kl.shape[1]), dtype=bool)
    both: tuple[Objective, Objective] = ("spread", "damage")
    # A twin's sentences are the first few, too few documents to resample these.
    n = int(kl.shape[-1])
    shares = [estimate_of(values_of(twin, everyone, o), 0, n, thresholds) for o in both]
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


def _twin_scores(kl: Floats, tokens: Integers) -> Scores:
    """Returns a twin's damage as scores; only damage and tokens are there to be read."""
    n, nothing = kl.shape[1], np.zeros(kl.shape[1:])
    return Scores(
        plans=tuple(map(str, range(len(kl)))),
        languages=tuple(map(str, range(n))),
        nll_nats=kl,
        kl_nats=kl,
        nll_fp_nats=nothing,
        unigram_nats=nothing,
        counts=TextCounts(tokens=tokens, bytes=tokens, characters=tokens),
        floor_nats=0.0,
        arithmetic="exact",
        reference="0",
    )


def _permuted(kl: Floats, row: int, displayed: Bools) -> Control:
    shuffled = with_labels_permuted(kl, displayed)
    before, after = (values[:, displayed].mean(1).sum(-1) for values in (kl, shuffled))
    # Sums in another order may differ in the last bit, which may not decide a rank.
    slack = 1e-12 * np.abs(before).max()
    changed = (before < before[row] - slack) != (after < after[row] - slack)
    detail = "the rank by mean damage may not hang on languages' names"
    return labels_permuted(not bool(changed.any()), detail)


def planted(scores: Scores, masks: Integers, special: int, displayed: Bools, size: float) -> Scores:
    """Returns scores in which three blocks, ordinary otherwise, are special in damage and in S.

    Their triple is put at the median of all, where chance has it. For each of the three that a
    triple does not protect, mean K is larger by ``size`` times the distance from the median to the
    best tenth, and S by ``size`` times the same distance in S: the step from chance to the smallest
    effect of interest, in each statistic's own unit. S is moved by tilting every language along
    where it stands (off the mean, divided by S), which moves S by exactly that much; damage then by
    one factor for all languages, which S does not see.

    Args:
        scores: Of triples.
        masks: The triples, (T).
        special: Mask of the three blocks.
        displayed: Languages that enter, (A).
        size: Of the plant, in smallest effects of interest.
    """
    missing = popcount(special & ~masks).astype(np.float64)
    s = spread(scores, languages=displayed)
    off = log_from_mean(scores, languages=displayed)
    with np.errstate(divide="ignore", invalid="ignore"):
        tilt = np.where(np.isfinite(off), off, 0.0) / np.where(s > 0, s, 1.0)[:, None]
    damage = damage_bits(scores)[:, displayed].mean(-1)
    wanted, grown = (
        np.where(masks == special, np.nanmedian(values), values) + missing * size * _step(values)
        for values in (s, damage)
    )
    tilted = scores.kl_nats * np.exp2((wanted - s)[:, None] * tilt)[..., None]
    summed = tilted[:, displayed].sum(-1).mean(-1)
    length = scores.counts.characters[scores.languages.index(scores.reference)].sum() * np.log(2)
    factor = np.where(summed > 0, grown * length / np.where(summed > 0, summed, 1.0), 1.0)
    kl = tilted * factor[:, None, None]
    return replace(scores, kl_nats=kl)


def _step(values: Floats) -> float:
    """Returns the distance from the median triple to the best tenth."""
    known = values[np.isfinite(values)]
    return float(np.median(known) - np.quantile(known, 0.1)) if len(known) else 0.0


def _planted(observations: Observations, displayed: Bools, thresholds: Thresholds) -> Control:
    name, sesoi = "three blocks made special in damage and in S", thresholds.of(ID)["sesoi"]
    masks, scores = observations.arrays["triples"], unpack_scores(observations, "triples")
    ranked = np.flatnonzero(observations.arrays["ranked"])
    if displayed.sum() < 2:
        return not_run(name, "positive", "one language has no spread")
    few, of = scores.select(plans=[scores.plans[i] for i in ranked]), masks[ranked]
    once = np.ones((1, scores.n_sentences))
    detected = list[bool]()
    for place in np.random.default_rng(0).permutation(len(of))[:PLANTINGS]:
        plant = planted(few, of, int(of[place]), displayed, thresholds.planted_strength)
        both: tuple[Objective, Objective] = ("spread", "damage")
        shares = [
            float(share_beaten(values_of(plant, displayed, o)(once)[0], int(place))) for o in both
        ]
        detected.append(min(shares) >= sesoi)
    return detection(name, detected, f"they should beat {sesoi:.0%} of triples by both", thresholds)
