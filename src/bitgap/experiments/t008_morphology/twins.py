"""What T-008 measures for its controls: a twin, labels written into states, broken agreement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.protocol.controls import PLANTED_LANGUAGES
from bitgap.experiments.t008_morphology import Params
from bitgap.experiments.t008_morphology.causal import rich_flags, window_of
from bitgap.experiments.t008_morphology.lens import layout_and_chunks, log_probabilities, margins
from bitgap.experiments.t008_morphology.matched_pairs import Items, PairTokens
from bitgap.experiments.t008_morphology.plans import plans
from bitgap.experiments.t008_morphology.tagged_words import States, TaggedWords, word_states
from bitgap.lab.activations import stream
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.text import Chunk
from bitgap.lab.lab import Lab
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats, Integers
from bitgap.stats.probes import Task, principal_scores, probe_sites, written
from bitgap.stats.verdicts import load_thresholds


def site_scores(states: States, task: Task, n_components: int) -> dict[int, list[Floats]]:
    """Returns principal scores of a task's words at every site, language by language.

    Args:
        states: Of the task's words alone, (S x n x d).
        task: Whose words they are.
        n_components: At most.
    """
    rows = {int(code): task.only([int(code)]) for code in np.unique(task.languages)}
    return {
        code: [principal_scores(site[own].astype(np.float64), n_components) for site in states]
        for code, own in rows.items()
    }


def measure_probes(
    twin: Lab, words: TaggedWords, states: States, task: Task, params: Params
) -> dict[str, Any]:
    """Returns what the controls of the probe show on words of the three languages that have most.

    Args:
        twin: The random-init twin.
        words: The sample.
        states: Of all its words, (S x n x d).
        task: The primary feature's.
        params: Of T-008.

    Returns:
        ``few``, which of the task's words they are; ``shuffled_labels``, ``shuffled_hits`` (S x
        n'); ``random_hits`` and ``random_control_hits`` (S x n'); ``written_hits`` and
        ``written_control_hits`` (L x n'); empty where there are no words.
    """
    if not len(task.rows):
        return {}
    codes, counts = np.unique(task.languages, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:PLANTED_LANGUAGES]
    few = task.only(sorted(int(code) for code in codes[most]))
    small = _part_of(task, few)
    rng = np.random.default_rng(twin.settings.seed)
    shuffled = small.labels.copy()
    for code in np.unique(small.languages):
        inside = small.only([int(code)])
        shuffled[inside] = rng.permutation(shuffled[inside])
    own, both = states[:, small.rows], [small.labels, small.control]
    marked = np.stack([
        written(site.astype(np.float64), small.labels, params.planted_label, block)
        for block, site in enumerate(own[1:])
    ])  # fmt: skip

    def hits(of: Any, labels: Sequence[Integers]) -> Any:
        return probe_sites(site_scores(of, small, params.components), small, labels, params.penalty)

    trained, random = hits(own, [shuffled]), hits(word_states(twin, words.select(small.rows)), both)
    planted = hits(marked, both)
    return {
        "few": few,
        "shuffled_labels": shuffled,
        "shuffled_hits": trained[0],
        "random_hits": random[0],
        "random_control_hits": random[1],
        "written_hits": planted[0],
        "written_control_hits": planted[1],
    }


def _part_of(task: Task, rows: Integers) -> Task:
    """Returns a task on some of its words."""
    units = np.unique(task.units[rows], return_inverse=True)[1].astype(np.int64)
    return Task(task.rows[rows], task.labels[rows], task.control[rows], task.languages[rows],
                units, task.folds[rows])  # fmt: skip


def measure_damage(
    lab: Lab, twin: Lab, scheme: str, items: Items, params: Params
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns margins of the first items for the controls of the causal part.

    Returns:
        Arrays: ``random_margin`` (1+L x 2 x A x k) of the untrained twin; of agreement in rich
        languages ``broken_margin`` (P x A' x k') with ``broken_block`` (P). Facts: ``no_broken``,
        why they are not there. Empty where there are no items.
    """
    if not items.n_items:
        return {}, {}
    few = items.first(params.control_items)
    untrained = few.by_item(margins(twin, few.pairs, plans(lab.n_blocks, scheme)))
    try:
        broken = _broken(lab, scheme, items.first(params.broken_items), params)
        return {"random_margin": untrained, **broken}, {}
    except UnsupportedArchitecture as error:
        return {"random_margin": untrained}, {"no_broken": str(error)}


def _broken(lab: Lab, scheme: str, few: Items, params: Params) -> dict[str, Any]:
    """Returns margins of agreement in rich languages, pushed towards the wrong at window blocks."""
    inside = np.flatnonzero(window_of(lab.n_blocks, load_thresholds().window))
    rich = rich_flags(few.languages)
    kind, row, _ = np.unravel_index(few.owner, (2, len(rich), few.n_items))
    chosen = np.flatnonzero((kind == 0) & rich[row])
    if not len(inside) or not len(chosen):
        return {}
    blocks = inside[np.arange(params.pushes) % len(inside)]
    every = np.zeros((len(blocks), few.pairs.n_pairs))
    every[:, chosen] = pushed_margins(
        lab, few.pairs.select(chosen), scheme, blocks.tolist(), params.planted_push
    )
    return {"broken_margin": few.by_item(every)[:, 0, rich], "broken_block": blocks}


def pushed_margins(
    lab: Lab, pairs: PairTokens, scheme: str, blocks: Sequence[int], strength: float
) -> Floats:
    """Returns margins of a model with one block rounded and pushed towards the wrong sentences.

    The push is an intervention on the block's output, at the one token before the two sentences
    differ: the unembedding of the wrong next token less that of the right one, and Gaussian noise
    as long, another for every planting.

    Args:
        lab: Model and tokenizer.
        pairs: All of them are pushed.
        scheme: How the block is rounded.
        blocks: Where each planting is made, (K).
        strength: Length of either part of the push over that of the token's own state.

    Returns:
        In nats, (K x P).

    Raises:
        UnsupportedArchitecture: If states and unembedding differ in width.
    """
    n, width = lab.n_blocks, lab.decoder.width
    wrong = _towards_wrong(lab, pairs)
    noise = torch.from_numpy(
        np.random.default_rng(lab.settings.seed).normal(size=(len(blocks), width))
    )
    noise = (noise / noise.norm(dim=1, keepdim=True)).float().to(wrong.device)
    places = sorted(set(blocks))
    plans = [Plan.only(scheme, n, block) for block in places]
    logs = np.zeros((len(blocks), len(pairs.ids)))
    _, chunks = layout_and_chunks(lab, pairs)
    for part in stream(lab, plans, chunks):
        if part.depth not in places:
            continue
        state, chunk = part.states[places.index(part.depth)], part.chunk
        pair = torch.from_numpy(chunk.where // 2)
        at = torch.from_numpy(pairs.first[chunk.where // 2] - 1)
        for k in np.flatnonzero(np.array(blocks) == part.depth):
            with torch.inference_mode():
                pushed, rows = state.clone(), torch.arange(len(at))
                own = pushed[rows, at]
                size = strength * own.norm(dim=1, keepdim=True)
                pushed[rows, at] = own + size * (wrong[pair] + noise[k])
            scored = _run_on(lab, pushed, part.depth + 1, chunk)
            np.add.at(logs[k], chunk.owners.cpu().numpy(), scored)
    return logs[:, 0::2] - logs[:, 1::2]


def _towards_wrong(lab: Lab, pairs: PairTokens) -> Tensor:
    """Returns the unit direction from each pair's right token to its wrong one, (P x d)."""
    table = lab.decoder.tail.weight
    if table.shape[1] != lab.decoder.width:
        raise UnsupportedArchitecture(
            f"a push towards an output token was to be planted; states are {lab.decoder.width} "
            f"wide and the unembedding is {table.shape[1]}"
        )
    directions = torch.zeros(pairs.n_pairs, table.shape[1], device=table.device)
    for p, first in enumerate(pairs.first):
        good, bad = pairs.ids[2 * p], pairs.ids[2 * p + 1]
        # Where one sentence is the beginning of the other, no token stands against the other's.
        if first < min(len(good), len(bad)):
            towards = table[bad[first]] - table[good[first]]
            directions[p] = (towards / towards.norm()).float()
    return directions


def _run_on(lab: Lab, state: Tensor, first: int, chunk: Chunk) -> Floats:
    """Returns log p of the tokens that count, of states (B x S x d) that enter block ``first``."""
    decoder, device = lab.decoder, lab.settings.device
    context = decoder.context_for(*chunk.shape)
    with torch.inference_mode(), products(lab.settings.arithmetic, device):
        for block in range(first, lab.n_blocks):
            state = decoder.run_block(block, state, context, lab.bank.block(block, FP))
        lab.ledger.ran(chunk.n_rows * (lab.n_blocks - first), chunk.n_rows)
        return log_probabilities(lab)(state.flatten(0, 1)[chunk.positions], chunk)
