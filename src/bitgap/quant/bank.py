"""The variants of every block that plans choose among.

A block is rounded once per variant, never once per plan: a variant is a module that shares every
tensor with the original block except the rounded ones, so running a plan means choosing modules.
The bank forgets the variant that was used longest ago when it outgrows its memory; rounding is
deterministic, so a variant made again is the same to the bit.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from bitgap.errors import PlanError
from bitgap.models.fused import can_fuse, fuse
from bitgap.models.stored import HALVES, run_type
from bitgap.models.weights import as_float32, cast_linears
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import round_weight
from bitgap.quant.schemes import RoundToNearest, Scheme, parse_scheme
from bitgap.quant.variants import parse_variant

if TYPE_CHECKING:
    from bitgap.models.decoder import Decoder

FP = "fp"
Given = Tensor | Callable[[], Tensor]
"""A tensor, or what reads it anew each time it is asked."""


class Bank:
    """Block, embedding and head variants of one model, by scheme name."""

    def __init__(
        self,
        decoder: Decoder,
        limit_bytes: int | None = None,
        *,
        product_dtype: torch.dtype | None = None,
        beside: Bank | None = None,
    ) -> None:
        """Starts an empty bank.

        Args:
            decoder: The split model.
            limit_bytes: Memory for variants; unlimited when None. At least one variant is kept.
            product_dtype: What products will round matrices to, if they do; then it is done here,
                once, for full-precision blocks too.
            beside: Another bank of the same model, with products of another type. What is added to
                one, or dropped from it, is so in both.
        """
        self._decoder = decoder
        self._product_dtype = product_dtype
        self.limit_bytes = limit_bytes
        self._modules: OrderedDict[tuple[int, str], tuple[nn.Module, int]] = OrderedDict()
        self._held_bytes = 0
        self.holds_cast = False
        """Whether the full-precision block that was last asked for is held as it is run, in float32
        where the file has fewer bits; else it is cast for every batch of text."""
        self._cast: tuple[int, nn.Module] | None = None
        self._own: dict[tuple[int, str], dict[str, Given]] = {} if beside is None else beside._own
        self._own_others: dict[tuple[int, str], dict[str, Tensor]] = (
            {} if beside is None else beside._own_others
        )
        # Weak, as a bank that held itself would keep its model until the collector runs, which
        # counts objects and not what they hold.
        self._sharing: WeakSet[Bank] = WeakSet() if beside is None else beside._sharing
        self._sharing.add(self)
        self._ends: dict[tuple[str, str], dict[str, Tensor]] = {}
        self._tables: dict[tuple[int, str], Tensor] = {}
        if beside is not None:
            own = {key: end for key, end in beside._ends.items() if key[1].startswith("own:")}
            self._ends |= own

    def add(
        self,
        name: str,
        weights: Mapping[int, Mapping[str, Given]],
        others: Mapping[int, Mapping[str, Tensor]] | None = None,
        *,
        embedding: Mapping[str, Tensor] | None = None,
        head: Tensor | None = None,
    ) -> str:
        """Adds a variant made elsewhere, such as a real quantized checkpoint, dequantized.

        Args:
            name: What plans call it; not the name of a scheme.
            weights: For each block number, its linears by name, (out x in). What is given as a
                reader is read once for its digest, and again whenever a block is made of it.
            others: For each block number, other parameters that change, as stored, such as biases.
            embedding: Tables that change, by their names in ``Decoder.embedding_weights``.
            head: The unembedding (V x d), if it changes.

        Returns:
            The name to use in plans: ``name`` with a digest of the weights, so that stored scores
            can never be taken for those of other weights.

        Raises:
            SchemeError: If plans could not carry the name.
        """
        digest = hashlib.sha256(name.encode())
        for part in (weights, others or {}):
            for block in sorted(part):
                for key in sorted(part[block]):
                    digest.update(f"{block}.{key}".encode())
                    digest.update(_numbers(_tensor(part[block][key])))
        ends = dict(embedding or {}) | ({} if head is None else {"head": head})
        for key in sorted(ends):
            digest.update(key.encode())
            digest.update(_numbers(ends[key]))
        full = parse_scheme(f"own:{name}:{digest.hexdigest()[:12]}").name
        for block, linears in weights.items():
            self._own[block, full] = dict(linears)
            self._own_others[block, full] = dict((others or {}).get(block, {}))
        for bank in self._sharing:
            if embedding:
                bank._ends["embedding", full] = dict(embedding)
            if head is not None:
                bank._ends["head", full] = {"weight": head}
        return full

    def own_others(self, index: int, name: str) -> Mapping[str, Tensor]:
        """Returns what a variant that was added changes in a block beside its linears."""
        return self._own_others.get((index, name), {})

    def drop(self, name: str) -> None:
        """Forgets a variant that was added, under the name that :meth:`add` returned."""
        for key in [key for key in self._own if key[1] == name]:
            del self._own[key], self._own_others[key]
        for bank in self._sharing:
            for end in ("embedding", "head"):
                bank._ends.pop((end, name), None)
        for key in [key for bank in self._sharing for key in bank._modules if name in key[1]]:
            for bank in self._sharing:
                _, n_bytes = bank._modules.pop(key, (None, 0))
                bank._held_bytes -= n_bytes

    def block(self, index: int, variant: str) -> nn.Module:
        """Returns block ``index`` under a variant; the model's own module for ``fp``.

        Where products round, its matrices are rounded for them already (also under ``fp``).
        """
        self._decoder.bring(index)
        if variant == FP and self._product_dtype is None:
            return self._as_run(index)
        key = (index, variant)
        if key in self._modules:
            self._modules.move_to_end(key)
            return self._modules[key][0]
        n_bytes = self._variant_bytes(index, variant)
        self._make_room(n_bytes)
        module = self._make_block(index, variant)
        self._modules[key] = (module, n_bytes)
        self._held_bytes += n_bytes
        return module

    def casts(self, index: int) -> bool:
        """Whether full precision of block ``index`` is a copy that is held while it is run."""
        weights = self._decoder.blocks[index].parameters()
        return self.holds_cast and any(weight.dtype in HALVES for weight in weights)

    def _as_run(self, index: int) -> nn.Module:
        """Returns block ``index`` in full precision; at most one that is not the model's own."""
        own = self._decoder.blocks[index]
        if not self.casts(index):
            return own
        if self._cast is None or self._cast[0] != index:
            self._cast = None  # before the next is made
            with torch.inference_mode(False):
                self._cast = index, as_float32(own)
        return self._cast[1]

    def release(self, index: int) -> None:
        """Forgets what was made of block ``index``; it is made again if it is asked for again."""
        if self._cast is not None and self._cast[0] == index:
            self._cast = None
        for key in [key for key in self._modules if key[0] == index]:
            _, n_bytes = self._modules.pop(key)
            self._held_bytes -= n_bytes

    def rounded_linears(self, index: int, variant: str) -> dict[str, Tensor]:
        """Returns the linears of block ``index`` under a variant, (out x in), by name."""
        self._check_variant(index, variant)
        return {
            name: self._matrix(index, name, scheme)
            for name, scheme in self._schemes(index, variant).items()
        }

    def rounded_linear(self, index: int, name: str, scheme: str) -> Tensor:
        """Returns one linear of block ``index`` under a scheme, (out x in); no other is touched."""
        self._check_variant(index, f"{FP}/{scheme}@{name}")
        return self._matrix(index, name, scheme)

    def _schemes(self, index: int, variant: str) -> dict[str, str]:
        parsed = parse_variant(variant)
        return {name: parsed.of(name) for name in self._decoder.block_linears(index)}

    def _matrix(self, index: int, name: str, scheme: str) -> Tensor:
        self._decoder.bring(index)
        view = self._decoder.block_linears(index)[name]
        own = self._own.get((index, scheme))
        if own is not None and name in own:
            return _tensor(own[name])
        if scheme == FP or own is not None:
            return view.get()
        return view.use(lambda kept: _rounded(kept, scheme, f"{index}.{name}"))

    def embedding(self, scheme: str) -> dict[str, Tensor]:
        """Returns the embedding parameters that a scheme replaces; empty for ``fp``.

        The origin's scheme takes every embedding matrix, positions included; the others round the
        token embedding only, whose rows are gathered and never multiplied.
        """
        if scheme == FP:
            return {}
        if ("embedding", scheme) not in self._ends:
            parsed = parse_scheme(scheme)
            found = self._decoder.embedding_weights()
            if parsed.scope != "all-weights":
                found = {name: found[name] for name in self._decoder.token_embedding_names}
            self._ends["embedding", scheme] = {
                name: self._end(weight, scheme, name) for name, weight in found.items()
            }
        return self._ends["embedding", scheme]

    def head(self, scheme: str) -> Tensor:
        """Returns the unembedding (V x d) under a scheme."""
        if scheme == FP:
            return self._decoder.tail.weight
        if ("head", scheme) not in self._ends:
            weight = self._end(self._decoder.tail.weight, scheme, "head")
            self._ends["head", scheme] = {"weight": weight}
        return self._ends["head", scheme]["weight"]

    def end_bytes(self, plans: Iterable[Plan]) -> int:
        """Returns the memory that embeddings and heads of plans take beside the model's own."""
        tail = self._decoder.tail.weight
        names = self._decoder.token_embedding_names
        table = self._decoder.embedding_weights()[names[0]] if names else tail
        held = dict[tuple[object, str], int]()
        for plan in plans:
            for end, scheme, kept in (
                ("embedding", plan.embedding, table), ("head", plan.head, tail)
            ):  # fmt: skip
                if scheme == FP:
                    continue
                own = self._ends.get((end, scheme), {}) if scheme.startswith("own:") else {}
                for tensor in own.values():
                    held[tensor.data_ptr(), scheme] = tensor.numel()
                if not own:
                    once = isinstance(parse_scheme(scheme), RoundToNearest)
                    held[kept.data_ptr() if once else end, scheme] = kept.numel()
        return torch.float32.itemsize * sum(held.values())

    def _end(self, kept: Tensor, scheme: str, stream: str) -> Tensor:
        """Returns a table rounded; one that serves both ends is, but for random schemes, one."""
        parsed = parse_scheme(scheme)
        if not isinstance(parsed, RoundToNearest):
            return _rounded(kept, parsed, stream)
        key = (kept.data_ptr(), parsed.name)
        if key not in self._tables:
            self._tables[key] = _rounded(kept, parsed, stream)
        return self._tables[key]

    def forget_ends(self) -> None:
        """Forgets rounded embeddings and heads; each may be as large as a model's blocks."""
        self._tables.clear()
        for key in [key for key in self._ends if not key[1].startswith("own:")]:
            del self._ends[key]

    def check(self, plan: Plan) -> None:
        """Raises :class:`PlanError` unless the plan fits the model."""
        if len(plan.blocks) != self._decoder.n_blocks:
            raise PlanError(
                f"the plan {plan.text!r} is for {len(plan.blocks)} blocks; this model has "
                f"{self._decoder.n_blocks}"
            )
        for index, variant in enumerate(plan.blocks):
            self._check_variant(index, variant)

    def _check_variant(self, index: int, variant: str) -> None:
        parsed = parse_variant(variant)
        if parsed.units:
            there = self._decoder.block_linears(index)
            for unit in parsed.units:
                if unit not in there:
                    raise PlanError(
                        f"block {index} has no matrix {unit!r}; it has {', '.join(there)}"
                    )
        for scheme, units in ((parsed.scheme, ()), *((s, (u,)) for u, s in parsed.units.items())):
            if not scheme.startswith("own:"):
                continue
            held = self._own.get((index, scheme))
            if held is None or any(unit not in held for unit in units):
                of = f"matrix {units[0]} of block {index}" if units else f"block {index}"
                raise PlanError(f"{of} has no variant {scheme!r}; add it to the bank first")

    def _variant_bytes(self, index: int, variant: str) -> int:
        """Returns the memory of what a variant does not share with the model's own block."""
        views = self._decoder.block_linears(index)
        if self._product_dtype is not None:
            rounded = list(views)  # and what stays whole is cast
        elif self._takes_all(variant):
            weights = self._decoder.block_weights(index).values()
            return max(1, sum(weight.numel() for weight in weights)) * torch.float32.itemsize
        else:
            schemes = self._schemes(index, variant)
            rounded = [name for name, scheme in schemes.items() if scheme != FP]
        size = sum(math.prod(views[name].shape) for name in rounded)
        return max(1, size) * (self._product_dtype or torch.float32).itemsize

    @staticmethod
    def _takes_all(variant: str) -> bool:
        parsed = parse_variant(variant)
        return not parsed.units and parse_scheme(parsed.scheme).scope == "all-weights"

    def _make_block(self, index: int, variant: str) -> nn.Module:
        # Whoever asks first may be in inference mode, and whoever comes next may want gradients.
        with torch.inference_mode(False), torch.no_grad():
            parsed = parse_variant(variant)
            if self._takes_all(variant):
                scheme = parse_scheme(parsed.scheme)
                weights = {
                    name: _rounded(weight, scheme, f"{index}.{name}")
                    for name, weight in self._decoder.block_weights(index).items()
                }
                module = self._decoder.clone_block(index, weights=weights)
            else:
                self._check_variant(index, variant)
                # What stays whole is shared with the model. One after another: an expert that is
                # set in its stack need not be held beside it.
                module = self._decoder.clone_block(
                    index, weights=self._own_others.get((index, parsed.scheme))
                )
                views = self._decoder.block_linears(index)
                for name, scheme in self._schemes(index, variant).items():
                    if scheme != FP:
                        views[name].set_on(module, self._matrix(index, name, scheme))
            if self._product_dtype is not None:
                cast_linears(module, self._product_dtype)
                module = self._fused(index, module)
        return module

    def _fused(self, index: int, module: nn.Module) -> nn.Module:
        table = self._decoder.tail.weight
        if self._product_dtype != torch.bfloat16 or table.device.type != "cpu" or not can_fuse():
            return module
        ids = torch.arange(16).view(2, 8) % len(table)
        state, context = self._decoder.embed(ids), self._decoder.context_for(2, 8)

        def change(block: nn.Module) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                return self._decoder.run_block(index, state, context, block) - state

        return fuse(module, change)

    def _make_room(self, n_bytes: int) -> None:
        """Forgets what was used longest ago, so that so much more is within the limit."""
        while self.limit_bytes and self._modules and self._held_bytes + n_bytes > self.limit_bytes:
            _, (_, freed) = self._modules.popitem(last=False)
            self._held_bytes -= freed


def _rounded(kept: Tensor, scheme: Scheme | str, stream: str) -> Tensor:
    """Returns a parameter rounded, in the type it is run in, with no cast of it whole."""
    return round_weight(kept, scheme, stream=stream, dtype=run_type(kept))


def _tensor(given: Given) -> Tensor:
    return given if isinstance(given, Tensor) else given()


def _numbers(tensor: Tensor) -> Any:
    """Returns a tensor's numbers in float32, as a hash takes them, without a copy if they are."""
    return tensor.detach().cpu().float().contiguous().view(-1).numpy()
