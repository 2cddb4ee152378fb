"""Stops a training run in every way; prints what was found, one JSON line for each way.

Importing torch costs seconds and a run here one, so all runs are forks of one process. The ways:

* ``whole``: not at all;
* ``term``: SIGTERM after step 7, which writes a checkpoint;
* ``kill``: SIGKILL after step 11, with checkpoints at every step;
* ``torn``: SIGKILL half way through writing the checkpoint of step 9.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
import train_reference
from recipe_samples import request, write_texts
from training_loop import Progress, Sitting
from training_settings import Request

EVERY_STEP = {"checkpoint_minutes": 0.0}


def fork(run: Callable[[], int]) -> int:
    """Calls in a child; returns its exit status, or 128 + signal."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = run()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def train(asked: Request, at: int | None = None, number: int = 0) -> int:
    """Trains and signals itself after a step; returns 128 + signal if that stopped it."""
    first: list[int] = []

    def report(progress: Progress, fraction: float) -> None:
        if not first:
            first.append(progress.step)
            (asked.out.parent / f"{asked.out.name}.first").write_text(str(progress.step))
        if progress.step == at:
            os.kill(os.getpid(), number)

    try:
        train_reference.run(asked, report)
    except train_reference.Stopped as stopped:
        return 128 + stopped.signal_number
    return 0


def tear(asked: Request) -> int:
    """Trains and is killed when half of the ninth checkpoint is written."""
    save = torch.save

    def save_half(content: dict[str, Any], file: BinaryIO) -> None:
        if json.loads(content["progress"])["step"] == 9:
            file.write(b"half a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(content, file)

    torch.save = save_half
    return train(asked)


def found(out: Path) -> dict[str, Any]:
    """What a finished run left, and at which step its last sitting began."""
    facts = json.loads((out / "training.json").read_text(encoding="utf-8"))
    return {
        "weights": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
        "languages": facts["languages"],
        "loss_curve_nats": facts["loss_curve_nats"],
        "bits_per_byte": facts["bits_per_byte"],
        "sittings": facts["sittings"],
        "first_step_of_last_sitting": int((out.parent / f"{out.name}.first").read_text()),
        "left": sorted(p.name for p in out.iterdir()),
    }


def train_remembering(asked: Request) -> int:
    """Trains to the end and writes a digest of all optimiser state it ended with."""
    save = Sitting.save

    def also(self: Sitting) -> None:
        save(self)
        digest = hashlib.sha256()
        for state in self._step.optimiser.state_dict()["state"].values():
            for name in sorted(state):
                digest.update(state[name].numpy().tobytes())
        (asked.out.parent / f"{asked.out.name}.optimiser").write_text(digest.hexdigest())

    Sitting.save = also
    return train(asked)


def main(folder: Path) -> None:
    """Prints one line for each way."""
    write_texts(folder / "text")
    ways: dict[str, Callable[[Request], int] | None] = {
        "whole": None,
        "term": lambda asked: train(asked, 7, signal.SIGTERM),
        "kill": lambda asked: train(asked, 11, signal.SIGKILL),
        "torn": tear,
    }
    for way, stop in ways.items():
        often = {} if way == "term" else EVERY_STEP
        asked = request(folder, way, **often)
        stopped = None if stop is None else fork(lambda a=asked, s=stop: s(a))
        part = (asked.work / "checkpoint.part").is_file()
        ended = fork(lambda a=asked: train_remembering(a))
        optimiser = (folder / f"{way}.optimiser").read_text()
        line = {"way": way, "stopped": stopped, "part": part, "ended": ended}
        print(json.dumps(line | {"optimiser": optimiser} | found(asked.out)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
