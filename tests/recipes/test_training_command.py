from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import train_reference
from model_families import FAMILIES
from recipe_samples import TINY, request, write_texts
from training_settings import Recipe, build_parser, read_count, read_mix, recipe_of, request_of

from bitgap.errors import UsageError


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and last line on stderr."""
    status = train_reference.main(arguments)
    return status, capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("command") / "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--family gpt5", f"unknown --family 'gpt5'; there are {', '.join(sorted(FAMILIES))}"),
        ("--blocks 0", "--blocks 0 cannot be used; give at least 1"),
        ("--width 36 --heads 4", "--width 36 with --heads 4 cannot be used"),
        ("--vocabulary 256", "--vocabulary 256 cannot be used; give at least 257"),
        ("--context 1", "--context 1 cannot be used"),
        ("--tokens 4095", "--tokens 4095 cannot be used; give at least one step of 4096"),
        ("--tokens many", "'many' is no number of tokens; write it like 16.4M"),
        ("--tokens 1M --minutes 3", "--tokens and --minutes are both given"),
        ("--minutes 0", "--minutes 0.0 cannot be used"),
        ("--minutes nan", "--minutes nan cannot be used"),
        ("--peak-rate 0", "--peak-rate 0.0 cannot be used"),
        ("--held-out -1", "--held-out -1 cannot be used"),
        ("--seed -1", "--seed -1 cannot be used"),
        ("--mix en", "--mix has 'en'; write shares above 0 like en=30,de=10"),
        ("--mix en=1,xx=2", "--mix names xx, but there is text in en, he, zh"),
        ("--arithmetic fp8", "--arithmetic fp8 cannot be used; give one of auto, bf16, float32"),
        ("--threads 0", "--threads 0 cannot be used"),
        ("--checkpoint-minutes -1", "--checkpoint-minutes -1.0 cannot be used"),
        ("--tokenizer nowhere", "nowhere has no tokenizer.json"),
        ("--tokenizer nowhere --vocabulary 300", "--tokenizer brings its own vocabulary"),
        ("--held-out 50", "--held-out 50 is more than half of the 60 lines in he"),
    ],
)
def test_misuse_is_told_in_one_line_and_ends_with_2(
    options: str, message: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--text", str(text), "--out", str(tmp_path / "out")]
    status, line = told([*folders, *options.split()], capsys)
    assert status == 2
    assert line.startswith("train_reference: ") and message in line


def test_a_wrong_folder_and_an_empty_file_are_told(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--threads", "1", "--vocabulary", "300"]
    status, line = told(["--text", str(tmp_path / "nowhere"), *out], capsys)
    assert status == 2 and "no such folder" in line and "give one that holds <lang>.txt" in line
    assert not (tmp_path / "out").exists(), "what cannot be done leaves nothing behind"
    folder = write_texts(tmp_path / "some")
    (folder / "de.txt").write_text("\n \n")
    status, line = told(["--text", str(folder), *out], capsys)
    assert status == 1 and "de.txt has no text; fill it or take it out" in line
    # Taken out, the same command goes through.
    (folder / "de.txt").unlink()
    small = "--blocks 1 --width 16 --heads 2 --context 16 --batch 4 --tokens 128 --held-out 5"
    out = ["--out", str(tmp_path / "other"), "--threads", "1", "--vocabulary", "300"]
    status, line = told(["--text", str(folder), *out, *small.split()], capsys)
    assert status == 0 and line.endswith("is finished; its card.md says how it came out")


def test_a_command_says_its_request(tmp_path: Path) -> None:
    recipe = replace(TINY, family="llama", mix={"en": 3.0, "zh": 0.5}, minutes=2.5, tokens=None)
    for asked in (
        request(tmp_path, "a b", recipe),
        request(tmp_path, recipe=Recipe(), threads=None, compile=None, arithmetic="auto"),
        request(tmp_path, recipe=TINY, compile=True, tokenizer=tmp_path / "tok"),
    ):
        arguments = shlex.split(asked.command)[2:]
        parsed = request_of(build_parser().parse_args(arguments))
        vocabulary = parsed.recipe.vocabulary if asked.tokenizer else asked.recipe.vocabulary
        assert parsed.recipe == replace(asked.recipe, vocabulary=vocabulary)
        for name in ("arithmetic", "threads", "compile"):
            assert getattr(parsed, name) == getattr(asked, name)
        for name in ("text", "out", "tokenizer"):
            folder = getattr(asked, name)
            assert getattr(parsed, name) == (None if folder is None else Path(folder.name))
    assert asked.command.startswith("python recipes/train_reference.py --text text --out out")


def test_the_defaults_are_those_of_the_reference_model() -> None:
    options = build_parser().parse_args(["--text", "t", "--out", "o"])
    recipe = recipe_of(options)
    assert recipe == Recipe()
    assert (recipe.family, recipe.blocks, recipe.width, recipe.heads) == ("gpt2", 12, 256, 4)
    # As its card says: 4,006 steps of 16 x 256 make 16.4M tokens; steps are whole.
    assert recipe.total_steps == -(-16_400_000 // 4096) == 4004
    assert recipe.tokens_per_step == 4096


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("16.4M", 16_400_000),
        ("300k", 300_000),
        ("2e6", 2_000_000),
        ("4_096", 4096),
        (" 1b ", 10**9),
    ],
)
def test_counts_are_read(text: str, count: int) -> None:
    assert read_count(text) == count


@pytest.mark.parametrize("text", ["", "-5", "0", "1..2k", "5 apples", "nan", "1e999"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no number of tokens"):
        read_count(text)


def test_mixes_are_read_and_what_is_none_is_refused() -> None:
    assert read_mix("en=30, de=10,") == {"en": 30.0, "de": 10.0}
    for text in ("en=0", "en=-1", "en=inf", "=3", "en=x", ",", "en=1,en=2"):
        with pytest.raises(UsageError, match="--mix"):
            read_mix(text)
