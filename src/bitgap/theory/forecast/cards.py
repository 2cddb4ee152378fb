"""Facts of known architectures, and how many numbers each part of one holds.

``architectures.toml`` has a card a model, with its source and what of it was confirmed. The number
of parameters is counted from the facts and must agree with the published one, so that a mistyped
width shows.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from bitgap.errors import UsageError
from bitgap.theory.forecast.expectation import Inputs

TOLERANCE = 0.01
"""By how much of the published number of parameters the counted one may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is known of one architecture without its weights."""

    name: str
    family: str
    """``config.model_type``."""
    blocks: int
    """Decoder layers L."""
    width: int
    """Residual width d."""
    heads: int
    kv_heads: int
    """Heads of keys and values; fewer than ``heads`` where queries share them."""
    head_dim: int
    mlp_width: int
    vocabulary: int
    """Rows of the embedding as released, padding included."""
    tied: bool
    """Whether the head is the embedding."""
    context: int
    """Tokens; what the config states, or of training where positions have no limit."""
    languages: int
    """How many natural languages its makers claim."""
    languages_note: str
    parameters: int
    """Published total of the part that is counted."""
    source: str
    checked: str
    """What of this was confirmed and what was not."""
    gated: bool = True
    """Whether the MLP has a gate beside its up-projection."""
    norms_per_block: int = 2
    """Norms of the residual's width in a block."""
    qk_norm: bool = False
    """Whether queries and keys have a norm of the head's width each."""
    biases: bool = False
    """Whether linears and norms have biases."""
    embedding_norm: bool = False
    """Whether a norm follows the embedding."""

    @property
    def block_parameters(self) -> int:
        """Returns the numbers in one block's linears, which are what rounding rounds."""
        per_role = self.parameters_by_role()
        return (per_role["attention"] + per_role["mlp"]) // self.blocks

    @property
    def head_parameters(self) -> int:
        """Returns the numbers the head multiplies by, tied or not."""
        return self.vocabulary * self.width

    @property
    def counted(self) -> int:
        """Returns the number of parameters as counted from the facts, tied ones once."""
        return sum(self.parameters_by_role().values())

    def parameters_by_role(self) -> dict[str, int]:
        """Returns numbers of parameters: embedding, head, attention, MLP, norms and biases."""
        d, attended = self.width, self.heads * self.head_dim
        shared = 2 * self.kv_heads * self.head_dim
        matrices = 3 if self.gated else 2
        norm = d * (2 if self.biases else 1)
        qk = 2 * self.head_dim if self.qk_norm else 0
        # Of q, k, v and o, and of both ends of the MLP.
        bias = attended + shared + d + self.mlp_width + d if self.biases else 0
        return {
            "embedding": self.vocabulary * d,
            "head": 0 if self.tied else self.vocabulary * d,
            "attention": self.blocks * d * (2 * attended + shared),
            "mlp": self.blocks * matrices * d * self.mlp_width,
            "norms": self.blocks * (self.norms_per_block * norm + qk)
            + norm * (2 if self.embedding_norm else 1),
            "biases": self.blocks * bias,
        }


@cache
def all_cards() -> Mapping[str, Card]:
    """Returns every card by name, in the file's order.

    Raises:
        ValueError: If a card has unknown or missing facts, or counts other than it publishes.
    """
    file = resources.files("bitgap.theory.forecast") / "architectures.toml"
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["card"]
    return {card.name: card for card in map(make_card, entries)}


def make_card(entry: Mapping[str, Any]) -> Card:
    """Returns the card that an entry of the file describes.

    Raises:
        ValueError: If a fact is unknown or missing, or the count disagrees with the published one.
    """
    try:
        card = Card(**entry)
    except TypeError as error:
        raise ValueError(f"card {entry.get('name')!r} does not fit: {error}") from None
    if abs(card.counted - card.parameters) > TOLERANCE * card.parameters:
        raise ValueError(
            f"card {card.name!r}: its facts make {card.counted:,} parameters, published are "
            f"{card.parameters:,}"
        )
    return card


def find_card(name: str) -> Card:
    """Returns the card of this name, in any case.

    Raises:
        UsageError: If there is none.
    """
    for card in all_cards().values():
        if card.name.casefold() == name.casefold():
            return card
    raise UsageError(f"no architecture {name!r}; there are {', '.join(all_cards())}")


def inputs_of_card(card: Card) -> Inputs:
    """Returns what a card tells beforehand: enough for a config forecast."""
    return Inputs(target=card.name, family=card.family, n_blocks=card.blocks)
