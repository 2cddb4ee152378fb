"""The two contrasts of T-004, and the controls that could make them worthless.

=============  ====================================================  ===========================
early blocks   blocks 1 and 2 in the place of block 0                must gain less than block 0
matched        Gaussian ΔW of each block's own rounding error        must agree with rounding
random         fresh weights as the class draws them                 must show no contrast
cancelling     ±δ in the rounded first and last block (P3)           both contrasts must show
=============  ====================================================  ===========================

Contrasts are functions from bootstrap weights (W x N) to (W x J), one column for each block j, less
the mean of the other columns. Pure numpy but for :func:`measure_controls`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import Bools
from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.controls import PLANTED_LANGUAGES, absent, clear, detection, not_run
from bitgap.quant.plan import Plan
from bitgap.records import Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import Statistic, estimates
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab


def scored_sets(n_blocks: int, others: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns the protected sets that θ2 needs: ∅, {last}, every {j}, every {j, last}."""
    last = n_blocks - 1
    return [(), (last,), *((j,) for j in others), *((j, last) for j in others)]


def masks(scheme: str, n_blocks: int, others: Sequence[int]) -> list[Plan]:
    """Returns the plans that θ1 needs: {last}, then every {j, last}."""
    last = n_blocks - 1
    return [
        Plan.uniform(scheme, n_blocks, kept) for kept in [(last,), *((j, last) for j in others)]
    ]


# -- contrasts ------------------------------------------------------------------------------------


