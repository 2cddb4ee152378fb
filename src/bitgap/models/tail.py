"""The end of a model: final norm and LM head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitgap.models.families import Family
from bitgap.models.stored import as_run, stored


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows the last block: ``logits = cap(finish(hidden) @ weight.T + bias)``.

    Attributes:
        modules: Final norm and projection, in the order they are applied.
        weight: Unembedding, (V x d_out), as stored; the model's own memory, not to be written to.
        bias: Logit bias, (V), or None; already scaled like the states.
        scale: What the family multiplies its logits by; ``finish`` puts it into the states.
        softcap: c in ``cap(z) = c·tanh(z/c)``, or None where logits are not capped.
        before: What is done to states before the modules, such as to run the model's own code for
            its end; None where nothing is.
    """

    modules: tuple[nn.Module, ...]
    weight: Tensor
    bias: Tensor | None
    scale: float
    softcap: float | None
    before: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        family: Family,
        before: Callable[[Tensor], Tensor] | None = None,
    ) -> Tail:
        """Reads the tail off a model.

        Args:
            model: The whole model.
            family: Where its parts are.
            before: What is done to states before its modules.

        Raises:
            AttributeError: If a path of the family, or a number its config should have, is absent.
        """
        config: Any = model.config
        scale = _number(config, family.multiply) if family.multiply else 1.0
        scale /= _number(config, family.divide) if family.divide else 1.0
        head: Any = model.get_submodule(family.head)
        weight = stored(head)
        n_logits = int(_number(config, family.rows)) if family.rows else len(weight)
        modules = (_resolve(model, path) for path in family.finish)
        return cls(
            modules=tuple(module for module in modules if module is not None),
            # A part of a mapped tensor is not known to be mapped.
            weight=weight if n_logits == len(weight) else weight[:n_logits],
            bias=None if head.bias is None else head.bias.detach()[:n_logits] * scale,
            scale=float(scale),
            softcap=_number(config, family.softcap) if family.softcap else None,
            before=before,
        )

    def finish(self, hidden: Tensor) -> Tensor:
        """Returns what the head multiplies, (.. x d_out), of states after the last block.

        Args:
            hidden: States that leave the last block, (.. x d).
        """
        if self.before is not None:
            hidden = self.before(hidden)
        for module in self.modules:
            hidden = module(hidden)
        return hidden if self.scale == 1 else hidden * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns logits (.. x V) of states after the last block (.. x d)."""
        z = F.linear(self.finish(hidden), as_run(self.weight), self.bias)
        return z if self.softcap is None else torch.tanh(z / self.softcap) * self.softcap


def _number(config: Any, name: str) -> Any:
    # A wrapper's config may have the number in that of its text part only.
    holder = config if hasattr(config, name) else config.get_text_config()
    return getattr(holder, name)


def _resolve(model: nn.Module, path: str) -> nn.Module | None:
    # get_submodule refuses a module that is registered as None, as OPT's projections may be.
    parent, _, name = path.rpartition(".")
    return getattr(model.get_submodule(parent), name)
