"""Facts about languages, and one way to recognise a language however it is spelled.

Covers every language of NTREX-128 and nearly all of FLORES+, so that any of their files has a
name here. The facts are coarse and are for naming, grouping and sorting; no verdict rests on one.

They stand in ``languages.tsv``, one language a line, in the columns

* ``code``: ISO 639-1 where there is one, else ISO 639-3; with a script (``zh-Hant``) for a second
  script;
* ``code3``: ISO 639-3, of the macrolanguage where corpora use it for one standard (``ara``);
* ``name``: in English;
* ``endonym``: what the language calls itself; empty where that is not known;
* ``script``: ISO 15924, the script most text is printed in; of Tachelhit that of NTREX, although
  Latin and Tifinagh are in use too;
* ``family`` and ``genus``: general reference in the manner of Glottolog and WALS; where the two
  disagree the family is the uncontested smaller one (Turkic, Mande), the genus is the customary
  branch, and neither claims a position on disputed groupings;
* ``morphology``: the dominant type in textbook typology; real languages mix types;
* ``morphologically_rich``, ``yes`` or ``no``: after Tsarfaty et al. (2010), whether grammatical
  relations are expressed inside the word: nouns that inflect for case or class, verbs that agree
  with more than the subject or stack affixes, or roots with patterns. It is a judgement; languages
  usually called borderline (Romance without case, Persian, mainland North Germanic) are ``no``,
  German and South Slavic are ``yes``;
* ``resource_class``: Joshi et al. (2020), The State and Fate of Linguistic Diversity and Inclusion
  in the NLP World, 1 (little) to 5 (most), from the list published with the paper by way of a copy
  keyed by language code; where it has two names for one language the higher class is used, and
  empty means class 0 (nothing) or not certain. The classes describe 2020, are as recalled where
  the copy was unclear, and may be revised.

Any other language of ISO 639 is known by its code (``gsw``, ``brx``, ``myv``) and by its name
there, and no fact is claimed of it: its script is that of its tag (``brx-Deva``), and a corpus
that has none in its tag is given that of its text (:func:`script_of`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, cast

from bitgap.errors import LanguageError

Morphology = Literal[
    "isolating", "analytic", "agglutinative", "fusional", "introflexive", "polysynthetic"
]
Direction = Literal["ltr", "rtl"]


@dataclass(frozen=True, slots=True)
class Language:
    """One written language."""

    code: str
    """ISO 639-1 where there is one, else 639-3; with a script (``zh-Hant``) for a second script."""
    code3: str
    """ISO 639-3; the macrolanguage where corpora use it for one standard (``ara``, ``zho``)."""
    name: str
    """English name."""
    endonym: str | None
    """What it calls itself, in its usual script, or None where that is not known."""
    script: str
    """ISO 15924, such as ``Latn``; ``Zyyy`` where nothing tells it."""
    family: str | None
    """Top-level family, or the language's own name for an isolate; None outside the table."""
    genus: str | None
    """Branch of the family; None outside the table."""
    morphology: Morphology | None
    """Dominant morphological type; None outside the table."""
    morphologically_rich: bool | None
    """Whether grammatical relations are expressed inside the word; None outside the table."""
    resource_class: int | None
    """Joshi et al. (2020) class, 0 to 5, or None where it is 0 or not certain."""

    @property
    def script_direction(self) -> Direction:
        """Whether the script runs from left to right or from right to left."""
        return "rtl" if self.script in _RIGHT_TO_LEFT else "ltr"


@functools.cache
def languages() -> Mapping[str, Language]:
    """Returns every language of the table by its code, in the table's order; read once."""
    table = resources.files("bitgap").joinpath("languages.tsv").read_text(encoding="utf-8")
    header, *lines = (line.split("\t") for line in table.splitlines())
    rows = [dict(zip(header, cells, strict=True)) for cells in lines]
    return MappingProxyType({row["code"]: _of_row(row) for row in rows})


def _of_row(row: Mapping[str, str]) -> Language:
    return Language(
        code=row["code"],
        code3=row["code3"],
        name=row["name"],
        endonym=row["endonym"] or None,
        script=row["script"],
        family=row["family"],
        genus=row["genus"],
        morphology=cast(Morphology, row["morphology"]),
        morphologically_rich=row["morphologically_rich"] == "yes",
        resource_class=int(row["resource_class"]) if row["resource_class"] else None,
    )


