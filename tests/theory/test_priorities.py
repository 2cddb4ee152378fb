"""The priority matrix and what a large model takes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import Cost, Experiment
from bitgap.theory.forecast.cards import find_card
from bitgap.theory.forecast.plan import Machine, at_scale, priority_matrix

MACHINE = Machine(
    block_s=1e-6,
    head_s=3e-6,
    rows=1000,
    sentences=50,
    map_rows=100,
    memory_bytes=10,
    map_memory_bytes=99,
)
# Two whole passes over the text.
COST = Cost(block_evaluations=lambda n: 2 * n, head_evaluations=lambda n: 2)
TWO_PASSES = replace(CATALOG[0], passes=COST)


def test_time_is_evaluations_times_rates_times_rows() -> None:
    (row,) = priority_matrix(12, MACHINE, experiments=[TWO_PASSES])["rows"]
    assert row["time_s"] == pytest.approx(1000 * (24 * 1e-6 + 2 * 3e-6))
    assert (row["device"], row["memory_bytes"]) == ("cpu", 10)
    (row,) = priority_matrix(12, MACHINE, experiments=[TWO_PASSES], patience_s=0.01)["rows"]
    assert row["device"] == "gpu"


def test_the_whole_catalog_is_ordered_by_phase_then_value_a_second() -> None:
    matrix = priority_matrix(12, MACHINE)
    json.dumps(matrix, allow_nan=False)
    rows = matrix["rows"]
    assert {row["id"] for row in rows} == {e.id for e in CATALOG}
    assert [row["phase"] for row in rows] == sorted(row["phase"] for row in rows)
    assert [row["order"] for row in rows] == list(range(1, len(rows) + 1))
    worth = {"high": 3, "medium": 2, "low": 1}
    for phase in (1, 2, 3):
        costs = [
            row["time_s"] / worth[row["value"]]
            for row in rows
            if row["phase"] == phase and row["time_s"] is not None
        ]
        assert costs == sorted(costs)


def test_shared_masks_are_paid_for_once() -> None:
    of_map = replace(TWO_PASSES, passes=replace(COST, of_map=True))
    one = priority_matrix(12, MACHINE, experiments=[of_map])["time_s"]
    assert priority_matrix(12, MACHINE, experiments=[of_map, of_map])["time_s"] == one > 0
    assert one == pytest.approx(100 * (24 * 1e-6 + 2 * 3e-6))


def test_what_several_ask_for_is_paid_for_once_and_what_one_asks_for_in_full() -> None:
    by_id = {e.id: e for e in CATALOG}
    noise, spread = by_id["T-002"], by_id["T-003"]

    def time_of(*experiments: Experiment) -> float:
        return priority_matrix(12, MACHINE, experiments=experiments)["time_s"]

    (alone,) = priority_matrix(12, MACHINE, experiments=[noise])["rows"]
    assert time_of(noise) == pytest.approx(alone["time_s"])
    # All plans of T-003 are T-002's; its two passes are its own.
    assert time_of(noise, spread) - time_of(noise) == pytest.approx(1000 * 2 * 12 * MACHINE.block_s)


def test_without_a_machine_there_are_no_times_and_a_reason() -> None:
    matrix = priority_matrix(12)
    assert matrix["time_s"] is None
    assert all(row["time_s"] is None and row["reason"] for row in matrix["rows"])


def test_flops_of_whole_passes_in_closed_form() -> None:
    card = find_card("Llama-2-70B")
    found = at_scale(card, experiments=[TWO_PASSES], n_gpus=4, tflops=100, utilisation=0.5)
    tokens = 200 * 200 * 40
    roles = card.parameters_by_role()
    matrices = roles["attention"] + roles["mlp"] + roles["head"]
    assert found["flops"] == pytest.approx(2 * 2 * matrices * tokens)
    # The rule of thumb, 2 · parameters · tokens a pass, within the embedding's share.
    assert found["flops"] == pytest.approx(2 * 2 * card.counted * tokens, rel=0.01)
    assert found["hours"] == pytest.approx(found["flops"] / (4 * 100e12 * 0.5) / 3600)


def test_how_many_gpus_hold_it() -> None:
    found = at_scale(find_card("Llama-2-70B"), n_gpus=2)
    assert found["gpus_at_least"] == {"model": 2, "model_and_rounded_blocks": 4}
    assert not found["fits"] and found["memory_per_gpu_bytes"] > 80e9
    assert "a sample" in found["assumptions"]["masks"]
    json.dumps(found, allow_nan=False)


def test_an_experiment_on_some_sentences_is_paid_for_by_their_share() -> None:
    few = replace(CATALOG[0], passes=replace(COST, sentences=10))
    whole, part = (
        priority_matrix(4, MACHINE, experiments=[e])["rows"][0]["time_s"] for e in (TWO_PASSES, few)
    )
    assert part == pytest.approx(whole * 10 / MACHINE.sentences)
