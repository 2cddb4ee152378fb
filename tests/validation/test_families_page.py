from __future__ import annotations

import pytest

from validation.families import walk as walking
from validation.families.__main__ import main
from validation.families.page import render
from validation.families.tiny import class_names, tiny_config
from validation.families.walk import Outcome, walk

# One of each way to be measured, and of each way not to be.
SAMPLE = {
    "OlmoForCausalLM": "measured",
    "GptOssForCausalLM": "measured",
    "Gemma3nForCausalLM": "measured",
    "MambaForCausalLM": "measured",
    "HrmTextForCausalLM": "refused",
    "Gemma4AssistantForCausalLM": "not built",
}


def test_a_sample_of_the_walk_comes_out_as_the_page_says() -> None:
    outcomes = walk(list(SAMPLE))
    assert {outcome.name: outcome.state for outcome in outcomes} == SAMPLE
    assert all(o.off_nats <= 1e-4 for o in outcomes if o.state == "measured")
    page = render(outcomes, "of today")
    assert "**4 of 6 measured (66.7 %)**, 1 refused, 1 not tried" in page
    assert "| GptOssForCausalLM | GptOssDecoderLayer |" in page and "routers (`mlp.router" in page
    assert "no list of blocks of which each is called once and in order" in page


def test_a_class_that_takes_too_long_ends_its_process_and_not_the_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = [Outcome("B", "measured"), Outcome("C", "refused", "why")]

    def batch(names: list[str]) -> list[Outcome]:
        # The process goes down with A, which is first whenever it is asked for.
        return [] if names[0] == "A" else [o for o in told if o.name in names]

    monkeypatch.setattr(walking, "_batch", batch)
    outcomes = walk(["A", "B", "C"])
    assert [o.name for o in outcomes] == ["A", "B", "C"]
    assert outcomes[0].state == "not built" and "took over" in outcomes[0].why


def test_logits_that_differ_count_as_refused() -> None:
    page = render([Outcome("A", "off", off_nats=0.3), Outcome("B", "measured")], "of today")
    assert "**1 of 2 measured (50.0 %)**, 1 refused" in page and "logits off by 0.3 nats" in page


def test_classes_are_all_that_transformers_has() -> None:
    names = class_names()
    assert len(names) == len(set(names)) > 150
    assert {"GPT2LMHeadModel", "LlamaForCausalLM", "Mistral4ForCausalLM"} <= set(names)
    assert tiny_config("DeepseekV3ForCausalLM").num_key_value_heads == 4


def test_a_class_that_does_not_exist_is_a_misuse() -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["NoSuchForCausalLM"])
    assert refusal.value.code == 2
