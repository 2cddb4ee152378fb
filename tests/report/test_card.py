"""A model card: the hub's own reader takes it, and nothing in data becomes markup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from bitgap.formats.contents import Contents
from bitgap.report.card import card_markdown, escaped
from bitgap.report.run import Run, read_run
from cli_samples import Run as Command

HOSTILE = 'a|b\n---\n<script>alert("x")</script> [x](javascript:y) `z` *b* #h: - !img'


@pytest.fixture
def audited(measure: Command) -> Run:
    assert measure("audit", "--no-report").code == 0
    return read_run("1", "bitgap.db")


def held(name: str) -> Contents:
    return Contents(file=name, toolchain="gguf", claim=name, tensors=(), bits=4.5, block_bits=None,
                    n_bytes=7)  # fmt: skip


def test_the_hub_s_reader_finds_every_number(audited: Run) -> None:
    text = card_markdown(audited)
    index = yaml.safe_load(text.split("---\n")[1])["model-index"]
    name, results = model_index_to_eval_results(index)
    assert name == "tiny"
    assert audited.report is not None
    values = {one.metric_type: one.metric_value for one in results}
    for one in audited.report.languages:
        assert values[f"kl_divergence_{one.language}"] == one.damage.value
        assert values[f"nll_change_{one.language}"] == one.delta.value
    assert values["spread"] == audited.report.spread.value
    assert {one.dataset_name for one in results} == {"text"}


def test_rows_of_the_table_are_languages_with_intervals(audited: Run) -> None:
    text = card_markdown(audited)
    rows = [line for line in text.splitlines() if line.startswith("| Hebrew")]
    assert len(rows) == 1 and "\\[" in rows[0]
    assert text.count("| --- |") == 0 or "| --- | ---" in text


def test_nothing_in_data_becomes_markup(audited: Run) -> None:
    about = {**audited.about, "model": HOSTILE, "corpus": HOSTILE}
    run = replace(audited, about=about, contents=held(HOSTILE))
    text = card_markdown(run)
    head, body = text.split("\n---\n", 1)
    index = yaml.safe_load(head.removeprefix("---\n"))["model-index"][0]
    assert index["name"] == HOSTILE
    assert index["results"][0]["dataset"]["name"] == HOSTILE
    assert "<script>" not in body and "[x](" not in body
    columns = {line.count("|") - line.count("\\|") for line in body.splitlines()
               if line.startswith("| Hebrew")}  # fmt: skip
    assert columns == {5}
    assert "\n---\n" not in body
    assert escaped("a|b\n*c*") == "a\\|b \\*c\\*"


def test_the_command_prints_it_or_writes_it(
    run: Command, audited: Run, measure: Command, tmp_path: Path
) -> None:
    assert run("card", "1").out.startswith("---\nmodel-index:")
    assert run("card", "1", "--out", "there").out.strip().endswith("card.md")
    assert (tmp_path / "there" / "card.md").read_text().startswith("---\nmodel-index:")
    assert measure("map", "--units", "--sentences", "2", "--no-report").code == 0
    run("card", "2").refused(2, "has no damage by language", "audit or investigate")
