"""Which matrices of a block may be rescaled against each other without changing its function.

Two kinds of freedom are found (method.md, A1 and T-001): a norm's gain against the linears that
alone read its output, and the rows of one linear against the columns of a later one that read
them linearly (value against output, gated up against down). Both are proved on the block itself
before they are returned: the scales are changed by powers of two and its output must stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from bitgap.errors import UnsupportedArchitecture
from bitgap.models.decoder import Decoder
from bitgap.models.weights import LinearView

_TOLERANCE = 1e-5
"""Largest change of a block's output, relative to its largest value, that is still rounding."""
_PROOF_SHAPE = (2, 7)

_OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj")
_STACKED = ("v_proj", "c_attn", "Wqkv", "qkv_proj")
"""Linears whose value rows are the last; what precedes them, if anything, are queries and keys."""
_INTERLEAVED = "query_key_value"
"""Rows are groups of some query heads, one key head and one value head."""
LINEAR_KINDS = {
    **{f"{kind}_proj": kind for kind in ("q", "k", "v", "o", "gate", "up", "down")},
    **dict.fromkeys(("c_fc", "fc1", "dense_h_to_4h"), "up"),
    **dict.fromkeys(("fc2", "dense_4h_to_h"), "down"),
    **dict.fromkeys(("out_proj", "dense"), "o"),
}
"""What a linear does, by the last part of its name; GPT-2's ``c_proj`` is told by its parent."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelPair:
    """Rows of one linear, and the columns of a later one that read them and nothing else.

    Multiplying row ``rows[c]`` (and its bias) by a factor and the columns ``columns[c]`` by its
    inverse leaves the function of the block unchanged, for every c by a factor of its own.

    Attributes:
        source: Name in its block of the linear that writes the channels.
        rows: Row of each channel, (C,).
        target: Name of the linear that reads them.
        columns: Columns that read each channel, (C x R); R > 1 where query heads share values.
    """

    source: str
    rows: NDArray[np.int64]
    target: str
    columns: NDArray[np.int64]


def norm_consumers(decoder: Decoder) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Returns for each block its norms' names with those of the linears that read their output.

    Found by one traced forward of a few random tokens, and proved. Left out are norms whose output
    anything else reads too (a residual, in post-norm models) or that no linear reads as it is
    (norms of queries and keys, norms after a linear).

    Args:
        decoder: The split model.
    """
    found = []
    with torch.no_grad():
        hidden = decoder.embed(_proof_ids(decoder))
        context = decoder.context_for(*hidden.shape[:2])
        for i in range(decoder.n_blocks):
            out, candidates = _traced(decoder, i, hidden)
            found.append(
                {
                    norm: linears
                    for norm, linears in candidates.items()
                    if _unchanged(out, _counterscaled(decoder, i, hidden, norm, linears))
                }
            )
            hidden = decoder.run_block(i, hidden, context)
    return tuple(found)


def gain_offset(norm: nn.Module) -> float:
    """Returns what a norm adds to its weight to have its gain: 0, or 1 as in Gemma.

    Args:
        norm: With a weight of one dimension.

    Raises:
        UnsupportedArchitecture: If the norm's output is not proportional to weight + 0 or 1.
    """
    zeros = {name: torch.zeros_like(p) for name, p in norm.named_parameters()}
    weight = zeros["weight"]
    probe = torch.linspace(-1, 1, len(weight) + 1, device=weight.device, dtype=weight.dtype)[1:]
    with torch.no_grad():
        at_0 = functional_call(norm, zeros, (probe,))
        step = functional_call(norm, {**zeros, "weight": torch.ones_like(weight)}, (probe,)) - at_0
    for offset in (0.0, 1.0):
        if torch.allclose(at_0, offset * step, rtol=1e-3, atol=0):
            return offset
    raise UnsupportedArchitecture(
        f"the gain of {type(norm).__name__} is neither its weight nor 1 + its weight, so it cannot "
        f"be told apart from the matrices after it; add its form to bitgap/models/roles.py"
    )


def value_output_pair(decoder: Decoder, i: int) -> ChannelPair | None:
    """Returns where the values of block i are written and where its output projection reads them.

    Values may have a linear of their own, be the last rows of a fused one (GPT-2, MPT, Phi-3), or
    be interleaved with queries and keys by head (GPT-NeoX, BLOOM, Falcon). Sizes follow from the
    shapes and the number of heads: of n_out rows and n_in columns of the output projection, keys
    and values have (n_out - n_in) / 2 each.

    Args:
        decoder: The split model.
        i: Number of the block.

    Returns:
        None if the layout is unknown, or something between the two is not linear.
    """
    if _clips_values(decoder.model.config):
        return None
    linears = decoder.block_matrices(i).linears
    for name, view in linears.items():
        parent, dot, leaf = name.rpartition(".")
        if leaf not in (*_STACKED, _INTERLEAVED):
            continue
        for output in (f"{parent}{dot}{end}" for end in _OUTPUTS):
            if output in linears:
                pair = _value_channels(decoder, view, linears[output])
                return pair if pair and _is_free(decoder, i, pair) else None
    return None


