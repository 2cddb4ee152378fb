"""Speed: probed in a moment, learned from work, kept by machine and model."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab_samples import load_tiny, make_bench, make_lab, write_corpus

from bitgap.lab.engine import head as head_module
from bitgap.lab.engine import rates as rates_module
from bitgap.lab.engine.floor import Reference, sampled_sentences
from bitgap.lab.engine.rates import Rates, corrected, probe_rates, rates_about
from bitgap.lab.engine.stopwatch import Stopwatch
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.lab.store import Store, content_key
from bitgap.quant.plan import Plan, mask_plans

PLANS = list(mask_plans("rtn4-channel", 3, range(7)))


def test_a_probe_touches_a_few_hundred_rows_whatever_the_text() -> None:
    lab = make_lab(corpus=write_corpus(400))
    seen: list[int] = []
    run_block = lab.decoder.run_block

    def counted(i: int, hidden: Any, *args: Any) -> Any:
        seen.append(hidden.shape[0] * hidden.shape[1])
        return run_block(i, hidden, *args)

    vars(lab.decoder)["run_block"] = counted
    start = time.perf_counter()
    found = probe_rates(lab.engine)
    assert time.perf_counter() - start < 5, "about a second, on a machine that may be busy"
    assert lab.n_rows > 5000 and max(seen) <= rates_module._PROBE_ROWS
    assert found.block_s > 0 and found.head_s > 0 and found.round_s > 0 and not found.learned


def test_a_probe_of_the_head_is_of_one_product_whatever_logits_an_early_state_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = make_lab()
    tail = lab.decoder.tail
    vars(lab.decoder)["tail"] = replace(tail, weight=tail.weight * 1e4)
    shifted: list[int] = []
    again = head_module._shifted_log_sum_exp
    monkeypatch.setattr(
        head_module, "_shifted_log_sum_exp", lambda *a: shifted.append(1) or again(*a)
    )
    probe_rates(lab.engine)
    assert not shifted


@pytest.mark.parametrize(("learned", "block_s"), [(False, 2e-3), (True, 1.5e-3)])
def test_work_corrects_a_probe_at_once_and_what_was_learned_by_half(
    learned: bool, block_s: float
) -> None:
    watch = Stopwatch(block_s=2.0, block_rows=1000, head_s=0.1, head_rows=1000)
    found = corrected(Rates(1e-3, 7e-3, 1e-9, learned), watch)
    assert found == Rates(block_s, 7e-3, 1e-9, learned=True), "too little was seen of the head"
    assert corrected(found, Stopwatch()) is found


def test_what_was_learned_is_known_to_the_next_process_and_to_no_other_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "_ENOUGH_S", 0.0)
    loaded, corpus = load_tiny(), write_corpus()
    with Store(tmp_path / "a.db") as store:
        lab = Lab.of(loaded, corpus, store=store)
        lab.score(PLANS)
        assert lab.rates[0].learned
    with Store(tmp_path / "a.db", read_only=True) as store:
        again = Lab.of(loaded, corpus, store=store)
        assert again.measured_rates() == lab.rates[0]
        assert store.learned(content_key(*rates_about(again.engine))) is not None
        other = Lab.of(load_tiny("llama", 4), corpus, store=store)
        gpt = Lab.of(load_tiny("gpt2"), corpus, store=store)
    assert rates_about(other.engine) == rates_about(again.engine), "depth changes no rate"
    assert rates_about(gpt.engine) != rates_about(again.engine)


def test_a_store_of_before_that_is_only_read_has_learned_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "old.db") as store:
        store._db.execute("DROP TABLE learned")
    with Store(tmp_path / "old.db", read_only=True) as store:
        assert store.learned("any") is None


def test_full_precision_runs_once_and_the_floor_on_a_sample_in_the_same_pass() -> None:
    lab = make_lab(corpus=write_corpus(16))
    rows: list[int] = []
    run_block = lab.decoder.run_block

    def counted(i: int, hidden: Any, context: Any, module: Any = None) -> Any:
        rows.append(hidden.shape[0] * hidden.shape[1])
        return run_block(i, hidden, context, module)

    lab.measured_rates()
    vars(lab.decoder)["run_block"] = counted
    plan = Plan.uniform("rtn4-channel", 3)
    scores = lab.score([plan])
    sample = sampled_sentences(2, 16)
    assert len(sample) == 4
    # Full precision and one plan: two passes, and the sample's own batches.
    again = Reference(lab.engine, 2, 16).n_again
    assert sum(rows) == lab.n_blocks * (2 * lab.n_rows + again) and again < lab.n_rows / 3
    assert 0 < scores.floor_nats < 1e-5


def test_text_in_segments_is_run_in_full_precision_once_as_well() -> None:
    corpus = write_corpus(40)
    lab = make_lab(corpus=corpus, settings=Settings(memory_bytes=700_000))
    assert len(lab.engine.segments) > 1
    calls: list[int] = []
    full = lab.engine.full_precision
    again = sum(c.n_rows for c in Reference(lab.engine, 2, 40).again)

    def counted(chunks: Any, *args: Any, **options: Any) -> Any:
        calls.append(sum(chunk.n_rows for chunk in chunks))
        return full(chunks, *args, **options)

    vars(lab.engine)["full_precision"] = counted
    found = lab.score(PLANS[:3])
    assert sum(calls) == lab.n_rows + again
    whole = make_lab(corpus=corpus).score(PLANS[:3])
    assert abs(found.kl_nats - whole.kl_nats).max() < 1e-4


def test_the_floor_of_a_part_is_not_measured_again_where_it_is_known() -> None:
    bench = make_bench("llama", corpus=write_corpus(8))
    known = Reference(bench.engine, 2, 8, floor_nats=1e-7)
    assert known.again == [] and known.n_again == 0
    bench.engine.score([], lambda leaves: None, watch=known)
    assert known.floor_nats == 1e-7 and known.is_complete
    assert abs(known.nll_nats - bench.engine.reference()).max() == 0


def test_forecasts_count_what_is_left_only() -> None:
    lab = make_lab(corpus=write_corpus(8))
    lab.rates.append(Rates(1e-3, 1e-3, 1e-9))
    fresh = lab.preflight(PLANS)
    lab.score(PLANS[:4])
    lab.rates[0] = replace(lab.rates[0], block_s=1e-3, head_s=1e-3)
    left = lab.preflight(PLANS)
    assert left.time_s < fresh.time_s and left.n_known == 4
    lab.score(PLANS)
    assert lab.preflight(PLANS).time_s == 0
