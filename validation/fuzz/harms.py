"""How inputs are made of good ones: bits flipped, parts cut, doubled, and signs put in."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

Harm = tuple[str, int, int]

_ABSURD = (0, 1, 0x7F, 0xFF, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_SIGNS = (
    *(
        b"\0",
        b"\n",
        b"\t",
        b"\r",
        b'"',
        b"'",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"=",
        b"-",
    ),
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", "\u2028".encode(), "שלום".encode()),
    *(b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b"1" * 30, b"1" * 5000, b"[" * 3000),
    *(b"../../", b"%s{}", b" protect 0", b" rtn3-g0", b"\x1b[2J"),
)

_PLACES = 1 << 20
_VALUES = {
    "flip": (0, 7),
    "absurd": (0, len(_ABSURD) - 1),
    "cut": (0, 0),
    "digit": (0, 9),
    "sign": (0, len(_SIGNS) - 1),
    "drop": (1, 64),
    "twice": (1, 256),
}
"""What a harm's number says, from and to: which bit, which sign, how many bytes."""

harms = st.lists(
    st.one_of(
        [
            st.tuples(st.just(kind), st.integers(0, _PLACES), st.integers(*span))
            for kind, span in _VALUES.items()
        ]
    ),
    min_size=1,
    max_size=4,
)


def relatives(todo: Sequence[Harm], draw: random.Random, n: int) -> Iterator[list[Harm]]:
    """Yields harms of the same kinds at other places, with other numbers.

    Hypothesis takes longer to think of an input than most readers to read it, so that each of its
    inputs is tried with some that are like it.

    Args:
        todo: From :data:`harms`.
        draw: Draws places and numbers.
        n: How many.
    """
    for _ in range(n):
        yield [
            (kind, draw.randint(0, _PLACES), draw.randint(*_VALUES[kind])) for kind, _, _ in todo
        ]


def damaged(data: bytes, todo: Sequence[Harm], head: int) -> bytes:
    """Returns an input with harms done to it, three of four in its first bytes.

    Args:
        data: A good one.
        todo: From :data:`harms`.
        head: How many bytes at its beginning say most, as sizes and names do.
    """
    out = bytearray(data)
    for kind, where, value in todo:
        if not out:
            break
        at = where % (min(head, len(out)) if where % 4 else len(out))
        if kind == "flip":
            out[at] ^= 1 << value
        elif kind == "absurd":
            out[at : at + 8] = struct.pack("<Q", _ABSURD[value])[: len(out) - at]
        elif kind == "cut":
            del out[at:]
        elif kind == "sign":
            out[at:at] = _SIGNS[value]
        elif kind == "drop":
            del out[at : at + value]
        elif kind == "twice":
            out[at:at] = out[at : at + value]
        elif digits := [i for i, byte in enumerate(out[:head]) if 48 <= byte <= 57]:
            out[digits[where % len(digits)]] = 48 + value
    return bytes(out)
