"""All that blocks hand on for each token, in one state of (B x S x width).

Most families hand a block one tensor of (B x S x d) and, beside it, only what depends on the shape
of the text. Others hand on more that depends on the tokens: several streams (Gemma 3n, hyper-
connections), inputs of each block made from the token ids (Gemma 4), the embedding once more
(Zamba), the token ids themselves (hash routing), or keys and values that later blocks read (Gemma
3n and 4). The engine knows states only: it cuts them by sentence, shares them between plans and
keeps them on the way down the tree. So everything of that kind is laid side by side into the state,
and taken apart again before a block.

What there is to hand on is not known by name. It is seen by comparing what blocks are given for two
texts of the same shape, and what they are given when blocks before them run and when they do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

BlockContext = tuple[tuple[Any, ...], dict[str, Any]]

SHAPES = ((2, 7), (3, 11))
"""Two shapes of text, unlike each other in both, by which axes of sequences and tokens are told."""


class Unpackable(ValueError):
    """Something that depends on the tokens has no axis of sequences or of tokens."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor as part of a state.

    Attributes:
        start: Its first column.
        axes: Its axes of sequences and of tokens.
        rest: Its other dimensions, in order.
        dtype: What it is handed on as.
    """

    start: int
    axes: tuple[int, int]
    rest: tuple[int, ...]
    dtype: torch.dtype

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return math.prod(self.rest)

    def write(self, value: Tensor) -> Tensor:
        """Returns a tensor as columns, (B x S x width)."""
        moved = value.movedim(self.axes, (0, 1))
        return moved.reshape(*moved.shape[:2], -1).to(torch.float32)

    def read(self, state: Tensor) -> Tensor:
        """Returns the tensor that the columns of a state hold."""
        columns = state[..., self.start : self.start + self.width]
        value = columns.reshape(*state.shape[:2], *self.rest).movedim((0, 1), self.axes)
        return value if self.dtype == torch.float32 else value.to(self.dtype)


_Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Packing:
    """How the state of one model is laid out.

    Attributes:
        hidden: What blocks return.
        made: Slots that are filled before block 0, and for each block which of its arguments (by
            number, flattened) is which slot.
        taken: For each slot of ``made``, the block and argument it is first seen at.
        returned: For each block, which further element of what it returns fills which slot.
        shared: Slots by key and place of what blocks leave in a mapping they all are given.
        mapping: For each block, the argument that is that mapping, or -1.
        written: For each block, the keys that it writes.
        width: All columns of a state.
    """

    hidden: Slot
    made: Mapping[int, Mapping[int, Slot]]
    taken: Sequence[tuple[int, int, Slot]]
    returned: Mapping[int, Mapping[int, Slot]]
    shared: Mapping[tuple[Any, int], Slot]
    mapping: Mapping[int, int]
    written: Mapping[int, frozenset[Any]]
    width: int

    def enter(self, hidden: Tensor, contexts: Sequence[BlockContext]) -> Tensor:
        """Returns the state that enters block 0, (B x S x width)."""
        columns = self.hidden.write(hidden)
        state = columns.new_zeros(*columns.shape[:2], self.width)
        state[..., : self.hidden.width] = columns
        for block, place, slot in self.taken:
            leaf = _flat(contexts[block])[0][place]
            state[..., slot.start : slot.start + slot.width] = slot.write(leaf)
        return state

    def leave(self, state: Tensor) -> Tensor:
        """Returns what the last block returned, as the model has it."""
        return self.hidden.read(state)

    def without_tokens(self, contexts: Sequence[BlockContext]) -> list[BlockContext]:
        """Returns contexts without what depends on the tokens, to be kept for other text."""
        kept: list[BlockContext] = []
        for block, context in enumerate(contexts):
            leaves, spec = _flat(context)
            for place in self.made.get(block, {}):
                leaves[place] = None
            kept.append(pytree.tree_unflatten(leaves, spec))
        return kept

    def run(
        self, block: int, state: Tensor, context: BlockContext, module: Callable[..., Any]
    ) -> Tensor:
        """Returns the state after a block.

        Args:
            block: Its number.
            state: What enters it, (B x S x width); not written to.
            context: What it is given beside, from :meth:`without_tokens`.
            module: What to run.
        """
        leaves, spec = _flat(context)
        for place, slot in self.made.get(block, {}).items():
            leaves[place] = slot.read(state)
        store: MutableMapping[Any, Any] | None = None
        if self.mapping.get(block, -1) >= 0:
            place = self.mapping[block]
            store = leaves[place] = self._filled(type(leaves[place]), block, state)
        args, kwargs = pytree.tree_unflatten(leaves, spec)
        out = module(self.hidden.read(state), *args, **kwargs)
        rest: tuple[Any, ...] = ()
        if isinstance(out, (tuple, list)):
            out, *others = out
            rest = (out, *others)
        after = state.clone()
        after[..., : self.hidden.width] = self.hidden.write(out)
        for place, slot in self.returned.get(block, {}).items():
            after[..., slot.start : slot.start + slot.width] = slot.write(rest[place])
        if store is not None:
            for (key, place), slot in self.shared.items():
                if key in self.written.get(block, ()):
                    after[..., slot.start : slot.start + slot.width] = slot.write(store[key][place])
        return after

    def _filled(self, kind: type, block: int, state: Tensor) -> MutableMapping[Any, Any]:
        store = kind()
        earlier = {key for b, keys in self.written.items() if b < block for key in keys}
        for key in dict.fromkeys(key for key, _ in self.shared):
            if key in earlier:
                slots = [slot for (k, _), slot in self.shared.items() if k == key]
                store[key] = tuple(slot.read(state) for slot in slots)
        return store


# -- finding out ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What blocks were given and what they returned, in one forward.

    Attributes:
        hidden: What each block was given first.
        leaves: Its other arguments, flattened.
        out: What it returned; empty where stand-ins took the blocks' place.
        stores: What the mappings among its arguments held when it returned, by argument.
    """

    hidden: list[Tensor]
    leaves: list[list[Any]]
    out: list[Any]
    stores: list[dict[int, dict[Any, tuple[Tensor, ...]]]]


