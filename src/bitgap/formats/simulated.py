"""Logits that a model should have: every matrix rounded as its recipe says, in float32.

This is what bitgap measures a plan by, written as plainly as can be: each parameter is replaced by
its rounded self, and transformers runs the model. It is run a second time with the values that an
export holds, whose scales have 16 bits: these are the logits that its toolchain should have, and
what they differ by from the plan's is what storing it cost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitgap.formats.loading import Text
from bitgap.formats.source import Source, block_path
from bitgap.formats.target import FP, Target
from bitgap.models.silence import silenced

_LOGITS_BYTES = 64 << 20
"""Logits that are held at once; blocks are rounded anew for each part of the sentences."""

Values = Mapping[str, Callable[[], Tensor]]
"""Matrices that are not as the model has them, by name: each gives its values as (out x in)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How far one sentence's logits move, as sums of squares.

    Attributes:
        plan: ‖simulated - full precision‖².
        storing: ‖as stored - simulated‖².
    """

    plan: float
    storing: float


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
    *,
    stored: Values | None = None,
) -> tuple[list[Text], list[Moved]]:
    """Writes the logits of a simulated plan, as an export stores it, some sentences at a time.

    A block is rounded when it is run and whole again after it, so that no more of the model is held
    in float32 than a block and what is outside the blocks. The model is as it was in the end.

    Args:
        source: The model.
        target: Whose simulation it is.
        schemes: A scheme for every place.
        sentences: Language and token ids of each.
        folder: Where to.
        stored: What the export holds of matrices that are not as the model has them; None where
            the plan itself is wanted.

    Returns:
        The texts, and for each how far the plan, and storing it, move its logits.
    """
    parts = _parts([ids for _, ids in sentences], source.loaded.model.config)
    rounded = {
        name: partial(_rounded, source, target, scheme, name)
        for name, scheme in schemes.items()
        if scheme != FP
    }
    plans = [0.0] * len(sentences)
    storing = [0.0] * len(sentences)
    for i, logits in _passed(source, sentences, parts):
        np.save(_file(folder, i), logits)
    with _replaced_when_run(source, rounded):
        for i, logits in _passed(source, sentences, parts):
            plans[i] = _exchanged(_file(folder, i), logits)
    if stored is not None:
        with _replaced_when_run(source, stored):
            for i, logits in _passed(source, sentences, parts):
                storing[i] = _exchanged(_file(folder, i), logits)
    texts = [
        Text(language=language, ids=ids, logits=_file(folder, i))
        for i, (language, ids) in enumerate(sentences)
    ]
    return texts, [Moved(plan=p, storing=s) for p, s in zip(plans, storing, strict=True)]


def _file(folder: Path, i: int) -> Path:
    return folder / f"logits-{i}.npy"


def _exchanged(file: Path, logits: np.ndarray) -> float:
    """Puts logits in the place of others, and returns the sum of squares that they differ by."""
    difference = logits.astype(np.float64) - np.load(file)
    np.save(file, logits)
    return float(np.square(difference).sum())


def _parts(ids: Sequence[Sequence[int]], config: Any) -> list[range]:
    """Returns which sentences are run at once, by what their logits take."""
    row_bytes = 4 * config.get_text_config().vocab_size
    n = max(1, _LOGITS_BYTES // (row_bytes * max(map(len, ids), default=1)))
    return [range(start, min(start + n, len(ids))) for start in range(0, len(ids), n)]


def _passed(
    source: Source, sentences: Sequence[tuple[str, tuple[int, ...]]], parts: Sequence[range]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields number and logits of sentences, some of which are run at once.

    Shorter ones are filled up behind their end, which nothing before it sees in a causal model.
    """
    for part in parts:
        longest = max(len(sentences[i][1]) for i in part)
        filled = [[*sentences[i][1], *[0] * (longest - len(sentences[i][1]))] for i in part]
        with torch.no_grad(), silenced():
            found = source.loaded.model(torch.tensor(filled), use_cache=False).logits
        for row, i in enumerate(part):
            yield i, found[row, : len(sentences[i][1])].float().numpy()
        # Before the next are made: two parts at once would be twice what may be held.
        del found
        source.forget_file()


@contextmanager
def _replaced_when_run(source: Source, values: Values) -> Generator[None]:
    """Replaces what is outside the blocks, and of every block when it runs; puts all back after."""
    by_block, outside = dict[str, list[str]](), dict[str, nn.Parameter]()
    for name in values:
        if source.places[name].block is None:
            outside[name] = _parameter(source, values, name)
        else:
            by_block.setdefault(block_path(name), []).append(name)
    hooks = list[Any]()
    for path, names in by_block.items():
        block, before = source.loaded.model.get_submodule(path), dict[str, nn.Parameter]()

        def put_in(*_: Any, names: list[str] = names, before: dict[str, Any] = before) -> None:
            before |= _replace(source, {name: _parameter(source, values, name) for name in names})

        def put_back(*_: Any, before: dict[str, Any] = before) -> None:
            _replace(source, before)
            before.clear()

        hooks += [block.register_forward_pre_hook(put_in), block.register_forward_hook(put_back)]
    whole = _replace(source, outside)
    try:
        yield
    finally:
        _replace(source, whole)
        for hook in hooks:
            hook.remove()


def _rounded(source: Source, target: Target, scheme: str, name: str) -> Tensor:
    rounded = target.rounded(source.matrix(name), scheme, name)
    source.forget(name)
    return rounded


def _parameter(source: Source, values: Values, name: str) -> nn.Parameter:
    value = values[name]()
    turned = value.T.contiguous() if source.places[name].kind == "conv1d" else value
    return nn.Parameter(turned, requires_grad=False)


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
