"""Scores kept as they are made, and what full precision says of a text."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bitgap.lab.bench import Bench, products_round
from bitgap.lab.crew.crew import Crew, Work
from bitgap.lab.crew.messages import Ran
from bitgap.lab.engine.budget import FULL_HEADS
from bitgap.lab.engine.floor import Reference
from bitgap.lab.engine.head import Target
from bitgap.lab.engine.scoring import Leaf
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.lab.engine.stream import score_streaming
from bitgap.lab.engine.text import Chunk
from bitgap.lab.engine.tree import PlanTree
from bitgap.lab.store import assemble, content_key
from bitgap.quant.plan import Plan
from bitgap.records import Integers, Observations, Scores

# A commit costs milliseconds; this bounds what a kill can lose.
_COMMIT_EVERY_S = 1.0
FLIPS = "flips"
"""What counts of changed tokens are kept as; no experiment judges them."""
_FLIPS_VERSION = 1


class _Watch:
    """Tells progress of full precision, and keeps what it says of a text that is new."""

    def __init__(
        self, bench: Bench, worked: Callable[[int, int], None], reference: Reference | None
    ) -> None:
        self._bench, self._worked, self._reference = bench, worked, reference

    @property
    def again(self) -> list[Chunk]:
        return [] if self._reference is None else self._reference.again

    def second(self, hidden: list[Tensor]) -> None:
        if self._reference is not None:
            self._reference.second(hidden)

    def ran(self, block_rows: int, head_rows: int) -> None:
        self._worked(block_rows, FULL_HEADS * head_rows)

    def see(self, chunk: Chunk, target: Target) -> None:
        if self._reference is None:
            return
        self._reference.see(chunk, target)
        if self._reference.is_complete:
            _keep_reference(self._bench, self._reference)


def score(bench: Bench, plans: Sequence[Plan], label: str = "scoring") -> Scores:
    """Returns the scores of plans on the whole text; see :meth:`bitgap.Lab.score`."""
    for plan in plans:
        bench.bank.check(plan)
    wanted = list(dict.fromkeys(plans))
    todo = [plan for plan in wanted if not plan.is_full_precision]
    bench.ledger.asked(bench.n_rows, len(todo) * bench.n_blocks, len(todo))
    light = [plan for plan in todo if plan.is_light] if products_round(bench.settings) else []
    todo = [plan for plan in todo if plan not in light]
    # Where the text is new, the plans are scored in the pass that full precision takes.
    facts, arrays = text_reference(bench, todo, label)
    score_and_keep(bench, todo, label)
    if light:
        facts = keep_light_scores(bench, light, facts, arrays, label)
    return assemble(bench.store, bench.score_key, wanted, facts, arrays, bench.settings.arithmetic)


def score_and_keep(
    bench: Bench, plans: Sequence[Plan], label: str, reference: Reference | None = None
) -> None:
    """Scores the plans that the store does not hold, and commits them as they are finished.

    Args:
        bench: Model, text and store.
        plans: None of them full precision.
        label: What the progress bar says.
        reference: Where the store does not know the text yet: what is to be kept of full precision,
            measured in the same pass and committed before any score.
    """
    keys = {plan: bench.score_key(plan) for plan in plans}
    known = bench.store.known_scores(bench.text_key)
    if bench.engine.tops:
        flips = {plan: flips_key(bench, plan) for plan in plans}
        known -= {keys[p] for p, key in flips.items() if bench.store.get_observations(key) is None}
    if reference is None and all(key in known for key in keys.values()):
        return
    if plans:  # Full precision alone says nothing of what rounding does.
        bench.store.begin(bench.info.fingerprint, bench.info.name)
    shape = bench.text.counts.tokens.shape
    pending: list[Leaf] = []
    last = time.monotonic()

    def commit() -> None:
        nonlocal last
        rows = [
            (keys[x.plan], x.plan.text, np.stack([x.nll_nats, x.kl_nats]).reshape(2, *shape))
            for x in pending
        ]
        for leaf in pending:
            if leaf.flips is not None:
                _keep_flips(bench, leaf.plan, leaf.flips.reshape(shape))
        bench.store.put_scores(bench.text_key, rows)
        # Not before: who is stopped in between tries once more.
        pending.clear()
        last = time.monotonic()

    def emit(leaves: list[Leaf]) -> None:
        pending.extend(leaves)
        if time.monotonic() - last > _COMMIT_EVERY_S:
            commit()

    rates = bench.measured_rates()

    def worked(block_rows: int, head_rows: int) -> None:
        bench.progress.advance(block_rows * rates.block_s + head_rows * rates.head_s)

    def is_known(plan: Plan) -> bool:
        return keys[plan] in known

    def tick(block_rows: int, head_rows: int) -> None:
        bench.ledger.ran(block_rows, head_rows)
        worked(block_rows, head_rows)

    watch = _Watch(bench, worked, reference)
    folder = bench.store.walk_folder(bench.text_key)
    alone = bench.cost_alone(plans)
    crew = bench.crew_for(plans, alone)
    together = f"{label} ({crew.n} workers)" if crew else label
    bench.progress.start(together, bench.preflight(plans).time_s if crew else alone.time_s)
    try:
        asked: dict[str, Any] = {"known": is_known, "tick": tick, "watch": watch}
        if crew is not None:
            _score_by_crew(
                bench, crew, plans, alone.time_s, is_known, emit, reference, worked, folder
            )
        elif bench.engine.layout.streams:
            at: dict[str, Any] = {"folder": folder, "key": bench.text_key}
            score_streaming(bench.engine, plans, emit, **asked, **at)
        else:
            bench.engine.score(plans, emit, **asked)
    except KeyboardInterrupt:
        commit()
        raise
    else:
        commit()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # of a walk whose scores are now kept
    finally:
        bench.progress.stop()
    bench.learn_rates()


def _score_by_crew(
    bench: Bench,
    crew: Crew,
    plans: Sequence[Plan],
    alone_s: float,
    known: Callable[[Plan], bool],
    emit: Callable[[list[Leaf]], None],
    reference: Reference | None,
    worked: Callable[[int, int], None],
    folder: Path | None,
) -> None:
    """Has workers score plans, as :meth:`bitgap.lab.engine.scoring.Engine.score` would.

    Args:
        bench: Model, text and store.
        crew: The workers.
        plans: None of them full precision.
        alone_s: What it would take one process, in seconds.
        known: Whether a plan's scores exist already.
        emit: Takes finished leaves.
        reference: What is to be kept of full precision, if anything.
        worked: Told of work as it is done, in token rows.
        folder: Where states of a walk lie.
    """
    engine = bench.engine
    ordered = PlanTree(plans).plans
    sampled = () if reference is None else reference.sampled
    request = bench.request(crew.number(), ordered, sampled)

    def ran(rows: Ran, sign: int) -> None:
        blocks = rows.blocks + rows.full_blocks
        heads = rows.heads + FULL_HEADS * rows.full_heads
        # The bar tells seconds of the clock, in which all of them work.
        worked(sign * blocks // crew.n, sign * heads // crew.n)

    work = Work(
        known=[known(plan) for plan in ordered],
        rows=[chunk.n_rows for chunk in bench.chunks],
        seconds=alone_s,
        roomy=bench.fits_bank(plans),
        reference=reference,
        complete=lambda: None if reference is None else _keep_reference(bench, reference),
        emit=emit,
        ran=ran,
        finished=lambda rows: bench.ledger.ran(rows.blocks, rows.heads),
        watch=Stopwatch() if crew.gain else engine.watch,
        folder=folder,
    )
    crew.score(request, work)
    if crew.gain is not None:
        # Rates are those of threads, which processes are compared with.
        engine.watch.add(crew.gain.of_threads(work.watch, crew.n))


def flips_key(bench: Bench, plan: Plan) -> str:
    """Returns the key of a plan's flips in the store."""
    return content_key(FLIPS, _FLIPS_VERSION, bench.score_key(plan))


