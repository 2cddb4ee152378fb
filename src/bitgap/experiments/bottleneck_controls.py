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
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.experiments.controls import absent, detection, not_run
from bitgap.records import Control, Floats, Integers
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.dimension import participation_ratios, unit_products
from bitgap.stats.profiles import Peak, in_window, locate_peak
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.activations import Activations
    from bitgap.lab.lab import Lab


# -- measurement ----------------------------------------------------------------------------------


def block_products(found: Activations, most_units: int, *, massive: bool = False) -> dict[str, Any]:
    """Returns ``products`` (L x S x S) and ``traces`` (L x S) of every block's output.

    Args:
        found: What the pass showed.
        most_units: Sentences are put in at most this many groups, S, which are then the units.
        massive: Keep massive values as they are.
    """
    n_units = min(most_units, int(found.sentence.max()) + 1)
    products, traces = [], []
    for site in range(1, len(found.states) - 1):
        rows, states = found.at(site, massive=massive)
        made = unit_products(states - states.mean(0), found.sentence[rows] % n_units, n_units)
        products.append(made[0])
        traces.append(made[1])
    return {"products": np.array(products), "traces": np.array(traces)}


def measure_controls(
    lab: Lab,
    plain: Mapping[str, Floats],
    *,
    most_units: int,
    n_sentences: int,
    n_shuffled: int,
    n_plantings: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what the controls show.

    Args:
        lab: Model and text.
        plain: ``products`` and ``traces`` of the model itself.
        most_units: As for it.
        n_sentences: Sentences that the random twin is measured on.
        n_shuffled: Sentences of the shuffled text.
        n_plantings: How often P4 is planted, at each block in turn.

    Returns:
        Arrays of :func:`block_products` under ``massive_``, ``shuffled_`` and ``random_``, and
        for the plantings ``planted_products`` (P x S x S), ``planted_traces`` (P x S) and
        ``planted_block`` (P). Facts: ``planted_rank`` and ``clipped``, massive values in all.
    """
    from bitgap.models.gauge import loaded_with, random_twin

    found, seed = lab.activations(), lab.settings.seed
    few, fewer = (lab.first(n) for n in (n_sentences, n_shuffled))
    twin = few.twin(loaded_with(lab.loaded, random_twin(lab.decoder.model, seed), "random"))
    shuffled = fewer.with_shuffled_tokens(seed)
    clipped = _clipped(found)
    arrays = {
        **_named("massive", block_products(found, most_units, massive=True) if clipped else plain),
        **_named("shuffled", block_products(shuffled.activations(), most_units)),
        **_named("random", block_products(twin.activations(), most_units)),
    }
    n_units = plain["traces"].shape[1]
    ratios = participation_ratios(plain["products"], plain["traces"])(np.ones((1, n_units)))
    rank = max(1, int(np.nanmin(ratios) / 2))
    made = [_planted(found, p, rank, n_units, seed) for p in range(n_plantings)]
    arrays |= {
        f"planted_{name}": np.array([one[name] for one in made])
        for name in ("products", "traces", "block")
        if made
    }
    return arrays, {"planted_rank": rank, "clipped": clipped}


def _named(name: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_{key}": arrays[key] for key in ("products", "traces")}


def _clipped(found: Activations) -> int:
    count = 0
    for site in range(1, len(found.states) - 1):
        _, kept = found.at(site, massive=True)
        _, cut = found.at(site)
        count += int((kept != cut).sum())
    return count


def _planted(found: Activations, p: int, rank: int, n_units: int, seed: int) -> dict[str, Any]:
    """Returns the products of one block's states projected onto random dimensions."""
    block = p % (len(found.states) - 2)
    rows, states = found.at(block + 1)
    rng = np.random.default_rng([seed, p])
    axes, _ = np.linalg.qr(rng.normal(size=(states.shape[1], rank)))
    # In coordinates of the few dimensions the projected states have the same products.
    inside = (states - states.mean(0)) @ axes
    products, traces = unit_products(inside, found.sentence[rows] % n_units, n_units)
    return {"products": products, "traces": traces, "block": block}


# -- judgement ------------------------------------------------------------------------------------


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