def snr_contrast(error: Floats, tokens: Floats) -> Statistic:
    """Returns weights -> (W x J) dB: ΔSNR_j less the mean ΔSNR of the others.

    States are standardised, so signal power is 1 per dimension and SNR = −10 log10 of the mean
    squared error; ΔSNR_j = SNR({j, last}) − SNR({last}).

    Args:
        error: Squared standardised error summed over tokens, (1+J x A x N), {last} first.
        tokens: How many, (A x N).
    """
    sums, counts = error.sum(1), tokens.sum(0)

    def contrast(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = -10 * np.log10((weights @ sums.T) / (weights @ counts)[:, None])
            return _against_others(snr[:, 1:] - snr[:, :1])

    return contrast


def interaction_contrast(kl: Floats, n_others: int) -> Statistic:
    """Returns weights -> (W x J): (I_j − mean of the other I)/K(∅), K averaged over languages.

    Args:
        kl: Damage of :func:`scored_sets`, (2+2J x A x N).
        n_others: J.
    """
    sums = kl.mean(1)

    def contrast(weights: Floats) -> Floats:
        k = weights @ sums.T
        none, only_last = k[:, :1], k[:, 1:2]
        alone, both = k[:, 2 : 2 + n_others], k[:, 2 + n_others :]
        with np.errstate(divide="ignore", invalid="ignore"):
            return _against_others(((alone - both) - (none - only_last)) / none)

    return contrast


def _against_others(values: Floats) -> Floats:
    n = values.shape[1]
    return (values - values.mean(1, keepdims=True)) * n / (n - 1)


# -- measurement ----------------------------------------------------------------------------------


def measure_controls(
    lab: Lab, scheme: str, *, n_sentences: int, n_plantings: int, strength: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what the controls show on a few sentences, and why one is absent.

    Returns:
        Arrays: for ``random`` and ``matched`` the last block's ``<name>_error`` (L x A x N) and
        ``<name>_tokens`` (A x N), masks as in T-004; for S plantings of P3, with block 0 and two
        others as j, ``cancelling_error`` (S x 4 x A' x N), ``cancelling_tokens`` (A' x N) and
        ``cancelling_kl`` (S x 8 x A' x N), on the first three languages. Facts: ``no_<name>``.
    """
    from bitgap.models.gauge import loaded_with, random_twin

    few = lab.first(n_sentences)
    n = lab.n_blocks
    plans = masks(scheme, n, range(n - 1))
    arrays: dict[str, Any] = {}
    facts: dict[str, str] = {}
    untrained = random_twin(lab.decoder.model, lab.settings.seed)
    twin = few.twin(loaded_with(lab.loaded, untrained, "random"))
    arrays |= _last_errors(twin, plans, "random")
    arrays |= _last_errors(few, _matched(few, scheme), "matched")
    try:
        arrays |= _cancelling(few, scheme, n_plantings, strength)
    except UnsupportedArchitecture as error:
        facts["no_cancelling"] = str(error)
    return arrays, facts


def _last_errors(lab: Lab, plans: Sequence[Plan], name: str) -> dict[str, Floats]:
    from bitgap.lab.propagation import state_errors

    found = state_errors(lab, plans)
    return {f"{name}_error": found["error"][:, -2], f"{name}_tokens": found["tokens"][-2]}


def _matched(lab: Lab, scheme: str) -> list[Plan]:
    """Returns the masks with noise of each block's own relative error in the place of rounding."""
    from bitgap.lab.weights import relative_errors

    sizes = np.sqrt(relative_errors(lab.decoder, scheme))
    noise = [f"noise{size:.4f}-s{lab.settings.seed}" for size in sizes]
    return [
        Plan(tuple("fp" if s == "fp" else noise[i] for i, s in enumerate(plan.blocks)))
        for plan in masks(scheme, lab.n_blocks, range(lab.n_blocks - 1))
    ]


def _cancelling(few: Lab, scheme: str, n_plantings: int, strength: float) -> dict[str, Floats]:
    from bitgap.experiments.cancellation import cancelling_plan, plant_cancellation

    part = few.on(languages=few.languages[:PLANTED_LANGUAGES])
    n = part.n_blocks
    # Two blocks spread over the inside stand for all others.
    others = [0, (n - 1) // 3, 2 * (n - 1) // 3]
    found: dict[str, list[Floats]] = {"kl": [], "error": []}
    tokens = np.zeros(part.text.counts.tokens.shape)
    for s in range(n_plantings):
        variant = plant_cancellation(part, scheme, strength=strength, seed=part.settings.seed + s)

        def plan(kept: tuple[int, ...], variant: str = variant) -> Plan:
            return cancelling_plan(scheme, variant, n, kept)

        sets = scored_sets(n, others)
        scored = [plan(kept) for kept in sets]
        scores = part.score(scored, "controls")
        found["kl"].append(scores.select(plans=[p.text for p in scored]).kl_nats)
        errors = _last_errors(part, [plan((n - 1,)), *(plan((j, n - 1)) for j in others)], "x")
        found["error"].append(errors["x_error"])
        tokens = errors["x_tokens"]
        part.bank.drop(variant)
    stacked = {f"cancelling_{name}": np.array(values) for name, values in found.items()}
    return stacked | {"cancelling_tokens": tokens}


# -- judgement ------------------------------------------------------------------------------------


def controls(
    observations: Observations,
    snr: Statistic,
    theta1: Estimate,
    shown: Bools,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-004.

    Args:
        observations: With the arrays of :func:`measure_controls`.
        snr: The contrast θ1 comes from.
        theta1: Its estimate for block 0.
        shown: Languages θ1 is summed over, (A).
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level, "unit": "dB"}
    n = arrays["masks_kl"].shape[-1]
    rival = estimates(lambda w: snr(w)[:, :1] - snr(w)[:, 1:3].max(1, keepdims=True), n, **how)[0]
    early = Control(
        name="early-interior blocks",
        kind="negative",
        passed=rival.low is not None and rival.low > 0,
        detail="block 0 should gain more than blocks 1 and 2, or it is depth and not a gateway",
        estimate=rival,
    )
    sesoi = thresholds.of("H2.1")["sesoi"]
    return [
        early,
        _matched_control(arrays, facts, theta1, shown, sesoi, how),
        _random_control(arrays, facts, shown, sesoi, how),
        _planted(arrays, facts, thresholds),
    ]


def _contrast_of(
    arrays: Mapping[str, Floats], name: str, shown: Bools, how: Mapping[str, Any]
) -> Estimate:
    contrast = snr_contrast(arrays[f"{name}_error"][:, shown], arrays[f"{name}_tokens"][shown])
    n = arrays[f"{name}_error"].shape[-1]
    return estimates(lambda w: contrast(w)[:, :1], n, **how)[0]


def _matched_control(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    theta1: Estimate,
    shown: Bools,
    sesoi: float,
    how: Mapping[str, Any],
) -> Control:
    name = "Gaussian noise of each block's rounding error"
    if "matched_error" not in arrays:
        return not_run(name, "negative", absent(facts, "matched"))
    found = _contrast_of(arrays, "matched", shown, how)
    return Control(
        name=name,
        kind="negative",
        passed=clear(found, sesoi) == clear(theta1, sesoi),
        detail="the contrast should be there under noise of the same size exactly where it is "
        "there under rounding, or it is a matter of how errors lie and not of where",
        estimate=found,
    )


def _random_control(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    shown: Bools,
    sesoi: float,
    how: Mapping[str, Any],
) -> Control:
    name = "random-init twin"
    if "random_error" not in arrays:
        return not_run(name, "negative", absent(facts, "random"))
    found = _contrast_of(arrays, "random", shown, how)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, sesoi),
        detail="an untrained twin should show no contrast of block 0",
        estimate=found,
    )


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_kl" not in arrays:
        return not_run(name, "positive", absent(facts, "cancelling"))
    declared, tokens = thresholds.of("H2.1"), arrays["cancelling_tokens"]
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level, "unit": "contrast"}
    found = []
    for kl, error in zip(arrays["cancelling_kl"], arrays["cancelling_error"], strict=True):
        contrasts = (
            (snr_contrast(error, tokens), declared["sesoi"]),
            (interaction_contrast(kl, len(error) - 1), declared["sesoi_interaction"]),
        )
        found.append(
            all(
                clear(estimates(lambda w, c=c: c(w)[:, :1], kl.shape[-1], **how)[0], sesoi)
                for c, sesoi in contrasts
            )
        )
    return detection(name, found, "both contrasts should pass", thresholds)
