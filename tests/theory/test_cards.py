"""Cards: facts that count to what is published."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from bitgap.errors import UsageError
from bitgap.theory.forecast.cards import all_cards, find_card, inputs_of_card, make_card


@pytest.mark.parametrize("name", list(all_cards()))
def test_counted_parameters_are_the_published_ones(name: str) -> None:
    # Embedding, untied head, linears, norms and biases; of Gemma 3 the text part alone.
    card = find_card(name.upper())
    assert card.counted == pytest.approx(card.parameters, rel=1e-2)
    assert card.source and card.checked and card.heads % card.kv_heads == 0
    assert card.block_parameters * card.blocks < card.counted


def test_a_mistyped_width_is_refused() -> None:
    facts = asdict(find_card("Llama-2-7B"))
    with pytest.raises(ValueError, match="published are"):
        make_card(facts | {"mlp_width": 11800})
    with pytest.raises(ValueError, match="does not fit"):
        make_card(facts | {"colour": "red"})


def test_roles_by_hand() -> None:
    roles = find_card("Llama-2-70B").parameters_by_role()
    assert roles["attention"] == 80 * (2 * 8192**2 + 2 * 8192 * 1024)
    assert roles["embedding"] == roles["head"] == 32000 * 8192
    assert find_card("BLOOM-560M").parameters_by_role()["head"] == 0


def test_unknown_names_are_told_what_there_is() -> None:
    with pytest.raises(UsageError, match="Mistral-7B"):
        find_card("GPT-5")
    assert inputs_of_card(find_card("BLOOM-7B1")).n_blocks == 30