def up_down_pair(decoder: Decoder, i: int) -> ChannelPair | None:
    """Returns where a gated MLP's up channels are written and where they are read.

    Args:
        decoder: The split model.
        i: Number of the block.

    Returns:
        None if the MLP of block i is not gated, or its layout is unknown.
    """
    linears = decoder.block_matrices(i).linears
    for down, view in linears.items():
        parent, dot, leaf = down.rpartition(".")
        if leaf != "down_proj":
            continue
        n = view.shape[1]
        fused, up, gate = (f"{parent}{dot}{x}_proj" for x in ("gate_up", "up", "gate"))
        if fused in linears:
            pair = ChannelPair(fused, np.arange(n, 2 * n), down, np.arange(n)[:, None])
        elif up in linears and gate in linears:
            pair = ChannelPair(up, np.arange(n), down, np.arange(n)[:, None])
        else:
            continue
        return pair if _is_free(decoder, i, pair) else None
    return None


def rescaled_parameters(
    decoder: Decoder, i: int, pair: ChannelPair, factors: Tensor
) -> dict[str, Tensor]:
    """Returns the parameters of block i, as stored, with a pair's channels rescaled.

    Args:
        decoder: The split model; not written to.
        i: Number of the block.
        pair: One of its pairs.
        factors: What the columns of each channel are multiplied by, (C,), and its row divided by.

    Returns:
        New weight (and bias) of the source and new weight of the target, by their names in the
        block, as ``Decoder.clone_block`` takes them.
    """
    linears = decoder.block_linears(i)
    source, target = linears[pair.source], linears[pair.target]
    write, read = source.get().clone(), target.get().clone()
    rows, columns = torch.from_numpy(pair.rows), torch.from_numpy(pair.columns)
    factors = factors.to(write)
    write[rows] /= factors[:, None]
    read[:, columns] *= factors[:, None]
    changed = {
        f"{pair.source}.weight": write.T if source.transposed else write,
        f"{pair.target}.weight": read.T if target.transposed else read,
    }
    bias: Any = source.module.bias
    if bias is not None:
        new = bias.detach().clone()
        new[rows] /= factors
        changed[f"{pair.source}.bias"] = new
    return changed


# -- norms ---------------------------------------------------------------------------------------


def _traced(decoder: Decoder, i: int, hidden: Tensor) -> tuple[Tensor, dict[str, tuple[str, ...]]]:
    """Returns the state after block i, and which linears were given a norm's very output."""
    block, context = decoder.clone_block(i), decoder.context_for(*hidden.shape[:2])
    # Both are kept to the end, so that no memory is used twice and an address means one tensor.
    written: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    with _hooks() as hooks:
        for name, norm in _norms(block).items():
            hook = _keep_output(written, name)
            hooks.append(norm.register_forward_hook(hook))
        for name in decoder.block_matrices(i).linears:
            hook = _keep_input(read, name)
            hooks.append(block.get_submodule(name).register_forward_pre_hook(hook))
        out = decoder.run_block(i, hidden, context, block)
    consumers = {
        norm: tuple(name for name, given in read.items() if _same(given, made))
        for norm, made in written.items()
    }
    return out, {norm: linears for norm, linears in consumers.items() if linears}


def _counterscaled(
    decoder: Decoder, i: int, hidden: Tensor, norm: str, linears: tuple[str, ...]
) -> Tensor:
    """Returns the state after block i with a norm's output doubled and its readers' input halved.

    It is the state without either, if and only if nothing else reads the norm.
    """
    block, context = decoder.clone_block(i), decoder.context_for(*hidden.shape[:2])
    with _hooks() as hooks:
        module = block.get_submodule(norm)
        hooks.append(module.register_forward_hook(_doubled))
        for name in linears:
            module = block.get_submodule(name)
            hooks.append(module.register_forward_pre_hook(lambda _module, args: (args[0] / 2,)))
        return decoder.run_block(i, hidden, context, block)


def _doubled(_module: nn.Module, _args: Any, out: Tensor) -> Tensor:
    return out * 2


def _norms(block: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in block.named_modules()
        if type(module).__name__.endswith("Norm")
        and isinstance(weight := getattr(module, "weight", None), Tensor)
        and weight.ndim == 1
    }


def _keep_output(kept: dict[str, Tensor], name: str) -> Any:
    def hook(_module: nn.Module, _args: Any, out: Tensor) -> None:
        kept[name] = out

    return hook


def _keep_input(kept: dict[str, Tensor], name: str) -> Any:
    def hook(_module: nn.Module, args: Any) -> None:
        kept[name] = args[0]

    return hook


def _same(a: Tensor, b: Tensor) -> bool:
    # Some blocks flatten batch and time before a linear, which makes a view of the same numbers.
    return a.data_ptr() == b.data_ptr() and a.numel() == b.numel() and a.shape[-1] == b.shape[-1]


@contextmanager
def _hooks() -> Iterator[list[Any]]:
    hooks: list[Any] = []
    try:
        yield hooks
    finally:
        for hook in hooks:
            hook.remove()


