"""Sentences from a grammar: minimal pairs in which no form wins by being frequent, and gold tags.

Pairs are made two at a time, as each other's mirror: the same words with a singular and with a
plural subject, say, so that every form is right exactly as often as it is wrong and a model gains
nothing by liking one of them. Words are dealt from a shuffled deck that is used up before it is
shuffled again, so that all are used about equally often; the shuffle orders them by a hash, which
gives the same sentences everywhere and always.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from grammar_lexicon import Features, Grammar, Slot, Template, Word

from bitgap.corpora.grammar.pairs import MinimalPair, TaggedSentence, make_pair
from bitgap.errors import CorpusError

_CONTRASTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "number": ("Number", (("Sing", "Plur"),)),
    "gender": ("Gender", (("Masc", "Fem"),)),
    "person": ("Person", (("1", "2"), ("1", "3"), ("2", "3"))),
    "none": ("Number", (("Sing", "Plur"),)),
}
_TAGS = ("Number", "Gender", "Person", "Case")
_ATTEMPTS = 6
"""Combinations tried for each pair wanted before a template is taken to be exhausted."""


@dataclass(slots=True)
class _Dealer:
    """Deals words of a pool one after the other, in an order that depends on the seed alone."""

    seed: str
    words: tuple[Word, ...]
    pools: dict[tuple[str | None, ...], tuple[Word, ...]] = field(default_factory=dict)
    dealt: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def pool(self, need: Features) -> tuple[Word, ...]:
        """Returns the words whose own features do not speak against these."""
        own = sorted({name for word in self.words for name in word.inherent})
        key = tuple(need.get(name) for name in own)
        if key not in self.pools:
            self.pools[key] = tuple(
                word
                for word in self.words
                if all(word.inherent.get(name, value) == value for name, value in need.items())
            )
        return self.pools[key]

    def deal(self, pool: Sequence[Word], used: set[str]) -> Word | None:
        """Returns the next word, if possible one whose lemma is not used yet; None if no word."""
        lemmas = tuple(word.lemma for word in pool)
        word = None
        for _ in pool:
            turn, place = divmod(self.dealt[lemmas], len(pool))
            self.dealt[lemmas] += 1
            word = pool[_shuffled(self.seed, turn, lemmas)[place]]
            if word.lemma not in used:
                break
        return word


@functools.lru_cache(maxsize=4096)
def _shuffled(seed: str, turn: int, lemmas: tuple[str, ...]) -> tuple[int, ...]:
    ranks = [hashlib.sha256(f"{seed}|{turn}|{lemma}".encode()).digest() for lemma in lemmas]
    return tuple(sorted(range(len(lemmas)), key=ranks.__getitem__))


@dataclass(slots=True)
class _Side:
    """One of two mirrored sentences: a word for each slot, and what its groups agree in."""

    words: dict[int, Word] = field(default_factory=dict)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)

    def asked(self, slot: Slot) -> dict[str, str]:
        """Returns the features that a slot must express."""
        return {**self.groups.get(slot.group, {}), **slot.fixed}

    def lemmas(self) -> set[str]:
        return {word.lemma for word in self.words.values()}


def make_pairs(grammar: Grammar) -> tuple[MinimalPair, ...]:
    """Returns the minimal pairs of a grammar, template by template, mirrored pairs side by side.

    Raises:
        CorpusError: If a word lacks a form that a template needs.
    """
    pairs: list[MinimalPair] = []
    seen: set[str] = set()
    for template in grammar.templates:
        made = 0
        for sides in _combinations(grammar, template, "pairs", template.pairs):
            if made >= template.pairs:
                break
            two = _mirrored_pairs(grammar, template, sides)
            # One of the two may show no contrast (sheep); the other would then tip the balance.
            if two and not seen & {pair.good for pair in two}:
                pairs.extend(two)
                made += 2
                seen |= {pair.good for pair in two}
    return tuple(pairs)


def make_tagged(grammar: Grammar, n_sentences: int) -> tuple[TaggedSentence, ...]:
    """Returns grammatical sentences with gold features, equally many of each template.

    They end without a mark, so that the last token of a word is its own; a word before a comma has
    no features for the same reason.

    Args:
        grammar: Word classes and templates.
        n_sentences: How many at most.

    Raises:
        CorpusError: If a word lacks a form that a template needs.
    """
    each = -(-n_sentences // len(grammar.templates))
    sentences: dict[str, TaggedSentence] = {}
    for template in grammar.templates:
        enough = min(n_sentences, len(sentences) + each)
        for number, sides in enumerate(_combinations(grammar, template, "tagged", each)):
            if len(sentences) >= enough:
                break
            # Not by turns alone, as the contrasts of control pairs come in fours.
            tagged = _tag(grammar, template, sides[(number + number // 4) % 2])
            sentences.setdefault(tagged.text, tagged)
    return tuple(sentences.values())


def _combinations(
    grammar: Grammar, template: Template, purpose: str, wanted: int
) -> Iterator[tuple[_Side, _Side]]:
    """Yields mirrored sentences, more than wanted as some will be repetitions."""
    seed = f"{grammar.code}|{template.phenomenon}|{template.text}|{purpose}"
    dealers = [
        _Dealer(
            f"{seed}|{number}", tuple(w for name in slot.classes for w in grammar.classes[name])
        )
        for number, slot in enumerate(template.slots)
    ]
    for number in range(_ATTEMPTS * wanted):
        sides = _fill(grammar, template, number, dealers)
        if sides:
            yield sides


def _fill(
    grammar: Grammar, template: Template, number: int, dealers: Sequence[_Dealer]
) -> tuple[_Side, _Side] | None:
    """Puts words into the slots of both sides, heads first as the other words depend on them."""
    feature, contrasts = _contrast(grammar, template)
    turn, which = divmod(number, len(contrasts))
    contrasted = _contrasted_group(template)
    sides = _Side(), _Side()
    heads = sorted(template.heads.items(), key=lambda head: head[0] != contrasted)
    for bit, (group, place) in enumerate(heads):
        first, second = contrasts[which]
        for side, values in zip(sides, ((first, second), (second, first)), strict=True):
            plural = _number(template, group, contrasted, turn >> bit & 1, values)
            side.groups[group] = {"Number": plural, **template.slots[place].fixed}
            if group == contrasted:
                side.groups[group][feature] = values[0]
        if not _deal_both(template, place, sides, dealers[place]):
            return None
    for place, slot in enumerate(template.slots):
        undealt = slot.classes and place not in sides[0].words
        if undealt and not _deal_both(template, place, sides, dealers[place]):
            return None
    return sides


def _contrast(grammar: Grammar, template: Template) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Returns the feature that the two sides differ in, and its pairs of values."""
    if template.phenomenon == "lexical":
        return "Kind", grammar.kinds
    return _CONTRASTS[template.phenomenon]


