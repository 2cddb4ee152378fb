"""Numbers, tables and streams: what is printed reads back as what was measured."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bitgap.cli import console as terminal
from bitgap.show import views
from bitgap.show.numbers import Unit, block_list, told
from bitgap.show.table import Column, Table, Value
from bitgap.show.to_terminal import bullets, titled, to_terminal
from bitgap.show.words import count, duration, preflight_line, size


def shown(what: Any, width: int = 80) -> str:
    """Returns what a terminal without colour would show."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(what)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


# ----------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("seed", range(20))
def test_a_column_of_numbers_reads_back_to_three_digits_of_its_largest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = list(rng.normal(size=6) * 10 ** rng.uniform(-5, 3))
    unit = Unit.of(values)
    cells = Column("x", "x", "number", factor=unit.factor, signed=True).texts(values)
    back = np.array([float(cell) / unit.factor for cell in cells])
    assert np.abs(back - values).max() <= 0.0051 * np.abs(values).max()
    assert len({cell.partition(".")[2].__len__() for cell in cells if float(cell)}) == 1
    assert len({len(cell) for cell in cells}) <= 4, "few widths, so that digits stand below digits"


@pytest.mark.parametrize(
    ("largest", "name"),
    [(2e-9, "µbit"), (3.4e-5, "µbit"), (0.9e-3, "µbit"), (1e-3, "mbit"), (0.8, "mbit"),
     (1.0, "bit"), (4e3, "bit"), (0.0, "bit")],
)  # fmt: skip
def test_the_unit_makes_the_largest_number_handy_and_says_what_it_is(
    largest: float, name: str
) -> None:
    unit = Unit.of([None, largest / 7, -largest])
    assert unit.name == name and name in unit.note and "per English character" in unit.note
    if 1e-6 <= largest <= 1e3:
        assert 1 <= largest * unit.factor < 1000


def test_one_number_is_told_with_its_interval() -> None:
    assert told(0.1234, [-0.02, 0.3]) == "+0.123 [-0.020, +0.300]"
    assert told(0.001234, [0.001, 0.002], 1000.0, signed=False) == "1.23 [1.00, 2.00]"
    assert told(None, None) == "none"
    assert told(2.0, None) == told(2.0, [None, 3.0]) == "+2.00"
    assert told(0.0, [0.0, 0.0]) == "0.0 [0.0, 0.0]"
    assert told(-0.0004, [-1.0, 1.0]) == "0.00 [-1.00, +1.00]", "nothing has no sign"


@pytest.mark.parametrize("mask", [0, 1, 0b1011, 0b111111, 0b101010101, 0b110011001])
def test_a_list_of_layers_reads_back(mask: int) -> None:
    layers = [i for i in range(mask.bit_length()) if mask >> i & 1]
    back: list[int] = []
    for part in filter(None, block_list(layers).split(", ")):
        first, _, last = part.partition("-")
        back += range(int(first), int(last or first) + 1)
    assert back == layers
    assert block_list(range(5, 12)) == "5-11"


def test_times_and_sizes_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0.04, 9.94, 61, 600, 7200)] == [
        "0.0 s", "9.9 s", "61 s", "10 min", "2.0 h",
    ]  # fmt: skip
    assert [size(b) for b in (2**20, 300 * 2**20, 3 * 2**29)] == [
        "1 MiB", "300 MiB", "1.5 GiB",
    ]  # fmt: skip
    assert count(1, "plan") == "1 plan" and count(0, "plan") == "0 plans"


# ------------------------------------------------------------------------------------------ tables


def of_values(*rows: tuple[str, Value]) -> Table:
    """Returns a table of one measured column."""
    columns = (Column("name", "name"), Column("k", "K", "interval"))
    return Table(id="t", title="Damage", columns=columns, rows=rows)


