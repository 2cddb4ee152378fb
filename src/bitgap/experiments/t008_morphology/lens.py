"""How sure a model is of the right sentence of a minimal pair: at the end, and read at every block.

The *margin* of a pair is log p(good) − log p(bad), in nats, over the tokens from the first in
which the sentences differ.

A *lens* reads the state after any block as if it were the last one's: the logit lens by the model's
own tail; the tuned lens through an affine map first, h_L ≈ h_l + A h_l + b, fitted by ridge
regression of what the later blocks still add (Belrose 2023; in closed form, after Din 2024). At
the last block nothing is added any more, so either lens is the model itself.

Pairs of many languages are run as one text of their own by the scoring engine, so plans share every
state up to their first rounded block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitgap.experiments.t008_morphology.matched_pairs import PairTokens
from bitgap.lab.activations import stream
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.budget import Dimensions, make_layout
from bitgap.lab.engine.head import Head, log_sum_exp
from bitgap.lab.engine.scoring import Engine, Layout
from bitgap.lab.engine.text import Chunk, cut_rows
from bitgap.lab.lab import Lab
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats


@dataclass(frozen=True, slots=True)
class Lens:
    """An affine map of states before the tail, at every site: h + h A + b.

    Attributes:
        weight: A, (L+1 x d x d).
        bias: b, (L+1 x d).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def read(self, site: int, states: Tensor) -> Tensor:
        """Returns states (.. x d) of a site as the tail should see them."""
        weight, bias = torch.from_numpy(self.weight[site]), torch.from_numpy(self.bias[site])
        return states + states @ weight.to(states.device) + bias.to(states.device)


def fit_lens(lab: Lab, ridge: float) -> Lens:
    """Returns the tuned lens, fitted on tokens of the calibration sentences.

    Attention sinks are left out, at either end of the map.

    Args:
        lab: Whose :meth:`~bitgap.lab.lab.Lab.activations` are fitted.
        ridge: Penalty on A, in units of the states' mean variance times the number of tokens. The
            stronger, the closer to the logit lens with a constant added.
    """
    seen = lab.activations()
    calibration, _ = lab.corpus.split()
    fitted = np.isin(lab.text.kept[seen.sentence], calibration)
    last = lab.n_blocks
    width = lab.decoder.width
    weight = np.zeros((last + 1, width, width), dtype=np.float32)
    bias = np.zeros((last + 1, width), dtype=np.float32)
    for site in range(last):
        rows = np.flatnonzero(fitted & seen.ordinary[site] & seen.ordinary[last])
        states = seen.states[site][rows].astype(np.float64)
        added = seen.states[last][rows].astype(np.float64) - states
        weight[site], bias[site] = ridge_map(states, added, ridge)
    return Lens(weight, bias)


def ridge_map(states: Floats, wanted: Floats, ridge: float) -> tuple[Floats, Floats]:
    """Returns A, (d x k), and b, (k), of wanted ≈ states A + b, with a penalty on A.

    Args:
        states: (n x d).
        wanted: (n x k).
        ridge: Penalty in units of n times the states' mean variance.
    """
    n, width = states.shape
    if n < 2:
        return np.zeros((width, wanted.shape[1])), np.zeros(wanted.shape[1])
    mean, target = states.mean(0), wanted.mean(0)
    centred = states - mean
    gram = centred.T @ centred
    penalty = max(ridge * np.trace(gram) / width, np.finfo(float).tiny)
    weight = np.linalg.solve(gram + penalty * np.eye(width), centred.T @ (wanted - target))
    return weight, target - mean @ weight


