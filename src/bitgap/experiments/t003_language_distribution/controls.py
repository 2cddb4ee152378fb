"""The controls that could make the link of T-003 worthless.

================  ==================================================  ============================
labels            languages permuted within every sentence            must differ and covary less
same script       the reference's closest relative in its own script  must differ less than others
equal tokens      no more tokens of a sentence than any language has  must agree
random            fresh weights as the class draws them               must not show the link
halves            random halves of the reference's text               must not differ
local errors      ΔW that one language's inputs feel most (P2)        that language must be hit more
planted           twice the SESOI, .8, in the profiles themselves      must be found
================  ==================================================  ============================

Labels, same script, equal tokens and random are conditions for support; halves guard a refutation
too, and so do both plants. P2 is read against the block undisturbed, not against other blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    clear,
    detection,
    halves,
    must_agree,
    must_not_show,
    not_run,
)
from bitgap.experiments.protocol.scores import Eligibility, units_of
from bitgap.experiments.t003_language_distribution.statistic import (
    block_errors,
    inequality_profile,
    log2_ratios,
)
from bitgap.lab.local_errors import local_errors, local_inequality
from bitgap.records import Bools, Control, Estimate, Floats, Observations, Scores, Units
from bitgap.stats.bootstrap import estimate, estimates, percentile_estimate
from bitgap.stats.profiles import ProfileCorrelation, correlate_profiles, detrend
from bitgap.stats.variance_components import permuted_within_sentence
from bitgap.stats.verdicts import Thresholds

PERMUTATIONS = 200
"""Permutations of labels: p of one in twenty is then known to some .015."""


def controls(
    observations: Observations,
    protect: Scores,
    fall: Floats,
    link: ProfileCorrelation,
    languages: Eligibility,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-003 but for what is planted in its profiles.

    Args:
        observations: As T-003 measures them.
        protect: Scores of the plans that protect nothing and one block.
        fall: What protecting each block takes off S, (L).
        link: θ.
        languages: Which count.
        thresholds: What was declared.
    """
    arrays, facts, counts = observations.arrays, observations.facts, languages.displayed
    row, sesoi = facts["languages"].index(facts["reference"]), thresholds.of("H1.3")["sesoi"]

    def again(prefix: str) -> Estimate:
        profile = inequality_profile(arrays, prefix, counts, row)
        return correlate_profiles(profile, fall, thresholds.level).estimate

    return [
        _permuted(arrays, fall, clear(link.estimate, sesoi), counts, row, thresholds),
        _same_script(observations, row, thresholds),
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
        halves(protect, 0, languages.eligible, thresholds),
        _planted(arrays, facts, thresholds),
    ]


def _permuted(
    arrays: Mapping[str, Floats],
    fall: Floats,
    linked: bool,
    counts: Bools,
    row: int,
    thresholds: Thresholds,
) -> Control:
    """Permutes labels; a correlation ignores how small U gets, so covariances are compared."""
    name, counted = "language labels permuted within sentence", counts.copy()
    counted[row] = True
    reference, block = int(counted[:row].sum()), arrays["linear_block"].astype(np.int64)
    sums = np.stack([arrays[f"linear_{what}"][:, counted] for what in ("error", "output")])
    rng, ones = np.random.default_rng(0), np.ones((1, sums.shape[-1]))
    tables = [sums, *(permuted_within_sentence(sums, rng) for _ in range(PERMUTATIONS))]
    every = np.ones(sums.shape[2], dtype=bool)
    profiles = np.stack(
        [
            local_inequality(local_errors(t[0], t[1], block, ones), every, reference)[0]
            for t in tables
        ]
    )
    if not (np.isfinite(profiles).all() and np.isfinite(fall).all()):
        return not_run(name, "negative", "some error has no logarithm, or the fall of S no value")
    covariance = detrend(profiles) @ detrend(fall)
    # Permutations that change nothing but the last digit are ties.
    slack = 1e-9 * np.abs(covariance).max()
    p = float((covariance >= covariance[0] - slack).mean())
    means = profiles[1:].mean(1)
    floor = percentile_estimate(
        means.mean(), means, unit="mean |log2 ratio|", level=thresholds.level, n=PERMUTATIONS,
        method="central range of permutations",
    )  # fmt: skip
    assert floor.high is not None
    own = float(profiles[0].mean())
    return Control(
        name=name,
        kind="negative",
        passed=own > floor.high and (not linked or p <= thresholds.alpha),
        detail=f"U is {own:.3g} on average and should be larger than labels at random make it, and "
        f"a link that is found should covary with the fall of S more than "
        f"{1 - thresholds.alpha:.0%} of permutations do: p = {p:.3f}",
        estimate=floor,
    )


def closest_relative(kin: Sequence[Mapping[str, str]], row: int) -> int | None:
    """Returns the language most like the reference among those in its script, or None.

    Declared beforehand: of the same genus if there is one, else of the same family, else the first.
    """
    own = kin[row]
    same = [i for i, k in enumerate(kin) if i != row and k["script"] == own["script"]]
    shared = [(kin[i]["genus"] == own["genus"], kin[i]["family"] == own["family"]) for i in same]
    return same[max(range(len(same)), key=lambda i: (shared[i], -i))] if same else None


def _same_script(observations: Observations, row: int, thresholds: Thresholds) -> Control:
    facts = observations.facts
    name, kin = "closest language of the same script", facts["kin"]
    relative = closest_relative(kin, row)
    others = [i for i, k in enumerate(kin) if k["script"] != kin[row]["script"]]
    if relative is None or not others:
        return not_run(name, "negative", "no language in the reference's script and one in another")
    errors = block_errors(observations.arrays)

    def nearer(weights: Floats) -> Floats:
        apart = np.abs(log2_ratios(errors(weights), row)).mean(1)
        return apart[:, others].mean(1) - apart[:, relative]

    unit = "mean |log2 ratio|, others' less its own"
    difference = estimate(nearer, units_of(observations), unit=unit, **thresholds.how)
    return Control(
        name=name,
        kind="negative",
        passed=difference.value is not None and difference.value > 0,
        detail=f"{facts['languages'][relative]} should differ less than languages of other scripts "
        "do",
        estimate=difference,
    )


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P2: an error that one language's inputs feel most"
    if "planted_e" not in arrays:
        return not_run(name, "positive", absent(facts, "planted"))
    block, row = (arrays[f"planted_{what}"].astype(np.int64) for what in ("block", "row"))
    e, plain, own = arrays["planted_e"], arrays["plain_e"], arrays["plain_kl"]
    with np.errstate(divide="ignore", invalid="ignore"):
        felt = np.log2(e[:, 1] / e[:, 0]) > np.log2(plain[block, row] / plain[block, 0])
    planted = np.moveaxis(arrays["planted_kl"], -1, 0)  # (N' x S x A')
    documents = arrays.get("few_documents")
    units: Units = int(own.shape[-1]) if documents is None else documents.astype(np.int64)
    each = np.arange(len(row))

    def rises(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            before = np.log2(weights @ own.T)  # (W x A')
            after = np.log2(np.tensordot(weights, planted, axes=1))  # (W x S x A')
        before = before[:, row] - before[:, :1]
        return after[:, each, row] - after[:, :, 0] - before

    how: dict[str, Any] = dict(thresholds.how)
    changes = estimates(rises, units, unit="log2 ratio", **how)
    rose = np.array([change.low is not None and change.low > 0 for change in changes])
    sought = "error and damage of that language against the reference should clearly rise"
    return detection(name, felt & rose, sought, thresholds)
