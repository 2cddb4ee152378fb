"""The origin's 2×2 factorial (neither, L0, the last, both protected) against damage that adds up.

The origin read synergy off a ratio of languages: "L0 alone helps, the last alone harms, together
they are best". Damage that merely adds up shows the same (:mod:`bitgap.stats.additive`), so the
cells count for synergy only where they leave what that null implies, in damage or in the gap S. The
origin's ratio and D are shown beside and decide nothing: D goes through 0 with the unit.

The region is simultaneous over the eight numbers: null and cells are formed anew on every resampled
text, each difference is measured in its own standard errors, and the largest decides. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from bitgap.disparity.formulas import (
    Sums,
    below_resolution,
    damage_bits,
    disparity,
    gap,
    harm_mean,
    original_disparity,
    spread,
)
from bitgap.experiments.synergy.plans import cell_masks
from bitgap.quant.sets import membership
from bitgap.records import Bools, Floats, Integers, Scores, Units, finite
from bitgap.stats.additive import additive_damage, fit_additive, log_r2, r2
from bitgap.stats.bootstrap import bootstrap_weights, expanded_level, n_units

NULL_DRAWS = 200
"""Texts the null is fitted to anew; a 95 % margin is then known to some 8 %."""
_COLUMNS = 320
"""Fits at once: 10 MB an array for 4,095 masks."""
_ROUNDING = 1e-6
"""Difference in log2 that is still rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdditiveNull:
    """What the four cells would be if damage added up.

    Attributes:
        damage: Implied mean K, bits per reference character, (4).
        spread: Implied S, log2 per token, (4).
        disparity: Implied D, log2 ratio, (4).
        ratio: The origin's ratio with implied damage in the place of harm, (4).
        departure: Measured log2 of mean K less the implied one, and the same of S, (2 x 4).
        margin: Half widths of the simultaneous region of the departures, (2 x 4); NaN where one
            sentence or document has no spread.
        log_r2: Of log K over masks, by language that counts.
        spread_r2: Of S over masks; NaN where S does not vary.
        disparity_r2: Of D over masks; NaN where D does not vary.
    """

    damage: Floats
    spread: Floats
    disparity: Floats
    ratio: Floats
    departure: Floats
    margin: Floats
    log_r2: Floats
    spread_r2: float
    disparity_r2: float

    @property
    def reproduces(self) -> bool:
        """Whether all four cells lie inside the region, or there is no region."""
        return not bool((np.abs(self.departure) > self.margin).any())