def margins(lab: Lab, pairs: PairTokens, plans: Sequence[Plan]) -> Floats:
    """Returns the margin of every pair under every plan, in nats, (plans x P)."""
    layout, chunks = layout_and_chunks(lab, pairs)
    n_rows = sum(chunk.n_rows for chunk in chunks)
    lab.ledger.asked(n_rows, len(plans) * lab.n_blocks, len(plans))
    engine = Engine(
        lab.decoder, lab.bank, chunks, len(pairs.ids), lab.settings.arithmetic, layout,
        lab.settings.device,
    )  # fmt: skip
    nll: dict[Plan, Floats] = {}
    engine.score(
        [p for p in plans if not p.is_full_precision],
        lambda leaves: nll.update((leaf.plan, leaf.nll_nats) for leaf in leaves),
        tick=lab.ledger.ran,
    )
    full = next((p for p in plans if p.is_full_precision), None)
    if full is not None:
        nll[full] = engine.reference()
        lab.ledger.ran(n_rows * lab.n_blocks, n_rows)
    sentences = np.stack([nll[plan] for plan in plans])
    return sentences[:, 1::2] - sentences[:, 0::2]


def lens_margins(lab: Lab, pairs: PairTokens, lens: Lens) -> tuple[Floats, Floats]:
    """Returns the margins that the tuned and the logit lens read in full precision.

    Returns:
        Two arrays in nats, (L+1 x P) each; row 0 reads what enters block 0.
    """
    n_sites = lab.n_blocks + 1
    read_out = log_probabilities(lab)
    logs = np.zeros((2, n_sites, len(pairs.ids)))
    _, chunks = layout_and_chunks(lab, pairs)
    lab.ledger.asked(sum(chunk.n_rows for chunk in chunks), 0, 2 * n_sites)
    for part in stream(lab, [Plan.uniform(FP, lab.n_blocks)], chunks):
        site, chunk = part.depth + 1, part.chunk
        if site == n_sites:
            continue
        with torch.inference_mode(), products(lab.settings.arithmetic, lab.settings.device):
            states = part.states[0].flatten(0, 1)[chunk.positions].float()
            for row, read in enumerate((lens.read(site, states), states)):
                np.add.at(logs[row, site], chunk.owners.cpu().numpy(), read_out(read, chunk))
        lab.ledger.ran(0, 2 * chunk.n_rows)
    both = logs[..., 0::2] - logs[..., 1::2]
    return both[0], both[1]


def layout_and_chunks(lab: Lab, pairs: PairTokens) -> tuple[Layout, list[Chunk]]:
    """Returns how pairs are cut, and batches of which only the tokens that count are scored."""
    lengths = [len(row) for row in pairs.ids]
    layout = make_layout(
        Dimensions.of(lab.decoder),
        text_rows=sum(lengths),
        longest=max(lengths),
        memory_bytes=lab.settings.memory_bytes,
        device=lab.settings.device,
        threads=torch.get_num_threads(),
    )
    first = np.repeat(pairs.first, 2)
    chunks = []
    for chunk in cut_rows(pairs.ids, layout.chunk_rows, lab.settings.device):
        predicts = chunk.positions.cpu().numpy() % chunk.shape[1]
        starts = first[chunk.owners.cpu().numpy()]
        keep = torch.from_numpy(np.flatnonzero(predicts + 1 >= starts))
        there = keep.to(lab.settings.device)
        chunks.append(
            replace(
                chunk,
                positions=chunk.positions[there],
                targets=chunk.targets[there],
                owners=chunk.owners[there],
                rows=chunk.rows[keep],
            )
        )
    return layout, chunks


def log_probabilities(lab: Lab) -> Callable[[Tensor, Chunk], Floats]:
    """Returns states (T x d) before the tail, chunk -> log p of each of its targets, nats, (T).

    By the engine's own head and tiles, so that what is read at the last block is what the engine
    scores, to the bit.
    """
    tail = lab.decoder.tail
    head = Head.prepared(tail.weight, tail.bias, tail.softcap, lab.engine.rounds)
    scratch = lab.engine.make_buffer()

    def read(states: Tensor, chunk: Chunk) -> Floats:
        entered = head.enter(tail.finish(states).float())
        chosen = head.chosen_logits(entered, head.chosen(chunk.targets), chunk.targets)
        return (chosen - log_sum_exp(head, entered, scratch)).cpu().double().numpy()

    return read