def test_columns_line_up_and_a_gap_is_a_dash() -> None:
    table = of_values(("a", Value(1.5, 1.25, 12.0)), ("longer", Value(10.25)), ("c", Value(None)))
    lines = shown(to_terminal(table)).splitlines()
    assert lines[0].split() == ["name", "K", "95", "%"]
    assert [line.split() for line in lines[1:]] == [
        ["a", "1.5", "1.2…12.0"],
        ["longer", "10.2", "–"],
        ["c", "–", "–"],
    ]
    ends = [
        line.index(cell) + len(cell) for line, cell in zip(lines[1:3], ("1.5", "10.2"), strict=True)
    ]
    assert len(set(ends)) == 1, "numbers end in one column"


def test_what_is_missing_is_told_once_a_reason() -> None:
    rows = {
        "he": {"k": None, "k_ci": None, "k_reason": "collapsed"},
        "ar": {"k": None, "k_ci": None, "k_reason": "collapsed"},
        "de": {"k": 1.0, "k_ci": None, "k_reason": "too few"},
        "fr": {"k": 1.0, "k_ci": [0.5, 2.0], "k_reason": "a caveat"},
        "es": {"k": 1.0, "k_ci": None, "k_reason": None},
    }
    table = of_values(*((name, Value.of(row, "k")) for name, row in rows.items()))
    assert table.gaps == (
        "K of he, ar: collapsed.",
        "K of de: no interval: too few.",
        "K of es: no interval: draws do not vary.",
    )
    assert all(line in " ".join(shown(titled(table)).split()) for line in table.gaps)


def test_a_long_sentence_goes_on_below_its_own_first_word() -> None:
    lines = shown(*bullets(["one two three four five"]), width=12).splitlines()
    assert lines[0].startswith("· one") and len(lines) > 1
    assert all(line.startswith("  ") for line in lines[1:])


# ------------------------------------------------------------------------------------------- views


def language(**changed: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"tokens": 10, "collapsed": False, "below_resolution": False}
    for name in ("damage", "delta", "learned_share", "log_ratio", "log_ratio_per_token",
                 "log_token_premium", "log_from_mean"):  # fmt: skip
        row |= {name: 0.012, f"{name}_ci": [0.01, 0.02], f"{name}_reason": None}
    return row | {"ci": [0.01, 0.02]} | changed


def audit_result(**languages: dict[str, Any]) -> dict[str, Any]:
    def flat(name: str, value: float | None, reason: str | None = None) -> dict[str, Any]:
        ends = None if value is None else [value - 1, value + 1]
        return {name: value, f"{name}_ci": ends, f"{name}_reason": reason}

    return {
        "model": "/a/very/long/path" * 9, "plan": "rtn4-g128", "corpus": "text", "sentences": 1,
        "sentences_dropped": 2, "arithmetic": "exact", "floor_bits": 1e-7, "reference": "en",
        "languages": languages, **flat("D", None, "no other language is left"),
        **flat("D_share", None, "no other language is left"), **flat("G", 0.5),
        **flat("D_original", None, "invalid: the interval includes 0"),
        "H": {**flat("mean", 0.1), **flat("max", 0.2, "biased upward")},
        "decomposition": {**flat("kl_per_token", None, "no other language is left"),
                          **flat("token_premium", 0.25)},
        "caveats": ["A caveat. " * 20], "n_sentences": 1, "method": "told",
    }  # fmt: skip


def test_the_audit_gives_a_reason_for_every_gap_and_marks_what_is_wrong() -> None:
    ruined = language(
        collapsed=True, log_ratio=None, log_ratio_ci=None, log_ratio_reason="he collapsed"
    )
    said = shown(views.audit_view(audit_result(en=language(), he=ruined)))
    assert "he*" in said and "* collapsed: no better than add-one unigrams" in said
    assert "K/K_en of he: he collapsed." in said
    words = " ".join(said.split())
    assert "none mean log2 damage ratio to the reference; no other language is left" in words
    assert "invalid: the interval includes 0" in words
    assert "2 too long for the model left out" in words
    assert max(map(len, said.splitlines())) <= 80