def language(spelling: str) -> Language:
    """Finds a language by any of its usual spellings.

    Accepts ISO 639-1 and 639-3 codes (``he``, ``heb``), FLORES codes (``heb_Hebr``, ``zho_Hant``),
    BCP 47 tags (``pt-BR``, ``zh-TW``, ``ca-valencia``) and English names (``Hebrew``), in any case.
    A region and a variant, such as the Glottolog code that FLORES+ tells dialects by
    (``apc_Arab_nort3139``), are ignored, except that a region decides between simplified and
    traditional Chinese; :func:`variant` keeps them. A language in another script than its usual one
    keeps its facts and gets the script in its code (``uzb_Arab`` is ``uz-Arab``), as does every
    language outside the table whose tag has one.

    Args:
        spelling: Code, tag or name.

    Raises:
        LanguageError: If nothing matches; the message gives the closest spellings.
    """
    text = spelling.strip()
    by_name = _index().get(text.casefold())
    entry = languages()[by_name] if by_name else _from_tag(text)[0]
    if entry is None:
        raise LanguageError(
            f"unknown language {spelling!r}{_closest(text)}; write an ISO 639 code (he, heb), a "
            "FLORES code (heb_Hebr), a BCP 47 tag (pt-BR) or an English name"
        )
    return entry


def variant(spelling: str) -> str:
    """Returns a language's code with the region and variant of its spelling.

    So ``por_BR`` is ``pt-BR``, ``cat_Latn_valencia`` is ``ca-valencia``. Where the region only
    decides between scripts (``zh-TW`` is ``zh-Hant``), it is not kept.

    Raises:
        LanguageError: If it names no language.
    """
    entry = language(spelling)
    region = "" if spelling.strip().casefold() in _index() else _from_tag(spelling.strip())[1]
    return f"{entry.code}-{region}" if region else entry.code


def matching(spelling: str, have: Iterable[str]) -> tuple[str, ...]:
    """Returns those among some codes that a spelling means.

    That is the very code, else the same variant, else the same language, else its variants and
    scripts where the spelling leaves those open; several only of the last.

    Args:
        spelling: As :func:`language` takes it, or one of the codes, be it a language's or not.
        have: Codes, as corpora have them.

    Raises:
        LanguageError: If it is none of the codes and names no language.
    """
    codes = tuple(have)
    if spelling in codes:
        return (spelling,)
    entry = language(spelling)
    for code in (variant(spelling), entry.code):
        if code in codes:
            return (code,)
    stated = variant(spelling) != entry.code
    if stated:
        return ()
    return tuple(code for code in codes if _means(entry, code))


def _means(entry: Language, code: str) -> bool:
    """Whether a code is a variant of a language, or the language in the script of its text."""
    try:
        other = language(code)
    except LanguageError:
        return False
    if other.code == entry.code:
        return True
    unstated = UNKNOWN_SCRIPT in (entry.script, other.script)
    return unstated and other.code3 == entry.code3


@dataclass(frozen=True, slots=True)
class Named:
    """A language as a page writes it."""

    code: str
    name: str
    """In English, or the code where it is none that is known."""
    own: str | None
    """In itself, or None where that is not known or is the English name."""
    direction: Direction
    """Of its script; every name is set in its own direction."""


def named(code: str) -> Named:
    """Returns how a page writes a language, known or not; a variant with its region."""
    try:
        entry, full = language(code), variant(code)
    except LanguageError:
        return Named(code, code, None, "ltr")
    own = entry.endonym if entry.endonym != entry.name else None
    region = full.removeprefix(entry.code).lstrip("-")
    name = f"{entry.name} ({region})" if region else entry.name
    return Named(code, name, own, entry.script_direction)


def _from_tag(tag: str) -> tuple[Language | None, str]:
    """Returns the language of a tag, or None, and the region and variants that it states."""
    head, *subtags = re.split(r"[-_]", tag)
    script, region, variants = "", "", list[str]()
    for subtag in subtags:
        if _is_variant(subtag):
            variants.append(subtag.lower())
        elif variants:
            return None, ""
        elif re.fullmatch(r"[A-Za-z]{4}", subtag) and not script and not region:
            script = subtag.title()
        elif re.fullmatch(r"[A-Za-z]{2}|\d{3}", subtag) and not region:
            region = subtag.upper()
        else:
            return None, ""
    if script and script not in _scripts():
        return None, ""
    code = _index().get(head.casefold())
    if code is None:
        return _outside(head, script), "-".join(filter(None, (region, *variants)))
    if code == "zh" and not script and region in ("CN", "SG", "TW", "HK", "MO"):
        script, region = ("Hans" if region in ("CN", "SG") else "Hant"), ""
    return _in_script(languages()[code], script), "-".join(filter(None, (region, *variants)))


