"""What T-008 tells beside its verdict: groups of languages, the readout, tables and the chart.

Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.experiments.t008_morphology import PRIMARY
from bitgap.experiments.t008_morphology.causal import extra_losses
from bitgap.experiments.t008_morphology.controls import BY_TYPES
from bitgap.experiments.t008_morphology.probed import Probed
from bitgap.records import Estimate, Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights, percentile_ends, percentile_estimate
from bitgap.stats.profiles import Peak, locate_peak
from bitgap.stats.verdicts import Thresholds

GROUPS = {True: "rich", False: "other"}
"""What charts call morphologically rich languages, and the others."""


def _of_kind(probed: Probed, facts: Mapping[str, Any], rich: bool) -> Probed | None:
    """Returns the answers in languages that are morphologically rich, or not; None for none."""
    codes = [code for code in probed.codes if facts["word_rich"][code] == rich]
    return probed.only(np.isin(probed.languages, codes)) if codes else None


def original_measure(facts: Mapping[str, Any]) -> dict[str, Estimate]:
    """Returns the origin's measure on its one pair: no profile, as no block enters it."""
    pair, unit = facts["seed_pair"], "P(correct)/(P(correct)+P(wrong))"
    if pair is None:
        why = "no minimal pair in a language of the text"
        return {"p_correct": Estimate(value=None, unit=unit, reason=why)}
    why = f"one pair ({pair['language']}: {pair['good']}); the origin's code never used the block"
    return {
        "p_correct": Estimate(
            value=float(1 / (1 + np.exp(-np.clip(pair["margin"], -500, 500)))),
            unit=unit,
            reason=why,
        )
    }


def rich_less_other(
    probed: Probed, facts: Mapping[str, Any], peak: Peak, weights: Floats, thresholds: Thresholds
) -> Estimate:
    """Returns how much further rich languages rise above their embeddings at the peak.

    Args:
        probed: Answers about the primary feature.
        facts: Of T-008.
        peak: Of the profile.
        weights: How often each word type is drawn, (B x U).
        thresholds: With the level.
    """
    unit = "selectivity above the embedding's, rich less other languages"
    rich, other = (_of_kind(probed, facts, kind) for kind in GROUPS)
    if rich is None or other is None:
        why = "there are probed languages of one kind only"
        return Estimate(value=None, unit=unit, reason=why)

    def risen(group: Probed, weights: Floats) -> Floats:
        sites = group.selectivity(weights)
        return sites[:, 1 + peak.block] - sites[:, 0]

    point, draws = (risen(rich, w) - risen(other, w) for w in (np.ones_like(weights[:1]), weights))
    return percentile_estimate(
        point[0],
        draws,
        unit=unit,
        level=thresholds.level,
        n=weights.shape[1],
        method=BY_TYPES.format(thresholds.draws),
    )


def readout(arrays: Mapping[str, Any], thresholds: Thresholds) -> dict[str, Estimate]:
    """Returns where the tuned lens reads the largest margin of agreement, and the model's own."""
    if "margin" not in arrays:
        why = "no language has enough minimal pairs"
        return {"margin": Estimate(value=None, unit="nats", reason=why)}
    own, read = arrays["margin"][0, 0], arrays["lens_tuned"][1:]
    n = own.shape[-1]
    weights = bootstrap_weights(n, thresholds.draws, 0) / n
    draws = np.stack([(weights @ values.T).mean(1) for values in read], axis=1)
    margin = percentile_estimate(
        own.mean(),
        (weights @ own.T).mean(1),
        unit="nats that the right sentence is likelier",
        level=thresholds.level,
        n=n,
        method=f"percentile bootstrap over items, {thresholds.draws} draws",
    )
    place = locate_peak(draws, read.mean((1, 2)), thresholds.level).place
    return {"margin": margin, "readout_depth": place}


