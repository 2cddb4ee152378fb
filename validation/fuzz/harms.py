"""How inputs are made of good ones: bits flipped, parts cut, doubled, and signs put in."""

from __future__ import annotations

import struct
from collections.abc import Sequence

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

harms = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 1 << 20), st.integers(0, 7)),
        st.tuples(st.just("absurd"), st.integers(0, 1 << 20), st.integers(0, len(_ABSURD) - 1)),
        st.tuples(st.just("cut"), st.integers(0, 1 << 20), st.just(0)),
        st.tuples(st.just("digit"), st.integers(0, 1 << 20), st.integers(0, 9)),
        st.tuples(st.just("sign"), st.integers(0, 1 << 20), st.integers(0, len(_SIGNS) - 1)),
        st.tuples(st.just("drop"), st.integers(0, 1 << 20), st.integers(1, 64)),
        st.tuples(st.just("twice"), st.integers(0, 1 << 20), st.integers(1, 256)),
    ),
    min_size=1,
    max_size=4,
)


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
