"""The records of grammar tests: minimal pairs, sentences with gold features, and sets of both.

A minimal pair is a grammatical sentence and the same sentence with one word changed so that it is
no longer grammatical (``number``, ``gender``, ``person``) or no longer plausible (``lexical``, the
control, where grammar plays no part). After Linzen, Dupoux & Goldberg (2016), Marvin & Linzen
(2018) and Mueller et al. (2020).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bitgap.corpora.intake import CORE_LANGUAGES, parse_languages
from bitgap.errors import CorpusError, LanguageError
from bitgap.languages import language, matching

PHENOMENA = ("number", "gender", "person", "lexical")
"""What a pair may test, the last being the control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimalPair:
    """Two sentences that differ in one word, of which one is right."""

    language: str
    """Code as in :mod:`bitgap.languages`."""
    phenomenon: str
    """One of :data:`PHENOMENA`."""
    template: str
    """Construction, such as ``relative clause attractor``."""
    good: str
    """The right sentence."""
    bad: str
    """The wrong sentence; its words are those of ``good`` but one."""
    critical: int
    """Number from 0 of the differing word among ``good.split()``, and among ``bad.split()``."""
    item: str
    """Family of lexical items, such as subject and verb: the unit that bootstraps resample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedSentence:
    """A grammatical sentence whose words have gold features."""

    language: str
    """Code as in :mod:`bitgap.languages`."""
    words: tuple[str, ...]
    """The words of the text in order."""
    text: str
    """The sentence."""
    spans: tuple[tuple[int, int], ...]
    """Characters [start, end) of each word in ``text``."""
    features: tuple[Mapping[str, str], ...]
    """Features of each word in the names of Universal Dependencies; empty where it has none."""
    lemmas: tuple[str, ...]
    """Dictionary form of each word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementSet:
    """Minimal pairs and tagged sentences of some languages."""

    name: str
    """What reports call it."""
    pairs: Mapping[str, tuple[MinimalPair, ...]]
    """By code of language."""
    tagged: Mapping[str, tuple[TaggedSentence, ...]]
    """By code of language; empty where the source has no features."""
    excluded: Mapping[str, int]
    """Why pairs were left out, and how many."""
    fingerprint: str
    """SHA-256 of the content, as hexadecimal digits; name, source and licence do not enter."""
    source: str
    """Who wrote it."""
    licence: str
    """SPDX id or the source's own words."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that have pairs, in the order of tables and figures."""
        return tuple(self.pairs)

    def select(self, languages: str | Sequence[str] | None) -> AgreementSet:
        """Returns the set with those of the languages that it has; all of them when None.

        Args:
            languages: In any spelling; one that the set lacks is passed over.

        Raises:
            LanguageError: If a spelling names no language, or none of them is in the set.
        """
        if languages is None:
            return self
        codes = present(self.languages, languages, f"minimal pairs {self.name}")
        pairs = {code: self.pairs[code] for code in codes}
        tagged = {code: self.tagged[code] for code in codes if code in self.tagged}
        return replace(self, pairs=pairs, tagged=tagged, fingerprint=fingerprint(pairs, tagged))


def present(have: Iterable[str], languages: str | Sequence[str] | None, where: str) -> list[str]:
    """Returns which of these codes are wanted, in the customary order; all when None.

    Raises:
        LanguageError: If a spelling names no language, or none of them is there.
    """
    rank = {code: number for number, code in enumerate(CORE_LANGUAGES)}
    codes = sorted(have, key=lambda code: (rank.get(code, len(rank)), code))
    wanted = parse_languages(languages)
    if wanted is None:
        return codes
    asked = {language(spelling).code for spelling in wanted}
    found = [code for code in codes if code in asked]
    if not found:
        raise LanguageError(
            f"{where}: none of {', '.join(sorted(asked))} is there; it has {', '.join(codes)}"
        )
    return found


def require_common(have: Iterable[str], codes: Sequence[str], what: str) -> None:
    """Refuses pairs or treebanks of which no language is in the text that is measured.

    Args:
        have: Their codes.
        codes: The text's.
        what: What a message calls them.

    Raises:
        LanguageError: If there is no language in both.
    """
    have = tuple(have)
    if not any(matching(code, have) for code in codes):
        raise LanguageError(
            f"{what}: of {', '.join(have)}, and the text is of {', '.join(codes)}; no language is "
            f"in both, so there is nothing to look at; give some of the text's, or leave it out "
            f"for the bundled sentences"
        )


def make_pair(
    good: str, bad: str, *, code: str, phenomenon: str, template: str, item: str | None = None
) -> MinimalPair | str:
    """Makes a minimal pair, or says why these two sentences are none.

    Sentences without whitespace inside, as in Chinese, count as one word each.

    Args:
        good: The right sentence.
        bad: The wrong one.
        code: Code of the language.
        phenomenon: One of :data:`PHENOMENA`.
        template: Construction.
        item: Family of lexical items; the two differing words when None.

    Returns:
        The pair, or ``"identical"`` or ``"not minimal"``.
    """
    right, wrong = good.split(), bad.split()
    if right == wrong:
        return "identical"
    if len(right) != len(wrong):
        return "not minimal"
    differing = [i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b]
    if len(differing) > 1:
        return "not minimal"
    (critical,) = differing
    return MinimalPair(
        language=code,
        phenomenon=phenomenon,
        template=template,
        good=good,
        bad=bad,
        critical=critical,
        item="/".join(sorted((right[critical], wrong[critical]))) if item is None else item,
    )


def make_set(
    name: str,
    pairs: Mapping[str, Sequence[MinimalPair]],
    *,
    tagged: Mapping[str, Sequence[TaggedSentence]],
    excluded: Mapping[str, int],
    source: str,
    licence: str,
) -> AgreementSet:
    """Puts languages in the customary order, drops pairs that stand twice, and signs the set.

    Raises:
        CorpusError: If no pair is left.
    """
    counts = Counter(excluded)
    kept: dict[str, tuple[MinimalPair, ...]] = {}
    for code in present(pairs, None, name):
        unique = {(pair.good, pair.bad): pair for pair in reversed(pairs[code])}
        counts["repeated"] += len(pairs[code]) - len(unique)
        if unique:
            kept[code] = tuple(reversed(unique.values()))
    counts = +counts
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise CorpusError(
            f"{name}: no usable minimal pair; left out: {reasons or 'nothing, it is empty'}; the "
            "two sentences of a pair must differ in exactly one word"
        )
    sentences = {code: tuple(tagged[code]) for code in kept if tagged.get(code)}
    return AgreementSet(
        name=name,
        pairs=kept,
        tagged=sentences,
        excluded=dict(sorted(counts.items())),
        fingerprint=fingerprint(kept, sentences),
        source=source,
        licence=licence,
    )


def fingerprint(
    pairs: Mapping[str, Sequence[MinimalPair]], tagged: Mapping[str, Sequence[TaggedSentence]]
) -> str:
    """Returns the SHA-256 of all pairs and tagged sentences, in order, as compact JSON in UTF-8."""
    content = [
        [
            [code, p.phenomenon, p.template, p.good, p.bad, p.critical, p.item]
            for code, of_language in pairs.items()
            for p in of_language
        ],
        [
            [code, s.text, s.words, s.spans, [sorted(f.items()) for f in s.features], s.lemmas]
            for code, of_language in tagged.items()
            for s in of_language
        ],
    ]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