def _is_variant(subtag: str) -> bool:
    """Whether a part of a tag is a variant: a spelling's year, a Glottolog code, or a known name.

    Not every word that BCP 47 would allow there, since names of files go on with other words.
    """
    known = r"\d[a-z0-9]{3}|[a-z]{4}\d{4}"
    return bool(re.fullmatch(known, subtag.lower())) or subtag.lower() in _VARIANTS


def _outside(head: str, script: str) -> Language | None:
    """Returns a language of ISO 639 outside the table, or None where the code is unassigned."""
    if not re.fullmatch(r"[A-Za-z]{2,3}", head) or head.casefold() in _NOT_CODES:
        return None
    # A table of 8,000 that most runs need nothing of.
    iso639: Any = importlib.import_module("iso639")
    by = iso639.Language.from_part1 if len(head) == 2 else iso639.Language.from_part3
    try:
        found = by(head.casefold())
    except iso639.LanguageNotFoundError:
        return None
    code = found.part1 or found.part3
    return Language(
        code=f"{code}-{script}" if script else code,
        code3=found.part3,
        name=found.name,
        endonym=None,
        script=script or UNKNOWN_SCRIPT,
        family=None,
        genus=None,
        morphology=None,
        morphologically_rich=None,
        resource_class=None,
    )


def script_of(text: str) -> str:
    """Returns the script that most letters of a text are in, by ISO 15924.

    Japanese and Korean, which mix several, are told by their own (``Jpan``, ``Kore``).

    Args:
        text: Some sentences.

    Returns:
        ``Zyyy`` where it has no letter.

    Example:
        >>> script_of("Эрзянь кель"), script_of("3 + 4"), script_of("かな漢字")
        ('Cyrl', 'Zyyy', 'Jpan')
    """
    counts = Counter(
        {script: len(pattern.findall(text)) for script, pattern in _script_patterns().items()}
    )
    counts["Jpan"] = counts.pop("Hira") + counts.pop("Kana")
    if counts["Jpan"]:
        counts["Jpan"] += counts["Hani"]
    script, n = counts.most_common(1)[0]
    return _MIXED.get(script, script) if n else UNKNOWN_SCRIPT


@functools.cache
def _script_patterns() -> dict[str, Any]:
    regex: Any = importlib.import_module("regex")  # which knows the scripts of Unicode
    return {code: regex.compile(rf"\p{{Script={code}}}") for code in _UNICODE_SCRIPTS}


def _in_script(entry: Language, script: str) -> Language:
    if not script or script in (entry.script, _SAME_SCRIPT.get(entry.script)):
        return entry
    code = f"{entry.code.split('-')[0]}-{script}"
    return languages().get(code) or replace(
        entry, code=code, script=script, name=f"{entry.name} ({script})", endonym=None
    )


@functools.cache
def _index() -> dict[str, str]:
    """Every spelling without a script or region, casefolded, and the code it means."""
    index: dict[str, str] = {}
    for code, entry in languages().items():
        index.setdefault(entry.code3, code)
        index.setdefault(entry.name.casefold(), code)
        index[code.casefold()] = code
    return index | _ALIASES


def _closest(text: str) -> str:
    near = difflib.get_close_matches(text.casefold(), _index(), n=4, cutoff=0.6)
    codes = dict.fromkeys(_index()[spelling] for spelling in near)
    names = ", ".join(f"{code} ({languages()[code].name})" for code in codes)
    return f"; closest: {names}" if names else ""


@functools.cache
def _scripts() -> frozenset[str]:
    known = {entry.script for entry in languages().values()}
    return frozenset(known | set(_SAME_SCRIPT.values()) | _RIGHT_TO_LEFT | set(_UNICODE_SCRIPTS))


UNKNOWN_SCRIPT = "Zyyy"
"""ISO 15924's code for an undetermined script."""

_RIGHT_TO_LEFT = frozenset({"Arab", "Hebr", "Thaa", "Syrc", "Nkoo", "Adlm", "Mand", "Rohg", "Samr"})

