"""Where the grammar tests of a lab come from: its own, or the bundled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bitgap.corpora.grammar.agreement import load_agreement
from bitgap.corpora.grammar.pairs import AgreementSet, MinimalPair, TaggedSentence
from bitgap.corpora.grammar.treebank import Treebank
from bitgap.errors import LanguageError
from bitgap.experiments.t008_morphology.matched_pairs import LEXICAL
from bitgap.lab.lab import Lab
from bitgap.languages import language, matching

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sources:
    """Grammar tests of a lab's languages.

    Attributes:
        agreement: Agreement pairs by language.
        lexical: Control pairs by language.
        tagged: Tagged sentences by language.
        names: What each came from.
        fingerprints: Likewise, by content; part of the key of the observations.
    """

    agreement: Mapping[str, Sequence[MinimalPair]]
    lexical: Mapping[str, Sequence[MinimalPair]]
    tagged: Mapping[str, Sequence[TaggedSentence]]
    names: Mapping[str, str]
    fingerprints: Mapping[str, str]


def sources(lab: Lab, per_kind: int | None = None) -> Sources:
    """Returns the lab's own grammar tests and treebanks, the bundled ones in the place of others.

    A set of pairs without lexical ones in a language, or without tagged sentences at all, borrows
    the bundled ones.

    Args:
        lab: Its languages count.
        per_kind: Morphologically rich languages, and others, to keep at most; all when None.
    """
    grammar: AgreementSet = lab.grammar or load_agreement()
    words: AgreementSet | Treebank = lab.treebanks or grammar
    if not any(words.tagged.values()):
        words = load_agreement()
    agreement: dict[str, list[MinimalPair]] = {}
    lexical: dict[str, list[MinimalPair]] = {}
    controls: dict[str, str] = {}
    # A corpus may tell a script or a region that pairs and treebanks do not: gsw-Latn, pt-BR.
    pairs = {code: _one(code, grammar.pairs) for code in lab.languages}
    tagged = {code: _one(code, words.tagged) for code in lab.languages}
    have = [code for code in lab.languages if pairs[code] or tagged[code]]
    kept = _of_either_kind(have, per_kind)
    for code in (code for code in kept if pairs[code]):
        agreement[code], lexical[code] = _split(pairs[code])
        source = grammar
        if not lexical[code]:
            source = load_agreement()
            lexical[code] = _split(_one(code, source.pairs))[1]
        controls[source.name] = source.fingerprint
    return Sources(
        agreement=agreement,
        lexical=lexical,
        tagged={code: tagged[code] for code in kept if tagged[code]},
        names={
            "agreement": grammar.name,
            "lexical": ", ".join(controls),
            "words": words.name,
        },
        fingerprints={
            "agreement": grammar.fingerprint,
            "lexical": ", ".join(controls.values()),
            "words": words.fingerprint,
        },
    )


def _one(code: str, have: Mapping[str, Sequence[T]]) -> Sequence[T]:
    """Returns what there is of a language, if a code means one of those that there are."""
    try:
        found = matching(code, have)
    except LanguageError:  # a code of the caller's own, as for halves of a language
        return ()
    return have[found[0]] if len(found) == 1 else ()


def _of_either_kind(codes: Sequence[str], n: int | None) -> list[str]:
    kinds = {code: language(code).morphologically_rich for code in codes}
    chosen = {code for kind in (True, False) for code in [c for c in codes if kinds[c] is kind][:n]}
    return [code for code in codes if code in chosen]


def _split(pairs: Sequence[MinimalPair]) -> tuple[list[MinimalPair], list[MinimalPair]]:
    agreement = [pair for pair in pairs if pair.phenomenon != LEXICAL]
    return agreement, [pair for pair in pairs if pair.phenomenon == LEXICAL]
