"""Finds the parts of a class that has no row in the families table, by watching one forward.

What the known families have in common is looked for: one list of modules of which each is called
once and in order (the blocks), the module that has it and the token table (the base), what is
called between the last block and the head, each given what the one before returned (the finish),
and what becomes of the head's own output (a factor or a soft cap that the config names). Whatever
is found is a row like those of the table and is proved like them; a model that is none of this
kind is refused by the proof and not by its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bitgap.errors import UnsupportedArchitecture
from bitgap.models.alike import few_weights
from bitgap.models.families import Family
from bitgap.models.silence import hushed_log

_SHAPE = (2, 7)
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of one module: the tensor it was given first, and the one it returned."""

    name: str
    given: Tensor | None
    returned: Tensor | None


def observe_family(model: nn.Module) -> Family:
    """Returns where the parts of a causal LM are, as one forward of a few tokens shows them.

    Args:
        model: A transformers causal LM in eval mode, or a wrapper around one; not written to.

    Raises:
        UnsupportedArchitecture: If it has no head, or no list of blocks that are called in order.
    """
    ids = probe_ids(model, *_SHAPE)
    with torch.no_grad(), hushed_log(), few_weights(model), _watched(model) as calls:
        try:
            logits = own_logits(model, ids)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UnsupportedArchitecture(
                f"{type(model).__name__} does not run on token ids alone "
                f"({type(error).__name__}: {error}), so there is no text model to split"
            ) from error
    head = _head(model, calls, logits)
    blocks, called = _blocks(model, calls)
    base = _base(model, blocks)
    finish = _finish(calls, blocks, head)
    family = Family(
        base=base,
        blocks=blocks,
        called=called,
        finish=finish or (),
        head=head,
        replay=finish is None,
        plain=False,
    )
    at_head = next(call for call in reversed(calls) if call.name == head)
    assert at_head.returned is not None
    return _with_end(model, family, at_head.returned, logits)


def probe_ids(model: nn.Module, rows: int, length: int, seed: int = 0) -> Tensor:
    """Returns random token ids (rows x length) that every table of a model holds."""
    table = token_table(model)
    generator = torch.Generator().manual_seed(seed)
    # Not the first few: padding, mask and separator tokens sit there and are treated apart.
    low = min(8, len(table) - 1)
    return torch.randint(low, len(table), (rows, length), generator=generator).to(table.device)


def token_table(model: nn.Module) -> Tensor:
    """Returns the token embedding of a model, (V x d)."""
    own: Any = model
    table = getattr(own.get_input_embeddings(), "weight", None)
    if table is None:
        raise UnsupportedArchitecture(
            f"{type(model).__name__} has no single table of token embeddings (found "
            f"{type(own.get_input_embeddings()).__name__}), so it is no model of text"
        )
    return table


def own_logits(model: nn.Module, ids: Tensor) -> Tensor:
    """Returns a model's own logits (B x S x V) of token ids (B x S), by its own forward."""
    return model(
        **accepted(model, {"input_ids": ids, "use_cache": False, "return_dict": True})
    ).logits


def accepted(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Returns those of the arguments that a module's forward names; all where it takes any."""
    names = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in names.values()):
        return given
    return {key: value for key, value in given.items() if key in names}


# -- finding the parts ----------------------------------------------------------------------------


def _head(model: nn.Module, calls: Sequence[_Call], logits: Tensor) -> str:
    own: Any = model
    named, head = dict(model.named_modules()), own.get_output_embeddings()
    for name, module in named.items():
        if module is head and isinstance(head, nn.Linear):
            return name
    for call in reversed(calls):
        at_end = call.returned is not None and call.returned.shape == logits.shape
        if at_end and isinstance(named[call.name], nn.Linear):
            return call.name
    raise UnsupportedArchitecture(
        f"{type(model).__name__} has no single linear as its head (found {type(head).__name__}), "
        f"so its logits cannot be split from its states"
    )


