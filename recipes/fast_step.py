"""One training step, and what makes it fast.

- *Allocator.* By default glibc returns every large block to the system and faults it in anew, page
  by page, many times a step. It is told to keep what it has.
- *Loss.* The head and the cross-entropy are one function over chunks of tokens: the logits of a
  chunk stay in the cache, their gradient is formed in place, and neither is ever held for a batch.
- *Optimiser.* AdamW in one fused pass over each parameter.
- *Arithmetic.* bfloat16 only where a measurement says that it pays: on a processor without the
  instructions such a product is emulated and about a hundred times slower than float32.

``--benchmark`` compares all of it with a plain loop on the machine at hand.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitgap.errors import UsageError
from bitgap.lab.arithmetic import fast_products_round, products
from bitgap.models.families import FAMILIES as SPLITS

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
LARGEST_GRADIENT = 1.0
"""Norm over all parameters that gradients are clipped to."""

_CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 512 * 2**20}  # of float32 logits at once
_PAYS = 1.2  # bfloat16 must win by so much on the small product to be tried on whole steps
_PROBE_SHAPE = (256, 256, 256)


# -- allocator -----------------------------------------------------------------------------------


def keep_memory() -> bool:
    """Makes the C library keep freed memory for the next step; returns whether it could.

    The effect is that of ``MALLOC_MMAP_MAX_=0`` and ``MALLOC_TRIM_THRESHOLD_`` at its largest, for
    this process from now on.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    # Numbers of M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD in malloc.h.
    settings = {-4: 0, -1: 2**31 - 1, -2: 64 * 2**20}
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


# -- arithmetic ----------------------------------------------------------------------------------


@contextmanager
def step_products(arithmetic: str, device: str) -> Iterator[None]:
    """Runs whole steps, forward and backward, with the products that an arithmetic asks for."""
    with products("fast" if arithmetic == "bf16-products" else "exact", device):
        yield


@contextmanager
def forward_cast(arithmetic: str, device: str) -> Iterator[None]:
    """Runs the forward pass, casting where an arithmetic asks for it."""
    with torch.autocast(device, torch.bfloat16, enabled=arithmetic == "bf16-autocast"):
        yield


def candidates(device: str) -> list[str]:
    """Returns the arithmetics worth timing on whole steps; float32 is the first.

    Measured is one small product in float32 and in bfloat16, three times each.
    """
    if device == "cuda":
        # Autocast always wins there, and TF32 products come next.
        return ["bf16-autocast"] if torch.cuda.is_bf16_supported() else ["float32"]
    rows, inner, columns = _PROBE_SHAPE
    left, right = torch.ones(rows, inner), torch.ones(inner, columns)
    left16, right16 = left.bfloat16(), right.bfloat16()
    if _seconds(lambda: left @ right) < _PAYS * _seconds(lambda: left16 @ right16):
        return ["float32"]
    return ["float32", *(["bf16-products"] if fast_products_round() else []), "bf16-autocast"]


def choose_arithmetic(asked: str, device: str, seconds_a_step: Callable[[str], float]) -> str:
    """Returns the arithmetic to train with.

    Args:
        asked: ``auto``, or an arithmetic by name.
        device: ``cpu`` or ``cuda``.
        seconds_a_step: Times whole steps in an arithmetic; called only if several may win.

    Raises:
        UsageError: If ``bf16-products`` is asked for where there are none.
    """
    if asked == "bf16-products" and (device != "cpu" or not fast_products_round()):
        raise UsageError(
            "--arithmetic bf16-products: this processor has no bfloat16 products; use auto"
        )
    if asked != "auto":
        return asked
    options = candidates(device)
    return options[0] if len(options) == 1 else min(options, key=seconds_a_step)


def _seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    call()  # the first call prepares threads and kernels
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


