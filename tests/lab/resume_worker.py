"""Kills a scoring run again and again; prints what was found, one JSON line for each kill.

Importing torch costs seconds and a run here half of one, so all runs are forks of one process.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lab_samples import load_tiny, write_corpus

from bitgap.lab import scores as assembly_module
from bitgap.lab.engine import budget
from bitgap.lab.lab import Lab
from bitgap.lab.store import Store
from bitgap.models.load import LoadedModel
from bitgap.quant.plan import Plan, mask_plans

torch.set_num_threads(1)
PLANS: list[Plan] = [
    *mask_plans("rtn4-channel", 6, range(64)),
    *mask_plans("rtn3-g32", 6, range(64)),
    *mask_plans("seed4", 6, range(64)),
]


def run(loaded: LoadedModel, path: Path, told: int) -> str:
    """Scores all plans; tells ``told`` of the first commit, and all emitted at the end."""
    emitted: list[str] = []
    with Store(path) as store:
        lab = Lab.of(loaded, write_corpus(6), store=store)
        put, score = store.put_scores, lab.engine.score

        def heard(text_key: str, rows: Any) -> None:
            rows = list(rows)
            put(text_key, rows)
            if rows:
                os.write(told, b"c")

        def counted(plans: Any, emit: Callable[..., None], **options: Any) -> None:
            def both(leaves: Any) -> None:
                emitted.extend(leaf.plan.text for leaf in leaves)
                emit(leaves)

            score(plans, both, **options)

        vars(store)["put_scores"], vars(lab.engine)["score"] = heard, counted
        scores = lab.score(PLANS)
        digest = hashlib.sha256(scores.nll_nats.tobytes() + scores.kl_nats.tobytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"digest": digest, "emitted": emitted}))
    return digest


def fork(loaded: LoadedModel, path: Path, stop_after_s: float | None) -> bool:
    """Runs in a child; kills it some time after its first commit. Returns whether it was killed."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(loaded, path, told)
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    if stop_after_s is not None:
        assert os.read(heard, 1) == b"c", "the child ended before its first commit"
        time.sleep(stop_after_s)
        # A child that ended closed its end: what is left then reads as bytes and an end of file.
        while select.select([heard], [], [], 0)[0] and os.read(heard, 4096):
            pass
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(heard)
    if os.WIFSIGNALED(status):
        assert stop_after_s is not None and os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert os.WEXITSTATUS(status) == 0, status
    return False


def rows(path: Path) -> dict[str, tuple[Any, ...]]:
    """Every committed row by its plan, whole."""
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = {row[2]: row for row in db.execute("SELECT * FROM scores")}
    db.close()
    return found


def main(folder: Path, n_kills: int) -> None:
    """Prints the uninterrupted run's digest, then one line for each kill."""
    assembly_module._COMMIT_EVERY_S = 0.002
    # Few plans a batch, so that there are many moments between commits to be killed at.
    budget._MAX_NODES = 2
    loaded = load_tiny("llama", 6)
    whole = folder / "whole.db"
    started = time.monotonic()
    fork(loaded, whole, None)
    took = time.monotonic() - started
    reference = json.loads(whole.with_suffix(".json").read_text())
    print(json.dumps({"digest": reference["digest"], "took": took, "rows": len(rows(whole))}))
    draw = random.Random(0)
    for i in range(n_kills):
        path = folder / f"{i}.db"
        killed = fork(loaded, path, draw.uniform(0, 0.6) * took)
        before = rows(path)
        fork(loaded, path, None)
        after, result = rows(path), json.loads(path.with_suffix(".json").read_text())
        print(
            json.dumps(
                {
                    "killed": killed,
                    "committed": len(before),
                    "unchanged": all(after[plan] == row for plan, row in before.items()),
                    "rows": len(after),
                    "recomputed": len(set(result["emitted"]) & set(before)),
                    "emitted": len(result["emitted"]),
                    "digest": result["digest"],
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
