"""Sentences as tokens, and tokens as the batches the engine runs.

One sentence is one sequence, with a prefix in front (:mod:`bitgap.lab.engine.prefix`); what is
scored are the tokens of the sentence that some earlier token predicts. Sentences are sorted by
length and cut into chunks that waste little padding; padding stands on the right, where a causal
model never looks back at it from a real token, so no mask is needed.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitgap.corpora.parallel import ParallelCorpus
from bitgap.corpora.unigrams import add_one_nats
from bitgap.errors import CorpusError
from bitgap.lab.engine.prefix import Prefix, prefix_of
from bitgap.records import Floats, Integers, TextCounts

# A language most of whose tokens are "unknown" is not read but guessed at.
_MOST_UNKNOWN = 0.5
# What one more chunk costs, in padded rows: the launch overhead of a block on a few dozen rows.
_CHUNK_OVERHEAD_ROWS = 48


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A corpus as token ids; sentences too long for any language are dropped in all.

    Attributes:
        languages: Codes, reference first.
        ids: Token ids with the prefix, for each language and kept sentence.
        kept: Numbers of the kept sentences in the corpus, (N).
        counts: Scored tokens, bytes and characters, (A x N) each.
        prefix: What each sequence begins with, and by which rule.
        unigram_nats: Add-one unigram cross-entropy of the scored tokens, (A x N); counted on other
            text where there are counts of the language, else on its other kept sentences.
        unigram_tokens: Tokens of other text that it rests on, (A); 0 where there are no counts.
        n_dropped: How many sentences were too long or too short.
        n_short: How many of them were too short: nothing of them could be scored.
    """

    languages: tuple[str, ...]
    ids: tuple[tuple[tuple[int, ...], ...], ...]
    kept: Integers
    counts: TextCounts
    prefix: Prefix
    unigram_nats: Floats
    unigram_tokens: Integers
    n_dropped: int
    n_short: int = 0


def tokenize(
    corpus: ParallelCorpus,
    tokenizer: Any,
    *,
    context: int | None,
    vocabulary: int,
    unigrams: Mapping[str, Integers] | None = None,
    prefix: Prefix | None = None,
) -> TokenizedText:
    """Turns a corpus into token ids.

    Args:
        corpus: Aligned sentences.
        tokenizer: A transformers tokenizer.
        context: Longest sequence the model takes, prefix included; None for no limit.
        vocabulary: Number of logits V, for the add-one unigram model.
        unigrams: How often each token came in other text, (V), by language.
        prefix: What stands in front of every sentence; by the rule of
            :mod:`bitgap.lab.engine.prefix` when None.

    Raises:
        CorpusError: If fewer than two sentences can be scored in every language.
    """
    prefix = prefix_of(tokenizer) if prefix is None else prefix
    ids = [
        [
            prefix.ids + tuple(row)
            for row in tokenizer(list(corpus.sentences[code]), add_special_tokens=False).input_ids
        ]
        for code in corpus.languages
    ]
    lengths = np.array([[len(row) for row in rows] for rows in ids])
    short = (lengths <= prefix.first).any(0)
    long = np.zeros_like(short) if context is None else (lengths > context).any(0)
    kept = np.flatnonzero(~(short | long))
    if len(kept) < 2:
        raise CorpusError(_too_few(corpus, lengths, prefix, context, len(kept)))
    rows = tuple(tuple(language[i] for i in kept) for language in ids)
    counted = [(unigrams or {}).get(code) for code in corpus.languages]
    return TokenizedText(
        languages=corpus.languages,
        ids=rows,
        kept=kept,
        counts=_counts(corpus, kept, lengths - prefix.first),
        prefix=prefix,
        unigram_nats=np.stack(
            [
                _unigram(language, vocabulary, prefix.first)
                if counts is None
                else _by_counts(language, counts, prefix.first)
                for language, counts in zip(rows, counted, strict=True)
            ]
        ),
        unigram_tokens=np.array(
            [0 if counts is None else counts.sum() for counts in counted], dtype=np.int64
        ),
        n_dropped=corpus.n_sentences - len(kept),
        n_short=int(short.sum()),
    )


def _too_few(
    corpus: ParallelCorpus, lengths: Integers, prefix: Prefix, context: int | None, n_kept: int
) -> str:
    """Returns why too few sentences are left, naming one that is too short or too long."""
    said = [f"{corpus.name}: {n_kept} of {corpus.n_sentences} sentences can be scored, and it "
            "takes two"]  # fmt: skip
    short = np.argwhere((lengths <= prefix.first).T)
    if len(short):
        number, row = short[0]
        said.append(
            f"{len(set(short[:, 0]))} are too short in some language, without a token that "
            f"another predicts, such as sentence {number + 1} in {corpus.languages[row]} "
            f"({prefix.text}); give longer sentences"
        )
    long = np.argwhere((lengths > context).T) if context is not None else short[:0]
    if len(long):
        number, row = long[0]
        said.append(
            f"{len(set(long[:, 0]))} are longer than the model's context of {context} tokens in "
            f"some language, such as sentence {number + 1} in {corpus.languages[row]} with "
            f"{lengths[row, number]}; give shorter sentences, fewer languages, or a model with a "
            "longer context"
        )
    if not len(short) and not len(long):
        said.append("give more sentences")
    return "; ".join(said)


