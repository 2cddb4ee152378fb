"""The model without its head, run for what enters its blocks and for what follows them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from bitgap.models.context import Catcher, Caught, Reached
from bitgap.models.families import Family
from bitgap.models.observe import accepted, own_logits, probe_ids
from bitgap.models.packing import SHAPES, Packing, Seen, find_packing, watch_blocks
from bitgap.models.silence import hushed_log


class Base:
    """A model around its blocks; what exchanges its list of blocks happens one call at a time.

    Attributes:
        module: Ids in, states before the head out.
    """

    def __init__(self, model: nn.Module, family: Family) -> None:
        """Finds the parts; runs nothing.

        Args:
            model: The whole model.
            family: Where its parts are.

        Raises:
            AttributeError: If a path of the family is absent.
        """
        self._model, self._head = model, model.get_submodule(family.head)
        self.module = model.get_submodule(family.base)
        owner, _, attribute = family.blocks.rpartition(".")
        self._catcher = Catcher(model.get_submodule(owner), attribute)
        self._blocks = family.blocks_of(model)
        self._lock = threading.RLock()

    def call(self, input_ids: Tensor, replacements: Mapping[str, Tensor] | None = None) -> None:
        """Runs it on token ids (B x S), with some of its weights replaced."""
        given = accepted(self.module, {"input_ids": input_ids, "use_cache": False})
        if replacements:
            functional_call(self.module, dict(replacements), (), given)
        else:
            self.module(**given)

    def catch(self, input_ids: Tensor, replacements: Mapping[str, Tensor] | None = None) -> Caught:
        """Returns what it hands to its blocks, of token ids (B x S); runs no block but one, once.

        Raises:
            RuntimeError: If it does not call every block once.
        """
        # Without the hush GPT-2 advises an attention mask as soon as it sees a pad.
        with self._lock, hushed_log(), self._catcher.catching() as caught:
            self.call(input_ids, replacements)
        if len(caught.context) != len(self._blocks):
            raise RuntimeError(f"{len(caught.context)} of {len(self._blocks)} blocks were called")
        return caught

    def find_packing(self, longest: int | None) -> Packing | None:
        """Returns how states must be laid out; None where blocks hand on (B x S x d) alone.

        Args:
            longest: Tokens of the longest sequence, or None.

        Raises:
            Unpackable: If something that depends on the tokens has no axes of them.
        """
        shapes = [(rows, min(length, longest or length)) for rows, length in SHAPES]
        texts = [probe_ids(self._model, *shape, seed=1) for shape in shapes]
        bare = [self._seen_by_stand_ins(ids) for ids in texts]
        other = self._seen_by_stand_ins(probe_ids(self._model, *shapes[0], seed=2))
        with self._lock, hushed_log():
            real = [watch_blocks(self._blocks, lambda ids=ids: self.call(ids)) for ids in texts]
        return find_packing(real, bare, other, shapes)

    def _seen_by_stand_ins(self, ids: Tensor) -> Seen:
        caught = self.catch(ids)
        assert caught.entered is not None
        leaves = [pytree.tree_leaves(context) for context in caught.context]
        return Seen([caught.entered], leaves, [], [])

    def end(self, hidden: Tensor) -> Tensor:
        """Returns what the head is given, (R x 1 x d_out), by the model's own code.

        Args:
            hidden: What the last block returned for R sequences of one token each.
        """

        def stop(_module: nn.Module, args: tuple[Any, ...]) -> None:
            raise Reached(args[0])

        ids = torch.zeros(len(hidden), 1, dtype=torch.long, device=hidden.device)
        with self._lock, hushed_log(), self._catcher.ending_with(hidden, len(self._blocks)):
            hook = self._head.register_forward_pre_hook(stop)
            try:
                own_logits(self._model, ids)
            except Reached as reached:
                return reached.given
            finally:
                hook.remove()
        raise RuntimeError("the head was not reached")
