"""The priority matrix: what each experiment is worth, what it costs, and in which order to run it.

Costs are those the catalog states, in evaluations of blocks and heads over the whole text; times
are these times what one evaluation takes on the machine at hand, which is measured.
:func:`at_scale` counts the same evaluations for a large model that no machine here can hold:

    FLOPs = 2 · tokens · (block evaluations · numbers in a block's linears
                          + head evaluations · numbers in the head)

which for whole passes is the usual 2 · parameters · tokens a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import PHASES, Experiment
from bitgap.jobs.spending import NOTHING, Ledger
from bitgap.jobs.tiers import Tier
from bitgap.stats.mask_design import make_design
from bitgap.theory.forecast.cards import Card

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab


WORTH = {"high": 3, "medium": 2, "low": 1}
"""What a value counts for when experiments of a phase are put in order by value over time."""
PATIENCE_S = 600.0
"""Predicted seconds on the processor above which a GPU is recommended."""

BYTES_BF16 = 2

TOKENS_PER_SENTENCE = 40
"""Mean over languages in the method's own account of costs."""
A100_TFLOPS = 312.0
"""Peak dense bf16 rate of an NVIDIA A100, as its maker's datasheet states."""

A100_BYTES = 80e9

UTILISATION = 0.4
"""Share of the peak that large models reach in practice; an assumption, not a measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the machine at hand takes for the model at hand."""

    block_s: float
    """Seconds a block takes for one token row."""
    head_s: float
    rows: int
    """Token rows of the experiments' text."""
    sentences: int
    """Sentences of it."""
    map_rows: int
    """Token rows of the layer map's text."""
    memory_bytes: int
    """Beside the model, for experiments that score few masks."""
    map_memory_bytes: int
    """Beside the model, for the layer map's masks."""


def machine_of(lab: Lab, tier: Tier) -> Machine:
    """Returns what this machine takes for a lab's model; measures for a moment."""
    from bitgap.quant.plan import Plan

    scheme = "rtn4-g128"
    part, of_map = lab.spread(tier.sentences), lab.spread(tier.map_sentences)
    rates = part.measured_rates()
    design = make_design(lab.n_blocks, seed=lab.settings.seed)
    return Machine(
        block_s=rates.block_s,
        head_s=rates.head_s,
        rows=part.n_rows,
        sentences=part.corpus.n_sentences,
        map_rows=of_map.n_rows,
        memory_bytes=part.preflight([Plan.uniform(scheme, lab.n_blocks)]).memory_bytes,
        map_memory_bytes=of_map.preflight(design.plans(scheme)).memory_bytes,
    )


def priority_matrix(
    n_blocks: int,
    machine: Machine | None = None,
    *,
    experiments: Sequence[Experiment] = CATALOG,
    patience_s: float = PATIENCE_S,
) -> dict[str, Any]:
    """Returns what each experiment is worth and costs, in the order to run them; JSON-ready.

    Args:
        n_blocks: L of the model at hand.
        machine: What the machine takes for it; without it times and memory are None.
        experiments: In the catalog's order.
        patience_s: Seconds on the processor above which a GPU is recommended.
    """
    rows = [_row(e, n_blocks, machine, patience_s) for e in experiments]
    rows.sort(key=_rank)
    for order, row in enumerate(rows, start=1):
        row["order"] = order
    return {
        "n_blocks": n_blocks,
        "rows": rows,
        "time_s": None if machine is None else _total(experiments, rows, n_blocks, machine),
        "note": "each experiment's time is what it takes alone; in the whole, plans that several "
        "ask for are paid for once. Weight statistics, probes and controls are not in these times",
    }


def _total(
    experiments: Sequence[Experiment],
    rows: Sequence[Mapping[str, Any]],
    n_blocks: int,
    machine: Machine,
) -> float:
    """Returns the seconds that all take, every plan scored once on the text it is asked on."""
    ledger, spent = Ledger(n_blocks, machine.sentences), NOTHING
    of_map = round(machine.sentences * machine.map_rows / machine.rows)
    apart = set[str]()
    for e in experiments:
        params: Any = e.params
        if hasattr(params, "map_sentences"):
            params = replace(params, map_sentences=of_map)
        if e.asked(n_blocks, params):
            spent += ledger.run(e, params)
        else:
            apart.add(e.id)
    own = [row["time_s"] for row in rows if row["id"] in apart and not row["shares_map"]]
    shared = [row["time_s"] for row in rows if row["id"] in apart and row["shares_map"]]
    a_sentence = machine.rows / machine.sentences
    scored = a_sentence * (spent.blocks * machine.block_s + spent.heads * machine.head_s)
    return sum(own) + max(shared, default=0.0) + scored


