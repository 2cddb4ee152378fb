"""Which tokens come in which step: languages drawn by share, windows without repetition.

Every language's stream is cut into windows of one sequence, and the windows are visited in a
random order, each once before any comes twice; each pass over the text shifts the cuts. Which
languages fill a batch is drawn by systematic sampling: every share is met in each batch to within
one sequence, so batches differ less than with independent draws and the expectation is the same.

All of it follows from the seed, the step and how many windows each language has given so far, so
a resumed run meets the very batches it would have met.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Keep the draws of languages and of windows apart; numpy pads a short seed with zeros.
_LANGUAGES, _WINDOWS = 1, 2


class PackedBatches:
    """Draws batches of packed sequences; its whole state is :attr:`drawn`.

    Attributes:
        drawn: Sequences that each language has given so far, int64 (languages).
        shares: Expected share of each language, summing to 1 (languages).
    """

    def __init__(
        self,
        streams: Sequence[NDArray[Any]],
        shares: Sequence[float],
        *,
        batch: int,
        context: int,
        seed: int,
    ) -> None:
        """Prepares to draw.

        Args:
            streams: Tokens of each language.
            shares: Relative share of each language, above 0.
            batch: Sequences a batch.
            context: Tokens a sequence.
            seed: Seed of every draw.
        """
        assert len(streams) == len(shares) and all(len(s) >= 2 for s in streams)
        self._streams, self._batch, self._context, self._seed = streams, batch, context, seed
        self.shares = np.asarray(shares, dtype=np.float64) / np.sum(shares)
        self.drawn = np.zeros(len(streams), dtype=np.int64)
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def take(self, step: int) -> NDArray[np.int64]:
        """Returns the batch of a step and counts it as drawn.

        Args:
            step: Number of the step from 0; steps must be taken in order.

        Returns:
            Token ids, (batch x context + 1): each row's inputs and, one further, its targets.
        """
        rows = [self._next_window(language) for language in self._languages(step)]
        return np.stack(rows).astype(np.int64)

    def _languages(self, step: int) -> NDArray[np.int64]:
        start = np.random.default_rng([self._seed, _LANGUAGES, step]).random()
        points = (start + np.arange(self._batch)) / self._batch
        # Rounding may leave the last sum a hair below 1.
        found = np.searchsorted(np.cumsum(self.shares), points, side="right")
        return np.minimum(found, len(self.shares) - 1)

    def _next_window(self, language: int) -> NDArray[Any]:
        stream = self._streams[language]
        n_windows = max(1, len(stream) // self._context)
        epoch, place = divmod(int(self.drawn[language]), n_windows)
        self.drawn[language] += 1
        start = int(self._order(language, epoch, n_windows)[place])
        if start + self._context < len(stream):
            return stream[start : start + self._context + 1]
        # The last window of a shifted pass goes on at the beginning.
        return np.take(stream, np.arange(start, start + self._context + 1), mode="wrap")

    def _order(self, language: int, epoch: int, n_windows: int) -> NDArray[np.int64]:
        known = self._orders.get(language)
        if known is None or known[0] != epoch:
            rng = np.random.default_rng([self._seed, _WINDOWS, language, epoch])
            shift = rng.integers(self._context)
            known = epoch, rng.permutation(n_windows) * self._context + shift
            self._orders[language] = known
        return known[1]
