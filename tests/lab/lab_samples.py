"""Small texts, engines and labs, and the slow and obvious way to score a plan."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CASES, VOCABULARY, build, shared
from torch import Tensor, nn

from bitgap.corpora.parallel import ParallelCorpus
from bitgap.lab.engine.scoring import Engine, Layout, Leaf
from bitgap.lab.engine.text import TokenizedText, make_chunks, tokenize
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.lab.store import Store
from bitgap.models.decoder import Decoder
from bitgap.models.load import LoadedModel, fingerprint
from bitgap.quant.bank import Bank
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import round_weight
from bitgap.records import Arithmetic, Floats, ModelInfo

torch.set_num_threads(1)

ROOMY = Layout(chunk_rows=96, nodes=1, head_rows=64, segment_rows=10**6, bank_bytes=10**9)


class Letters:
    """A tokenizer: every character is a token, and it adds none of its own."""

    def __init__(self, bos: int | None = 1) -> None:
        self.bos_token_id = bos

    def __call__(self, texts: list[str], add_special_tokens: bool) -> Any:
        return SimpleNamespace(
            input_ids=[[3 + ord(c) % (VOCABULARY - 3) for c in t] for t in texts]
        )


def write_corpus(
    n_sentences: int = 3,
    languages: tuple[str, ...] = ("en", "he"),
    longest: int = 24,
    seed: int = 0,
) -> ParallelCorpus:
    draw = random.Random(seed)
    letters = "abcdefghij klmnopqrstuvwxyz"

    def sentence() -> str:
        return (
            "a" + "".join(draw.choice(letters) for _ in range(draw.randint(3, longest - 2))) + "z"
        )

    texts = {code: tuple(sentence() for _ in range(n_sentences)) for code in languages}
    return ParallelCorpus("letters", texts, "nobody", "CC0-1.0")


@dataclass
class Bench:
    """One engine on one text."""

    decoder: Decoder
    bank: Bank
    text: TokenizedText
    engine: Engine

    @property
    def n_sequences(self) -> int:
        return self.text.counts.tokens.size

    @property
    def tokens(self) -> Floats:
        return self.text.counts.tokens.ravel()

    def score(self, plans: list[Plan], **options: Any) -> dict[Plan, Leaf]:
        leaves: list[Leaf] = []
        self.engine.score(plans, leaves.extend, **options)
        assert len({leaf.plan for leaf in leaves}) == len(leaves), "a plan was emitted twice"
        return {leaf.plan: leaf for leaf in leaves}


def make_bench(
    decoder: Decoder | str,
    layout: Layout = ROOMY,
    *,
    corpus: ParallelCorpus | None = None,
    arithmetic: Arithmetic = "exact",
    bos: int | None = 1,
) -> Bench:
    decoder = shared(decoder) if isinstance(decoder, str) else decoder
    text = tokenize(
        corpus or write_corpus(), Letters(bos), context=decoder.context, vocabulary=VOCABULARY
    )
    bank = Bank(decoder, layout.bank_bytes)
    chunks = make_chunks(text, layout.chunk_rows)
    engine = Engine(decoder, bank, chunks, text.counts.tokens.size, arithmetic, layout)
    return Bench(decoder, bank, text, engine)


def load_tiny(case: str = "llama", blocks: int | None = None) -> LoadedModel:
    """A tiny model as a loaded one; with another number of blocks if asked."""
    if blocks is not None:
        name, settings = CASES[case]
        CASES[f"{case}-{blocks}"] = (name, {**settings, "num_hidden_layers": blocks})
        case = f"{case}-{blocks}"
    model: Any = build(case)
    if blocks is not None:
        del CASES[case]
    head = model.get_output_embeddings().weight
    info = ModelInfo(
        name=case,
        family=model.config.model_type,
        class_name=type(model).__name__,
        n_blocks=model.config.num_hidden_layers,
        width=model.config.hidden_size,
        vocabulary=head.shape[0],
        context=40,
        n_parameters=sum(p.numel() for p in model.parameters()),
        tied=head is model.get_input_embeddings().weight,
        fingerprint=fingerprint(model),
    )
    return LoadedModel(model, Letters(), info)


def make_lab(
    case: str = "llama",
    *,
    blocks: int | None = None,
    corpus: ParallelCorpus | None = None,
    store: Store | None = None,
    settings: Settings | None = None,
) -> Lab:
    return Lab.of(load_tiny(case, blocks), corpus or write_corpus(), store=store, settings=settings)


def counted_blocks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts from now on the sequences that go through blocks of a lab's own model."""
    run, blocks = Decoder.run_block, 0

    def counting(self: Decoder, i: int, hidden: Any, *others: Any) -> Any:
        nonlocal blocks
        blocks += hidden.shape[0] if self is lab.decoder else 0
        return run(self, i, hidden, *others)

    monkeypatch.setattr(Decoder, "run_block", counting)
    return lambda: blocks


# -- the slow and obvious way --------------------------------------------------------------------


def quantized_copy(decoder: Decoder, plan: Plan) -> nn.Module:
    """A copy of the whole model in which the weights of a plan were exchanged by hand."""
    model: Any = copy.deepcopy(decoder.model)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    # A tied head keeps its own values whatever happens to the embedding.
    old_head = head.weight.detach().clone()
    head.weight = nn.Parameter(old_head, requires_grad=False)
    table.weight = nn.Parameter(table.weight.detach().clone(), requires_grad=False)
    mine = Decoder(model)
    for i, scheme in enumerate(plan.blocks):
        if scheme == "fp":
            continue
        for name, view in mine.block_linears(i).items():
            rounded = round_weight(view.get().clone(), scheme, stream=f"{i}.{name}")
            stored: Any = view.module.weight
            stored.data.copy_(rounded.T if view.transposed else rounded)
    if plan.embedding != "fp":
        name = decoder.token_embedding_names[0]
        table.weight.data.copy_(round_weight(table.weight.data, plan.embedding, stream=name))
    if plan.head != "fp":
        head.weight.data.copy_(round_weight(old_head, plan.head, stream="head"))
    return model


def log_probabilities(model: Any, ids: tuple[int, ...]) -> Tensor:
    """Of every token after the first, (T x V), float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits.double(), -1)


def score_by_hand(bench: Bench, model: nn.Module) -> tuple[Floats, Floats]:
    """NLL and KL to the model's own full precision in nats of every sentence, (A·N) each."""
    nll, kl = [], []
    for ids in (ids for language in bench.text.ids for ids in language):
        full, mine = (log_probabilities(m, ids) for m in (bench.decoder.model, model))
        targets = torch.tensor(ids[1:])
        nll.append(float(-mine.gather(1, targets[:, None]).sum()))
        kl.append(float((full.exp() * (full - mine)).sum()))
    return np.array(nll), np.array(kl)