def unreadable(corpus: ParallelCorpus, tokenizer: Any) -> dict[str, str]:
    """Returns the languages a tokenizer cannot read, and why each: most tokens are unknown.

    Args:
        corpus: Aligned sentences.
        tokenizer: A transformers tokenizer.

    Raises:
        CorpusError: If the reference is among them, or no language is left beside it.
    """
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return {}
    found: dict[str, str] = {}
    for code in corpus.languages:
        rows = tokenizer(list(corpus.sentences[code]), add_special_tokens=False).input_ids
        n, bad = sum(map(len, rows)), sum(row.count(unknown) for row in rows)
        if bad > _MOST_UNKNOWN * n:
            found[code] = f"{bad} of {n} tokens are unknown to the model's tokenizer"
    left = [code for code in corpus.languages if code not in found]
    if corpus.reference in found or (found and len(left) < 2):
        told = "; ".join(f"{code}: {why}" for code, why in found.items())
        raise CorpusError(
            f"{corpus.name}: too few languages are left that the model can read ({told}); name "
            f"languages it was trained on with --languages, or another model"
        )
    return found


def _counts(corpus: ParallelCorpus, kept: Integers, n_scored: Integers) -> TextCounts:
    text = [
        [unicodedata.normalize("NFC", corpus.sentences[code][i]) for i in kept]
        for code in corpus.languages
    ]
    return TextCounts(
        tokens=n_scored[:, kept],
        bytes=np.array([[len(s.encode()) for s in row] for row in text]),
        characters=np.array([[len(s) for s in row] for row in text]),
    )


def _unigram(sentences: Sequence[Sequence[int]], vocabulary: int, first: int) -> Floats:
    """Add-one unigram cross-entropy in nats of each sentence's scored tokens, leaving it out."""
    scored = [np.asarray(s[first:]) for s in sentences]
    total = np.bincount(np.concatenate(scored), minlength=vocabulary)
    nats = np.empty(len(scored))
    for i, tokens in enumerate(scored):
        others = total[tokens] - np.bincount(tokens, minlength=vocabulary)[tokens]
        nats[i] = -np.log((others + 1) / (total.sum() - len(tokens) + vocabulary)).sum()
    return nats


def _by_counts(sentences: Sequence[Sequence[int]], counts: Integers, first: int) -> Floats:
    """Add-one unigram cross-entropy in nats of each sentence's scored tokens, by other text."""
    scored = (np.asarray(s[first:], dtype=np.int64) for s in sentences)
    return np.array([add_one_nats(tokens, counts) for tokens in scored])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some sentences as one right-padded batch.

    Attributes:
        input_ids: Token ids, (B x S); padding repeats id 0, which no real token sees.
        where: For each of B rows, its place ``language * N + sentence`` in a flat (A x N) array.
        positions: Flat positions in (B x S) whose next token is scored, (T).
        targets: Those next tokens, (T).
        owners: For each of T, its row's place as in ``where``.
        rows: For each of T, its row among the B; on the CPU.
        lengths: Real tokens of each row, (B).
        first: Column of the first scored token: behind the prefix.
    """

    input_ids: Tensor
    where: Integers
    positions: Tensor
    targets: Tensor
    owners: Tensor
    rows: Tensor
    lengths: Integers
    first: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows B and padded length S."""
        return self.input_ids.shape[0], self.input_ids.shape[1]

    @property
    def n_rows(self) -> int:
        """Rows of the matrix products, B x S."""
        return self.input_ids.numel()


def make_chunks(text: TokenizedText, max_rows: int, device: str = "cpu") -> tuple[Chunk, ...]:
    """Cuts the text into right-padded batches of at most ``max_rows`` token rows.

    The cuts minimise padded rows plus a fixed overhead per chunk, exactly, by dynamic programming
    over the sentences sorted by length. They depend on the text and ``max_rows`` alone.
    """
    flat = [ids for language in text.ids for ids in language]
    return cut_rows(flat, max_rows, device, text.prefix.first)


def cut_rows(
    flat: Sequence[tuple[int, ...]], max_rows: int, device: str = "cpu", first: int = 1
) -> tuple[Chunk, ...]:
    """Cuts any sequences of tokens into batches, as :func:`make_chunks` does a text.

    Args:
        flat: Token ids; ``Chunk.where`` counts places in this list.
        max_rows: Token rows in a batch, at most.
        device: Where the batches live.
        first: Place of the first token that is scored; 1 or more.
    """
    order = sorted(range(len(flat)), key=lambda i: (len(flat[i]), i))
    lengths = np.array([len(flat[i]) for i in order])
    bounds = _cut(lengths, max(max_rows, int(lengths.max())))
    return tuple(
        _chunk([flat[i] for i in order[a:b]], np.array(order[a:b]), device, first)
        for a, b in itertools.pairwise(bounds)
    )


def _cut(lengths: Integers, max_rows: int) -> list[int]:
    n = len(lengths)
    best = np.full(n + 1, np.inf)
    best[0] = 0
    previous = np.zeros(n + 1, dtype=np.int64)
    for end in range(1, n + 1):
        longest = int(lengths[end - 1])
        first = max(0, end - max_rows // longest)
        starts = np.arange(first, end)
        costs = best[first:end] + (end - starts) * longest + _CHUNK_OVERHEAD_ROWS
        k = int(costs.argmin())
        best[end], previous[end] = costs[k], starts[k]
    bounds = [n]
    while bounds[-1]:
        bounds.append(int(previous[bounds[-1]]))
    return bounds[::-1]


def _chunk(rows: list[tuple[int, ...]], where: Integers, device: str, first: int) -> Chunk:
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max())
    ids = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    columns = np.arange(width)[None, :]
    row_of, column = np.nonzero((columns >= first - 1) & (columns < (lengths - 1)[:, None]))
    return Chunk(
        input_ids=torch.from_numpy(ids).to(device),
        where=where,
        positions=torch.from_numpy(row_of * width + column).to(device),
        targets=torch.from_numpy(ids[row_of, column + 1]).to(device),
        owners=torch.from_numpy(where[row_of]).to(device),
        rows=torch.from_numpy(row_of),
        lengths=lengths,
        first=first,
    )
