"""How sure a model is of the right sentence of a minimal pair: at the end, and read at every block.

The *margin* of a pair is log p(good) − log p(bad) over whole sentences, in nats. Up to the first
token in which they differ both sentences are one, and what a causal model says of it cancels, so
only the tokens from there on are scored.

A *lens* reads the state after any block as if it were the last one's: the logit lens by the model's
own tail; the tuned lens through an affine map first, h_L ≈ h_l + A h_l + b, fitted by ridge
regression of what the later blocks still add (Belrose 2023; in closed form, after Din 2024). At
the last block nothing is added any more, so either lens is the model itself.

Pairs of many languages are run as one text of their own by the scoring engine, so plans share every
state up to their first rounded block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitgap.corpora.grammar.pairs import MinimalPair
from bitgap.errors import UnsupportedArchitecture
from bitgap.lab.activations import stream
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.budget import Dimensions, make_layout
from bitgap.lab.engine.head import Head
from bitgap.lab.engine.scoring import Engine, Layout, Leaf
from bitgap.lab.engine.text import Chunk, cut_rows
from bitgap.lab.lab import Lab
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats, Integers

TOO_LONG = "longer than the model's context"


SAME_TOKENS = "the tokenizer makes both sentences the same tokens"


UNKNOWN = "a differing word is wholly unknown to the tokenizer"


NOTHING_BEFORE = "the sentences differ in their first token and the tokenizer has no BOS"


@dataclass(frozen=True, slots=True)
class PairTokens:
    """Minimal pairs as token ids.

    Attributes:
        ids: Good and bad sentence of each pair in turn, BOS in front where there is one, (2P).
        first: Position of the first token in which the two differ, (P).
    """

    ids: tuple[tuple[int, ...], ...]
    first: Integers

    @property
    def n_pairs(self) -> int:
        """Number of pairs P."""
        return len(self.first)

    @property
    def scored(self) -> Integers:
        """Tokens of both sentences from the first differing one on, (P)."""
        lengths = np.array([len(row) for row in self.ids]).reshape(-1, 2)
        return (lengths - self.first[:, None]).sum(1)

    def select(self, pairs: Sequence[int] | Integers) -> PairTokens:
        """Returns some of the pairs, in the order given."""
        ids = tuple(row for p in pairs for row in self.ids[2 * int(p) : 2 * int(p) + 2])
        return PairTokens(ids, self.first[np.asarray(pairs, dtype=np.int64)])


def tokenize_pairs(
    lab: Lab, pairs: Sequence[MinimalPair]
) -> tuple[PairTokens, Integers, Mapping[str, int]]:
    """Returns pairs as tokens, the numbers of those that can be used, and why others cannot.

    Args:
        lab: With tokenizer and context.
        pairs: What to tokenize; good and bad may differ in their number of tokens.
    """
    tokenizer = lab.loaded.tokenizer
    sentences = [text for pair in pairs for text in (pair.good, pair.bad)]
    bare = tokenizer(sentences, add_special_tokens=False).input_ids if sentences else []
    bos = tokenizer.bos_token_id
    rows = [tuple(row) if bos is None else (int(bos), *row) for row in bare]
    unknown = getattr(tokenizer, "unk_token_id", None)
    kept, ids, first = [], [], []
    why: Counter[str] = Counter()
    for number, (good, bad) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
        at = _first_difference(good, bad)
        if reason := _unusable(good, bad, at, unknown, lab.info.context):
            why[reason] += 1
            continue
        kept.append(number)
        ids += [good, bad]
        first.append(at)
    return PairTokens(tuple(ids), _whole(first)), _whole(kept), dict(why)


def _whole(numbers: Sequence[int]) -> Integers:
    return np.array(numbers, dtype=np.int64)


def _first_difference(good: Sequence[int], bad: Sequence[int]) -> int:
    for at, (a, b) in enumerate(zip(good, bad, strict=False)):
        if a != b:
            return at
    return min(len(good), len(bad))


def _unusable(
    good: Sequence[int], bad: Sequence[int], at: int, unknown: int | None, context: int | None
) -> str | None:
    if good == bad:
        return SAME_TOKENS
    if context is not None and max(len(good), len(bad)) > context:
        return TOO_LONG
    if at == 0:
        return NOTHING_BEFORE
    if unknown is not None and any(row[at : at + 1] == (unknown,) for row in (good, bad)):
        return UNKNOWN
    return None


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
    mine = np.isin(lab.text.kept[seen.sentence], calibration)
    last = lab.n_blocks
    width = lab.decoder.width
    weight = np.zeros((last + 1, width, width), dtype=np.float32)
    bias = np.zeros((last + 1, width), dtype=np.float32)
    for site in range(last):
        rows = np.flatnonzero(mine & seen.ordinary[site] & seen.ordinary[last])
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
    layout, chunks = _layout_and_chunks(lab, pairs)
    n_rows = sum(chunk.n_rows for chunk in chunks)
    lab.ledger.asked(n_rows, len(plans) * lab.n_blocks, len(plans))
    engine = Engine(
        lab.decoder, lab.bank, chunks, len(pairs.ids), lab.settings.arithmetic, layout,
        lab.settings.device,
    )  # fmt: skip
    nll: dict[Plan, Floats] = {}

    def keep(leaves: list[Leaf]) -> None:
        nll.update((leaf.plan, leaf.nll_nats) for leaf in leaves)

    engine.score([p for p in plans if not p.is_full_precision], keep, tick=lab.ledger.ran)
    for plan in plans:
        if plan.is_full_precision and plan not in nll:
            nll[plan] = engine.reference()
            lab.ledger.ran(n_rows * lab.n_blocks, n_rows)
    found = np.stack([nll[plan] for plan in plans])
    return found[:, 1::2] - found[:, 0::2]


def lens_margins(lab: Lab, pairs: PairTokens, lens: Lens) -> tuple[Floats, Floats]:
    """Returns the margins that the tuned and the logit lens read in full precision.

    Returns:
        Two arrays in nats, (L+1 x P) each; row 0 reads what enters block 0.
    """
    n_sites, tail = lab.n_blocks + 1, lab.decoder.tail
    head = Head.prepared(tail.weight, tail.bias, tail.softcap, lab.engine.rounds)
    buffer = lab.engine.make_buffer()
    logs = np.zeros((2, n_sites, len(pairs.ids)))
    _, chunks = _layout_and_chunks(lab, pairs)
    lab.ledger.asked(sum(chunk.n_rows for chunk in chunks), 0, 2 * n_sites)
    for part in stream(lab, [Plan.uniform(FP, lab.n_blocks)], chunks):
        site, chunk = part.depth + 1, part.chunk
        if site == n_sites:
            continue
        with torch.inference_mode(), products(lab.settings.arithmetic, lab.settings.device):
            states = part.states[0].flatten(0, 1)[chunk.positions].float()
            for row, read in enumerate((lens.read(site, states), states)):
                found = _log_probabilities(head, tail.finish(read), chunk.targets, buffer)
                np.add.at(logs[row, site], chunk.owners.cpu().numpy(), found)
        lab.ledger.ran(0, 2 * chunk.n_rows)
    both = logs[..., 0::2] - logs[..., 1::2]
    return both[0], both[1]


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
    plans = [Plan.uniform(scheme, n, set(range(n)) - {block}) for block in places]
    logs = np.zeros((len(blocks), len(pairs.ids)))
    _, chunks = _layout_and_chunks(lab, pairs)
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
            found = _run_on(lab, pushed, part.depth + 1, chunk)
            np.add.at(logs[k], chunk.owners.cpu().numpy(), found)
    return logs[:, 0::2] - logs[:, 1::2]


def _towards_wrong(lab: Lab, pairs: PairTokens) -> Tensor:
    """Returns the unit direction from each pair's right token to its wrong one, (P x d)."""
    table = lab.decoder.tail.weight
    if table.shape[1] != lab.decoder.width:
        raise UnsupportedArchitecture(
            f"a push towards an output token was to be planted; states are {lab.decoder.width} "
            f"wide and the unembedding is {table.shape[1]}"
        )
    found = torch.zeros(pairs.n_pairs, table.shape[1], device=table.device)
    for p, first in enumerate(pairs.first):
        good, bad = pairs.ids[2 * p], pairs.ids[2 * p + 1]
        # Where one sentence is the beginning of the other, no token stands against the other's.
        if first < min(len(good), len(bad)):
            towards = table[bad[first]] - table[good[first]]
            found[p] = (towards / towards.norm()).float()
    return found