def _contrasted_group(template: Template) -> str:
    """The object's group in control pairs, else that of the critical word, else the first."""
    if template.phenomenon == "lexical":
        return next(slot.of for slot in template.slots if slot.of)
    critical = [slot.group for slot in template.slots if slot.critical]
    return (critical or [next(iter(template.heads))])[0]


def _number(
    template: Template, group: str, contrasted: str, bit: int, values: tuple[str, str]
) -> str:
    """An attractor has the other number than the subject half of the time."""
    if values[0] not in ("Sing", "Plur"):
        return ("Sing", "Plur")[bit]
    return values[0] if group == contrasted or bit else values[1]


def _deal_both(
    template: Template,
    place: int,
    sides: tuple[_Side, _Side],
    dealer: _Dealer,
) -> bool:
    """Deals a word for a slot: the same to both sides wherever the same words would do for both."""
    slot = template.slots[place]
    is_head = template.heads.get(slot.group) == place
    pools = [dealer.pool(_need(slot, side, is_head)) for side in sides]
    first = dealer.deal(pools[0], sides[0].lemmas() | sides[1].lemmas())
    second = first
    if first and pools[0] != pools[1]:
        alike = tuple(w for w in pools[1] if not is_head or _alike(w, first, sides, slot))
        second = dealer.deal(alike, sides[0].lemmas() | sides[1].lemmas() | {first.lemma})
    if not first or not second:
        return False
    for side, word in zip(sides, (first, second), strict=True):
        side.words[place] = word
        if is_head:
            side.groups[slot.group].update(word.inherent)
            side.groups[slot.group].pop("Case", None)
    return True


def _need(slot: Slot, side: _Side, is_head: bool) -> dict[str, str]:
    """Returns what is known of the slot's group, and of its object's."""
    need = dict(side.groups.get(slot.group, {}))
    if not is_head:
        need.pop("Kind", None)
    if slot.of:
        need["Kind"] = side.groups[slot.of].get("Kind", "")
    return need


