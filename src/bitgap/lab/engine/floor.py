"""What full precision says of a text, and how far its arithmetic can be trusted: one pass for both.

The numerical floor is the KL that arithmetic alone makes. On a sample of sentences full precision
is evaluated a second time in a way that is the same function: in other batches, with the last
product summed in another order. What KL comes out between the two is noise. It is summed over a
sentence with its sign, as damage is, and only then without: what cancels between the tokens of a
sentence cancels in its damage too (``tests/lab/test_reference_model.py`` asks float64). In ``fast``
arithmetic the KL between float32 and rounded products is noise as well, and the larger of the two
counts. A damage under ten times the floor is below resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.head import Head, Target, make_target, score_tokens
from bitgap.lab.engine.scoring import Engine
from bitgap.lab.engine.text import Chunk, cut_rows
from bitgap.quant.bank import FP
from bitgap.records import Floats

# Of every language one sentence in eight, two to four: enough to see the noise of each.
_SAMPLED_SHARE, _FEWEST_SAMPLED, _MOST_SAMPLED = 8, 2, 4


def sampled_sentences(n_languages: int, n_sentences: int) -> list[int]:
    """Returns the places, in a flat (A x N) array, of the sentences that are evaluated twice."""
    n = min(max(n_sentences // _SAMPLED_SHARE, _FEWEST_SAMPLED), _MOST_SAMPLED, n_sentences)
    # The middles of n equal parts, the same sentences in all languages.
    numbers = [(2 * i + 1) * n_sentences // (2 * n) for i in range(n)]
    return [a * n_sentences + i for a in range(n_languages) for i in numbers]


class Part:
    """What full precision says of some of a text: the NLL of it, and what the floor needs.

    Attributes:
        nll_nats: Of every sequence that was seen, (A·N); 0 of the others.
        sampled: What full precision said of each sampled sequence that was seen, by its place.
        n_seen: Sequences that were seen.
    """

    def __init__(self, n_sequences: int, again: Iterable[Chunk]) -> None:
        """Has seen nothing yet.

        Args:
            n_sequences: A·N.
            again: The sample, in the batches that it is evaluated in a second time.
        """
        self.nll_nats: Floats = np.zeros(n_sequences)
        self.sampled: dict[int, Target] = {}
        self.n_seen = 0
        self._wanted = {int(place) for chunk in again for place in chunk.where}

    def see(self, chunk: Chunk, target: Target) -> None:
        """Adds a chunk."""
        nll = torch.zeros(len(self.nll_nats), dtype=torch.float64)
        owners = chunk.owners.cpu()
        nll.index_add_(0, owners, target.nll.cpu().double())
        self.nll_nats += nll.numpy()
        for place in self._wanted.intersection(chunk.where.tolist()):
            rows = (owners == place).nonzero()[:, 0]
            self.sampled[place] = target.at(rows.to(target.tokens.device))
        self.n_seen += len(chunk.where)

    def add(self, other: Part) -> None:
        """Adds what was seen elsewhere, of other sequences."""
        self.nll_nats += other.nll_nats
        self.sampled |= other.sampled
        self.n_seen += other.n_seen


class Reference:
    """Watches the pass of full precision, and measures the floor when all of the text was seen.

    A :class:`bitgap.lab.engine.scoring.Watch`.

    Attributes:
        floor_nats: The floor in nats per token, once all is seen: Σ_sentences |KL| over Σ tokens in
            the language where that is largest.
        sampled: Places of the sequences that are evaluated twice; none where the floor is known.
        again: They, in the batches that they are evaluated in a second time.
        n_again: Padded token rows of the sample, which go through the model once more.
    """

    def __init__(
        self,
        engine: Engine,
        n_languages: int,
        n_sentences: int,
        floor_nats: float | None = None,
    ) -> None:
        """Chooses the sample.

        Args:
            engine: Whose text is watched.
            n_languages: A.
            n_sentences: N.
            floor_nats: The floor, where it is known; then nothing is evaluated twice.
        """
        self._engine, self._shape = engine, (n_languages, n_sentences)
        self.floor_nats = floor_nats
        self.sampled = tuple(sampled_sentences(*self._shape)) if floor_nats is None else ()
        self.again = cut_again(engine, self.sampled)
        self.n_again = sum(chunk.n_rows for chunk in self.again)
        self._seen = Part(n_languages * n_sentences, self.again)
        self._hidden: list[Tensor] | None = None

    @property
    def nll_nats(self) -> Floats:
        """Full-precision NLL in nats of every sequence, (A·N)."""
        return self._seen.nll_nats

    @property
    def is_complete(self) -> bool:
        """Whether all of the text was seen."""
        return self._seen.n_seen == len(self.nll_nats)

    def ran(self, block_rows: int, head_rows: int) -> None:
        """Is told of work; it measures nothing."""

    def second(self, hidden: list[Tensor]) -> None:
        """Takes the second evaluation, where the pass made it by the way, (T x d) a chunk."""
        self._hidden = hidden

    def see(self, chunk: Chunk, target: Target) -> None:
        """Adds a chunk; after the last one the floor is measured."""
        self._seen.see(chunk, target)
        self._finish_if_complete()

    def take(self, part: Part) -> None:
        """Adds what was seen elsewhere, as :meth:`see` does."""
        self._seen.add(part)
        self._finish_if_complete()

    def _finish_if_complete(self) -> None:
        if self.is_complete and self.floor_nats is None:
            hidden = self._hidden
            if hidden is None:
                hidden = self._engine.full_precision(self.again, self)
            self.measure(hidden)

    def measure(self, hidden: list[Tensor]) -> None:
        """Compares the second evaluation with the first.

        Args:
            hidden: Full-precision states before the head of each chunk of ``again``, (T x d).
        """
        kl = torch.zeros(3, len(self.nll_nats), dtype=torch.float64)
        exact = self._engine.full_precision(self.again, exact=True) if self._rounds else hidden
        for chunk, states, its_exact in zip(self.again, hidden, exact, strict=True):
            owners = chunk.owners.cpu()
            # One sequence after another, as the chunk's own tokens are.
            target = _joined([self._seen.sampled[int(place)] for place in chunk.where])
            noise = [
                _kl_in_another_order(self._head, target, states, self._scratch),
                self._rounding(target, its_exact),
                torch.ones(len(owners)),
            ]
            for row, values in zip(kl, noise, strict=True):
                row.index_add_(0, owners, values.cpu().double())
        batching, rounding, tokens = kl.view(3, *self._shape).abs().sum(-1)
        self.floor_nats = float((torch.maximum(batching, rounding) / tokens.clamp(min=1)).max())
        self._seen.sampled.clear()

    @property
    def _rounds(self) -> bool:
        return self._engine.rounds

    @property
    def _head(self) -> Head:
        return self._engine.head_variants([FP])[FP]

    @property
    def _scratch(self) -> Tensor:
        return self._engine.make_buffer()

    def _rounding(self, target: Target, exact_states: Tensor) -> Tensor:
        """Returns the KL from float32 to rounded products, (T); nothing where none are rounded."""
        if not self._rounds:
            return torch.zeros_like(target.nll)
        device = str(target.tokens.device)
        heads = {FP: replace(self._unrounded(), rounds=False), "rounded": self._head}
        with products("exact", device):
            exact = make_target(heads, exact_states, target.tokens, self._scratch)
        with products(self._engine.arithmetic, device):
            return score_tokens(heads, "rounded", target.entered[None], exact, self._scratch)[1][0]

    def _unrounded(self) -> Head:
        tail = self._engine.decoder.tail
        return Head.prepared(tail.weight, tail.bias, tail.softcap, False)


def measure_floor(engine: Engine, n_languages: int, n_sentences: int) -> float:
    """Returns the floor in nats per token; runs full precision and scores no plan.

    Args:
        engine: With its text.
        n_languages: A.
        n_sentences: N.
    """
    reference = Reference(engine, n_languages, n_sentences)
    engine.score([], lambda leaves: None, watch=reference)
    assert reference.floor_nats is not None
    return reference.floor_nats


def cut_again(engine: Engine, places: Sequence[int]) -> list[Chunk]:
    """Returns sequences in batches other than the engine's own: only they, two at a time or so.

    Args:
        engine: With all of its text.
        places: Of the sequences, in a flat (A x N) array.
    """
    if not places:
        return []
    wanted, ids, first = set(places), dict[int, tuple[int, ...]](), 1
    for chunk in (chunk for segment in engine.segments for chunk in segment):
        for row, place in enumerate(chunk.where.tolist()):
            if place in wanted:
                first = chunk.first
                length = int(chunk.lengths[row])
                ids[place] = tuple(chunk.input_ids[row, :length].tolist())
    order = sorted(ids)
    rows = max(engine.layout.chunk_rows // 2, 1)
    chunks = cut_rows([ids[place] for place in order], rows, engine.device, first)
    as_in_text = np.array(order)
    return [
        replace(
            chunk,
            where=as_in_text[chunk.where],
            owners=torch.from_numpy(as_in_text[chunk.owners.cpu().numpy()]).to(engine.device),
        )
        for chunk in chunks
    ]


def _joined(targets: list[Target]) -> Target:
    def rows(of: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([one[name] for one in of]) for name in of[0]}

    return Target(
        tokens=torch.cat([t.tokens for t in targets]),
        entered=torch.cat([t.entered for t in targets]),
        lse=torch.cat([t.lse for t in targets]),
        mean_row=rows([t.mean_row for t in targets]),
        chosen_row=rows([t.chosen_row for t in targets]),
        nll=torch.cat([t.nll for t in targets]),
    )


def _kl_in_another_order(head: Head, target: Target, hidden: Tensor, scratch: Tensor) -> Tensor:
    """Returns the KL of the same states with the head's sums in another order, (T)."""
    order = torch.arange(hidden.shape[-1] - 1, -1, -1, device=hidden.device)
    flipped = replace(
        target,
        entered=target.entered[:, order],
        mean_row={name: rows[:, order] for name, rows in target.mean_row.items()},
        chosen_row={name: rows[:, order] for name, rows in target.chosen_row.items()},
    )
    turned = replace(head, order=order)
    return score_tokens({FP: turned}, FP, hidden[None][..., order], flipped, scratch)[1][0]
