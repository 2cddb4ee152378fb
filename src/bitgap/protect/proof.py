"""What a recipe gained, on sentences that its search has never seen.

Everything is paired by sentence, and the same sentences (or documents) are drawn for every language
and every plan. Of the recipe against each comparator:

==============  ====================================================================================
gain            mean over the *worst set* of log2(K of the comparator / K of the recipe). The set,
                the quarter of the languages that the language-blind plan hurts most, is fixed on
                the text of the search: one picked here would be picked for its noise.
harm            log2(K of the recipe / K of the comparator) of each language. No harm is shown
                where every upper limit is below log2(1 + 2 %); harm, where a lower limit, after
                Bonferroni over languages, is above it.
gap             log2 of the ratio of S, with languages as the units (Morgan 1939; Pitman 1939), so
                that it is not tested under eight of them.
detectable      the smallest gain that so much text finds in 80 % (two-sided, 5 %)
optimism        the gain on the text of the search, less this one
==============  ====================================================================================

A verdict against a comparator is one of

- *helps, nobody harmed*: the gain's interval is above 0 and no harm is shown to all languages;
- *helps, harm not excluded*: the first, and not the second;
- *harms*: harm is shown to a language, or to the worst set: that it loses more than the margin;
- *no detectable gain*: none of these.

Against the language-blind plan a gain must also be rarer than :data:`PLACEBO_ALPHA` among searches
on permuted labels, where there were such: each is followed to its end, to the gain of its plan in
the languages that it took for the worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtrit

from bitgap.disparity.formulas import Sums, below_resolution, collapsed, damage_bits, log_damage
from bitgap.errors import PlanError, UsageError
from bitgap.protect.comparators import BLIND
from bitgap.protect.nulls import random_p
from bitgap.protect.problem import Picks
from bitgap.protect.recipe import Recipe
from bitgap.protect.solve import MARGIN
from bitgap.records import Bools, Estimate, Floats, Scores, finite
from bitgap.stats.bootstrap import DRAWS, LEVEL, estimate, estimates, n_units

Label = Literal[
    "helps, nobody harmed", "helps, harm not excluded", "no detectable gain", "harms"
]  # fmt: skip
POWER = 0.8
FEWEST_LANGUAGES = 8
"""Under which a gap is not tested: languages are its units."""
PLACEBO_ALPHA = 0.05
_LOG = "log2 ratio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A comparator whose plan was scored on the text that confirms."""

    name: str
    plan: str
    """Its name among the scores."""
    size_bytes: int = 0
    slack_bytes: int = 0
    """Bytes of the budget that it leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A recipe against one comparator."""

    rival: Rival
    gain: Estimate
    """Of the worst set, in log2 ratio: above 0 where the recipe hurts it less."""
    mean_gain: Estimate
    """Of the mean damage over languages, likewise."""
    change: Mapping[str, Estimate]
    """log2(K of the recipe / K of the comparator) of each language: above 0 where it pays."""
    left_out: Mapping[str, str]
    """Languages without one, with the reason."""
    not_shown: tuple[str, ...]
    """Languages to which harm is not excluded."""
    harmed: tuple[str, ...]
    """Languages to which harm is shown."""
    gap: Estimate
    """log2(S under the recipe / S under the comparator)."""
    detectable: float | None
    """Smallest gain that this text finds in 80 %, in log2 ratio."""
    optimism: float | None
    """Gain on the text of the search less this one; None where that was not given."""
    verdict: Label
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What chance makes of the same bytes or the same search."""

    n: int
    p: float
    """(1 + as good as the recipe) / (n + 1)."""
    gains: tuple[float, ...]
    """Log2 ratio: of the recipe on each random plan, in the worst set; of each placebo's plan on
    the language-blind one, in what that search took for the worst set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a sealed recipe gained, against every comparator."""

    seal: str
    """Of the recipe that was scored."""
    split: str
    """Digest of the split of sentences."""
    languages: tuple[str, ...]
    worst: tuple[str, ...]
    """The worst set."""
    margin: float
    """Rise of damage that counts as no harm, as a share."""
    n_sentences: int
    n_units: int
    """What was resampled: sentences, or documents."""
    against: tuple[Against, ...]
    random: Chance | None
    placebo: Chance | None
    verdict: Label | None
    """Against the language-blind plan; None where it was not scored."""
    sentence: str
    notes: tuple[str, ...] = field(default=())


def sealed(recipe: Recipe) -> str:
    """Returns the seal of a recipe that was written and read back, as proof is only of such.

    Raises:
        UsageError: If it was not written, or changed since.

    Example:
        >>> from bitgap.protect.recipe import make_recipe, read_text, text_of
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
        >>> recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        >>> sealed(read_text(text_of(recipe), "recipe.toml")) == recipe.seal
        True
    """
    if recipe.sealed != recipe.seal:
        raise UsageError(
            "the recipe was not sealed before it was to be proved; write it, and prove the file"
        )
    return recipe.sealed


def prove(
    scores: Scores,
    ours: str,
    rivals: Sequence[Rival],
    worst: Sequence[str],
    *,
    seal: str,
    split: str,
    seed: int,
    search: Scores | None = None,
    random: Sequence[str] = (),
    placebo: Sequence[tuple[str, Sequence[str]]] = (),
    margin: float = MARGIN,
    draws: int = DRAWS,
) -> Proof:
    """Returns what a recipe gained on the text that confirms.

    Args:
        scores: Of the recipe and all other plans, on sentences that the search has not seen.
        ours: The recipe's plan, by its name among the scores.
        rivals: Comparators; the one called ``language-blind`` gives the verdict.
        worst: The worst set, fixed on the text of the search.
        seal: Of the recipe, from :func:`sealed`.
        split: Digest of the split of sentences.
        seed: Of the bootstrap.
        search: Scores of the same plans on the text of the search, for optimism.
        random: Random plans, by their names among the scores.
        placebo: Plans of searches on permuted labels, likewise, each with its own worst set.
        margin: Rise of damage that counts as no harm, as a share.
        draws: Bootstrap draws.

    Raises:
        PlanError: If a plan was not scored.
        UsageError: If there is no worst set, or it has languages that were not scored.

    Example:
        >>> from bitgap.protect.example import CONFIRM
        >>> rivals = [Rival(name=name, plan=name) for name in ("uniform", "language-blind")]
        >>> proof = prove(CONFIRM, "recipe", rivals, ["he"], seal="0" * 64, split="1" * 64, seed=0)
        >>> [one.verdict for one in proof.against]
        ['helps, nobody harmed', 'harms']
        >>> proof.against[1].reason
        'harm is shown to en, de'
    """
    named = [ours, *(one.plan for one in rivals), *random, *(plan for plan, _ in placebo)]
    if missing := [plan for plan in named if plan not in scores.plans]:
        raise PlanError(f"plan {missing[0]!r} was not scored; score it on the same sentences")
    if not worst or not {*worst} <= {*scores.languages}:
        raise UsageError(f"the worst set is {tuple(worst)}; scored are {scores.languages}")
    judged = _Judge(scores, ours, tuple(worst), seed, margin, draws, search)
    blind = next((one for one in rivals if one.name == BLIND), None)
    chance = None
    if random:
        gains = np.array([judged.gain_on(plan, ours) for plan in random])
        chance = Chance(n=len(random), p=random_p(gains), gains=tuple(map(float, gains)))
    null = None
    if placebo and blind:
        gains = np.array([judged.gain_on(blind.plan, plan, rows) for plan, rows in placebo])
        as_good = int((gains >= judged.gain_on(blind.plan, ours)).sum())
        null = Chance(
            n=len(placebo), p=(1 + as_good) / (1 + len(placebo)), gains=tuple(map(float, gains))
        )
    against = tuple(judged.against(one, null if one is blind else None) for one in rivals)
    of_blind = next((one for one in against if one.rival is blind), None)
    return Proof(
        seal=seal,
        split=split,
        languages=scores.languages,
        worst=tuple(worst),
        margin=margin,
        n_sentences=scores.n_sentences,
        n_units=n_units(scores.units),
        against=against,
        random=chance,
        placebo=null,
        verdict=None if of_blind is None else of_blind.verdict,
        sentence=_sentence(against, of_blind),
    )


def _sentence(against: Sequence[Against], blind: Against | None) -> str:
    parts = [f"Against {one.rival.name}: {one.verdict} ({one.reason})" for one in against]
    if blind is None:
        parts.append("Whether knowing languages mattered is not known: no language-blind plan "
                     "was scored")  # fmt: skip
    return ". ".join(parts) + "."


def gain_in(
    pair: Scores, rows: Sequence[int], *, seed: int, draws: int, level: float = LEVEL
) -> Estimate:
    """Returns how much less the first of two plans hurts some languages than the second.

    Args:
        pair: Scores of the two.
        rows: Numbers of the languages; one at least.
        seed: Of the draws.
        draws: Of sentences, or documents.
        level: Of the interval.

    Returns:
        The mean over the languages of log2(K of the second / K of the first).

    Example:
        Uniform bits hurt Hebrew 2.2 times as much as the example's recipe does.

        >>> from bitgap.protect.example import CONFIRM
        >>> pair = CONFIRM.select(plans=["recipe", "uniform"])
        >>> found = gain_in(pair, [CONFIRM.languages.index("he")], seed=0, draws=200)
        >>> round(2**found.value, 1), found.low > 0
        (2.2, True)
    """

    def statistic(weights: Floats) -> Floats:
        logs = log_damage(Sums(pair, weights))[..., rows]
        return (logs[:, 1] - logs[:, 0]).mean(-1)

    return estimate(statistic, pair.units, unit=_LOG, seed=seed, draws=draws, level=level)


class _Judge:
    """One recipe on one text, against one comparator after another."""

    def __init__(
        self,
        scores: Scores,
        ours: str,
        worst: tuple[str, ...],
        seed: int,
        margin: float,
        draws: int,
        search: Scores | None,
    ) -> None:
        self.scores, self.ours, self.worst = scores, ours, worst
        self.seed, self.draws, self.search = seed, draws, search
        self.limit = float(np.log2(1 + margin))

    def gain_on(
        self,
        plan: str,
        ours: str,
        worst: Sequence[str] | None = None,
        scores: Scores | None = None,
    ) -> float:
        """Returns the gain of one plan on another in a set; NaN where K is not above 0."""
        pair = (scores or self.scores).select(plans=[ours, plan])
        rows = [pair.languages.index(one) for one in worst or self.worst]
        logs = log_damage(pair)[:, rows]
        return float((logs[1] - logs[0]).mean())

    def against(self, rival: Rival, placebo: Chance | None) -> Against:
        """Returns the recipe against one comparator."""
        pair = self.scores.select(plans=[self.ours, rival.plan])
        gone, faint = collapsed(pair), below_resolution(pair)
        left_out = _left_out(pair, gone, faint)
        counted = np.array([one not in left_out for one in pair.languages])
        rows = [i for i, one in enumerate(pair.languages) if one in self.worst and counted[i]]
        gain = self._gain(pair, rows)
        change, harm_ends = self._changes(pair, counted)
        # A language that only the recipe ruins is harmed, whatever its numbers.
        ruined = [one for one, a, b in zip(pair.languages, *gone, strict=True) if a and not b]
        harmed = [one for one, low in harm_ends.items() if low > self.limit]
        same = bool((pair.kl_nats[0] == pair.kl_nats[1]).all())
        open_ = [one for one, e in change.items() if not same and not _below(e, self.limit)]
        verdict, reason = self._verdict(gain, open_, [*ruined, *harmed], placebo)
        if same:
            reason = "both do the same to every sentence"
        optimism = None
        if self.search is not None and gain.value is not None:
            optimism = finite(self.gain_on(rival.plan, self.ours, scores=self.search) - gain.value)
        return Against(
            rival=rival,
            gain=gain,
            mean_gain=self._mean_gain(pair, counted),
            change=change,
            left_out=left_out,
            not_shown=tuple(open_),
            harmed=(*ruined, *harmed),
            gap=gap_change(*log_damage(pair, "token")[:, counted]),
            detectable=detectable(gain),
            optimism=optimism,
            verdict=verdict,
            reason=reason,
        )

    def _gain(self, pair: Scores, rows: Sequence[int]) -> Estimate:
        if not rows:
            why = "every language of the worst set is left out"
            return Estimate(value=None, unit=_LOG, reason=why)
        return gain_in(pair, rows, seed=self.seed, draws=self.draws)

    def _mean_gain(self, pair: Scores, counted: Bools) -> Estimate:
        if not counted.any():
            return Estimate(value=None, unit=_LOG, reason="every language is left out")

        def statistic(weights: Floats) -> Floats:
            mean = damage_bits(Sums(pair, weights))[..., counted].mean(-1)
            return np.log2(mean[:, 1] / mean[:, 0])

        return estimate(statistic, pair.units, unit=_LOG, seed=self.seed, draws=self.draws)

    def _changes(
        self, pair: Scores, counted: Bools
    ) -> tuple[dict[str, Estimate], dict[str, float]]:
        codes = [one for one, counts in zip(pair.languages, counted, strict=True) if counts]
        if not codes:
            return {}, {}

        def statistic(weights: Floats) -> Floats:
            logs = log_damage(Sums(pair, weights))[..., counted]
            return logs[:, 0] - logs[:, 1]

        def found(level: float) -> list[Estimate]:
            return estimates(statistic, pair.units, unit=_LOG, seed=self.seed, draws=self.draws,
                             level=level)  # fmt: skip

        strict = found(1 - (1 - LEVEL) / len(codes))
        lows = [-np.inf if one.low is None else one.low for one in strict]
        return dict(zip(codes, found(LEVEL), strict=True)), dict(zip(codes, lows, strict=True))

    def _verdict(
        self, gain: Estimate, open_: Sequence[str], harmed: Sequence[str], placebo: Chance | None
    ) -> tuple[Label, str]:
        if harmed:
            return "harms", f"harm is shown to {', '.join(harmed)}"
        if gain.value is None or gain.low is None or gain.high is None:
            return "no detectable gain", f"the gain has no interval: {gain.reason}"
        ends = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        if gain.high < -self.limit:
            return "harms", f"the worst hit are hurt more: {ends} in log2"
        if gain.low <= 0:
            return "no detectable gain", f"the gain of the worst hit, {ends} in log2, may be 0"
        if placebo is not None and placebo.p > PLACEBO_ALPHA:
            return "no detectable gain", (
                f"{ends} in log2, but searches on permuted labels gain as much (p = "
                f"{placebo.p:.2f}, {placebo.n} of them)"
            )
        if open_:
            return "helps, harm not excluded", f"{ends} in log2; not excluded: {', '.join(open_)}"
        return "helps, nobody harmed", f"{ends} in log2"


def _below(change: Estimate, limit: float) -> bool:
    return change.high is not None and change.high < limit


def _left_out(pair: Scores, gone: Bools, faint: Bools) -> dict[str, str]:
    reasons = dict[str, str]()
    for i, code in enumerate(pair.languages):
        if gone[:, i].any():
            both = "both plans" if gone[:, i].all() else ("the recipe", "the comparator")[
                int(gone[1, i])
            ]  # fmt: skip
            reasons[code] = f"collapsed under {both}"
        elif faint[:, i].any():
            reasons[code] = "damage is below the numerical floor's resolution"
    return reasons


def detectable(gain: Estimate) -> float | None:
    """Returns the smallest gain that so much text would find in 80 %, in the estimate's unit.

    Half the interval's width is what 97.5 % need above 0; 80 % power needs z.8/z.975 more.

    Args:
        gain: With an interval.

    Example:
        >>> round(detectable(Estimate(value=0.1, low=0.0, high=0.2, unit="log2 ratio")), 3)
        0.143
    """
    if gain.low is None or gain.high is None:
        return None
    z = float(ndtri((1 + gain.level) / 2))
    return (gain.high - gain.low) / 2 * (z + float(ndtri(POWER))) / z


def gap_change(ours: Floats, other: Floats) -> Estimate:
    """Returns log2 of the ratio of two spreads over the same languages, with its interval.

    Two correlated standard deviations are compared by the correlation of sum and difference
    (Morgan 1939, Pitman 1939): with F the ratio of variances, r their correlation and t Student's
    of n − 2,

        F·(k ± √(k² − 1)),   k = 1 + 2(1 − r²)t²/(n − 2).

    The languages are the units, as a sample of languages.

    Args:
        ours: log2 damage per token of each language, (A).
        other: The same of the comparator.

    Returns:
        Below 0 where the gap is smaller; without an interval under eight languages.

    Example:
        >>> logs = np.arange(8.0)
        >>> wobble = np.array([1, -1, -1, 1, 1, -1, -1, 1]) / 8
        >>> found = gap_change(0.5 * logs + wobble, logs)
        >>> round(found.value, 2), found.high < 0
        (-0.99, True)
    """
    unit, n = "log2 ratio of S", len(ours)
    if n < 2 or not (np.ptp(ours) > 0 and np.ptp(other) > 0):
        return Estimate(value=None, unit=unit, n=n, reason="fewer than two languages differ")
    ratio = float(ours.var() / other.var())
    value = 0.5 * float(np.log2(ratio))
    if n < FEWEST_LANGUAGES:
        why = f"not testable: languages are the units, and {n} are fewer than {FEWEST_LANGUAGES}"
        return Estimate(value=value, unit=unit, n=n, reason=why)
    r = float(np.corrcoef(ours, other)[0, 1])
    t = float(stdtrit(n - 2, (1 + LEVEL) / 2))
    k = 1 + 2 * max(0.0, 1 - r**2) * t**2 / (n - 2)
    ends = 0.5 * np.log2(ratio * (k + np.array([-1, 1]) * np.sqrt(k**2 - 1)))
    return Estimate(
        value=value, low=float(ends[0]), high=float(ends[1]), unit=unit, n=n,
        method="Morgan-Pitman, languages as units",
    )  # fmt: skip


def foreseen_detectable(
    table_bits: Floats, ours: Picks, other: Picks, rows: Sequence[int], n_confirm: int
) -> float:
    """Returns, before confirming, the smallest gain in the worst set that the text can show.

    From how the two plans' damage varies together over the sentences of the search, by the delta
    method, for so many sentences that confirm.

    Args:
        table_bits: Damage by sentence of each language, part and scheme, (A x G x C x N).
        ours: The recipe's plan.
        other: The comparator's.
        rows: Rows of the worst set.
        n_confirm: Sentences, or documents, that confirm.

    Returns:
        In log2 ratio; 0 where the plans are one.

    Example:
        >>> bits = TABLE.sentence_bits
        >>> one, two = PROBLEM.uniform, PROBLEM.raised(PROBLEM.cheapest, PROBLEM.dearest)
        >>> 0 < foreseen_detectable(bits, one, two, [2], 100) < foreseen_detectable(
        ...     bits, one, two, [2], 10)
        True
    """
    parts = np.arange(len(ours))
    a, b = (table_bits[:, parts, np.asarray(p)].sum(1)[list(rows)] for p in (ours, other))
    influence = (b / b.mean(-1, keepdims=True) - a / a.mean(-1, keepdims=True)).mean(0)
    n = influence.shape[-1]
    error = influence.std(ddof=1) / np.log(2) / np.sqrt(n_confirm) if n > 1 else np.nan
    return float((ndtri((1 + LEVEL) / 2) + ndtri(POWER)) * error)