def _alike(word: Word, first: Word, sides: tuple[_Side, _Side], slot: Slot) -> bool:
    """Whether two heads differ in nothing but the contrast."""
    one, other = (side.groups[slot.group] for side in sides)
    return all(
        word.inherent.get(key, value) == value
        for key, value in first.inherent.items()
        if one.get(key) == other.get(key)
    )


def _mirrored_pairs(
    grammar: Grammar, template: Template, sides: tuple[_Side, _Side]
) -> list[MinimalPair]:
    """Returns two pairs, or none if a sentence is no worse with the other form."""
    place = next(i for i, slot in enumerate(template.slots) if slot.critical)
    slot = template.slots[place]
    feature, _ = _contrast(grammar, template)
    names = [
        {side.words[i].lemma for side in sides} for i in _item_places(grammar, template, place)
    ]
    pairs = []
    for side, other in (sides, sides[::-1]):
        word, asked = other.words[place], side.asked(slot)
        if feature != "Kind":
            changed = {feature: other.groups[slot.group][feature]}
            word, asked = side.words[place], {**other.asked(slot), **asked, **changed}
        forms = _forms(template, side)
        pair = make_pair(
            _sentence(template, forms, grammar) + grammar.end,
            _sentence(template, {**forms, place: _form(word, asked, template)}, grammar)
            + grammar.end,
            code=grammar.code,
            phenomenon=template.phenomenon,
            template=template.name,
            item=" + ".join("/".join(sorted(lemmas)) for lemmas in names),
        )
        if isinstance(pair, str):
            return []
        pairs.append(pair)
    return pairs


def _item_places(grammar: Grammar, template: Template, critical: int) -> list[int]:
    """Slots of subject and critical word, and of one more where the latter is always the same."""
    slot = template.slots[critical]
    first = next(iter(template.heads))
    head = template.heads[first if template.phenomenon == "lexical" else slot.group]
    places = [head, critical]
    if sum(len(grammar.classes[name]) for name in slot.classes) == 1:
        varied = [i for i, other in enumerate(template.slots) if other.classes and i not in places]
        places += varied[-1:]
    return places


def _forms(template: Template, side: _Side) -> dict[int, tuple[Features, str]]:
    return {
        place: _form(word, side.asked(template.slots[place]), template)
        for place, word in side.words.items()
    }


def _form(word: Word, asked: Features, template: Template) -> tuple[Features, str]:
    found = word.form(asked)
    if found is None:
        raise CorpusError(f"{template.name}: {word.lemma} has no form for {dict(asked)}")
    return found


def _sentence(template: Template, forms: dict[int, tuple[Features, str]], grammar: Grammar) -> str:
    parts = [
        slot.before + (forms[place][1] if slot.classes else "") + slot.after
        for place, slot in enumerate(template.slots)
    ]
    text = " ".join(parts)
    # Turkish has two letters where others have one.
    first = "İ" if grammar.code == "tr" and text[0] == "i" else text[0].upper()
    return first + text[1:]


def _tag(grammar: Grammar, template: Template, side: _Side) -> TaggedSentence:
    forms = _forms(template, side)
    text = _sentence(template, forms, grammar)
    features: list[Features] = []
    lemmas: list[str] = []
    for place, slot in enumerate(template.slots):
        word = side.words.get(place)
        parts = (slot.before + (forms[place][1] if word else "") + slot.after).split()
        alone = len(parts) == 1 and not slot.after
        tags = _tags(word, slot, forms[place][0], side) if word and alone else {}
        features += [tags] * len(parts)
        lemmas += [word.lemma] if word and len(parts) == 1 else [part.lower() for part in parts]
    words = tuple(text.split(" "))
    starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    return TaggedSentence(
        language=grammar.code,
        words=words,
        text=text,
        spans=tuple((i, i + len(word)) for i, word in zip(starts, words, strict=True)),
        features=tuple(features),
        lemmas=tuple(lemmas),
    )


def _tags(word: Word, slot: Slot, expressed: Features, side: _Side) -> Features:
    """What the word means here, also where its form alone would not tell (German *der Lehrer*)."""
    if word.section in ("pronouns", "words"):
        return {}
    known = dict(expressed)
    if word.section == "nouns":
        known.update(side.asked(slot), **word.inherent)
        known.pop("Person", None)
    elif word.section == "adjectives":
        known.update(slot.fixed)
    return {name: known[name] for name in _TAGS if name in known}
