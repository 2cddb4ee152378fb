"""One training step, and what makes it fast on a processor.

- *Arithmetic.* Autocast to bfloat16 where the processor has instructions for it; elsewhere such a
  product is emulated, about a hundred times slower, and float32 is used.
- *Attention.* The fused kernel is slow backwards. For short sequences the plain formula, whose
  products go to the same fast instructions as any other, takes half the time.
- *Loss.* The head and the cross-entropy are one function over chunks of tokens: logits are never
  held in float32 or for a whole batch, and their gradient is formed while they are in the cache.
- *Compiling.* torch.compile fuses all between the products. It pays for itself in minutes.
- *Optimiser.* AdamW in one fused pass over each parameter.

Freed memory is kept for the next step by :func:`bitgap.lab.engine.budget.tune_heap`, which
the program calls. ``benchmarks/training.py`` compares all of it with a plain loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import AttentionInterface
from transformers.activations import ACT2FN
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from bitgap.lab.engine.arithmetic import fast_products_round
from bitgap.models.families import FAMILIES as SPLITS

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
LARGEST_GRADIENT = 1.0
"""Norm over all parameters that gradients are clipped to."""

_LONGEST_PLAIN = 512  # tokens; beyond it the scores of all pairs take too much memory
_CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}  # of logits at once


def choose_arithmetic(asked: str, device: str) -> str:
    """Returns ``bf16`` or ``float32``: the one asked for, or with ``auto`` what is fast here."""
    if asked != "auto":
        return asked
    return "bf16" if fast_products_round(device) else "float32"


# -- attention and activation --------------------------------------------------------------------


def _plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Causal attention by its formula; the arguments are those that transformers passes.

    Args:
        module: The attention of a block.
        query: (batch x heads x tokens x head width), and so ``key`` and ``value``.
        key: See ``query``.
        value: See ``query``.
        attention_mask: Not looked at; transformers masks nothing for what it does not know.
        scaling: Factor on the scores; 1 / sqrt(head width) when None.
        unused: Dropout, which is 0 in every family here, and the like.

    Returns:
        The mixed values (batch x tokens x heads x head width), and no weights.
    """
    batch, heads, length, width = query.shape
    if query.device.type != "cpu" or length > _LONGEST_PLAIN or key.shape != query.shape:
        return sdpa_attention_forward(module, query, key, value, None, scaling=scaling)
    query, key, value = (x.reshape(batch * heads, length, -1) for x in (query, key, value))
    future = torch.full((length, length), -torch.inf, dtype=query.dtype).triu(1)
    factor = width**-0.5 if scaling is None else scaling
    scores = torch.baddbmm(future, query, key.transpose(1, 2), alpha=factor)
    mixed = torch.bmm(scores.softmax(-1), value)
    return mixed.view(batch, heads, length, -1).transpose(1, 2), None


