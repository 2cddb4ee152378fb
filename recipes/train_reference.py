r"""Trains the bundled reference model, or a sibling of another family, from a folder of text.

The text is one ``<lang>.txt`` (or ``.txt.xz``) a language, one text a line. What comes out is a
folder that ``bitgap`` and ``transformers`` load: weights in bf16, config, tokenizer, a card, and
``training.json`` with every number on the card. Install the project first (``pip install -e .``).

The reference model (half an hour on two cores with bfloat16 instructions)::

    python recipes/train_reference.py --text ../shared/data/corpus --out reference

A sibling with the same tokenizer, in twenty minutes whatever the machine, measuring included::

    python recipes/train_reference.py --text ../shared/data/corpus --out llama-8 \
        --family llama --blocks 8 --tokenizer reference --minutes 20

Several siblings come out sooner side by side, each with ``--threads 1``, than one after the other;
give them one ``--tokenizer`` and one ``--cache``, so that the text is tokenised only once.

A stopped run (Ctrl-C, SIGTERM, a crash) goes on where it was when the command is given again, and
a finished one is left as it is. The parts, in the order they are used: ``training_settings``,
``run_folder``, ``training_text``, ``packed_batches``, ``model_families``, ``fast_step``,
``training_loop``, ``held_out``, ``training_card``. How fast it is: ``benchmarks/training.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fast_step import TrainingStep, choose_arithmetic
from held_out import bits_per_byte, estimate_seconds
from model_families import build_model
from packed_batches import PackedBatches
from run_folder import FINISHED, claim_folder, identity_of
from training_card import gather_facts, processor_name, write_card
from training_loop import Progress, Sitting, Stopped, fraction_done
from training_settings import Recipe, Request, build_parser, request_of
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
from bitgap.lab.engine.budget import tune_heap
from bitgap.models.silence import silenced

Report = Callable[[Progress, float], None]

_SAY_EVERY_S = 10.0
# Compiling takes up to half a minute and saves a tenth to a half of each step.
_COMPILE_FROM_FLOP = 1e14
_COMPILE_FROM_MINUTES = 5.0
_READ_BACK_S = 2.0  # writing the model and reading it back


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0 done, 1 failed, 2 misuse, or 128 + signal when stopped."""
    options = build_parser().parse_args(arguments)
    tune_heap()
    try:
        run(request_of(options))
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
        say("memory is too small for a step; lower --batch or --width")
        return BudgetError.exit_code
    except OSError as error:
        say(f"{error.filename or 'a file'}: {error.strerror or error}; check rights and space")
        return 1
    return 0


def say(text: str) -> None:
    """Tells the user on stderr."""
    print(f"train_reference: {text}", file=sys.stderr, flush=True)


def run(request: Request, report: Report | None = None) -> dict[str, Any]:
    """Carries out a request: tokenizer, tokens, training, model, scores, card.

    A program that calls this does well to call ``tune_heap`` first, as :func:`main` does.

    Args:
        request: What to train and where.
        report: Called after every training step with the progress and the share that is over;
            says so on stderr from time to time when None.

    Returns:
        The facts that ``training.json`` holds.

    Raises:
        UsageError: If the request cannot be carried out, or its folder belongs to another.
        CorpusError: If the text cannot be used.
        BudgetError: If the minutes are over before training begins.
        Stopped: If a signal came while training; the checkpoint is written.
        Diverged: If the loss is no number any more.
        StoreError: If the checkpoint cannot be used.
    """
    started = time.monotonic()
    device = find_device(request.device)
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    paths = choose_texts(find_texts(request.text), request.recipe.mix)
    request = _with_own_vocabulary(request)
    identity = identity_of(request, fingerprint_files(paths))
    facts = claim_folder(request, identity)
    if facts is None:
        tokenizer, streams = _prepare_text(request, paths, identity["text_sha256"])
        sitting, batches = _train(request, tokenizer, streams, device, started, report)
        model = sitting.model
        facts = identity | gather_facts(
            request, model, sitting.progress, streams, batches.drawn.tolist()
        )
        _write_model(model, tokenizer, request.out)
        facts["bits_per_byte"] = _scores(request, streams, device)
        facts["spent_s"] = sitting.spent_s()
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


# -- text ----------------------------------------------------------------------------------------


def _with_own_vocabulary(request: Request) -> Request:
    if request.tokenizer is None:
        return request
    size = len(load_tokenizer(request.tokenizer))
    return replace(request, recipe=replace(request.recipe, vocabulary=size))


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
    for stream in tokenise(paths, digests, tokenizer, recipe.held_out, cache, recipe.half):
        facts = stream.facts
        say(f"{facts.language}: {facts.lines:,} lines, {facts.tokens:,} tokens")
        streams.append(stream)
    return tokenizer, streams


def _held_out_lines(streams: Sequence[Stream]) -> dict[str, tuple[str, ...]]:
    return {stream.facts.language: stream.facts.held_out for stream in streams}


# -- training ------------------------------------------------------------------------------------


