"""Hidden states, streamed: what experiments see of a model beside its scores.

States of several plans go through the model in step, chunk by chunk, so memory holds one chunk of
text for each plan. Depth −1 is what enters block 0, depth l the output of block l, and depth L
what the head sees (after the final norm); a *site* is depth + 1, a row of an array. Sums are
float64.

:func:`kept_activations` makes one full-precision pass and keeps what geometry needs of it: means
and powers of all tokens, the states of a random sample of tokens, equally many of each language,
and sentence means. The large arrays are files beside the store, mapped, not loaded, and checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitgap.lab.bench import Bench
from bitgap.lab.engine.arithmetic import products
from bitgap.lab.engine.text import Chunk
from bitgap.lab.files import NewFiles
from bitgap.quant.bank import FP
from bitgap.quant.plan import Plan
from bitgap.records import Floats, Integers, Observations

# Attention sinks: Xiao 2024 and Sun 2024 see norms of 10 to 1000 times the others'.
_SINK_RATIO = 10.0


@dataclass(frozen=True, slots=True)
class Slice:
    """The states of some plans at one depth, on one chunk of text.

    Attributes:
        depth: −1 for what enters block 0, l for the output of block l, L for what the head sees.
        chunk: The text.
        states: For each plan, in the order asked, (B x S x d).
        real: Which of (B x S) are tokens of the text proper: no padding and not position 0.
    """

    depth: int
    chunk: Chunk
    states: tuple[Tensor, ...]
    real: Tensor


def stream(
    bench: Bench, plans: Sequence[Plan], chunks: Sequence[Chunk] | None = None
) -> Iterator[Slice]:
    """Yields the states of all plans at every depth, for every chunk of the text.

    Plans that agree up to a block share its state, as the very same tensor.

    Args:
        bench: Model and text.
        plans: What to run; ``Plan.uniform("fp", L)`` for full precision.
        chunks: Text to run instead of the lab's own, such as
            :func:`bitgap.lab.engine.text.cut_rows` makes.
    """
    decoder, device = bench.decoder, bench.settings.device
    for plan in plans:
        bench.bank.check(plan)
    for chunk in bench.chunks if chunks is None else chunks:
        bench.ledger.asked(chunk.n_rows, len(plans) * bench.n_blocks, 0)
        real = real_tokens(chunk, device)
        paths: list[tuple[str, ...]] = [(plan.embedding, *plan.blocks) for plan in plans]
        with torch.inference_mode(), products(bench.settings.arithmetic, device):
            made: dict[tuple[str, ...], Tensor] = {
                path[:1]: decoder.embed_with(chunk.input_ids, bench.bank.embedding(path[0]))
                for path in {path[:1] for path in paths}
            }
        yield Slice(-1, chunk, tuple(decoder.residual(made[path[:1]]) for path in paths), real)
        context = decoder.context_for(*chunk.shape)
        for block in range(decoder.n_blocks):
            with torch.inference_mode(), products(bench.settings.arithmetic, device):
                made = {
                    path: decoder.run_block(
                        block, made[path[:-1]], context, _module(bench, block, path[-1])
                    )
                    for path in sorted({path[: block + 2] for path in paths})
                }
            bench.ledger.ran(chunk.n_rows * len(made))
            states = tuple(decoder.residual(made[path[: block + 2]]) for path in paths)
            yield Slice(block, chunk, states, real)
        with torch.inference_mode():
            finished = tuple(decoder.tail.finish(made[path]) for path in paths)
        yield Slice(decoder.n_blocks, chunk, finished, real)


def _module(bench: Bench, block: int, scheme: str) -> nn.Module:
    # In full precision the model's own, which carries whatever hooks an experiment put there.
    return bench.decoder.blocks[block] if scheme == FP else bench.bank.block(block, scheme)


def real_tokens(chunk: Chunk, device: str) -> Tensor:
    """Returns which of (B x S) are neither padding, prefix, nor position 0, where a sink sits."""
    rows, width = chunk.shape
    column = torch.arange(width, device=device)
    lengths = torch.from_numpy(chunk.lengths).to(device)
    return (column[None, :] < lengths[:, None]) & (column[None, :] >= chunk.first).expand(
        rows, width
    )


def without_sinks(state: Tensor, real: Tensor) -> Tensor:
    """Returns ``real`` less the tokens whose norm exceeds ten times the median norm.

    Args:
        state: (B x S x d), full precision.
        real: (B x S) mask of real tokens.
    """
    norms = state.norm(dim=-1)
    return real & (norms <= _SINK_RATIO * norms[real].median())


def sum_by_sequence(values: Tensor, mask: Tensor) -> Floats:
    """Returns Σ over masked tokens of each row, (B), in float64; ``values`` is (B x S)."""
    kept = torch.where(mask, values.double(), torch.zeros((), dtype=torch.float64))
    return kept.sum(1).cpu().numpy()


# -- one pass, kept --------------------------------------------------------------------------------

ACTIVATIONS_VERSION = 1
"""Raised whenever what is kept changes meaning."""
_TOKENS_PER_DIMENSION = 20
"""Sampled tokens for each dimension of the state, over all languages (method, T-007)."""
_SHARE_OF_MEMORY = 4
"""The sample takes at most this fraction of the memory a lab may use, mapped though it is."""
# Massive activations as Sun 2024 defines them.
_MASSIVE, _MASSIVE_RATIO = 100.0, 1000.0


@dataclass(frozen=True, slots=True)
class Activations:
    """What one full-precision pass shows; sites are S = L + 2, from the embedding to the head's.

    Attributes:
        languages: Codes, reference first.
        language: Row of each sampled token's language, (n).
        sentence: Row of its sentence among the kept ones, (n).
        token: Id of the token whose state it is, (n).
        previous: Id of the token before it, (n).
        states: Its state at every site, (S x n x d), float32, mapped from a file.
        ordinary: Where it is no attention sink: norm at most ten times the median, (S x n).
        pooled: Mean state of every sentence, sinks left out, (L+1 x A x N x d), float32, mapped.
        count: Ordinary tokens of the whole text, (S x A).
        mean: Their mean state, (S x A x d), float64.
        power: Their mean squared state, (S x A x d), float64.
    """

    languages: tuple[str, ...]
    language: Integers
    sentence: Integers
    token: Integers
    previous: Integers
    states: NDArray[np.float32]
    ordinary: NDArray[np.bool_]
    pooled: NDArray[np.float32]
    count: Floats
    mean: Floats
    power: Floats

    def at(
        self, site: int, *, sinks: bool = False, massive: bool = False
    ) -> tuple[Integers, Floats]:
        """Returns which sampled tokens count at a site, (m), and their states, (m x d), float64.

        Args:
            site: 0 for what enters block 0, l + 1 for the output of block l, L + 1 for the head's.
            sinks: Keep attention sinks.
            massive: Keep massive values as they are; else they are clipped to the limit, |h| of
                100 or a thousand times the median |h|, whichever is larger.
        """
        rows = np.arange(self.states.shape[1]) if sinks else np.flatnonzero(self.ordinary[site])
        values = self.states[site][rows].astype(np.float64)
        # The median takes its time, and where nothing exceeds the first limit it decides nothing.
        if not massive and np.abs(values).max(initial=0.0) > _MASSIVE:
            limit = max(_MASSIVE, _MASSIVE_RATIO * float(np.median(np.abs(values))))
            np.clip(values, -limit, limit, out=values)
        return rows, values


def sample_size(bench: Bench) -> int:
    """Returns how many tokens of each language to sample: 20 a dimension, as memory and text allow.

    Languages are balanced, so no more than the shortest text has.
    """
    n_languages, width = len(bench.languages), bench.decoder.width
    row_bytes = 4 * width * (bench.n_blocks + 2)
    wanted = -(-_TOKENS_PER_DIMENSION * width // n_languages)
    fits = bench.settings.memory_bytes // _SHARE_OF_MEMORY // row_bytes // n_languages
    # A sequence's first token and its prefix are never sampled.
    first = bench.text.prefix.first
    shortest = min(sum(len(ids) - first for ids in language) for language in bench.text.ids)
    return max(2, min(wanted, fits, shortest))


def kept_activations(bench: Bench, key: str, per_language: int) -> Activations:
    """Returns activations from the store, or passes over the text once and keeps them.

    Args:
        bench: Model and text.
        key: Content key of what is asked.
        per_language: Tokens sampled of each language.
    """
    found = bench.store.get_observations(key)
    if found is not None:
        large = bench.store.mapped(key, found.facts["files"])
        if large is not None:
            return Activations(languages=bench.languages, **found.arrays, **large)
    sample = _sampled(bench, per_language)
    small, large, digests = _passed(bench, sample, bench.store.new_files(key))
    bench.store.put_observations(
        key,
        Observations(
            experiment="activations",
            version=ACTIVATIONS_VERSION,
            arrays=small,
            facts={"files": digests, "languages": list(bench.languages)},
        ),
    )
    return Activations(languages=bench.languages, **small, **large)


def _sampled(bench: Bench, per_language: int) -> dict[str, Integers]:
    """Returns a random sample of the text's tokens, equally many of each language, by language."""
    rng = np.random.default_rng(bench.settings.seed)
    columns: dict[str, list[Integers]] = {k: [] for k in ("language", "sentence", "position")}
    first = bench.text.prefix.first
    for row, language in enumerate(bench.text.ids):
        sentence = np.repeat(np.arange(len(language)), [len(ids) - first for ids in language])
        position = np.concatenate([np.arange(first, len(ids)) for ids in language])
        chosen = np.sort(rng.permutation(len(sentence))[:per_language])
        columns["language"].append(np.full(len(chosen), row))
        columns["sentence"].append(sentence[chosen])
        columns["position"].append(position[chosen])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _passed(
    bench: Bench, sample: Mapping[str, Integers], files: NewFiles
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Makes the pass; returns small arrays, mapped large ones and what the store says of them."""
    n_sites, (n_languages, n_sentences) = bench.n_blocks + 2, bench.text.counts.tokens.shape
    width, n = bench.decoder.width, len(sample["language"])
    states = files.make("states", (n_sites, n, width))
    pooled = files.make("pooled", (n_sites - 1, n_languages * n_sentences, width))
    norms = np.zeros((n_sites, n))
    count = np.zeros((n_sites, n_languages))
    mean, power = (np.zeros((n_sites, n_languages, width)) for _ in range(2))
    owner = sample["language"] * n_sentences + sample["sentence"]
    for part in stream(bench, [Plan.uniform(FP, bench.n_blocks)]):
        site, state, chunk = part.depth + 1, part.states[0], part.chunk
        mask = without_sinks(state, part.real)
        row_of = np.full(n_languages * n_sentences, -1)
        row_of[chunk.where] = np.arange(len(chunk.where))
        mine = np.flatnonzero(row_of[owner] >= 0)
        rows, columns = row_of[owner[mine]], sample["position"][mine]
        taken = state[torch.from_numpy(rows), torch.from_numpy(columns)].float().cpu().numpy()
        states[site, mine], norms[site, mine] = taken, np.linalg.norm(taken, axis=-1)
        if site < n_sites - 1:
            pooled[site, chunk.where] = _sentence_means(state, mask, part.real)
        for language in np.unique(chunk.where // n_sentences):
            of_language = torch.from_numpy(chunk.where // n_sentences == language)
            values = state[of_language][mask[of_language]].double()
            count[site, language] += len(values)
            mean[site, language] += values.sum(0).cpu().numpy()
            power[site, language] += values.square().sum(0).cpu().numpy()
    many = np.maximum(count, 1)[..., None]
    small = {
        "language": sample["language"],
        "sentence": sample["sentence"],
        "token": _ids_at(bench, sample, 0),
        "previous": _ids_at(bench, sample, -1),
        "ordinary": norms <= _SINK_RATIO * np.median(norms, axis=1, keepdims=True),
        "count": count,
        "mean": mean / many,
        "power": power / many,
    }
    shape = (n_sites - 1, n_languages, n_sentences, width)
    large, digests = files.finish({"pooled": shape})
    return small, large, digests


def _ids_at(bench: Bench, sample: Mapping[str, Integers], offset: int) -> Integers:
    places = zip(sample["language"], sample["sentence"], sample["position"], strict=True)
    return np.array([bench.text.ids[a][s][p + offset] for a, s, p in places], dtype=np.int64)


def _sentence_means(state: Tensor, mask: Tensor, real: Tensor) -> NDArray[np.float32]:
    # A sentence whose every token is a sink keeps them: an empty mean would be no state.
    weights = torch.where(mask.any(1, keepdim=True), mask, real).to(state.dtype)[..., None]
    return ((state * weights).sum(1) / weights.sum(1)).float().cpu().numpy()
