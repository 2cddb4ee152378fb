"""What T-008 tells beside its verdict: groups of languages, the readout, tables and the chart.

Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.t008_morphology.causal import extra_losses
from bitgap.experiments.t008_morphology.controls import PRIMARY
from bitgap.records import Bools, Estimate, Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights, percentile_ends
from bitgap.stats.probes import selectivity
from bitgap.stats.profiles import Peak, locate_peak
from bitgap.stats.verdicts import Thresholds

GROUPS = {True: "rich", False: "other"}
"""What charts call morphologically rich languages, and the others."""


def _of_kind(arrays: Mapping[str, Any], facts: Mapping[str, Any], rich: bool) -> list[int]:
    """Returns numbers of the languages whose primary feature is probed that are rich, or not."""
    probed = np.unique(arrays[f"{PRIMARY}_languages"])
    return [int(code) for code in probed if facts["word_rich"][code] == rich]


def height(peak: Peak, profile: Floats, draws: Floats, thresholds: Thresholds) -> Estimate:
    """Returns how high the profile, (L), is at its peak, by its draws, (B x L)."""
    low, high = percentile_ends(draws[:, peak.layer], thresholds)
    return Estimate(
        value=float(profile[peak.layer]),
        low=float(low),
        high=float(high),
        unit="selectivity above the embedding's",
        level=thresholds.level,
        n=draws.shape[0],
        method=f"percentile bootstrap over word types, {thresholds.draws} draws",
    )


def seed_measure(facts: Mapping[str, Any]) -> dict[str, Estimate]:
    """Returns the origin's measure on its one pair: no profile, as no layer enters it."""
    pair, unit = facts["seed_pair"], "P(correct)/(P(correct)+P(wrong))"
    if pair is None:
        why = "no minimal pair in a language of the text"
        return {"p_correct": Estimate(value=None, unit=unit, reason=why)}
    why = f"one pair ({pair['language']}: {pair['good']}); the origin's code never used the layer"
    return {
        "p_correct": Estimate(
            value=float(1 / (1 + np.exp(-np.clip(pair["margin"], -500, 500)))),
            unit=unit,
            reason=why,
        )
    }


def rich_less_other(
    arrays: Mapping[str, Any],
    facts: Mapping[str, Any],
    peak: Peak,
    weights: Floats,
    thresholds: Thresholds,
) -> Estimate:
    """Returns how much further rich languages rise above their embeddings at the peak.

    Args:
        arrays: Of T-008.
        facts: Likewise.
        peak: Of the profile.
        weights: How often each word type is drawn, (B x U).
        thresholds: With the level.
    """
    unit = "selectivity above the embedding's, rich less other languages"
    both = [_of_kind(arrays, facts, kind) for kind in GROUPS]
    if not all(both):
        why = "there are probed languages of one kind only"
        return Estimate(value=None, unit=unit, reason=why)
    n, gaps = weights.shape[1], []
    for drawn in (np.ones((1, n)), weights):
        risen = []
        for codes in both:
            rows = np.isin(arrays[f"{PRIMARY}_languages"], codes)
            statistic, _ = selectivity(
                arrays[f"{PRIMARY}_hits"][:, rows], arrays[f"{PRIMARY}_control_hits"][:, rows],
                arrays[f"{PRIMARY}_units"][rows], arrays[f"{PRIMARY}_languages"][rows],
            )  # fmt: skip
            found = statistic(drawn)
            risen.append(found[:, 1 + peak.layer] - found[:, 0])
        gaps.append(risen[0] - risen[1])
    low, high = percentile_ends(gaps[1], thresholds)
    method = f"percentile bootstrap over word types, {thresholds.draws} draws"
    return Estimate(value=float(gaps[0][0]), low=float(low), high=float(high), unit=unit,
                    level=thresholds.level, n=n, method=method)  # fmt: skip


