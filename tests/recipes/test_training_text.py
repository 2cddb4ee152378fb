from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
import training_text
from recipe_samples import write_texts
from training_text import (
    choose_half,
    choose_texts,
    encode_lines,
    find_texts,
    fingerprint_files,
    load_tokenizer,
    read_lines,
    save_tokenizer,
    split_lines,
    tokenise,
    train_tokenizer,
)

from bitgap.errors import CorpusError, UsageError

HELD_OUT = 5


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts") / "text")


@pytest.fixture(scope="module")
def tokenizer(text: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(find_texts(text), 300, HELD_OUT), folder, 16)
    return load_tokenizer(folder)


def test_texts_are_found_by_language_compressed_or_not(text: Path) -> None:
    (text / "SOURCES.md").write_text("not a text")
    (text / "Notes.txt").write_text("not a language")
    found = find_texts(text)
    assert {name: path.name for name, path in found.items()} == {
        "en": "en.txt",
        "he": "he.txt",
        "zh": "zh.txt.xz",
    }
    assert (
        read_lines(found["zh"]) == lzma.decompress(found["zh"].read_bytes()).decode().splitlines()
    )


def test_lines_are_stripped_composed_and_never_blank(tmp_path: Path) -> None:
    path = tmp_path / "fr.txt"
    path.write_bytes("\ufeff  cafe\u0301 \r\n\n \t\nun\u2028deux\n".encode())
    assert read_lines(path) == ["café", "un\u2028deux"]


def test_the_streams_hold_the_tokens_of_the_lines_that_are_not_held_out(
    text: Path, tokenizer: object, tmp_path: Path
) -> None:
    paths = find_texts(text)
    for stream in tokenise(paths, fingerprint_files(paths), tokenizer, HELD_OUT, tmp_path):
        facts = stream.facts
        lines = read_lines(paths[facts.language])
        kept = [line for line in lines if line not in facts.held_out]
        assert len(facts.held_out) == HELD_OUT and len(kept) == len(lines) - HELD_OUT
        # Brute force: the tokenizer's own call, a line at a time.
        expected = [i for line in kept for i in [0, *tokenizer(line).input_ids]]  # type: ignore[operator]
        np.testing.assert_array_equal(stream.tokens, expected)
        assert facts.tokens == len(expected)
        assert facts.bytes == sum(len(line.encode()) for line in kept)


def test_held_out_lines_are_spread_evenly() -> None:
    train, held_out = split_lines([str(i) for i in range(100)], 4, "en")
    assert held_out == ["12", "37", "62", "87"]
    assert train == [str(i) for i in range(100) if i not in (12, 37, 62, 87)]
    assert split_lines(["a"], 0, "en") == (["a"], [])


