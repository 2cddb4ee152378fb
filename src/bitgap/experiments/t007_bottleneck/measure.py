"""What T-007 measures: the only part that sees a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.t007_bottleneck import EXPERIMENT, FEWEST_SENTENCES, ID, Params
from bitgap.experiments.t007_bottleneck.twins import block_products, measure_controls
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


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures dimension by depth in full precision; the scheme plays no part.

    Arrays, with S units (sentences, or groups of them): ``products`` (L x S x S) and ``traces``
    (L x S) of all languages together (:func:`bitgap.stats.dimension.unit_products`);
    ``by_language`` (L x A), the ratio in each alone; ``plain``, ``rank_me`` and ``components_95``
    (L); ``gride`` (L x scales), of sentence means, NaN where undefined; and those of
    :func:`bitgap.experiments.t007_bottleneck.twins.measure_controls`.

    Raises:
        UsageError: If there are too few sentences.
    """
    if lab.corpus.n_sentences < FEWEST_SENTENCES:
        raise UsageError(
            f"{ID} compares different sentences, and there are {lab.corpus.n_sentences}; give at "
            f"least {FEWEST_SENTENCES}"
        )
    found = lab.activations()
    products = block_products(found, params.most_units)
    twins, told = measure_controls(
        lab,
        products,
        most_units=params.most_units,
        n_sentences=params.control_sentences,
        n_shuffled=params.shuffled_sentences,
        n_plantings=params.planted_seeds,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**products, **_spectra(found, params), **_intrinsic(lab, found, params), **twins},
        facts={
            "languages": list(lab.languages),
            "n_blocks": lab.n_blocks,
            "width": lab.decoder.width,
            "n_tokens": len(found.token),
            "params": asdict(params),
            **told,
        },
    )


def _spectra(found: Activations, params: Params) -> dict[str, Floats]:
    """Returns the estimators beside the primary one, and that one language by language."""
    n_units = min(params.most_units, int(found.sentence.max()) + 1)
    ones = np.ones((1, n_units))
    out: dict[str, list[Any]] = {
        name: [] for name in ("plain", "rank_me", "components_95", "by_language")
    }
    for site in range(1, len(found.states) - 1):
        rows, states = found.at(site)
        eigenvalues = covariance_eigenvalues(states)
        out["plain"].append(participation_ratio(states))
        out["rank_me"].append(rank_me(eigenvalues))
        out["components_95"].append(components_for(eigenvalues, 0.95))
        alone = []
        for language in range(len(found.languages)):
            mine = found.language[rows] == language
            centred = states[mine] - states[mine].mean(0)
            made = unit_products(centred, found.sentence[rows][mine] % n_units, n_units)
            alone.append(participation_ratios(made[0][None], made[1][None])(ones)[0, 0])
        out["by_language"].append(alone)
    return {name: np.array(values, dtype=np.float64) for name, values in out.items()}


def _intrinsic(lab: Lab, found: Activations, params: Params) -> dict[str, Floats]:
    """Returns ``gride`` (L x scales) of a fixed number of sentence means of all languages."""
    pooled = np.asarray(found.pooled[1:])  # (L x A x N x d)
    flat = pooled.reshape(len(pooled), -1, pooled.shape[-1])
    rng = np.random.default_rng(lab.settings.seed)
    chosen = np.sort(rng.permutation(flat.shape[1])[: params.points])
    wanted = [k for k in params.scales if 2 * k < len(chosen)]
    out = np.full((len(flat), len(params.scales)), np.nan)
    for block, states in enumerate(flat):
        if not wanted:
            break
        distances = neighbour_distances(states[chosen].astype(np.float64), 2 * max(wanted))
        for column, scale in enumerate(wanted):
            value = gride(distances, scale)
            out[block, column] = np.nan if value is None else value
    return {"gride": out}