def watch_blocks(blocks: Sequence[nn.Module], run: Callable[[], Any]) -> Seen:
    """Returns what blocks are given and return while ``run`` runs the model's own forward."""
    seen = Seen([], [], [], [])

    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        hidden, args, kwargs = split_hidden(args, kwargs)
        seen.hidden.append(hidden)
        seen.leaves.append(_flat((args, kwargs))[0])

    def after(_module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        seen.out.append(out)
        held = {
            place: {k: tuple(v) for k, v in leaf.items() if isinstance(v, (tuple, list))}
            for place, leaf in enumerate(seen.leaves[-1])
            if isinstance(leaf, MutableMapping)
        }
        seen.stores.append(held)

    hooks = [b.register_forward_pre_hook(before, with_kwargs=True) for b in blocks]
    hooks += [b.register_forward_hook(after, with_kwargs=True) for b in blocks]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def split_hidden(args: Any, kwargs: Any) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """Returns the state a block is given, and its other arguments."""
    if args:
        return args[0], tuple(args[1:]), dict(kwargs)
    name = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
    return kwargs[name], (), {key: value for key, value in kwargs.items() if key != name}


def find_packing(
    real: Sequence[Seen], bare: Sequence[Seen], other: Seen, shapes: Sequence[tuple[int, int]]
) -> Packing | None:
    """Returns how the state of a model must be laid out; None where blocks hand on (B x S x d).

    Args:
        real: Forwards with the model's own blocks, for two shapes of text.
        bare: The same with stand-ins that do nothing.
        other: With stand-ins, for another text of the first shape.
        shapes: The two shapes.

    Raises:
        Unpackable: If something that depends on the tokens has no axes of sequences and tokens.
    """
    one, two = real
    hidden = _slot(0, [one.hidden[0], two.hidden[0]], shapes)
    n_blocks, width = len(one.hidden), hidden.width
    made: dict[int, dict[int, Slot]] = {b: {} for b in range(n_blocks)}
    taken: list[tuple[int, int, Slot]] = []
    returned: dict[int, dict[int, Slot]] = {b: {} for b in range(n_blocks)}
    known: dict[Any, Slot] = {}
    for block in range(n_blocks):
        for place, leaf in enumerate(bare[0].leaves[block]):
            mine = one.leaves[block][place]
            if not isinstance(mine, Tensor):
                continue
            if isinstance(leaf, Tensor) and not _equal(leaf, other.leaves[block][place]):
                key = (leaf.data_ptr(), tuple(leaf.shape), tuple(leaf.stride()))
                if key not in known:
                    pair = [leaf, bare[1].leaves[block][place]]
                    known[key] = _slot(width, pair, shapes)
                    width += known[key].width
                    taken.append((block, place, known[key]))
                made[block][place] = known[key]
            elif not isinstance(leaf, Tensor) or not _equal(leaf, mine):
                at = _source(one, block, mine)
                pair = [mine, two.leaves[block][place]]
                if at not in known:
                    known[at] = _slot(width, pair, shapes)
                    width += known[at].width
                made[block][place] = known[at]
                returned[at[0]][at[1]] = known[at]
    shared, mapping, written, width = _shared(one, two, width, shapes)
    plain = not taken and not any(returned.values()) and not shared
    if plain and hidden.axes == (0, 1) and len(hidden.rest) == 1:
        return None
    return Packing(hidden, made, taken, returned, shared, mapping, written, width)


def _shared(one: Seen, two: Seen, width: int, shapes: Sequence[tuple[int, int]]) -> Any:
    """Returns slots of what blocks leave for later ones in a mapping, who has it, who writes."""
    shared: dict[tuple[Any, int], Slot] = {}
    mapping: dict[int, int] = {}
    written: dict[int, frozenset[Any]] = {}
    before: dict[Any, tuple[Tensor, ...]] = {}
    for block, held in enumerate(one.stores):
        if len(held) > 1:
            raise Unpackable(f"block {block} is given {len(held)} mappings that it may write to")
        for place, contents in held.items():
            mapping[block] = place
            new = {
                key
                for key, value in contents.items()
                if key not in before or value[0] is not before[key][0]
            }
            written[block] = frozenset(new)
            for key in new:
                for i, value in enumerate(contents[key]):
                    if (key, i) not in shared:
                        pair = [value, two.stores[block][place][key][i]]
                        shared[key, i] = _slot(width, pair, shapes)
                        width += shared[key, i].width
            before = contents
    return shared, mapping, written, width


def _source(seen: Seen, block: int, value: Tensor) -> tuple[int, int]:
    """Returns which earlier block returned a tensor, and as which element."""
    for earlier in range(block - 1, -1, -1):
        out = seen.out[earlier]
        for place, element in enumerate(out if isinstance(out, (tuple, list)) else ()):
            if place and element is value:
                return earlier, place
    raise Unpackable(
        f"block {block} is given something that depends on the blocks before it and that none of "
        f"them returned"
    )


def _slot(start: int, values: Sequence[Tensor], shapes: Sequence[tuple[int, int]]) -> Slot:
    for b in range(values[0].ndim):
        for s in range(values[0].ndim):
            fits = b != s and all(
                v.ndim == values[0].ndim and (v.shape[b], v.shape[s]) == shape
                for v, shape in zip(values, shapes, strict=True)
            )
            rests = {tuple(n for i, n in enumerate(v.shape) if i not in (b, s)) for v in values}
            if fits and len(rests) == 1:
                return Slot(start, (b, s), rests.pop(), values[0].dtype)
    told = " and ".join(" x ".join(map(str, v.shape)) for v in values)
    raise Unpackable(
        f"blocks hand on something of shape {told}, which has no axes of sequences and tokens "
        f"({' and '.join(' x '.join(map(str, s)) for s in shapes)})"
    )


def _flat(context: Any) -> tuple[list[Any], Any]:
    return pytree.tree_flatten(context)


def _equal(a: Any, b: Any) -> bool:
    return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
