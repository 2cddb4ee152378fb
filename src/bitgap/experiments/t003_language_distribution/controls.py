"""The errors of T-003 by language, and the controls that could make their link worthless.

================  ==================================================  ============================
labels            languages permuted within every sentence            must covary less with benefit
same script       the reference's closest relative in its own script  must differ less than others
equal tokens      no more tokens of a sentence than any language has  must agree
random            fresh weights as the class draws them               must not show the link
halves            even and odd sentences of the reference             must not differ
local errors      ΔW that one language's inputs feel most (P2)        that block must rank first
================  ==================================================  ============================

Pure numpy but for :func:`measure_controls`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    absent,
    clear,
    covers_zero,
    detection,
    not_run,
)
from bitgap.experiments.t003_language_distribution.statistic import bias_profile
from bitgap.lab.local_errors import local_bias, local_errors
from bitgap.records import Bools, Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import estimate
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

    equal, untrained = again("linear_few_"), again("random_")
    return [
        _permuted(arrays, benefit, clear(link.estimate, sesoi), counts, row, thresholds),
        _same_script(arrays, facts, row, thresholds),
        Control(
            name="equal tokens of every language",
            kind="negative",
            passed=clear(equal, sesoi) == clear(link.estimate, sesoi),
            detail="the link should be there exactly where it is on all tokens, or it is a matter "
            "of how many tokens a language needs",
            estimate=equal,
        ),
        Control(
            name="random-init twin",
            kind="negative",
            passed=not clear(untrained, sesoi),
            detail="errors at an untrained twin's linears should not show the link, or it is a "
            "matter of token frequencies alone",
            estimate=untrained,
        ),
        _halves(arrays, row, thresholds),
        _planted(arrays, facts, thresholds),
    ]


def _permuted(
    arrays: Mapping[str, Floats],
    benefit: Floats,
    found: bool,
    counts: Bools,
    row: int,
    thresholds: Thresholds,
) -> Control:
    """Permutes labels; a correlation ignores how small B gets, so covariances are compared."""
    name, counted = "language labels permuted within sentence", counts.copy()
    counted[row] = True
    mine, block = int(counted[:row].sum()), arrays["linear_block"].astype(np.int64)
    sums = np.stack([arrays[f"linear_{what}"][:, counted] for what in ("error", "output")])
    rng, ones = np.random.default_rng(0), np.ones((1, sums.shape[-1]))
    tables = [sums, *(permuted_within_sentence(sums, rng) for _ in range(PERMUTATIONS))]
    every = np.ones(sums.shape[2], dtype=bool)
    bias = np.stack(
        [local_bias(local_errors(t[0], t[1], block, ones), every, mine)[0] for t in tables]
    )
    if not (np.isfinite(bias).all() and np.isfinite(benefit).all()):
        return not_run(name, "negative", "some error has no logarithm, or the benefit no value")
    covariance = detrend(bias) @ detrend(benefit)
    # Permutations that change nothing but the last digit are ties.
    slack = 1e-9 * np.abs(covariance).max()
    p = (covariance >= covariance[0] - slack).mean()
    means = bias[1:].mean(1)
    low, high = np.quantile(means, [(1 - thresholds.level) / 2, (1 + thresholds.level) / 2])
    return Control(
        name=name,
        kind="negative",
        passed=bool(low <= 0 <= high and (not found or p <= thresholds.alpha)),
        detail=f"B should then be 0 on average, and a link that is found should covary with the "
        f"benefit more than {1 - thresholds.alpha:.0%} of permutations do: p = {p:.3f}",
        estimate=Estimate(
            value=float(means.mean()), low=float(low), high=float(high), unit="log2 ratio",
            level=thresholds.level, n=PERMUTATIONS, method="central range of permutations",
        ),
    )  # fmt: skip


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
    mine = closest_relative(kin, row)
    others = [i for i, k in enumerate(kin) if k["script"] != kin[row]["script"]]
    if mine is None or not others:
        return not_run(name, "negative", "no language in the reference's script and one in another")
    error, output = arrays["linear_error"], arrays["linear_output"]
    block = arrays["linear_block"].astype(np.int64)

    def nearer(weights: Floats) -> Floats:
        errors = local_errors(error, output, block, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.abs(np.log2(errors) - np.log2(errors[..., row : row + 1])).mean(1)
        return apart[:, others].mean(1) - apart[:, mine]

    found = estimate(
        nearer, error.shape[-1], unit="mean |log2 ratio|, others' less its own", seed=0,
        draws=thresholds.draws, level=thresholds.level,
    )  # fmt: skip
    return Control(
        name=name,
        kind="negative",
        passed=found.value is not None and found.value > 0,
        detail=f"{facts['languages'][mine]} should differ less than languages of other scripts do",
        estimate=found,
    )


def _halves(arrays: Mapping[str, Floats], row: int, thresholds: Thresholds) -> Control:
    name, n = "A/A: two halves of the reference's text", arrays["linear_error"].shape[-1]
    if n < 4:
        return not_run(name, "negative", f"{n} sentences make no two halves")
    error, output = (arrays[f"linear_{w}"][:, row : row + 1] for w in ("error", "output"))
    even, block = np.arange(n) % 2 == 0, arrays["linear_block"].astype(np.int64)

    def difference(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = (
                np.log2(local_errors(error[..., h], output[..., h], block, weights[:, h]))
                for h in (even, ~even)
            )
            return (one - other).mean((1, 2))

    found = estimate(
        difference, n, unit="mean log2 ratio", seed=0, draws=thresholds.draws,
        level=thresholds.level,
    )  # fmt: skip
    return covers_zero(name, found, "the log2 ratio of their errors should cover 0")


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P2: an error that one language's inputs feel most"
    if "planted_e" not in arrays:
        return not_run(name, "positive", absent(facts, "planted"))
    plain, kl = arrays["plain_e"], arrays["plain_kl"]
    found = []
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

        change = estimate(
            rise, kl.shape[-1], unit="log2 ratio", seed=0, draws=thresholds.draws,
            level=thresholds.level,
        )  # fmt: skip
        rose = change.low is not None and change.low > 0
        found.append(bool(bias.argmax() == block and rose))
    return detection(name, found, "B should rank that block first and D rise", thresholds)
