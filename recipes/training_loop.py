"""The loop: schedule, clock, checkpoints and signals.

A run is a row of sittings. Each starts from the checkpoint of the one before, or from the seed,
and goes on bit for bit as if it had not been stopped (on one kind of processor, with one number of
threads and one arithmetic).

A run by minutes counts all the time of all its sittings, from reading the text to the card, up to
the checkpoint that the next one starts from. Its schedule runs from the first step to the moment
at which what comes after training must begin.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from fast_step import TrainingStep
from packed_batches import PackedBatches
from torch import Tensor
from training_settings import Recipe

from bitgap.errors import BudgetError, StoreError, UserError

WARM_UP_STEPS = 200
WARM_UP_SHARE = 0.1
"""Warm-up ends after so much of the run at the latest."""
FINAL_RATE_SHARE = 0.05
"""The cosine ends at so much of the peak rate."""
_SAFETY = 1.25  # on what the end of a run by minutes is expected to take
_LOSSES_AT_ONCE = 10  # reading one off an accelerator waits for it


class Stopped(Exception):
    """The run was told to stop and its checkpoint is written."""

    def __init__(self, signal_number: int, step: int) -> None:
        """Remembers which signal it was and after how many steps."""
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal_number = signal_number


class Diverged(UserError):
    """The loss is no number any more."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    step: int = 0
    """Steps taken."""
    finished: bool = False
    """Whether no step is to come."""
    spent_s: float = 0.0
    """Time so far, over all sittings, whatever it went to."""
    training_s: float = 0.0
    """The part of it that went to steps."""
    began_s: float = 0.0
    """Time spent before the first step."""
    reserve_s: float = 0.0
    """Time kept for what comes after training, if minutes decide."""
    losses: list[float] = field(default_factory=list)
    """Loss of every step in nats per token."""
    sittings: int = 0
    places: list[str] = field(default_factory=list)
    """Processors, threads and arithmetics that computed, in order."""


def rate_share(step: int, fraction: float) -> float:
    """Returns the share of the peak rate that a step is taken with.

    A linear warm-up, times a cosine from 1 to :data:`FINAL_RATE_SHARE`.

    Args:
        step: Steps taken before.
        fraction: Share of the training that is over, 0 to 1.
    """
    warm = min(1.0, max((step + 1) / WARM_UP_STEPS, fraction / WARM_UP_SHARE))
    cosine = (1 + math.cos(math.pi * min(1.0, fraction))) / 2
    return warm * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine)


def fraction_done(recipe: Recipe, progress: Progress) -> float:
    """Returns the share of the training that is over, by steps or by the clock."""
    if recipe.minutes is not None:
        whole = 60 * recipe.minutes - progress.reserve_s - progress.began_s
        # The last step may end a moment late.
        return min(1.0, (progress.spent_s - progress.began_s) / max(whole, 1e-9))
    assert recipe.total_steps is not None
    return progress.step / recipe.total_steps


# -- checkpoint ----------------------------------------------------------------------------------


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Returns a checkpoint, or None where there is none.

    Raises:
        StoreError: If it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own
        raise StoreError(
            f"the checkpoint {path} cannot be read ({type(error).__name__}); delete it to train "
            f"from the beginning"
        ) from error


