from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import training_loop
from packed_batches import PackedBatches
from recipe_samples import tiny
from torch import Tensor, nn
from training_loop import Diverged, Progress, Sitting, fraction_done, rate_share
from training_settings import Recipe

from bitgap.errors import BudgetError, StoreError

STEP_S, SAVE_S, END_S = 3.0, 0.25, 10.0


class Clock:
    """Time that passes only where a test says so."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(training_loop, "time", clock)
    save = torch.save

    def slow_save(*arguments: Any) -> None:
        clock.now += SAVE_S
        save(*arguments)

    monkeypatch.setattr(
        training_loop, "torch", SimpleNamespace(**vars(torch) | {"save": slow_save})
    )
    return clock


class SlowStep:
    """A step that only takes time, and remembers the rates it was taken with."""

    def __init__(self, clock: Clock, loss: float = 1.0) -> None:
        self.clock, self.loss = clock, loss
        self.model = nn.Linear(2, 2)
        self.optimiser = torch.optim.AdamW(self.model.parameters())
        self.rates: list[float] = []

    def __call__(self, ids: Tensor, rate: float) -> Tensor:
        self.clock.now += STEP_S
        self.rates.append(rate)
        return torch.tensor(self.loss)


def sit(recipe: Recipe, step: SlowStep, folder: Path) -> Sitting:
    source = PackedBatches(
        [np.arange(100)], [1], batch=recipe.batch, context=recipe.context, seed=0
    )
    return Sitting(
        recipe,
        step,  # type: ignore[arg-type]
        source,
        checkpoint=folder / "checkpoint.pt",
        checkpoint_minutes=1e9,
        started=step.clock.now,
    )


def test_a_run_by_minutes_ends_in_time_however_often_it_was_stopped(
    clock: Clock, tmp_path: Path
) -> None:
    recipe = tiny(minutes=2.0)
    step = SlowStep(clock)
    sitting = sit(recipe, step, tmp_path)
    clock.now += 20  # preparing
    sitting.begin(END_S)
    assert sitting.progress.began_s == 20 + SAVE_S
    assert sitting.progress.reserve_s == training_loop._SAFETY * (END_S + SAVE_S)

    class Interrupted(Exception):
        pass

    def interrupt(progress: Progress, fraction: float) -> None:
        if progress.step == 4:
            sitting.save()
            raise Interrupted

    with pytest.raises(Interrupted):
        sitting.train(interrupt)
    clock.now += 1e6  # between the sittings no time of the run passes
    second = sit(recipe, step, tmp_path)
    clock.now += 7  # and preparing again is counted again
    second.train(lambda progress, fraction: None)
    end_of_training = 120 - training_loop._SAFETY * (END_S + SAVE_S)
    before = 20 + SAVE_S + 4 * STEP_S + SAVE_S + 7
    n_steps = 4 + math.floor((end_of_training - before) / STEP_S)
    assert second.progress.step == n_steps == len(step.rates)
    assert second.progress.finished and len(second.progress.losses) == n_steps
    assert second.progress.training_s == n_steps * STEP_S
    clock.now += END_S
    assert 120 - STEP_S - training_loop._SAFETY * (END_S + SAVE_S) < second.spent_s() <= 120
    # The schedule reaches its end: the last step is taken within three steps of the final rate.
    assert step.rates[-1] < 0.1 * recipe.peak_rate < 0.9 * max(step.rates)
    third = sit(recipe, step, tmp_path)
    assert third.progress.finished and third.progress.step == n_steps


def test_minutes_that_are_over_before_training_are_refused(clock: Clock, tmp_path: Path) -> None:
    sitting = sit(tiny(minutes=0.5), SlowStep(clock), tmp_path)
    clock.now += 18
    with pytest.raises(BudgetError, match=r"--minutes 0.5 leaves no time .* took 18 s .* 13 s"):
        sitting.begin(END_S)


def test_a_run_by_tokens_takes_exactly_its_steps(clock: Clock, tmp_path: Path) -> None:
    recipe = tiny(tokens=tiny().tokens_per_step * 6 + 1)
    fractions: list[float] = []
    step = SlowStep(clock)
    sitting = sit(recipe, step, tmp_path)
    sitting.begin(0.0)
    sitting.train(lambda progress, fraction: fractions.append(fraction))
    assert fractions == pytest.approx([(i + 1) / 7 for i in range(7)])
    assert step.rates == [recipe.peak_rate * rate_share(i, i / 7) for i in range(7)]


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    n_steps = 4000
    shares = [rate_share(step, step / n_steps) for step in range(n_steps + 1)]
    # A long run warms up for 200 steps, a short one for a tenth of it.
    assert shares[99] == pytest.approx(
        0.5 * (0.05 + 0.95 * (1 + math.cos(math.pi * 99 / 4000)) / 2)
    )
    assert shares[n_steps // 2] == pytest.approx(0.525)
    assert shares[n_steps] == pytest.approx(0.05)
    assert np.argmax(shares) == 199 and (np.diff(shares[199:]) < 0).all()
    short = [rate_share(step, step / 40) for step in range(41)]
    assert int(np.argmax(short)) == 4 and short[2] / short[4] == pytest.approx(0.5, rel=0.05)


def test_a_loss_that_is_no_number_stops_the_run_and_spoils_no_checkpoint(
    clock: Clock, tmp_path: Path
) -> None:
    sitting = sit(tiny(), SlowStep(clock, math.nan), tmp_path)
    sitting.begin(0.0)
    with pytest.raises(Diverged, match=r"became nan by step 10; lower --peak-rate"):
        sitting.train(lambda progress, fraction: None)
    assert sit(tiny(), SlowStep(clock), tmp_path).progress.step == 0


def test_a_checkpoint_that_cannot_be_used_is_refused(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"nothing of ours")
    with pytest.raises(StoreError, match=r"checkpoint\.pt cannot be read .*; delete it"):
        sit(tiny(), SlowStep(clock), tmp_path)
    torch.save({"progress": json.dumps({"step": 3})}, path)
    with pytest.raises(StoreError, match=r"does not fit .*; delete it"):
        sit(tiny(), SlowStep(clock), tmp_path)
    torch.save({"progress": json.dumps({"stepp": 3})}, path)
    with pytest.raises(StoreError, match="does not fit"):
        sit(tiny(), SlowStep(clock), tmp_path)


def test_the_share_that_is_over_is_that_of_steps_or_of_the_clock() -> None:
    assert fraction_done(tiny(), Progress(step=15)) == 0.5
    timed = Progress(spent_s=50.0, began_s=20.0, reserve_s=40.0)
    assert fraction_done(tiny(minutes=2.0), timed) == 0.5
