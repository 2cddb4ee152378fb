"""Where T-007's dimension is lowest, and the controls that could make that minimum worthless.

===============  =================================================  ==============================
shuffled text    tokens of every sentence in random order           must not clearly hit
random           fresh weights as the class draws them              must not clearly hit
massive values   left as they are instead of clipped                the minimum must stay
languages        each left out in turn                              the minimum stays in or out
halves           random halves of the text                          must not differ
rank             states of one block projected to few dimensions    that block must be the minimum
===============  =================================================  ==============================

The last is the method's P4, planted in the sampled states of one block at a time: what counts is
whether this estimator, on this text, finds a bottleneck of that size where there is one. The rank
is half the smallest dimension found, since above that the planted block need not be the lowest.
Pure numpy.
"""

from __future__ import annotations

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    detection,
    halves_agree,
    not_run,
)
from bitgap.experiments.protocol.peak_window import must_stay
from bitgap.records import Control, Floats, Observations, Units
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.dimension import participation_ratios
from bitgap.stats.profiles import Peak, depths, in_window, locate_peak
from bitgap.stats.verdicts import Thresholds


def minimum_of(
    products: Floats, traces: Floats, thresholds: Thresholds
) -> tuple[Peak, Floats, Floats]:
    """Returns where the dimension is lowest, the dimensions (L), and their draws (B x L).

    Args:
        products: (L x S x S).
        traces: (L x S).
        thresholds: With draws and level.
    """
    statistic, n_units = participation_ratios(products, traces), traces.shape[1]
    dimensions = statistic(np.ones((1, n_units)))[0]
    draws = statistic(bootstrap_weights(n_units, thresholds.draws, 0))
    lowest = locate_peak(-np.log(draws), -np.log(dimensions), thresholds.level)
    return lowest, dimensions, draws


def controls(observations: Observations, lowest: Peak, thresholds: Thresholds) -> list[Control]:
    """Returns the controls of T-007.

    Args:
        observations: As T-007 measures them.
        lowest: Where the model's own dimension is lowest.
        thresholds: What was declared.
    """
    return [
        _no_hit(observations, "shuffled", "tokens in random order", thresholds),
        _no_hit(observations, "random", RANDOM_TWIN, thresholds),
        _massive(observations, lowest, thresholds),
        _languages(observations, lowest, thresholds),
        _halves(observations, lowest, thresholds),
        _planted(observations, thresholds),
    ]


def _minimum_under(observations: Observations, control: str, thresholds: Thresholds) -> Peak | None:
    """Returns where the dimension is lowest under a control, or None where it was not run."""
    arrays = observations.arrays
    if f"{control}_products" not in arrays:
        return None
    return minimum_of(arrays[f"{control}_products"], arrays[f"{control}_traces"], thresholds)[0]


def _no_hit(observations: Observations, twin: str, name: str, thresholds: Thresholds) -> Control:
    lowest = _minimum_under(observations, twin, thresholds)
    if lowest is None:
        return not_run(name, "negative", absent(observations.facts, twin))
    ends = np.array([lowest.place.value, lowest.place.low, lowest.place.high])
    return Control(
        name=name,
        kind="negative",
        passed=not in_window(ends, thresholds.window).all(),
        detail=f"should have no clear minimum in the window, or that is not what the model makes "
        f"of language; its lowest block is {lowest.block}",
        estimate=lowest.place,
    )


def _massive(observations: Observations, lowest: Peak, thresholds: Thresholds) -> Control:
    name = "massive values left as they are"
    unclipped = _minimum_under(observations, "massive", thresholds)
    if unclipped is None:
        return not_run(name, "invariance", absent(observations.facts, "massive"))
    detail = (
        f"the minimum should not be the work of a few massive values; "
        f"{observations.facts['clipped']} were clipped"
    )
    return must_stay(name, lowest, unclipped, detail)


def lowest_blocks(profiles: Floats) -> list[int | None]:
    """Returns the lowest block of each profile (L x A); None of one that is undefined somewhere."""
    return [int(p.argmin()) if np.isfinite(p).all() else None for p in profiles.T]


def _languages(observations: Observations, lowest: Peak, thresholds: Thresholds) -> Control:
    """Returns the invariance under leaving out a language: the window holds the minimum or not."""
    name, profiles = "each language left out", observations.arrays["without_language"]
    languages = observations.facts["languages"]
    if len(languages) < 2:
        return not_run(name, "invariance", "there is one language only")
    inside = in_window(depths(len(profiles)), thresholds.window)
    found = dict(zip(languages, lowest_blocks(profiles), strict=True))
    moved = [
        f"{c} ({b})" for c, b in found.items() if b is None or inside[b] != inside[lowest.block]
    ]
    side = "inside" if inside[lowest.block] else "outside"
    detail = f"the lowest block should stay {side} the window whichever language is left out"
    return Control(
        name=name,
        kind="invariance",
        passed=not moved,
        detail=f"{detail}; it does not without {', '.join(moved)}" if moved else detail,
    )


def _halves(observations: Observations, lowest: Peak, thresholds: Thresholds) -> Control:
    """Returns the A/A control: the dimension at the lowest block in random halves of the text."""
    arrays, block = observations.arrays, lowest.block
    statistic = participation_ratios(arrays["products"][[block]], arrays["traces"][[block]])

    def difference(weights: Floats, chosen: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            halves = [
                np.log(statistic(weights * half)) - np.log(statistic(weights * (1 - half)))
                for half in chosen.T
            ]
        return np.concatenate(halves, axis=1)

    return halves_agree(
        difference,
        resampled(observations),
        thresholds,
        unit="log ratio of dimensions",
        name="A/A: random halves of the text",
    )


def resampled(observations: Observations) -> Units:
    """Returns the units that are resampled, told as documents where they are such."""
    n = int(observations.arrays["traces"].shape[1])
    return np.arange(n, dtype=np.int64) if "document" in observations.facts["unit"] else n


def _planted(observations: Observations, thresholds: Thresholds) -> Control:
    """Puts each planted block in the place of the model's, and locates the minimum anew."""
    name, arrays = "P4: states of one block projected to few dimensions", observations.arrays
    if "planted_products" not in arrays:
        return not_run(name, "positive", absent(observations.facts, "planted"))
    detected = list[bool]()
    for p, block in enumerate(arrays["planted_block"].astype(np.int64).tolist()):
        products, traces = arrays["products"].copy(), arrays["traces"].copy()
        products[block] = arrays["planted_products"][p]
        traces[block] = arrays["planted_traces"][p]
        detected.append(minimum_of(products, traces, thresholds)[0].block == block)
    sought = f"the block of rank {observations.facts['planted_rank']} should be the lowest"
    return detection(name, detected, sought, thresholds)