def _blocks(model: nn.Module, calls: Sequence[_Call]) -> tuple[str, tuple[int, ...] | None]:
    """Returns the list of blocks, and which of them are called where that is not all."""
    best, called, most = None, None, 0
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList):
            continue
        places = {f"{path}.{i}": i for i in range(len(module))}
        seen = [places[call.name] for call in calls if call.name in places]
        size = sum(p.numel() for i in seen for p in module[i].parameters())
        # Each at most once and in order. Experts are lists too, and smaller.
        if seen == sorted(set(seen)) and len(seen) > len(module) / 2 and size > most:
            best, most = path, size
            called = None if len(seen) == len(module) else tuple(seen)
    if best is None:
        raise UnsupportedArchitecture(
            f"{type(model).__name__} has no list of blocks of which each is called once and in "
            f"order, so there is nothing that plans could give schemes to, block by block"
        )
    return best, called


def _base(model: nn.Module, blocks: str) -> str:
    """Returns the innermost module that has both the blocks and the token table."""
    table = token_table(model)
    path = blocks
    while path:
        path = path.rpartition(".")[0]
        if any(p is table for p in model.get_submodule(path).parameters()):
            return path
    return ""


def _finish(calls: Sequence[_Call], blocks: str, head: str) -> tuple[str, ...] | None:
    """Returns what is called between the last block and the head; None where it is no chain."""
    last = max(i for i, call in enumerate(calls) if _is_block(call.name, blocks))
    state, chain = calls[last].returned, list[str]()
    # Calls are noted as they return, so a module comes after those inside it: outermost last.
    after = list(calls[last + 1 :])
    target = next((call for call in after if call.name == head), None)
    if state is None or target is None or target.given is None:
        return None
    while not _same(state, target.given):
        holds = [c for c in after if c.given is not None and c.name and _same(c.given, state)]
        holds = [c for c in holds if not f"{head}.".startswith(f"{c.name}.")]
        if not holds or len(chain) > 8:
            return None
        step = min(holds, key=lambda call: call.name.count("."))
        if step.returned is None:
            return None
        chain.append(step.name)
        state, after = step.returned, after[after.index(step) + 1 :]
    return tuple(chain)


def _is_block(name: str, blocks: str) -> bool:
    return name.startswith(f"{blocks}.") and "." not in name.removeprefix(f"{blocks}.")


def _with_end(model: nn.Module, family: Family, at_head: Tensor, logits: Tensor) -> Family:
    """Returns the row with what turns the head's output into logits; the proof judges it."""
    n = logits.shape[-1]
    if at_head.shape[-1] > n:
        names = [name for name, value in _numbers(model) if value == n]
        family = replace(family, rows=next(iter(names), None))
        at_head = at_head[..., :n]
    if _close(at_head, logits):
        return family
    for name, value in _numbers(model):
        for change in ("multiply", "divide"):
            factor = value if change == "multiply" else 1 / value
            if _close(at_head * factor, logits):
                return replace(family, **{change: name})
        if _close(torch.tanh(at_head / value) * value, logits):
            return replace(family, softcap=name)
    return family


def _numbers(model: nn.Module) -> Iterator[tuple[str, float]]:
    own: Any = model
    for config in (own.config, own.config.get_text_config()):
        for name, value in vars(config).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                yield name, float(value)


# -- watching -------------------------------------------------------------------------------------


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[_Call]]:
    """Notes every call of every module, as it returns."""
    calls: list[_Call] = []
    hooks = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            calls.append(_Call(name, _first((args, kwargs)), _first(out)))

        return hook

    for name, module in model.named_modules():
        hooks.append(module.register_forward_hook(note(name), with_kwargs=True))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            if (found := _first(item)) is not None:
                return found
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    # Slices of everything, as heads take them, are new tensors of the same numbers.
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= _TOLERANCE * b.abs().max())
