"""Whether a plan may replace full precision: harm by language against a limit.

With Δ_λ the change of NLL in bits per reference character and m the limit, over A languages at
error α:

    beyond   the lower end of an interval of one-sided level 1 − α/A lies above m
    within   the upper end of an interval of one-sided level 1 − α does not
    else     it cannot be told with these sentences

Nothing is decided by fewer than :data:`FEWEST` sentences, or documents where they are known: at the
limit itself, intervals of four called a language beyond it in 17 of 60 trials, those of eight in 2.

A release is refused falsely, in any language, in at most α of cases (Bonferroni); it is let through
falsely in at most α, as every language must be within (Berger 1982, intersection-union).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bitgap.disparity.formulas import Sums, collapsed, delta_bits
from bitgap.disparity.gates import PER_TEXT, select_plans
from bitgap.errors import UsageError
from bitgap.records import Estimate, Floats, Scores
from bitgap.stats.bootstrap import DRAWS, estimates, n_units

Outcome = Literal["within", "beyond", "cannot be told"]
ALPHA = 0.05
FEWEST = 8
_DRAWS_BEYOND_AN_END = 10
"""Draws that shall lie outside the rarer end of an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageGate:
    """What is said of one language."""

    language: str
    outcome: Outcome
    harm: Estimate
    """Δ_λ; its interval is that of the outcome: for ``beyond`` of level 1 − 2α/A, else 1 − 2α."""
    reason: str
    """The clause that decided, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether a plan may replace full precision."""

    plan: str
    max_harm: float
    """m, bits per reference character."""
    alpha: float
    reference: str
    n_sentences: int
    languages: tuple[LanguageGate, ...]

    @property
    def outcome(self) -> Outcome:
        """Of all languages: beyond if any is, else cannot be told if any cannot, else within."""
        found = {one.outcome for one in self.languages}
        for outcome in ("beyond", "cannot be told"):
            if outcome in found:
                return outcome
        return "within"

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON."""
        return {
            "gate": self.outcome,
            "max_harm": self.max_harm,
            "alpha": self.alpha,
            "reference": self.reference,
            "n_sentences": self.n_sentences,
            "languages": {one.language: _told(one) for one in self.languages},
        }


def _told(one: LanguageGate) -> dict[str, Any]:
    harm = asdict(one.harm)
    ends = None if harm["low"] is None else [harm["low"], harm["high"]]
    return {"outcome": one.outcome, "harm": harm["value"], "harm_ci": ends,
            "harm_reason": harm["reason"], "level": harm["level"],
            "reason": one.reason}  # fmt: skip


def judge_gate(
    scores: Scores,
    plan: str,
    max_harm: float,
    *,
    languages: Sequence[str] | None = None,
    alpha: float = ALPHA,
    seed: int,
) -> Gate:
    """Returns whether a plan's harm stays within a limit in every language.

    Args:
        scores: Scores that hold the plan.
        plan: Its canonical text.
        max_harm: Bits per reference character, of 0 or more.
        languages: Which are judged; all when None.
        alpha: Error, of refusing falsely and of letting through falsely.
        seed: Of the draws.

    Raises:
        UsageError: If the plan was not scored or the limit is no number of 0 or more.

    Example:
        >>> for limit in (0.5, 0.05, 0.02):
        ...     gate = judge_gate(SCORES, "rtn4-g128", limit, seed=0)
        ...     print(gate.outcome, [one.outcome for one in gate.languages])
        within ['within', 'within', 'within']
        beyond ['within', 'cannot be told', 'beyond']
        beyond ['cannot be told', 'beyond', 'beyond']
    """
    if not (math.isfinite(max_harm) and max_harm >= 0):
        raise UsageError(f"the limit is {max_harm}; give bits per character of 0 or more")
    wanted = tuple(languages or scores.languages)
    mine = select_plans(scores, [plan], seed, DRAWS)
    rows = [mine.languages.index(code) for code in wanted]

    def harm(weights: Floats) -> Floats:
        return delta_bits(Sums(mine, weights))[:, 0, rows]

    def at(error: float) -> list[Estimate]:
        draws = max(DRAWS, math.ceil(_DRAWS_BEYOND_AN_END / error))
        level = 1 - 2 * error
        return estimates(harm, mine.units, unit=PER_TEXT, seed=seed, draws=draws, level=level)

    gone, n = collapsed(mine)[0], n_units(mine.units)
    few = f"{n} sentences or documents decide nothing; it takes {FEWEST}" if n < FEWEST else ""
    each = zip(wanted, rows, at(alpha / len(wanted)), at(alpha), strict=True)
    return Gate(
        plan=plan,
        max_harm=max_harm,
        alpha=alpha,
        reference=scores.reference,
        n_sentences=scores.n_sentences,
        languages=tuple(
            _judged(code, max_harm, wide, narrow, bool(gone[row]), few)
            for code, row, wide, narrow in each
        ),
    )


def _judged(
    code: str, limit: float, wide: Estimate, narrow: Estimate, collapsed_: bool, few: str
) -> LanguageGate:
    def said(outcome: Outcome, harm: Estimate, reason: str) -> LanguageGate:
        return LanguageGate(language=code, outcome=outcome, harm=harm, reason=reason)

    if narrow.value is None:
        return said("beyond", narrow, "its harm is not finite: the text has become impossible")
    if few:
        return said("cannot be told", narrow, few)
    if wide.low is not None and wide.low > limit:
        return said("beyond", wide, f"the interval of its harm lies above {limit:g}")
    if collapsed_ and narrow.value > limit:
        return said("beyond", narrow, "it collapsed: no better than add-one unigrams")
    if narrow.high is None:
        # Damage of a plan that changes nothing does not vary, and is what it is.
        if narrow.value == 0.0:
            return said("within", narrow, "nothing changed")
        return said("cannot be told", narrow, f"there is no interval: {narrow.reason}")
    if narrow.high <= limit:
        return said("within", narrow, f"the interval of its harm does not reach above {limit:g}")
    return said("cannot be told", narrow, f"the interval of its harm holds {limit:g}")