class _TanhGelu(nn.Module):
    """GELU in its tanh form: one kernel as it stands, an exponential where it is compiled."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return gelu(x, approximate="tanh")
        # (1 + tanh u) / 2 is the logistic function of 2u; 1.59577 is twice the root of 2 / pi.
        return x * torch.sigmoid(1.5957691216057308 * x * (1 + 0.044715 * x * x))


def _use_fast_parts(model: Any) -> None:
    """Replaces attention and activation by faster ones of the same function, where there are."""
    AttentionInterface.register("bitgap_plain", _plain_attention)
    # A family with attention of its own kind (Bloom, Falcon, MPT) keeps it.
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("bitgap_plain")
    slow = type(ACT2FN["gelu_pytorch_tanh"])
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, slow):
                setattr(parent, name, _TanhGelu())


# -- loss ----------------------------------------------------------------------------------------


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``hidden @ weight.T``, with both gradients formed on the way."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        hidden_grad = torch.empty_like(hidden)
        # In float32, for small terms would be lost in a bfloat16 sum over many chunks.
        weight_grad = torch.zeros_like(weight, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        smallest = torch.finfo(torch.float32).tiny
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            rows = hidden[part]
            logits = rows @ weight.T
            places = torch.arange(0, logits.numel(), len(weight), device=hidden.device)
            places += targets[part]
            error = torch.softmax(logits, -1)
            # A chance that underflowed counts as the smallest, 87 nats.
            total -= error.view(-1)[places].float().clamp_min(smallest).log().sum()
            # Softmax less one at the target is the gradient of the logits.
            error.view(-1)[places] -= 1
            torch.mm(error, weight, out=hidden_grad[part])
            weight_grad += torch.mm(error.T, rows)
        ctx.save_for_backward(hidden_grad, weight_grad)
        ctx.kind, ctx.scale = weight.dtype, 1.0 / len(hidden)
        return total * ctx.scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        hidden_grad, weight_grad = ctx.saved_tensors
        scale = upstream * ctx.scale
        return hidden_grad * scale, (weight_grad * scale).to(ctx.kind), None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean negative log-likelihood in nats of targets under a linear head.

    The same value and gradients as ``cross_entropy(hidden @ weight.T, targets)`` up to 87 nats a
    token; the logits are never held for more than a chunk of tokens. Differentiable once.

    Args:
        hidden: States before the head, (tokens x d).
        weight: The head, (vocabulary x d), without bias.
        targets: Token ids, int64 (tokens).
    """
    device = hidden.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    chunk = max(1, _CHUNK_BYTES[device] // (kind.itemsize * len(weight)))
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden.to(kind), weight.to(kind), targets, chunk)


# -- step ----------------------------------------------------------------------------------------


def make_optimiser(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """Returns AdamW with weight decay on the matrices of the blocks and an untied head.

    Norms, biases and embeddings (so a tied head too) do not decay.

    Args:
        model: What to train.
        rate: Peak learning rate.
    """
    embedded = {
        id(weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for weight in module.parameters()
    }
    parameters = list(model.parameters())
    decaying = [p for p in parameters if p.ndim >= 2 and id(p) not in embedded]
    chosen = {id(p) for p in decaying}
    groups = [
        {"params": decaying, "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if id(p) not in chosen], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True)


class TrainingStep:
    """Takes one step after the other on one model.

    Attributes:
        model: What is trained.
        optimiser: Its AdamW.
        arithmetic: ``float32`` or ``bf16``.
    """

    def __init__(self, model: Any, peak_rate: float, arithmetic: str, device: str) -> None:
        self.model, self.arithmetic = model, arithmetic
        self.optimiser = make_optimiser(model, peak_rate)
        self._device = device
        self._head = model.get_output_embeddings()
        assert self._head.bias is None, "no family here has a bias in its head"
        _use_fast_parts(model)

    def __call__(self, ids: Tensor, rate: float) -> Tensor:
        """Takes one step.

        Args:
            ids: Token ids, int64 (batch x context + 1), on the processor.
            rate: Learning rate of this step.

        Returns:
            Mean loss over the batch before the step, in nats per token; a scalar without gradient.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = self._loss_and_gradients(ids)
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss

    def compile(self, ids: Tensor, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compiles the blocks, which are alike, so that the code of one serves all.

        Args:
            ids: A batch of the size that will come, to try them on; it trains nothing.
            backend: The compiler of torch.compile.

        Raises:
            Exception: Whatever the compiler raises; the blocks are then as they were.
        """
        blocks = list(self.model.get_submodule(SPLITS[type(self.model).__name__].blocks))
        for block in blocks:
            block.compile(dynamic=False, backend=backend)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch about itself
                self._loss_and_gradients(ids)
        except Exception:
            for block in blocks:
                block._compiled_call_impl = None
            raise
        finally:
            self.optimiser.zero_grad(set_to_none=True)

    def _loss_and_gradients(self, ids: Tensor) -> Tensor:
        ids = ids.to(self._device, non_blocking=True)
        with torch.autocast(self._device, torch.bfloat16, enabled=self.arithmetic == "bf16"):
            base = self.model.base_model
            hidden = base(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            targets = ids[:, 1:].flatten()
            loss = linear_cross_entropy(hidden.flatten(0, 1), self._head.weight, targets)
        loss.backward()
        return loss.detach()
