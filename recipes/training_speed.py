"""How much faster a step of the recipe is than a plain one, on the machine at hand.

Plain is what one writes first: float32 or autocast to bfloat16 (whichever a small product shows to
be faster here), the loss that transformers computes from labels, AdamW as it comes, and the C
library's own allocator. Each loop runs in a process of its own, for no setting of one must reach
the other; they take turns in short slices, so that both meet the same load from others.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from fast_step import TrainingStep, candidates, choose_arithmetic, compile_blocks, keep_memory
from fast_step import make_optimiser as recipe_optimiser
from model_families import Shape, build_model
from torch import Tensor, nn
from training_card import processor_name
from training_settings import Recipe

from bitgap.errors import EngineError

_SLICE_S = 2.0
_TRIAL_STEPS = 3


def shape_of(recipe: Recipe, *, vocabulary: int, separator: int) -> Shape:
    """Returns the sizes of a recipe's model with a given tokenizer."""
    return Shape(
        blocks=recipe.blocks,
        width=recipe.width,
        heads=recipe.heads,
        vocabulary=vocabulary,
        context=recipe.context,
        separator=separator,
    )


def trial_model(recipe: Recipe, device: str) -> Any:
    """Returns an untrained model of a recipe, to time steps with."""
    shape = shape_of(recipe, vocabulary=recipe.vocabulary, separator=0)
    return build_model(recipe.family, shape, recipe.seed).to(device)


def _random_ids(recipe: Recipe) -> Tensor:
    generator = torch.Generator().manual_seed(recipe.seed)
    size = (recipe.batch, recipe.context + 1)
    return torch.randint(recipe.vocabulary, size, generator=generator)


def seconds_a_step(recipe: Recipe, arithmetic: str, device: str) -> float:
    """Returns the shortest time of a few steps of an untrained model, after one to warm up."""
    model = trial_model(recipe, device)
    step = TrainingStep(model, recipe_optimiser(model, recipe.peak_rate), arithmetic, device)
    ids, times = _random_ids(recipe), []
    for _ in range(1 + _TRIAL_STEPS):
        start = time.perf_counter()
        float(step(ids, recipe.peak_rate))
        times.append(time.perf_counter() - start)
    return min(times[1:])


# -- the two loops -------------------------------------------------------------------------------


def _plain_step(recipe: Recipe, device: str) -> tuple[Callable[[], float], str]:
    arithmetic = "bf16-autocast" if "bf16-autocast" in candidates(device) else "float32"
    model = trial_model(recipe, device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.peak_rate)
    # Rows as long as the recipe's inputs; transformers shifts the labels itself.
    ids = _random_ids(recipe)[:, :-1].to(device)

    def step() -> float:
        with torch.autocast(device, torch.bfloat16, enabled=arithmetic == "bf16-autocast"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step, arithmetic


def _recipe_step(recipe: Recipe, device: str, compiled: bool) -> tuple[Callable[[], float], str]:
    keep_memory()
    arithmetic = choose_arithmetic(
        "auto", device, lambda name: seconds_a_step(recipe, name, device)
    )
    model = trial_model(recipe, device)
    if compiled:
        compile_blocks(model)
    take = TrainingStep(model, recipe_optimiser(model, recipe.peak_rate), arithmetic, device)
    ids = _random_ids(recipe)
    return lambda: float(take(ids, recipe.peak_rate)), arithmetic


def _serve(
    calls: Connection, which: str, recipe: Recipe, device: str, threads: int, compiled: bool
) -> None:
    # Runs in a process of its own: answers each number of seconds with steps and seconds taken.
    torch.set_num_threads(threads)
    make = _plain_step if which == "plain" else _recipe_step
    step, arithmetic = make(recipe, device, *([compiled] if which == "recipe" else []))
    first_loss = step()
    step()
    calls.send({"arithmetic": arithmetic, "first_loss_nats": first_loss})
    while (seconds := calls.recv()) is not None:
        start, n_steps = time.perf_counter(), 0
        while n_steps == 0 or time.perf_counter() - start < seconds:
            step()
            n_steps += 1
        calls.send((n_steps, time.perf_counter() - start))


# -- comparison ----------------------------------------------------------------------------------


def compare(
    recipe: Recipe,
    seconds: float,
    *,
    device: str = "cpu",
    threads: int | None = None,
    compiled: bool = False,
) -> dict[str, Any]:
    """Times the plain loop and the recipe's in turns.

    Args:
        recipe: What a step is made of; its text and length do not matter.
        seconds: How long to compare, start and warm-up not counted.
        device: ``cpu`` or ``cuda``.
        threads: Processor threads; as many as torch takes when None.
        compiled: Whether the recipe's blocks are compiled.

    Returns:
        JSON-serialisable: for ``plain`` and ``recipe`` the arithmetic, the loss of the first step
        (the same up to rounding and one token a row, for both start alike) and the median tokens a
        second; ``ratio``, the median over rounds of the recipe's speed by the plain loop's, with
        its quartiles.

    Raises:
        EngineError: If one of the loops fails.
    """
    threads = threads or torch.get_num_threads()
    recipe = replace(recipe, mix=None)
    context = multiprocessing.get_context("spawn")
    lines, workers = {}, []
    try:
        for which in ("plain", "recipe"):
            lines[which], far = context.Pipe()
            job = (far, which, recipe, device, threads, compiled)
            workers.append(context.Process(target=_serve, args=job, daemon=True))
            workers[-1].start()
            far.close()
        facts = {which: line.recv() for which, line in lines.items()}
        speeds = _take_turns(lines, seconds, recipe.tokens_per_step)
        for line in lines.values():
            line.send(None)
    except (EOFError, OSError) as error:
        raise EngineError("a loop ended early; its own message is above") from error
    finally:
        _end(workers)
    ratios = [ours / plain for plain, ours in zip(*speeds.values(), strict=True)]
    for which, found in speeds.items():
        facts[which]["tokens_per_s"] = statistics.median(found)
    return {
        **facts,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": _quartiles(ratios),
        "rounds": len(ratios),
        "family": recipe.family,
        "blocks": recipe.blocks,
        "width": recipe.width,
        "processor": processor_name(device),
        "threads": threads,
        "compiled": compiled,
        "torch": torch.__version__,
    }


def _take_turns(
    lines: dict[str, Connection], seconds: float, tokens_per_step: int
) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {which: [] for which in lines}
    end = time.monotonic() + seconds
    order = list(lines)
    while time.monotonic() < end or not speeds[order[0]]:
        for which in order:
            lines[which].send(_SLICE_S)
            n_steps, taken = lines[which].recv()
            speeds[which].append(n_steps * tokens_per_step / taken)
        # Each goes first in turn, so that a load that grows or falls favours neither.
        order.reverse()
    return speeds


def _quartiles(values: list[float]) -> list[float]:
    if len(values) < 2:
        return [values[0], values[0]]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, third]


def _end(workers: list[Any]) -> None:
    for worker in workers:
        worker.join(timeout=5)
        if worker.is_alive():
            worker.kill()
            worker.join()
