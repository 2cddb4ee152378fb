"""A lab: one model and one text, and the ways to measure them.

``Lab.score`` is the one way to score plans, and ``Lab.observe`` the one way an experiment measures;
both look in the store first and commit what they make, so nothing is computed twice.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from bitgap.corpora.grammar.agreement import load_agreement
from bitgap.corpora.grammar.pairs import require_common
from bitgap.corpora.grammar.treebank import load_treebanks
from bitgap.corpora.parallel import by_first, load_corpus
from bitgap.corpora.unigrams import load_unigrams
from bitgap.disparity.audit import audit
from bitgap.disparity.calibration import Calibration
from bitgap.disparity.layer_map import LayerMap, make_map
from bitgap.disparity.records import DisparityReport
from bitgap.disparity.unit_map import Unit, UnitMap, make_unit_map, unit_plans
from bitgap.lab.activations import (
    ACTIVATIONS_VERSION,
    Activations,
    kept_activations,
    sample_size,
)
from bitgap.lab.bench import Bench, source_of
from bitgap.lab.calibrate import Asked as AskedCalibration
from bitgap.lab.calibrate import compare_calibrations
from bitgap.lab.calibrate import prepare as prepare_calibration
from bitgap.lab.crew.crew import Crew
from bitgap.lab.engine.prefix import PrefixRule
from bitgap.lab.mixtures import caveats_of_model
from bitgap.lab.protect.run import protect, table_of
from bitgap.lab.protect.steps import Asked, Prepared, prepare
from bitgap.lab.reading import read_model
from bitgap.lab.scores import score
from bitgap.lab.settings import Progress, Settings, Silence, phase, provenance
from bitgap.lab.store import Store, content_key
from bitgap.protect.outcome import Outcome
from bitgap.protect.records import DamageTable
from bitgap.quant.plan import Plan
from bitgap.records import Observations, Provenance, Scores
from bitgap.stats.mask_design import make_design


class Lab(Bench):
    """One model and one text, measured: scores, activations, observations, whole results.

    :meth:`from_pretrained` makes it of names, ``Lab.of(loaded, corpus)`` of what is in hand.
    """

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | None = None,
        corpus: str | os.PathLike[str] | None = None,
        *,
        languages: str | Sequence[str] | None = None,
        pairs: str | os.PathLike[str] | None = None,
        treebanks: str | os.PathLike[str] | None = None,
        unigrams: str | os.PathLike[str] | None = None,
        prefix: PrefixRule = "auto",
        reference: str = "en",
        store: str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        crew: Crew | None = None,
    ) -> Self:
        """Loads a model and a corpus by name and binds them.

        Args:
            model: Folder, hub id or GGUF file; the bundled reference model when None.
            corpus: Folder, file or dataset id; the bundled sentences when None.
            languages: Which languages to use, reference added; all when None.
            pairs: Folder of minimal pairs, in the layout of CLAMS or MultiBLiMP; the bundled ones
                when None.
            treebanks: CoNLL-U file or folder whose gold features are probed; the bundled tagged
                sentences when None.
            unigrams: Folder of text or token counts that say what a language's words alone tell,
                see :mod:`bitgap.corpora.unigrams`; before those that ship for the bundled models.
            prefix: What stands before every sentence: ``auto`` (what the tokenizer makes, else
                BOS, else EOS, else nothing), ``tokenizer``, ``bos``, ``eos`` or ``none``.
            reference: The language that damage is compared with and normalised by.
            store: SQLite file; in memory when None.
            settings: How to work.
            progress: Who is told.
            allow_pickle: Whether pickled weights may be read.
            trust_remote_code: Whether code that comes with the model may be run.
            crew: Workers that share the scoring, as :func:`bitgap.lab.crew.begin.begin_crew` makes
                them; whoever made them ends them. Where they are to be faster than threads, this
                process has as many threads as they may be processes.

        Raises:
            UserError: If any of it cannot be used; the message says why and what to do.
        """
        text = load_corpus(corpus, languages=languages, reference=reference)
        # The store before the model: a store that cannot be written should cost no waiting.
        opened = Store(store) if store is not None else None
        # What can be wrong with text is told before a model is loaded.
        grammar = None if pairs is None else load_agreement(pairs)
        if grammar is not None:
            require_common(grammar.languages, text.languages, f"minimal pairs {pairs}")
        parsed = None if treebanks is None else load_treebanks(treebanks, text=text.languages)
        with phase(progress or Silence(), "reading weights"):
            loaded = read_model(
                model,
                allow_pickle=allow_pickle,
                trust_remote_code=trust_remote_code,
                notes=opened,
            )
        counted = None
        if unigrams is not None:
            counted = load_unigrams(
                unigrams, loaded.tokenizer, loaded.info.vocabulary, text.languages
            )
        if crew is not None and crew.chooses:
            settings = replace(settings or Settings(), walkers=crew.places)
        lab = cls.of(
            loaded,
            text,
            store=opened,
            settings=settings,
            progress=progress,
            unigrams=counted,
            prefix=prefix,
        )
        lab.grammar, lab.treebanks = grammar, parsed
        lab.source, lab.crew = source_of(model, allow_pickle, trust_remote_code), crew
        return lab

    def score(self, plans: Sequence[Plan], label: str = "scoring") -> Scores:
        """Scores plans on the whole text.

        Where products are rounded, plans that leave at most two blocks to round are scored in
        float32: what they do is less than rounded products can tell.

        Args:
            plans: What to score; rows of the result are in this order, repeats kept once.
            label: What the progress bar says.

        Raises:
            PlanError: If a plan does not fit the model.
            StoreError: If the store cannot be written; what was committed is kept.
        """
        return score(self, plans, label)

    def activations(self, per_language: int | None = None) -> Activations:
        """Returns what one full-precision pass shows of every site; it is made once.

        Args:
            per_language: Tokens sampled of each language, at most; see
                :func:`bitgap.lab.activations.sample_size` for the default.
        """
        n = sample_size(self) if per_language is None else per_language
        key = content_key("activations", ACTIVATIONS_VERSION, self.text_key, n, self.settings.seed)
        return self.once(key, lambda: kept_activations(self, key, n))

    def audit(self, plan: str | Plan = "rtn4-g128") -> DisparityReport:
        """Returns what one plan does to every language, with intervals and gates.

        Args:
            plan: A plan or its text, such as ``rtn4-g128 protect 0,9,11``.
        """
        chosen = Plan.parse(plan, self.n_blocks) if isinstance(plan, str) else plan
        report = audit(self.score([chosen], "audit"), chosen.text, seed=self.settings.seed)
        note = (f"Of this model: {self.info.note}",) if self.info.note else ()
        return replace(report, caveats=(*note, *caveats_of_model(self), *report.caveats))

    def map(self, scheme: str = "rtn4-g128", *, complete: bool | None = None) -> LayerMap:
        """Returns what keeping sets of blocks whole does.

        Args:
            scheme: How unprotected blocks are rounded.
            complete: Whether all sets are scored; by default up to 8 blocks, and above that those
                of :func:`bitgap.stats.mask_design.make_design`.
        """
        seed = self.settings.seed
        design = make_design(self.n_blocks, seed=seed, complete=complete)
        return make_map(self.score(design.plans(scheme), "map"), scheme, design, seed=seed)

    def units(self) -> tuple[Unit, ...]:
        """Returns every matrix of every block, what plans may give a scheme of its own."""
        return tuple(
            Unit(block=i, name=name, parameters=math.prod(view.shape))
            for i in range(self.n_blocks)
            for name, view in self.decoder.block_linears(i).items()
        )

    def map_units(self, scheme: str = "rtn3-g128") -> UnitMap:
        """Returns what each matrix does to each language when it alone is rounded.

        Args:
            scheme: How.
        """
        units = self.units()
        scores = self.score(unit_plans(scheme, self.n_blocks, units), "units")
        return make_unit_map(scores, scheme, units, seed=self.settings.seed)

    def calibration(self, scheme: str = "rtn4-g128", **asked: Any) -> Calibration:
        """Returns which language's text should calibrate: damage by text and by language.

        Args:
            scheme: Levels and groups of the rounding.
            asked: Further fields of :class:`bitgap.lab.calibrate.Asked`, such as ``tokens=4096``.
        """
        prepared = prepare_calibration(self, AskedCalibration(scheme=scheme, **asked))
        return compare_calibrations(prepared)

    def prepare_recipe(self, **asked: Any) -> Prepared:
        """Returns a search for a recipe that can begin; what was asked wrongly is refused here.

        Args:
            asked: Fields of :class:`bitgap.lab.protect.steps.Asked`, such as ``budget=4.25``.
        """
        return prepare(self, Asked(**asked))

    def damage_table(self, **asked: Any) -> DamageTable:
        """Returns what every choice for every unit does to every language.

        It is of the half of the text that a search may see. With
        :func:`bitgap.protect.problem.make_problem` and :func:`bitgap.protect.solve.solve` it gives
        plans.

        Args:
            asked: As for :meth:`prepare_recipe`; the budget says around which uniform plan swaps
                are measured.
        """
        return table_of(self.prepare_recipe(**asked))

    def protect(self, *, out: str | os.PathLike[str] | None = None, **asked: Any) -> Outcome:
        """Returns the recipe of the same bytes that hurts the languages worst hit least, proved.

        Args:
            out: Folder for ``recipe.toml`` and the damage table; neither is written when None.
            asked: As for :meth:`prepare_recipe`: ``budget=4.25`` bits a weight, ``size="180MB"`` or
                ``like="file.gguf"``, and how to search.
        """
        return protect(self.prepare_recipe(**asked), out=out)

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
        key = self.observation_key(experiment, version, params)
        observations = self.store.get_observations(key)
        if observations is None:
            observations = measure()
            self.store.put_observations(key, observations)
        return observations, key

    def observation_key(self, experiment: str, version: int, params: Mapping[str, Any]) -> str:
        """Returns under which key the store keeps what an experiment measured of this text.

        Args:
            experiment: Id, such as ``T-004``.
            version: Version of its measurement.
            params: Its parameters, JSON-serialisable.
        """
        about: list[Any] = [experiment, version, self.text_key, dict(params), self.settings.seed]
        if self.documents is not None:
            about.append(by_first(self.documents.tolist()))  # what is fitted hangs on them
        return content_key(*about)

    def provenance(self, started: float, thresholds_hash: str) -> Provenance:
        """Returns where numbers measured from ``started`` (``time.time()``) until now come from."""
        return provenance(self.settings, started, thresholds_hash)