def _train(
    request: Request,
    tokenizer: Any,
    streams: Sequence[Stream],
    device: str,
    started: float,
    report: Report | None,
) -> tuple[Sitting, PackedBatches]:
    recipe, mix = request.recipe, request.recipe.mix
    batches = PackedBatches(
        [stream.tokens for stream in streams],
        [s.facts.tokens if mix is None else mix[s.facts.language] for s in streams],
        batch=recipe.batch,
        context=recipe.context,
        seed=recipe.seed,
    )
    arithmetic = choose_arithmetic(request.arithmetic, device)
    model = build_model(recipe, tokenizer.eos_token_id).to(device)
    step = TrainingStep(model, recipe.peak_rate, arithmetic, device)
    sitting = Sitting(
        recipe,
        step,
        batches,
        checkpoint=request.work / "checkpoint.pt",
        checkpoint_minutes=request.checkpoint_minutes,
        started=started,
    )
    if not sitting.progress.step:
        sitting.begin(_end_seconds(request, model, tokenizer, streams))
    if not sitting.progress.finished:
        compiled = _is_worth_compiling(request, model, device) and _compiles(step, recipe)
        _note_sitting(sitting.progress, arithmetic, device, compiled)
        sitting.train(report or Narrator(recipe, sitting.progress))
    return sitting, batches


def _end_seconds(request: Request, model: Any, tokenizer: Any, streams: Sequence[Stream]) -> float:
    if request.recipe.minutes is None:
        return 0.0
    lines = _held_out_lines(streams)
    return _READ_BACK_S + estimate_seconds(model, tokenizer, lines, request.recipe.context)


def _is_worth_compiling(request: Request, model: Any, device: str) -> bool:
    # It follows from the recipe, and not from what is left, so that going on changes no bit.
    recipe = request.recipe
    if request.compile is not None or device != "cpu":
        return bool(request.compile)
    if recipe.minutes is not None:
        return recipe.minutes >= _COMPILE_FROM_MINUTES
    assert recipe.tokens is not None
    return 6 * model.num_parameters() * recipe.tokens >= _COMPILE_FROM_FLOP


def _compiles(step: TrainingStep, recipe: Recipe) -> bool:
    say("compiling the blocks")
    try:
        step.compile(torch.zeros(recipe.batch, recipe.context + 1, dtype=torch.int64))
    except Exception as error:  # torch's compilers raise what they like
        reason = next(iter(str(error).strip().splitlines()), "")
        say(f"going on without compiling ({type(error).__name__}: {reason})")
        return False
    return True


def _note_sitting(progress: Progress, arithmetic: str, device: str, compiled: bool) -> None:
    place = f"{processor_name(device)}, "
    if device == "cpu":
        threads = torch.get_num_threads()
        place += f"{threads} thread{'s' * (threads > 1)}, "
    place += arithmetic + ", compiled" * compiled
    if place not in progress.places:
        progress.places.append(place)
    progress.sittings += 1
    went_on = f"going on after step {progress.step}, " if progress.step else ""
    say(f"{went_on}computing on {place}")


class Narrator:
    """Says every few seconds how far the training is."""

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        """Notes where this sitting begins; says nothing yet."""
        self._tokens_per_step = recipe.tokens_per_step
        self._began = self._said = time.monotonic()
        self._before = progress.step, progress.training_s
        self._first = fraction_done(recipe, progress)

    def __call__(self, progress: Progress, fraction: float) -> None:
        """Hears of one more step.

        Args:
            progress: How far the run is.
            fraction: Share of the training that is over.
        """
        now = time.monotonic()
        if now - self._said < _SAY_EVERY_S and not progress.finished:
            return
        # Speed is that since the last line, as a machine's load changes.
        step, training_s = self._before
        speed = (progress.step - step) * self._tokens_per_step / (progress.training_s - training_s)
        pace = (now - self._began) / max(fraction - self._first, 1e-9)
        left = pace * max(0.0, 1 - fraction) / 60
        recent = progress.losses[-10:]
        loss = f"loss {sum(recent) / len(recent):.3f}, " if recent else ""
        done = f"step {progress.step}, {min(1.0, fraction):.1%}, {loss}"
        say(f"{done}{speed:,.0f} tokens/s, {left:.1f} min left")
        self._said, self._before = now, (progress.step, progress.training_s)


# -- the finished model --------------------------------------------------------------------------


def _write_model(model: Any, tokenizer: Any, out: Path) -> None:
    with silenced():
        model.to("cpu", torch.bfloat16).save_pretrained(out)
        tokenizer.save_pretrained(out)


def _scores(request: Request, streams: Sequence[Stream], device: str) -> dict[str, float]:
    from transformers import AutoModelForCausalLM

    say("scoring the stored model on held-out lines")
    # What is measured is what was written, so it is read back.
    tokenizer = load_tokenizer(request.out)
    with silenced():
        model = AutoModelForCausalLM.from_pretrained(request.out, dtype=torch.float32).to(device)
    return bits_per_byte(model, tokenizer, _held_out_lines(streams), request.recipe.context)


if __name__ == "__main__":
    sys.exit(main())