# -- loss ----------------------------------------------------------------------------------------


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``hidden @ weight.T``, with both gradients formed on the way."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        hidden_grad = torch.empty_like(hidden)
        weight_grad = torch.zeros_like(weight)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            rows, wanted = hidden[part], targets[part, None]
            logits = (rows @ weight.T).float()
            chances = torch.softmax(logits, -1)
            total -= _log_likelihood(logits, chances, wanted)
            error = chances.to(hidden.dtype)
            # Softmax less one at the target is the gradient of the logits.
            error.scatter_add_(1, wanted, error.new_full((1, 1), -1.0).expand_as(wanted))
            torch.mm(error, weight, out=hidden_grad[part])
            weight_grad.addmm_(error.T, rows)
        ctx.save_for_backward(hidden_grad, weight_grad)
        ctx.scale = 1.0 / len(hidden)
        return total * ctx.scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        hidden_grad, weight_grad = ctx.saved_tensors
        scale = upstream * ctx.scale
        return hidden_grad * scale, weight_grad * scale, None, None


def _log_likelihood(logits: Tensor, chances: Tensor, wanted: Tensor) -> Tensor:
    # Through the largest chance, at least 1 / vocabulary: the target's own may have underflowed.
    log_sums = logits.amax(1) - chances.amax(1).log()
    return (logits.gather(1, wanted)[:, 0] - log_sums).sum()


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean negative log-likelihood in nats of targets under a linear head.

    The same value and gradients as ``cross_entropy(hidden @ weight.T, targets)``; the logits are
    never held for more than a chunk of tokens. Differentiable once.

    Args:
        hidden: States before the head, (tokens x d).
        weight: The head, (vocabulary x d), without bias.
        targets: Token ids, int64 (tokens).
    """
    device = hidden.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    chunk = max(1, _CHUNK_BYTES[device] // (4 * len(weight)))
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden.to(kind), weight.to(kind), targets, chunk)


# -- step ----------------------------------------------------------------------------------------


def make_optimiser(model: nn.Module, rate: float, *, fused: bool = True) -> torch.optim.AdamW:
    """Returns AdamW with weight decay on the matrices of the blocks and an untied head.

    Norms, biases and embeddings (so a tied head too) do not decay.

    Args:
        model: What to train.
        rate: Peak learning rate.
        fused: Whether each parameter is updated in one pass.
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
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=fused)


def compile_blocks(model: nn.Module) -> None:
    """Compiles each block in place; they are alike, so the first one's code serves all."""
    for block in model.get_submodule(SPLITS[type(model).__name__].blocks):
        block.compile(dynamic=False)


class TrainingStep:
    """Takes one step after the other on one model.

    Attributes:
        model: What is trained.
        optimiser: Its AdamW.
        arithmetic: ``float32``, ``bf16-products`` or ``bf16-autocast``.
    """

    def __init__(
        self, model: Any, optimiser: torch.optim.Optimizer, arithmetic: str, device: str
    ) -> None:
        self.model, self.optimiser, self.arithmetic = model, optimiser, arithmetic
        self._device = device
        self._head = model.get_output_embeddings()
        assert self._head.bias is None, "no family here has a bias in its head"

    def __call__(self, ids: Tensor, rate: float) -> Tensor:
        """Takes one step.

        Args:
            ids: Token ids, int64 (batch x context + 1), on the processor.
            rate: Learning rate of this step.

        Returns:
            Mean loss over the batch before the step, in nats per token; a scalar without gradient.
        """
        ids = ids.to(self._device, non_blocking=True)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with ExitStack() as stack:
            stack.enter_context(step_products(self.arithmetic, self._device))
            with forward_cast(self.arithmetic, self._device):
                loss = self._loss(ids)
            loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def _loss(self, ids: Tensor) -> Tensor:
        base = self.model.base_model
        hidden = base(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        targets = ids[:, 1:].flatten()
        return linear_cross_entropy(hidden.flatten(0, 1), self._head.weight, targets)
