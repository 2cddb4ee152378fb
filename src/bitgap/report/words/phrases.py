"""Words for numbers: how answers, pages and papers say shares, ratios and ranks alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.languages import named
from bitgap.show.numbers import lacks
from bitgap.show.withdrawn import withdrawal, withdrawn_names

Json = Mapping[str, Any]
Ends = Sequence[float | None] | None

BEST = 0.10
"""A set counts as good where it is in this best share of the sets of its size."""
LABELS = ("supported", "refuted", "small", "inconclusive", "not testable")
"""Verdicts in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One question of the first screen, with what the numbers say of it."""

    key: str
    """``runs``, ``why``, ``languages``, ``blocks`` or ``hypotheses``; of a recipe ``cost``,
    ``gains`` or ``mattered``; of texts of calibration ``text``, ``reference`` or ``bit``."""
    question: str
    short: str
    """One sentence."""
    details: tuple[str, ...]
    """Sentences with the numbers behind it."""


def language_name(code: str) -> str:
    """Returns a language's English name, or its code where it is none that is known."""
    return named(code).name


def percent(value: float, ends: Ends = None, digits: int = 0) -> str:
    """Returns a share as ``33 % [30, 37]``."""
    low_high = "" if ends is None or lacks(ends) else (
        f" [{', '.join(f'{100 * (end or 0.0):.{digits}f}' for end in ends)}]"
    )  # fmt: skip
    return f"{100 * value:.{digits}f} %{low_high}"


def times(ratio: float, ends: Sequence[float] | None = None) -> str:
    """Returns a ratio as ``2.3 [2.1, 2.5] times``."""
    low_high = "" if ends is None else f" [{', '.join(f'{end:.2f}' for end in ends)}]"
    return f"{ratio:.2f}{low_high} times"


def joined(parts: Sequence[str]) -> str:
    """Returns a list in words: ``a``, ``a and b``, ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
            "eleven", "twelve")  # fmt: skip


def counted(n: int, noun: str, plural: str = "") -> str:
    """Returns ``one family`` or ``seven families``."""
    name = noun if n == 1 else plural or f"{noun}s"
    return f"{_NUMBERS[n] if n < len(_NUMBERS) else f'{n:,}'} {name}"


def be(n: int) -> str:
    """Returns ``is`` or ``are``."""
    return "is" if n == 1 else "are"


def among(place: int) -> str:
    """Returns a rank from the top as ``the most``, ``the 2nd most``."""
    if place == 1:
        return "the most"
    teens = 10 <= place % 100 <= 20
    suffix = "th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"the {place}{suffix} most"


def by_label(findings: Iterable[Json]) -> dict[str, list[str]]:
    """Returns hypotheses by verdict, verdicts in the order in which they are told."""
    found: dict[str, list[str]] = {label: [] for label in LABELS}
    for finding in findings:
        found[finding["verdict"]["label"]].append(finding["hypothesis"])
    return {label: names for label, names in found.items() if names}


def verdict_answer(findings: Sequence[Json]) -> Answer:
    """Returns which hypotheses stand."""
    labels = by_label(findings)
    standing = labels.get("supported", [])
    head = (
        f"{joined(standing)} {be(len(standing))} supported"
        if standing
        else f"None of the {counted(len(findings), 'hypothesis', 'hypotheses')} is supported"
    )
    rest = [
        f"{len(names)} {be(len(names))} {label}"
        for label, names in labels.items()
        if label != "supported"
    ]
    short = f"{head}; {joined(rest)}." if rest else f"{head}."
    if withdrawn := withdrawn_names(findings):
        short += f" The refutation of {joined(withdrawn)} is withdrawn."
    details = [f"{label.capitalize()}: {', '.join(names)}." for label, names in labels.items()]
    details += [f"{f['hypothesis']}: {why}" for f in findings if (why := withdrawal(f))]
    return Answer("hypotheses", "Which hypotheses stand?", short, tuple(details))
