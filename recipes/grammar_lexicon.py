"""Words with all their forms, read from tables, and templates that say which forms to combine.

A language is one YAML file. Its sections ``nouns``, ``pronouns``, ``verbs``, ``adjectives`` and
``words`` hold tables, one a word class: a header line, then one word a line, its forms in the
columns of the header. No form is ever derived by rule. A column is

* ``lemma``, the dictionary form (the first form where there is no such column);
* a feature that belongs to the word itself: ``Gender``, ``Person``, ``Number``, or ``Kind``, which
  ties a verb to the objects it can have (one eats what is of the kind ``food``); ``-`` for none;
* or a form, headed by what it expresses: ``Plur.Dat``, or ``Sing.Nom|Sing.Acc`` where one form
  serves twice, or ``any`` where it serves always. ``~`` in a form stands for a space and ``-`` for
  a form that is not there.

Templates are sentences with slots: ``the {person:s} near the {person:a} {act:s!}``. A slot names a
word class (or several, with ``|``) and the group of words it agrees with; the first noun or pronoun
of a group is its head, whose features the others take. After a comma come features of the slot
alone (``{person:a,Dat}``), though a number given to a head holds for its group; after ``>`` the
group of the object (``{do:s>o}``); and ``!`` marks the word that is wrong in the wrong sentence.
In a ``lexical`` template that word is exchanged for one of another kind; ``kinds`` lists which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from bitgap.errors import CorpusError

Features = Mapping[str, str]

_NAMES = {
    **dict.fromkeys(("Sing", "Plur"), "Number"),
    **dict.fromkeys(("Masc", "Fem", "Neut"), "Gender"),
    **dict.fromkeys(("1", "2", "3"), "Person"),
    **dict.fromkeys(("Nom", "Acc", "Dat", "Gen", "Ins", "Par", "Ine", "Ade", "Loc"), "Case"),
    **dict.fromkeys(("Pres", "Past"), "Tense"),
}
"""Value to feature."""
_INHERENT = ("Gender", "Person", "Number", "Kind")
_SECTIONS = ("nouns", "pronouns", "verbs", "adjectives", "words")
_SLOT = re.compile(
    r"(?P<before>[^{}]*)\{(?P<classes>[\w|]+)(?::(?P<group>\w))?(?:>(?P<of>\w))?"
    r"(?P<fixed>(?:,\w+)*)(?P<critical>!?)\}(?P<after>[^{}]*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word with all its forms."""

    lemma: str
    """Dictionary form."""
    section: str
    """``nouns``, ``pronouns``, ``verbs``, ``adjectives`` or ``words``."""
    inherent: Features
    """Features of the word itself."""
    forms: tuple[tuple[Features, str], ...]
    """What each form expresses, and the form."""

    def form(self, asked: Features) -> tuple[Features, str] | None:
        """Returns the form that expresses most of what is asked and nothing else, or None.

        Raises:
            CorpusError: If several forms express equally much.
        """
        fits = [(cell, form) for cell, form in self.forms if cell.items() <= asked.items()]
        most = max((len(cell) for cell, _ in fits), default=0)
        best = [(cell, form) for cell, form in fits if len(cell) == most]
        if len({form for _, form in best}) > 1:
            raise CorpusError(f"{self.lemma}: several forms for {dict(asked)}: {best}")
        return best[0] if best else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One whitespace word of a template: fixed text, or a word class and the form it takes."""

    before: str
    """Text that is written together with the form, such as an article or a conjunction."""
    classes: tuple[str, ...] = ()
    """Word classes to draw from; none for fixed text."""
    group: str = ""
    """Group of words it agrees with."""
    of: str = ""
    """Group of its object."""
    fixed: Features
    """Features of its own."""
    critical: bool = False
    """Whether the wrong sentence differs here."""
    after: str = ""
    """Text that follows the form, such as a comma."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A construction."""

    name: str
    """What it is, such as ``relative clause attractor``."""
    phenomenon: str
    """What its pairs test; ``none`` where it serves for tagged sentences alone."""
    text: str
    """As written, with its slots."""
    slots: tuple[Slot, ...]
    """Its words."""
    pairs: int
    """How many pairs to make."""
    heads: Mapping[str, int]
    """Group to the number of the slot that is its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Word classes and templates of one language."""

    code: str
    """Code of the language."""
    end: str
    """Mark that ends a sentence."""
    kinds: tuple[tuple[str, str], ...]
    """Kinds of object that no verb takes both of."""
    classes: Mapping[str, tuple[Word, ...]]
    """Name of a word class to its words."""
    templates: tuple[Template, ...]
    """Constructions, in order."""


