"""What measuring takes: a split model, a text in its tokens, the engine and a place for results.

A bench is what instruments are given; :class:`~bitgap.lab.lab.Lab` is one that also measures. Part
of the text, shuffled tokens or another model make another bench, which shares with the first what
did not change.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import ref

import numpy as np
import torch

from bitgap.corpora.grammar.agreement import AgreementSet
from bitgap.corpora.grammar.treebank import Treebank
from bitgap.corpora.parallel import ParallelCorpus
from bitgap.corpora.unigrams import Unigrams, shipped_unigrams
from bitgap.lab.crew.choice import (
    TRY_S,
    WORTH,
    Choice,
    Gain,
    as_process,
    chosen,
    gain_about,
    gain_of,
    stays,
    try_rows,
)
from bitgap.lab.crew.cut import cut_text
from bitgap.lab.crew.messages import ModelSource, Request
from bitgap.lab.engine.arithmetic import fast_products_round
from bitgap.lab.engine.budget import (
    Dimensions,
    Preflight,
    make_layout,
    predict,
    walkers_within,
)
from bitgap.lab.engine.floor import sampled_sentences
from bitgap.lab.engine.prefix import Prefix, PrefixRule, prefix_of
from bitgap.lab.engine.rates import Rates, corrected, pace, probe_rates, rates_about
from bitgap.lab.engine.scoring import ENGINE_VERSION, Engine, Layout
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.lab.engine.text import Chunk, TokenizedText, make_chunks, tokenize, unreadable
from bitgap.lab.engine.tree import PlanTree
from bitgap.lab.settings import Ledger, Progress, Settings, Silence, phase
from bitgap.lab.store import Store, content_key
from bitgap.models.decoder import Decoder
from bitgap.models.load import LoadedModel
from bitgap.models.silence import hushed_log
from bitgap.models.twins import loaded_with, random_twin
from bitgap.quant.bank import FP, Bank
from bitgap.quant.plan import Plan
from bitgap.records import Integers, ModelInfo

if TYPE_CHECKING:
    from bitgap.lab.crew.crew import Crew

_log = logging.getLogger(__name__)
_APART = "bitgap_apart"
"""Under which a model whose blocks visit their device keeps its decoder."""

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class Bench:
    """One model and one text, ready to be measured; made by :meth:`of`.

    Attributes:
        settings: How to work.
        store: Where results are kept.
        progress: Who is told.
        ledger: Where work is counted, by all benches that come of one.
        loaded: Model, tokenizer and what they are.
        decoder: The model, split.
        bank: Its rounded blocks.
        corpus: The aligned sentences.
        text: Those that fit the model's context, in its tokens.
        engine: What scores plans on the text.
        text_key: Of model and text in the store.
        grammar: Minimal pairs and tagged sentences for T-008; the bundled ones when None.
        treebanks: Gold morphology for its probes; the grammar's own when None.
        unigrams: Token counts of other text, the bundled ones of this tokenizer unless others were
            given; None where there are none.
        unreadable: Languages left out because the tokenizer knows too little of them, and why.
        rates: This machine's speed on this model, once measured; shared.
        whole: The lab on all sentences that this one is part of; None where it is part of none.
        floor_nats: The numerical floor, once measured on this text or one it is part of.
        source: How another process finds the model; None where it cannot, as of a changed one.
        crew: Workers that share the scoring; None where this process does it alone.
    """

    settings: Settings
    store: Store
    progress: Progress
    ledger: Ledger
    loaded: LoadedModel
    decoder: Decoder
    bank: Bank
    corpus: ParallelCorpus
    text: TokenizedText
    engine: Engine
    text_key: str
    grammar: AgreementSet | None = None
    treebanks: Treebank | None = None
    unigrams: Unigrams | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    rates: list[Rates] = field(default_factory=list)
    floor_nats: float | None = None
    whole: Bench | None = None
    source: ModelSource | None = None
    crew: Crew | None = None
    _once: dict[str, Any] = field(init=False, default_factory=dict)

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        corpus: ParallelCorpus,
        *,
        store: Store | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
        unigrams: Unigrams | None = None,
        prefix: PrefixRule = "auto",
    ) -> Self:
        """Splits the model and tokenizes the text; measures nothing yet.

        Args:
            loaded: Model, tokenizer and what they are.
            corpus: Aligned sentences.
            store: Where results are kept; in memory when None.
            settings: How to work.
            progress: Who is told.
            unigrams: Token counts of other text, before the bundled ones.
            prefix: What stands before every sentence, see :mod:`bitgap.lab.engine.prefix`.

        Raises:
            UnsupportedArchitecture: If the model cannot be split.
            CorpusError: If too few sentences fit the model's context.
            BudgetError: If the memory is too small for one sentence.
        """
        settings, progress = settings or Settings(), progress or Silence()
        with phase(progress, "proving the split"):
            decoder, bank = split(loaded, settings)
        with phase(progress, "tokenizing"):
            corpus, left_out = _readable(corpus, loaded)
            counted = _counted(corpus, loaded, unigrams)
            text = _tokenized(corpus, loaded, counted, prefix_of(loaded.tokenizer, prefix))
        return cls(
            settings=settings,
            store=store or Store(":memory:"),
            progress=progress,
            ledger=Ledger(),
            loaded=loaded,
            decoder=decoder,
            bank=bank,
            corpus=corpus,
            text=text,
            engine=_make_engine(decoder, bank, text, settings),
            text_key=_text_key(loaded.info, corpus, text, settings, counted),
            unigrams=counted,
            unreadable=left_out,
        )

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self.loaded.info

    @property
    def n_blocks(self) -> int:
        """Number of blocks L."""
        return self.decoder.n_blocks

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in row order, reference first."""
        return self.text.languages

    @property
    def documents(self) -> Integers | None:
        """The document of each sentence that is scored, (N); None where they are not known."""
        told = self.corpus.documents
        return None if told is None else np.array(told, dtype=np.int64)[self.text.kept]

    @property
    def n_rows(self) -> int:
        """Padded token rows of the whole text: what one evaluation of one block costs."""
        return sum(chunk.n_rows for chunk in self.chunks)

    @property
    def chunks(self) -> list[Chunk]:
        """The text in the batches it is run in."""
        return [chunk for segment in self.engine.segments for chunk in segment]

    # -- other benches ------------------------------------------------------------------------

    def on(
        self,
        *,
        languages: Sequence[str] | None = None,
        sentences: Sequence[int] | Integers | None = None,
    ) -> Self:
        """Returns a lab for part of the text, sharing model, bank and store.

        Args:
            languages: Codes, the reference added; all when None.
            sentences: Sentence numbers of the corpus, in the order wanted; all when None.
        """
        corpus, left_out = _readable(self.corpus.select(languages, sentences), self.loaded)
        part = replace(self, corpus=corpus, unreadable={**self.unreadable, **left_out})
        prefix = self.text.prefix
        made = part._with_text(_tokenized(corpus, self.loaded, self.unigrams, prefix))
        made.whole = (self.whole or self) if languages is None else None
        return made

    def spread(self, n: int | None) -> Self:
        """Returns the lab on n sentences spread over its text, as many documents as there can be.

        A smaller choice is part of any larger one; see
        :meth:`bitgap.corpora.parallel.ParallelCorpus.spread`.

        Args:
            n: How many; the lab itself where it has no more, or n is None.
        """
        if n is None or n >= self.corpus.n_sentences:
            return self
        return self.on(sentences=self.corpus.spread(n))

    def places(self, n: int | None) -> Integers:
        """Returns where the sentences of ``spread(n)`` are among those that this lab scores.

        Args:
            n: As in :meth:`spread`.
        """
        if n is None or n >= self.corpus.n_sentences:
            return np.arange(len(self.text.kept))
        return np.flatnonzero(np.isin(self.text.kept, self.corpus.spread(n)))

    def exact(self) -> Self:
        """Returns the lab in exact arithmetic, made once, with a floor of its own; itself where it
        is exact.

        For damage so small that rounded products would drown it.
        """
        if not products_round(self.settings):
            return self
        return self.once("exact", self._made_exact)

    def _made_exact(self) -> Self:
        settings = replace(self.settings, arithmetic="exact")
        # Planted variants are of the model, whatever the arithmetic they are scored in.
        bank = Bank(self.decoder, beside=self.bank)
        exact = replace(self, settings=settings, bank=bank, rates=[], floor_nats=None)
        return exact._with_text(self.text)

    def with_shuffled_tokens(self, seed: int) -> Self:
        """Returns a lab whose sentences have their tokens in random order, the prefix in its place.

        For controls: what is left of a finding on such text is a matter of words, not of language.

        Args:
            seed: Of the orders.
        """
        rng, lead = np.random.default_rng(seed), len(self.text.prefix.ids)

        def shuffled(row: Sequence[int]) -> tuple[int, ...]:
            return (*row[:lead], *(row[lead + i] for i in rng.permutation(len(row) - lead)))

        ids = tuple(tuple(map(shuffled, language)) for language in self.text.ids)
        return self._with_text(replace(self.text, ids=ids))

    def twin(self, loaded: LoadedModel) -> Self:
        """Returns a lab for another model of the same shapes on the same text and store.

        For controls: a random-init twin, a shuffled or a planted one. The machine's speed and the
        numerical floor are those of this lab: they hang on shapes and text, and a control that is
        planted twenty times need not measure them twenty times.

        Args:
            loaded: The other model; its tokenizer is this one's.
        """
        decoder, bank = split(loaded, self.settings)
        made = replace(self, loaded=loaded, decoder=decoder, bank=bank, source=None)
        return made._with_text(self.text)

    def random_twin(self) -> Self:
        """Returns the lab of an untrained twin: fresh weights as the model's class draws them."""
        untrained = random_twin(self.decoder.model, self.settings.seed)
        made = self.twin(loaded_with(self.loaded, untrained, "random"))
        if self.source is not None and self.source.random_seed is None:
            made.source = replace(self.source, random_seed=self.settings.seed)
        return made

    def _with_text(self, text: TokenizedText) -> Self:
        return replace(
            self,
            text=text,
            engine=_make_engine(self.decoder, self.bank, text, self.settings),
            text_key=_text_key(self.info, self.corpus, text, self.settings, self.unigrams),
            whole=None,
        )

    def forget_ends(self) -> None:
        """Forgets rounded embeddings and heads, which are made again if they are asked for."""
        self.bank.forget_ends()
        self.engine.forget_heads()

    # -- costs --------------------------------------------------------------------------------

    def preflight(self, plans: Sequence[Plan]) -> Preflight:
        """Returns what scoring these plans would cost; measures this machine for a moment."""
        light = [plan for plan in plans if plan.is_light] if products_round(self.settings) else []
        if light:
            known = self.store.known_scores(self.text_key)
            todo = [plan for plan in light if self.score_key(plan) not in known]
            heavy = self._preflight([plan for plan in plans if not plan.is_light])
            return heavy.and_also(self.exact()._preflight(todo), len(set(light)))
        return self._preflight(plans)

    def _preflight(self, plans: Sequence[Plan]) -> Preflight:
        cost = self.cost_alone(plans)
        if self.crew is not None and self.crew.chooses:
            return self.choice(plans, cost).cost
        crew = self.crew_for(plans, cost)
        if crew is None:
            return cost
        rows = [chunk.n_rows for chunk in self.chunks]
        most = max(sum(rows[i] for i in share) for share in cut_text(rows, crew.n))
        round_s = Dimensions.of(self.decoder).block_weights * self.measured_rates().round_s
        each_s = len(_variants(self._todo(plans))) * round_s
        return cost.among(crew.n, most / sum(rows), each_s, crew.up_s)

    def crew_for(self, plans: Sequence[Plan], cost: Preflight) -> Crew | None:
        """Returns the workers that are to score these plans; None where this process does it.

        Workers read a model from its files, so that variants which were made here are here alone.
        What is done before they are up is done here too; the bits are the same.

        Args:
            plans: To score.
            cost: What that takes one process.
        """
        if self.crew is None:
            return None
        if self.crew.chooses:
            found = self.choice(plans, cost)
            self.crew.use(found.n if found.gain is not None else 0)
            self.crew.gain = found.gain
            return self.crew if found.gain is not None else None
        if not self.crew.pays(cost.time_s) or not self._is_found_by_others(plans):
            return None
        return self.crew

    def _is_found_by_others(self, plans: Sequence[Plan]) -> bool:
        return self.source is not None and not any("own:" in plan.text for plan in plans)

    def choice(self, plans: Sequence[Plan], cost: Preflight) -> Choice:
        """Returns whether threads or processes are to score plans, and tells the user once.

        Both are measured where that pays.

        Args:
            plans: To score.
            cost: What that takes threads of this process.
        """
        assert self.crew is not None
        found = self._choice(self.crew, plans, cost)
        self.crew.say_once(f"workers: {found.why}", found.about)
        return found

    def _choice(self, crew: Crew, plans: Sequence[Plan], cost: Preflight) -> Choice:
        threads = self.engine.layout.workers
        most = crew.places
        if most < 2:
            return stays(cost, threads, "there is one processor to use")
        if not self._is_found_by_others(plans):
            return stays(cost, threads, "other processes do not find this model or its variants")
        rows = [chunk.n_rows for chunk in self.chunks]
        n, share = most, ()
        # Each holds its part of the text, of the plans' states and of the rounded blocks.
        while n > 1:
            share = max(cut_text(rows, n), key=lambda part: sum(rows[i] for i in part))
            memory = n * self._cost_of(plans, as_process(self.engine, share, n)).memory_bytes
            if memory <= self.settings.memory_bytes:
                break
            # Fewer have larger parts each, so that no more than this can fit.
            n = min(n - 1, n * self.settings.memory_bytes // memory)
        else:
            return stays(cost, threads, "two processes would not fit --memory together")
        key = content_key(*gain_about(self.engine, n))
        gain = crew.gains.get(key)
        if gain is None and (known := self.store.learned(key)) is not None:
            gain = crew.gains[key] = Gain(**known)
        begin_s = crew.up_s
        if gain is None:
            if cost.time_s < WORTH * (begin_s + 4 * TRY_S):
                return stays(cost, threads, "the work is too short to measure which is faster")
            gain = self._measured_gain(crew, n)
            if gain is None:
                return stays(cost, threads, "processes could not be measured")
            crew.gains[key] = gain
        each = self._cost_of(
            plans, as_process(self.engine, share, n), gain.of_each(self.measured_rates(), n)
        )
        # It is the cost of the largest part already.
        together = replace(each, n_rows=cost.n_rows).among(n, 1.0, 0.0, crew.up_s)
        return chosen(cost, threads, together, gain)

    def _measured_gain(self, crew: Crew, n: int) -> Gain | None:
        """Has threads and processes push rows for a moment, one after the other."""
        rows = try_rows(self.measured_rates().block_s, self.engine.layout.workers)
        ours: list[tuple[float, float]] = []

        def between() -> None:
            pace(self.engine, rows, 0.0)  # the first step pays for memory that others find
            ours.append(pace(self.engine, rows, TRY_S))

        crew.use(n)
        with phase(self.progress, "measuring threads beside processes"):
            theirs = crew.paces(self.request(crew.number(), ()), rows, TRY_S, between)
        return None if theirs is None else gain_of(ours[0], theirs)

    def request(self, number: int, plans: Sequence[Plan], sampled: tuple[int, ...] = ()) -> Request:
        """Returns what workers are told before they are given a part of these plans.

        Args:
            number: Of the request.
            plans: In the order of their tree.
            sampled: Places of the sequences that full precision is evaluated on twice.
        """
        assert self.source is not None and self.crew is not None
        layout = self.engine.layout
        if self.crew.chooses:
            layout = as_process(self.engine, (), self.crew.n).layout
        return Request(
            number=number,
            source=self.source,
            fingerprint=self.info.fingerprint,
            text_key=self.text_key,
            rows=tuple(ids for language in self.text.ids for ids in language),
            first=self.text.prefix.first,
            arithmetic=self.engine.arithmetic,
            rounds=self.engine.rounds,
            layout=layout,
            plans=tuple(plans),
            tops=self.engine.tops,
            sampled=sampled,
        )

    def fits_bank(self, plans: Sequence[Plan]) -> bool:
        """Returns whether all variants of blocks that plans need are held, once made."""
        n_bytes = len(_variants(self._todo(plans))) * Dimensions.of(self.decoder).block_bytes
        return n_bytes <= self.engine.layout.bank_bytes

    def _todo(self, plans: Sequence[Plan]) -> list[Plan]:
        known = self.store.known_scores(self.text_key)
        return [p for p in set(plans) if not p.is_full_precision and self.score_key(p) not in known]

    def cost_alone(self, plans: Sequence[Plan]) -> Preflight:
        """Returns what scoring these plans in this arithmetic would cost one process."""
        return self._cost_of(plans, self.engine)

    def _cost_of(
        self, plans: Sequence[Plan], engine: Engine, rates: Rates | None = None
    ) -> Preflight:
        todo = self._todo(plans)
        n_sequences = self.text.counts.tokens.size
        return predict(
            engine,
            Dimensions.of(self.decoder),
            PlanTree(todo).work(),
            rates or self.measured_rates(),
            todo=todo,
            n_plans=len(set(plans)),
            n_variants=len(_variants(todo)),
            end_bytes=self.bank.end_bytes(todo),
            result_bytes=3 * 16 * n_sequences * len(set(plans)),
            again_rows=self._again_rows() if self.store.get_text(self.text_key) is None else None,
        )

    def _again_rows(self) -> int:
        """Returns the tokens of the sample on which the floor is measured; 0 where it is known."""
        if self.floor_nats is not None:
            return 0
        tokens = self.text.counts.tokens
        return int(tokens.ravel()[sampled_sentences(*tokens.shape)].sum())

    def measured_rates(self) -> Rates:
        """Returns this machine's speed on this model: as runs before took, else by a probe.

        Held for all labs of one model, and kept in the store for later processes.
        """
        if not self.rates:
            about = rates_about(self.engine)
            known = self.store.learned(content_key(*about))
            if known is not None:
                self.rates.append(Rates(**known))
            else:
                with phase(self.progress, "probing this machine"):
                    self.rates.append(probe_rates(self.engine))
        return self.rates[0]

    def learn_rates(self) -> None:
        """Corrects the speed by what the engine's work took, and keeps it."""
        known = self.measured_rates()
        for key, gain in self.crew.gains.items() if self.crew is not None else ():
            if self.store.learned(key) is None:
                self.store.learn(key, gain.as_dict())
        better = corrected(known, self.engine.watch)
        if better is not known:
            self.rates[0] = better
            self.engine.watch = Stopwatch()
            self.store.learn(content_key(*rates_about(self.engine)), better.as_dict())

    # -- what is kept -------------------------------------------------------------------------

    def score_key(self, plan: Plan) -> str:
        """Returns the key of a plan's scores in the store."""
        return content_key(self.text_key, plan.text)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Returns what ``make`` gave when it was first asked for under this name.

        For what depends on model and text alone and controls would measure again at each planting;
        held as long as the lab, and by no lab made of it.
        """
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]


def products_round(settings: Settings) -> bool:
    """Returns whether matrix products are rounded on this machine as the settings have it."""
    return settings.arithmetic == "fast" and fast_products_round(settings.device)


def _variants(plans: Sequence[Plan]) -> set[tuple[int, str]]:
    """Returns the rounded blocks that plans need, by block and scheme."""
    return {(i, s) for plan in plans for i, s in enumerate(plan.blocks) if s != FP}


def source_of(
    model: str | os.PathLike[str] | None, allow_pickle: bool, trust_remote_code: bool
) -> ModelSource:
    """Returns how another process finds a model, wherever it runs.

    Args:
        model: As :func:`bitgap.models.load.load_model` takes it, or a GGUF file.
        allow_pickle: Likewise.
        trust_remote_code: Likewise.
    """
    name = None if model is None else os.path.expanduser(os.fspath(model))
    if name is not None and os.path.exists(name):
        name = os.path.abspath(name)
    return ModelSource(name, allow_pickle, trust_remote_code)


def split(loaded: LoadedModel, settings: Settings) -> tuple[Decoder, Bank]:
    """Splits a model, and returns it with an empty bank of its blocks' variants.

    Where the device has no room for all of the model, its blocks visit it one at a time.

    Args:
        loaded: The model.
        settings: Where it runs, and in which arithmetic.
    """
    decoder = getattr(loaded.model, _APART, lambda: None)()
    if decoder is not None and decoder.model is loaded.model:
        pass  # its parts lie apart, so that it cannot be split once more
    elif has_room(loaded.model, settings):
        decoder = Decoder.from_model(loaded.model.to(settings.device), loaded.info)
    else:
        decoder = Decoder.from_model(loaded.model.to("cpu"), loaded.info)
        decoder.let_blocks_visit(settings.device)
        # Weak, as the decoder holds the model; a copy of the model takes it along.
        setattr(loaded.model, _APART, ref(decoder))
        _log.warning(
            "%s is larger than what %s has free: its blocks visit it one at a time",
            loaded.info.name,
            settings.device,
        )
    on_cpu = torch.device(settings.device).type == "cpu"
    dtype = torch.bfloat16 if products_round(settings) and on_cpu else None
    return decoder, Bank(decoder, product_dtype=dtype)


def has_room(model: Any, settings: Settings) -> bool:
    """Returns whether a model, and what may be used beside it, fit the device's free memory."""
    device = torch.device(settings.device)
    if device.type == "cpu":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    coming = sum(
        p.numel() * p.element_size()
        for p in model.parameters()
        # Without a number any device of the kind is meant, and one that it is on has it already.
        if p.device.type != device.type or device.index not in (None, p.device.index)
    )
    return coming + settings.memory_bytes <= free


def _readable(corpus: ParallelCorpus, loaded: LoadedModel) -> tuple[ParallelCorpus, dict[str, str]]:
    """Returns the text without languages that the tokenizer cannot read, and why they are gone."""
    odd = unreadable(corpus, loaded.tokenizer)
    if odd:
        _log.warning("left out: %s", "; ".join(f"{code}: {why}" for code, why in odd.items()))
        corpus = corpus.select([code for code in corpus.languages if code not in odd])
    return corpus, odd


def _counted(
    corpus: ParallelCorpus, loaded: LoadedModel, given: Unigrams | None
) -> Unigrams | None:
    """Returns token counts of other text, those that were given before those that ship."""
    languages = corpus.languages
    shipped = shipped_unigrams(loaded.tokenizer, loaded.info.vocabulary, languages)
    return shipped if given is None else given.over(shipped)


def _tokenized(
    corpus: ParallelCorpus, loaded: LoadedModel, unigrams: Unigrams | None, prefix: Prefix
) -> TokenizedText:
    with hushed_log():  # a sentence that is too long is dropped, and said below
        text = tokenize(
            corpus,
            loaded.tokenizer,
            context=loaded.info.context,
            vocabulary=loaded.info.vocabulary,
            unigrams=unigrams.counts if unigrams else None,
            prefix=prefix,
        )
    counts = {
        "do not fit the model's context": text.n_dropped - text.n_short,
        "are too short to be scored": text.n_short,
    }
    for what, n in counts.items():
        if n:
            _log.warning(
                "%d of %d sentences %s in some language; dropped", n, corpus.n_sentences, what
            )
    return text


def _make_engine(decoder: Decoder, bank: Bank, text: TokenizedText, settings: Settings) -> Engine:
    lengths = [len(ids) for language in text.ids for ids in language]

    def laid_out(text_rows: int) -> tuple[Layout, tuple[Chunk, ...]]:
        layout = make_layout(
            Dimensions.of(decoder),
            text_rows=text_rows,
            longest=max(lengths),
            memory_bytes=settings.memory_bytes,
            device=settings.device,
            threads=torch.get_num_threads() if settings.walkers == 1 else 1,
        )
        return layout, make_chunks(text, layout.chunk_rows, settings.device)

    layout, chunks = laid_out(sum(lengths))
    padded = sum(chunk.n_rows for chunk in chunks)
    if padded > layout.segment_rows:
        # The text may fit in one piece but for its padding, and then it does with fewer nodes.
        layout, chunks = laid_out(padded)
    if settings.walkers > 1:
        walkers = walkers_within(
            Dimensions.of(decoder),
            layout,
            longest=max(lengths),
            memory_bytes=settings.memory_bytes,
            threads=min(settings.walkers, len(chunks)),
        )
        layout = replace(layout, workers=walkers)
    if decoder.visits is not None:
        layout = replace(layout, streams=True)
    bank.limit_bytes = layout.bank_bytes
    # Where the model is streamed a block may be most of the memory, and is held in its own type.
    bank.holds_cast = not layout.streams
    return Engine(decoder, bank, chunks, len(lengths), settings.arithmetic, layout, settings.device)


def _text_key(
    info: ModelInfo,
    corpus: ParallelCorpus,
    text: TokenizedText,
    settings: Settings,
    unigrams: Unigrams | None,
) -> str:
    # Scores hold what unigrams say of the text. Without counts the key is what it always was.
    counted = unigrams.fingerprint(text.languages) if unigrams else {}
    return content_key(
        "text",
        ENGINE_VERSION,
        info.fingerprint,
        corpus.info.fingerprint,
        [int(i) for i in text.kept],
        # The fingerprint is of the weights; another tokenizer is another text.
        text.ids,
        "rounded but for light plans" if products_round(settings) else "float32",
        *([counted] if counted else []),
        # Told apart already by the ids; but of a longer prefix fewer of them are scored.
        *([["first scored", text.prefix.first]] if text.prefix.first > 1 else []),
    )