def _run_on(lab: Lab, state: Tensor, first: int, chunk: Chunk) -> Floats:
    """Returns log p of the tokens that count, of states (B x S x d) that enter block ``first``."""
    decoder, device = lab.decoder, lab.settings.device
    context, tail = decoder.context_for(*chunk.shape), decoder.tail
    head = Head.prepared(tail.weight, tail.bias, tail.softcap, lab.engine.rounds)
    with torch.inference_mode(), products(lab.settings.arithmetic, device):
        for block in range(first, lab.n_blocks):
            state = decoder.run_block(block, state, context, lab.bank.block(block, FP))
        finished = tail.finish(state.flatten(0, 1)[chunk.positions])
        lab.ledger.ran(chunk.n_rows * (lab.n_blocks - first), chunk.n_rows)
        return _log_probabilities(head, finished, chunk.targets, lab.engine.make_buffer())


def _layout_and_chunks(lab: Lab, pairs: PairTokens) -> tuple[Layout, list[Chunk]]:
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


def _log_probabilities(head: Head, finished: Tensor, targets: Tensor, buffer: Tensor) -> Floats:
    """Returns log p of each target, (T), of finished states (T x d)."""
    entered = head.enter(finished.float())
    logs = torch.empty(len(targets), device=finished.device)
    for start in range(0, len(targets), len(buffer)):
        rows = slice(start, start + len(buffer))
        z = head.logits(entered[rows], buffer)
        logs[rows] = z.gather(1, targets[rows, None])[:, 0] - torch.logsumexp(z, -1)
    return logs.cpu().double().numpy()
