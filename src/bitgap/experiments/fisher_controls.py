"""The correlations of T-006, and the controls that could make them worthless.

=============  ====================================================  ===========================
other pairs    the median correlation of all other pairs             must not cancel too
stochastic     rounding up or down at random: independent, unbiased  must not cancel on average
clipped        scales clipped to the least squared error             must agree with rounding
random         fresh weights as the class draws them                 must not cancel
halves         even against odd sentences                            must not differ
cancelling     ±δ in the rounded first and last block (P3)           must cancel
=============  ====================================================  ===========================

Rounding to the largest weight shrinks weights, which gives errors of all blocks a part in common
and so a correlation above 0; clipping shrinks otherwise. Statistics are functions from bootstrap
weights (W x N) to (W x k). Pure numpy but for :func:`measure_controls`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from bitgap.damage import Bools
from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.controls import (
    PLANTED_LANGUAGES,
    absent,
    clear,
    covers_zero,
    detection,
    not_run,
)
from bitgap.experiments.weight_controls import only
from bitgap.quant.schemes import RoundToNearest, Seed, parse_scheme
from bitgap.records import Control, Estimate, Floats, Observations
from bitgap.stats.bootstrap import Statistic, estimate, estimates
from bitgap.stats.verdicts import Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

CLIPPED = "rounding clipped to the least squared error"
_AT_ONCE = 10
"""Draws of rounding, or plantings, whose states are held together, at most."""
_FEWEST_DRAWS = 3
"""Draws below which their spread says nothing."""


# -- statistics -----------------------------------------------------------------------------------


def cancellation(gram: Floats) -> Statistic:
    """Returns weights -> (W x 2): −ρ of the first and last error, and the share they cancel.

    ρ = ⟨a, b⟩/(‖a‖‖b‖); the share is −2⟨a, b⟩/(‖a‖² + ‖b‖²). NaN where an error is 0.

    Args:
        gram: Inner products of J errors of every sentence, (A x N x J x J); summed over languages.
    """
    a, both, b = (gram[..., i, j].sum(0) for i, j in ((0, 0), (0, -1), (-1, -1)))

    def statistic(weights: Floats) -> Floats:
        first, product, last = weights @ a, weights @ both, weights @ b
        with np.errstate(divide="ignore", invalid="ignore"):
            share = -2 * product / (first + last)
            return np.stack([-product / np.sqrt(first * last), share], 1)

    return statistic


def other_pairs(gram: Floats) -> Statistic:
    """Returns weights -> (W x 1): the median −ρ of all pairs but the first with the last."""
    n = gram.shape[-1]
    rows, columns = _pairs(n)
    sums = gram.sum(0).reshape(gram.shape[1], -1)

    def statistic(weights: Floats) -> Floats:
        found = (weights @ sums).reshape(-1, n, n)
        power = np.sqrt(np.diagonal(found, axis1=1, axis2=2))
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = found[:, rows, columns] / (power[:, rows] * power[:, columns])
        return -np.median(rho, axis=1, keepdims=True)

    return statistic


def _pairs(n: int) -> tuple[Any, Any]:
    rows, columns = np.triu_indices(n, 1)
    other = (rows > 0) | (columns < n - 1)
    return rows[other], columns[other]


def correlations(gram: Floats) -> Floats:
    """Returns ρ of all pairs, (J x J), of inner products (A x N x J x J) over the whole text."""
    total = gram.sum((0, 1))
    power = np.sqrt(np.diagonal(total))
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / (power[:, None] * power[None, :])


@dataclass(frozen=True, slots=True)
class NullDraws:
    """−ρ of the first and last block under stochastic rounding.

    Attributes:
        mean: Mean over draws with its t interval.
        spread: Standard deviation of a further draw about that mean.
        n: How many draws.
    """

    mean: Estimate
    spread: float
    n: int

    def p(self, theta: float) -> float:
        """Returns the chance that one more draw is at least θ (prediction by Student's t).

        Where draws are above 0 on average θ must exceed that too; where they are below, 0.
        """
        assert self.mean.value is not None
        return float(stats.t.sf((theta - max(self.mean.value, 0.0)) / self.spread, self.n - 1))


def null_draws(observations: Observations, level: float) -> NullDraws | None:
    """Returns the draws of stochastic rounding, or None where there are too few."""
    grams = observations.arrays.get("stochastic_gram")
    if grams is None or len(grams) < _FEWEST_DRAWS:
        return None
    values = np.array([cancellation(g)(np.ones((1, g.shape[1])))[0, 0] for g in grams])
    n, deviation = len(values), float(values.std(ddof=1))
    if not np.isfinite(values).all() or deviation == 0:
        return None
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * deviation / n**0.5
    mean = Estimate(
        value=float(values.mean()),
        low=float(values.mean()) - half,
        high=float(values.mean()) + half,
        unit="-rho",
        level=level,
        n=n,
        method=f"Student's t over {n} draws of stochastic rounding",
    )
    return NullDraws(mean, deviation * (1 + 1 / n) ** 0.5, n)


# -- measurement ----------------------------------------------------------------------------------


def measure_controls(
    lab: Lab, scheme: str, *, n_sentences: int, n_draws: int, n_plantings: int, strength: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns inner products of the first and last block's errors under the controls.

    Args:
        lab: Model and text, of two blocks at least.
        scheme: How blocks are rounded.
        n_sentences: Sentences that all of it is run on.
        n_draws: Draws of stochastic rounding.
        n_plantings: How often P3 is planted, each time in another direction.
        strength: Root mean square of P3's error over that of the state.

    Returns:
        Arrays, on those sentences: ``random_gram`` (A x N' x 2 x 2); on the first three languages
        ``stochastic_gram`` (B x A' x N' x 2 x 2) and ``cancelling_gram`` (S x A' x N' x 2 x 2).
        Facts: ``no_<name>`` for each that could not be made.
    """
    from bitgap.models.gauge import loaded_with, random_twin

    few = lab.first(n_sentences)
    fewer = few.on(languages=few.languages[:PLANTED_LANGUAGES])
    facts: dict[str, Any] = {}
    untrained = random_twin(lab.decoder.model, lab.settings.seed)
    twin = few.twin(loaded_with(lab.loaded, untrained, "random"))
    arrays: dict[str, Any] = {"random_gram": ends_gram(twin, [scheme])[0]}
    stochastic = stochastic_form(scheme)
    if stochastic is None:
        facts["no_stochastic"] = f"{scheme} has no stochastic form"
    else:
        names = [f"{stochastic}-s{lab.settings.seed + i}" for i in range(n_draws)]
        arrays["stochastic_gram"] = ends_gram(fewer, names)
    try:
        arrays["cancelling_gram"] = _cancelling(fewer, scheme, n_plantings, strength)
    except UnsupportedArchitecture as error:
        facts["no_cancelling"] = str(error)
    return arrays, facts


def clipped_form(scheme: str) -> str | None:
    """Returns the scheme with scales clipped to the least squared error; None where none is."""
    parsed = parse_scheme(scheme)
    if isinstance(parsed, RoundToNearest) and parsed.clip == "absmax":
        return f"{parsed.name}-mse"
    return None


def stochastic_form(scheme: str) -> str | None:
    """Returns the scheme rounded up or down at random, its seed left out; None where none is."""
    parsed = parse_scheme(scheme)
    if isinstance(parsed, Seed):
        return f"stoch{parsed.bits}-tensor"
    if isinstance(parsed, RoundToNearest):
        return f"stoch{parsed.bits}-{parsed.granularity}"
    return None


def ends_gram(lab: Lab, schemes: Sequence[str]) -> Floats:
    """Returns inner products of the first and last block's errors, (schemes x A x N x 2 x 2)."""
    from bitgap.lab.fisher import fisher_grams

    found = []
    for start in range(0, len(schemes), _AT_ONCE):
        batch = schemes[start : start + _AT_ONCE]
        plans = [only(s, lab.n_blocks, end) for s in batch for end in (0, lab.n_blocks - 1)]
        gram = fisher_grams(lab, plans)["gram"]
        pairs = [slice(2 * i, 2 * i + 2) for i in range(len(batch))]
        found += [gram[..., pair, pair] for pair in pairs]
    return np.array(found)


def _cancelling(part: Lab, scheme: str, n_plantings: int, strength: float) -> Floats:
    from bitgap.experiments.cancellation import plant_cancellation

    seeds = [part.settings.seed + s for s in range(n_plantings)]
    both = sum(v.get().numel() for b in (0, -1) for v in part.decoder.block_linears(b).values())
    # What is planted stays in the bank as float32: no more at once than a quarter of its memory.
    step = max(1, min(_AT_ONCE, part.engine.layout.bank_bytes // (4 * 4 * both)))
    found = []
    for start in range(0, n_plantings, step):
        variants = [
            plant_cancellation(part, scheme, strength=strength, seed=seed)
            for seed in seeds[start : start + step]
        ]
        found.append(ends_gram(part, variants))
        for variant in variants:
            part.bank.drop(variant)
    return np.concatenate(found)


# -- judgement ------------------------------------------------------------------------------------


def controls(
    observations: Observations,
    counts: Bools,
    theta: Estimate,
    null: NullDraws | None,
    thresholds: Thresholds,
) -> list[Control]:
    """Returns the controls of T-006.

    Args:
        observations: With ``gram``, ``clipped_gram`` and the arrays of :func:`measure_controls`.
        counts: Languages the Gram is summed over, (A).
        theta: −ρ under the scheme itself.
        null: Draws of stochastic rounding, if any.
        thresholds: What was declared.
    """
    arrays, facts = observations.arrays, observations.facts
    gram = arrays["gram"][counts].astype(np.float64)
    sesoi = thresholds.of("H2.3")["sesoi"]
    return [
        _others(gram, sesoi, thresholds),
        _stochastic(null, facts, sesoi),
        _clipped(arrays, facts["scheme"], counts, theta, sesoi, thresholds),
        _random(arrays, facts, counts, sesoi, thresholds),
        _halves(gram, thresholds),
        _planted(arrays, facts, thresholds),
    ]


def how(thresholds: Thresholds) -> dict[str, Any]:
    """Returns how intervals are made here."""
    return {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}


def minus_rho(gram: Floats, thresholds: Thresholds) -> Estimate:
    """Returns −ρ of the first and last error with its interval over sentences."""
    found = cancellation(gram)
    return estimate(lambda w: found(w)[:, :1], gram.shape[1], unit="-rho", **how(thresholds))


def _others(gram: Floats, sesoi: float, thresholds: Thresholds) -> Control:
    name = "all other pairs of blocks"
    if gram.shape[-1] < 3:
        return not_run(name, "negative", "there is no other pair of blocks")
    found = estimate(other_pairs(gram), gram.shape[1], unit="-rho", **how(thresholds))
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, sesoi),
        detail="their median should not cancel, or it is no matter of the first and the last",
        estimate=found,
    )


def _stochastic(null: NullDraws | None, facts: Mapping[str, Any], sesoi: float) -> Control:
    name = "stochastic rounding"
    if null is None:
        why = str(facts.get("no_stochastic", f"fewer than {_FEWEST_DRAWS} draws that differ"))
        return not_run(name, "negative", why)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(null.mean, sesoi),
        detail="independent unbiased errors should not cancel on average",
        estimate=null.mean,
    )


