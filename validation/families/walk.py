"""Walks the classes in processes of their own, so that none can hang or fill the machine."""

# transformers' classes come without types.
# pyright: basic

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TOLERANCE_NATS = 1e-4
"""Largest difference a token, in nats, at which a class counts as measured."""
_SECONDS, _BYTES, _BATCH = 40, 8 * 2**30, 64


@dataclass(frozen=True)
class Outcome:
    """What became of one class.

    Attributes:
        name: Of the class.
        state: ``measured``, ``off`` (split, and its logits differ), ``refused`` or ``not built``.
        why: Where it is not measured, the reason.
        off_nats: Largest difference of log-probabilities from the model's own, in nats a token.
        blocks: Classes of its blocks.
        n_matrices: Matrices that are rounded, in all blocks of the tiny model.
        experts: Experts of a layer.
        whole: What is left whole, by reason.
        kept: What its state holds beside one tensor of the model's width: columns a token.
        replay: Whether what follows its blocks is run by its own code.
    """

    name: str
    state: str
    why: str = ""
    off_nats: float = 0.0
    blocks: tuple[str, ...] = ()
    n_matrices: int = 0
    experts: int = 0
    whole: dict[str, list[str]] = field(default_factory=dict)
    kept: int = 0
    replay: bool = False


def walk(
    names: Sequence[str], told: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """Returns what becomes of each class, in the order given.

    Args:
        names: Of the classes.
        told: Called with each outcome as it is known.
    """
    done: dict[str, Outcome] = {}
    left = list(names)
    while left:
        for outcome in _batch(left[:_BATCH]):
            done[outcome.name] = outcome
            told(outcome)
        if left[0] not in done:
            # The process went down with the first class it had not told of.
            done[left[0]] = Outcome(
                left[0], "not built", f"took over {_SECONDS} s or {_BYTES >> 30} GiB"
            )
            told(done[left[0]])
        left = [name for name in names if name not in done]
    return [done[name] for name in names]


def _batch(names: Sequence[str]) -> Iterator[Outcome]:
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "validation.families.walk", *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **settings},
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if line.startswith("{"):
                told = json.loads(line)
                yield Outcome(**{**told, "blocks": tuple(told["blocks"])})


def examine(name: str) -> Outcome:
    """Returns what becomes of one class, in this process."""
    import torch

    from bitgap.errors import BitgapError
    from bitgap.models.decoder import Decoder
    from bitgap.models.observe import own_logits, probe_ids
    from validation.families.tiny import tiny_model

    try:
        model: Any = tiny_model(name)
    except Exception as error:  # whatever a config or a class raises
        return Outcome(name, "not built", _line(error))
    try:
        decoder = Decoder.from_model(model)
    except BitgapError as error:
        return Outcome(name, "refused", _line(error))
    ids = probe_ids(model, 2, 13, seed=7)
    with torch.inference_mode():
        mine, own = decoder.logits(ids), own_logits(model, ids)
        off = float((mine.log_softmax(-1) - own.log_softmax(-1)).abs().max())
    matrices = [decoder.block_matrices(i) for i in range(decoder.n_blocks)]
    whole: dict[str, set[str]] = {}
    for block in matrices:
        for key, why in block.whole.items():
            whole.setdefault(why, set()).add(key)
    return Outcome(
        name,
        "measured" if off <= TOLERANCE_NATS else "off",
        off_nats=off,
        blocks=tuple(sorted({type(block).__name__ for block in decoder.blocks})),
        n_matrices=sum(len(block.views) for block in matrices),
        experts=max((n for block in matrices for n in block.experts.values()), default=0),
        whole={why: sorted(keys) for why, keys in sorted(whole.items())},
        kept=decoder.state_width - decoder.width,
        replay=decoder.family.replay,
    )


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _main(names: Sequence[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    import torch

    torch.set_num_threads(1)
    for name in names:
        # Nothing in a tiny model takes long; what does ends the process, and the walk goes on.
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        try:
            outcome = examine(name)
        except Exception as error:  # a traceback of ours is a finding of the walk
            outcome = Outcome(name, "failed", f"{type(error).__name__}: {_line(error)}")
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
