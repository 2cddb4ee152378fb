"""A short run of the fuzzer over every reader, and that it finds what it is there to find."""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path

import pytest

from bitgap.errors import CorpusError
from validation.fuzz import __main__ as fuzz_main
from validation.fuzz.__main__ import chosen, row_of, section
from validation.fuzz.harms import damaged, relatives
from validation.fuzz.run import Target, fuzz
from validation.reliability import PAGE, keep, trial, trials

TARGETS = chosen(None, torch=True)


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.name)
def test_no_reader_fails_on_damaged_input(target: Target) -> None:
    found = fuzz(target, seconds=60, most=60, first=17, n_relatives=1)
    assert found.faults == {}
    assert found.tried >= 20 and found.refused > 0


def _hangs(_: object) -> None:
    until = time.process_time() + 30
    while time.process_time() < until:
        pass


def _grows(_: object) -> None:
    bytearray(1 << 30)


def _holds(_: object) -> bytes:
    return b"x" * (20 << 20)


def _raises(_: object) -> None:
    raise KeyError("x")


def _two_lines(_: object) -> None:
    class Unguarded(CorpusError):
        def __str__(self) -> str:
            return "a\nb"

    raise Unguarded


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
    target = Target(name="planted", file="x", seeds=[b"abc"], read=read, sound=False)  # type: ignore[arg-type]
    found = fuzz(target, seconds=20, most=1)
    assert found.tried == 1 and len(found.faults) == 1
    assert words in next(iter(found.faults))


def test_a_library_that_notices_no_signal_is_found_by_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("validation.fuzz.run.LONGEST_S", 0.01)
    monkeypatch.setattr("validation.fuzz.run.signal.setitimer", lambda *_: (0.0, 0.0))

    def slow(_: object) -> None:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass

    found = fuzz(
        Target(name="planted", file="x", seeds=[b"abc"], read=slow, sound=False), seconds=20, most=1
    )
    assert list(found.faults) == ["took more than 0 s of CPU"]


def test_memory_of_one_input_is_measured() -> None:
    target = Target(name="planted", file="x", seeds=[b"abc"], read=_holds, sound=False)
    found = fuzz(target, seconds=20, most=2)
    assert found.faults == {} and found.grew_bytes > 19 << 20


def test_relatives_are_other_inputs_of_the_same_kinds() -> None:
    todo = [("flip", 3, 1), ("twice", 9, 200)]
    found = list(relatives(todo, random.Random(0), 20))
    assert found == list(relatives(todo, random.Random(0), 20)), "a seed says which"
    assert {tuple(kind for kind, _, _ in one) for one in found} == {("flip", "twice")}
    assert len({str(one) for one in found}) == 20
    assert all(value <= 7 for one in found for kind, _, value in one if kind == "flip")


def test_the_page_adds_up_the_runs_that_are_kept(tmp_path: Path) -> None:
    target = Target(name="planted", file="text", seeds=[b"abc"], read=_raises, sound=False)
    page = tmp_path / "page.md"
    for seed in (3, 9):
        rows = [row_of(fuzz(target, seconds=20, most=5, first=seed))]
        found = keep(trial("fuzz", f"python -m x --seed {seed}", rows), page)
        assert rows[0]["seeds"] == [seed, seed]
    text = section(found)
    assert "| planted | 10 | 0 | 2 |" in text and "| all | 10 | 0 | 2 |" in text
    assert "python -m x --seed 3" in text and "python -m x --seed 9" in text
    assert text.count("planted: KeyError in test_fuzz.py") == 2
    assert trials("kills", page) == []


def test_a_run_that_is_stopped_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, page = fuzz_main.fuzz, tmp_path / "page.md"

    def second_is_stopped(target: Target, **how: object) -> object:
        if target.name == "scheme, run, time":
            raise KeyboardInterrupt
        return real(target, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(fuzz_main, "fuzz", second_is_stopped)
    words = ["--only", "plan", "scheme", "--most", "5", "--without-torch", "--page", str(page)]
    try:
        assert fuzz_main.main(words) == 0
    finally:
        logging.disable(logging.NOTSET)
    (kept,) = trials("fuzz", page)
    assert kept.command.endswith("stopped after 1 of 2 readers")
    assert [row["inputs"] for row in kept.rows] == [5]


def test_the_page_is_what_its_records_say() -> None:
    from validation import kills

    text = PAGE.read_text(encoding="utf-8")
    assert section(trials("fuzz")) in text, "python -m validation.reliability writes it"
    assert kills.section(trials("kills")) in text


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
