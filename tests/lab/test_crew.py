"""Workers that share the scoring: the same bits as one process, whatever becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from crew_samples import Around, crew_of, eager, make_lab, rows_of
from lab_samples import ROOMY, load_tiny, write_corpus

from bitgap.errors import ModelError, UsageError, WorkersError
from bitgap.lab.crew import crew as crew_module
from bitgap.lab.crew import worker as worker_module
from bitgap.lab.crew.begin import begin_crew
from bitgap.lab.crew.crew import Crew
from bitgap.lab.crew.messages import Gone, Ready
from bitgap.lab.scores import flip_counts
from bitgap.lab.store import Store
from bitgap.quant.plan import Plan, mask_plans

pytestmark = pytest.mark.usefixtures(eager.__name__)

PLANS = [
    *mask_plans("rtn4-channel", 3, range(8)),
    *mask_plans("seed4", 3, (0, 4)),
    Plan.parse("rtn3-g32 protect 0", 3),
]
LAYOUTS = {
    "one node": ROOMY,
    "groups": replace(ROOMY, nodes=3),
    "segments": replace(ROOMY, segment_rows=120),
    "streamed": replace(ROOMY, streams=True),
    "a small bank": replace(ROOMY, nodes=2, bank_bytes=1),
}


def stored(plans: Sequence[Plan], around: Around | None = None, **how: Any) -> list[Any]:
    """What a store holds after plans were scored, by workers if there are any."""
    with Store(":memory:") as store:
        crew = None if around is None else crew_of(around)
        make_lab(store=store, crew=crew, **how).score(plans)
        return rows_of(store)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("n", [1, 3])
def test_a_store_is_that_of_one_process_to_the_bit(
    layout: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitgap.lab.engine.scoring.PLANS_PER_BATCH", 4)
    monkeypatch.setattr(crew_module, "PLANS_PER_BATCH", 4)
    around = Around(places=n)
    assert stored(PLANS, around, layout=layout) == stored(PLANS, layout=layout)
    assert set(around.taken.values()) == {1}
    assert len(around.taken) >= (n if layout.streams else 3)


def test_what_is_stored_already_is_not_scored_again_and_the_rest_is_the_same() -> None:
    with Store(":memory:") as store:
        make_lab(store=store).score(PLANS[:5])
        before = rows_of(store)
        around = Around()
        lab = make_lab(LAYOUTS["groups"], crew_of(around), store=store)
        lab.score(PLANS)
        after = rows_of(store)
    assert [row for row in after if row in before] == before
    assert len(after) == 1 + len({p for p in PLANS if not p.is_full_precision})
    assert not lab.ledger.block_rows > lab.ledger.asked_block_rows


def test_flips_are_told_by_workers_too() -> None:
    plan = Plan.parse("rtn3-channel", 3)
    ours = flip_counts(make_lab(crew=crew_of(Around())), plan, "flips")
    assert ours.sum() > 0
    np.testing.assert_array_equal(ours, flip_counts(make_lab(), plan, "flips"))


def test_an_untrained_twin_is_made_by_each_worker() -> None:
    around = Around()
    scores = make_lab(crew=crew_of(around)).random_twin().score(PLANS[:3])
    np.testing.assert_array_equal(scores.kl_nats, make_lab().random_twin().score(PLANS[:3]).kl_nats)
    assert around.taken


def test_variants_made_here_are_scored_here() -> None:
    around = Around()
    lab = make_lab(crew=crew_of(around))
    rounded = {i: lab.bank.rounded_linears(i, "rtn4-channel") for i in range(3)}
    lab.score([Plan.uniform(lab.bank.add("mine", rounded), 3)])
    assert not around.taken
    lab.twin(load_tiny()).score(PLANS[:2])
    assert not around.taken


# -- workers that end -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [LAYOUTS["groups"], LAYOUTS["streamed"]])
def test_what_a_dead_worker_had_in_hand_is_done_again_and_nothing_else(layout: Any) -> None:
    around = Around(dies=lambda unit, n: unit.number % 3 == 1 and n == 1)
    assert stored(PLANS, around, layout=layout) == stored(PLANS, layout=layout)
    died = {n for n in around.taken if n % 3 == 1}
    assert {n for n, times in around.taken.items() if times == 2} == died != set()
    assert max(around.taken.values()) == 2


def test_work_that_ends_two_workers_ends_the_command_and_is_named() -> None:
    around = Around(dies=lambda unit, n: len(unit.wanted) > 0)
    crew = crew_of(around)
    with pytest.raises(WorkersError, match=r"5 plans from '.*' on 1 of 2 batches.*SIGKILL"):
        make_lab(crew=crew).score(PLANS)
    assert any("its work is done again" in line for line in crew.said)  # type: ignore[attr-defined]


def test_workers_that_never_come_up_end_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    around = Around()
    monkeypatch.setattr(worker_module.Worker, "ready", lambda self: self._tell(Gone("no torch")))
    with pytest.raises(WorkersError, match=r"before they do anything.*no torch"):
        make_lab(crew=crew_of(around)).score(PLANS)


def test_no_wait_is_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Later(Around):
        def wait(self, timeout_s: float) -> list[Any]:
            clock[0] += 30
            return []

    monkeypatch.setattr(crew_module.time, "monotonic", lambda: clock[0])
    with pytest.raises(WorkersError, match=r"no worker has come up within 600 s.*worker"):
        make_lab(crew=crew_of(Later())).score(PLANS)

    class Silent(Around):
        def wait(self, timeout_s: float) -> list[Any]:
            clock[0] += 30
            found = [(hand, hand.said.pop(0)) for hand in self.hired if hand.said]
            return [(hand, message) for hand, message in found if isinstance(message, Ready)]

    with pytest.raises(WorkersError, match="nothing was heard of it for 120 s"):
        make_lab(crew=crew_of(Silent())).score(PLANS)


def test_an_interrupt_keeps_what_is_finished_and_ends_who_is_at_work() -> None:
    class Stopped(Around):
        turns = 0

        def wait(self, timeout_s: float) -> list[Any]:
            self.turns += 1
            if self.turns == 6:
                raise KeyboardInterrupt
            return super().wait(timeout_s)

    whole = stored(PLANS, layout=ROOMY)
    with Store(":memory:") as store:
        around = Stopped()
        with pytest.raises(KeyboardInterrupt):
            make_lab(ROOMY, crew_of(around), store=store).score(PLANS)
        kept = rows_of(store)
        assert 0 < len(kept) < len(whole)
        assert kept == [row for row in whole if row in kept]
        assert any(hand.ended for hand in around.hired)
        make_lab(ROOMY, crew_of(Around()), store=store).score(PLANS)
        assert rows_of(store) == whole


def test_a_worker_that_joins_late_takes_its_part() -> None:
    class Growing(Around):
        def wait(self, timeout_s: float) -> list[Any]:
            found = super().wait(timeout_s)
            if sum(self.taken.values()) >= 4:
                self.places = 3
            return found

    around = Growing(places=1)
    assert stored(PLANS, around, layout=ROOMY) == stored(PLANS, layout=ROOMY)
    assert len(around.hired) == 3


def test_one_node_that_begins_none_does_not_end_the_others_work_nor_is_it_asked_for_ever() -> None:
    class Broken(Around):
        """The first worker works, no other comes up."""

        def hire(self) -> Any:
            made = super().hire()
            if len(self.hired) > 1:
                made.said = [Gone("no bitgap there")]
            return made

    around = Broken(places=2)
    crew = crew_of(around)
    try:
        make_lab(ROOMY, crew).score(PLANS)
    except WorkersError as error:
        assert "no bitgap there" in str(error)
    assert 2 < len(around.hired) <= 2 + crew_module._MOST_FALLEN * 2


# -- workers that would not give the same bits ---------------------------------------------------


def test_a_worker_that_reads_another_model_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "read_model", lambda name, **trust: load_tiny(blocks=4))
    with pytest.raises(ModelError, match=r"reads another model as 'tiny'.*org/name@revision"):
        make_lab(crew=crew_of(Around())).score(PLANS)


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    around = Around()
    crew = Crew(around, worker_module.facts() | {"torch": "0.1"}, lambda line: None)
    with pytest.raises(WorkersError, match=r"has torch .* and the command 0\.1"):
        make_lab(crew=crew).score(PLANS)


def test_another_kind_of_processor_is_told_once() -> None:
    said: list[str] = []
    other = worker_module.facts() | {"processor": "x86_64 OTHER"}
    make_lab(crew=Crew(Around(), other, said.append)).score(PLANS)
    assert len([line for line in said if "another kind of processor" in line]) == 1


def test_an_error_of_a_worker_names_it_and_shows_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str | None, **trust: bool) -> Any:
        raise RuntimeError("out of memory, somewhere")

    monkeypatch.setattr(worker_module, "read_model", broken)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        make_lab(crew=crew_of(Around())).score(PLANS)
    assert "In worker worker 1" in caught.value.__notes__[0]
    assert "in broken" in caught.value.__notes__[0]


def test_workers_are_of_processors() -> None:
    with pytest.raises(UsageError, match="leave out --device"):
        begin_crew(2, device="cuda")


# -- how work is cut ------------------------------------------------------------------------------


def test_shares_of_a_long_text_are_many_where_rounding_again_costs_nothing() -> None:
    around = Around()
    stored(PLANS[1:2], around, layout=ROOMY, corpus=write_corpus(40))
    # ... and one for the sample that full precision is evaluated on twice.
    assert len(around.taken) == 2 * crew_module._SHARES_EACH + 1
    around = Around()
    stored(PLANS[1:2], around, layout=LAYOUTS["a small bank"], corpus=write_corpus(40))
    assert len(around.taken) == 2 + 1
