"""Logits that a model should have: every matrix rounded as its recipe says, in float32.

This is what bitgap measures a plan by, written as plainly as can be: each parameter is replaced by
its rounded self, and transformers runs the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bitgap.formats.loading import Text
from bitgap.formats.source import Source
from bitgap.formats.target import FP, Target
from bitgap.models.silence import silenced


def token_ids(source: Source, sentence: str, longest: int) -> tuple[int, ...]:
    """Returns a sentence's tokens as its tokenizer makes them, cut to a length."""
    with silenced():
        return tuple(source.loaded.tokenizer(sentence).input_ids[:longest])


def write_logits(
    source: Source,
    target: Target,
    schemes: Mapping[str, str],
    sentences: Sequence[tuple[str, tuple[int, ...]]],
    folder: Path,
) -> tuple[list[Text], list[float]]:
    """Writes the logits of a simulated plan, sentence by sentence.

    The model's weights are replaced and stay so: it is not to be used after.

    Args:
        source: The model.
        target: Whose simulation it is.
        schemes: A scheme for every place.
        sentences: Language and token ids of each.
        folder: Where to.

    Returns:
        The texts, and for each ‖simulated - full precision‖² of its logits: what the plan does.
    """
    for i, (_, ids) in enumerate(sentences):
        np.save(folder / f"whole-{i}.npy", _logits(source, ids))
    _round(source, target, schemes)
    texts: list[Text] = []
    moved: list[float] = []
    for i, (language, ids) in enumerate(sentences):
        logits = _logits(source, ids)
        file = folder / f"logits-{i}.npy"
        np.save(file, logits)
        texts.append(Text(language=language, ids=ids, logits=file))
        whole = folder / f"whole-{i}.npy"
        moved.append(float(np.square(logits.astype(np.float64) - np.load(whole)).sum()))
        whole.unlink()
    return texts, moved


def _logits(source: Source, ids: Sequence[int]) -> np.ndarray:
    with torch.no_grad(), silenced():
        return source.loaded.model(torch.tensor([list(ids)])).logits[0].float().numpy()


def _round(source: Source, target: Target, schemes: Mapping[str, str]) -> None:
    model = source.loaded.model
    for name, place in source.places.items():
        if (scheme := schemes.get(name, FP)) == FP:
            continue
        rounded = target.rounded(source.matrix(name), scheme, name)
        value = rounded.T.contiguous() if place.kind == "conv1d" else rounded
        made = nn.Parameter(value, requires_grad=False)
        old = source.stored(name)
        for module in model.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None and parameter.is_set_to(old):
                    module._parameters[key] = made
        source.forget(name)
