"""What T-007 measures for its controls: twins, plantings, texts that hold no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.lab.activations import Activations
from bitgap.lab.lab import Lab
from bitgap.models.gauge import loaded_with, random_twin
from bitgap.records import Floats
from bitgap.stats.dimension import participation_ratios, unit_products


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
