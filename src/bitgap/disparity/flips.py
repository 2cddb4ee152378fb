"""How often the most likely next token is another one, by language.

With t a scored token, top_fp(t) the token of the largest logit in full precision there and z_q the
plan's logits,

    flips_λ = share of t in λ for which some v has z_q(v|t) > z_q(top_fp(t)|t)

Greedy decoding goes another way at such a token. A flip where two tokens were all but equally
likely costs little, and where one was certain much; K tells them apart, flips do not (Dutta et al.
2024, "Accuracy is not all you need", arXiv:2407.09141).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bitgap.disparity.records import estimate_json
from bitgap.records import Estimate, Floats, Integers, Scores, Units
from bitgap.stats.bootstrap import DRAWS, estimates

SHARE = "share of tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageFlips:
    """What one plan changed in one language."""

    language: str
    """Code."""
    tokens: int
    """Scored tokens."""
    flipped: int
    """Those whose most likely next token is another one."""
    share: Estimate
    """flips_λ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Where the most likely next token changed, by language, in the order of the scores."""

    languages: tuple[LanguageFlips, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON by language; ``share`` with its interval beside it."""
        return {
            one.language: {
                "tokens": one.tokens,
                "flipped": one.flipped,
                **estimate_json("share", one.share),
            }
            for one in self.languages
        }


def make_flips(
    flipped: Integers,
    tokens: Integers,
    languages: Sequence[str],
    units: Units,
    *,
    seed: int,
    draws: int = DRAWS,
) -> Flips:
    """Returns the share of changed tokens of each language, with its interval.

    Args:
        flipped: Changed tokens of each sentence, (A x N).
        tokens: Scored tokens of each sentence, (A x N).
        languages: Codes, (A).
        units: What is resampled: the number of sentences, or the document of each.
        seed: Of the draws.
        draws: How many.

    Example:
        >>> flipped, tokens = np.array([[1, 0, 2], [0, 0, 0]]), np.array([[10, 8, 12], [9, 9, 9]])
        >>> en, de = make_flips(flipped, tokens, ["en", "de"], 3, seed=0).languages
        >>> en.flipped, en.share.value, de.share.value, de.share.low
        (3, 0.1, 0.0, None)
    """

    def share(weights: Floats) -> Floats:
        return (weights @ flipped.T) / (weights @ tokens.T)

    found = estimates(share, units, unit=SHARE, seed=seed, draws=draws)
    totals = zip(languages, tokens.sum(1), flipped.sum(1), found, strict=True)
    return Flips(
        languages=tuple(
            LanguageFlips(
                language=code,
                tokens=int(n),
                flipped=int(changed),
                share=_within(one, bool(changed)),
            )
            for code, n, changed, one in totals
        )
    )


def _within(share: Estimate, any_changed: bool) -> Estimate:
    """Returns a share whose interval does not leave 0 to 1."""
    if not any_changed:
        return replace(share, low=None, high=None, reason="none changed, and draws do not vary")
    if share.low is None or share.high is None:
        return share
    return replace(share, low=max(0.0, share.low), high=min(1.0, share.high))


def flips_of(counts: Integers, scores: Scores, *, seed: int) -> Flips:
    """Returns the flips of a plan that was scored.

    Args:
        counts: Changed tokens of each sentence, (A x N).
        scores: Of the same text.
        seed: Of the draws.

    Example:
        >>> flips = flips_of(np.ones((3, 8), dtype=int), SCORES, seed=0)
        >>> [round(one.share.value, 2) for one in flips.languages]
        [0.11, 0.07, 0.06]
    """
    return make_flips(counts, scores.counts.tokens, scores.languages, scores.units, seed=seed)
