"""How fast all 4,096 masks of the reference model are scored, against three yardsticks in one run.

* the *origin's loop*: restore the state dict, round again, one float32 forward per sentence;
* a careful *plain loop* in the same arithmetic as the engine: every block rounded once, variants
  swapped by reference, text batched as the engine batches it, full-precision log-probabilities
  kept; KL by log-softmax;
* the *limit*: the engine's own matrix products at the best rate this machine showed for them.

The loops run 16 masks, spread evenly over the 4,096, and are scaled. The three are interleaved so
that a busy moment falls on all. ``python benchmarks/sweep.py --json`` prints one JSON object that
ends with ``ratio_origin, ratio_plain, ratio_limit, total_s``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from bitgap.corpora.parallel import load_corpus
from bitgap.lab.engine.arithmetic import float32_results, products
from bitgap.lab.engine.budget import tune_heap
from bitgap.lab.engine.tree import PlanTree
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.models.load import load_model
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.rounding import round_weight
from bitgap.quant.schemes import parse_scheme

LANGUAGES = "en,de,fr,ru,zh,he,ar,fi"
SENTENCES = 16
SCHEME = "rtn4-g128"
SAMPLED = 16


def make_lab(arithmetic: str) -> Lab:
    """Returns the reference model on 8 languages x 16 sentences."""
    corpus = load_corpus(languages=LANGUAGES).select(None, range(SENTENCES))
    return Lab.of(load_model(None), corpus, settings=Settings(arithmetic=arithmetic))


def sampled_plans(n_blocks: int) -> list[Plan]:
    """Returns masks spread evenly over all, as many layers protected as not on average."""
    step = 2**n_blocks // SAMPLED
    return list(mask_plans(SCHEME, n_blocks, range(step // 2 - 1, 2**n_blocks, step)))


def part_of_masks(n_blocks: int, n: int) -> list[Plan]:
    """Returns n masks, a power of two, that share prefixes as all masks do."""
    return list(mask_plans(SCHEME, n_blocks, range(0, 2**n_blocks, 2**n_blocks // n)))


def origin_mask(lab: Lab, plan: Plan, saved: dict) -> float:
    """Scores one mask as the origin did; returns the NLL so that nothing is optimised away."""
    model, scheme = lab.loaded.model, parse_scheme(SCHEME)
    model.load_state_dict(saved)
    for block, name in enumerate(plan.blocks):
        if name != "fp":
            for key, view in lab.decoder.block_linears(block).items():
                rounded = round_weight(view.get(), scheme, stream=key)
                view.get().copy_(rounded)
    total = 0.0
    for language in lab.text.ids:
        for ids in language:
            tokens = torch.tensor([ids])
            total += float(model(input_ids=tokens, labels=tokens, use_cache=False).loss)
    model.load_state_dict(saved)
    return total


class PlainLoop:
    """The careful plain loop: nothing wasted, nothing shared."""

    def __init__(self, lab: Lab, plans: list[Plan]) -> None:
        self.lab, self.decoder = lab, lab.decoder
        for plan in plans:
            for block, name in enumerate(plan.blocks):
                lab.bank.block(block, name)
        self.full = [F.log_softmax(self._logits(c, ["fp"] * lab.n_blocks), -1) for c in lab.chunks]

    def _logits(self, chunk, blocks):
        state = self.decoder.embed(chunk.input_ids)
        context = self.decoder.context_for(*chunk.shape)
        for i, name in enumerate(blocks):
            state = self.decoder.run_block(i, state, context, self.lab.bank.block(i, name))
        with float32_results():
            return self.decoder.tail.logits(state.flatten(0, 1)[chunk.positions])

    def score(self, plan: Plan) -> torch.Tensor:
        """Returns (NLL, KL) sums by sequence."""
        sums = torch.zeros(2, self.lab.text.counts.tokens.size, dtype=torch.float64)
        for chunk, full in zip(self.lab.chunks, self.full, strict=True):
            q = F.log_softmax(self._logits(chunk, plan.blocks), -1)
            nll = -q.gather(1, chunk.targets[:, None])[:, 0]
            kl = F.kl_div(q, full, reduction="none", log_target=True).sum(-1)
            sums[0].index_add_(0, chunk.owners, nll.double())
            sums[1].index_add_(0, chunk.owners, kl.double())
        return sums


def timed(call: Callable[[], object]) -> float:
    """Returns the seconds a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def product_rates(lab: Lab) -> dict[str, float]:
    """Returns the best FLOP/s of the block's products (mean over its linears) and of the head."""
    shapes = [view.get().shape for view in lab.decoder.block_linears(0).values()]
    head = lab.decoder.tail.weight.shape
    layout = lab.engine.layout

    def best(n_rows: int, n_out: int, n_in: int, dtype: torch.dtype) -> float:
        x, w = torch.randn(n_rows, n_in).to(dtype), torch.randn(n_out, n_in).to(dtype)
        out = torch.empty(n_rows, n_out, dtype=dtype)
        return min(timed(lambda: torch.mm(x, w.T, out=out)) for _ in range(8))

    n = layout.chunk_rows * layout.workers
    inside = torch.bfloat16 if lab.engine.rounds else torch.float32
    block_s = sum(best(n, *shape, inside) for shape in shapes)
    flop = sum(2 * n * a * b for a, b in shapes)
    n = layout.head_rows * layout.workers
    head_s = best(n, *head, torch.float32)
    return {"block": flop / block_s, "head": 2 * n * head[0] * head[1] / head_s}