def _clipped(
    arrays: Mapping[str, Floats],
    scheme: str,
    counts: Bools,
    theta: Estimate,
    sesoi: float,
    thresholds: Thresholds,
) -> Control:
    if "clipped_gram" not in arrays:
        return not_run(CLIPPED, "negative", f"{scheme} has no clipped form")
    found = minus_rho(arrays["clipped_gram"][counts].astype(np.float64), thresholds)
    return Control(
        name=CLIPPED,
        kind="negative",
        passed=clear(found, sesoi) == clear(theta, sesoi),
        detail="errors should cancel exactly where they do under the scheme itself, or it is a "
        "matter of how weights shrink",
        estimate=found,
    )


def _random(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    counts: Bools,
    sesoi: float,
    thresholds: Thresholds,
) -> Control:
    name = "random-init twin"
    if "random_gram" not in arrays:
        return not_run(name, "negative", absent(facts, "random"))
    found = minus_rho(arrays["random_gram"][counts], thresholds)
    return Control(
        name=name,
        kind="negative",
        passed=not clear(found, sesoi),
        detail="errors of an untrained twin should not cancel",
        estimate=found,
    )


def _halves(gram: Floats, thresholds: Thresholds) -> Control:
    """Compares even with odd sentences: two halves of one text have one truth."""
    name, n = "A/A: two halves of the sentences", gram.shape[1]
    if n < 4:
        return not_run(name, "negative", f"{n} sentences make no two halves")
    even = np.arange(n) % 2 == 0
    first, second = (cancellation(gram[:, half]) for half in (even, ~even))
    found = estimate(
        lambda w: first(w[:, even])[:, 0] - second(w[:, ~even])[:, 0], n, unit="difference of -rho",
        **how(thresholds),
    )  # fmt: skip
    said = "their difference should cover 0, or intervals over sentences are not to be trusted"
    return covers_zero(name, found, said)


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], thresholds: Thresholds
) -> Control:
    name = "P3: errors of the first and last block that cancel"
    if "cancelling_gram" not in arrays:
        return not_run(name, "positive", absent(facts, "cancelling"))
    declared = thresholds.of("H2.3")
    found = []
    for gram in arrays["cancelling_gram"]:
        rho, share = estimates(
            cancellation(gram), gram.shape[1], unit="-rho, share", **how(thresholds)
        )
        enough = share.value is not None and share.value >= declared["cancelled_share"]
        found.append(clear(rho, declared["sesoi"]) and enough)
    return detection(name, found, "it should cancel clearly", thresholds)
