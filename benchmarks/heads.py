"""How fast and small the last product is by tiles, beside whole rows of logits, in one run.

The *rows* way is that of commit 118b718: logits of some tokens over the whole vocabulary in one
buffer of 16 MiB or at least 64 rows, exponential and sum over it, three visits for full precision.
Both ways do what an audit needs of the head: full precision once and one plan. They take turns, and
what is compared is the processor's time of one thread. ``python benchmarks/heads.py --json`` prints
a JSON line for each vocabulary with ``ratio_time`` and ``ratio_memory`` (tiles over rows; below 1
is better) and the mean difference in nats a token.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bitgap.lab.engine.head import TILE, Head, make_target, score_tokens

SHAPES = ((8_192, 256, 1_024), (49_152, 576, 256), (262_144, 640, 128))
"""Vocabulary, width and tokens: of the bundled model, SmolLM2-135M, Gemma 3 270M."""
ROUNDS = 3


class Rows:
    """The head of commit 118b718: a row of V floats for each token."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        rows = min(max(2**24 // (4 * len(weight)), 64), 1024)
        self.buffer = torch.empty(rows, len(weight))

    @property
    def n_bytes(self) -> int:
        """The buffer, and a log-sum-exp's copy of it."""
        return 2 * 4 * self.buffer.numel()

    def _logits(self, hidden: Tensor) -> Tensor:
        return torch.mm(hidden, self.weight.T, out=self.buffer[: len(hidden)])

    def full(self, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns log-sum-exp, NLL and m_t."""
        lse, nll = torch.empty(2, len(hidden))
        mean = torch.empty_like(hidden)
        for start in range(0, len(hidden), len(self.buffer)):
            rows = slice(start, start + len(self.buffer))
            z = self._logits(hidden[rows])
            lse[rows] = torch.logsumexp(z, -1)
            nll[rows] = lse[rows] - z.gather(1, tokens[rows, None])[:, 0]
            mean[rows] = z.sub_(lse[rows, None]).exp_() @ self.weight
        return lse, nll, mean

    def plan(self, hidden: Tensor) -> Tensor:
        """Returns the log-sum-exp of a plan's logits."""
        sums = torch.empty(len(hidden))
        few = max(1, 2**20 // (4 * len(self.weight)))
        for start in range(0, len(hidden), len(self.buffer)):
            rows = slice(start, start + len(self.buffer))
            parts = self._logits(hidden[rows]).split(few)
            for z, total in zip(parts, sums[rows].split(few), strict=True):
                torch.sum(z.exp_(), -1, out=total)
        return sums.log_()


def cpu_s(call: Callable[[], object]) -> float:
    """Returns the processor's seconds a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(vocabulary: int, width: int, n_tokens: int, dtype: torch.dtype) -> dict[str, float]:
    """Returns both ways' times, memory and their agreement, for one shape."""
    draw = torch.Generator().manual_seed(0)
    weight = (torch.randn(vocabulary, width, generator=draw) * 0.1).to(dtype)
    hidden = torch.randn(n_tokens, width, generator=draw)
    moved = hidden + 0.1 * torch.randn(n_tokens, width, generator=draw)
    tokens = torch.randint(vocabulary, (n_tokens,), generator=draw)
    rows, heads = Rows(weight.float()), {"fp": Head.prepared(weight, None, None, False)}
    scratch = torch.empty(512, min(TILE, vocabulary))

    def by_rows() -> tuple[Tensor, Tensor]:
        lse, _, mean = rows.full(hidden, tokens)
        mine = rows.plan(moved)
        chosen = rows.weight[tokens]
        kl = (mine - lse) - ((moved - hidden) * mean).sum(-1)
        return mine - (moved * chosen).sum(-1), kl

    def by_tiles() -> tuple[Tensor, Tensor]:
        target = make_target(heads, hidden, tokens, scratch)
        nll, kl = score_tokens(heads, "fp", moved[None], target, scratch)
        return nll[0], kl[0]

    difference = max(
        float((a.double() - b.double()).mean().abs())
        for a, b in zip(by_rows(), by_tiles(), strict=True)
    )
    times = [(cpu_s(by_rows), cpu_s(by_tiles)) for _ in range(ROUNDS)]
    rows_s, tiles_s = (min(t) for t in zip(*times, strict=True))
    return {
        "vocabulary": vocabulary,
        "width": width,
        "tokens": n_tokens,
        "rows_s": rows_s,
        "tiles_s": tiles_s,
        "ratio_time": tiles_s / rows_s,
        "ratio_memory": 2 * 4 * scratch.numel() / rows.n_bytes,
        "mean_difference_nats_per_token": difference,
    }


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON lines only")
    parser.add_argument("--bf16", action="store_true", help="heads in bfloat16, cast by tiles")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for shape in SHAPES:
            found = compare(*shape, torch.bfloat16 if options.bf16 else torch.float32)
            if not options.json:
                print(
                    f"{found['vocabulary']} x {found['width']}: {found['ratio_time']:.2f} of the "
                    f"time and {found['ratio_memory']:.3f} of the memory of whole rows",
                    file=sys.stderr,
                )
            print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
