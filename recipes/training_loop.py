"""The loop: schedule, clock, checkpoints and signals.

A run is a row of sittings. Each starts from the checkpoint of the one before, or from the seed,
and goes on bit for bit as if it had not been stopped (on one kind of processor, with one number of
threads and one arithmetic). The clock counts training time only, over all sittings, so that a run
by minutes has the same schedule whether or not it was interrupted.
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

from bitgap.errors import StoreError, UserError

WARM_UP_STEPS = 200
WARM_UP_SHARE = 0.1
"""Warm-up ends after so much of the run at the latest."""
FINAL_RATE_SHARE = 0.05
"""The cosine ends at so much of the peak rate."""
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
    elapsed_s: float = 0.0
    """Training time so far, over all sittings."""
    losses: list[float] = field(default_factory=list)
    """Loss of every step in nats per token."""
    sittings: int = 0
    places: list[str] = field(default_factory=list)
    """Processors, threads and arithmetics that computed, in order."""
    arithmetic: str | None = None
    """Arithmetic of the latest sitting."""


def rate_share(step: int, fraction: float) -> float:
    """Returns the share of the peak rate that a step is taken with.

    A linear warm-up, times a cosine from 1 to :data:`FINAL_RATE_SHARE`.

    Args:
        step: Steps taken before.
        fraction: Share of the run that is over, 0 to 1.
    """
    warm = min(1.0, max((step + 1) / WARM_UP_STEPS, fraction / WARM_UP_SHARE))
    cosine = (1 + math.cos(math.pi * min(1.0, fraction))) / 2
    return warm * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine)


def fraction_done(recipe: Recipe, progress: Progress) -> float:
    """Returns the share of the run that is over, by steps or by the clock; 1 ends it."""
    if recipe.minutes is not None:
        return progress.elapsed_s / (60 * recipe.minutes)
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
    """

    def __init__(
        self,
        recipe: Recipe,
        step: TrainingStep,
        batches: PackedBatches,
        progress: Progress,
        *,
        checkpoint: Path,
        checkpoint_minutes: float,
        report: Callable[[Progress, float], None],
    ) -> None:
        """Prepares to train; nothing is read or written yet.

        Args:
            recipe: What is trained.
            step: Takes one step.
            batches: Gives the batches.
            progress: How far the run is; kept up to date.
            checkpoint: File that the run can be resumed from.
            checkpoint_minutes: Minutes between checkpoints.
            report: Called after every step with the progress and the share that is over.
        """
        self.recipe, self.progress = recipe, progress
        self._step, self._batches = step, batches
        self._checkpoint, self._every_s = checkpoint, 60 * checkpoint_minutes
        self._report = report
        self._unread: list[Tensor] = []
        self._signal: int | None = None

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes back to a checkpoint.

        Args:
            saved: What :func:`read_checkpoint` returned.

        Raises:
            StoreError: If it does not fit the model.
        """
        try:
            self._step.model.load_state_dict(saved["model"])
            self._step.optimiser.load_state_dict(saved["optimiser"])
            self._batches.drawn[:] = saved["drawn"].numpy()
            torch.set_rng_state(saved["torch_rng"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"the checkpoint {self._checkpoint} does not fit ({error}); delete it to train "
                f"from the beginning"
            ) from error

    def train(self) -> None:
        """Trains to the end, writing checkpoints on the way and one at the end.

        Raises:
            Stopped: If a signal came; the checkpoint is written.
            Diverged: If the loss is no number any more; the checkpoint is that of before.
        """
        with self._listening():
            saved = time.monotonic()
            while fraction_done(self.recipe, self.progress) < 1:
                self._advance()
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
        done.elapsed_s += time.monotonic() - start
        self._report(done, fraction_done(self.recipe, done))

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
        content = {
            "progress": json.dumps(asdict(self.progress)),
            "model": self._step.model.state_dict(),
            "optimiser": self._step.optimiser.state_dict(),
            "drawn": torch.from_numpy(self._batches.drawn),
            "torch_rng": torch.get_rng_state(),
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


def progress_of(saved: dict[str, Any] | None) -> Progress:
    """Returns how far a checkpoint is; the beginning where there is none."""
    if saved is None:
        return Progress()
    try:
        return Progress(**json.loads(saved["progress"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the checkpoint has no progress ({error}); delete it") from error