# Variants that have names in IANA's registry and are whole written languages to somebody.
_VARIANTS = frozenset(
    """
    akuapem aranes arevela arevmda asante auvern cisaup creiss ekavsk fascia fodom gallo gascon
    gherd grclass grital grmistr ijekavsk jauer lemosin lengadoc nicard oxendict polyton monoton
    provenc puter rozaj rumgr scotland scouse simple surmiran sursilv sutsilv tarask ulster valbadia
    valencia vallader vivaraup
    """.split()
)

# Codes of ISO 639 that mostly mean something else: Kanuri's is written for Korean, KR.
_NOT_CODES = frozenset({"kr"})

# How texts in scripts that go with others are called.
_MIXED = {"Hang": "Kore"}

# Scripts of living languages and some others, as Unicode has them.
_UNICODE_SCRIPTS = """
Adlm Arab Armn Bali Bamu Batk Beng Berf Bopo Bugi Buhd Cakm Cans Cham Cher Copt Cyrl Deva Dogr Ethi
Gara Geor Gong Gonm Grek Gujr Gukh Guru Hang Hani Hano Hebr Hira Hmng Hmnp Java Kali Kana Khmr Knda
Krai Lana Laoo Latn Lepc Limb Lisu Mand Medf Mend Mlym Modi Mong Mroo Mtei Mymr Nagm Newa Nkoo Nshu
Olck Onao Orya Osge Osma Plrd Rjng Rohg Samr Saur Sinh Sora Sund Sunu Sylo Syrc Tagb Takr Tale Talu
Taml Tavt Telu Tfng Tglg Thaa Thai Tibt Tirh Tnsa Todr Toto Vaii Wara Wcho Yezi Yiii Goth Runr
""".split()

# A second code for what is the same text: Korean with or without Chinese characters, and so on.
_SAME_SCRIPT = {"Hang": "Kore", "Jpan": "Hrkt", "Hans": "Hani"}

_ALIASES = {
    # Members that corpora use for the standard of a macrolanguage, and the reverse.
    **{"arb": "ar", "cmn": "zh", "swh": "sw", "pes": "fa", "zsm": "ms", "lvs": "lv", "als": "sq"},
    **{"khk": "mn", "plt": "mg", "npi": "ne", "ory": "or", "uzn": "uz", "ydd": "yi", "azj": "az"},
    **{"gaz": "om", "pbt": "ps", "ekk": "et", "quy": "qu", "ayr": "ay", "gug": "gn", "ktu": "kg"},
    **{"kur": "kmr", "ku": "kmr", "ful": "fuv", "ff": "fuv", "kau": "knc"},
    **{"din": "dik", "no": "nb", "nor": "nb", "fil": "tl", "ajp": "apc", "ike": "iu"},
    # A withdrawn code that is still met. Not ``kr``, which is Kanuri but mostly written for Korean.
    **{"iw": "he"},
    # Other English names.
    **{"mandarin": "zh", "mandarin chinese": "zh", "chinese (simplified)": "zh"},
    **{"simplified chinese": "zh", "traditional chinese": "zh-Hant", "yue chinese": "yue"},
    **{"modern standard arabic": "ar", "standard arabic": "ar", "castilian": "es"},
    **{"farsi": "fa", "western persian": "fa", "myanmar": "my", "filipino": "tl"},
    **{"norwegian": "nb", "bokmål": "nb", "bokmal": "nb", "nynorsk": "nn", "moldovan": "ro"},
    **{"oriya": "or", "panjabi": "pa", "eastern panjabi": "pa", "kirghiz": "ky"},
    **{"uighur": "ug", "pushto": "ps", "kurdish": "kmr", "kurmanji": "kmr", "sorani": "ckb"},
    **{"nyanja": "ny", "chewa": "ny", "ganda": "lg", "sinhalese": "si", "maldivian": "dv"},
    **{"setswana": "tn", "sesotho": "st", "isizulu": "zu", "isixhosa": "xh", "sepedi": "nso"},
    **{"kiswahili": "sw", "rundi": "rn", "kikongo": "kg", "gikuyu": "ki", "tashelhiyt": "shi"},
    **{"slovene": "sl", "flemish": "nl", "luxemburgish": "lb", "frisian": "fy", "malgache": "mg"},
    **{"standard malay": "ms", "standard latvian": "lv", "ivrit": "he", "euskara": "eu"},
    **{"northern uzbek": "uz", "north azerbaijani": "az", "tosk albanian": "sq", "azeri": "az"},
}