def _keep_flips(bench: Bench, plan: Plan, flips: Any) -> None:
    kept = Observations(
        experiment=FLIPS,
        version=_FLIPS_VERSION,
        arrays={"flips": np.rint(flips).astype(np.int64)},
        facts={"plan": plan.text, "languages": list(bench.languages)},
    )
    bench.store.put_observations(flips_key(bench, plan), kept)


def flip_counts(bench: Bench, plan: Plan, label: str) -> Integers:
    """Returns how many tokens of each sentence have another most likely next one under a plan.

    A token counts where some other has a larger logit under the plan than the one that has the
    largest in full precision, by the same products; a tie is no change. Scores that are not known
    yet are made and kept in the same pass.

    Args:
        bench: Model, text and store.
        plan: Not full precision.
        label: What the progress bar says.

    Returns:
        Counts, (A x N).
    """
    if plan.is_light and products_round(bench.settings):
        bench = bench.exact()
    bench.engine.tops = True
    try:
        text_reference(bench, [plan], label)
        score_and_keep(bench, [plan], label)
    finally:
        bench.engine.tops = False
    kept = bench.store.get_observations(flips_key(bench, plan))
    assert kept is not None
    return kept.arrays["flips"]


def keep_light_scores(
    bench: Bench,
    plans: Sequence[Plan],
    facts: dict[str, Any],
    arrays: dict[str, Any],
    label: str,
) -> dict[str, Any]:
    """Scores light plans in float32 and keeps them beside those whose products are rounded.

    KL is from full precision in float32. NLL is told as what the plan adds to it there, on top of
    full precision's with rounded products, so that differences to either are right.

    Args:
        bench: Model, text and store, of rounded products.
        plans: Those of them that leave at most two blocks to round.
        facts: What is kept of the text.
        arrays: Likewise.
        label: What the progress bar says.

    Returns:
        The facts, with the floor of these plans.
    """
    known = bench.store.known_scores(bench.text_key)
    todo = [plan for plan in plans if bench.score_key(plan) not in known]
    if not todo:
        return facts
    exact = bench.exact()
    its_facts, its_arrays = text_reference(exact, todo, label)
    score_and_keep(exact, todo, label)
    shape = arrays["nll_fp_nats"].shape
    rows: list[tuple[str, str, Any]] = []
    for plan in todo:
        nll, kl = exact.store.get_scores(exact.score_key(plan), shape)
        added = nll - its_arrays["nll_fp_nats"]
        rows.append(
            (bench.score_key(plan), plan.text, np.stack([arrays["nll_fp_nats"] + added, kl]))
        )
    if "light_floor_nats" not in facts:
        # Before the scores: a floor that is known of none does no harm, the reverse would.
        facts = facts | {"light_floor_nats": its_facts["floor_nats"]}
        bench.store.put_text(bench.text_key, facts, arrays)
    bench.store.put_scores(bench.text_key, rows)
    return facts


