"""The model card: measured facts, and nothing that was not measured."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from fast_step import BETAS, LARGEST_GRADIENT, WEIGHT_DECAY
from training_loop import FINAL_RATE_SHARE, WARM_UP_SHARE, WARM_UP_STEPS, Progress
from training_settings import Request
from training_text import TOKENIZER_SHARE, Stream

_LAST_STEPS = 100
_CURVE_POINTS = 100


def processor_name(device: str) -> str:
    """Returns what a device is called by its maker."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gather_facts(
    request: Request,
    model: Any,
    progress: Progress,
    streams: Sequence[Stream],
    sequences: Sequence[int],
) -> dict[str, Any]:
    """Returns what is known of a run when its training is over, JSON-serialisable.

    Args:
        request: What was asked.
        model: The trained model.
        progress: The finished run.
        streams: What it was trained on.
        sequences: Sequences that each stream gave.
    """
    recipe, losses = request.recipe, progress.losses
    last = losses[-_LAST_STEPS:]
    return {
        "command": request.command,
        "class_name": type(model).__name__,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "tied": model.get_output_embeddings().weight is model.get_input_embeddings().weight,
        "text_folder": request.text.resolve().name,
        "sources": request.sources or _named_sources(request.text),
        "steps": progress.step,
        "tokens_seen": progress.step * recipe.tokens_per_step,
        "final_loss_nats": statistics.fmean(last),
        "final_loss_steps": len(last),
        "loss_curve_nats": _curve(losses),
        "training_s": progress.training_s,
        "sittings": progress.sittings,
        "places": progress.places,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "languages": [
            _language_facts(s, int(n) * recipe.context)
            for s, n in zip(streams, sequences, strict=True)
        ],
    }


def _language_facts(stream: Stream, tokens_seen: int) -> dict[str, Any]:
    facts = stream.facts
    return {
        "language": facts.language,
        "lines": facts.lines,
        "bytes": facts.bytes,
        "tokens": facts.tokens,
        "tokens_seen": tokens_seen,
        "held_out_lines": len(facts.held_out),
    }


def _named_sources(text: Path) -> str:
    found = [name for name in ("SOURCES.md", "README.md") if (text / name).is_file()]
    return f"see {found[0]} beside the text" if found else "not stated"


