"""Threads or processes, whichever is measured to be faster: the same bits, within the memory."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from crew_samples import Around, eager, rows_of
from lab_samples import load_tiny, write_corpus

from bitgap.cli.options import whole_or_auto
from bitgap.errors import UsageError
from bitgap.lab import bench as bench_module
from bitgap.lab.crew import worker as worker_module
from bitgap.lab.crew.begin import begin_crew
from bitgap.lab.crew.choice import Gain, as_process, chosen, gain_of, stays, try_rows
from bitgap.lab.crew.crew import Crew
from bitgap.lab.crew.messages import Gone, ModelSource, Try
from bitgap.lab.crew.worker import facts
from bitgap.lab.engine.budget import Preflight
from bitgap.lab.engine.rates import Rates, pace, rates_about
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.lab.engine.tree import Work
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.lab.store import Store
from bitgap.quant.plan import Plan, mask_plans

pytestmark = pytest.mark.usefixtures(eager.__name__)

PLANS = [*mask_plans("rtn4-channel", 3, range(8)), Plan.parse("rtn3-g32 protect 0", 3)]
SLOW = Rates(1.0, 1.0, 0.0, learned=True)
"""So slow that any work is worth a measurement."""


def choosing(around: Around, said: list[str] | None = None) -> Crew:
    tell = (said if said is not None else []).append
    return Crew(around, facts(), tell, chooses=True)


def lab_with(crew: Crew | None, store: Store | None = None, *, n: int = 24, **how: Any) -> Lab:
    settings = Settings(walkers=crew.places if crew else 1, **how)
    made = Lab.of(load_tiny(), write_corpus(n), store=store, settings=settings)
    made.source, made.crew = ModelSource("tiny"), crew
    return made


def planted(monkeypatch: pytest.MonkeyPatch, ours: float, theirs: float) -> list[float]:
    """Has threads and each process reach so many rows a second; returns who was asked."""
    asked: list[float] = []

    def paced(of: float) -> Any:
        def told(engine: Any, rows: int, seconds: float) -> tuple[float, float]:
            asked.append(of)
            return of, of

        return told

    monkeypatch.setattr(bench_module, "pace", paced(ours))
    monkeypatch.setattr(worker_module, "pace", paced(theirs))
    return asked


def stored(crew: Crew | None, plans: Sequence[Plan] = PLANS, **how: Any) -> list[Any]:
    with Store(":memory:") as store:
        lab = lab_with(crew, store, **how)
        if crew is not None:
            lab.rates.append(SLOW)
        lab.score(plans)
        return rows_of(store)


# -- which is chosen ------------------------------------------------------------------------------


@pytest.mark.parametrize(("each", "n"), [(80.0, 2), (40.0, 1)])
def test_the_faster_way_is_taken_and_the_bits_are_those_of_one_thread(
    each: float, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, 100.0, each)
    around, said = Around(), list[str]()
    assert stored(choosing(around, said)) == stored(None)
    assert bool(around.taken) == (n == 2)
    assert len(said) == 1 and "as they were measured here" in said[0]
    assert ("2 processes of one thread, about" in said[0]) == (n == 2)
    assert all(hand.ended for hand in around.hired) == (n == 1), "who is not needed holds no memory"


def test_threads_take_whole_batches_and_give_the_bits_of_one() -> None:
    def of(walkers: int, **how: Any) -> tuple[int, list[Any]]:
        with Store(":memory:") as store:
            settings = Settings(walkers=walkers, **how)
            lab = Lab.of(load_tiny(), write_corpus(40), store=store, settings=settings)
            lab.score(PLANS)
            return lab.engine.layout.workers, rows_of(store)

    for how in ({}, {"arithmetic": "fast"}, {"memory_bytes": 3_000_000}):
        alone, shared = of(1, **how), of(3, **how)
        assert alone[1] == shared[1]
        assert shared[0] > 1 or how.get("memory_bytes")


def test_what_was_measured_is_kept_and_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = planted(monkeypatch, 100.0, 80.0)
    path = tmp_path / "it.db"
    with Store(path) as store:
        lab = lab_with(choosing(Around()), store)
        lab.rates.append(SLOW)
        lab.score(PLANS[:3])
        assert len(asked) == 2 * (1 + 2), "a step to begin with and a try, of threads and of both"
    with Store(path, read_only=True) as store:
        around = Around()
        lab = lab_with(choosing(around), store)
        lab.rates.append(SLOW)
        assert lab.preflight(PLANS).workers == 2
        assert len(asked) == 6 and not around.hired


def test_work_that_is_short_is_not_measured_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = planted(monkeypatch, 100.0, 800.0)
    around = Around()
    lab = lab_with(choosing(around))
    lab.rates.append(Rates(1e-6, 1e-6, 0.0))
    cost = lab.preflight(PLANS)
    assert "too short to measure" in cost.chosen and cost.workers == 1
    lab.score(PLANS)
    assert not around.hired and not asked


def test_coming_up_counts() -> None:
    threads = Preflight(3, 0, Work(10, 20, 3), 100, 20.0, 50)
    processes = replace(threads, time_s=12.0 + 10.0, memory_bytes=100, workers=2)
    found = chosen(threads, 2, processes, Gain(1.7, 1.7))
    assert found.n == 1 and found.gain is None and found.cost.time_s == 20.0
    found = chosen(threads, 2, replace(processes, time_s=12.0), Gain(1.7, 1.7))
    assert found.n == 2 and found.cost.memory_bytes == 100
    assert found.cost.as_dict()["chosen"] == found.why
    assert stays(threads, 1, "x").why == "one process of one thread, as x"


def test_the_forecast_of_processes_rests_on_the_gain() -> None:
    gain = gain_of((100.0, 50.0), [(60.0, 20.0), (90.0, 20.0)])
    assert gain == Gain(1.5, 0.8)
    each = gain.of_each(Rates(1e-3, 1e-3, 1e-9), 2)
    assert (each.block_s, each.head_s) == pytest.approx((2e-3 / 1.5, 2e-3 / 0.8))
    # Both together are then as much faster as was measured, and what they took tells of threads.
    seen = gain.of_threads(Stopwatch(each.block_s * 500, 500, each.head_s * 500, 500), 2)
    assert (seen.block_s / 500, seen.head_s / 500) == pytest.approx((1e-3, 1e-3))


def test_a_try_takes_a_moment_whatever_the_model() -> None:
    assert try_rows(1e-9, 2) == 1024 and try_rows(1.0, 2) == 64
    engine = lab_with(None).engine
    block, head = pace(engine, 64, 0.01)
    assert block > 0 and head > 0


# -- what cannot be chosen ------------------------------------------------------------------------


def test_processes_that_do_not_fit_the_memory_together_are_fewer_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted(monkeypatch, 100.0, 200.0)
    plans = mask_plans("rtn4-channel", 3, range(8))

    def with_memory(n_bytes: int | None) -> tuple[Preflight, int]:
        around = Around(places=4)
        lab = lab_with(choosing(around), n=40)
        if n_bytes is not None:  # of the same cut, which is made for less where there is less
            lab.settings = replace(lab.settings, memory_bytes=n_bytes)
        lab.rates.append(SLOW)
        return lab.preflight(plans), len(around.hired)

    four, _ = with_memory(None)
    assert four.workers == 4
    fewer, hired = with_memory(int(four.memory_bytes * 0.9))
    assert 1 < fewer.workers < 4 and hired == fewer.workers
    assert fewer.memory_bytes <= four.memory_bytes * 0.9
    none, hired = with_memory(fewer.memory_bytes // 4)
    assert "two processes would not fit --memory together" in none.chosen
    assert none.workers == 1 and not hired


def test_a_process_has_its_part_of_text_and_bank() -> None:
    engine = lab_with(choosing(Around()), n=40).engine
    one = as_process(engine, (1,), 2)
    assert one.layout.workers == 1 and one.layout.bank_bytes == engine.layout.bank_bytes // 2
    assert (one.layout.chunk_rows, one.layout.nodes) == (
        engine.layout.chunk_rows, engine.layout.nodes
    )  # fmt: skip
    assert sum(len(s) for s in one.segments) == 1 < sum(len(s) for s in engine.segments)
    assert engine.layout.workers == 2, "the engine itself is as it was"
    assert rates_about(one) != rates_about(engine)


def test_one_processor_and_variants_made_here_leave_no_choice() -> None:
    lab = lab_with(choosing(Around(places=1)))
    assert "one processor" in lab.preflight(PLANS).chosen
    around = Around()
    lab = lab_with(choosing(around))
    lab.rates.append(SLOW)
    rounded = {i: lab.bank.rounded_linears(i, "rtn4-channel") for i in range(3)}
    cost = lab.preflight([Plan.uniform(lab.bank.add("mine", rounded), 3)])
    assert "do not find this model" in cost.chosen and not around.hired


def test_a_process_that_ends_while_it_is_tried_leaves_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted(monkeypatch, 100.0, 200.0)

    class Dying(Around):
        def wait(self, timeout_s: float) -> list[Any]:
            found = super().wait(timeout_s)
            return [(h, Gone("SIGKILL") if not hasattr(m, "where") else m) for h, m in found]

    around, said = Dying(), list[str]()
    assert stored(choosing(around, said)) == stored(None)
    assert "before it was tried" in said[0] and "could not be measured" in said[1]
    assert len(said) == 2 and all(hand.ended for hand in around.hired)


def test_a_worker_tries_the_model_that_it_was_asked_for() -> None:
    around = Around(places=1)
    hand = around.hire()
    lab = lab_with(choosing(around))
    hand.send(lab.request(1, ()))
    hand.send(Try(7, 64, 0.0))
    _, (_, tried) = around.wait(0)
    assert tried.number == 7 and min(tried.pace) > 0


def test_what_auto_cannot_be_given_with() -> None:
    with pytest.raises(UsageError, match="leave it out with --cluster"):
        begin_crew("auto", cluster="auto")
    read = whole_or_auto(1, 9)
    assert read("auto") == "auto" and read("3") == 3
    with pytest.raises(ArgumentTypeError, match="'many' is no whole number from 1 to 9, nor"):
        read("many")