def text_reference(
    bench: Bench, plans: Sequence[Plan] = (), label: str = "full precision"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (facts, arrays) of what full precision says of the text, measured once and stored.

    Args:
        bench: Model, text and store.
        plans: Scored and stored in the same pass, where the text is new; else left alone.
        label: What the progress bar says.

    Raises:
        StoreError: If the store cannot be written.
    """
    told = {} if bench.documents is None else {"documents": bench.documents}
    stored = bench.store.get_text(bench.text_key)
    if stored is None:
        shape = bench.text.counts.tokens.shape
        reference = Reference(bench.engine, *shape, floor_nats=bench.floor_nats)
        score_and_keep(bench, plans, label, reference)
        stored = bench.store.get_text(bench.text_key)
        assert stored is not None
        return stored
    facts, arrays = stored
    kept: Any = arrays.get("documents")
    if told and not (kept is not None and np.array_equal(kept, told["documents"])):
        # Which documents a text is of may be told after it was measured.
        arrays = arrays | told
        bench.store.put_text(bench.text_key, facts, arrays)
    return facts, arrays


def _keep_reference(bench: Bench, reference: Reference) -> None:
    counts = bench.text.counts
    bench.floor_nats = reference.floor_nats
    facts = {
        "model": bench.info.name,
        "corpus": bench.corpus.info.name,
        "languages": list(bench.languages),
        "reference": bench.corpus.reference,
        "arithmetic": bench.settings.arithmetic,
        "products_round": products_round(bench.settings),
        "floor_nats": bench.floor_nats,
        "vocabulary": bench.info.vocabulary,
        "unigrams": bench.unigrams.name if bench.unigrams else None,
        "prefix": bench.text.prefix.text,
    }
    arrays = {
        "nll_fp_nats": reference.nll_nats.reshape(counts.tokens.shape),
        "unigram_nats": bench.text.unigram_nats,
        "unigram_tokens": bench.text.unigram_tokens,
        "tokens": counts.tokens,
        "bytes": counts.bytes,
        "characters": counts.characters,
    }
    if bench.documents is not None:
        arrays["documents"] = bench.documents
    bench.store.put_text(bench.text_key, facts, arrays)
