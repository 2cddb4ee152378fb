"""The controls that could make the link of T-003 worthless.

================  ==================================================  ============================
labels            languages permuted within every sentence            must covary less with benefit
same script       the reference's closest relative in its own script  must differ less than others
equal tokens      no more tokens of a sentence than any language has  must agree
random            fresh weights as the class draws them               must not show the link
halves            even and odd sentences of the reference             must not differ
local errors      ΔW that one language's inputs feel most (P2)        that block must rank first
================  ==================================================  ============================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    clear,
    covers_zero,
    detection,
    must_agree,
    must_not_show,
    not_run,
)
from bitgap.experiments.t003_language_distribution.statistic import (
    bias_profile,
    block_errors,
    log2_ratios,
)
from bitgap.lab.local_errors import local_bias, local_errors
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import estimate, percentile_estimate
from bitgap.stats.profiles import ProfileCorrelation, correlate_profiles, detrend
from bitgap.stats.variance_components import permuted_within_sentence
from bitgap.stats.verdicts import Thresholds

PERMUTATIONS = 200
"""Permutations of labels: p of one in twenty is then known to some .015."""


def controls(
    observations: Observations,
    benefit: Floats,
    link: ProfileCorrelation,
    counts: Bools,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-003.

    Args:
        observations: As T-003 measures them.
        benefit: φ_l, (L).
        link: θ.
        counts: Languages that count, (A).
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    row, sesoi = facts["languages"].index(facts["reference"]), thresholds.of("H1.3")["sesoi"]

    def again(prefix: str) -> Estimate:
        bias = bias_profile(arrays, prefix, counts, row)
        return correlate_profiles(bias, benefit, thresholds.level).estimate

    return [
        _permuted(arrays, benefit, clear(link.estimate, sesoi), counts, row, thresholds),
        _same_script(arrays, facts, row, thresholds),
        must_agree(
            "equal tokens of every language",
            again("linear_few_"),
            link.estimate,
            sesoi,
            "the link should be there exactly where it is on all tokens, or it is a matter of how "
            "many tokens a language needs",
        ),
        must_not_show(
            RANDOM_TWIN,
            again("random_"),
            sesoi,
            "errors at an untrained twin's linears should not show the link, or it is a matter of "
            "token frequencies alone",
        ),
        _halves(arrays, row, thresholds),
        _planted(arrays, facts, thresholds),
    ]


def _permuted(
    arrays: Mapping[str, Floats],
    benefit: Floats,
    linked: bool,
    counts: Bools,
    row: int,
    thresholds: Thresholds,
) -> Control:
    """Permutes labels; a correlation ignores how small B gets, so covariances are compared."""
    name, counted = "language labels permuted within sentence", counts.copy()
    counted[row] = True
    reference, block = int(counted[:row].sum()), arrays["linear_block"].astype(np.int64)
    sums = np.stack([arrays[f"linear_{what}"][:, counted] for what in ("error", "output")])
    rng, ones = np.random.default_rng(0), np.ones((1, sums.shape[-1]))
    tables = [sums, *(permuted_within_sentence(sums, rng) for _ in range(PERMUTATIONS))]
    every = np.ones(sums.shape[2], dtype=bool)
    bias = np.stack(
        [local_bias(local_errors(t[0], t[1], block, ones), every, reference)[0] for t in tables]
    )
    if not (np.isfinite(bias).all() and np.isfinite(benefit).all()):
        return not_run(name, "negative", "some error has no logarithm, or the benefit no value")
    covariance = detrend(bias) @ detrend(benefit)
    # Permutations that change nothing but the last digit are ties.
    slack = 1e-9 * np.abs(covariance).max()
    p = (covariance >= covariance[0] - slack).mean()
    means = bias[1:].mean(1)
    central = percentile_estimate(
        means.mean(), means, unit="log2 ratio", level=thresholds.level, n=PERMUTATIONS,
        method="central range of permutations",
    )  # fmt: skip
    assert central.low is not None and central.high is not None
    return Control(
        name=name,
        kind="negative",
        passed=bool(central.low <= 0 <= central.high and (not linked or p <= thresholds.alpha)),
        detail=f"B should then be 0 on average, and a link that is found should covary with the "
        f"benefit more than {1 - thresholds.alpha:.0%} of permutations do: p = {p:.3f}",
        estimate=central,
    )


def closest_relative(kin: Sequence[Mapping[str, str]], row: int) -> int | None:
    """Returns the language most like the reference among those in its script, or None.

    Declared beforehand: of the same genus if there is one, else of the same family, else the first.
    """
    own = kin[row]
    same = [i for i, k in enumerate(kin) if i != row and k["script"] == own["script"]]
    shared = [(kin[i]["genus"] == own["genus"], kin[i]["family"] == own["family"]) for i in same]
    return same[max(range(len(same)), key=lambda i: (shared[i], -i))] if same else None


def _same_script(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], row: int, thresholds: Thresholds
) -> Control:
    name, kin = "closest language of the same script", facts["kin"]
    relative = closest_relative(kin, row)
    others = [i for i, k in enumerate(kin) if k["script"] != kin[row]["script"]]
    if relative is None or not others:
        return not_run(name, "negative", "no language in the reference's script and one in another")
    errors, n = block_errors(arrays), arrays["linear_error"].shape[-1]

    def nearer(weights: Floats) -> Floats:
        apart = np.abs(log2_ratios(errors(weights), row)).mean(1)
        return apart[:, others].mean(1) - apart[:, relative]

    unit = "mean |log2 ratio|, others' less its own"
    difference = estimate(nearer, n, unit=unit, **thresholds.how)
    return Control(
        name=name,
        kind="negative",
        passed=difference.value is not None and difference.value > 0,
        detail=f"{facts['languages'][relative]} should differ less than languages of other scripts "
        "do",
        estimate=difference,
    )


def _halves(arrays: Mapping[str, Floats], row: int, thresholds: Thresholds) -> Control:
    name, n = "A/A: two halves of the reference's text", arrays["linear_error"].shape[-1]
    if n < 4:
        return not_run(name, "negative", f"{n} sentences make no two halves")
    error, output = (arrays[f"linear_{w}"][:, row : row + 1] for w in ("error", "output"))
    even = np.arange(int(n)) % 2 == 0
    block = arrays["linear_block"].astype(np.int64)

    def difference(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = (
                np.log2(local_errors(error[..., h], output[..., h], block, weights[:, h]))
                for h in (even, ~even)
            )
            return (one - other).mean((1, 2))

    apart = estimate(difference, n, unit="mean log2 ratio", **thresholds.how)
    return covers_zero(name, apart, "the log2 ratio of their errors should cover 0")


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P2: an error that one language's inputs feel most"
    if "planted_e" not in arrays:
        return not_run(name, "positive", absent(facts, "planted"))
    plain, kl = arrays["plain_e"], arrays["plain_kl"]
    detected = list[bool]()
    for block, row, e, planted in zip(
        arrays["planted_block"].astype(int), arrays["planted_row"].astype(int),
        arrays["planted_e"], arrays["planted_kl"], strict=True,
    ):  # fmt: skip
        bias = np.log2(plain[:, row] / plain[:, 0])
        bias[block] = np.log2(e[1] / e[0])

        def rise(weights: Floats, planted: Floats = planted, row: int = row) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log2(np.stack([planted, kl]) @ weights.T)  # (2 x A' x W)
                return logs[0, row] - logs[0, 0] - (logs[1, row] - logs[1, 0])

        change = estimate(rise, kl.shape[-1], unit="log2 ratio", **thresholds.how)
        rose = change.low is not None and change.low > 0
        detected.append(bool(bias.argmax() == block and rose))
    return detection(name, detected, "B should rank that block first and D rise", thresholds)
