"""Recipes for tiny models: a scheme by matrix, with bytes as `bitgap protect` counts them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tiny_checkpoints as tiny
from transformers import PreTrainedTokenizerFast

from bitgap.formats.source import Place, Source
from bitgap.models.load import load_model
from bitgap.protect.recipe import Recipe, RecipeUnit
from bitgap.protect.records import Matrix, Unit
from bitgap.protect.sizes import plain_choice


def recipe_of(source: Source, schemes: Mapping[str, str], **changes: Any) -> Recipe:
    """Returns a recipe with one unit a matrix.

    Args:
        source: The model.
        schemes: A scheme for each matrix that is a unit.
        changes: Fields to have otherwise.
    """
    units = {}
    for name, scheme in schemes.items():
        place = source.place(name)
        unit = Unit(
            name=place.module,
            kind=place.kind,
            block=place.block,
            matrices=(Matrix(name=name, n_out=place.n_out, n_in=place.n_in),),
        )
        try:
            size = plain_choice(unit, scheme).size_bytes
        except ValueError:  # a toolchain's own type
            size = math.ceil(4.5 * place.n_weights / 8)
        units[place.module] = RecipeUnit(scheme=scheme, bytes=size, matrices=(name,))
    fixed = sum(
        source.stored(name).numel() * source.stored(name).element_size()
        for name in source.names()
        if name not in schemes
    )
    taken = sum(unit.bytes for unit in units.values()) + fixed
    settings: dict[str, Any] = {
        "model": str(source.folder),
        "fingerprint": source.loaded.info.fingerprint,
        "budget": "4.25 bits a weight",
        "budget_bytes": taken,
        "bytes": taken,
        "fixed_bytes": fixed,
        "objective": "worst-quarter",
        "no_harm": ("en",),
        "seed": 0,
        "table": "1" * 64,
        "split": "2" * 64,
        "units": units,
    }
    return Recipe(**settings | changes)


def mixed(source: Source, *cycle: str, outside: str = "fp") -> dict[str, str]:
    """Returns schemes that go round through the blocks' matrices, and one for what is outside."""
    inside = [place for place in source.places.values() if place.block is not None]
    found = {place.name: cycle[i % len(cycle)] for i, place in enumerate(inside)}
    return found | {p.name: outside for p in source.places.values() if p.block is None}


def each(source: Source, choose: Callable[[Place], str]) -> dict[str, str]:
    """Returns a scheme for each matrix, as a function has it."""
    return {place.name: choose(place) for place in source.places.values()}


def saved(folder: Path, shape: str, dtype: Any = None, **changes: Any) -> Source:
    """Saves a tiny random model with a byte-level tokenizer, and opens it as an export does.

    Args:
        folder: Where to.
        shape: Of :func:`tiny_checkpoints.tiny_config`.
        dtype: Of the file; float32 when None.
        changes: Of the config.
    """
    model = tiny.tiny_model(shape, vocab_size=300, **changes)
    if dtype is not None:
        model = model.to(dtype)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return Source(load_model(folder), folder)


def byte_tokenizer() -> Any:
    """Returns a byte-level tokenizer of some 260 tokens."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    special = ["<pad>", "<s>", "</s>"]
    tokens = [*special, *sorted(ByteLevel.alphabet()), "th", "the", "an", "er"]
    merges = [("t", "h"), ("th", "e"), ("a", "n"), ("e", "r")]
    made = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevelDecoder()
    made.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