def _row(
    e: Experiment, n_blocks: int, machine: Machine | None, patience_s: float
) -> dict[str, Any]:
    blocks, heads = evaluations(e, n_blocks)
    time_s, memory = _time_and_memory(e, blocks, heads, machine)
    heavy = None if time_s is None else time_s > patience_s
    return {
        "id": e.id,
        "hypothesis": e.hypothesis.id,
        "title": e.title,
        "phase": e.phase,
        "phase_name": PHASES[e.phase],
        "value": e.value,
        "device": {None: None, False: "cpu", True: "gpu"}[heavy],
        "block_evaluations": blocks,
        "head_evaluations": heads,
        "shares_map": e.cost.of_map,
        "time_s": time_s,
        "memory_bytes": memory,
        "reason": None if machine is not None else "no model was timed",
    }


def evaluations(e: Experiment, n_blocks: int) -> tuple[int, int]:
    """Returns how many blocks and heads an experiment runs."""
    return e.cost.block_evaluations(n_blocks), e.cost.head_evaluations(n_blocks)


def _time_and_memory(
    e: Experiment, blocks: int, heads: int, machine: Machine | None
) -> tuple[float | None, int | None]:
    if machine is None:
        return None, None
    rows = machine.rows * e.cost.share_of(machine.sentences)
    if e.cost.of_map:
        rows = machine.map_rows
    memory = machine.map_memory_bytes if e.cost.of_map else machine.memory_bytes
    return rows * (blocks * machine.block_s + heads * machine.head_s), memory


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    """Returns what rows are ordered by: phase, then most value a second."""
    work = row["time_s"] if row["time_s"] is not None else row["block_evaluations"]
    return row["phase"], work / WORTH[row["value"]]


def at_scale(
    card: Card,
    *,
    n_languages: int = 200,
    n_sentences: int = 200,
    tokens_per_sentence: float = TOKENS_PER_SENTENCE,
    n_gpus: int = 8,
    tflops: float = A100_TFLOPS,
    utilisation: float = UTILISATION,
    gpu_bytes: float = A100_BYTES,
    experiments: Sequence[Experiment] = CATALOG,
) -> dict[str, Any]:
    """Returns what all experiments would take for a large model and many languages; JSON-ready.

    Args:
        card: The model.
        n_languages: Languages.
        n_sentences: Sentences of each.
        tokens_per_sentence: Mean over languages; a poor tokenizer makes it several times more.
        n_gpus: How many work side by side.
        tflops: Peak rate of one at bf16, in 10¹² FLOPs a second.
        utilisation: Share of the peak that is reached.
        gpu_bytes: Memory of one.
        experiments: In the catalog's order.
    """
    tokens = n_languages * n_sentences * tokens_per_sentence
    speed = n_gpus * tflops * 1e12 * utilisation
    rows = [_scaled_row(e, card, tokens, n_sentences, speed) for e in experiments]
    own = sum(r["flops"] for r in rows if not r["shares_map"])
    flops = own + max((r["flops"] for r in rows if r["shares_map"]), default=0)
    held = BYTES_BF16 * card.counted
    with_copy = held + BYTES_BF16 * card.blocks * card.block_parameters
    return {
        "model": card.name,
        "rows": rows,
        "flops": flops,
        "hours": flops / speed / 3600,
        "memory_bytes": {"model": held, "model_and_rounded_blocks": with_copy},
        "memory_per_gpu_bytes": with_copy / n_gpus,
        "fits": with_copy <= n_gpus * gpu_bytes,
        "gpus_at_least": {
            "model": ceil(held / gpu_bytes),
            "model_and_rounded_blocks": ceil(with_copy / gpu_bytes),
        },
        "assumptions": {
            "languages": n_languages,
            "sentences": n_sentences,
            "tokens_per_sentence": tokens_per_sentence,
            "tokens": tokens,
            "gpus": n_gpus,
            "peak_tflops": tflops,
            "utilisation": utilisation,
            "gpu_bytes": gpu_bytes,
            "bytes_per_number": BYTES_BF16,
            "masks": _masks_note(card.blocks),
            "sources": "default peak rate and memory: the maker's datasheet of an NVIDIA A100 80GB "
            "(dense bf16), from general knowledge; utilisation: assumed; parameters: the card",
            "not_counted": "attention scores, weight statistics, probes, controls, activations "
            "beside the weights, and what waiting between GPUs costs",
        },
    }


def _scaled_row(
    e: Experiment, card: Card, tokens: float, n_sentences: int, speed: float
) -> dict[str, Any]:
    blocks, heads = evaluations(e, card.blocks)
    tokens *= e.cost.share_of(n_sentences)
    flops = 2 * tokens * (blocks * card.block_parameters + heads * card.head_parameters)
    return {
        "id": e.id,
        "hypothesis": e.hypothesis.id,
        "phase": e.phase,
        "shares_map": e.cost.of_map,
        "flops": flops,
        "hours": flops / speed / 3600,
    }


def _masks_note(n_blocks: int) -> str:
    design = make_design(n_blocks)
    if design.complete:
        return f"all 2^{n_blocks} masks"
    return f"{len(design.masks)} masks: singles and pairs from both ends, triples and a sample"