def test_sixteen_languages_with_wide_numbers_keep_to_eighty_columns() -> None:
    wide = language(damage=0.9, ci=[0.5, 0.99], delta=-0.9, delta_ci=[-0.99, 0.99],
                    learned_share=0.999, learned_share_ci=[0.9, 1.5], log_ratio=-12.5,
                    log_ratio_ci=[-13.25, -11.5], log_from_mean=-12.5,
                    log_from_mean_ci=[-13.25, -11.5], tokens=99999)  # fmt: skip
    said = shown(views.audit_view(audit_result(**{f"l{i}_Hant": wide for i in range(15)}, en=wide)))
    rows = [line for line in said.splitlines() if line.startswith("l")]
    assert len(rows) == 3 * (1 + 15), "three tables with a header each"
    assert all(row.count("…") in (0, 1, 3) for row in rows), "every row stands on one line"
    assert max(map(len, said.splitlines())) <= 80


def verdict_of(**changed: Any) -> dict[str, Any]:
    estimate = {"value": 0.5, "low": 0.25, "high": 0.75, "unit": "dB", "reason": None}
    finding: dict[str, Any] = {
        "experiment": "T-004", "hypothesis": "H2.1", "title": "Something", "sentence": "It is so.",
        "verdict": {"label": "supported", "reason": "both pass", "p": 0.01, "p_holm": 0.02,
                    "p_minimum": None},
        "estimates": {"the_effect": estimate}, "controls": [], "primary": "the_effect",
    }  # fmt: skip
    return finding | changed


def test_a_verdict_shows_every_estimate_with_interval_or_reason_and_every_control() -> None:
    estimates = {
        "the_effect": verdict_of()["estimates"]["the_effect"],
        "bare": {"value": 2.0, "low": None, "high": None, "unit": "nats", "reason": "no sampling"},
        "gone": {"value": None, "low": None, "high": None, "unit": "nats", "reason": "too few"},
    }
    controls = [
        {"kind": "negative", "name": "twin", "passed": True, "detail": "as it should"},
        {"kind": "positive", "name": "planted", "passed": False, "detail": "seen 3 times of 20"},
        {"kind": "negative", "name": "A/A", "passed": None, "detail": "too few sentences"},
    ]
    (line, body) = views.verdicts([verdict_of(estimates=estimates, controls=controls)])
    said = " ".join((shown(line) + "\n" + shown(body)).split())
    assert said.startswith("T-004 H2.1 Something: supported It is so.")
    assert "both pass; p 0.01, Holm p 0.02 ·" in said
    assert "the effect +0.500 [+0.250, +0.750] dB" in said
    assert "bare +2.00 nats (no interval: no sampling)" in said
    assert "gone: none, too few" in said
    assert "negative control twin: held ·" in said
    assert "positive control planted: FAILED (seen 3 times of 20)" in said
    assert "negative control A/A: not run (too few sentences)" in said


def test_parts_have_labels_of_their_own_and_a_refutation_the_p_that_it_rests_on() -> None:
    parts = [
        {"name": "errors travel", "label": "supported", "reason": "it is 2 [1, 3], p = 0.01"},
        {"name": "ends interact", "label": "small", "reason": "it is 0.1, under 1"},
    ]
    verdict = verdict_of()["verdict"] | {"parts": parts, "p_equivalence": 0.004,
                                         "p_equivalence_holm": 0.04}  # fmt: skip
    said = " ".join("\n".join(map(shown, views.verdicts([verdict_of(verdict=verdict)]))).split())
    assert "p of an effect that matters 0.004, after Holm 0.04" in said
    assert "· errors travel: supported; it is 2 [1, 3], p = 0.01." in said
    assert "· ends interact: small; it is 0.1, under 1." in said


def test_a_store_without_runs_says_so() -> None:
    said = shown(views.results_view({"store": "bitgap.db", "runs": [], "texts": []}))
    assert "No run was finished yet." in said and "0 plans scored on 0 texts" in said


