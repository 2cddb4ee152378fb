"""What the origin's plans did, in its measure and in ours, resampled over sentences. Pure numpy.

Every number of a claim is a function of weights over sentences (W x N), so one line gives the
estimate, its bootstrap draws, its jackknife, and what each sentence alone would have said, which is
how the origin read it: weights of a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from bitgap.disparity.formulas import (
    Sums,
    below_resolution,
    collapsed,
    delta_bits,
    log_ratio,
    perplexity_increase,
)
from bitgap.languages import language
from bitgap.records import Bools, Estimate, Floats, ModelInfo, Scores, defined
from bitgap.stats.bootstrap import (
    LEVEL,
    bootstrap_weights,
    estimates,
    expanded_level,
    how_expanded,
)
from bitgap.stats.profiles import correlate_profiles
from bitgap.theory.origin.claims import Untestable

Measure = Literal["original", "disparity", "gap"]
"""The origin's D_original, our D, our G."""
Statistic = Callable[[Floats], Floats]
"""From weights (W x N) to a value each, (W); NaN where undefined."""
DRAWS = 1000
"""Of an interval that is compared with a threshold; its ends move by some 4 % of its width."""
HIGH_RESOURCE = 4
"""Classes of Joshi et al. 2020 from which a language counts as high-resource."""

UNITS = {
    "original": "ratio to the reference's relative perplexity increase",
    "disparity": "log2 ratio",
    "gap": "bits per reference character",
}


@dataclass(frozen=True)
class Readings:
    """Scores of named plans on one text, read in three measures.

    Shapes: W weightings, P plans, A languages.
    """

    scores: Scores
    _kept: dict[tuple[object, ...], Floats] = field(
        default_factory=dict[tuple[object, ...], Floats], repr=False
    )

    def has(self, *plans: str) -> bool:
        """Returns whether plans of these names were scored."""
        return set(plans) <= set(self.scores.plans)

    def row(self, plan: str) -> int:
        """Returns the row of a plan.

        Raises:
            Untestable: If it was not scored.
        """
        if plan not in self.scores.plans:
            raise Untestable(f"this model has no plan {plan!r}")
        return self.scores.plans.index(plan)

    @property
    def reference(self) -> int:
        """Row of the reference language."""
        return self.scores.languages.index(self.scores.reference)

    def by_language(self, measure: Measure, weights: Floats) -> Floats:
        """Returns what a plan did to each language against the reference, (W x P x A).

        A ratio of relative perplexity increases, a log2 ratio of K, or a difference of Δ in bits.
        """
        return self._once(measure, weights, _AGAINST[measure])

    def raw(self, measure: Measure, weights: Floats) -> Floats:
        """Returns what a plan did to each language by itself, (W x P x A).

        The relative perplexity increase, log2 K up to the text's length, or Δ in bits.
        """
        return self._once(f"raw {measure}", weights, _ALONE[measure])

    def value(self, measure: Measure, plans: Sequence[str], weights: Floats) -> Floats:
        """Returns the mean over the other languages under each plan, (W x plans).

        All languages count in the origin's measure; in ours those that are neither collapsed nor
        below resolution in any of these plans.
        """
        rows = [self.row(plan) for plan in plans]
        counts = self.counts(plans, measure)
        others = counts & (np.arange(len(counts)) != self.reference)
        if not others.any() or not counts[self.reference]:
            return np.full((len(weights), len(rows)), np.nan)
        return self.by_language(measure, weights)[:, rows][..., others].mean(-1)

    def counts(self, plans: Sequence[str], measure: Measure = "disparity") -> Bools:
        """Returns which languages count in a measure under all of some plans, (A)."""
        if measure == "original":
            return np.ones(len(self.scores.languages), bool)
        return ~(self._gone(plans, collapsed) | self._gone(plans, below_resolution))

    def left_out(self, plans: Sequence[str]) -> dict[str, str]:
        """Returns which languages do not count in our measure under some plans, and why."""
        gone, faint = self._gone(plans, collapsed), self._gone(plans, below_resolution)
        return {
            code: "collapsed" if lost else "below resolution"
            for code, lost, weak in zip(self.scores.languages, gone, faint, strict=True)
            if lost or weak
        }

    def unsettled(self, plans: Sequence[str]) -> str | None:
        """Returns the plan whose D_original is undefined: its denominator's interval covers 0.

        None where all are defined. A text of one sentence has no such interval and passes.
        """
        for plan in plans:
            place = (slice(None), self.row(plan), self.reference)
            harm = self.over_sentences(lambda w, at=place: self.raw("gap", w)[at], "bits")
            if harm.low is not None and harm.high is not None and harm.low <= 0 <= harm.high:
                return plan
        return None

    def over_sentences(self, statistic: Statistic, unit: str) -> Estimate:
        """Returns a statistic with its bootstrap interval over sentences."""
        n = self.scores.n_sentences
        return estimates(
            lambda w: defined(statistic(w))[:, None], n, unit=unit, seed=0, draws=DRAWS
        )[0]

    def range_over_sentences(self, statistic: Statistic, unit: str) -> Estimate:
        """Returns a statistic with the central range of its draws: for ranks, which may not vary.

        A rank has no useful jackknife, which BCa would need, and one that is the same in every draw
        is certain as far as sentences go.
        """
        n = self.scores.n_sentences
        found = self.over_sentences(statistic, unit)
        draws = defined(statistic(bootstrap_weights(n, DRAWS, 0)))
        if found.value is None or n < 2 or not np.isfinite(draws).all():
            return found
        tail = (1 - expanded_level(LEVEL, n)) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        method = f"central range of {DRAWS} draws over sentences, {how_expanded(n, 'sentence')}"
        return replace(found, low=float(low), high=float(high), method=method, reason=None)

    def each_sentence(self, statistic: Statistic) -> Floats:
        """Returns what each sentence alone says, (N), NaN where it says nothing."""
        return defined(statistic(np.eye(self.scores.n_sentences)))

    def mask(self, wanted: Callable[[str], bool]) -> Bools:
        """Returns for which languages something is true, (A)."""
        return np.array([wanted(code) for code in self.scores.languages])

    def _gone(self, plans: Sequence[str], gate: Callable[[Scores], Bools]) -> Bools:
        key = ("gate", gate.__name__)
        if key not in self._kept:
            self._kept[key] = np.asarray(gate(self.scores), np.float64)
        bad = self._kept[key][[self.row(plan) for plan in plans]].max(0, initial=0.0)
        return np.asarray(bad > 0)

    def _once(self, name: str, weights: Floats, formula: Callable[[Sums], Floats]) -> Floats:
        key = (name, weights.shape, weights.tobytes())
        if key not in self._kept:
            self._kept[key] = formula(Sums(self.scores, weights))
        return self._kept[key]


