"""Numbers as people read them; a number that is missing is a dash."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitgap.languages import named

MISSING = "–"
_PREFIXES = (("", "a bit"), ("m", "a thousandth of a bit"), ("µ", "a millionth of a bit"))
# Digits of a column's largest number; the others show as many decimals.
_DIGITS, _MAX_DECIMALS = 3, 7
_OWN = re.compile(r"own:([A-Za-z0-9_.-]+):[0-9a-f]{12}")
Ends = Sequence[float | None] | None


@dataclass(frozen=True, slots=True)
class Unit:
    """Bits, or a fraction of them in which a table's numbers have few digits."""

    power: int
    """1 for thousandths, 2 for millionths."""
    whose: str = "English"
    """Name of the reference language, whose characters damage is divided by."""

    @classmethod
    def of(cls, values: Iterable[float | None], reference: str | None = None) -> Unit:
        """Returns the unit in which the largest value is between 1 and 1000, if there is one.

        Args:
            values: In bits.
            reference: Code of the reference language; English when None.
        """
        largest = max((abs(v) for v in values if v is not None), default=0.0)
        power = -math.floor(math.log10(largest) / 3) if largest > 0 else 0
        power = min(max(power, 0), len(_PREFIXES) - 1)
        return cls(power, named(reference or "en").name)

    @classmethod
    def typical(cls, values: Iterable[float | None], reference: str | None = None) -> Unit:
        """Returns the unit of the middle one of values that may lie orders of magnitude apart.

        In the unit of the largest the smallest would have no digits left.

        Args:
            values: In bits.
            reference: As for :meth:`of`.
        """
        known = sorted(abs(v) for v in values if v is not None)
        return cls.of(known[len(known) // 2 : len(known) // 2 + 1], reference)

    @property
    def factor(self) -> float:
        """What bits are multiplied with."""
        return 1000.0**self.power

    @property
    def name(self) -> str:
        """Such as ``mbit``."""
        return f"{_PREFIXES[self.power][0]}bit"

    @property
    def note(self) -> str:
        """What the name means."""
        return f"{self.name}: {_PREFIXES[self.power][1]} per {self.whose} character"


def told(value: float | None, ends: Ends, factor: float = 1.0, *, signed: bool = True) -> str:
    """Returns one number with its interval, such as ``+0.12 [-0.30, +0.54]``."""
    if value is None:
        return "none"
    known = (value, *(end for end in ends or () if end is not None))
    decimals = decimals_of(v * factor for v in known)
    number = decimal(value, factor, decimals, signed=signed)
    if ends is None or lacks(ends):
        return number
    low, high = (decimal(end, factor, decimals, signed=signed) for end in ends)
    return f"{number} [{low}, {high}]"


def told_estimate(estimate: Mapping[str, Any]) -> str:
    """Returns an estimate's number with its interval, or a dash."""
    if estimate["value"] is None:
        return MISSING
    return told(estimate["value"], (estimate["low"], estimate["high"]))


def lacks(ends: Ends) -> bool:
    """Returns whether an interval is missing or has no end."""
    return not ends or None in ends


def block_list(blocks: Sequence[int]) -> str:
    """Returns block numbers, neighbours as a range, such as ``0, 7-11``."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def short_name(model: str) -> str:
    """Returns a model's name without the folders before it, on one line."""
    name = model.rstrip("/").rsplit("/", 1)[-1]
    return "".join(c if c.isprintable() else " " for c in name)


def plan_name(plan: str) -> str:
    """Returns a plan's text with weights that came from elsewhere by what they were called.

    The digest that tells them apart from others so called is left out; where such a plan gives
    them to blocks, embedding and head, one name says it.

    Example:
        >>> plan_name("rtn4-g128 protect 0,9,11")
        'rtn4-g128 protect 0,9,11'
        >>> plan_name("own:my.gguf:0123456789ab embedding own:my.gguf:0123456789ab")
        'my.gguf'
    """
    called = _OWN.findall(plan)
    if called and _OWN.sub("", plan).replace("embedding", "").replace("head", "").strip() == "":
        return " and ".join(dict.fromkeys(called))
    return _OWN.sub(r"\1", plan)


def decimals_of(values: Iterable[float]) -> int:
    """Returns how many decimals give the largest of some numbers three digits, at most seven."""
    largest = max(map(abs, values), default=0.0)
    if not largest > 0:
        return 1
    return min(max(_DIGITS - 1 - math.floor(math.log10(largest)), 0), _MAX_DECIMALS)


def decimal(value: float | None, factor: float, decimals: int, *, signed: bool = False) -> str:
    """Returns a number with so many decimals, or a dash."""
    if value is None:
        return MISSING
    text = f"{value * factor:{'+' if signed else ''}.{decimals}f}"
    # A number that rounds to nothing has no sign worth showing.
    return text.replace("-", "").replace("+", "") if float(text) == 0 else text
