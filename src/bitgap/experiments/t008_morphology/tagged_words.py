"""States at the last token of words whose morphology is known, at every site.

A sample of words is drawn sentence by sentence: no word type more than a few times, or a handful of
function words would decide what a probe learns. A word's state is that of its last token, the first
place where a causal model has seen all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitgap.corpora.grammar.pairs import TaggedSentence
from bitgap.corpora.grammar.treebank import FEATURES, token_ranges
from bitgap.lab.activations import stream
from bitgap.lab.engine.text import cut_rows
from bitgap.lab.lab import Lab
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Integers

TOO_LONG = "sentences longer than the model's context"
NO_TOKEN = "words without a last token of their own"
UNKNOWN = "words wholly unknown to the tokenizer"

States = NDArray[np.float32]
"""States of n words at S = L+1 sites, (S x n x d); row 0 enters block 0."""


@dataclass(frozen=True, slots=True)
class TaggedWords:
    """A sample of words with gold features.

    Attributes:
        languages: Codes that ``language`` counts in.
        ids: Token ids of the sentences that words were taken from, with the BOS.
        sentence: Place of each word's sentence in ``ids``, (n).
        position: Position of its last token in the sentence, (n).
        language: Number of its language, (n).
        type: Number of its word type, no two languages sharing one, (n).
        values: Value of each feature by its name, "" where the word has none or several, (n) each.
        excluded: What was left out, by reason.
    """

    languages: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    sentence: Integers
    position: Integers
    language: Integers
    type: Integers
    values: Mapping[str, NDArray[np.str_]]
    excluded: Mapping[str, int]

    def select(self, rows: Integers) -> TaggedWords:
        """Returns some of the words; sentences that none of them is from are dropped."""
        used = np.unique(self.sentence[rows])
        return TaggedWords(
            languages=self.languages,
            ids=tuple(self.ids[i] for i in used),
            sentence=np.searchsorted(used, self.sentence[rows]),
            position=self.position[rows],
            language=self.language[rows],
            type=self.type[rows],
            values={name: values[rows] for name, values in self.values.items()},
            excluded=self.excluded,
        )


def sample_words(
    lab: Lab,
    tagged: Mapping[str, Sequence[TaggedSentence]],
    *,
    per_language: int,
    per_type: int,
    features: Sequence[str] = FEATURES,
    seed: int,
) -> TaggedWords:
    """Returns words that have any of the features, drawn from sentences in random order.

    Args:
        lab: With tokenizer and context.
        tagged: Sentences by language.
        per_language: Words of a language, at most.
        per_type: Occurrences of a word type, at most; types are told apart without case.
        features: Which features count.
        seed: Of the order of sentences.
    """
    sample = _Sample(lab, features)
    for number, sentences in enumerate(tagged.values()):
        order = np.random.default_rng((seed, number)).permutation(len(sentences))
        left, taken = per_language, Counter[str]()
        for i in order:
            if left <= 0:
                break
            left -= sample.take(number, sentences[int(i)], left, per_type, taken)
    return sample.finished(tuple(tagged))


class _Sample:
    """Words as they are drawn."""

    def __init__(self, lab: Lab, features: Sequence[str]) -> None:
        tokenizer = lab.loaded.tokenizer
        self._tokenizer, self._context = tokenizer, lab.info.context
        self._unknown = getattr(tokenizer, "unk_token_id", None)
        self._lead = lab.text.prefix.ids
        self._features = tuple(features)
        self._ids: list[tuple[int, ...]] = []
        self._rows: list[tuple[int, int, int, int]] = []
        self._values: list[tuple[str, ...]] = []
        self._types: dict[tuple[int, str], int] = {}
        self._excluded: Counter[str] = Counter()

    def take(
        self, language: int, one: TaggedSentence, left: int, per_type: int, taken: Counter[str]
    ) -> int:
        """Takes words of a sentence; returns how many."""
        bare, ranges = token_ranges(self._tokenizer, one.text, one.spans)
        ids = (*self._lead, *bare)
        if self._context is not None and len(ids) > self._context:
            self._excluded[TOO_LONG] += 1
            return 0
        before, n_taken = -1, 0
        for word, features, place in zip(one.words, one.features, ranges, strict=True):
            start, at = place or (0, -1)
            own, before = at > before, max(at, before)
            values = tuple(_single(features.get(name)) for name in self._features)
            key = word.casefold()
            if not any(values) or n_taken == left or taken[key] == per_type:
                continue
            if not own:
                self._excluded[NO_TOKEN] += 1
            elif self._unknown is not None and set(bare[start : at + 1]) == {self._unknown}:
                self._excluded[UNKNOWN] += 1
            else:
                kind = self._types.setdefault((language, key), len(self._types))
                self._rows.append((len(self._ids), len(self._lead) + at, language, kind))
                self._values.append(values)
                taken[key] += 1
                n_taken += 1
        if n_taken:
            self._ids.append(ids)
        return n_taken

    def finished(self, languages: tuple[str, ...]) -> TaggedWords:
        """Returns the sample."""
        columns = np.array(self._rows, dtype=np.int64).reshape(-1, 4).T
        values = np.array(self._values, dtype=np.str_).reshape(-1, len(self._features)).T
        return TaggedWords(
            languages=languages,
            ids=tuple(self._ids),
            sentence=columns[0],
            position=columns[1],
            language=columns[2],
            type=columns[3],
            values=dict(zip(self._features, values, strict=True)),
            excluded=dict(self._excluded),
        )


def _single(value: str | None) -> str:
    # "1,2,3" says that a form serves every person, which is no value to ask for.
    return "" if value is None or "," in value else value


def word_states(lab: Lab, words: TaggedWords) -> States:
    """Returns full-precision states at each word's last token, (L+1 x n x d).

    Costs one forward pass of the sentences, no head.
    """
    states = np.zeros((lab.n_blocks + 1, len(words.sentence), lab.decoder.width), dtype=np.float32)
    if not len(words.sentence):
        return states
    chunks = cut_rows(words.ids, lab.engine.layout.chunk_rows, lab.settings.device)
    for part in stream(lab, [Plan.uniform(FP, lab.n_blocks)], chunks):
        site = part.depth + 1
        if site > lab.n_blocks:
            continue
        row_of = np.full(len(words.ids), -1)
        row_of[part.chunk.where] = np.arange(len(part.chunk.where))
        inside = np.flatnonzero(row_of[words.sentence] >= 0)
        rows, columns = row_of[words.sentence[inside]], words.position[inside]
        last = part.states[0][torch.from_numpy(rows), torch.from_numpy(columns)]
        states[site, inside] = last.float().cpu().numpy()
    return states
