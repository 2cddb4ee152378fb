r"""Trains the bundled reference model, or a sibling of another family, from a folder of text.

The text is one ``<lang>.txt`` (or ``.txt.xz``) a language, one text a line. What comes out is a
folder that ``bitgap`` and ``transformers`` load: weights in bf16, config, tokenizer, a card, and
``training.json`` with every number on the card. Install the project first (``pip install -e .``).

The reference model (the bundled one took 78 minutes on two cores)::

    python recipes/train_reference.py --text ../shared/data/corpus --out reference

A sibling with the same tokenizer, in twenty minutes whatever the machine::

    python recipes/train_reference.py --text ../shared/data/corpus --out llama-8 \
        --family llama --blocks 8 --tokenizer reference --minutes 20

A stopped run (Ctrl-C, SIGTERM, a crash) goes on where it was when the command is given again, and
a finished one is left as it is. The parts, in the order they are used: ``training_settings``,
``run_folder``, ``training_text``, ``packed_batches``, ``model_families``, ``fast_step``,
``training_loop``, ``held_out``, ``training_card``; ``training_speed`` is ``--benchmark``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fast_step import (
    TrainingStep,
    candidates,
    choose_arithmetic,
    compile_blocks,
    keep_memory,
    make_optimiser,
)
from held_out import bits_per_byte, read_aligned
from model_families import build_model
from packed_batches import PackedBatches
from run_folder import FINISHED, claim_folder, identity_of
from training_card import gather_facts, processor_name, write_card
from training_loop import (
    Progress,
    Sitting,
    Stopped,
    fraction_done,
    progress_of,
    read_checkpoint,
)
from training_settings import Recipe, Request, build_parser, recipe_of, request_of
from training_speed import compare, seconds_a_step, shape_of
from training_text import (
    Stream,
    choose_texts,
    find_texts,
    fingerprint_files,
    load_tokenizer,
    save_tokenizer,
    tokenise,
    train_tokenizer,
    write_json,
)

from bitgap.errors import BitgapError, BudgetError, UsageError
from bitgap.models.silence import silenced

Report = Callable[[Progress, float], None]

_SAY_EVERY_S = 10.0
_CHECKPOINT = "checkpoint.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 done, 1 failed, 2 misuse, or 128 + signal when stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(arguments)
    try:
        if options.benchmark is not None:
            print(json.dumps(benchmark(options), indent=1))
        else:
            run(request_of(options, arguments))
    except Stopped as stopped:
        say(f"{stopped}; give the same command again to go on")
        return 128 + stopped.signal_number
    except KeyboardInterrupt:
        say("interrupted; give the same command again to go on")
        return 130
    except BitgapError as error:
        say(str(error))
        return error.exit_code
    except torch.OutOfMemoryError:
        say(str(BudgetError("memory is too small for a step; lower --batch or --width")))
        return BudgetError.exit_code
    except OSError as error:
        say(f"{error.filename or 'a file'}: {error.strerror or error}; check rights and space")
        return 1
    return 0


def say(text: str) -> None:
    """Tells the user on stderr."""
    print(f"train_reference: {text}", file=sys.stderr, flush=True)


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Compares the recipe's step with a plain one; see :func:`training_speed.compare`."""
    if not 0 < options.benchmark < math.inf:
        raise UsageError(f"--benchmark {options.benchmark} cannot be used; give seconds above 0")
    return compare(
        recipe_of(options),
        options.benchmark,
        device=find_device(options.device),
        threads=options.threads,
        compiled=options.compile,
    )


# -- the steps of a run --------------------------------------------------------------------------


