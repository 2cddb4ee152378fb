"""What an investigation runs: every plan once, however many experiments ask for it.

Experiments share plans with each other and with the layer map. What a store would share is counted
once here as well: the same plans on the same sentences in the same arithmetic. A request of which
some plans are new is counted whole, as the engine runs it where the model is small. Controls, which
run other weights on few sentences, and statistics are not counted: how much of a whole run scoring
was is learned from runs, and kept in the store. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import COST_SCHEME, Asked, Experiment
from bitgap.jobs.tiers import Tier
from bitgap.lab.engine.tree import PlanTree
from bitgap.quant.plan import Plan

if TYPE_CHECKING:
    from bitgap.lab.store import Store

FULL_BLOCKS, FULL_HEADS = 1.125, 2.125
"""Passes of full precision over a text, through the blocks and through the head: once, where it
takes two products of the head for a plan's one, and for the numerical floor on a sample again."""


_KEPT_SHARE = 0.5
"""How much of what was learned stays where a run says otherwise."""


def scoring_share(store: Store, tier: Tier) -> float | None:
    """Returns what share of an investigation's time its scoring was, as runs before took.

    Args:
        store: Where it is kept.
        tier: Which; experiments of another tier have other controls.

    Returns:
        The share, above 0; None where no run of the tier was whole.

    Example:
        >>> from bitgap.jobs.tiers import TIERS
        >>> from bitgap.lab.store import Store
        >>> print(scoring_share(Store(":memory:"), TIERS["smoke"]))
        None
    """
    found = store.learned(_share_key(tier))
    return None if found is None else float(found["share"])


def learn_share(store: Store, tier: Tier, share: float) -> None:
    """Keeps what share of a whole investigation its scoring was; averaged with runs before.

    Args:
        store: Where it is kept.
        tier: Which.
        share: Seconds that were foreseen for scoring over those that all took, above 0.

    Example:
        >>> from bitgap.jobs.tiers import TIERS
        >>> from bitgap.lab.store import Store
        >>> store = Store(":memory:")
        >>> learn_share(store, TIERS["smoke"], 0.5)
        >>> learn_share(store, TIERS["smoke"], 0.25)
        >>> scoring_share(store, TIERS["smoke"])
        0.375
    """
    known = scoring_share(store, tier)
    share = share if known is None else _KEPT_SHARE * known + (1 - _KEPT_SHARE) * share
    store.learn(_share_key(tier), {"share": share})


def _share_key(tier: Tier) -> str:
    return f"share of scoring, {tier.like or tier.name}"


@dataclass(frozen=True, slots=True)
class Spent:
    """What is run, every block or head counted once for each sentence that goes through it.

    Attributes:
        plans: Distinct plans, on however many sentences.
        blocks: Block evaluations times sentences.
        blocks_unshared: The same if every plan was asked for and run on its own.
        heads: Head evaluations times sentences.
    """

    plans: int
    blocks: float
    blocks_unshared: float
    heads: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.plans + other.plans,
            self.blocks + other.blocks,
            self.blocks_unshared + other.blocks_unshared,
            self.heads + other.heads,
        )


NOTHING = Spent(0, 0, 0, 0)


