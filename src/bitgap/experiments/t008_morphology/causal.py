"""The causal contrast of T-008, and the controls that could make it worthless.

================  ======================================================  ==========================
random            fresh weights as the class draws them                   no contrast
English           the language of little morphology, alone                no contrast
agreement broken  one block of the window pushed towards the wrong form,  the contrast must show
                  in agreement of morphologically rich languages only,
                  scaled to a d_z of twice the SESOI
================  ======================================================  ==========================

Margins are (1+L x 2 x A x m) in nats: full precision, then each block alone rounded; agreement,
then lexical; languages; items. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitgap.experiments.protocol.controls import (
    absent,
    clear,
    detection,
    must_not_show,
    not_run,
)
from bitgap.languages import language
from bitgap.records import Bools, Control, ControlKind, Estimate, Floats, Observations
from bitgap.stats.bootstrap import Statistic, bootstrap_p, bootstrap_weights, estimates
from bitgap.stats.profiles import depths, in_window
from bitgap.stats.verdicts import Thresholds

SPREAD = "standard deviations of items"
"""Unit of d_z."""
_LARGEST_SCALE, _HALVINGS = 64.0, 20
_CONTROLS: dict[str, ControlKind] = {
    "random-init twin, rounded": "negative",
    "English alone": "negative",
    "agreement broken in one window block": "positive",
}


def window_of(n_blocks: int, window: tuple[float, float]) -> Bools:
    """Returns which blocks lie in the window, (L)."""
    return in_window(depths(n_blocks), window)


def rich_flags(languages: Sequence[str]) -> Bools:
    """Returns which languages are morphologically rich, (A)."""
    return np.array([language(code).morphologically_rich is True for code in languages])


def extra_losses(margin: Floats) -> Floats:
    """Returns how much more margin agreement loses than its lexical match, in nats, (L x A x m).

    Args:
        margin: (1+L x 2 x A x m), full precision first.
    """
    lost = margin[:1] - margin[1:]
    return lost[:, 0] - lost[:, 1]


def inside_less_outside(margin: Floats, inside: Bools) -> Floats:
    """Returns the mean extra loss over blocks inside less that over blocks outside, (A x m)."""
    extra = extra_losses(margin)
    return extra[inside].mean(0) - extra[~inside].mean(0)


def group_contrast(values: Floats, rich: Bools) -> Statistic:
    """Returns weights of items -> (W x 2): θ in nats, and θ over the items' own spread, d_z.

    θ is the mean over morphologically rich languages less that over the others; where all are of
    one kind, the mean itself. The spread is the standard deviation over items within a language,
    pooled; languages differ as they may.

    Args:
        values: One number an item, (A x m).
        rich: Which languages are rich, (A).
    """
    m = values.shape[1]
    sign = np.where(rich, 1 / max(rich.sum(), 1), -1 / max((~rich).sum(), 1))
    sign = np.abs(sign) if rich.all() or not rich.any() else sign

    def statistic(weights: Floats) -> Floats:
        total = weights.sum(1, keepdims=True)
        means = weights @ values.T / total
        squares = weights @ (values**2).T / total
        pooled = np.clip(squares - means**2, 0, None).mean(1) * m / max(m - 1, 1)
        theta = means @ sign
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([theta, np.where(pooled > 0, theta / np.sqrt(pooled), np.nan)], 1)

    return statistic


def _contrast(margin: Floats, rich: Bools, thresholds: Thresholds) -> Statistic:
    inside = window_of(len(margin) - 1, thresholds.window)
    return group_contrast(inside_less_outside(margin, inside), rich)


def contrast_estimates(
    margin: Floats, rich: Bools, thresholds: Thresholds
) -> tuple[Estimate, Estimate]:
    """Returns θ in nats and d_z, with intervals over items."""
    statistic = _contrast(margin, rich, thresholds)
    theta, size = estimates(statistic, margin.shape[-1], unit="nats of margin", **thresholds.how)
    method = size.method.replace("sentences", "items")
    return replace(theta, method=method), replace(size, method=method, unit=SPREAD)


def contrast_p(margin: Floats, rich: Bools, thresholds: Thresholds) -> float:
    """Returns the share of draws whose θ is not above 0 (Phipson & Smyth)."""
    weights = bootstrap_weights(margin.shape[-1], thresholds.draws, 0)
    return bootstrap_p(_contrast(margin, rich, thresholds)(weights)[:, 0])


def equivalence_p(margin: Floats, rich: Bools, thresholds: Thresholds) -> float:
    """Returns the share of draws whose d_z is the smallest of interest or more, and one of them."""
    weights = bootstrap_weights(margin.shape[-1], thresholds.draws, 0)
    drawn = _contrast(margin, rich, thresholds)(weights)[:, 1]
    return bootstrap_p(thresholds.of("H3.2")["d_z"] - drawn)


def without_each_block(margin: Floats, rich: Bools, thresholds: Thresholds) -> dict[str, Estimate]:
    """Returns d_z with one block left out, by ``without block 0`` and so on.

    A block without which the window has none, or none is outside, is not left out.
    """
    inside, left_out = window_of(len(margin) - 1, thresholds.window), dict[str, Estimate]()
    for block in range(len(inside)):
        kept = np.delete(np.arange(len(inside)), block)
        if not inside[kept].any() or inside[kept].all():
            continue
        values = inside_less_outside(margin[np.append(0, kept + 1)], inside[kept])
        _, left_out[f"without block {block}"] = estimates(
            group_contrast(values, rich), margin.shape[-1], unit=SPREAD, **thresholds.how
        )
    return left_out


def causal_controls(observations: Observations, thresholds: Thresholds) -> list[Control]:
    """Returns the controls of the causal part."""
    arrays, facts = observations.arrays, observations.facts
    if "random_margin" not in arrays or not window_of(facts["n_blocks"], thresholds.window).any():
        why = "no language has enough minimal pairs, or no block lies in the window"
        return [not_run(name, kind, why) for name, kind in _CONTROLS.items()]
    rich, d_z = np.array(facts["item_rich"], dtype=bool), thresholds.of("H3.2")["d_z"]
    untrained, english, broken = _CONTROLS
    _, twin = contrast_estimates(arrays["random_margin"], rich, thresholds)
    detail = "an untrained twin knows no agreement and should show no contrast"
    return [
        must_not_show(untrained, twin, d_z, detail),
        _english(english, arrays["margin"], facts["item_languages"], thresholds),
        _agreement_broken(broken, observations, rich, thresholds),
    ]


def _english(
    name: str, margin: Floats, languages: Sequence[str], thresholds: Thresholds
) -> Control:
    if "en" not in languages:
        return not_run(name, "negative", "there are no minimal pairs of English")
    row = languages.index("en")
    _, alone = contrast_estimates(margin[:, :, row : row + 1], np.zeros(1, dtype=bool), thresholds)
    detail = "English has little morphology to consolidate and should lose no more in the window"
    return must_not_show(name, alone, thresholds.of("H3.2")["d_z"], detail)


def _agreement_broken(
    name: str, observations: Observations, rich: Bools, thresholds: Thresholds
) -> Control:
    """Returns whether a contrast of twice the SESOI is found, planted where there is none.

    What every item has in the window beyond the rest is set to 0 on average, language by language,
    which leaves its scatter; what broken agreement loses is added, scaled until d_z is twice the
    SESOI; and items are drawn again for each planting.
    """
    arrays = observations.arrays
    if "broken_margin" not in arrays:
        return not_run(name, "positive", absent(observations.facts, "broken"))
    few = arrays["broken_margin"].shape[-1]
    inside = window_of(len(arrays["margin"]) - 1, thresholds.window)
    sesoi = float(thresholds.of("H3.2")["d_z"])
    own = inside_less_outside(arrays["margin"][..., :few], inside)
    nothing = own - own.mean(1, keepdims=True)
    pushes = [
        (arrays["margin"][1 + block, 0, rich, :few] - broken) / inside.sum()
        for block, broken in zip(arrays["broken_block"], arrays["broken_margin"], strict=True)
        if inside[block]
    ]
    detected = list[bool]()
    for k in range(observations.facts["params"]["plantings"] if pushes else 0):
        planted = planted_contrast(
            nothing, pushes[k % len(pushes)], rich, thresholds.planted_strength * sesoi
        )
        drawn = np.random.default_rng(k).integers(0, few, few)
        statistic = group_contrast(planted[:, drawn], rich)
        _, size = estimates(statistic, few, unit=SPREAD, **thresholds.how)
        detected.append(clear(size, sesoi))
    sought = f"a contrast of d_z = {thresholds.planted_strength * sesoi:g} should pass"
    return detection(name, detected, sought, thresholds)


def planted_contrast(nothing: Floats, push: Floats, rich: Bools, d_z: float) -> Floats:
    """Returns values in which rich languages have lost so much more that the contrast is d_z.

    Args:
        nothing: One number an item, mean 0 in each language, (A x m).
        push: What rich languages lose by broken agreement, (A' x m); it is scaled.
        rich: Which languages are rich, (A).
        d_z: The contrast that is wanted; where no scale gives it, the largest scale is taken.
    """

    def at(scale: float) -> Floats:
        planted = nothing.copy()
        planted[rich] += scale * push
        return planted

    def size(scale: float) -> float:
        return float(group_contrast(at(scale), rich)(np.ones((1, nothing.shape[1])))[0, 1])

    low, high = 0.0, 1.0
    while size(high) < d_z and high < _LARGEST_SCALE:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) < d_z else (low, middle)
    return at(high)
