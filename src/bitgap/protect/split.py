"""Sentences that calibrate, that are searched on, and that confirm: split once, for all languages.

Whole documents go to one part, since sentences of one document are alike; the same sentences go to
the same part in every language, as tests are paired by sentence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitgap.errors import CorpusError
from bitgap.records import Integers, Units
from bitgap.stats.bootstrap import n_sentences, n_units

Part = Literal["calibrate", "search", "confirm"]
SHARES: dict[Part, float] = {"calibrate": 0.2, "search": 0.3, "confirm": 0.5}
"""How much of the text each part has: confirming is what proof rests on."""
FEWEST: dict[Part, int] = {"calibrate": 4, "search": 8, "confirm": 8}
"""Fewest units, sentences or documents, of each: of eight, 95 % intervals hold the truth in some
94 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Numbers of the sentences of each part, ascending."""

    calibrate: tuple[int, ...]
    search: tuple[int, ...]
    confirm: tuple[int, ...]
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 over the three parts, hexadecimal."""
        parts = (self.calibrate, self.search, self.confirm)
        return hashlib.sha256(repr([list(part) for part in parts]).encode()).hexdigest()


def split_sentences(units: Units, seed: int) -> Split:
    """Returns which sentences calibrate, are searched on, and confirm.

    Units are put in an order that the seed draws. The first go to the parts in turn, as many as
    each needs at least; each further one to the part that lacks most of its share of sentences.

    Args:
        units: Number of sentences, or each sentence's document, (N).
        seed: Of the order.

    Raises:
        CorpusError: If a part would have fewer units than it needs; says how many are needed.

    Example:
        >>> split = split_sentences(40, seed=0)
        >>> len(split.calibrate), len(split.search), len(split.confirm)
        (8, 12, 20)
        >>> split_sentences(12, seed=0)
        Traceback (most recent call last):
        ...
        bitgap.errors.CorpusError: 12 sentences are too few to search on some and confirm on \
others; 27 or more are needed
    """
    n = n_units(units)
    needed = sentences_needed()
    if n < needed:
        raise _too_small(units, needed)
    whole = np.arange(units) if isinstance(units, int) else units
    of_sentence = np.unique(whole, return_inverse=True)[1]
    sizes = np.bincount(of_sentence, minlength=n)
    goes = _parts_of(sizes, np.random.default_rng(seed).permutation(n))
    names = list(SHARES)
    part_of = np.array(goes)[of_sentence]
    found = {name: tuple(map(int, np.flatnonzero(part_of == i))) for i, name in enumerate(names)}
    return Split(**found, seed=seed)


def sentences_needed() -> int:
    """Returns how many sentences, or documents, a corpus needs to be split.

    Example:
        >>> sentences_needed()
        27
    """
    return max(-(-FEWEST[name] * 100 // round(100 * share)) for name, share in SHARES.items())


def _parts_of(sizes: Integers, order: Integers) -> list[int]:
    goal = np.array(list(SHARES.values())) * sizes.sum()
    has, goes = np.zeros(len(goal)), [0] * len(sizes)
    first = [part for part, n in enumerate(FEWEST.values()) for _ in range(n)]
    for i, one in enumerate(order):
        part = first[i] if i < len(first) else int(((goal - has) / goal).argmax())
        goes[int(one)] = part
        has[part] += sizes[one]
    return goes


def _too_small(units: Units, needed: int) -> CorpusError:
    n, what = n_units(units), "sentences" if isinstance(units, int) else "documents"
    inside = "" if isinstance(units, int) else f" ({n_sentences(units)} sentences)"
    return CorpusError(
        f"{n} {what}{inside} are too few to search on some and confirm on others; {needed} or more "
        f"are needed"
    )