def run(request: Request, report: Report | None = None) -> dict[str, Any]:
    """Carries out a request: tokenizer, tokens, training, model, scores, card.

    Args:
        request: What to train and where.
        report: Called after every training step with the progress and the share that is over;
            says so on stderr from time to time when None.

    Returns:
        The facts that ``training.json`` holds.

    Raises:
        UsageError: If the request cannot be carried out, or its folder belongs to another.
        CorpusError: If the text cannot be used.
        Stopped: If a signal came while training; the checkpoint is written.
        Diverged: If the loss is no number any more.
        StoreError: If the checkpoint cannot be used.
    """
    device = find_device(request.device)
    keep_memory()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    paths = choose_texts(find_texts(request.text), request.recipe.mix)
    request = _with_own_vocabulary(request)
    identity = identity_of(request, fingerprint_files(paths))
    finished = claim_folder(request, identity)
    if finished is not None:
        say(f"{request.out} is finished; its card.md says how it came out")
        return finished
    evaluation = request.evaluation and read_aligned(request.evaluation, paths)
    tokenizer, streams = _prepare_text(request, paths, identity["text_sha256"])
    model, progress, batches = _train(request, tokenizer, streams, device, report)
    facts = gather_facts(
        request, model, progress, streams, batches.drawn.tolist(), identity["text_sha256"]
    )
    _write_model(model, tokenizer, request.out)
    facts |= identity | _scores(request, streams, evaluation, device)
    (request.out / "card.md").write_text(write_card(facts), encoding="utf-8")
    write_json(request.out / FINISHED, facts)
    shutil.rmtree(request.work)
    say(f"{request.out} is finished; its card.md says how it came out")
    return facts


def find_device(asked: str) -> str:
    """Returns ``cpu`` or ``cuda``.

    Raises:
        UsageError: If an accelerator is asked for and none is there.
    """
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UsageError("--device cuda: torch finds no accelerator here; use auto or cpu")
    return "cuda" if there and asked != "cpu" else "cpu"


def _with_own_vocabulary(request: Request) -> Request:
    if request.tokenizer is None:
        return request
    size = len(load_tokenizer(request.tokenizer))
    return replace(request, recipe=replace(request.recipe, vocabulary=size))


# -- text ----------------------------------------------------------------------------------------


def _prepare_text(
    request: Request, paths: Mapping[str, Path], digests: Mapping[str, str]
) -> tuple[Any, list[Stream]]:
    recipe = request.recipe
    folder = request.tokenizer or request.work / "tokenizer"
    if not folder.is_dir():
        say(f"training a tokenizer of {recipe.vocabulary} on {len(paths)} languages")
        part = request.work / f"tokenizer.part{os.getpid()}"
        trained = train_tokenizer(paths, recipe.vocabulary, recipe.held_out)
        save_tokenizer(trained, part, recipe.context)
        part.replace(folder)
    tokenizer = load_tokenizer(folder)
    cache = request.cache or request.work / "tokens"
    streams = []
    for stream in tokenise(paths, digests, tokenizer, recipe.held_out, cache):
        facts = stream.facts
        say(f"{facts.language}: {facts.lines:,} lines, {facts.tokens:,} tokens")
        streams.append(stream)
    return tokenizer, streams


def _shares(streams: Sequence[Stream], mix: Mapping[str, float] | None) -> list[float]:
    if mix is None:
        return [stream.facts.tokens for stream in streams]
    return [mix[stream.facts.language] for stream in streams]


# -- training ------------------------------------------------------------------------------------


def _train(
    request: Request,
    tokenizer: Any,
    streams: Sequence[Stream],
    device: str,
    report: Report | None,
) -> tuple[Any, Progress, PackedBatches]:
    recipe = request.recipe
    checkpoint = request.work / _CHECKPOINT
    saved = read_checkpoint(checkpoint)
    progress = progress_of(saved)
    batches = PackedBatches(
        [stream.tokens for stream in streams],
        _shares(streams, recipe.mix),
        batch=recipe.batch,
        context=recipe.context,
        seed=recipe.seed,
    )
    arithmetic = _arithmetic(request, progress, device)
    model = _new_model(recipe, tokenizer).to(device)
    sitting = Sitting(
        recipe,
        TrainingStep(model, make_optimiser(model, recipe.peak_rate), arithmetic, device),
        batches,
        progress,
        checkpoint=checkpoint,
        checkpoint_minutes=request.checkpoint_minutes,
        report=report or Narrator(recipe, progress),
    )
    if saved is not None:
        sitting.restore(saved)
    if fraction_done(recipe, progress) < 1:
        _note_sitting(progress, request, arithmetic, device)
        if request.compile:
            compile_blocks(model)
        sitting.train()
    return model, progress, batches