def test_the_tokenizer_sees_no_held_out_line(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = find_texts(text)
    seen = list(training_text._tokenizer_lines(paths, HELD_OUT))
    held_out = {
        line for name, p in paths.items() for line in split_lines(read_lines(p), HELD_OUT, name)[1]
    }
    assert seen and not held_out & set(seen)


def test_text_that_spells_out_the_separator_does_not_become_one(tokenizer: object) -> None:
    text = f"the {training_text.SEPARATOR} cat"
    (ids,) = encode_lines([text], tokenizer)
    assert ids[0] == 0 and 0 not in ids[1:]
    assert tokenizer.decode(ids[1:]) == text  # type: ignore[attr-defined]
    assert tokenizer(text).input_ids.count(0) == 1, "its setting must be as it was"  # type: ignore[operator]


def test_tokenised_text_is_kept_until_something_that_decides_it_changes(
    text: Path, tokenizer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, made = find_texts(text), []
    make = training_text._tokenise_lines
    monkeypatch.setattr(
        training_text, "_tokenise_lines", lambda *a: (made.append(a[0]), make(*a))[1]
    )

    def tokens(n_held_out: int, digests: dict[str, str]) -> list[list[int]]:
        made.clear()
        streams = tokenise(paths, digests, tokenizer, n_held_out, tmp_path)
        return [stream.tokens.tolist() for stream in streams]

    digests = fingerprint_files(paths)
    first = tokens(HELD_OUT, digests)
    assert made == ["en", "he", "zh"]
    assert tokens(HELD_OUT, digests) == first and made == []
    tokens(HELD_OUT + 1, digests)
    assert made == ["en", "he", "zh"]
    tokens(HELD_OUT, digests | {"he": "0" * 64})
    assert made == ["he"]
    # A stream cut short, as a full disk leaves it, is made again.
    next(tmp_path.glob("zh-*.tokens")).write_bytes(b"")
    for path in tmp_path.glob("zh-*.tokens"):
        path.write_bytes(path.read_bytes()[:10])
    assert tokens(HELD_OUT, digests) == first and made == ["zh"]


def test_halves_are_disjoint_and_whole_and_alternate_in_stretches() -> None:
    lines = [str(i) for i in range(1050)]
    one, two = choose_half(lines, 1), choose_half(lines, 2)
    assert sorted(one + two, key=int) == lines and not set(one) & set(two)
    assert one[:101] == [*lines[:100], lines[200]] and two[0] == lines[100]
    assert choose_half(lines, None) == lines


def test_streams_of_halves_are_kept_apart_and_leave_out_the_same_lines(
    text: Path, tokenizer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = find_texts(text)
    digests = fingerprint_files(paths)
    with pytest.raises(UsageError, match=r"--half 2 of the \d+ lines of \w+ holds none"):
        list(tokenise(paths, digests, tokenizer, HELD_OUT, tmp_path / "other", 2))
    monkeypatch.setattr(training_text, "_STRETCH", 3)
    whole, one, two = (
        list(tokenise(paths, digests, tokenizer, HELD_OUT, tmp_path, half)) for half in (None, 1, 2)
    )
    for all_of_it, first, second in zip(whole, one, two, strict=True):
        assert first.facts.lines + second.facts.lines == all_of_it.facts.lines
        assert first.facts.tokens + second.facts.tokens == all_of_it.facts.tokens
        assert first.facts.held_out == second.facts.held_out == all_of_it.facts.held_out


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such folder: .*nowhere; give one"):
        find_texts(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"has no text; name files <lang>\.txt"):
        find_texts(tmp_path)
    (tmp_path / "en.txt").write_text("one")
    with pytest.raises(UsageError, match=r"no such folder: .*en\.txt"):
        find_texts(tmp_path / "en.txt")
    (tmp_path / "en.txt.xz").write_bytes(lzma.compress(b"two"))
    with pytest.raises(UsageError, match=r"en\.txt and en\.txt\.xz; keep one"):
        find_texts(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("en.txt", b"", "has no text; fill it"),
        ("en.txt", b" \n\n\t\n", "has no text; fill it"),
        ("en.txt", b"one\ntwo\nthr\xffee\n", "line 3: no UTF-8"),
        ("en.txt.xz", lzma.compress(b"one\n" * 99)[:-9], "cannot be read"),
        ("en.txt.xz", b"not compressed", "cannot be read"),
        ("en.txt.xz", lzma.compress(b""), "has no text"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        read_lines(tmp_path / name)
    assert name in str(caught.value)


def test_too_much_is_refused(text: Path) -> None:
    paths = find_texts(text)
    with pytest.raises(UsageError, match=r"--vocabulary 50000 is too large .* at most (\d+)"):
        train_tokenizer(paths, 50_000, HELD_OUT)
    with pytest.raises(UsageError, match=r"--held-out 31 is more than half of the 60 lines in he"):
        train_tokenizer(paths, 300, 31)
    with pytest.raises(UsageError, match="--mix names xx, but there is text in en, he, zh"):
        choose_texts(paths, {"en": 1.0, "xx": 1.0})
    assert list(choose_texts(paths, {"zh": 2.0, "en": 1.0})) == ["en", "zh"]


def test_a_tokenizer_that_cannot_separate_texts_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be read"):
        load_tokenizer(tmp_path)
    train_tokenizer(find_texts(text), 300, 0).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UsageError, match="no eos token"):
        load_tokenizer(tmp_path)
