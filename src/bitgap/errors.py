"""Every way bitgap can refuse, in one tree.

::

    BitgapError
    ├── UserError (also ValueError)       what was asked, what was found, what to do
    │   ├── UsageError                    an argument that cannot be right        exit 2
    │   │   ├── SchemeError               a scheme name nobody can round by       exit 2
    │   │   ├── PlanError                 a plan that does not fit the model      exit 2
    │   │   └── LanguageError             a language unknown or absent            exit 2
    │   ├── CorpusError                   text that cannot be used; file and line exit 1
    │   ├── ModelError                    a model that cannot be loaded           exit 1
    │   │   └── UnsupportedArchitecture   a model that cannot be split            exit 1
    │   ├── BudgetError                   memory or time too small for the work   exit 1
    │   ├── StoreError                    a store that cannot be read or written  exit 1
    │   ├── WorkersError                  workers that end, or cannot share work  exit 1
    │   ├── ExportError                   an export that is not what its recipe says  exit 1
    │   └── MissingExtra                  an optional library that is not there   exit 1
    ├── GateClosed                        a gate did its work: beyond its limit   exit 1
    │   └── GateUndecided                 or cannot tell with these sentences     exit 3
    └── EngineError                       the engine's own promise broken         exit 1

A ``UserError`` is the user's to mend and its message says how; an ``EngineError`` is ours.
"""

from __future__ import annotations

from typing import Any

_JOINERS = "\u200c\u200d"
"""What words of Persian and of Indic languages are written with; it shows nothing by itself."""


class BitgapError(Exception):
    """Root of everything bitgap raises on purpose.

    Its message is one line that can be shown anywhere: names and text of others that it tells of
    may hold line breaks, escapes that a terminal obeys, marks that turn the line around, or halves
    of characters that no terminal takes. Those are told as Python writes them.
    """

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(plain_text(one) if isinstance(one, str) else one for one in args))


class UserError(BitgapError, ValueError):
    """Something that was asked cannot be done; the message says what to do instead."""


class UsageError(UserError):
    """An argument that cannot be right, whatever the model or the text."""

    exit_code = 2


class NoSuchPath(UsageError):
    """A file or folder that was named and is not there."""


class SchemeError(UsageError):
    """A scheme name that does not parse."""


class PlanError(UsageError):
    """A plan that does not parse or does not fit the model."""


class LanguageError(UsageError):
    """A language that is unknown, absent from the corpus, or asked for twice."""


class CorpusError(UserError):
    """Text that cannot be used; the message names the file and, where there is one, the line."""


class NoSuchText(CorpusError, NoSuchPath):
    """A corpus, minimal pairs, treebanks or unigrams that were named and are not there."""


class ModelError(UserError):
    """A model that cannot be found, read or trusted."""


class NoSuchModel(ModelError, NoSuchPath):
    """A model's folder that was named and is not there."""


class UnsupportedArchitecture(ModelError):
    """A model that cannot be split into embed, blocks and tail; the message says what to add."""


class BudgetError(UserError):
    """Work that does not fit the memory it was given."""


class StoreError(UserError):
    """A store that cannot be opened, read or written."""


class NoSuchStore(StoreError, NoSuchPath):
    """A store that was named to be read and is not there."""


class WorkersError(UserError):
    """Workers that end again and again, never come up, or would not give the same bits."""


class ExportError(UserError):
    """A written model that its toolchain does not load, or that is not what its recipe says."""


class MissingExtra(UserError):
    """An optional library that is needed now and not installed; the message says how to get it."""


class GateClosed(BitgapError):
    """What was measured is beyond the limit that was set; the message names the languages."""


class GateUndecided(GateClosed):
    """Whether what was measured is within its limit cannot be told with these sentences."""

    exit_code = 3


class EngineError(BitgapError):
    """A promise of the engine itself that did not hold; please report it."""


def plain_text(text: str) -> str:
    r"""Returns a text with every character escaped that shows nothing, or does something.

    Example:
        >>> print(plain_text("a\nb \x1b[31m \u202e שלום"))
        a\nb \x1b[31m \u202e שלום
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )


def first_line(error: BaseException) -> str:
    """Returns what a library's error says first, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def one_line(text: object) -> str:
    """Returns what a file or a library says without line breaks, which either may have."""
    return " ".join(str(text).split())


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Imports an optional library.

    Args:
        module: Such as ``pyarrow.parquet``.
        extra: Which of bitgap's extras brings it.
        purpose: What needs it, as the subject of a sentence.

    Raises:
        MissingExtra: If it cannot be imported; the message gives the command that installs it.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{purpose} needs the {module.split('.')[0]} library, which cannot be imported "
            f"({error}); install it with: pip install 'bitgap[{extra}]'"
        ) from error
