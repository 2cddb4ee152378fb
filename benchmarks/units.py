"""A map of all matrices beside the limit that matrix products set it, in one run.

Each matrix of the model is rounded alone, and all languages are scored: plans share what comes
before their first rounded block, so that L blocks of u matrices take u·L(L+1)/2 blocks and u·L
heads. The *limit* is those products alone, of real tokens and without padding, at the best rate
that this machine shows for their shapes just before and just after. Both are the processor's time
of one thread, as the clock of a shared machine says little. Damages are thrown away.

``python benchmarks/units.py MODEL CORPUS --languages en,he --sentences 2`` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable

import torch

from bitgap.corpora.parallel import load_corpus
from bitgap.disparity.unit_map import unit_plans
from bitgap.lab.engine.budget import tune_heap
from bitgap.lab.engine.tree import PlanTree
from bitgap.lab.lab import Lab
from bitgap.models.load import load_model

SCHEME = "rtn3-g128"
_REPEATS = 5


def processor_s(call: Callable[[], object]) -> float:
    """Returns the processor seconds a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def best_rate(rows: int, shapes: list[tuple[int, int]]) -> float:
    """Returns the best FLOP/s of products of so many rows with matrices of these shapes."""
    seconds = 0.0
    for n_out, n_in in shapes:
        x, w = torch.randn(rows, n_in), torch.randn(n_out, n_in)
        out = torch.empty(rows, n_out)

        def product(x: torch.Tensor = x, w: torch.Tensor = w, out: torch.Tensor = out) -> object:
            return torch.mm(x, w.T, out=out)

        seconds += min(processor_s(product) for _ in range(_REPEATS))
    return sum(2 * rows * a * b for a, b in shapes) / seconds


def rates_of(lab: Lab) -> tuple[float, float]:
    """Returns the best FLOP/s of a block's products, and of a tile of the head."""
    shapes = [view.shape for view in lab.decoder.block_linears(0).values()]
    rows = max(chunk.n_rows for chunk in lab.chunks)
    width = lab.decoder.tail.weight.shape[1]
    layout = lab.engine.layout
    return best_rate(rows, shapes), best_rate(
        layout.head_rows, [(lab.engine.tile_width, width)] * 4
    )


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--languages", default=None)
    parser.add_argument("--sentences", type=int, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    text = load_corpus(asked.corpus, languages=asked.languages)
    numbers = range(asked.sentences or text.n_sentences)
    lab = Lab.of(load_model(asked.model), text.select(None, numbers))
    tune_heap()
    plans = unit_plans(SCHEME, lab.n_blocks, lab.units())
    before = rates_of(lab)
    lab.score(plans[:1])  # full precision and its floor, which are no part of the map
    took_s = processor_s(lambda: lab.score(plans))
    block_rate, head_rate = (max(pair) for pair in zip(before, rates_of(lab), strict=True))
    weights = sum(math.prod(v.shape) for v in lab.decoder.block_linears(0).values())
    real = sum(int(chunk.lengths.sum()) for chunk in lab.chunks)
    scored = sum(len(chunk.targets) for chunk in lab.chunks)
    n_evaluations = PlanTree(plans[1:]).work().block_evaluations
    block_s = n_evaluations * real * 2 * weights / block_rate
    head_s = (len(plans) - 1) * scored * 2 * lab.decoder.tail.weight.numel() / head_rate
    result = {
        "units": len(plans),
        "block_evaluations": n_evaluations,
        "tokens": real,
        "gflops_block": block_rate / 1e9,
        "gflops_head": head_rate / 1e9,
        "limit_s": block_s + head_s,
        "took_s": took_s,
        "ratio_limit": took_s / (block_s + head_s),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