def sentence(peak: Peak, size: Estimate, hit: bool, facts: Mapping[str, Any]) -> str:
    """Returns what came out, for a reader who has read nothing else."""
    where = "inside" if hit else "outside"
    place = (
        f"Number is told best at block {peak.block} of {facts['n_blocks'] - 1}, {where} the window "
        f"around three quarters of the depth"
    )
    if size.value is None:
        return f"{place}; what rounding there costs agreement cannot be said."
    more = size.low is not None and size.low > 0
    costs = "costs" if more else "does not clearly cost"
    return (
        f"{place}, and rounding a block of the window {costs} morphologically rich languages more "
        f"agreement (d_z = {size.value:+.2f})."
    )


def tables(
    observations: Observations,
    probed: Probed | None,
    profile: Floats | None,
    draws: Floats | None,
    thresholds: Thresholds,
) -> dict[str, Any]:
    """Returns profiles by block, features by site, languages, and what was left out.

    Args:
        observations: Of T-008.
        probed: Answers about the primary feature in languages with words enough, or None.
        profile: Selectivity above the embedding's, (L); None where nothing was probed.
        draws: Its draws, (B x L).
        thresholds: With window and level.
    """
    arrays, facts = observations.arrays, observations.facts
    columns: dict[str, Floats | None] = {}
    if probed is not None and profile is not None and draws is not None:
        low, high = percentile_ends(draws, thresholds.level)
        columns = {"risen": profile, "low": low, "high": high}
        for kind, name in GROUPS.items():
            group = _of_kind(probed, facts, kind)
            columns[f"selectivity_{name}"] = group and group.by_language()[1].mean(0)[1:]
    if "margin" in arrays:
        by_block = {
            "margin": arrays["lens_tuned"][1:],
            "margin_logit": arrays["lens_logit"][1:],
            "extra_loss": extra_losses(arrays["margin"]),
        }
        for kind, name in GROUPS.items():
            rich = np.array(facts["item_rich"], dtype=bool) == kind
            for what, values in by_block.items():
                mean = values[:, rich].mean((1, 2)) if rich.any() else None
                columns[f"{what}_{name}"] = mean
    return {
        "profile": [
            {"block": block}
            | {k: None if v is None else float(v[block]) for k, v in columns.items()}
            for block in range(facts["n_blocks"])
        ],
        "features": _features(arrays, facts),
        "codes": _codes(arrays, facts),
        "items": _items(arrays, facts),
        "left_out": facts["left_out"],
        "excluded": facts["excluded"],
        "sources": facts["sources"],
        "window": list(thresholds.window),
        "words": 0 if probed is None else len(probed.units),
    }


def _features(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    for feature in facts["params"]["features"]:
        if f"{feature}_hits" not in arrays:
            continue
        probed = Probed.of(arrays, feature)
        for code, accuracy, gained in zip(probed.codes, *probed.by_language(), strict=True):
            best = int(gained[1:].argmax())
            rows.append(
                {
                    "feature": feature,
                    "language": facts["word_languages"][code],
                    "words": int((probed.languages == code).sum()),
                    "embedding_accuracy": float(accuracy[0]),
                    "embedding_selectivity": float(gained[0]),
                    "best_block": best,
                    "best_accuracy": float(accuracy[1 + best]),
                    "best_selectivity": float(gained[1 + best]),
                }
            )
    return rows


def _codes(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    if f"{PRIMARY}_languages" not in arrays:
        return []
    codes = np.unique(arrays[f"{PRIMARY}_languages"])
    return [
        {
            "language": facts["word_languages"][int(code)],
            "label_bits": float(arrays["label_bits"][row]),
            "compression": (arrays["uniform_bits"][row] / arrays["code_bits"][:, row]).tolist(),
        }
        for row, code in enumerate(codes)
    ]


def _items(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "margin" not in arrays:
        return []
    return [
        {
            "language": code,
            "items": int(arrays["margin"].shape[-1]),
            "margin_agreement": float(arrays["margin"][0, 0, row].mean()),
            "margin_lexical": float(arrays["margin"][0, 1, row].mean()),
            "right": float((arrays["margin"][0, 0, row] > 0).mean()),
            "tokens_agreement": float(arrays["item_tokens"][0, row].mean()),
            "tokens_lexical": float(arrays["item_tokens"][1, row].mean()),
        }
        for row, code in enumerate(facts["item_languages"])
    ]
