"""Which language a short text is in, by the lingua library where it is installed.

It chooses among the languages of the corpus and English alone: it is asked whether a continuation
left the prompt's language, and more candidates would make more false alarms on texts this short.
A continuation in a language outside of these counts as whichever of them it is nearest to.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from bitgap.languages import language, script_of

_MODULE, _PACKAGE = "lingua", "lingua-language-detector"
INSTALL = "pip install 'bitgap[identify]'"


class Identifier:
    """Tells languages of a corpus apart."""

    def __init__(self, codes: Sequence[str]) -> None:
        """Makes ready to tell some languages.

        Args:
            codes: Of a corpus.
        """
        self.name = ""
        self.unknown: dict[str, str] = {}
        self._detector: Any = None
        self._known: dict[str, Any] = {}
        try:
            lingua = importlib.import_module(_MODULE)
        except ImportError:
            return
        self.name = f"lingua {metadata.version(_PACKAGE)}"
        every = lingua.Language.all()
        by_code = {one.iso_code_639_1.name.lower(): one for one in every}
        by_code |= {one.iso_code_639_3.name.lower(): one for one in every}
        for code in codes:
            entry = language(code)
            found = by_code.get(entry.code3) or by_code.get(entry.code.partition("-")[0])
            if found is None:
                self.unknown[code] = f"{self.name} does not know the language"
            else:
                self._known[code] = found
        candidates = {*self._known.values(), by_code["eng"]}
        for code in self._known if len(candidates) < 2 else ():
            self.unknown[code] = "there is no other language to tell it from"
        if len(candidates) > 1:
            builder = lingua.LanguageDetectorBuilder.from_languages(*candidates)
            self._detector = builder.build()

    def left(self, text: str, code: str) -> bool | None:
        """Returns whether a text is in another language; None where that cannot be told.

        Args:
            text: Some words.
            code: The language it should be in.
        """
        wanted = self._known.get(code)
        if wanted is None or self._detector is None or not _has_letters(text):
            return None
        found = self._detector.detect_language_of(text)
        return None if found is None else found != wanted


def left_script(text: str, prompt: str) -> bool | None:
    """Returns whether most letters of a text are in another script than a prompt's; None without.

    Example:
        >>> left_script(" went home", "The dog"), left_script(" הלך", "The dog")
        (False, True)
        >>> left_script("1", "The dog") is None
        True
    """
    if not (_has_letters(text) and _has_letters(prompt)):
        return None
    return script_of(text) != script_of(prompt)


def _has_letters(text: str) -> bool:
    return any(character.isalpha() for character in text)
