"""How much faster a step of ``recipes/train_reference.py`` is than that of a plain loop.

Plain is what one writes first: autocast to bfloat16 (float32 where the processor has no bfloat16
instructions), the loss that transformers computes from labels, AdamW as it comes, and the C
library's own allocator. Each loop runs in a process of its own, for no setting of one must reach
the other; they take turns in short slices, so that both meet the same load from others.
The recipe is timed as long runs are, compiled (``--no-compile``: as short ones are).

``python benchmarks/training.py --json`` prints one JSON object that ends with the tokens a
second of each, and ``ratio``, the median over rounds, after its quartiles.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitgap.lab.engine.budget import tune_heap
from bitgap.models.silence import hushed_log

sys.path.append(str(Path(__file__).parents[1] / "recipes"))

from fast_step import TrainingStep, choose_arithmetic
from model_families import FAMILIES, build_model
from training_settings import Recipe

SLICE_S = 1.5


def random_ids(recipe: Recipe) -> Tensor:
    """Returns one batch, (batch x context + 1)."""
    generator = torch.Generator().manual_seed(recipe.seed)
    size = (recipe.batch, recipe.context + 1)
    return torch.randint(recipe.vocabulary, size, generator=generator)


def plain_step(recipe: Recipe) -> Callable[[], float]:
    """Returns a step of the plain loop."""
    autocasts = choose_arithmetic("auto", "cpu") == "bf16"
    model = build_model(recipe, 0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.peak_rate)
    # Rows as long as the recipe's inputs; transformers shifts the labels itself.
    ids = random_ids(recipe)[:, :-1]

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocasts), hushed_log():
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step


def recipe_step(recipe: Recipe, compiled: bool) -> Callable[[], float]:
    """Returns a step of the recipe."""
    tune_heap()
    arithmetic = choose_arithmetic("auto", "cpu")
    take = TrainingStep(build_model(recipe, 0), recipe.peak_rate, arithmetic, "cpu")
    ids = random_ids(recipe)
    if compiled:
        take.compile(torch.zeros_like(ids))
    return lambda: float(take(ids, recipe.peak_rate))


def serve(calls: Connection, which: str, recipe: Recipe, threads: int, compiled: bool) -> None:
    """Answers each number of seconds with the steps and seconds it took; ends at None."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    step = plain_step(recipe) if which == "plain" else recipe_step(recipe, compiled)
    ready_s = time.perf_counter() - start
    first_loss = step()
    step()
    calls.send({"first_loss_nats": first_loss, "ready_s": ready_s})
    while (seconds := calls.recv()) is not None:
        start, n_steps = time.perf_counter(), 0
        while n_steps == 0 or time.perf_counter() - start < seconds:
            step()
            n_steps += 1
        calls.send((n_steps, time.perf_counter() - start))


def compare(recipe: Recipe, seconds: float, threads: int, compiled: bool) -> dict[str, Any]:
    """Times both loops in turns; seconds do not count the start and warm-up."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    for which in ("plain", "recipe"):
        lines[which], far = context.Pipe()
        job = (far, which, recipe, threads, compiled)
        context.Process(target=serve, args=job, daemon=True).start()
        far.close()
    facts = {which: line.recv() for which, line in lines.items()}
    speeds = take_turns(lines, seconds, recipe.tokens_per_step)
    for line in lines.values():
        line.send(None)
    ratios = [ours / plain for plain, ours in zip(*speeds.values(), strict=True)]
    first, _, third = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "family": recipe.family,
        "blocks": recipe.blocks,
        "width": recipe.width,
        "arithmetic": choose_arithmetic("auto", "cpu"),
        "compiled": compiled,
        "compile_s": facts["recipe"]["ready_s"] - facts["plain"]["ready_s"] if compiled else 0.0,
        "threads": threads,
        "torch": torch.__version__,
        "rounds": len(ratios),
        "first_loss_plain_nats": facts["plain"]["first_loss_nats"],
        "first_loss_recipe_nats": facts["recipe"]["first_loss_nats"],
        "plain_tokens_per_s": statistics.median(speeds["plain"]),
        "recipe_tokens_per_s": statistics.median(speeds["recipe"]),
        "ratio_quartiles": [first, third],
        "ratio": statistics.median(ratios),
    }


def take_turns(
    lines: dict[str, Connection], seconds: float, tokens_per_step: int
) -> dict[str, list[float]]:
    """Returns the tokens a second of each loop in each round; at least two rounds."""
    speeds: dict[str, list[float]] = {which: [] for which in lines}
    end = time.monotonic() + seconds
    order = list(lines)
    while time.monotonic() < end or len(speeds[order[0]]) < 2:
        for which in order:
            lines[which].send(SLICE_S)
            n_steps, taken = lines[which].recv()
            speeds[which].append(n_steps * tokens_per_step / taken)
        # Each goes first in turn, so that a load that grows or falls favours neither.
        order.reverse()
    return speeds


def main() -> int:
    """Runs the benchmark."""
    plain = Recipe()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--family", default=plain.family, choices=sorted(FAMILIES))
    parser.add_argument("--blocks", type=int, default=plain.blocks)
    parser.add_argument("--width", type=int, default=plain.width)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    recipe = Recipe(family=options.family, blocks=options.blocks, width=options.width)
    result = compare(recipe, options.seconds, options.threads, options.compile)
    if not options.json:
        print(
            f"{result['recipe_tokens_per_s']:,.0f} tokens/s on {result['threads']} threads, "
            f"{result['ratio']:.2f}x the plain loop's {result['plain_tokens_per_s']:,.0f}",
            file=sys.stderr,
        )
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
