"""The causal contrast of T-008, and the controls that could make it worthless.

================  ======================================================  ==========================
random            fresh weights as the class draws them                   no contrast
English           the language of little morphology, alone                no contrast
agreement broken  one block of the window pushed towards the wrong form,  the contrast must show
                  in agreement of morphologically rich languages only
================  ======================================================  ==========================

Margins are (1+L x 2 x A x m) in nats: full precision, then each block alone rounded; agreement,
then lexical; languages; items. Pure numpy but for :func:`measure_damage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.protocol.controls import absent, clear, detection, not_run
from bitgap.languages import language
from bitgap.quant.plan import Plan
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import Statistic, bootstrap_weights, estimates
from bitgap.stats.profiles import depths, in_window
from bitgap.stats.verdicts import Thresholds, load_thresholds

if TYPE_CHECKING:
    from bitgap.experiments.t008_morphology.matched_pairs import Items
    from bitgap.lab.lab import Lab


def window_of(n_blocks: int, window: tuple[float, float]) -> Bools:
    """Returns which blocks lie in the window, (L)."""
    return in_window(depths(n_blocks), window)


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


def contrast_estimates(
    margin: Floats, rich: Bools, thresholds: Thresholds
) -> tuple[Estimate, Estimate]:
    """Returns θ in nats and d_z, with intervals over items."""
    inside = window_of(len(margin) - 1, thresholds.window)
    statistic = group_contrast(inside_less_outside(margin, inside), rich)
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    theta, size = estimates(statistic, margin.shape[-1], unit="nats of margin", **how)
    method = size.method.replace("sentences", "items")
    return (
        replace(theta, method=method),
        replace(size, method=method, unit="standard deviations of items"),
    )


def contrast_p(margin: Floats, rich: Bools, thresholds: Thresholds) -> float:
    """Returns the share of draws whose θ is not above 0 (Phipson & Smyth)."""
    inside = window_of(len(margin) - 1, thresholds.window)
    statistic = group_contrast(inside_less_outside(margin, inside), rich)
    draws = statistic(bootstrap_weights(margin.shape[-1], thresholds.draws, 0))[:, 0]
    return (1 + int((~(draws > 0)).sum())) / (1 + thresholds.draws)


def measure_damage(
    lab: Lab, twin: Lab, scheme: str, items: Items, params: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns margins of all items with every block alone rounded, and of a few for the controls.

    Args:
        lab: Model and tokenizer.
        twin: The random-init twin.
        scheme: How blocks are rounded.
        items: Matched items.
        params: Of T-008.

    Returns:
        Arrays: ``margin``; on the first few items (k) ``random_margin``; of agreement in rich
        languages ``broken_margin`` (P x A' x k) with ``broken_block`` (P). Empty where there are
        no items. Facts: ``no_broken``.
    """
    from bitgap.experiments.t008_morphology.lens import margins

    if not items.n_items:
        return {}, {}
    few, plans = items.first(params.control_items), one_block_plans(scheme, lab.n_blocks)
    arrays: dict[str, Any] = {
        "margin": items.by_item(margins(lab, items.pairs, plans)),
        "random_margin": few.by_item(margins(twin, few.pairs, plans)),
    }
    try:
        return arrays | _broken(lab, scheme, few, params), {}
    except UnsupportedArchitecture as error:
        return arrays, {"no_broken": str(error)}


def one_block_plans(scheme: str, n_blocks: int) -> list[Plan]:
    """Returns full precision, then each block alone rounded."""
    alone = (Plan.uniform(scheme, n_blocks, set(range(n_blocks)) - {j}) for j in range(n_blocks))
    return [Plan.uniform("fp", n_blocks), *alone]


def _broken(lab: Lab, scheme: str, few: Items, params: Any) -> dict[str, Any]:
    """Returns margins of agreement in rich languages, pushed towards the wrong at window blocks."""
    from bitgap.experiments.t008_morphology.lens import pushed_margins

    inside = np.flatnonzero(window_of(lab.n_blocks, load_thresholds().window))
    rich = rich_flags(few.languages)
    kind, row, _ = np.unravel_index(few.owner, (2, len(rich), few.n_items))
    mine = np.flatnonzero((kind == 0) & rich[row])
    if not len(inside) or not len(mine):
        return {}
    blocks = inside[np.arange(params.planted_seeds) % len(inside)]
    every = np.zeros((len(blocks), few.pairs.n_pairs))
    every[:, mine] = pushed_margins(
        lab, few.pairs.select(mine), scheme, blocks.tolist(), params.planted_push
    )
    return {"broken_margin": few.by_item(every)[:, 0, rich], "broken_block": blocks}


def rich_flags(languages: Sequence[str]) -> Bools:
    """Returns which languages are morphologically rich, (A)."""
    return np.array([language(code).morphologically_rich for code in languages], dtype=bool)


def causal_controls(observations: Observations, thresholds: Thresholds) -> list[Control]:
    """Returns the controls of the causal part."""
    arrays, facts = observations.arrays, observations.facts
    rich = np.array(facts["item_rich"], dtype=bool)
    names = ("random-init twin, rounded", "English alone", "agreement broken in one window block")
    kinds: tuple[Any, ...] = ("negative", "negative", "positive")
    if "random_margin" not in arrays or not window_of(facts["n_blocks"], thresholds.window).any():
        why = "no language has enough minimal pairs, or no block lies in the window"
        return [not_run(name, kind, why) for name, kind in zip(names, kinds, strict=True)]
    d_z = thresholds.of("H3.2")["d_z"]
    _, twin = contrast_estimates(arrays["random_margin"], rich, thresholds)
    return [
        Control(
            name=names[0],
            kind="negative",
            passed=not clear(twin, d_z),
            detail="an untrained twin knows no agreement and should show no contrast",
            estimate=twin,
        ),
        _english(names[1], arrays["margin"], facts["item_languages"], thresholds),
        _agreement_broken(names[2], observations, rich, thresholds),
    ]


def _english(
    name: str, margin: Floats, languages: Sequence[str], thresholds: Thresholds
) -> Control:
    if "en" not in languages:
        return not_run(name, "negative", "there are no minimal pairs of English")
    row = languages.index("en")
    alone = np.zeros(1, dtype=bool)
    _, found = contrast_estimates(margin[:, :, row : row + 1], alone, thresholds)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, thresholds.of("H3.2")["d_z"]),
        detail="English has little morphology to consolidate and should lose no more in the window",
        estimate=found,
    )


def _agreement_broken(
    name: str, observations: Observations, rich: Bools, thresholds: Thresholds
) -> Control:
    arrays = observations.arrays
    if "broken_margin" not in arrays:
        return not_run(name, "positive", absent(observations.facts, "broken"))
    few = arrays["broken_margin"].shape[-1]
    inside = window_of(len(arrays["margin"]) - 1, thresholds.window)
    found = []
    for block, broken in zip(arrays["broken_block"], arrays["broken_margin"], strict=True):
        if not inside[block]:
            continue
        margin = arrays["margin"][..., :few].copy()
        margin[1 + block, 0, rich] = broken
        _, size = contrast_estimates(margin, rich, thresholds)
        found.append(clear(size, thresholds.of("H3.2")["d_z"]))
    return detection(name, found, "the contrast should pass", thresholds)
