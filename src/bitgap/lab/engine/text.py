"""Sentences as tokens, and tokens as the batches the engine runs.

One sentence is one sequence, with the BOS in front where the tokenizer defines one; what is scored
are the tokens that some earlier token predicts. Sentences are sorted by length and cut into chunks
that waste little padding; padding stands on the right, where a causal model never looks back at it
from a real token, so no mask is needed.
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
        ids: Token ids with the BOS, for each language and kept sentence.
        kept: Numbers of the kept sentences in the corpus, (N).
        counts: Scored tokens, bytes and characters, (A x N) each.
        has_bos: Whether each sequence begins with a BOS.
        unigram_nats: Add-one unigram cross-entropy of the scored tokens, (A x N); counted on other
            text where there are counts of the language, else on its other kept sentences.
        unigram_tokens: Tokens of other text that it rests on, (A); 0 where there are no counts.
        n_dropped: How many sentences were too long or too short.
    """

    languages: tuple[str, ...]
    ids: tuple[tuple[tuple[int, ...], ...], ...]
    kept: Integers
    counts: TextCounts
    has_bos: bool
    unigram_nats: Floats
    unigram_tokens: Integers
    n_dropped: int


def tokenize(
    corpus: ParallelCorpus,
    tokenizer: Any,
    *,
    context: int | None,
    vocabulary: int,
    unigrams: Mapping[str, Integers] | None = None,
) -> TokenizedText:
    """Turns a corpus into token ids.

    Args:
        corpus: Aligned sentences.
        tokenizer: A transformers tokenizer.
        context: Longest sequence the model takes, BOS included; None for no limit.
        vocabulary: Number of logits V, for the add-one unigram model.
        unigrams: How often each token came in other text, (V), by language.

    Raises:
        CorpusError: If fewer than two sentences fit the context in every language.
    """
    bos = tokenizer.bos_token_id
    lead = () if bos is None else (int(bos),)
    ids = [
        [
            lead + tuple(row)
            for row in tokenizer(list(corpus.sentences[code]), add_special_tokens=False).input_ids
        ]
        for code in corpus.languages
    ]
    lengths = np.array([[len(row) for row in rows] for rows in ids])
    fits = (lengths >= 2).all(0)
    if context is not None:
        fits &= (lengths <= context).all(0)
    kept = np.flatnonzero(fits)
    if len(kept) < 2:
        raise CorpusError(
            f"{corpus.name}: {len(kept)} of {corpus.n_sentences} sentences have between 2 and "
            f"{context} tokens in every language; use shorter sentences, fewer languages or a "
            f"model with a longer context"
        )
    rows = tuple(tuple(language[i] for i in kept) for language in ids)
    counted = [(unigrams or {}).get(code) for code in corpus.languages]
    return TokenizedText(
        languages=corpus.languages,
        ids=rows,
        kept=kept,
        counts=_counts(corpus, kept, lengths),
        has_bos=bos is not None,
        unigram_nats=np.stack(
            [
                _unigram(language, vocabulary) if counts is None else _by_counts(language, counts)
                for language, counts in zip(rows, counted, strict=True)
            ]
        ),
        unigram_tokens=np.array(
            [0 if counts is None else counts.sum() for counts in counted], dtype=np.int64
        ),
        n_dropped=int((~fits).sum()),
    )


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


def _counts(corpus: ParallelCorpus, kept: Integers, lengths: Integers) -> TextCounts:
    text = [
        [unicodedata.normalize("NFC", corpus.sentences[code][i]) for i in kept]
        for code in corpus.languages
    ]
    return TextCounts(
        tokens=lengths[:, kept] - 1,
        bytes=np.array([[len(s.encode()) for s in row] for row in text]),
        characters=np.array([[len(s) for s in row] for row in text]),
    )


def _unigram(sentences: Sequence[Sequence[int]], vocabulary: int) -> Floats:
    """Add-one unigram cross-entropy in nats of each sentence's scored tokens, leaving it out."""
    scored = [np.asarray(s[1:]) for s in sentences]
    total = np.bincount(np.concatenate(scored), minlength=vocabulary)
    nats = np.empty(len(scored))
    for i, tokens in enumerate(scored):
        others = total[tokens] - np.bincount(tokens, minlength=vocabulary)[tokens]
        nats[i] = -np.log((others + 1) / (total.sum() - len(tokens) + vocabulary)).sum()
    return nats


def _by_counts(sentences: Sequence[Sequence[int]], counts: Integers) -> Floats:
    """Add-one unigram cross-entropy in nats of each sentence's scored tokens, by other text."""
    return np.array([add_one_nats(np.asarray(s[1:], dtype=np.int64), counts) for s in sentences])


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
    """

    input_ids: Tensor
    where: Integers
    positions: Tensor
    targets: Tensor
    owners: Tensor
    rows: Tensor
    lengths: Integers

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
    return cut_rows([ids for language in text.ids for ids in language], max_rows, device)


def cut_rows(
    flat: Sequence[tuple[int, ...]], max_rows: int, device: str = "cpu"
) -> tuple[Chunk, ...]:
    """Cuts any sequences of tokens into batches, as :func:`make_chunks` does a text.

    Args:
        flat: Token ids; ``Chunk.where`` counts places in this list.
        max_rows: Token rows in a batch, at most.
        device: Where the batches live.
    """
    order = sorted(range(len(flat)), key=lambda i: (len(flat[i]), i))
    lengths = np.array([len(flat[i]) for i in order])
    bounds = _cut(lengths, max(max_rows, int(lengths.max())))
    return tuple(
        _chunk([flat[i] for i in order[a:b]], np.array(order[a:b]), device)
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


def _chunk(rows: list[tuple[int, ...]], where: Integers, device: str) -> Chunk:
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max())
    ids = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    row_of, column = np.nonzero(np.arange(width)[None, :] < (lengths - 1)[:, None])
    return Chunk(
        input_ids=torch.from_numpy(ids).to(device),
        where=where,
        positions=torch.from_numpy(row_of * width + column).to(device),
        targets=torch.from_numpy(ids[row_of, column + 1]).to(device),
        owners=torch.from_numpy(where[row_of]).to(device),
        rows=torch.from_numpy(row_of),
        lengths=lengths,
    )