def _original_against(sums: Sums) -> Floats:
    increase = perplexity_increase(sums)
    of_reference = sums.against(increase)
    with np.errstate(divide="ignore", invalid="ignore"):
        return defined(increase / of_reference)


def _gap_against(sums: Sums) -> Floats:
    delta = delta_bits(sums)
    return delta - sums.against(delta)


def _log_kl(sums: Sums) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return defined(np.log2(sums.kl_bits))


_AGAINST = {"original": _original_against, "disparity": log_ratio, "gap": _gap_against}
_ALONE = {"original": perplexity_increase, "disparity": _log_kl, "gap": delta_bits}


def is_high_resource(code: str) -> bool:
    """Returns whether a language has much text, by the class of Joshi et al. 2020."""
    found = language(code).resource_class
    return found is not None and found >= HIGH_RESOURCE


def correlation(x: Floats, y: Floats, of: str) -> Estimate:
    """Returns Pearson's r with Fisher's interval.

    Args:
        x: (n).
        y: (n).
        of: What the n are, such as ``languages``; they are the unit.

    Raises:
        Untestable: If there are fewer than four.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y, n = x[good], y[good], int(good.sum())
    if n < 4:
        raise Untestable(f"{n} {of} make no correlation; it takes four")
    unit = f"correlation over {of}"
    if np.ptp(x) <= 1e-12 * np.abs(x).max() or np.ptp(y) <= 1e-12 * np.abs(y).max():
        return Estimate(value=None, unit=unit, n=n, reason="one of the two does not vary")
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1 + 1e-12, 1 - 1e-12))
    half = stats.norm.ppf((1 + LEVEL) / 2) / np.sqrt(n - 3)
    low, high = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    method = f"Fisher z over {n} {of}, as if they were independent"
    return Estimate(value=r, low=float(low), high=float(high), unit=unit, n=n, method=method)


def block_correlation(x: Floats, y: Floats, measure: Measure) -> Estimate:
    """Returns the correlation of two block profiles: plain as the origin's, or detrended as ours.

    Raises:
        Untestable: If there are fewer than four blocks.
    """
    if measure == "original":
        return correlation(x, y, "blocks")
    if len(x) < 4:
        raise Untestable(f"{len(x)} blocks make no correlation; it takes four")
    return correlate_profiles(x, y).estimate


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model, replayed; languages in the order of the scores, the reference first."""

    model: ModelInfo
    scheme: str
    """Our operating point."""
    origin: Readings
    """The origin's scope and scheme."""
    here: Readings
    """Block linears at the operating point."""
    origin_triples: Readings | None = None
    here_triples: Readings | None = None
    profiles: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    """Of the weights, by block (L): ``variance``, ``outlier_ratio``, ``sparsity``, ``kurtosis``,
    ``log_variance_fixed``, ``snr_original`` and ``snr_disparity`` in dB."""
    tails: Mapping[Measure, Floats] = field(default_factory=dict[Measure, Floats])
    """Sums over the entries of block outputs, (L x A x N x 6): how many, first to fourth powers,
    how many outliers; as they are, and without sinks and massive values."""
    alignment: Mapping[Measure, Floats] = field(default_factory=dict[Measure, Floats])
    """How near each other language comes to the reference, (A−1): raw cosine; corrected d′."""
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    """Log share of the training text by language, or class where shares are not known."""

    @property
    def n_blocks(self) -> int:
        """L."""
        return self.model.n_blocks

    def readings(self, plans: tuple[str, ...], measure: Measure) -> Readings:
        """Returns where plans are read: ours at the operating point, where it has them all."""
        if measure == "original" or not self.here.has(*self.expand(self.here, plans)):
            return self.origin
        return self.here

    def expand(self, readings: Readings, plans: tuple[str, ...]) -> list[str]:
        """Returns plans with ``random`` and ``only`` replaced by all of their kind."""
        out: list[str] = []
        for plan in plans:
            kind = [p for p in readings.scores.plans if p.startswith(f"{plan}-")]
            out += kind or [plan]
        return out


class Sampled(NamedTuple):
    """A number that is resampled over the sentences of some readings."""

    readings: Readings
    statistic: Statistic
    unit: str
    is_rank: bool = False
    """Whether it counts sets, so that it may well be the same in every draw."""


Quantity = Sampled | Estimate


def sized(values: Floats, measure: Measure) -> Floats:
    """Returns how unequal languages are: D_original as it is, |D| and |G|."""
    return values if measure == "original" else np.abs(values)
