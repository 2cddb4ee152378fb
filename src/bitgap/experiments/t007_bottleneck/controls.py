"""What T-007 measures of a model's states, and the controls that could make its minimum worthless.

===============  =================================================  ==============================
shuffled text    tokens of every sentence in random order           must not clearly hit
random           fresh weights as the class draws them              must not clearly hit
massive values   left as they are instead of clipped                the minimum must stay
rank             states of one block projected to few dimensions    that block must be the minimum
===============  =================================================  ==============================

The last is the method's P4, planted in the sampled states of one block at a time: what counts is
whether this estimator, on this text, finds a bottleneck of that size where there is one. The rank
is half the smallest dimension found, since above that the planted block need not be the lowest.
Measuring needs a lab; judging is pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import absent, detection, not_run
from bitgap.records import Control, Floats, Integers
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.dimension import participation_ratios
from bitgap.stats.profiles import Peak, in_window, locate_peak
from bitgap.stats.verdicts import Thresholds


def minimum_of(products: Floats, traces: Floats, thresholds: Thresholds) -> tuple[Peak, Floats]:
    """Returns where the dimension is lowest, and its draws (B x L).

    Args:
        products: (L x S x S).
        traces: (L x S).
        thresholds: With draws and level.
    """
    statistic, n_units = participation_ratios(products, traces), traces.shape[1]
    draws = statistic(bootstrap_weights(n_units, thresholds.draws, 0))
    point = statistic(np.ones((1, n_units)))[0]
    return locate_peak(-np.log(draws), -np.log(point), thresholds.level), draws


def controls(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], lowest: Peak, thresholds: Thresholds
) -> list[Control]:
    """Returns the controls of T-007.

    Args:
        arrays: As T-007 measures them.
        facts: Likewise.
        lowest: Where the model's own dimension is lowest.
        thresholds: What was declared.
    """
    return [
        _no_hit(arrays, facts, "shuffled", "tokens in random order", thresholds),
        _no_hit(arrays, facts, "random", "random-init twin", thresholds),
        _massive(arrays, facts, lowest, thresholds),
        _found(arrays, facts, thresholds),
    ]


def _no_hit(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    twin: str,
    name: str,
    thresholds: Thresholds,
) -> Control:
    if f"{twin}_products" not in arrays:
        return not_run(name, "negative", absent(facts, twin))
    found, _ = minimum_of(arrays[f"{twin}_products"], arrays[f"{twin}_traces"], thresholds)
    place = found.place
    ends = np.array([place.value, place.low, place.high])
    return Control(
        name=name,
        kind="negative",
        passed=not in_window(ends, thresholds.window).all(),
        detail=f"should have no clear minimum in the window, or that is not what the model makes "
        f"of language; its lowest block is {found.layer}",
        estimate=place,
    )


def _massive(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], lowest: Peak, thresholds: Thresholds
) -> Control:
    name = "massive values left as they are"
    if "massive_products" not in arrays:
        return not_run(name, "invariance", absent(facts, "massive"))
    found, _ = minimum_of(arrays["massive_products"], arrays["massive_traces"], thresholds)
    assert found.place.low is not None and found.place.high is not None
    assert lowest.place.low is not None and lowest.place.high is not None
    together = found.place.low <= lowest.place.high and lowest.place.low <= found.place.high
    return Control(
        name=name,
        kind="invariance",
        passed=together,
        detail=f"the minimum should not be the work of a few massive values; "
        f"{facts['clipped']} were clipped",
        estimate=found.place,
    )


def _found(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P4: states of one block projected to few dimensions"
    if "planted_products" not in arrays:
        return not_run(name, "positive", absent(facts, "planted"))
    blocks: Integers = arrays["planted_block"].astype(np.int64)
    found = []
    for block, products, traces in zip(
        blocks, arrays["planted_products"], arrays["planted_traces"], strict=True
    ):
        planted = arrays["products"].copy(), arrays["traces"].copy()
        planted[0][block], planted[1][block] = products, traces
        found.append(minimum_of(*planted, thresholds)[0].layer == int(block))
    sought = f"the block of rank {facts['planted_rank']} should be the lowest"
    return detection(name, found, sought, thresholds)
