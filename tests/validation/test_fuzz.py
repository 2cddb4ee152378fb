"""A short run of the fuzzer over every reader, and that it finds what it is there to find."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bitgap.errors import CorpusError
from validation.fuzz.__main__ import chosen, section, table
from validation.fuzz.harms import damaged
from validation.fuzz.run import Target, fuzz

TARGETS = chosen(None, torch=True)


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.name)
def test_no_reader_fails_on_damaged_input(target: Target) -> None:
    found = fuzz(target, seconds=60, most=60, first=17)
    assert found.faults == {}
    assert found.tried >= 20 and found.refused > 0


def _hangs(_: object) -> None:
    until = time.process_time() + 30
    while time.process_time() < until:
        pass


def _grows(_: object) -> None:
    bytearray(1 << 30)


def _raises(_: object) -> None:
    raise KeyError("x")


def _two_lines(_: object) -> None:
    raise CorpusError("a\nb")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (_hangs, "Slow"),
        (_grows, "MemoryError"),
        (_raises, "KeyError in test_fuzz.py"),
        (_two_lines, "message"),
    ],
)
def test_a_planted_fault_is_found(read: object, words: str) -> None:
    target = Target(name="planted", file="x", seeds=[b"abc"], read=read)  # type: ignore[arg-type]
    found = fuzz(target, seconds=20, most=1)
    assert found.tried == 1 and len(found.faults) == 1
    assert words in next(iter(found.faults))


def test_the_page_tells_inputs_faults_and_seeds() -> None:
    target = Target(name="planted", file="text", seeds=[b"abc"], read=_raises)
    found = [fuzz(target, seconds=20, most=5, first=3)]
    assert "| planted | 5 | 0 | 1 |" in table(found) and "| 3 |" in table(found)
    assert "python -m x" in section(found, "python -m x")


def test_harms_of_nothing_and_of_little() -> None:
    for data in (b"", b"a", b"ab1"):
        for kind in ("flip", "absurd", "cut", "digit", "sign", "drop", "twice"):
            assert isinstance(damaged(data, [(kind, 7, 3), (kind, 0, 0)], 10), bytes)


def test_sections_of_the_page_stand_in_their_order(tmp_path: Path) -> None:
    from validation.reliability import put_section

    page = tmp_path / "page.md"
    put_section("fuzz", "## F\n\n1", page)
    put_section("kills", "## K\n\n2", page)
    put_section("fuzz", "## F\n\n3", page)
    put_section("interrupts", "## I\n\n4", page)
    put_section("kills", "## K\n\n5", page)
    text = page.read_text()
    assert text.index("## I") < text.index("## K") < text.index("## F"), "each is kept"
    assert [line for line in text.splitlines() if line.isdigit()] == ["4", "5", "3"]
