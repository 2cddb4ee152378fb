"""A real quantized checkpoint against the model it was made from: its weights as one plan.

Every parameter of the model takes the file's value: matrices of blocks, what else differs in a
block (AWQ and its like fold scales into norms), the embedding and the head. What the file leaves
out is the model's own only where it is tied. What a plan cannot say, such as another final norm, is
refused rather than left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.checkpoint import Checkpoint, Unit, times
from bitgap.models.stored import stored
from bitgap.quant.bank import Given
from bitgap.quant.plan import Plan

if TYPE_CHECKING:
    from bitgap.lab.bench import Bench
    from bitgap.models.decoder import Decoder

_NOT_IN_A_NAME = re.compile("[^A-Za-z0-9_.-]+")


def plan_of_checkpoint(bench: Bench, checkpoint: Checkpoint) -> Plan:
    """Puts a checkpoint's dequantized weights into a bench's bank, as a plan of every block.

    Args:
        bench: A lab, or its like, of the model in full precision.
        checkpoint: As :func:`bitgap.formats.open.open_checkpoint` gives it.

    Returns:
        The plan under which the model has the checkpoint's weights. Its text carries a digest of
        them, so that stored scores are never taken for those of another file.

    Raises:
        ModelError: If the checkpoint is of another model (the message names the first tensor that
            does not fit), or changes a parameter that no plan can change.
    """
    decoder = bench.decoder
    found = {unit.name: unit for unit in (*checkpoint.units, *checkpoint.whole)}
    named = dict(decoder.model.named_parameters(remove_duplicate=False))
    _check_fit(checkpoint, found, named, decoder)
    # In float32 a file may be eight times its size: beyond the bank's memory it is read by blocks.
    limit, numbers = bench.bank.limit_bytes, sum(
        math.prod(view.shape)
        for i in range(decoder.n_blocks)
        for view in decoder.block_linears(i).values()
    )  # fmt: skip
    holds = limit is None or torch.float32.itemsize * numbers <= limit
    weights: dict[int, dict[str, Given]] = {}
    others: dict[int, dict[str, Tensor]] = {}
    taken: set[str] = set()
    for i in range(decoder.n_blocks):
        root = f"{decoder.family.blocks}.{i}."
        views = decoder.block_linears(i)
        readers = {
            name: partial(_weight, found[f"{root}{name}.weight"], decoder.tail.weight.device)
            for name in views
        }
        weights[i] = {name: read() if holds else read for name, read in readers.items()}
        taken |= {f"{root}{name}.weight" for name in views}
        inner = {name for name, _ in decoder.blocks[i].named_parameters()}
        plain = inner - {f"{name}.weight" for name in views}
        others[i] = _changed(root, plain, found, decoder)
        taken |= {f"{root}{name}" for name in plain}
    base = f"{decoder.family.base}."
    tables = _changed(base, set(decoder.embedding_weights()), found, decoder)
    taken |= {f"{base}{name}" for name in decoder.embedding_weights()}
    head = _head(decoder, found, tables)
    taken.add(f"{decoder.family.head}.weight")
    for name in sorted(found.keys() - taken):
        own = named[name].detach()
        if not _is_own(_weight(found[name], own.device), own):
            raise ModelError(
                f"{checkpoint.name} changes {name}, which is outside blocks, embedding and "
                f"head and cannot be part of a plan; audit the file by itself"
            )
    label = _NOT_IN_A_NAME.sub("-", checkpoint.name).strip("-") or "file"
    scheme = bench.bank.add(label, weights, others, embedding=tables, head=head)
    return Plan(
        (scheme,) * decoder.n_blocks,
        embedding=scheme if tables else "fp",
        head=scheme if head is not None else "fp",
    )


def check_scales(bench: Bench, checkpoint: Checkpoint, plan: Plan) -> None:
    """Refuses a file whose matrices work only together, before one of them is put in alone.

    Toolchains such as AWQ scale the columns of a matrix up and what comes before it down: the block
    computes the same, but one matrix without the others is no part of any model. Rounding leaves
    norms, and directions at their size; so a norm that changed by more than a stored type's
    rounding, or rows or columns off their size by a factor of √2 in a tenth of them, tell.

    Args:
        bench: Whose bank holds the file.
        checkpoint: The file.
        plan: Of :func:`plan_of_checkpoint`.

    Raises:
        ModelError: If matrices are rescaled; the message names the first.
    """
    decoder, bank = bench.decoder, bench.bank
    for i, scheme in enumerate(plan.blocks):
        own = dict(decoder.blocks[i].named_parameters())
        for name, value in bank.own_others(i, scheme).items():
            was = own[name].detach().float()
            if (value.float() - was).norm() > _NORM_ROUNDING * was.norm():
                raise _works_together(checkpoint, i, name)
        rounded = bank.rounded_linears(i, scheme)
        for name, view in decoder.block_linears(i).items():
            was, now = view.get().float(), rounded[name].float()
            if any(_share_rescaled(was, now, axis) > _SHARE_RESCALED for axis in (0, 1)):
                raise _works_together(checkpoint, i, name)


_NORM_ROUNDING = 2.0**-6
"""Relative change of a norm or bias up to which it is a stored type's rounding."""
_SHARE_RESCALED = 0.1
_SAME_DIRECTION = 0.9


