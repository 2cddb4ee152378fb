"""The causal contrast of T-008, and the controls that could make it worthless.

================  ======================================================  ==========================
random            fresh weights as the class draws them                   no contrast
English           the language of little morphology, alone                no contrast
agreement broken  one block of the window pushed towards the wrong form,  the contrast must show
                  in agreement of morphologically rich languages only
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
    return np.array([language(code).morphologically_rich for code in languages], dtype=bool)


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
    arrays = observations.arrays
    if "broken_margin" not in arrays:
        return not_run(name, "positive", absent(observations.facts, "broken"))
    few = arrays["broken_margin"].shape[-1]
    inside = window_of(len(arrays["margin"]) - 1, thresholds.window)
    detected = list[bool]()
    for block, broken in zip(arrays["broken_block"], arrays["broken_margin"], strict=True):
        if not inside[block]:
            continue
        margin = arrays["margin"][..., :few].copy()
        margin[1 + block, 0, rich] = broken
        _, size = contrast_estimates(margin, rich, thresholds)
        detected.append(clear(size, thresholds.of("H3.2")["d_z"]))
    return detection(name, detected, "the contrast should pass", thresholds)
