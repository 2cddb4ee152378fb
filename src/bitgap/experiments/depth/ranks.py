"""Values of triples under resampled sentences, and what p a share carries. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np

from bitgap.disparity.formulas import Sums, damage_bits, resample, spread, spread_draws
from bitgap.experiments.depth import ID
from bitgap.quant.sets import mask_of
from bitgap.records import Bools, Estimate, Floats, Integers, Scores, Units
from bitgap.stats.ranks import share_draws, share_estimate
from bitgap.stats.verdicts import Part, Thresholds

UNIT = "share of other triples"
Objective = Literal["damage", "spread", "spread_per_text"]
Values = Callable[[Floats], Floats]
"""From weights (W x N) to values (W x T), less being better."""
NAMES: dict[Objective, str] = {
    "spread": "S",
    "damage": "damage",
    "spread_per_text": "S per text",
}


def row_of(triples: Integers, blocks: Sequence[int]) -> int:
    """Returns the row of a set of blocks among triples' masks, (T)."""
    return int(np.flatnonzero(triples == mask_of(blocks))[0])


def values_of(scores: Scores, displayed: Bools, objective: Objective) -> Values:
    """Returns weights -> what is left under every plan, (W x T); NaN where it has no value.

    Args:
        scores: Of some plans.
        displayed: Languages that enter, (A).
        objective: Mean damage in bits per reference character, or S in log2 units.
    """

    def damage(sums: Sums) -> Floats:
        return damage_bits(sums)[..., displayed].mean(-1)

    per = "text" if objective == "spread_per_text" else "token"
    formula = damage if objective == "damage" else partial(spread, per=per, languages=displayed)
    return partial(resample, formula, scores)


def inverted(scores: Scores, displayed: Bools, objective: Objective) -> Values:
    """Returns weights -> draws of S of every plan that allow for noise, (W x T).

    Args:
        scores: Of some plans.
        displayed: Languages that enter, (A).
        objective: Per token or per text.
    """
    per = "text" if objective == "spread_per_text" else "token"
    return partial(resample, partial(spread_draws, per=per, languages=displayed), scores)


def share_part(
    objective: Objective,
    values: Values,
    row: int,
    units: Units,
    thresholds: Thresholds,
    n_triples: int,
) -> Part:
    """Returns the share of the other triples that one beats, as a statistic to be judged.

    Args:
        objective: What triples are compared by.
        values: Of all triples that it is compared with, itself among them.
        row: Of the triple.
        units: Sentences, or each sentence's document.
        thresholds: With draws and level.
        n_triples: How many triples there are.
    """
    share = estimate_of(values, row, units, thresholds, n_triples)
    sesoi = thresholds.of(ID)["sesoi"]
    p, smallest = share_p(share, n_triples)
    equivalence = None
    if share.low is not None:
        how = {"draws": thresholds.draws, "seed": 0, "of_all": n_triples - 1}
        drawn = share_draws(values, row, units, **how)
        equivalence = (1 + int((~(drawn < sesoi)).sum())) / (1 + len(drawn))
    return Part(
        name=f"share of triples beaten by {NAMES[objective]}",
        estimate=share,
        sesoi=sesoi,
        p=p,
        p_minimum=smallest,
        p_equivalence=equivalence,
        chance=0.5,
    )


def estimate_of(
    values: Values, row: int, units: Units, thresholds: Thresholds, n_triples: int | None = None
) -> Estimate:
    """Returns the share of the other triples that one beats; arguments as :func:`share_part`."""
    of_all = None if n_triples is None else n_triples - 1
    return share_estimate(
        values, row, units, draws=thresholds.draws, level=thresholds.level, of_all=of_all, unit=UNIT
    )


def share_p(share: Estimate, n_sets: int) -> tuple[float, float]:
    """Returns the chance that a set picked blindly is as good as this one may be bad, and 1/n.

    At the interval's worse end (1 − low)(n − 1) other sets are at least as good; with the set
    itself that is the share of all n. Without an interval p is 1.
    """
    if share.low is None:
        return 1.0, 1 / n_sets
    return (1 + (1 - share.low) * (n_sets - 1)) / n_sets, 1 / n_sets