def readout(
    arrays: Mapping[str, Any], facts: Mapping[str, Any], thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns where the tuned lens reads the largest margin of agreement, and the model's own."""
    if "margin" not in arrays:
        why = "no language has enough minimal pairs"
        return {"margin": Estimate(value=None, unit="nats", reason=why)}
    own, read = arrays["margin"][0, 0], arrays["lens_tuned"][1:]
    n = own.shape[-1]
    weights = bootstrap_weights(n, thresholds.draws, 0) / n
    draws = np.stack([(weights @ values.T).mean(1) for values in read], axis=1)
    low, high = percentile_ends((weights @ own.T).mean(1), thresholds)
    method = f"percentile bootstrap over items, {thresholds.draws} draws"
    return {
        "margin": Estimate(
            value=float(own.mean()), low=float(low), high=float(high),
            unit="nats that the right sentence is likelier", level=thresholds.level, n=n,
            method=method,
        ),
        "readout_depth": locate_peak(draws, read.mean((1, 2)), thresholds.level).place,
    }  # fmt: skip


def sentence(peak: Peak, size: Estimate, hit: bool, facts: Mapping[str, Any]) -> str:
    """Returns what came out, for a reader who has read nothing else."""
    where = "inside" if hit else "outside"
    told = (
        f"Number is told best at block {peak.layer} of {facts['n_blocks'] - 1}, {where} the window "
        f"around three quarters of the depth"
    )
    if size.value is None:
        return f"{told}; what rounding there costs agreement cannot be said."
    more = size.low is not None and size.low > 0
    costs = "costs" if more else "does not clearly cost"
    return (
        f"{told}, and rounding a block of the window {costs} morphologically rich languages more "
        f"agreement (d_z = {size.value:+.2f})."
    )


def tables(
    observations: Observations, profile: Floats | None, draws: Floats | None, thresholds: Thresholds
) -> dict[str, Any]:
    """Returns profiles by block, features by site, languages, and what was left out.

    Args:
        observations: Of T-008.
        profile: Selectivity above the embedding's, (L); None where nothing was probed.
        draws: Its draws, (B x L).
        thresholds: With window and level.
    """
    arrays, facts = observations.arrays, observations.facts
    n = facts["n_blocks"]
    rows: list[dict[str, Any]] = [{"block": block} for block in range(n)]
    if profile is not None and draws is not None:
        low, high = percentile_ends(draws, thresholds)
        for row in rows:
            block = row["block"]
            row |= {"risen": float(profile[block]), "low": float(low[block]),
                    "high": float(high[block])}  # fmt: skip
        for kind, name in GROUPS.items():
            _add(rows, f"selectivity_{name}", _group_selectivity(arrays, facts, kind))
    if "margin" in arrays:
        rich = np.array(facts["item_rich"], dtype=bool)
        for kind, name in GROUPS.items():
            mine = rich == kind
            _add(rows, f"margin_{name}", _mean(arrays["lens_tuned"][1:], mine))
            _add(rows, f"margin_logit_{name}", _mean(arrays["lens_logit"][1:], mine))
            _add(rows, f"extra_loss_{name}", _mean(extra_losses(arrays["margin"]), mine))
    return {
        "profile": rows,
        "features": _features(arrays, facts),
        "codes": _codes(arrays, facts),
        "items": _items(arrays, facts),
        "left_out": facts["left_out"],
        "excluded": facts["excluded"],
        "sources": facts["sources"],
        "window": list(thresholds.window),
        "words": len(arrays.get(f"{PRIMARY}_labels", ())),
    }


def _add(rows: Sequence[dict[str, Any]], name: str, values: Floats | None) -> None:
    for row in rows:
        row[name] = None if values is None else float(values[row["block"]])


def _mean(values: Floats, rows: Bools) -> Floats | None:
    return values[:, rows].mean((1, 2)) if rows.any() else None


def _group_selectivity(
    arrays: Mapping[str, Any], facts: Mapping[str, Any], rich: bool
) -> Floats | None:
    codes = _of_kind(arrays, facts, rich)
    if not codes:
        return None
    return _by_language(arrays, PRIMARY, codes, "selectivity").mean(0)[1:]


def _by_language(
    arrays: Mapping[str, Any], feature: str, codes: Sequence[int], what: str
) -> Floats:
    """Returns accuracy or selectivity of each language at every site, (languages x S)."""
    found = []
    for code in codes:
        mine = arrays[f"{feature}_languages"] == code
        accuracy = arrays[f"{feature}_hits"][:, mine].mean(1)
        control = arrays[f"{feature}_control_hits"][:, mine].mean(1)
        found.append(accuracy if what == "accuracy" else accuracy - control)
    return np.array(found)


def _features(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for feature in facts["params"]["features"]:
        if f"{feature}_hits" not in arrays:
            continue
        of = arrays[f"{feature}_languages"]
        codes = [int(code) for code in np.unique(of)]
        accuracy = _by_language(arrays, feature, codes, "accuracy")
        gained = _by_language(arrays, feature, codes, "selectivity")
        for row, code in enumerate(codes):
            best = int(gained[row, 1:].argmax())
            rows.append(
                {
                    "feature": feature,
                    "language": facts["word_languages"][code],
                    "words": int((of == code).sum()),
                    "embedding_accuracy": float(accuracy[row, 0]),
                    "embedding_selectivity": float(gained[row, 0]),
                    "best_block": best,
                    "best_accuracy": float(accuracy[row, 1 + best]),
                    "best_selectivity": float(gained[row, 1 + best]),
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