def read_grammar(path: Path) -> Grammar:
    """Reads the word classes and templates of the language that the file is named after.

    Raises:
        CorpusError: If the file cannot be read as described above; names file and cause.
    """
    try:
        content = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        classes = {
            name: _read_class(section, name, table)
            for section in _SECTIONS
            for name, table in content.get(section, {}).items()
        }
        sections = {name: words[0].section for name, words in classes.items()}
        return Grammar(
            code=path.stem,
            end=content.get("end", "."),
            kinds=tuple((first, second) for first, second in content.get("kinds", [])),
            classes=classes,
            templates=tuple(_read_template(entry, sections) for entry in content["templates"]),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorpusError(f"{path}: not a grammar of minimal pairs ({error})") from error


def features_of(text: str) -> dict[str, str]:
    """Returns the features in ``Plur.Dat``: Number=Plur and Case=Dat; none in ``any``.

    Raises:
        CorpusError: If a value belongs to no feature.
    """
    values = [] if text in ("any", "") else text.split(".")
    unknown = [value for value in values if value not in _NAMES]
    if unknown:
        raise CorpusError(f"{text}: {unknown[0]} is a value of no feature")
    return {_NAMES[value]: value for value in values}


def _read_class(section: str, name: str, table: str) -> tuple[Word, ...]:
    header, *rows = [line.split() for line in table.splitlines() if line.strip()]
    words = []
    for row in rows:
        if len(row) != len(header):
            raise CorpusError(f"{name}: {' '.join(row)}: {len(row)} fields, not {len(header)}")
        columns = dict(zip(header, (field.replace("~", " ") for field in row), strict=True))
        lemma = columns.pop("lemma", None)
        own = {key: columns.pop(key) for key in _INHERENT if key in columns}
        inherent = {key: value for key, value in own.items() if value != "-"}
        if section == "nouns":
            inherent.setdefault("Person", "3")
        forms = tuple(
            (features_of(cell), form)
            for head, form in columns.items()
            for cell in head.split("|")
            if form != "-"
        )
        words.append(
            Word(lemma=lemma or forms[0][1], section=section, inherent=inherent, forms=forms)
        )
    return tuple(words)


def _read_template(entry: Mapping[str, str | int], sections: Mapping[str, str]) -> Template:
    slots = tuple(_read_slot(word) for word in re.split(r" (?![^{]*\})", str(entry["text"])))
    heads: dict[str, int] = {}
    for number, slot in enumerate(slots):
        absent = [name for name in slot.classes if name not in sections]
        if absent:
            raise CorpusError(f"{entry['name']}: there is no word class {absent[0]}")
        if slot.group and any(sections[c] in ("nouns", "pronouns") for c in slot.classes):
            heads.setdefault(slot.group, number)
    headless = {slot.group for slot in slots if slot.group} - heads.keys()
    phenomenon = str(entry["phenomenon"])
    n_critical = sum(slot.critical for slot in slots)
    if headless or n_critical != (phenomenon != "none"):
        raise CorpusError(f"{entry['name']}: a group has no head, or not one word is marked !")
    return Template(
        name=str(entry["name"]),
        phenomenon=phenomenon,
        text=str(entry["text"]),
        slots=slots,
        pairs=int(entry.get("pairs", 0)),
        heads=heads,
    )


def _read_slot(text: str) -> Slot:
    found = _SLOT.fullmatch(text)
    if found is None:
        if "{" in text or "}" in text:
            raise CorpusError(f"{text}: not a slot")
        return Slot(before=text, fixed={})
    return Slot(
        before=found["before"],
        classes=tuple(found["classes"].split("|")),
        group=found["group"] or "",
        of=found["of"] or "",
        fixed=features_of(found["fixed"].strip(",").replace(",", ".")),
        critical=bool(found["critical"]),
        after=found["after"],
    )
