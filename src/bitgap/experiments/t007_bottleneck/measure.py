"""What T-007 measures: the dimensions of a model's states, and of states under its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.t007_bottleneck import EXPERIMENT, ID, Params
from bitgap.lab.activations import Activations
from bitgap.lab.lab import Lab
from bitgap.records import Floats, Observations
from bitgap.stats.dimension import (
    components_for,
    covariance_eigenvalues,
    gride,
    neighbour_distances,
    participation_ratio,
    participation_ratios,
    rank_me,
    unit_products,
)

FEWEST_SENTENCES = 3
"""Below it there are too few pairs of different sentences to resample."""


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures dimension by depth in full precision; the scheme plays no part.

    Arrays, with S units (sentences, or groups of them): ``products`` (L x S x S) and ``traces``
    (L x S) of all languages together (:func:`bitgap.stats.dimension.unit_products`);
    ``by_language`` (L x A), the ratio in each alone; ``plain``, ``rank_me`` and ``components_95``
    (L); ``gride`` (L x scales), of sentence means, NaN where undefined; and those of
    :func:`measure_controls`.

    Raises:
        UsageError: If there are too few sentences.
    """
    if lab.corpus.n_sentences < FEWEST_SENTENCES:
        raise UsageError(
            f"{ID} compares different sentences, and there are {lab.corpus.n_sentences}; give at "
            f"least {FEWEST_SENTENCES}"
        )
    activations = lab.activations()
    products = block_products(activations, params.most_units)
    controls, facts = measure_controls(lab, products, params)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **products,
            **_beside(activations, params),
            "gride": _gride(activations, params, lab.settings.seed),
            **controls,
        },
        facts={
            "languages": list(lab.languages),
            "n_blocks": lab.n_blocks,
            "width": lab.decoder.width,
            "n_tokens": len(activations.token),
            "params": asdict(params),
            **facts,
        },
    )


def block_products(
    activations: Activations, most_units: int, *, massive: bool = False
) -> dict[str, Floats]:
    """Returns ``products`` (L x S x S) and ``traces`` (L x S) of every block's output.

    Args:
        activations: Of one pass.
        most_units: Sentences are put in at most this many groups, S, which are then the units.
        massive: Keep massive values as they are.
    """
    n_units = _n_units(activations, most_units)
    products, traces = [], []
    for site in _outputs(activations):
        rows, states = activations.at(site, massive=massive)
        units = activations.sentence[rows] % n_units
        product, trace = unit_products(states - states.mean(0), units, n_units)
        products.append(product)
        traces.append(trace)
    return {"products": np.array(products), "traces": np.array(traces)}


def _outputs(activations: Activations) -> range:
    """Returns the sites of block outputs: all but the embedding and the final norm."""
    return range(1, len(activations.states) - 1)


def _n_units(activations: Activations, most_units: int) -> int:
    return min(most_units, int(activations.sentence.max()) + 1)


def _beside(activations: Activations, params: Params) -> dict[str, Floats]:
    """Returns the estimators beside the primary one, and that one language by language."""
    n_units = _n_units(activations, params.most_units)
    ones = np.ones((1, n_units))
    columns: dict[str, list[Any]] = {
        name: [] for name in ("plain", "rank_me", "components_95", "by_language")
    }
    for site in _outputs(activations):
        rows, states = activations.at(site)
        eigenvalues = covariance_eigenvalues(states)
        columns["plain"].append(participation_ratio(states))
        columns["rank_me"].append(rank_me(eigenvalues))
        columns["components_95"].append(components_for(eigenvalues, 0.95))
        alone = []
        for language in range(len(activations.languages)):
            of_it = activations.language[rows] == language
            centred = states[of_it] - states[of_it].mean(0)
            units = activations.sentence[rows][of_it] % n_units
            products, traces = unit_products(centred, units, n_units)
            alone.append(participation_ratios(products[None], traces[None])(ones)[0, 0])
        columns["by_language"].append(alone)
    return {name: np.array(values, dtype=np.float64) for name, values in columns.items()}


def _gride(activations: Activations, params: Params, seed: int) -> Floats:
    """Returns GRIDE, (L x scales), of a fixed number of sentence means of all languages."""
    pooled = np.asarray(activations.pooled[1:])  # (L x A x N x d)
    flat = pooled.reshape(len(pooled), -1, pooled.shape[-1])
    order = np.random.default_rng(seed).permutation(flat.shape[1])
    chosen = np.sort(order[: params.points])
    scales = [k for k in params.scales if 2 * k < len(chosen)]
    dimensions = np.full((len(flat), len(params.scales)), np.nan)
    for block, states in enumerate(flat if scales else ()):
        distances = neighbour_distances(states[chosen].astype(np.float64), 2 * max(scales))
        for column, scale in enumerate(scales):
            value = gride(distances, scale)
            dimensions[block, column] = np.nan if value is None else value
    return dimensions


def measure_controls(
    lab: Lab, plain: Mapping[str, Floats], params: Params
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what the controls show.

    Args:
        lab: Model and text.
        plain: ``products`` and ``traces`` of the model itself.
        params: With the numbers of sentences and plantings.

    Returns:
        Arrays of :func:`block_products` under ``massive_``, ``shuffled_`` and ``random_``, and
        for the plantings ``planted_products`` (P x S x S), ``planted_traces`` (P x S) and
        ``planted_block`` (P). Facts: ``planted_rank`` and ``clipped``, massive values in all.
    """
    activations, units = lab.activations(), params.most_units
    clipped = sum(
        int((activations.at(site, massive=True)[1] != activations.at(site)[1]).sum())
        for site in _outputs(activations)
    )
    shuffled = lab.spread(params.shuffled_sentences).with_shuffled_tokens(lab.settings.seed)
    twin = lab.spread(params.control_sentences).random_twin()
    arrays = {
        f"{control}_{name}": values
        for control, of in (
            ("massive", block_products(activations, units, massive=True) if clipped else plain),
            ("shuffled", block_products(shuffled.activations(), units)),
            ("random", block_products(twin.activations(), units)),
        )
        for name, values in of.items()
    }
    n_units = plain["traces"].shape[1]
    ratios = participation_ratios(plain["products"], plain["traces"])(np.ones((1, n_units)))
    rank = max(1, int(np.nanmin(ratios) / 2))
    planted = [
        _planted(activations, p, rank, n_units, lab.settings.seed)
        for p in range(params.planted_seeds)
    ]
    for name in ("products", "traces", "block") if planted else ():
        arrays[f"planted_{name}"] = np.array([planting[name] for planting in planted])
    return arrays, {"planted_rank": rank, "clipped": clipped}


def _planted(
    activations: Activations, p: int, rank: int, n_units: int, seed: int
) -> dict[str, Any]:
    """Returns the products of one block's states projected onto random dimensions."""
    block = p % len(_outputs(activations))
    rows, states = activations.at(block + 1)
    rng = np.random.default_rng([seed, p])
    axes, _ = np.linalg.qr(rng.normal(size=(states.shape[1], rank)))
    # In coordinates of the few dimensions the projected states have the same products.
    inside = (states - states.mean(0)) @ axes
    products, traces = unit_products(inside, activations.sentence[rows] % n_units, n_units)
    return {"products": products, "traces": traces, "block": block}