# ----------------------------------------------------------------------------------------- streams


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def on_screen(monkeypatch: pytest.MonkeyPatch, columns: str = "120", **changed: str) -> Screen:
    """Makes both streams one terminal of many colours."""
    made = Screen()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, made)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": columns, **changed}.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.mark.parametrize(
    ("changed", "coloured"), [({}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)]
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], coloured: bool
) -> None:
    screen = on_screen(monkeypatch, **changed)
    (line, _) = views.verdicts([verdict_of()])
    terminal.show(line)
    assert "supported" in screen.getvalue()
    assert ("\x1b[32m" in screen.getvalue()) is coloured


@pytest.mark.parametrize(("columns", "width"), [("120", 80), ("80", 80), ("40", 40)])
def test_a_wide_terminal_still_gets_eighty_columns_and_a_narrow_one_its_own(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    screen = on_screen(monkeypatch, columns)
    terminal.show("word " * 100)
    longest = max(map(len, screen.getvalue().splitlines()))
    assert width - 5 < longest <= width


def test_the_bar_shows_how_far_it_is_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = on_screen(monkeypatch)
    bar = terminal.Bar()
    bar.start("map", 100.0)
    bar.advance(25.0)
    bar.stop()
    bar.stop()
    said = screen.getvalue()
    assert "map" in said and "25%" in said and "left" in said
    assert "\x1b[?25l" in said and "\x1b[?25h" in said, "the cursor comes back"


def test_the_bar_keeps_quiet_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    bar = terminal.Bar()
    bar.start("map", 100.0)
    bar.advance(25.0)
    bar.stop()
    assert capsys.readouterr() == ("", "")


def test_messages_go_to_stderr_and_results_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("a message")
    terminal.tell("a failure")
    terminal.show("a result")
    assert capsys.readouterr() == ("a result\n", "a message\na failure\n")
    terminal.say("a long message " * 20)
    assert capsys.readouterr().err == "a long message " * 20 + "\n", "one line, however long"


def test_what_the_encoding_lacks_becomes_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert terminal.is_ascii_only()
    terminal.write("φ = 1")
    assert raw.getvalue() == b"? = 1\n"


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_message_that_cannot_be_written_is_let_go(
    monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    gone = None if stream is None else io.StringIO()
    if gone is not None:
        gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    terminal.say("a message")
    terminal.tell("a failure")
    terminal.Bar().start("map", 1.0)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(BrokenPipeError):
        terminal.write("a result")


def test_the_preflight_says_what_sharing_saves_and_what_is_known() -> None:
    cost = {"plans": 8, "plans_in_store": 1, "block_evaluations": 13, "head_evaluations": 7,
            "block_evaluations_without_sharing": 21, "token_rows": 9, "time_s": 75.0,
            "memory_bytes": 3 * 2**30}  # fmt: skip
    assert preflight_line(cost) == (
        "7 plans to score of 8, 13 blocks (sharing saves 1.6x); about 75 s, 3.0 GiB"
    )
    known = preflight_line(cost | {"plans_in_store": 8})
    assert known == "8 plans, nothing left to score"
    said = shown(views.preflight_view({"preflight": cost}))
    assert "7 to score of 8" in said and "about 75 s" in said and "3.0 GiB" in said


def test_a_log_hears_of_a_long_phase_and_not_of_quick_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    bar = terminal.Bar()
    bar.start("reading weights", 0)
    now[0] += 5
    bar.start("map", 60.0)
    bar.advance(6.0)
    assert capsys.readouterr().err == ""
    now[0] += 12
    bar.advance(6.0)
    # A fifth is done in twelve seconds, so that four times as much is left, whatever was predicted.
    assert capsys.readouterr().err == "map: 20%, 48 s left\n"
    now[0] += 12
    bar.advance(6.0)
    assert capsys.readouterr().err == "", "a line every half minute"
    now[0] += 20
    bar.advance(6.0)
    assert "map: 40%" in capsys.readouterr().err
    bar.stop()
    now[0] += 20
    bar.start("audit", 0)
    assert capsys.readouterr().err == "audit ...\n"