class Ledger:
    """Counts what is asked for on one model and text; what was asked before costs nothing."""

    def __init__(
        self,
        n_blocks: int,
        n_sentences: int,
        known: Callable[[int, bool], set[Plan]] = lambda n, exact: set(),
    ) -> None:
        """Starts with what a store holds, or with nothing run.

        Args:
            n_blocks: L.
            n_sentences: Sentences of the experiments' text.
            known: Returns the plans that are held for so many sentences, in exact arithmetic or
                the run's own.
        """
        self.n_blocks, self.n_sentences, self._known = n_blocks, n_sentences, known
        self._held = dict[tuple[int, bool], set[Plan]]()
        self._new = set[tuple[int, bool]]()

    def ask(self, requests: Iterable[Asked]) -> Spent:
        """Returns what requests cost beyond what is held, and holds it."""
        out = NOTHING
        for asked in requests:
            n = self.n_sentences if asked.sentences is None else asked.sentences
            n = min(n, self.n_sentences)
            if (n, asked.exact) not in self._held:
                self._held[n, asked.exact] = set(self._known(n, asked.exact))
            held = self._held[n, asked.exact]
            wanted = {plan for plan in asked.plans if not plan.is_full_precision}
            # Of a request that is known in part all may be run again (`lab/engine/scoring.py`).
            work = PlanTree([] if wanted <= held else list(wanted)).work()
            new = len(wanted - held)
            if new:
                self._new.add((n, asked.exact))
            held |= wanted
            out += Spent(
                new,
                n * work.block_evaluations,
                n * self.n_blocks * len(wanted),
                n * work.head_evaluations,
            )
        return out

    def run(
        self, experiment: Experiment, params: Any, *, seed: int = 0, scheme: str = COST_SCHEME
    ) -> Spent:
        """Returns what an experiment costs beyond what is held, and holds it.

        Args:
            experiment: Whose plans, streams and passes are counted.
            params: Its parameters.
            seed: Of noise and samples.
            scheme: How blocks are rounded.
        """
        cost = experiment.cost
        asked = experiment.asked(self.n_blocks, params, seed=seed, scheme=scheme)
        # What is scored on sentences of its own is shared with none.
        own = (cost.own_blocks, cost.own_heads)
        own = own if asked else (cost.block_evaluations, cost.head_evaluations)
        n = experiment.sentences_of(params)
        n = self.n_sentences if n is None else min(n, self.n_sentences)
        blocks, heads = (n * count(self.n_blocks) for count in own)
        return self.ask(asked) + Spent(0, blocks, blocks, heads)

    def full_precision(self) -> Spent:
        """Returns what full precision costs on every text with something new, floors included."""
        sentences = sum(n for n, _ in self._new)
        blocks = FULL_BLOCKS * self.n_blocks * sentences
        return Spent(0, blocks, blocks, FULL_HEADS * sentences)


def spent_by(
    tier: Tier,
    n_blocks: int,
    n_sentences: int,
    *,
    seed: int = 0,
    experiments: Sequence[Experiment] = CATALOG,
    known: Callable[[int, bool], set[Plan]] = lambda n, exact: set(),
    scheme: str = COST_SCHEME,
    measured: Container[str] = (),
) -> dict[str, Spent]:
    """Returns what an investigation runs, by what asks for it first.

    Args:
        tier: How much text, which masks.
        n_blocks: L.
        n_sentences: Sentences of the whole text.
        seed: Of noise and samples.
        experiments: Which are run; all by default.
        known: As :class:`Ledger` takes it; what it returns costs nothing.
        scheme: How blocks are rounded.
        measured: Ids of experiments whose observations are held; they cost nothing.

    Returns:
        ``audit``, the ids of experiments in their order, ``map``, ``full precision``; they add up.

    Example:
        >>> from bitgap.jobs.tiers import TIERS
        >>> found = spent_by(TIERS["standard"], 24, 1000)
        >>> found["T-003"].heads  # all its plans are T-002's
        0
    """
    tier = tier.fitted(n_blocks, n_sentences)
    ledger = Ledger(n_blocks, min(tier.sentences or n_sentences, n_sentences), known)
    found = {"audit": ledger.ask([Asked([Plan.uniform(scheme, n_blocks)])])}
    for experiment in experiments:
        params = tier.parameters(experiment)
        held = experiment.id in measured
        found[experiment.id] = (
            NOTHING if held else ledger.run(experiment, params, seed=seed, scheme=scheme)
        )
    masks = tier.design(n_blocks, seed=seed).requests(scheme)
    found["map"] = ledger.ask(Asked(plans, tier.map_sentences) for plans in masks)
    return found | {"full precision": ledger.full_precision()}


def in_all(spent: Iterable[Spent]) -> Spent:
    """Returns the sum.

    Example:
        >>> in_all([Spent(1, 12, 12, 1), Spent(0, 12, 12, 0)])
        Spent(plans=1, blocks=24, blocks_unshared=24, heads=1)
    """
    return sum(spent, NOTHING)
