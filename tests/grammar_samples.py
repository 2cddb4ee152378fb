"""A small hand-made set of grammar tests: two languages that are rich in morphology and two not.

Words are invented for tests of letters, and their plural is marked in a way of the language's own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from bitgap.corpora.grammar.pairs import (
    AgreementSet,
    MinimalPair,
    TaggedSentence,
    fingerprint,
    make_pair,
)

# Article, plural of the noun, singular and plural of the verb, object that fits and one that not.
_MARKS = {
    "en": ("the", "s", "s", "", "tea", "ink"),
    "he": ("ha", "im", "", "im", "mai", "dio"),
    "fi": ("se", "t", "i", "vat", "vesi", "muste"),
    "fr": ("le", "s", "e", "ent", "the", "encre"),
}


def _stems(rng: random.Random, n: int) -> list[str]:
    made = {"".join(rng.choice("bdgklmnprt") + rng.choice("aeiou") for _ in range(2))}
    while len(made) < n:
        made.add("".join(rng.choice("bdgklmnprt") + rng.choice("aeiou") for _ in range(2)))
    return sorted(made)


def sample_grammar(
    languages: Sequence[str] = ("en", "he", "fi", "fr"), *, n_items: int = 12, seed: int = 0
) -> AgreementSet:
    """A set of ``n_items`` mirrored agreement items and as many lexical ones of each language."""
    pairs: dict[str, tuple[MinimalPair, ...]] = {}
    tagged: dict[str, tuple[TaggedSentence, ...]] = {}
    for code in languages:
        rng = random.Random(f"{seed}{code}")
        article, plural, one, many, fits, not_fits = _MARKS[code]
        nouns, verbs = _stems(rng, n_items), _stems(rng, 4)
        mine: list[MinimalPair | str] = []
        sentences = []
        for i, noun in enumerate(nouns):
            verb = verbs[i % len(verbs)]
            singular = f"{article} {noun} {verb}{one}"
            plurals = f"{article} {noun}{plural} {verb}{many}"
            names = {"code": code, "item": f"{noun} {verb}"}
            for good, bad in (
                (singular, f"{article} {noun} {verb}{many}"),
                (plurals, f"{article} {noun}{plural} {verb}{one}"),
            ):
                mine.append(make_pair(good, bad, phenomenon="number", template="plain", **names))
                lexical = (f"{good} {fits}", f"{good} {not_fits}")
                mine.append(make_pair(*lexical, phenomenon="lexical", template="object", **names))
            sentences += [_tagged(code, singular, "Sing"), _tagged(code, plurals, "Plur")]
        assert not [pair for pair in mine if isinstance(pair, str)], mine
        pairs[code] = tuple(pair for pair in mine if isinstance(pair, MinimalPair))
        tagged[code] = tuple(sentences)
    return AgreementSet(
        name="sample", pairs=pairs, tagged=tagged, excluded={},
        fingerprint=fingerprint(pairs, tagged), source="nobody", licence="CC0-1.0",
    )  # fmt: skip


def _tagged(code: str, text: str, number: str) -> TaggedSentence:
    words = tuple(text.split())
    starts = [sum(len(w) + 1 for w in words[:i]) for i in range(len(words))]
    return TaggedSentence(
        language=code,
        words=words,
        text=text,
        spans=tuple((a, a + len(w)) for a, w in zip(starts, words, strict=True)),
        features=({}, {"Number": number}, {"Number": number, "Person": "3"}),
        lemmas=words,
    )
