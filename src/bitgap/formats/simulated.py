"""Logits that a model should have: every matrix rounded as its recipe says, in float32.

This is what bitgap measures a plan by, written as plainly as can be: each parameter is replaced by
its rounded self, and transformers runs the model.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bitgap.formats.loading import Text
from bitgap.formats.source import Source, block_path
from bitgap.formats.target import FP, Target
from bitgap.models.silence import silenced

_LOGITS_BYTES = 128 << 20
"""Logits that are held at once; blocks are rounded anew for each part of the sentences."""


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
    """Writes the logits of a simulated plan, some sentences at a time.

    A block is rounded when it is run and whole again after it, so that no more of the model is held
    in float32 than a block and what is outside the blocks. The model is as it was in the end.

    Args:
        source: The model.
        target: Whose simulation it is.
        schemes: A scheme for every place.
        sentences: Language and token ids of each.
        folder: Where to.

    Returns:
        The texts, and for each ‖simulated - full precision‖² of its logits: what the plan does.
    """
    parts = _parts([ids for _, ids in sentences], source.loaded.model.config)
    for part in parts:
        for i, logits in _logits(source, sentences, part):
            np.save(folder / f"whole-{i}.npy", logits)
    texts: list[Text] = []
    moved: list[float] = []
    with _rounded_when_run(source, target, schemes):
        for part in parts:
            for i, logits in _logits(source, sentences, part):
                language, ids = sentences[i]
                file, whole = folder / f"logits-{i}.npy", folder / f"whole-{i}.npy"
                np.save(file, logits)
                texts.append(Text(language=language, ids=ids, logits=file))
                moved.append(float(np.square(logits.astype(np.float64) - np.load(whole)).sum()))
                whole.unlink()
    return texts, moved


def _parts(ids: Sequence[Sequence[int]], config: Any) -> list[range]:
    """Returns which sentences are run at once, by what their logits take."""
    row_bytes = 4 * config.get_text_config().vocab_size
    n = max(1, _LOGITS_BYTES // (row_bytes * max(map(len, ids), default=1)))
    return [range(start, min(start + n, len(ids))) for start in range(0, len(ids), n)]


def _logits(
    source: Source, sentences: Sequence[tuple[str, tuple[int, ...]]], part: range
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields number and logits of some sentences.

    Shorter ones are filled up behind their end, which nothing before it sees in a causal model.
    """
    longest = max(len(sentences[i][1]) for i in part)
    filled = [[*sentences[i][1], *[0] * (longest - len(sentences[i][1]))] for i in part]
    with torch.no_grad(), silenced():
        found = source.loaded.model(torch.tensor(filled), use_cache=False).logits
    for i, logits in zip(part, found, strict=True):
        yield i, logits[: len(sentences[i][1])].float().numpy()


@contextmanager
def _rounded_when_run(
    source: Source, target: Target, schemes: Mapping[str, str]
) -> Generator[None]:
    """Rounds what is outside the blocks, and of every block when it runs; puts all back after."""
    by_block, outside = dict[str, list[str]](), dict[str, nn.Parameter]()
    for name, place in source.places.items():
        if schemes.get(name, FP) == FP:
            continue
        if place.block is None:
            outside[name] = _rounded(source, target, schemes, name)
        else:
            by_block.setdefault(block_path(name), []).append(name)
    hooks = list[Any]()
    for path, names in by_block.items():
        block, before = source.loaded.model.get_submodule(path), dict[str, nn.Parameter]()

        def round_(*_: Any, names: list[str] = names, before: dict[str, Any] = before) -> None:
            rounded = {name: _rounded(source, target, schemes, name) for name in names}
            before |= _replace(source, rounded)

        def put_back(*_: Any, before: dict[str, Any] = before) -> None:
            _replace(source, before)
            before.clear()

        hooks += [block.register_forward_pre_hook(round_), block.register_forward_hook(put_back)]
    whole = _replace(source, outside)
    try:
        yield
    finally:
        _replace(source, whole)
        for hook in hooks:
            hook.remove()


def _rounded(source: Source, target: Target, schemes: Mapping[str, str], name: str) -> nn.Parameter:
    rounded = target.rounded(source.matrix(name), schemes[name], name)
    source.forget(name)
    value = rounded.T.contiguous() if source.places[name].kind == "conv1d" else rounded
    return nn.Parameter(value, requires_grad=False)


def _replace(source: Source, made: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Puts parameters in a model's place, a tied one everywhere; returns what was there."""
    model, before = source.loaded.model, dict[str, nn.Parameter]()
    for name, parameter in made.items():
        path, _, key = name.rpartition(".")
        old = before[name] = model.get_submodule(path)._parameters[key]
        tied = source.places[name].kind == "tied"
        for module in model.modules() if tied else (model.get_submodule(path),):
            for other, one in module._parameters.items():
                if one is old:
                    module._parameters[other] = parameter
    return before