# -- channels ------------------------------------------------------------------------------------


def matrix_parts(decoder: Decoder, i: int) -> dict[str, tuple[str, NDArray[np.int64]]]:
    """Returns the matrices of block i by what they do, fused ones split.

    Args:
        decoder: The split model.
        i: Number of the block.

    Returns:
        By kind (``q``, ``k``, ``v``, ``o``, ``gate``, ``up``, ``down``) the linear's name and the
        rows of it that do this. A linear whose part is not known is a kind of its own, by its name.
    """
    parts: dict[str, tuple[str, NDArray[np.int64]]] = {}
    linears = decoder.block_linears(i)
    for name, view in linears.items():
        parent, dot, leaf = name.rpartition(".")
        rows = np.arange(view.shape[0])
        targets = [linears[o] for end in _OUTPUTS if (o := f"{parent}{dot}{end}") in linears]
        split = _split_rows(decoder, view, targets[0]) if targets else None
        if leaf == "gate_up_proj":
            split = {"gate": rows[: len(rows) // 2], "up": rows[len(rows) // 2 :]}
        if leaf == "c_proj":
            kind = "o" if "attn" in parent else "down"
        else:
            kind = LINEAR_KINDS.get(leaf, name)
        # Experts share their names' ends; each is then a kind of its own.
        for key, mine in (split or {kind: rows}).items():
            parts[key if key not in parts else f"{key} of {name}"] = (name, mine)
    return parts


def _split_rows(
    decoder: Decoder, source: LinearView, target: LinearView
) -> dict[str, NDArray[np.int64]] | None:
    """Returns the rows of queries, keys and values in a linear that holds all three, or None."""
    leaf = source.name.rpartition(".")[-1]
    if leaf == "v_proj" or leaf not in (*_STACKED, _INTERLEAVED):
        return None
    pair = _value_channels(decoder, source, target)
    if pair is None:
        return None
    n_out, n_channels = source.shape[0], len(pair.rows)
    if leaf == _INTERLEAVED:
        n_groups, repeats = n_channels // _head_size(decoder, target), pair.columns.shape[1]
        heads = np.arange(n_out).reshape(n_groups, repeats + 2, -1)
        return {"q": heads[:, :-2].ravel(), "k": heads[:, -2].ravel(), "v": pair.rows}
    rows = np.arange(n_out)
    return {"q": rows[: -2 * n_channels], "k": rows[-2 * n_channels : -n_channels], "v": pair.rows}


def _head_size(decoder: Decoder, target: LinearView) -> int:
    config: Any = decoder.model.config
    return target.shape[1] // config.get_text_config().num_attention_heads


def _value_channels(decoder: Decoder, source: LinearView, target: LinearView) -> ChannelPair | None:
    n_out, n_in = source.shape[0], target.shape[1]
    size = _head_size(decoder, target)
    leaf = source.name.rpartition(".")[-1]
    n_channels = n_out if leaf == "v_proj" else (n_out - n_in) // 2
    n_groups = n_channels // size
    if n_groups < 1 or n_channels % size or n_in % n_channels:
        return None
    repeats = n_in // n_channels
    if leaf == _INTERLEAVED:
        heads = np.arange(n_out).reshape(n_groups, repeats + 2, size)
        rows = heads[:, -1].ravel()
    else:
        rows = np.arange(n_out - n_channels, n_out)
    columns = np.arange(n_in).reshape(n_groups, repeats, size).swapaxes(1, 2)
    return ChannelPair(source.name, rows, target.name, columns.reshape(n_channels, repeats))


def _clips_values(config: Any) -> bool:
    # A clamp is invisible to a proof on inputs that do not reach it.
    parts: tuple[Any, ...] = (config, getattr(config, "attn_config", None))
    return any(getattr(part, "clip_qkv", None) for part in parts)


def _is_free(decoder: Decoder, i: int, pair: ChannelPair) -> bool:
    """Whether every channel can be rescaled by a factor of its own; costs two block forwards."""
    generator = torch.Generator().manual_seed(i)
    powers = torch.randint(-2, 3, (len(pair.rows),), generator=generator)
    with torch.no_grad():
        hidden = decoder.embed(_proof_ids(decoder))
        context = decoder.context_for(*hidden.shape[:2])
        changed = rescaled_parameters(decoder, i, pair, 2.0**powers)
        clone = decoder.clone_block(i, changed)
        before = decoder.run_block(i, hidden, context)
        return _unchanged(before, decoder.run_block(i, hidden, context, clone))


def _unchanged(before: Tensor, after: Tensor) -> bool:
    return bool((after - before).abs().max() <= _TOLERANCE * before.abs().max())


def _proof_ids(decoder: Decoder) -> Tensor:
    model: Any = decoder.model
    table = model.get_input_embeddings()
    rows, length = _PROOF_SHAPE
    shape = (rows, min(length, decoder.context or length))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(decoder.vocabulary, len(table.weight)), shape, generator=generator)
    return ids.to(table.weight.device)