class Sitting:
    """A run from its latest checkpoint to its end or to a signal.

    Attributes:
        progress: How far the run is.
        model: What is trained.
    """

    def __init__(
        self,
        recipe: Recipe,
        step: TrainingStep,
        batches: PackedBatches,
        *,
        checkpoint: Path,
        checkpoint_minutes: float,
        started: float,
    ) -> None:
        """Goes back to the checkpoint, if there is one.

        Args:
            recipe: What is trained.
            step: Takes one step.
            batches: Gives the batches.
            checkpoint: File that the run can be resumed from.
            checkpoint_minutes: Minutes between checkpoints.
            started: When this sitting began, by ``time.monotonic``.

        Raises:
            StoreError: If the checkpoint cannot be read or does not fit the model.
        """
        self.recipe, self.progress, self.model = recipe, Progress(), step.model
        self._step, self._batches = step, batches
        self._checkpoint, self._every_s = checkpoint, 60 * checkpoint_minutes
        self._unread: list[Tensor] = []
        self._signal: int | None = None
        saved = read_checkpoint(checkpoint)
        if saved is not None:
            self._restore(saved)
        self._zero = started - self.progress.spent_s

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            self.progress = Progress(**json.loads(saved["progress"]))
            self.model.load_state_dict(saved["model"])
            self._step.optimiser.load_state_dict(saved["optimiser"])
            self._batches.drawn[:] = saved["drawn"].numpy()
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"the checkpoint {self._checkpoint} does not fit ({error}); delete it to train "
                f"from the beginning"
            ) from error

    def spent_s(self) -> float:
        """Returns the time of the run up to now, over all sittings."""
        return time.monotonic() - self._zero

    def begin(self, end_s: float) -> None:
        """Ends what comes before the first step: writes a checkpoint and starts the schedule.

        Args:
            end_s: What comes after training is expected to take, the last checkpoint not counted.

        Raises:
            BudgetError: If minutes decide and none are left to train.
        """
        start = time.monotonic()
        self.save()  # that it takes no space or no right is best learnt now
        done, minutes = self.progress, self.recipe.minutes
        done.reserve_s = _SAFETY * (end_s + time.monotonic() - start)
        done.began_s = done.spent_s = self.spent_s()
        if minutes is not None and done.began_s + done.reserve_s >= 60 * minutes:
            raise BudgetError(
                f"--minutes {minutes:g} leaves no time to train: preparing took "
                f"{done.began_s:.0f} s and the end takes about {done.reserve_s:.0f} s; give more "
                f"minutes and another --out"
            )

    def train(self, report: Callable[[Progress, float], None]) -> None:
        """Trains to the end, writing checkpoints on the way and one at the end.

        Args:
            report: Called after every step with the progress and the share that is over.

        Raises:
            Stopped: If a signal came; the checkpoint is written.
            Diverged: If the loss is no number any more; the checkpoint is that of before.
        """
        with self._listening():
            saved = time.monotonic()
            while not self.progress.finished:
                self._advance()
                report(self.progress, fraction_done(self.recipe, self.progress))
                if self._signal is not None:
                    self.save()
                    raise Stopped(self._signal, self.progress.step)
                if time.monotonic() - saved >= self._every_s:
                    self.save()
                    saved = time.monotonic()
            self.save()

    def _advance(self) -> None:
        start = time.monotonic()
        done = self.progress
        fraction = fraction_done(self.recipe, done)
        ids = torch.from_numpy(self._batches.take(done.step))
        rate = self.recipe.peak_rate * rate_share(done.step, fraction)
        self._unread.append(self._step(ids, rate))
        done.step += 1
        if len(self._unread) >= _LOSSES_AT_ONCE:
            self._read_losses()
        took = time.monotonic() - start
        done.training_s += took
        done.spent_s = self.spent_s()
        done.finished = self._is_over(took)

    def _is_over(self, step_s: float) -> bool:
        if self.recipe.minutes is None:
            return fraction_done(self.recipe, self.progress) >= 1
        # A step that would end too late is not begun.
        ahead = self.progress.spent_s + step_s + self.progress.reserve_s
        return ahead > 60 * self.recipe.minutes

    def _read_losses(self) -> None:
        if not self._unread:
            return
        losses = torch.stack(self._unread).tolist()
        self._unread.clear()
        if not all(map(math.isfinite, losses)):
            raise Diverged(
                f"the loss became {losses[-1]} by step {self.progress.step}; lower --peak-rate "
                f"(it is {self.recipe.peak_rate}) and train into a new folder"
            )
        self.progress.losses += losses

    def save(self) -> None:
        """Writes the checkpoint, replacing the one before in one move."""
        self._read_losses()
        self.progress.spent_s = self.spent_s()
        content = {
            "progress": json.dumps(asdict(self.progress)),
            "model": self.model.state_dict(),
            "optimiser": self._step.optimiser.state_dict(),
            "drawn": torch.from_numpy(self._batches.drawn),
        }
        part = self._checkpoint.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._checkpoint)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._signal = number
            # A second one ends the run at once.
            signal.signal(number, before[number])

        before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
