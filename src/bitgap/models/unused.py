"""Tensors of a checkpoint that its class leaves unread, and when that means another model.

transformers passes over what a class has no place for. Much of that is no part of the language
model: towers for images and sound, heads that predict further tokens, buffers of old releases. But
blocks beyond those that the config counts, a bias of a matrix that the config makes without one, or
a whole module inside a block are parts of what was trained; measured without them it is another
model, which loads without an error and answers with numbers of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from bitgap.errors import ModelError
from bitgap.models.kinds import is_within, text_part

_ADAPTER = re.compile(r"(^|\.)(lora_\w+|base_layer|modules_to_save|ia3_l|hada_w\w+)(\.|$)")
# What may be a learned part of a product or norm: masks of old releases have more axes, and angles
# and flags other names.
_LEARNED = frozenset({"weight", "bias"})
_MOST_AXES = 3


@dataclass(frozen=True, slots=True)
class Left:
    """What a class leaves unread.

    Attributes:
        blocks: Blocks beyond those of the model, by the list they stand in: ``model.layers``.
        inside: Tensors in modules that the model runs, which it runs without.
        adapter: Tensors of an adapter that was not merged.
        ahead: Blocks that predict further tokens, which no logit of the next depends on.
        other: The rest: parts that the language model does not run.
    """

    blocks: Mapping[str, tuple[int, ...]]
    inside: tuple[str, ...]
    adapter: tuple[str, ...]
    ahead: tuple[str, ...]
    other: tuple[str, ...]


def sort_unused(
    model: nn.Module,
    keys: Iterable[str],
    axes: Mapping[str, int] | None = None,
    is_zero: Callable[[str], bool] = lambda key: False,
) -> Left:
    """Tells what each tensor is that a model has no place for.

    Args:
        model: As its class made it.
        keys: Names of the tensors, as the class would call them.
        axes: How many axes each has, where that is known.
        is_zero: Whether a bias is nothing but zeros, as some toolchains write where there is none.
    """
    base, head = text_part(model)
    lists = {
        path: len(module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and is_within(path, base)
    }
    own = {path: _own_parts(model, path) for path in lists}
    beyond: dict[tuple[str, int], set[str]] = {}
    inside, adapter, other = list[str](), list[str](), list[str]()
    for key in sorted(keys):
        if _ADAPTER.search(key):
            adapter.append(key)
        elif (place := _beyond(key, lists)) is not None:
            path, i, rest = place
            beyond.setdefault((path, i), set()).add(rest.partition(".")[0])
        elif (
            (is_within(key, base) or key.rpartition(".")[0] == head)
            and _is_learned(key, axes or {})
            and _is_run(model, key, lists)
            and not (key.endswith(".bias") and is_zero(key))
        ):
            inside.append(key)
        else:
            other.append(key)
    blocks: dict[str, list[int]] = {}
    ahead = list[str]()
    for (path, i), parts in sorted(beyond.items()):
        # Such a block has parts that no block of the model has: what joins two states, a head.
        if parts <= own[path]:
            blocks.setdefault(path, []).append(i)
        else:
            ahead.append(f"{path}.{i}")
    return Left(
        blocks={path: tuple(found) for path, found in blocks.items()},
        inside=tuple(inside),
        adapter=tuple(adapter),
        ahead=tuple(ahead),
        other=tuple(other),
    )


def refuse_unused(name: str, model: nn.Module, left: Left) -> None:
    """Refuses weights that hold more of the model than its class runs.

    Args:
        name: What the model is called.
        model: As its class made it.
        left: What it leaves unread.

    Raises:
        ModelError: With what was found.
    """
    if left.adapter:
        raise ModelError(
            f"{name}: its weights hold an adapter that is not merged ({_some(left.adapter)}), "
            f"which would be left out; merge it into its base model (peft's merge_and_unload) and "
            f"give the folder saved then"
        )
    for path, found in left.blocks.items():
        module = model.get_submodule(path)
        assert isinstance(module, nn.ModuleList)
        n = len(module)
        raise ModelError(
            f"{name}: config.json and weights are of two models: the config makes {n} of {path} "
            f"(0 to {n - 1}) and the weights hold {_numbers(found)} too; use the config.json and "
            f"weights that were saved together"
        )
    if left.inside:
        raise ModelError(
            f"{name}: config.json and weights are of two models: {type(model).__name__} as the "
            f"config makes it runs without {len(left.inside)} tensors that stand inside what it "
            f"runs ({_some(left.inside)}); use the config.json and weights that were saved "
            f"together, or, if they are to be left out, weights saved without them"
        )


def told(left: Left) -> str:
    """Returns what to say of unread tensors that are no part of the language model, or nothing."""
    said = list[str]()
    if left.ahead:
        said.append(
            f"{', '.join(left.ahead)} predict(s) further tokens and is no part of the logits, so "
            f"it is left out"
        )
    if left.other:
        said.append(
            f"{len(left.other)} tensors are not used, as they are no part of the language model: "
            f"{_some(left.other, 5)}"
        )
    return "; ".join(said)


def _own_parts(model: nn.Module, path: str) -> set[str]:
    """Returns what a list's members are made of, as their own names call it.

    No further down: a file may keep experts apart that the class has in one.
    """
    members = [member for _, member in model.get_submodule(path).named_children()]
    inner = {name for member in members for name, _ in member.named_children()}
    return inner | {name for m in members for name, _ in m.named_parameters(recurse=False)}


def _beyond(key: str, lists: Mapping[str, int]) -> tuple[str, int, str] | None:
    """Returns the list, the number and the rest of a tensor of a member that a list has not."""
    for path, n in lists.items():
        number, rest = _member(key, path)
        if number is not None and number >= n and rest:
            return path, number, rest
    return None


def _is_learned(key: str, axes: Mapping[str, int]) -> bool:
    return key.rpartition(".")[2] in _LEARNED and 1 <= axes.get(key, 1) <= _MOST_AXES


def _is_run(model: nn.Module, key: str, lists: Mapping[str, int]) -> bool:
    """Whether a tensor stands in a block, or beside the tensors of a module that has some."""
    owner = key.rpartition(".")[0]
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        places = ((*_member(key, path), n) for path, n in lists.items())
        return any(i is not None and i < n and rest for i, rest, n in places)
    return any(True for _ in module.parameters(recurse=False))


def _member(key: str, path: str) -> tuple[int | None, str]:
    """Returns the number of a list's member that a tensor belongs to, and its name in there."""
    if not key.startswith(f"{path}."):
        return None, ""
    number, _, rest = key.removeprefix(f"{path}.").partition(".")
    return (int(number), rest) if number.isdecimal() else (None, "")


def _numbers(found: Sequence[int]) -> str:
    first, last = found[0], found[-1]
    return f"{first}" if first == last else f"{first} to {last}"


def _some(names: Sequence[str], n: int = 2) -> str:
    return ", ".join(names[:n]) + (" ..." if len(names) > n else "")
