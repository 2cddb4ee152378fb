"""What a base model hands to its blocks beside the hidden state, caught from its own forward.

Masks, rotary angles, alibi and position ids are made by each family in its own way and handed to
each block in its own way. Instead of knowing the ways, the block list is replaced for one forward
by stand-ins that return the hidden state unchanged and keep what they were given.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from bitgap.models.packing import BlockContext, split_hidden

Context = Sequence[BlockContext]
"""One :data:`BlockContext` for each block."""

_CACHE_BYTES = 256 * 2**20


class Caught:
    """What one forward of the base model handed to its blocks.

    Attributes:
        entered: What block 0 was given, (B x S x d) in most families; None until then.
        context: What each block was given beside it, in order.
    """

    def __init__(self) -> None:
        self.entered: Tensor | None = None
        self.context: list[BlockContext] = []


class Reached(Exception):
    """Ends a forward at the head; carries what the head was given."""

    def __init__(self, given: Tensor) -> None:
        super().__init__("the head was reached")
        self.given = given


class _StandIn(nn.Module):
    """Takes a block's place, keeps what it is given, and answers for the block's attributes."""

    def __init__(self, block: nn.Module, keep: Callable[..., Any]) -> None:
        super().__init__()
        # Past nn.Module's own setattr, which would make the block a submodule.
        self.__dict__["_block"], self.__dict__["_keep"] = block, keep

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._keep(self._block, *split_hidden(args, kwargs))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_block"], name)


class Catcher:
    """Catches what a base model hands to its blocks."""

    def __init__(self, owner: nn.Module, attribute: str) -> None:
        """Remembers where the block list is; the model is not touched.

        Args:
            owner: The module that has the block list.
            attribute: The list's name in it.
        """
        self._owner, self._attribute = owner, attribute
        # How many elements blocks return, 0 where it is no tuple; known once one has run, as
        # families and versions differ.
        self._tuples: int | None = None

    @contextmanager
    def catching(self) -> Iterator[Caught]:
        """Puts stand-ins in the blocks' place, and the blocks back whatever happens."""
        caught = Caught()

        def keep(block: nn.Module, hidden: Tensor, args: Any, kwargs: Any) -> Any:
            if caught.entered is None:
                caught.entered = hidden
            caught.context.append((args, kwargs))
            if self._tuples is None:
                out = block(hidden, *args, **kwargs)
                self._tuples = len(out) if isinstance(out, (tuple, list)) else 0
            return self._returned(hidden)

        with self._in_place(keep):
            yield caught

    @contextmanager
    def ending_with(self, state: Tensor, n_blocks: int) -> Iterator[None]:
        """Has the last of the blocks that are called return a state; the others do nothing."""
        calls = 0

        def keep(_block: nn.Module, hidden: Tensor, _args: Any, _kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return self._returned(state if calls == n_blocks else hidden)

        with self._in_place(keep):
            yield

    def _returned(self, hidden: Tensor) -> Any:
        return (hidden, *[None] * (self._tuples - 1)) if self._tuples else hidden

    @contextmanager
    def _in_place(self, keep: Callable[..., Any]) -> Iterator[None]:
        own = getattr(self._owner, self._attribute)
        setattr(self._owner, self._attribute, nn.ModuleList(_StandIn(b, keep) for b in own))
        try:
            yield
        finally:
            setattr(self._owner, self._attribute, own)


class ContextCache:
    """Contexts by shape; forgets those used longest ago beyond a bound on their memory."""

    def __init__(self, limit_bytes: int = _CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[tuple[int, int], tuple[Context, int]] = OrderedDict()
        self._held_bytes = 0

    def get(self, shape: tuple[int, int], make: Callable[[], Context]) -> Context:
        """Returns the context of a shape (rows, length), made if it is not there."""
        if shape in self._kept:
            self._kept.move_to_end(shape)
            return self._kept[shape][0]
        context = make()
        n_bytes = _storage_bytes(context)
        self._kept[shape] = context, n_bytes
        self._held_bytes += n_bytes
        while self._held_bytes > self._limit_bytes and len(self._kept) > 1:
            _, (_, forgotten) = self._kept.popitem(last=False)
            self._held_bytes -= forgotten
        return context


def _storage_bytes(context: Context) -> int:
    # Blocks share masks and angles, and views share memory: each storage counts once.
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in _tensors(context)}
    return sum(storage.nbytes() for storage in storages.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