def limit_seconds(lab: Lab, rates: dict[str, float], plans: list[Plan]) -> float:
    """Returns how long the engine's own products take at those rates, with nothing else."""
    weights = sum(v.get().numel() for v in lab.decoder.block_linears(0).values())
    real = sum(int(c.lengths.sum()) for c in lab.chunks)
    scored = sum(len(c.targets) for c in lab.chunks)
    blocks = PlanTree(plans).work().block_evaluations * real * 2 * weights
    heads = len(plans) * scored * 2 * lab.decoder.tail.weight.numel()
    return blocks / rates["block"] + heads / rates["head"]


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--arithmetic", choices=("exact", "fast"), default="fast")
    parser.add_argument("--masks", type=int, default=None, help="score only this many masks")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    tune_heap()
    lab = make_lab(options.arithmetic)
    n_masks = options.masks or 2**lab.n_blocks
    plans = part_of_masks(lab.n_blocks, n_masks)
    sampled = sampled_plans(lab.n_blocks)
    saved = {key: value.clone() for key, value in lab.loaded.model.state_dict().items()}
    origin, plain = [], []
    with torch.inference_mode(), products(options.arithmetic):
        rates = product_rates(lab)
        loop = PlainLoop(lab, sampled)
        loop.score(sampled[0])
        plain += [timed(lambda p=p: loop.score(p)) for p in sampled[::2]]
    with torch.no_grad():
        origin += [timed(lambda p=p: origin_mask(lab, p, saved)) for p in sampled[::2]]
    total_s = timed(lambda: lab.score(plans, "sweep"))
    with torch.inference_mode(), products(options.arithmetic):
        plain += [timed(lambda p=p: loop.score(p)) for p in sampled[1::2]]
        agreement = check(lab, loop, sampled)
        again = product_rates(lab)
    with torch.no_grad():
        origin += [timed(lambda p=p: origin_mask(lab, p, saved)) for p in sampled[1::2]]
    rates = {key: max(rates[key], again[key]) for key in rates}
    origin_s, plain_s = (sum(times) / len(times) * n_masks for times in (origin, plain))
    limit_s = limit_seconds(lab, rates, plans)
    result = {
        "masks": n_masks,
        "languages": len(lab.languages),
        "sentences": SENTENCES,
        "tokens": int(lab.text.counts.tokens.sum()),
        "padded_rows": sum(c.n_rows for c in lab.chunks),
        "arithmetic": options.arithmetic,
        "products_round": lab.engine.rounds,
        "threads": torch.get_num_threads(),
        "gflops_block": rates["block"] / 1e9,
        "gflops_head": rates["head"] / 1e9,
        "origin_s": origin_s,
        "plain_s": plain_s,
        "limit_s": limit_s,
        "largest_kl_difference_nats_per_token": agreement,
        "ratio_origin": origin_s / total_s,
        "ratio_plain": plain_s / total_s,
        "ratio_limit": total_s / limit_s,
        "total_s": total_s,
    }
    if not options.json:
        print(
            f"{n_masks} masks in {total_s:.1f} s on {result['threads']} threads: "
            f"{result['ratio_origin']:.1f}x the origin's loop, {result['ratio_plain']:.2f}x the "
            f"plain loop, {result['ratio_limit']:.2f} times the matrix-product limit",
            file=sys.stderr,
        )
    print(json.dumps(result))
    return 0


def check(lab: Lab, loop: PlainLoop, plans: list[Plan]) -> float:
    """Returns the largest difference in KL per token between engine and plain loop."""
    scores = lab.score(plans, "check")
    worst = 0.0
    for row, plan in enumerate(scores.plans):
        mine = scores.kl_nats[row].ravel()
        theirs = loop.score(next(p for p in plans if p.text == plan))[1].numpy()
        worst = max(worst, float((abs(mine - theirs) / scores.counts.tokens.ravel()).max()))
    return worst


if __name__ == "__main__":
    sys.exit(main())
