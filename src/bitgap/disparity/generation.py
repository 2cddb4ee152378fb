"""What a file writes in the whole model's place: greedy continuations, compared by language.

Both are given the first half of each sentence and continue it greedily, so that whatever differs is
the weights'. Of a language, over its sentences s, with w_s and q_s the continuations of the whole
model and of the file:

    agreement    Σ_s tokens of w_s before the first that differs in q_s  /  Σ_s tokens of w_s
    same         share of sentences with q_s = w_s
    repetition   mean of 1 − distinct 4-grams / 4-grams of tokens (seq-rep-4; Welleck et al. 2020,
                 arXiv:1908.04319), of the whole model and of the file
    confusion    share of continuations that are in another language than the prompt, or most of
                 whose letters are in another script (Marchisio et al. 2024, arXiv:2406.20052), of
                 the whole model, the file, and the corpus' own second halves, which tell how often
                 the identifier errs

Continuations without a letter tell no language and are left out there. A single flip makes all that
follows differ: agreement says when the first comes, not how much worse the text is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.disparity.records import estimate_json
from bitgap.records import Estimate, Floats, Units
from bitgap.stats.bootstrap import DRAWS, estimates

_SHARE = "share"
GRAM = 4
"""Tokens of the runs whose repetition is counted."""
_MEASURES = ("agreement", "same", "repetition", "repetition_whole", "confusion", "confusion_whole",
             "confusion_text", "script", "script_whole")  # fmt: skip
_DIFFERENCES = {
    "repetition_added": ("repetition", "repetition_whole"),
    "confusion_added": ("confusion", "confusion_whole"),
    "script_added": ("script", "script_whole"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """One sentence, continued twice; what is None cannot be told."""

    common: int
    """Tokens before the first that differs."""
    tokens: int
    """Tokens of the whole model's continuation."""
    same: bool
    repetition: float | None
    repetition_whole: float | None
    script: bool | None
    """Whether the file's continuation left the prompt's script."""
    script_whole: bool | None
    confusion: bool | None
    """Whether it left the prompt's language, as the identifier has it."""
    confusion_whole: bool | None
    confusion_text: bool | None
    """Whether the identifier takes the corpus' own second half for another language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageGeneration:
    """What became of one language's continuations."""

    language: str
    estimates: Mapping[str, Estimate]
    """``agreement``, ``same``; ``repetition``, ``confusion`` and ``script`` of the file, with
    ``_whole`` of the whole model and ``_added`` for the difference; ``confusion_text``."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON; numbers with ``_ci`` and ``_reason`` beside them."""
        found: dict[str, Any] = {}
        for name, one in self.estimates.items():
            found |= estimate_json(name, one)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a file writes in the whole model's place."""

    n_sentences: int
    new_tokens: int
    """Tokens of a continuation, at most."""
    identifier: str
    """What tells languages, with its version; empty where none is installed."""
    languages: tuple[LanguageGeneration, ...]
    examples: Mapping[str, tuple[str, str, str]]
    """By language: a prompt, the whole model's continuation and the file's, of the sentence where
    they part first."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON."""
        return {
            "sentences": self.n_sentences,
            "new_tokens": self.new_tokens,
            "identifier": self.identifier,
            "languages": {one.language: one.as_dict() for one in self.languages},
            "examples": {
                code: dict(zip(("prompt", "whole", "file"), texts, strict=True))
                for code, texts in self.examples.items()
            },
        }


def repetition(tokens: Sequence[int]) -> float | None:
    """Returns the share of runs of four tokens that came before; None of fewer than five tokens.

    Example:
        >>> repetition([1, 2, 3, 4, 5, 6]), repetition([1, 2] * 4), repetition([1, 2])
        (0.0, 0.6, None)
    """
    grams = [tuple(tokens[i : i + GRAM]) for i in range(len(tokens) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else None


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns how many tokens two continuations begin with alike.

    Example:
        >>> common_start([1, 2, 3], [1, 2, 4]), common_start([], [1])
        (2, 0)
    """
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def make_generation(
    continued: Mapping[str, Sequence[Continued]],
    units: Units,
    *,
    new_tokens: int,
    identifier: str,
    unknown: Mapping[str, str],
    examples: Mapping[str, tuple[str, str, str]],
    seed: int,
    draws: int = DRAWS,
) -> Generation:
    """Returns what became of continuations, by language, with intervals.

    Args:
        continued: By language, each sentence (N).
        units: What is resampled: the number of sentences, or the document of each.
        new_tokens: Tokens of a continuation, at most.
        identifier: What told languages; empty where nothing did.
        unknown: Languages that the identifier does not know, and why.
        examples: By language, see :class:`Generation`.
        seed: Of the draws.
        draws: How many.

    Example:
        >>> one = Continued(common=4, tokens=8, same=False, repetition=0.2, repetition_whole=0.0,
        ...                 script=False, script_whole=False, confusion=None, confusion_whole=None,
        ...                 confusion_text=None)
        >>> made = make_generation({"en": [one] * 4}, 4, new_tokens=8, identifier="", unknown={},
        ...                        examples={}, seed=0)
        >>> found = made.languages[0].estimates
        >>> found["agreement"].value, round(found["repetition_added"].value, 2)
        (0.5, 0.2)
        >>> found["confusion"].reason
        'no language identifier is installed'
    """
    n = len(next(iter(continued.values())))
    made: list[LanguageGeneration] = []
    for code, rows in continued.items():
        parts = {name: _numbers(rows, name) for name in _MEASURES}
        found = {name: _estimate([parts[name]], units, seed, draws) for name in _MEASURES}
        for name, (file, whole) in _DIFFERENCES.items():
            found[name] = _estimate([parts[file], parts[whole]], units, seed, draws)
        for name, one in found.items():
            if one.value is None and name.startswith("confusion"):
                why = unknown.get(code) or ("" if identifier else _NO_IDENTIFIER)
                found[name] = replace(one, reason=why or one.reason)
        made.append(LanguageGeneration(language=code, estimates=found))
    return Generation(
        n_sentences=n,
        new_tokens=new_tokens,
        identifier=identifier,
        languages=tuple(made),
        examples=dict(examples),
    )


_NO_IDENTIFIER = "no language identifier is installed"
Part = tuple[Floats, Floats]
"""Numerators and denominators of a share, by sentence, (N) each."""


def _numbers(rows: Sequence[Continued], name: str) -> Part:
    if name == "agreement":
        return _floats([r.common for r in rows]), _floats([r.tokens for r in rows])
    values: list[float | bool | None] = [getattr(row, name) for row in rows]
    return (
        _floats([0.0 if value is None else float(value) for value in values]),
        _floats([float(value is not None) for value in values]),
    )


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float64)


def _estimate(parts: Sequence[Part], units: Units, seed: int, draws: int) -> Estimate:
    """Returns a share with its interval, or the first share less the second."""

    def statistic(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [(weights @ above) / (weights @ below) for above, below in parts]
        return (shares[0] - shares[1] if len(shares) > 1 else shares[0])[:, None]

    if not all(below.any() for _, below in parts):
        return Estimate(value=None, unit=_SHARE, reason="no continuation tells it")
    (found,) = estimates(statistic, units, unit=_SHARE, seed=seed, draws=draws)
    lowest = 0.0 if len(parts) == 1 else -1.0
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(lowest, found.low), high=min(1.0, found.high))
