"""Greedy continuations of a text's sentences, by the whole model or under a plan.

The prompt is the first half of a sentence, cut before a space where there is one, so that no word
is halved. The model's own code runs, with its cache of keys and values, and a plan's weights stand
in for its own as long as a call lasts. That the cache is used rightly is checked: what it wrote
first is foretold once more without it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from bitgap.lab.store import content_key
from bitgap.models.observe import accepted
from bitgap.models.silence import hushed_log
from bitgap.models.stored import as_run
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Integers, Observations

if TYPE_CHECKING:
    from bitgap.lab.bench import Bench

NEW_TOKENS = 32
"""Tokens of a continuation, at most: some two dozen words of English, and enough to tell what
language they are in."""
_KEPT_AS = "generation"
_VERSION = 1
_ENDED, _NOT_YET = -1, -2
_KEEP_EVERY_S = 20.0
_CLEAR = 1e-2
"""Difference of logits above which the cache must foretell what is foretold without it."""


def halves(sentence: str) -> tuple[str, str]:
    """Returns a sentence in two, cut before the last space of its first half, if it has one.

    Example:
        >>> halves("Two children waited here."), halves("我们数了九艘船")
        (('Two children', ' waited here.'), ('我们数', '了九艘船'))
    """
    middle = len(sentence) // 2
    cut = sentence.rfind(" ", 1, middle + 1)
    cut = cut if cut > 0 else max(1, middle)
    return sentence[:cut], sentence[cut:]


def prompts(bench: Bench) -> list[list[tuple[int, ...]]]:
    """Returns the token ids of the first half of every sentence, by language, prefix in front."""
    lead = bench.text.prefix.ids
    corpus = bench.corpus.sentences
    return [
        [
            (*lead, *row)
            for row in bench.loaded.tokenizer(
                [halves(corpus[code][i])[0] for i in bench.text.kept], add_special_tokens=False
            ).input_ids
        ]
        for code in bench.languages
    ]


def continuations(bench: Bench, plan: Plan, new_tokens: int = NEW_TOKENS) -> Integers:
    """Returns the greedy continuation of every sentence of a bench under a plan.

    Args:
        bench: Model, text and store.
        plan: Whose weights; one whose variants the bank has.
        new_tokens: How many tokens, at most.

    Returns:
        Token ids, (A x N x new_tokens); -1 after the end of one that ended.
    """
    bench = bench.exact()
    bench.bank.check(plan)
    given = prompts(bench)
    shape = (len(given), len(given[0]), new_tokens)
    key = content_key(_KEPT_AS, _VERSION, bench.text_key, plan.text, new_tokens)
    kept = bench.store.get_observations(key)
    found = np.full(shape, _NOT_YET) if kept is None else np.array(kept.arrays["tokens"])
    todo = [(a, n) for a in range(shape[0]) for n in range(shape[1]) if found[a, n, 0] == _NOT_YET]
    if not todo:
        return found

    def keep() -> None:
        facts = {"plan": plan.text, "languages": list(bench.languages)}
        arrays = {"tokens": found}
        made = Observations(experiment=_KEPT_AS, version=_VERSION, arrays=arrays, facts=facts)
        bench.store.put_observations(key, made)

    writer = _Writer(bench, plan)
    what = "the whole model" if plan.is_full_precision else "the file"
    bench.progress.start(f"continuing sentences with {what}", float(len(todo)))
    last = time.monotonic()
    try:
        for a, n in todo:
            written = writer.write(given[a][n], new_tokens)
            row = np.full(new_tokens, _ENDED)
            row[: len(written)] = written
            found[a, n] = row
            bench.progress.advance(1.0)
            if time.monotonic() - last > _KEEP_EVERY_S:
                keep()
                last = time.monotonic()
    finally:
        bench.progress.stop()
        keep()
    return found


class _Writer:
    """A model under a plan, which writes greedily."""

    def __init__(self, bench: Bench, plan: Plan) -> None:
        self._model: Any = bench.decoder.whole_model("--generate")
        self._device = bench.settings.device
        self._weights = _weights(bench, plan)
        self._vocabulary = bench.decoder.vocabulary
        self._context = bench.decoder.context
        self._ends = _ends(self._model, bench.loaded.tokenizer)
        self._caches = True
        self._checked = False

    def write(self, prompt: Sequence[int], n: int) -> list[int]:
        room = n if self._context is None else min(n, self._context - len(prompt))
        written = self._write(prompt, room)
        if self._caches and not self._checked and len(written) > 1:
            self._checked = True
            if not self._foretold(prompt, written):
                self._caches = False
                written = self._write(prompt, room)
        return written

    def _write(self, prompt: Sequence[int], n: int) -> list[int]:
        written: list[int] = []
        cache = None
        with torch.no_grad(), hushed_log():
            for _ in range(n):
                whole = [*prompt, *written]
                fed = whole if cache is None else whole[-1:]
                out = self._run(fed, len(whole), cache, use_cache=self._caches)
                token = int(out.logits[0, -1, : self._vocabulary].float().argmax())
                if token in self._ends:
                    break
                written.append(token)
                cache = getattr(out, "past_key_values", None) if self._caches else None
        return written

    def _run(self, ids: Sequence[int], length: int, cache: Any, *, use_cache: bool) -> Any:
        given: dict[str, Any] = {
            "input_ids": torch.tensor([list(ids)], device=self._device),
            "attention_mask": torch.ones(1, length, dtype=torch.long, device=self._device),
            "use_cache": use_cache,
        }
        if cache is not None:
            given["past_key_values"] = cache
        given = accepted(self._model, given)
        return functional_call(self._model, self._weights, (), given, tie_weights=False)

    def _foretold(self, prompt: Sequence[int], written: Sequence[int]) -> bool:
        """Whether one pass without a cache foretells the same tokens, but for all but ties."""
        ids = [*prompt, *written]
        with torch.no_grad(), hushed_log():
            out = self._run(ids, len(ids), None, use_cache=False)
        rows = out.logits[0, len(prompt) - 1 : -1, : self._vocabulary].float()
        own = rows.gather(1, torch.tensor(written, device=rows.device)[:, None])[:, 0]
        return bool((rows.amax(-1) - own <= _CLEAR).all())


def _weights(bench: Bench, plan: Plan) -> dict[str, Tensor]:
    """Returns a plan's parameters by their names in the model; what is not there stays its own."""
    family, bank = bench.decoder.family, bench.bank
    found: dict[str, Tensor] = {}
    for i, scheme in enumerate(plan.blocks):
        if scheme == FP:
            continue
        block = bank.block(i, scheme)
        for name, parameter in block.named_parameters(remove_duplicate=False):
            found[f"{family.blocks}.{i}.{name}"] = parameter
    base = f"{family.base}." if family.base else ""
    found |= {f"{base}{name}": table for name, table in bank.embedding(plan.embedding).items()}
    if plan.head != FP:
        found[f"{family.head}.weight"] = bank.head(plan.head)
    elif plan.embedding != FP and bench.info.tied:
        # Of a tied model the head is the embedding's parameter, which must stay whole there.
        found[f"{family.head}.weight"] = as_run(bench.decoder.tail.weight)
    return found


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Returns the tokens after which nothing follows."""
    told = [
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        getattr(model.config.get_text_config(), "eos_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
    ]
    flat = [one for some in told for one in (some if isinstance(some, list) else [some])]
    return frozenset(int(one) for one in flat if one is not None)
