"""Blocks that visit a device one at a time, where the model is larger than the device.

The embedding, the end and all else that is small lie on the device. Each block lies at home, in the
processor's memory or in its mapped file, in the type it is stored in; while it is run, its modules
have copies on the device instead. The walk with the block outside (:mod:`bitgap.lab.engine.stream`)
brings each block once. The one that comes next is read into pinned memory by a thread meanwhile,
from which the device fetches it without the processor.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bitgap.models.families import Family
from bitgap.models.kinds import is_within
from bitgap.models.stored import forget

_Slot = tuple[dict[str, Any], str, Tensor]
"""What a module holds its tensors in, the tensor's name there, and the tensor."""


class Visits:
    """The blocks of one model, of which at most one is on the device.

    Attributes:
        device: Where they are run.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device | str) -> None:
        """Leaves all blocks where they are.

        Args:
            blocks: L0 first.
            device: Where they are to be run.
        """
        self.device = torch.device(device)
        self._blocks = blocks
        self._here: int | None = None
        self._home: list[_Slot] = []
        self._next: tuple[int, threading.Thread, dict[int, Tensor]] | None = None
        self._lock = threading.RLock()

    def bring(self, index: int) -> None:
        """Has one block on the device, and the one that was there at home again.

        Args:
            index: Number of the block.
        """
        with self._lock:
            if self._here == index:
                return
            self.leave()
            read, there = self._read(index), dict[int, Tensor]()
            try:
                for held, name, tensor in list(_slots(self._blocks[index])):
                    if id(tensor) not in there:
                        there[id(tensor)] = self._sent(tensor, read.get(id(tensor)))
                    self._home.append((held, name, tensor))
                    held[name] = there[id(tensor)]
            except BaseException:
                self.leave()
                raise
            self._here = index

    def leave(self) -> None:
        """Has every block at home."""
        with self._lock:
            for held, name, tensor in self._home:
                held[name] = tensor
            self._home, self._here = [], None

    def expect(self, index: int) -> None:
        """Begins to read the block that comes next.

        Args:
            index: Its number.
        """
        if self.device.type != "cuda" or index == self._here:
            return
        found = dict[int, Tensor]()

        def read() -> None:
            for _, _, tensor in _slots(self._blocks[index]):
                if id(tensor) not in found:
                    found[id(tensor)] = tensor.detach().pin_memory()
                    forget(tensor)

        with self._lock:
            thread = threading.Thread(target=read, daemon=True)
            self._next = index, thread, found
            thread.start()

    def _read(self, index: int) -> dict[int, Tensor]:
        """Returns what was read of a block already, by the identity of its tensors."""
        if self._next is None or self._next[0] != index:
            return {}
        _, thread, found = self._next
        self._next = None
        thread.join()
        return found

    def _sent(self, tensor: Tensor, pinned: Tensor | None) -> Tensor:
        return _copied(tensor, self.device, pinned)


def send_ends(model: nn.Module, family: Family, device: torch.device | str) -> None:
    """Moves what of a text model is no block to a device; what is tied stays tied.

    Args:
        model: The whole model; changed.
        family: Where its parts are.
        device: Where to.
    """
    there = dict[int, Tensor]()
    for path, module in model.named_modules():
        inside = is_within(path, family.base) or is_within(path, family.head)
        if not inside or is_within(path, family.blocks):
            continue
        for held, name, tensor in list(_own_slots(module)):
            if id(tensor) not in there:
                there[id(tensor)] = _copied(tensor, device)
            held[name] = there[id(tensor)]


def _slots(module: nn.Module) -> Iterator[_Slot]:
    for inner in module.modules():
        yield from _own_slots(inner)


def _own_slots(module: nn.Module) -> Iterator[_Slot]:
    held: dict[str, Any]
    for held in (module._parameters, module._buffers):
        for name, tensor in held.items():
            if tensor is not None:
                yield held, name, tensor


def _copied(tensor: Tensor, device: torch.device | str, pinned: Tensor | None = None) -> Tensor:
    """Returns a copy on a device, a parameter of a parameter; from pinned memory where given."""
    kept = tensor.detach() if pinned is None else pinned
    sent = kept.to(device, non_blocking=pinned is not None, copy=True)
    forget(tensor)
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(sent, requires_grad=False) if is_parameter else sent
