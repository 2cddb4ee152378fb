"""A lab: one model and one text, ready to be measured.

``Lab.score`` is the one way to score plans, and ``Lab.observe`` the one way an experiment measures;
both look in the store first and commit what they make, so nothing is computed twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from bitgap.corpora.grammar.agreement import AgreementSet, load_agreement
from bitgap.corpora.grammar.treebank import Treebank, load_treebanks
from bitgap.corpora.parallel import ParallelCorpus, load_corpus
from bitgap.lab.activations import (
    ACTIVATIONS_VERSION,
    Activations,
    kept_activations,
    sample_size,
)
from bitgap.lab.engine.arithmetic import fast_products_round
from bitgap.lab.engine.budget import (
    Dimensions,
    Preflight,
    Rates,
    make_layout,
    measure_rates,
    predict,
)
from bitgap.lab.engine.floor import measure_floor
from bitgap.lab.engine.scoring import ENGINE_VERSION, Engine
from bitgap.lab.engine.text import Chunk, TokenizedText, make_chunks, tokenize, unreadable
from bitgap.lab.engine.tree import PlanTree
from bitgap.lab.scores import assemble, score_and_keep
from bitgap.lab.settings import Ledger, Progress, Settings, Silence, provenance
from bitgap.lab.store import Store, content_key
from bitgap.models.decoder import Decoder
from bitgap.models.gauge import loaded_with, random_twin
from bitgap.models.load import LoadedModel, load_model
from bitgap.models.silence import hushed_log
from bitgap.quant.bank import FP, Bank
from bitgap.quant.plan import Plan
from bitgap.records import (
    Integers,
    Observations,
    Provenance,
    Scores,
)

if TYPE_CHECKING:
    from bitgap.disparity.layer_map import LayerMap
    from bitgap.disparity.records import DisparityReport

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Lab:
    """One model, one text and the instruments that work on them.

    Attributes:
        grammar: Minimal pairs and tagged sentences for T-008; the bundled ones when None.
        treebanks: Gold morphology for its probes; the grammar's own when None.
        unreadable: Languages left out because the tokenizer knows too little of them, and why.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        corpus: ParallelCorpus,
        *,
        store: Store | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Splits the model and tokenizes the text; measures nothing yet.

        Args:
            loaded: Model, tokenizer and what they are.
            corpus: Aligned sentences.
            store: Where results are kept; in memory when None.
            settings: How to work.
            progress: Who is told.

        Raises:
            UnsupportedArchitecture: If the model cannot be split.
            CorpusError: If too few sentences fit the model's context.
            BudgetError: If the memory is too small for one sentence.
        """
        self.settings = settings or Settings()
        self.store = store or Store(":memory:")
        self.progress: Progress = progress or Silence()
        self.ledger = Ledger()
        self._rates: list[Rates] = []
        self._floor_nats: float | None = None
        self._once: dict[str, Any] = {}
        self.grammar: AgreementSet | None = None
        self.treebanks: Treebank | None = None
        self.unreadable: dict[str, str] = {}
        self._load(loaded)
        self._read(corpus)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        corpus: str | os.PathLike[str] | None = None,
        *,
        languages: str | Sequence[str] | None = None,
        pairs: str | os.PathLike[str] | None = None,
        treebanks: str | os.PathLike[str] | None = None,
        store: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
    ) -> Lab:
        """Loads a model and a corpus by name and binds them.

        Args:
            model: Folder or hub id; the bundled reference model when None.
            corpus: Folder, file or dataset id; the bundled sentences when None.
            languages: Which languages to use, reference added; all when None.
            pairs: Folder of minimal pairs, in the layout of CLAMS or MultiBLiMP; the bundled ones
                when None.
            treebanks: CoNLL-U file or folder whose gold features are probed; the bundled tagged
                sentences when None.
            store: SQLite file; in memory when None.
            settings: How to work.
            progress: Who is told.
            allow_pickle: Whether pickled weights may be read.
            trust_remote_code: Whether code that comes with the model may be run.

        Raises:
            UserError: If any of it cannot be used; the message says why and what to do.
        """
        text = load_corpus(corpus, languages=languages)
        # The store before the model: a store that cannot be written should cost no waiting.
        opened = Store(store) if store is not None else None
        # What can be wrong with text is told before a model is loaded.
        grammar = None if pairs is None else load_agreement(pairs)
        parsed = None if treebanks is None else load_treebanks(treebanks)
        loaded = load_model(model, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
        lab = cls(loaded, text, store=opened, settings=settings, progress=progress)
        lab.grammar, lab.treebanks = grammar, parsed
        return lab

    @property
    def n_blocks(self) -> int:
        """Number of blocks L."""
        return self.decoder.n_blocks

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in row order, reference first."""
        return self.text.languages

    def on(
        self,
        *,
        languages: Sequence[str] | None = None,
        sentences: Sequence[int] | Integers | None = None,
    ) -> Lab:
        """Returns a lab for part of the text, sharing model, bank and store.

        Args:
            languages: Codes, the reference added; all when None.
            sentences: Sentence numbers of the corpus, in the order wanted; all when None.
        """
        part = self._copy()
        part._read(self.corpus.select(languages, sentences))
        return part

    def first(self, n: int | None) -> Lab:
        """Returns the lab on its first n sentences; itself where it has no more, or n is None."""
        return self if n is None or n >= self.corpus.n_sentences else self.on(sentences=range(n))

    def with_shuffled_tokens(self, seed: int) -> Lab:
        """Returns a lab whose sentences have their tokens in random order, the BOS in its place.

        For controls: what is left of a finding on such text is a matter of words, not of language.

        Args:
            seed: Of the orders.
        """
        rng, lead = np.random.default_rng(seed), int(self.text.has_bos)
        ids = tuple(
            tuple((*row[:lead], *(row[lead + i] for i in rng.permutation(len(row) - lead)))
                  for row in language)
            for language in self.text.ids
        )  # fmt: skip
        part = self._copy()
        part._bind(replace(self.text, ids=ids))
        return part

    def twin(self, loaded: LoadedModel) -> Lab:
        """Returns a lab for another model of the same shapes on the same text and store.

        For controls: a random-init twin, a shuffled or a planted one. The machine's speed and the
        numerical floor are those of this lab: they hang on shapes and text, and a control that is
        planted twenty times need not measure them twenty times.

        Args:
            loaded: The other model; its tokenizer is this one's.
        """
        other = self._copy()
        other._load(loaded)
        other._bind(self.text)
        return other

    def random_twin(self) -> Lab:
        """Returns the lab of an untrained twin: fresh weights as the model's class draws them."""
        untrained = random_twin(self.decoder.model, self.settings.seed)
        return self.twin(loaded_with(self.loaded, untrained, "random"))

    def _load(self, loaded: LoadedModel) -> None:
        self.loaded, self.info = loaded, loaded.info
        self.decoder = Decoder.from_model(loaded.model.to(self.settings.device), loaded.info)
        self._size = Dimensions.of(self.decoder)
        self.bank = Bank(
            self.decoder,
            product_dtype=torch.bfloat16 if self._rounds and self._on_cpu else None,
        )

    def _copy(self) -> Lab:
        part = object.__new__(Lab)
        part.__dict__.update(self.__dict__)
        part._once = {}
        return part

    def _read(self, corpus: ParallelCorpus) -> None:
        if odd := unreadable(corpus, self.loaded.tokenizer):
            self.unreadable = {**self.unreadable, **odd}
            _log.warning("left out: %s", "; ".join(f"{code}: {why}" for code, why in odd.items()))
            corpus = corpus.select([code for code in corpus.languages if code not in odd])
        self.corpus = corpus
        with hushed_log():  # a sentence that is too long is dropped, and said below
            text = tokenize(
                corpus,
                self.loaded.tokenizer,
                context=self.info.context,
                vocabulary=self.info.vocabulary,
            )
        if text.n_dropped:
            _log.warning(
                "%d of %d sentences do not fit the model's context in some language; dropped",
                text.n_dropped,
                corpus.n_sentences,
            )
        self._bind(text)

    def _bind(self, text: TokenizedText) -> None:
        self.text, corpus = text, self.corpus
        self._make_engine(self.settings.memory_bytes)
        self.text_key = content_key(
            "text",
            ENGINE_VERSION,
            self.info.fingerprint,
            corpus.info.fingerprint,
            [int(i) for i in self.text.kept],
            # The fingerprint is of the weights; another tokenizer is another text.
            self.text.ids,
            "rounded" if self._rounds else "float32",
        )

    @property
    def _on_cpu(self) -> bool:
        return torch.device(self.settings.device).type == "cpu"

    @property
    def _rounds(self) -> bool:
        device = self.settings.device
        return self.settings.arithmetic == "fast" and fast_products_round(device)

    def _make_engine(self, memory_bytes: int) -> None:
        lengths = [len(ids) for language in self.text.ids for ids in language]
        layout = make_layout(
            self._size,
            text_rows=sum(lengths),
            longest=max(lengths),
            memory_bytes=memory_bytes,
            device=self.settings.device,
            threads=torch.get_num_threads(),
        )
        self.bank.limit_bytes = layout.bank_bytes
        chunks = make_chunks(self.text, layout.chunk_rows, self.settings.device)
        self.engine = Engine(
            self.decoder,
            self.bank,
            chunks,
            len(lengths),
            self.settings.arithmetic,
            layout,
            self.settings.device,
        )

    @property
    def n_rows(self) -> int:
        """Padded token rows of the whole text: what one evaluation of one block costs."""
        return sum(chunk.n_rows for chunk in self.chunks)

    @property
    def chunks(self) -> list[Chunk]:
        """The text in the batches it is run in."""
        return [chunk for segment in self.engine.segments for chunk in segment]

    # -- scores -------------------------------------------------------------------------------

    def preflight(self, plans: Sequence[Plan]) -> Preflight:
        """Returns what scoring these plans would cost; measures this machine for a moment."""
        known = self.store.known_scores(self.text_key)
        todo = [p for p in set(plans) if not p.is_full_precision and self.score_key(p) not in known]
        variants = {(i, s) for plan in todo for i, s in enumerate(plan.blocks) if s != FP}
        block = sum(v.get().numel() * 4 for v in self.decoder.block_linears(0).values())
        rates = self.measured_rates()
        n_sequences = self.text.counts.tokens.size
        return predict(
            self.engine,
            self._size,
            PlanTree(todo).work(),
            rates,
            n_plans=len(set(plans)),
            n_known=len(set(plans)) - len(todo),
            bank_bytes=block * len(variants),
            result_bytes=3 * 16 * n_sequences * len(set(plans)),
            reference=self.store.get_text(self.text_key) is None,
        )

    def measured_rates(self) -> Rates:
        """Returns this machine's speed on this model, measured once for all labs of one model."""
        if not self._rates:
            self._rates.append(measure_rates(self.engine))
        return self._rates[0]

    def activations(self, per_language: int | None = None) -> Activations:
        """Returns what one full-precision pass shows of every site; it is made once.

        Args:
            per_language: Tokens sampled of each language, at most; see
                :func:`bitgap.lab.activations.sample_size` for the default.
        """
        n = sample_size(self) if per_language is None else per_language
        key = content_key("activations", ACTIVATIONS_VERSION, self.text_key, n, self.settings.seed)
        return self.once(key, lambda: kept_activations(self, key, n))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Returns what ``make`` gave when it was first asked for under this name.

        For what depends on model and text alone and controls would measure again at each planting;
        held as long as the lab, and by no lab made of it.
        """
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def score(self, plans: Sequence[Plan], label: str = "scoring") -> Scores:
        """Scores plans on the whole text.

        Args:
            plans: What to score; rows of the result are in this order, repeats kept once.
            label: What the progress bar says.

        Raises:
            PlanError: If a plan does not fit the model.
            StoreError: If the store cannot be written; what was committed is kept.
        """
        for plan in plans:
            self.bank.check(plan)
        wanted = list(dict.fromkeys(plans))
        facts, arrays = self._text_reference()
        todo = [plan for plan in wanted if not plan.is_full_precision]
        self.ledger.asked(self.n_rows, len(todo) * self.n_blocks, len(todo))
        score_and_keep(self, todo, label)
        return assemble(self.store, self.score_key, wanted, facts, arrays, self.settings.arithmetic)

    def score_key(self, plan: Plan) -> str:
        """Returns the key of a plan's scores in the store."""
        return content_key(self.text_key, plan.text)

    def _text_reference(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (facts, arrays) of what full precision says of this text, measured once."""
        found = self.store.get_text(self.text_key)
        if found is not None:
            return found
        shape = self.text.counts.tokens.shape
        facts = {
            "model": self.info.name,
            "corpus": self.corpus.info.name,
            "languages": list(self.languages),
            "reference": self.corpus.reference,
            "arithmetic": self.settings.arithmetic,
            "products_round": self._rounds,
            "floor_nats": self._measured_floor(shape),
        }
        counts = self.text.counts
        arrays = {
            "nll_fp_nats": self.engine.reference().reshape(shape),
            "unigram_nats": self.text.unigram_nats,
            "tokens": counts.tokens,
            "bytes": counts.bytes,
            "characters": counts.characters,
        }
        self.store.put_text(self.text_key, facts, arrays)
        return facts, arrays

    def _measured_floor(self, shape: tuple[int, ...]) -> float:
        if self._floor_nats is None:
            self._floor_nats = measure_floor(self.engine, *shape)
        return self._floor_nats

    # -- whole results ------------------------------------------------------------------------

    def audit(self, plan: str | Plan = "rtn4-g128") -> DisparityReport:
        """Returns what one plan does to every language, with intervals and gates.

        Args:
            plan: A plan or its text, such as ``rtn4-g128 protect 0,9,11``.
        """
        from bitgap.disparity.audit import audit

        chosen = Plan.parse(plan, self.n_blocks) if isinstance(plan, str) else plan
        return audit(self.score([chosen], "audit"), chosen.text, seed=self.settings.seed)

    def map(self, scheme: str = "rtn4-g128") -> LayerMap:
        """Returns what keeping every set of blocks whole does: all sets up to 14 blocks.

        Args:
            scheme: How unprotected blocks are rounded.
        """
        from bitgap.disparity.layer_map import make_design, make_map

        design = make_design(self.n_blocks, seed=self.settings.seed)
        return make_map(
            self.score(design.plans(scheme), "map"), scheme, design, seed=self.settings.seed
        )

    # -- observations -------------------------------------------------------------------------

    def observe(
        self, experiment: str, version: int, params: Mapping[str, Any], measure: Callable[[], Any]
    ) -> tuple[Observations, str]:
        """Returns what an experiment measured, and its key; measures only what is not stored.

        Args:
            experiment: Id, such as ``T-004``.
            version: Version of its measurement.
            params: Its parameters, JSON-serialisable.
            measure: Returns the :class:`Observations`; called only if they are not stored.
        """
        key = content_key(experiment, version, self.text_key, dict(params), self.settings.seed)
        found = self.store.get_observations(key)
        if found is None:
            found = measure()
            self.store.put_observations(key, found)
        return found, key

    def provenance(self, started: float, thresholds_hash: str) -> Provenance:
        """Returns where numbers measured from ``started`` (``time.time()``) until now come from."""
        return provenance(self.settings, started, thresholds_hash)
