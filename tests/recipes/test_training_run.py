from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import packed_batches
import pytest
import torch
import train_reference
from model_families import FAMILIES
from recipe_samples import TINY, WORDS, request, tiny, write_texts
from training_settings import build_parser, recipe_of
from training_text import find_texts, read_lines

from bitgap.errors import BudgetError, UsageError
from bitgap.models.decoder import Decoder
from bitgap.models.load import load_model


class Finished:
    """A finished run: its folder, the facts it returned, and every window it trained on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        write_texts(folder / "text")
        self.windows: list[tuple[int, int]] = []
        take = packed_batches.PackedBatches._next_window

        def noted(source: Any, language: int) -> Any:
            window = take(source, language)
            self.windows.append((language, len(window) - 1))
            return window

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packed_batches.PackedBatches, "_next_window", noted)
            self.facts = train_reference.run(request(folder))
        self.card = (self.out / "card.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("finished"))


def test_what_it_leaves_is_a_model_folder_and_nothing_else(finished: Finished) -> None:
    names = {path.name for path in finished.out.iterdir()}
    assert names == {
        "card.md", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json", "training.json",
    }  # fmt: skip
    assert json.loads((finished.out / "training.json").read_text()) == finished.facts


def test_tokens_per_language_are_those_that_were_trained_on(finished: Finished) -> None:
    found = {row["language"]: row for row in finished.facts["languages"]}
    tokenizer = load_model(finished.out).tokenizer
    assert list(found) == ["en", "he", "zh"]
    for number, (language, path) in enumerate(find_texts(finished.folder / "text").items()):
        lines, row = read_lines(path), found[language]
        chosen = {(2 * i + 1) * len(lines) // (2 * TINY.held_out) for i in range(TINY.held_out)}
        kept = [line for i, line in enumerate(lines) if i not in chosen]
        assert row["lines"] == len(kept) and row["held_out_lines"] == TINY.held_out
        assert row["bytes"] == sum(len(line.encode()) for line in kept)
        assert row["tokens"] == sum(1 + len(tokenizer(line).input_ids) for line in kept)
        assert row["tokens_seen"] == sum(n for who, n in finished.windows if who == number)
    assert sum(row["tokens_seen"] for row in found.values()) == finished.facts["tokens_seen"]
    assert finished.facts["tokens_seen"] == TINY.tokens


def test_the_card_tells_tokens_and_held_out_bits_per_byte_of_each_language(
    finished: Finished,
) -> None:
    rows = [line.strip("| ").split(" | ") for line in finished.card.splitlines() if "|" in line]
    head = next(row for row in rows if row[0] == "language")
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows if row[0] in WORDS}
    assert len(table) == 3
    for row in finished.facts["languages"]:
        cells = table[row["language"]]
        assert int(cells["tokens in text"].replace(",", "")) == row["tokens"]
        assert int(cells["tokens seen"].replace(",", "")) == row["tokens_seen"]
        score = finished.facts["bits_per_byte"][row["language"]]
        assert cells["bits per byte, held out"] == f"{score:.4f}"
        # Training does more than nothing and cannot do magic: random words of twelve a language.
        assert 0.3 < score < 8


def test_the_card_says_what_it_is_and_how_to_make_it_again(finished: Finished) -> None:
    card = finished.card
    assert card.startswith("# gpt2: 2 blocks, width 16, 3 languages\n")
    for part in (
        "`GPT2LMHeadModel`, 2 blocks L0…L1, width 16, 2 heads, context 16, tied embedding",
        f"{finished.facts['n_parameters']:,} parameters, stored in bf16",
        "byte-level BPE, 300 entries",
        "1,920 tokens (30 steps of 4 × 16)",
        "1 thread, float32",
        f"{finished.facts['final_loss_nats']:.4f} nats per token (mean of the last 30 steps)",
        f"torch {torch.__version__}",
    ):
        assert part in card, part
    assert str(finished.folder) not in card, "a card is read on other machines"
    command = re.search(r"```\n(.*)\n```", card)
    assert command
    python, script, *arguments = shlex.split(command[1])
    assert (python, script) == ("python", "recipes/train_reference.py")
    assert recipe_of(build_parser().parse_args(arguments)) == TINY


def test_the_model_loads_here_and_in_transformers(finished: Finished) -> None:
    from transformers import AutoModelForCausalLM

    loaded = load_model(finished.out)
    model = AutoModelForCausalLM.from_pretrained(finished.out, dtype=torch.float32)
    ids = torch.tensor([[0, *loaded.tokenizer("the cat sleeps").input_ids]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, model(ids).logits)
    stored = AutoModelForCausalLM.from_pretrained(finished.out)
    assert stored.dtype == torch.bfloat16
    assert loaded.tokenizer.model_max_length == TINY.context
    config = json.loads((finished.out / "config.json").read_text())
    assert not any("bitgap" in str(value) for value in config.values())


def test_a_finished_run_is_left_as_it_is_and_another_does_not_write_over_it(
    finished: Finished,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.out.iterdir()}
    assert train_reference.run(request(finished.folder)) == finished.facts
    for recipe, message in (
        (tiny(seed=1), "seed is 0 there and 1 here"),
        (tiny(family="llama"), "family is gpt2 there and llama here"),
    ):
        with pytest.raises(UsageError, match=message):
            train_reference.run(request(finished.folder, recipe=recipe))
    assert {path: path.stat().st_mtime_ns for path in finished.out.iterdir()} == before


def test_other_text_or_files_of_other_origin_are_refused(
    finished: Finished, tmp_path: Path
) -> None:
    write_texts(tmp_path / "text", n_lines=61)
    asked = request(tmp_path, out=finished.out)
    with pytest.raises(UsageError, match="the text is another"):
        train_reference.run(asked)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"what no run here left \(thesis\.tex\)"):
        train_reference.run(request(tmp_path))
    with pytest.raises(UsageError, match="is a file; give a folder"):
        train_reference.run(request(tmp_path, "out/thesis.tex"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sibling_of_every_family_comes_out_whole(
    family: str, finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # All share a tokenizer and the tokenised text, as a zoo does.
    recipe = tiny(family=family, tokens=TINY.tokens_per_step * 2)
    shared = {"tokenizer": finished.out, "cache": finished.folder / "cache"}
    name = f"sibling-{family}"
    facts = train_reference.run(request(finished.folder, name, recipe, arithmetic="bf16", **shared))
    loaded = load_model(finished.folder / name)
    assert loaded.info.family == family and loaded.info.class_name == facts["class_name"]
    assert (loaded.info.n_blocks, loaded.info.width, loaded.info.vocabulary) == (2, 16, 300)
    assert loaded.info.n_parameters == facts["n_parameters"]
    # The decoder proves its split on the model when it is made.
    assert Decoder(loaded.model).n_blocks == 2
    assert "given, 300 entries" in (finished.folder / name / "card.md").read_text()
    assert facts["tokenizer_sha256"] is not None and facts["steps"] == 2


@pytest.mark.alone
def test_minutes_bound_the_whole_run(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_reference, "_READ_BACK_S", 1.5)
    minutes = 0.1
    steps: list[float] = []
    started = time.monotonic()
    facts = train_reference.run(
        request(finished.folder, "timed", tiny(minutes=minutes)),
        lambda progress, fraction: steps.append(fraction),
    )
    assert time.monotonic() - started <= 60 * minutes
    assert 0.4 * 60 * minutes < facts["spent_s"] <= 60 * minutes
    assert len(steps) == facts["steps"] > 10 and steps == sorted(steps)
    assert 0.9 < steps[-1] <= 1, "the schedule must come to its end"
    card = (finished.folder / "timed" / "card.md").read_text()
    assert "--minutes 0.1" in card and f"`--tokens {facts['tokens_seen']}`" in card
    with pytest.raises(BudgetError, match=r"--minutes 0\.001 leaves no time"):
        train_reference.run(request(finished.folder, "late", tiny(minutes=0.001)))


def test_a_mix_sets_the_shares(finished: Finished) -> None:
    recipe = tiny(mix={"he": 3.0, "en": 1.0}, held_out=0)
    facts = train_reference.run(request(finished.folder, "mixed", recipe))
    seen = {row["language"]: row["tokens_seen"] for row in facts["languages"]}
    assert seen == {"en": TINY.tokens / 4, "he": TINY.tokens * 3 / 4}
    assert facts["bits_per_byte"] == {}
    card = (finished.folder / "mixed" / "card.md").read_text()
    assert "by a given mix" in card and "--mix he=3,en=1" in card and "| — |" in card


def test_long_runs_are_compiled_and_short_ones_not(finished: Finished) -> None:
    model = load_model(finished.out).model
    worth = train_reference._is_worth_compiling
    folder = finished.folder
    n_tokens = 1e14 / 6 / finished.facts["n_parameters"]
    for options, expected in (
        ({"recipe": tiny(tokens=round(0.9 * n_tokens))}, False),
        ({"recipe": tiny(tokens=round(1.1 * n_tokens))}, True),
        ({"recipe": tiny(minutes=4.9)}, False),
        ({"recipe": tiny(minutes=20)}, True),
    ):
        assert worth(request(folder, compile=None, **options), model, "cpu") == expected
        assert not worth(request(folder, compile=False, **options), model, "cpu")
        assert worth(request(folder, compile=True, **options), model, "cpu")