def _share_rescaled(was: Tensor, now: Tensor, axis: int) -> float:
    """Returns the share of rows or columns whose best scale onto the model's own is off by √2.

    Rounding to very few bits shrinks too, as most weights become 0, but then little of the
    direction is left; it never makes a row larger.
    """
    tiny = torch.finfo(torch.float32).tiny
    power, product = was.square().sum(axis), (was * now).sum(axis)
    scale = product / power.clamp_min(tiny)
    cosine = product / (power * now.square().sum(axis)).clamp_min(tiny).sqrt()
    told = power > 1e-6 * power.mean()
    off = (scale > 2**0.5) | ((scale < 0.5**0.5) & (cosine > _SAME_DIRECTION))
    return float((off & told).sum() / told.sum().clamp_min(1))


def _works_together(checkpoint: Checkpoint, block: int, name: str) -> ModelError:
    return ModelError(
        f"{checkpoint.name}: {name} of block {block} is rescaled, as AWQ and its like do, so "
        f"that a matrix works with the others of its block only; map blocks: leave out --units"
    )


def _check_fit(
    checkpoint: Checkpoint,
    found: Mapping[str, Unit],
    named: Mapping[str, Tensor],
    decoder: Decoder,
) -> None:
    matrices = {
        f"{decoder.family.blocks}.{i}.{name}.weight": view.shape
        for i in range(decoder.n_blocks)
        for name, view in decoder.block_linears(i).items()
    }
    what = f"{checkpoint.name} is no checkpoint of this model"
    for name, unit in found.items():
        if name not in named:
            raise ModelError(f"{what}: it has {name}, which the model does not")
        shape = matrices.get(name, tuple(named[name].shape))
        if unit.shape != shape:
            raise ModelError(
                f"{what}: {name} is {times(unit.shape)} in the file and {times(shape)} in the model"
            )
    for name in matrices:
        if name not in found:
            raise ModelError(f"{what}, or incomplete: it lacks {name}")


def _weight(unit: Unit, device: torch.device) -> Tensor:
    return unit.weight().to(device)


def _is_own(value: Tensor, own: Tensor) -> bool:
    """Whether the file has a parameter's own numbers; a cast of it is made of some rows at a time.

    Args:
        value: The file's.
        own: The model's, as stored.
    """
    if value.shape != own.shape or value.ndim == 0:
        return torch.equal(value, own.float())
    rows = max(1, _ROWS_NUMBERS * len(own) // max(own.numel(), 1))
    parts = zip(value.split(rows), own.split(rows), strict=True)
    return all(torch.equal(mine, its.float()) for mine, its in parts)


_ROWS_NUMBERS = 2**20


def _changed(
    root: str, names: set[str], found: Mapping[str, Unit], decoder: Decoder
) -> dict[str, Tensor]:
    """Returns what differs from the model among parameters below ``root``, by their names there."""
    changed: dict[str, Tensor] = {}
    for name in sorted(names):
        if (unit := found.get(f"{root}{name}")) is None:
            continue
        own = stored(decoder.model, f"{root}{name}")
        value = _weight(unit, own.device)
        if not _is_own(value, own):
            changed[name] = value
    return changed


def _head(
    decoder: Decoder, found: Mapping[str, Unit], tables: Mapping[str, Tensor]
) -> Tensor | None:
    """Returns the file's head if it differs: of a tied model its embedding, used a second time.

    Args:
        decoder: The model.
        found: The file's tensors.
        tables: Embeddings of the file that differ from the model's.
    """
    own = decoder.tail.weight.detach()
    model: Any = decoder.model
    unit = found.get(f"{decoder.family.head}.weight")
    if unit is None:
        names = {name: f"{decoder.family.base}.{name}" for name in decoder.token_embedding_names}
        tied = [n for n, at in names.items() if at in found and found[at].shape == tuple(own.shape)]
        if not tied or not model.config.get_text_config().tie_word_embeddings:
            return None
        return tables.get(tied[0])
    value = _weight(unit, own.device)
    return None if _is_own(value, own) else value