def _new_model(recipe: Recipe, tokenizer: Any) -> Any:
    shape = shape_of(recipe, vocabulary=len(tokenizer), separator=tokenizer.eos_token_id)
    with silenced():
        return build_model(recipe.family, shape, recipe.seed)


def _arithmetic(request: Request, progress: Progress, device: str) -> str:
    # Going on in the arithmetic of before keeps the run bit for bit, unless it is hopeless here.
    before = progress.arithmetic
    if request.arithmetic == "auto" and before is not None and before in candidates(device):
        return before
    return choose_arithmetic(
        request.arithmetic, device, lambda name: seconds_a_step(request.recipe, name, device)
    )


def _note_sitting(progress: Progress, request: Request, arithmetic: str, device: str) -> None:
    place = f"{processor_name(device)}, "
    if device == "cpu":
        threads = torch.get_num_threads()
        place += f"{threads} thread{'s' * (threads > 1)}, "
    place += arithmetic + ", compiled" * request.compile
    if place not in progress.places:
        progress.places.append(place)
    progress.arithmetic = arithmetic
    progress.sittings += 1
    went_on = f"going on after step {progress.step}, " if progress.step else ""
    say(f"{went_on}computing on {place}")


class Narrator:
    """Says every few seconds how far the training is."""

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        """Notes where this sitting begins; says nothing yet."""
        self._tokens_per_step = recipe.tokens_per_step
        self._said = -math.inf
        self._before = progress.step, progress.elapsed_s

    def __call__(self, progress: Progress, fraction: float) -> None:
        """Hears of one more step.

        Args:
            progress: How far the run is.
            fraction: Share of the run that is over.
        """
        now = time.monotonic()
        if now - self._said < _SAY_EVERY_S and fraction < 1:
            return
        # Speed is that since the last line, as a machine's load changes.
        step, elapsed = self._before
        speed = (progress.step - step) * self._tokens_per_step / (progress.elapsed_s - elapsed)
        left = progress.elapsed_s * max(0.0, 1 / fraction - 1) / 60
        recent = progress.losses[-10:]
        loss = f"loss {sum(recent) / len(recent):.3f}, " if recent else ""
        done = f"step {progress.step}, {min(1.0, fraction):.1%}, {loss}"
        say(f"{done}{speed:,.0f} tokens/s, {left:.1f} min left")
        self._said, self._before = now, (progress.step, progress.elapsed_s)


# -- the finished model --------------------------------------------------------------------------


def _write_model(model: Any, tokenizer: Any, out: Path) -> None:
    with silenced():
        model.to("cpu", torch.bfloat16).save_pretrained(out)
        tokenizer.save_pretrained(out)


def _scores(
    request: Request,
    streams: Sequence[Stream],
    evaluation: Mapping[str, Sequence[str]] | None,
    device: str,
) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    say("scoring the stored model on held-out lines")
    # What is measured is what was written, so it is read back.
    tokenizer = load_tokenizer(request.out)
    with silenced():
        model = AutoModelForCausalLM.from_pretrained(request.out, dtype=torch.float32).to(device)
    context = request.recipe.context
    held_out = {stream.facts.language: stream.facts.held_out for stream in streams}
    scores = {"bits_per_byte": bits_per_byte(model, tokenizer, held_out, context)}
    if evaluation is None or request.evaluation is None:
        return scores | {"evaluation": None}
    found = {
        "folder": request.evaluation.resolve().name,
        "lines": len(next(iter(evaluation.values()))),
        "bits_per_byte": bits_per_byte(model, tokenizer, evaluation, context),
    }
    return scores | {"evaluation": found}


if __name__ == "__main__":
    sys.exit(main())
