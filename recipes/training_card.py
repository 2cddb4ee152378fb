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
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """Returns everything known when training is over, JSON-serialisable.

    Args:
        request: What was asked.
        model: The trained model.
        progress: The finished run.
        streams: What it was trained on.
        sequences: Sequences that each stream gave.
        digests: SHA-256 of the text files by language.
    """
    recipe, losses = request.recipe, progress.losses
    last = losses[-_LAST_STEPS:]
    return {
        "recipe": recipe.as_facts(),
        "command": request.command,
        "class_name": type(model).__name__,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "tied": model.get_output_embeddings().weight is model.get_input_embeddings().weight,
        "vocabulary": model.config.vocab_size,
        "own_tokenizer": request.tokenizer is None,
        "text_folder": request.text.resolve().name,
        "text_sha256": dict(digests),
        "sources": request.sources or _named_sources(request.text),
        "steps": progress.step,
        "tokens_seen": progress.step * recipe.tokens_per_step,
        "final_loss_nats": statistics.fmean(last),
        "final_loss_steps": len(last),
        "loss_curve_nats": _curve(losses),
        "training_s": progress.elapsed_s,
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
        facts: From :func:`gather_facts`, with ``bits_per_byte`` (held-out lines, by language) and
            ``evaluation`` (None, or its folder, lines and ``bits_per_byte``) added.
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
        "seed": str(recipe["seed"]),
        "command": f"`{facts['command']}`",
        "libraries": f"torch {facts['torch']}, transformers {facts['transformers']}",
    }
    table = [f"| {name} | {text} |" for name, text in rows.items()]
    parts = [
        f"# {title} language{'s' * (n_languages > 1)}",
        "\n".join(["| | |", "|---|---|", *table]),
    ]
    return "\n\n".join([*parts, _scores_sentence(facts), _languages_table(facts)]) + "\n"


def _architecture(facts: Mapping[str, Any]) -> str:
    recipe = facts["recipe"]
    return (
        f"`{facts['class_name']}`, {recipe['blocks']} blocks L0…L{recipe['blocks'] - 1}, width "
        f"{recipe['width']}, {recipe['heads']} heads, context {recipe['context']}, "
        f"{'tied' if facts['tied'] else 'untied'} embedding, no dropout; "
        f"{facts['n_parameters']:,} parameters, stored in bf16"
    )


def _tokenizer(facts: Mapping[str, Any]) -> str:
    if not facts["own_tokenizer"]:
        return f"given, {facts['vocabulary']:,} entries"
    return (
        f"byte-level BPE, {facts['vocabulary']:,} entries, one special token (id 0) that ends "
        f"and begins texts; trained on one line in {TOKENIZER_SHARE} of every language"
    )


def _data(facts: Mapping[str, Any]) -> str:
    n_bytes = sum(row["bytes"] for row in facts["languages"])
    n_tokens = sum(row["tokens"] for row in facts["languages"])
    how = "in proportion to its size" if facts["recipe"]["mix"] is None else "by a given mix"
    return (
        f"`{facts['text_folder']}/`, {n_bytes / 1e6:,.3f} MB, {n_tokens:,} tokens without the "
        f"held-out lines, sampled {how}; sources: {facts['sources']}"
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
    seconds = facts["training_s"]
    sittings = facts["sittings"]
    return (
        f"{seconds / 60:,.2f} minutes of training in {sittings} sitting{'s' * (sittings > 1)}, "
        f"{facts['tokens_seen'] / seconds:,.0f} tokens a second"
    )


def _scores_sentence(facts: Mapping[str, Any]) -> str:
    text = (
        "Bits per byte of the stored weights, in float32: on the held-out lines, which neither "
        "training nor the tokenizer saw"
    )
    if not facts["own_tokenizer"]:
        text = text.replace("neither training nor the tokenizer saw", "training did not see")
    if facts["evaluation"] is not None:
        text += (
            f", and on the {facts['evaluation']['lines']:,} aligned lines of "
            f"`{facts['evaluation']['folder']}/`"
        )
    return text + "."


def _languages_table(facts: Mapping[str, Any]) -> str:
    evaluation = facts["evaluation"]
    head = ["language", "MB", "tokens in text", "tokens seen", "share", "passes", "held-out lines"]
    head += ["bits per byte, held out"]
    head += [f"bits per byte, {evaluation['folder']}"] if evaluation else []
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    rows += [_language_row(row, facts) for row in facts["languages"]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _language_row(row: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    name, seen = row["language"], row["tokens_seen"]
    cells = [
        name,
        f"{row['bytes'] / 1e6:,.3f}",
        f"{row['tokens']:,}",
        f"{seen:,}",
        f"{seen / facts['tokens_seen']:.1%}",
        f"{seen / row['tokens']:.2f}",
        f"{row['held_out_lines']:,}",
        _score(facts["bits_per_byte"].get(name)),
    ]
    if facts["evaluation"] is not None:
        cells.append(_score(facts["evaluation"]["bits_per_byte"].get(name)))
    return cells


def _score(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"
