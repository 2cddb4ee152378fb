from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from held_out import bits_per_byte, estimate_seconds
from model_families import build_model
from recipe_samples import WORDS, tiny
from training_text import SEPARATOR

CONTEXT = tiny().context


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Tokenizer(models.BPE({c: i for i, c in enumerate([SEPARATOR, *letters])}, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.add_special_tokens([SEPARATOR])
    return PreTrainedTokenizerFast(tokenizer_object=engine, eos_token=SEPARATOR)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bloom"])
def test_bits_per_byte_are_those_of_one_line_at_a_time(
    family: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("held_out._TOKENS_AT_ONCE", 40)
    monkeypatch.setattr("held_out._LOGITS_AT_ONCE", 3000)
    model = build_model(tiny(family=family), 0)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(3)
        )
    # Shorter than the context, exactly as long, and so long that they are cut once and twice.
    texts = {
        name: [" ".join(words)[:n] for n in (3, 15, 16, 17, 40)] for name, words in WORDS.items()
    }
    expected = {}
    for language, lines in texts.items():
        nats = 0.0
        for line in lines:
            ids = [0, *tokenizer(line).input_ids]
            for start in range(0, len(ids) - 1, CONTEXT):
                window = torch.tensor([ids[start : start + CONTEXT + 1]])
                with torch.no_grad():
                    chances = model(input_ids=window[:, :-1]).logits.double().log_softmax(-1)
                nats -= float(chances[0].gather(1, window[0, 1:, None]).sum())
        expected[language] = nats / math.log(2) / sum(len(line.encode()) for line in lines)
    found = bits_per_byte(model, tokenizer, texts | {"none": []}, CONTEXT)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_model_that_knows_nothing_needs_the_size_of_its_vocabulary(tokenizer: Any) -> None:
    model = build_model(tiny(vocabulary=257), 0)
    for parameter in model.parameters():
        parameter.data.zero_()
    found = bits_per_byte(model, tokenizer, {"en": ["the cat", "sleeps well"]}, CONTEXT)
    # One token a byte.
    assert found["en"] == pytest.approx(math.log2(257), rel=1e-6)


def test_its_time_is_foretold_and_the_model_goes_on_training(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import held_out

    now, cost = [0.0], 1e-3
    monkeypatch.setattr(held_out, "time", type("clock", (), {"monotonic": lambda: now[0]}))

    def nats(model: Any, batch: torch.Tensor) -> float:
        assert not model.training
        now[0] += cost * batch.numel()
        return 0.0

    monkeypatch.setattr(held_out, "_nats", nats)
    model = build_model(tiny(), 0)
    texts = {name: [" ".join(words)] * 200 for name, words in WORDS.items()}
    foretold, before = estimate_seconds(model, tokenizer, texts, CONTEXT), now[0]
    assert model.training
    bits_per_byte(model, tokenizer, texts, CONTEXT)
    # Exact where time is proportional to tokens.
    assert foretold == pytest.approx(now[0] - before)
    assert estimate_seconds(model, tokenizer, {"en": []}, CONTEXT) == 0