def additive_null(
    scores: Scores, masks: Integers, n_blocks: int, eligible: Bools, *, level: float
) -> AdditiveNull | None:
    """Returns what damage that adds up implies for the four cells.

    Args:
        scores: Of the masks, one row each.
        masks: Bit sets of protected blocks, (P).
        n_blocks: L.
        eligible: Languages that enter, (A).
        level: Coverage of the region.

    Returns:
        None where the reference or every other language does not count, so that D has no value.
    """
    few = _reference_first(scores, eligible)
    if few is None:
        return None
    kept = masks != (1 << n_blocks) - 1  # where all is protected there is no damage to fit
    rounded = 1 - membership(masks[kept], n_blocks)
    unresolved = below_resolution(few)[kept]
    cells = _rows(masks[kept], cell_masks(n_blocks))

    def fitted(weights: Floats, start: Floats | None) -> tuple[Floats, Floats, Floats]:
        """Returns K (P x A x W), shares (L x A·W) and the additive K (P x A x W)."""
        damage = np.moveaxis(damage_bits(Sums(few, weights)), 0, -1)[kept]
        flat = np.where(unresolved[..., None], np.nan, damage).reshape(len(damage), -1)
        shares = fit_additive(flat, rounded, start)
        return damage, shares, additive_damage(shares, rounded).reshape(damage.shape)

    damage, shares, implied = fitted(np.ones((1, few.n_sentences)), None)
    per_token = _offsets(Sums(few))
    point = _cells(damage[cells], per_token) - _cells(implied[cells], per_token)
    step = max(1, _COLUMNS // len(few.languages))
    weights = bootstrap_weights(few.units, NULL_DRAWS, 0)
    draws = list[Floats]()
    for start in range(0, len(weights), step):
        part = weights[start : start + step]
        k, _, null = fitted(part, np.repeat(shares, len(part), axis=1))
        of_part = _offsets(Sums(few, part))
        draws.append(_cells(k[cells], of_part) - _cells(null[cells], of_part))
    flat = np.where(unresolved, np.nan, damage[..., 0])
    return AdditiveNull(
        damage=implied[cells, :, 0].mean(-1),
        spread=_spreads(implied[cells], per_token)[:, 0],
        disparity=_log_ratios(implied[cells, :, 0]),
        ratio=_origin_ratio(implied[cells, :, 0], few),
        departure=point[..., 0],
        margin=_margin(np.concatenate(draws, axis=-1), point, few.units, level),
        log_r2=log_r2(flat, shares, rounded),
        spread_r2=float(
            r2(_spreads(flat[..., None], per_token)[:, 0], _spreads(implied, per_token)[:, 0])
        ),
        disparity_r2=float(r2(_log_ratios(flat), _log_ratios(implied[..., 0]))),
    )


def _offsets(sums: Sums) -> Floats:
    """Returns log2 of the reference's characters over a language's tokens, (A x W).

    Added to log2 K per character of the reference it gives log2 K per token.
    """
    logs = np.log2(sums.length / sums.tokens)  # (... x 1 x A)
    return logs.reshape(-1, logs.shape[-1]).T


def _spreads(damage: Floats, offsets: Floats) -> Floats:
    """Returns S per token of damage (P x A x W), (P x W)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.log2(damage) + offsets).std(1)


def _cells(damage: Floats, offsets: Floats) -> Floats:
    """Returns log2 of mean damage and S, of (4 x A x W), (2 x 4 x W)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([np.log2(damage.mean(1)), _spreads(damage, offsets)])


def _reference_first(scores: Scores, eligible: Bools) -> Scores | None:
    """Returns the languages that count, the reference first; None where D has no value."""
    names = [code for code, ok in zip(scores.languages, eligible, strict=True) if ok]
    if scores.reference not in names or len(names) < 2:
        return None
    others = [code for code in names if code != scores.reference]
    return scores.select(languages=[scores.reference, *others])


def _rows(masks: Integers, wanted: Sequence[int]) -> Integers:
    where = {int(mask): row for row, mask in enumerate(masks)}
    return np.array([where[mask] for mask in wanted])


def _log_ratios(damage: Floats) -> Floats:
    """Returns D, the mean log2 ratio to the first language, (... x A) to (...)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(damage)
        return (logs[..., 1:] - logs[..., :1]).mean(-1)


def _origin_ratio(damage_bits: Floats, few: Scores) -> Floats:
    """Returns the mean ratio of expm1(nats per token), as perplexities compare, (4 x A) to (4)."""
    sums = Sums(few)
    nats = damage_bits * sums.length[0] * np.log(2) / sums.tokens[0]
    increase = np.expm1(np.minimum(nats, 700.0))
    return (increase[:, 1:] / increase[:, :1]).mean(-1)


def _margin(draws: Floats, point: Floats, units: Units, level: float) -> Floats:
    """Returns half widths that hold all centred draws, (... x B), at once at this level.

    They are stretched as intervals over few sentences are.

    Args:
        draws: Departures on resampled texts, (... x B).
        point: Those of the text, (... x 1).
        units: What was resampled.
        level: Coverage of the region.
    """
    if n_units(units) < 2:
        return np.full(point.shape[:-1], np.nan)
    away = draws - point
    scale = np.maximum(np.nanstd(away, axis=-1), _ROUNDING)
    largest = (np.abs(away) / scale[..., None]).reshape(-1, draws.shape[-1]).max(0)
    stretch = ndtri((1 + expanded_level(level, units)) / 2) / ndtri((1 + level) / 2)
    return scale * float(np.nanquantile(largest, level) * stretch)


def shows_origin_pattern(ratio: Floats) -> bool:
    """Returns whether the last alone "harms" and both together beat either alone, (4)."""
    none, first, last, both = (float(value) for value in ratio)
    return last > none and both < min(first, last)


def cell_rows(
    scores: Scores, displayed: Bools, null: AdditiveNull | None, n_blocks: int
) -> list[dict[str, Any]]:
    """Returns a row a cell, JSON-ready: the origin's ratio and words, our measures, and the null.

    Args:
        scores: Of the four cells, in order.
        displayed: Languages that enter, (A).
        null: What damage that adds up implies.
        n_blocks: L.
    """
    last = n_blocks - 1
    labels = ("nothing", "L0", f"L{last}", f"L0 and L{last}")
    ratio = original_disparity(scores)
    ours = {
        "damage": damage_bits(scores)[:, displayed].mean(-1),
        "damage_reference": Sums(scores).against(damage_bits(scores))[:, 0],
        "harm": harm_mean(scores, languages=displayed),
        "gap": gap(scores, languages=displayed),
        "spread": spread(scores, languages=displayed),
        "disparity": disparity(scores, languages=displayed),
        "original_disparity": ratio,
    }
    implied: dict[str, Floats] = {}
    if null is not None:
        implied = {
            "additive_damage": null.damage,
            "additive_spread": null.spread,
            "additive_disparity": null.disparity,
            "additive_ratio": null.ratio,
            "damage_departure": null.departure[0],
            "damage_margin": null.margin[0],
            "spread_departure": null.departure[1],
            "spread_margin": null.margin[1],
        }
    origin = _origin_wording(ratio, last)
    return [
        {"protected": label, "in_the_origins_words": origin[c], "in_ours": _our_wording(ours, c)}
        | {name: finite(values[c]) for name, values in {**ours, **implied}.items()}
        for c, label in enumerate(labels)
    ]


def _origin_wording(ratio: Floats, last: int) -> list[str]:
    if not np.isfinite(ratio).all():
        return ["undefined: its denominator is not above 0"] * 4
    none, first, end, both = (float(value) for value in ratio)

    def alone(value: float, name: str) -> str:
        return f"{name} alone is {'harmful' if value > none else 'helpful'}"

    together = "synergistic" if both < min(first, end) else "not synergistic"
    return ["the baseline", alone(first, "L0"), alone(end, f"L{last}"), f"together {together}"]


def _our_wording(ours: dict[str, Floats], c: int) -> str:
    damage, reference, d = ours["damage"], ours["damage_reference"], ours["spread"]
    if c == 0:
        ratio = f", S is {d[0]:.2f}" if np.isfinite(d[0]) else ""
        return f"K is {damage[0]:.3g} bits per character of the reference{ratio}"
    moved = f"; S moves by {d[c] - d[0]:+.2f}" if np.isfinite(d[c] - d[0]) else ""
    levelled = ", the reference's rises" if reference[c] > reference[0] else ""
    if not damage[0] > 0:
        return f"K has nothing to fall from{moved}"
    return f"K changes by {damage[c] / damage[0] - 1:+.1%}{levelled}{moved}"
