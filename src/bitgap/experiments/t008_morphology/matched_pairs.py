"""Which minimal pairs are run: as many items of every language, each beside a lexical one as long.

Up to the first token in which they differ both sentences of a pair are one, and what a causal model
says of it cancels, so only the tokens from there on are scored.

An *item* is a family of words in one template, at most two pairs of it (each other's mirror, so
that no form wins by being frequent); its number is the mean over them. Items are taken in turn from
every phenomenon and template, and each is matched with a lexical item of its language that has as
many scored tokens and is about as long. Languages are balanced: all have as many items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from bitgap.corpora.grammar.pairs import MinimalPair
from bitgap.lab.lab import Lab
from bitgap.records import Floats, Integers

LEXICAL = "lexical"
PAIRS_PER_ITEM = 2
TOO_LONG = "longer than the model's context"
SAME_TOKENS = "the tokenizer makes both sentences the same tokens"
UNKNOWN = "a differing word is wholly unknown to the tokenizer"
NOTHING_BEFORE = "the sentences differ in their first token and the tokenizer has no BOS"


@dataclass(frozen=True, slots=True)
class PairTokens:
    """Minimal pairs as token ids.

    Attributes:
        ids: Good and bad sentence of each pair in turn, BOS in front where there is one, (2P).
        first: Position of the first token in which the two differ, (P).
    """

    ids: tuple[tuple[int, ...], ...]
    first: Integers

    @property
    def n_pairs(self) -> int:
        """Number of pairs P."""
        return len(self.first)

    @property
    def scored(self) -> Integers:
        """Tokens of both sentences from the first differing one on, (P)."""
        lengths = np.array([len(row) for row in self.ids]).reshape(-1, 2)
        return (lengths - self.first[:, None]).sum(1)

    def select(self, pairs: Sequence[int] | Integers) -> PairTokens:
        """Returns some of the pairs, in the order given."""
        ids = tuple(row for p in pairs for row in self.ids[2 * int(p) : 2 * int(p) + 2])
        return PairTokens(ids, self.first[np.asarray(pairs, dtype=np.int64)])


def tokenize_pairs(
    lab: Lab, pairs: Sequence[MinimalPair]
) -> tuple[PairTokens, Integers, Mapping[str, int]]:
    """Returns pairs as tokens, the numbers of those that can be used, and why others cannot.

    Args:
        lab: With tokenizer and context.
        pairs: What to tokenize; good and bad may differ in their number of tokens.
    """
    tokenizer = lab.loaded.tokenizer
    sentences = [text for pair in pairs for text in (pair.good, pair.bad)]
    bare = tokenizer(sentences, add_special_tokens=False).input_ids if sentences else []
    rows = [(*lab.text.prefix.ids, *row) for row in bare]
    unknown = getattr(tokenizer, "unk_token_id", None)
    kept, ids, first = [], [], []
    why: Counter[str] = Counter()
    for number, (good, bad) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
        differ = (i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b)
        at = next(differ, min(len(good), len(bad)))
        if reason := _unusable(good, bad, at, unknown, lab.info.context):
            why[reason] += 1
            continue
        kept.append(number)
        ids += [good, bad]
        first.append(at)
    return PairTokens(tuple(ids), np.array(first, np.int64)), np.array(kept, np.int64), dict(why)


def _unusable(
    good: Sequence[int], bad: Sequence[int], at: int, unknown: int | None, context: int | None
) -> str | None:
    if good == bad:
        return SAME_TOKENS
    if context is not None and max(len(good), len(bad)) > context:
        return TOO_LONG
    if at == 0:
        return NOTHING_BEFORE
    if unknown is not None and any(row[at : at + 1] == (unknown,) for row in (good, bad)):
        return UNKNOWN
    return None


@dataclass(frozen=True, slots=True)
class Items:
    """Matched items of agreement and of the lexicon.

    Attributes:
        languages: Codes, in row order.
        n_items: Items of each language, of either kind.
        pairs: All their pairs as tokens.
        texts: The same pairs as sentences.
        owner: Place of each pair in a flat (2 x A x m) array, agreement first, (P).
        left_out: Languages that have too few items, and why.
        excluded: Pairs that could not be used, by reason.
    """

    languages: tuple[str, ...]
    n_items: int
    pairs: PairTokens
    texts: tuple[MinimalPair, ...]
    owner: Integers
    left_out: Mapping[str, str]
    excluded: Mapping[str, int]

    def by_item(self, values: Floats) -> Floats:
        """Returns means over each item's pairs, (.. x 2 x A x m), of values (.. x P)."""
        n = 2 * len(self.languages) * self.n_items
        counts = np.bincount(self.owner, minlength=n)
        flat = values.reshape(-1, len(self.owner))
        sums = np.stack([np.bincount(self.owner, row, n) for row in flat])
        shape = (*values.shape[:-1], 2, len(self.languages), self.n_items)
        return (sums / counts).reshape(shape)

    @property
    def of_agreement(self) -> Integers:
        """Which of the pairs are of agreement."""
        return np.flatnonzero(self.owner < len(self.languages) * self.n_items)

    def by_agreement_item(self, values: Floats) -> Floats:
        """Returns means over each item's pairs, (.. x A x m), of values of agreement (.. x P')."""
        every = np.zeros((*values.shape[:-1], len(self.owner)))
        every[..., self.of_agreement] = values
        return self.by_item(every)[..., 0, :, :]

    def first(self, n: int) -> Items:
        """Returns the first n items of every language and kind."""
        m, a = min(n, self.n_items), len(self.languages)
        place = np.stack(np.unravel_index(self.owner, (2, a, max(self.n_items, 1))))
        keep = np.flatnonzero(place[2] < m)
        owner = np.asarray(np.ravel_multi_index(tuple(place[:, keep]), (2, a, max(m, 1))))
        return Items(
            self.languages, m, self.pairs.select(keep), tuple(self.texts[i] for i in keep),
            owner.astype(np.int64), self.left_out, self.excluded,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Group:
    """Pairs of one item in one template.

    Attributes:
        item: Its name.
        stratum: Phenomenon and template.
        pairs: Numbers of the pairs.
        scored: Mean tokens scored.
        length: Mean tokens in all.
    """

    item: str
    stratum: tuple[str, str]
    pairs: tuple[int, ...]
    scored: float
    length: float


def choose_items(
    lab: Lab,
    agreement: Mapping[str, Sequence[MinimalPair]],
    lexical: Mapping[str, Sequence[MinimalPair]],
    *,
    n_items: int,
    fewest: int,
    seed: int,
) -> Items:
    """Returns matched items of every language that has enough of both kinds.

    Args:
        lab: With the tokenizer.
        agreement: Pairs of agreement by language.
        lexical: Pairs of the control by language.
        n_items: Items of a language and kind, at most.
        fewest: Items that a language must have to be run.
        seed: Of the draw.
    """
    texts: list[MinimalPair] = []
    chosen: dict[str, list[tuple[_Group, _Group]]] = {}
    left_out: dict[str, str] = {}
    excluded: Counter[str] = Counter()
    for number, code in enumerate(agreement):
        base = len(texts)
        own = [*agreement[code], *lexical.get(code, ())]
        texts += own
        tokens, kept, why = tokenize_pairs(lab, own)
        excluded.update(why)
        groups = _grouped(tokens, kept, own, base)
        rng = np.random.default_rng((seed, number))
        real = _in_turn([g for g in groups if g.stratum[0] != LEXICAL], n_items, rng)
        matched = _matched(real, [g for g in groups if g.stratum[0] == LEXICAL])
        if len(matched) < fewest:
            left_out[code] = (
                f"{len(real)} agreement items, {len(matched)} of them with a lexical match; "
                f"{fewest} needed"
            )
        else:
            chosen[code] = matched
    return _assembled(lab, texts, chosen, left_out, excluded)


def _grouped(
    tokens: PairTokens, kept: Integers, texts: Sequence[MinimalPair], base: int
) -> list[_Group]:
    members: dict[tuple[str, str, str], list[int]] = {}
    for row, number in enumerate(kept):
        pair = texts[number]
        members.setdefault((pair.item, pair.phenomenon, pair.template), []).append(row)
    lengths = np.array([len(row) for row in tokens.ids]).reshape(-1, 2).sum(1)
    scored = tokens.scored
    groups = []
    for (item, phenomenon, template), rows in members.items():
        few = rows[:PAIRS_PER_ITEM]
        numbers = tuple(base + int(kept[row]) for row in few)
        sizes = float(scored[few].mean()), float(lengths[few].mean())
        groups.append(_Group(item, (phenomenon, template), numbers, *sizes))
    return groups


def _in_turn(groups: Sequence[_Group], n: int, rng: np.random.Generator) -> list[_Group]:
    """Returns up to n groups, one an item, taken in turn from every stratum."""
    decks: dict[tuple[str, str], list[_Group]] = {}
    for i in rng.permutation(len(groups)):
        decks.setdefault(groups[int(i)].stratum, []).append(groups[int(i)])
    taken: list[_Group] = []
    used: set[str] = set()
    turns = cycle(sorted(decks))
    idle = 0
    while len(taken) < n and idle < len(decks):
        deck = decks[next(turns)]
        idle += 1
        while deck:
            group = deck.pop()
            if group.item not in used:
                used.add(group.item)
                taken.append(group)
                idle = 0
                break
    return taken


def _matched(real: Sequence[_Group], lexical: Sequence[_Group]) -> list[tuple[_Group, _Group]]:
    """Returns each group beside the lexical one nearest in length that is not yet taken."""
    free = list(lexical)
    out = []
    for group in real:
        if not free:
            break
        distances = [(abs(g.scored - group.scored), abs(g.length - group.length)) for g in free]
        best = min(range(len(free)), key=distances.__getitem__)
        item = free[best].item
        out.append((group, free[best]))
        free = [g for g in free if g.item != item]
    return out


def _assembled(
    lab: Lab,
    texts: Sequence[MinimalPair],
    chosen: Mapping[str, Sequence[tuple[_Group, _Group]]],
    left_out: Mapping[str, str],
    excluded: Mapping[str, int],
) -> Items:
    m = min((len(groups) for groups in chosen.values()), default=0)
    placed = [
        (number, (kind * len(chosen) + a) * m + slot)
        for a, groups in enumerate(chosen.values())
        for slot, both in enumerate(groups[:m])
        for kind, group in enumerate(both)
        for number in group.pairs
    ]
    numbers, owner = np.array(placed, dtype=np.int64).reshape(-1, 2).T
    picked = tuple(texts[i] for i in numbers)
    pairs, _, _ = tokenize_pairs(lab, picked)
    return Items(tuple(chosen), m, pairs, picked, owner, left_out, dict(excluded))
