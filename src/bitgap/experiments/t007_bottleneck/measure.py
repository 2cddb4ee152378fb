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
from bitgap.records import Floats, Integers, Observations
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

FEWEST_UNITS = 3
"""Sentences, or documents, below which there are too few pairs of different ones to resample."""


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures dimension by depth in full precision; the scheme plays no part.

    Arrays, with S units (documents or sentences, or groups of them, :func:`text_units`):
    ``products`` (L x S x S) and ``traces`` (L x S) of all languages together
    (:func:`bitgap.stats.dimension.unit_products`); ``by_language`` and ``without_language``
    (L x A), the ratio in each alone and in all others together; ``plain``, ``rank_me`` and
    ``components_95`` (L); ``gride`` (L x scales), of sentence means, NaN where undefined;
    ``documents`` (N) where known; and those of :func:`measure_controls`. Fact ``unit``: what a
    unit is.

    Raises:
        UsageError: If there are too few sentences.
    """
    if lab.corpus.n_sentences < FEWEST_UNITS:
        raise UsageError(
            f"{ID} compares different sentences, and there are {lab.corpus.n_sentences}; give at "
            f"least {FEWEST_UNITS}"
        )
    activations = lab.activations()
    units, unit = _units_of(lab, params)
    products = block_products(activations, units)
    controls, facts = measure_controls(lab, products, params)
    if lab.documents is not None:
        controls["documents"] = lab.documents
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **products,
            **_beside(activations, units),
            "gride": _gride(activations, params, lab.settings.seed),
            **controls,
        },
        facts={
            "languages": list(lab.languages),
            "n_blocks": lab.n_blocks,
            "width": lab.decoder.width,
            "n_tokens": len(activations.token),
            "unit": unit,
            "params": asdict(params),
            **facts,
        },
    )


def text_units(n_sentences: int, documents: Integers | None, most: int) -> tuple[Integers, str]:
    """Returns the unit of every sentence, (N) from 0 to S − 1, and what a unit is.

    Sentences of one document say related things, so a unit is a document, where three are known,
    else a sentence; where there are more than may be, some to a group, neighbours apart.

    Args:
        n_sentences: N.
        documents: Each sentence's document, (N), where known.
        most: Units at most.
    """
    units, unit = np.arange(n_sentences, dtype=np.int64), "sentence"
    if documents is not None:
        _, first, of_sentence = np.unique(documents, return_index=True, return_inverse=True)
        if len(first) >= FEWEST_UNITS:
            # Numbered as they are met.
            units, unit = np.argsort(np.argsort(first))[of_sentence], "document"
    if int(units.max()) < most:
        return units, unit
    return units % most, f"group of {unit}s"


def _units_of(lab: Lab, params: Params) -> tuple[Integers, str]:
    return text_units(len(lab.text.kept), lab.documents, params.most_units)


def block_products(
    activations: Activations, units: Integers, *, massive: bool = False
) -> dict[str, Floats]:
    """Returns ``products`` (L x S x S) and ``traces`` (L x S) of every block's output.

    Args:
        activations: Of one pass.
        units: Unit of every sentence, (N) from 0 to S − 1.
        massive: Keep massive values as they are.
    """
    n_units = int(units.max()) + 1
    products, traces = [], []
    for site in _outputs(activations):
        rows, states = activations.at(site, massive=massive)
        of_row = units[activations.sentence[rows]]
        product, trace = unit_products(states - states.mean(0), of_row, n_units)
        products.append(product)
        traces.append(trace)
    return {"products": np.array(products), "traces": np.array(traces)}


def _outputs(activations: Activations) -> range:
    """Returns the sites of block outputs: all but the embedding and the final norm."""
    return range(1, len(activations.states) - 1)


def _beside(activations: Activations, units: Integers) -> dict[str, Floats]:
    """Returns the estimators beside the primary one, and that one language by language."""
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("plain", "rank_me", "components_95", "by_language", "without_language")
    }
    for site in _outputs(activations):
        rows, states = activations.at(site)
        eigenvalues = covariance_eigenvalues(states)
        columns["plain"].append(participation_ratio(states))
        columns["rank_me"].append(rank_me(eigenvalues))
        columns["components_95"].append(components_for(eigenvalues, 0.95))
        of_row, language = units[activations.sentence[rows]], activations.language[rows]
        numbers = range(len(activations.languages))
        columns["by_language"].append(
            [_ratio(states[language == i], of_row[language == i]) for i in numbers]
        )
        columns["without_language"].append(
            [_ratio(states[language != i], of_row[language != i]) for i in numbers]
        )
    return {name: np.array(values, dtype=np.float64) for name, values in columns.items()}


def _ratio(states: Floats, units: Integers) -> float:
    """Returns the participation ratio of some states; NaN of none."""
    if not len(states):
        return float("nan")
    n_units = int(units.max()) + 1
    products, traces = unit_products(states - states.mean(0), units, n_units)
    return float(participation_ratios(products[None], traces[None])(np.ones((1, n_units)))[0, 0])


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
    activations, (units, _) = lab.activations(), _units_of(lab, params)
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
            ("shuffled", block_products(shuffled.activations(), _units_of(shuffled, params)[0])),
            ("random", block_products(twin.activations(), _units_of(twin, params)[0])),
        )
        for name, values in of.items()
    }
    n_units = plain["traces"].shape[1]
    ratios = participation_ratios(plain["products"], plain["traces"])(np.ones((1, n_units)))
    rank = max(1, int(np.nanmin(ratios) / 2))
    planted = [
        _planted(activations, p, rank, units, lab.settings.seed)
        for p in range(params.planted_seeds)
    ]
    for name in ("products", "traces", "block") if planted else ():
        arrays[f"planted_{name}"] = np.array([planting[name] for planting in planted])
    return arrays, {"planted_rank": rank, "clipped": clipped}


def _planted(
    activations: Activations, p: int, rank: int, units: Integers, seed: int
) -> dict[str, Any]:
    """Returns the products of one block's states projected onto random dimensions."""
    block = p % len(_outputs(activations))
    rows, states = activations.at(block + 1)
    rng = np.random.default_rng([seed, p])
    axes, _ = np.linalg.qr(rng.normal(size=(states.shape[1], rank)))
    # In coordinates of the few dimensions the projected states have the same products.
    inside = (states - states.mean(0)) @ axes
    of_row = units[activations.sentence[rows]]
    products, traces = unit_products(inside, of_row, int(units.max()) + 1)
    return {"products": products, "traces": traces, "block": block}
