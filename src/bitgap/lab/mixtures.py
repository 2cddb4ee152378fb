"""What a damage of this model does not cover: matrices left whole, and experts no token reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitgap.lab.bench import Bench
from bitgap.lab.engine.arithmetic import products
from bitgap.models.decoder import Decoder
from bitgap.records import Integers

_UNSAID = ("gain", "bias")
"""What no scheme of bitgap's rounds in any model, so that it need not be said of this one."""
_MANY = {"convolution": "convolutions", "router": "routers", "table": "tables"}
_SOME = 8


def caveats_of_model(bench: Bench) -> tuple[str, ...]:
    """Returns what is to be told beside damages of a model, a sentence each; nothing for most.

    Args:
        bench: Model and text. One pass over the text is made where the model has experts.
    """
    whole = Counter(
        why
        for i in range(bench.n_blocks)
        for why in bench.decoder.block_matrices(i).whole.values()
        if why not in _UNSAID
    )
    told = list[str]()
    if whole:
        listed = ", ".join(
            f"{n} {_MANY.get(why, 'parameters that are in no matrix product')}"
            for why, n in sorted(whole.items())
        )
        told.append(f"Left whole, as they are no linears or choose experts: {listed}.")
    if reached := bench.once("reached", lambda: reached_experts(bench)):
        told.append(_unreached(reached))
    return tuple(told)


def _unreached(reached: Mapping[tuple[int, str], Integers]) -> str:
    n = sum(len(counts) for counts in reached.values())
    none = [
        f"L{block} expert {expert}"
        for (block, _), counts in sorted(reached.items())
        for expert in np.flatnonzero(counts == 0)
    ]
    if not none:
        return f"Each of the {n} experts was reached by some token of this text."
    listed = ", ".join(none[:_SOME]) + (" …" if len(none) > _SOME else "")
    return (
        f"Of {n} experts {len(none)} were reached by no token of this text ({listed}): they are "
        f"rounded like the others, and what that does is not in these numbers."
    )


@torch.inference_mode()
def reached_experts(bench: Bench) -> dict[tuple[int, str], Integers]:
    """Returns how many tokens each expert was given, in full precision.

    Args:
        bench: Model and text.

    Returns:
        By block and name of the mixture, counts of real tokens by expert, (E); mixtures whose
        modules are not told which expert a token goes to are left out.
    """
    decoder = bench.decoder
    if not any(decoder.block_matrices(i).experts for i in range(decoder.n_blocks)):
        return {}
    counts: dict[tuple[int, str], Integers] = {}
    with _counting(decoder, counts) as count:
        for chunk in bench.chunks:
            bench.ledger.asked(chunk.n_rows, bench.n_blocks, 0)
            column = torch.arange(chunk.shape[1])[None, :]
            count.real = (column < torch.from_numpy(chunk.lengths)[:, None]).flatten()
            with products(bench.settings.arithmetic, bench.settings.device):
                state = decoder.embed(chunk.input_ids)
                context = decoder.context_for(*chunk.shape)
                for block in range(decoder.n_blocks):
                    state = decoder.run_block(block, state, context)
            bench.ledger.ran(chunk.n_rows * bench.n_blocks)
    return counts


class _Count:
    """Which tokens of the batch in hand are real, (B·S)."""

    real: Tensor


@contextmanager
def _counting(decoder: Decoder, counts: dict[tuple[int, str], Integers]) -> Iterator[_Count]:
    """Counts into ``counts`` what experts are given, while the model's own blocks run."""
    batch = _Count()

    def stack(key: tuple[int, str], n: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            given = (*args, *kwargs.values())
            chosen = next((a for a in given if isinstance(a, Tensor) and _is_choice(a)), None)
            if chosen is None or chosen.shape[0] != len(batch.real):
                return
            real = chosen[batch.real.to(chosen.device)].flatten()
            mine = torch.bincount(real[real < n], minlength=n).cpu().numpy()
            counts[key] = counts.get(key, np.zeros(n, dtype=np.int64)) + mine

        return hook

    hooks = [
        block.get_submodule(path).register_forward_pre_hook(stack((i, path), n), with_kwargs=True)
        for i, block in enumerate(decoder.blocks)
        for path, n in decoder.block_matrices(i).experts.items()
        if not isinstance(block.get_submodule(path), nn.ModuleList)
    ]
    try:
        yield batch
    finally:
        for hook in hooks:
            hook.remove()


def _is_choice(value: Tensor) -> bool:
    """Whether a tensor says for each token which experts it goes to, (tokens x chosen)."""
    return value.ndim == 2 and not value.is_floating_point() and value.dtype != torch.bool