def _curve(losses: Sequence[float]) -> list[float]:
    # Means over equal stretches of the run, the last one ending with the last step.
    n_points = min(_CURVE_POINTS, len(losses))
    cuts = [i * len(losses) // n_points for i in range(n_points + 1)]
    return [statistics.fmean(losses[a:b]) for a, b in pairwise(cuts)]


# -- card ----------------------------------------------------------------------------------------


def write_card(facts: Mapping[str, Any]) -> str:
    """Returns the card as Markdown.

    Args:
        facts: From :func:`gather_facts` and :func:`run_folder.identity_of`, with ``bits_per_byte``
            (held-out lines, by language) and ``spent_s`` (the whole run) added.
    """
    recipe = facts["recipe"]
    n_languages = len(facts["languages"])
    title = f"{recipe['family']}: {recipe['blocks']} blocks, width {recipe['width']}, {n_languages}"
    rows = {
        "architecture": _architecture(facts),
        "tokenizer": _tokenizer(facts),
        "data": _data(facts),
        "training": _training(facts),
        "final training loss": f"{facts['final_loss_nats']:.4f} nats per token (mean of the last "
        f"{facts['final_loss_steps']:,} steps)",
        "time": _time(facts),
        "computed on": "; ".join(facts["places"]),
    }
    parts = [
        f"# {title} language{'s' * (n_languages > 1)}",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]),
        _scores_sentence(facts),
        _languages_table(facts),
        "## How to reproduce it",
        f"```\n{facts['command']}\n```",
        _reproduction(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _architecture(facts: Mapping[str, Any]) -> str:
    recipe = facts["recipe"]
    return (
        f"`{facts['class_name']}`, {recipe['blocks']} blocks L0…L{recipe['blocks'] - 1}, width "
        f"{recipe['width']}, {recipe['heads']} heads, context {recipe['context']}, "
        f"{'tied' if facts['tied'] else 'untied'} embedding, no dropout; "
        f"{facts['n_parameters']:,} parameters, stored in bf16"
    )


def _tokenizer(facts: Mapping[str, Any]) -> str:
    vocabulary = facts["recipe"]["vocabulary"]
    if facts["tokenizer_sha256"] is not None:
        return f"given, {vocabulary:,} entries"
    return (
        f"byte-level BPE, {vocabulary:,} entries, one special token (id 0) that ends "
        f"and begins texts; trained on one line in {TOKENIZER_SHARE} of every language"
    )


def _data(facts: Mapping[str, Any]) -> str:
    n_bytes = sum(row["bytes"] for row in facts["languages"])
    n_tokens = sum(row["tokens"] for row in facts["languages"])
    how = "in proportion to its size" if facts["recipe"]["mix"] is None else "by a given mix"
    half = facts["recipe"].get("half")
    part = f" of half {half} of its lines" if half else ""
    return (
        f"`{facts['text_folder']}/`, {n_bytes / 1e6:,.3f} MB, {n_tokens:,} tokens{part} without "
        f"the held-out lines, sampled {how}; sources: {facts['sources']}"
    )


def _training(facts: Mapping[str, Any]) -> str:
    recipe = facts["recipe"]
    scale = "of the time" if recipe["minutes"] is not None else "of the steps"
    return (
        f"{facts['tokens_seen']:,} tokens ({facts['steps']:,} steps of {recipe['batch']} × "
        f"{recipe['context']}), AdamW β = {BETAS}, weight decay {WEIGHT_DECAY} on matrices (not on "
        f"norms, biases and embeddings), gradients clipped to {LARGEST_GRADIENT}, peak rate "
        f"{recipe['peak_rate']:g}, {WARM_UP_STEPS} warm-up steps or the first {WARM_UP_SHARE:.0%} "
        f"{scale} if that is less, cosine to {FINAL_RATE_SHARE:.0%} over {scale.split()[-1]}"
    )


def _time(facts: Mapping[str, Any]) -> str:
    seconds, sittings = facts["training_s"], facts["sittings"]
    return (
        f"{facts['spent_s'] / 60:,.2f} minutes from the text to this card, {seconds / 60:,.2f} of "
        f"them in training steps, {facts['tokens_seen'] / seconds:,.0f} tokens a second; "
        f"{sittings} sitting{'s' * (sittings > 1)}"
    )


def _scores_sentence(facts: Mapping[str, Any]) -> str:
    blind = "training" if facts["tokenizer_sha256"] else "neither training nor the tokenizer"
    saw = "did not see" if facts["tokenizer_sha256"] else "saw"
    return (
        "Tokens are those of the stored tokenizer, the separator of each text included. Bits per "
        f"byte are those of the stored weights, in float32, on held-out lines, which {blind} {saw}."
    )


def _reproduction(facts: Mapping[str, Any]) -> str:
    given = "" if facts["tokenizer_sha256"] is None else " and of the tokenizer"
    text = (
        f"With torch {facts['torch']} and transformers {facts['transformers']}, from the folder "
        f"that holds `recipes/`; `training.json` has the SHA-256 of every text file{given}, every "
        "number above and the loss curve. "
    )
    if facts["recipe"]["minutes"] is not None:
        return text + (
            f"How many steps fit the time depends on the machine and its load: with `--tokens "
            f"{facts['tokens_seen']}` in place of `--minutes` the run has the length of this one."
        )
    return text + (
        "Batches and initial weights follow from the seed; the same kind of processor, threads and "
        "arithmetic give the same weights, others the same up to rounding."
    )


def _languages_table(facts: Mapping[str, Any]) -> str:
    head = ["language", "MB", "tokens in text", "tokens seen", "share", "passes", "held-out lines"]
    head += ["bits per byte, held out"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    rows += [_language_row(row, facts) for row in facts["languages"]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _language_row(row: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    seen, score = row["tokens_seen"], facts["bits_per_byte"].get(row["language"])
    return [
        row["language"],
        f"{row['bytes'] / 1e6:,.3f}",
        f"{row['tokens']:,}",
        f"{seen:,}",
        f"{seen / facts['tokens_seen']:.1%}",
        f"{seen / row['tokens']:.2f}",
        f"{row['held_out_lines']:,}",
        "—" if score is None else f"{score:.4f}",
    ]
