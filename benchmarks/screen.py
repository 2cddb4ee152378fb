"""The screen beside exact single swaps: how alike they rank, and what each takes, in one run.

Both make the damage table of the same units, choices and sentences. *rank* is Spearman's
correlation over all units and choices, by language; *rank_within* that over the units at one
choice, the lowest of all choices, where bits do not help. Embedding and head are scored exactly by
either and count for the time alone. Times are the processor's, of one thread; ``--every K`` swaps
only each K-th unit, and ``swaps_all_s`` says what all of them would take by the multiplications
that are left out.

``python benchmarks/screen.py --sentences 4`` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from scipy.stats import spearmanr

from bitgap.lab.engine.budget import tune_heap
from bitgap.lab.lab import Lab
from bitgap.lab.protect.steps import Asked, Prepared, prepare
from bitgap.lab.protect.table import damage_table, scored
from bitgap.lab.protect.units import ModelUnits
from bitgap.lab.settings import Settings
from bitgap.protect.records import Choice
from bitgap.protect.split import sentences_needed
from bitgap.protect.toolchains import OUTSIDE
from bitgap.records import Floats

T = TypeVar("T")
Choices = list[list[Choice | None]]


def processor_s(call: Callable[[], T]) -> tuple[T, float]:
    """Returns what a call returns, and the processor seconds that it takes."""
    start = time.process_time()
    return call(), time.process_time() - start


def every(units: ModelUnits, choices: Choices, step: int) -> Choices:
    """Returns the choices with those of most units in blocks struck out, but for one each."""
    kept, n = list[list[Choice | None]](), 0
    for unit, row in zip(units.units, choices, strict=True):
        inside = unit.kind not in OUTSIDE
        first = next(i for i, choice in enumerate(row) if choice is not None)
        left = row if not inside or n % step == 0 else [
            choice if i == first else None for i, choice in enumerate(row)
        ]  # fmt: skip
        kept.append(list(left))
        n += inside
    return kept


def work_of(work: Prepared, choices: Choices) -> float:
    """Returns the multiplications of swaps of these choices, for one token."""
    units = work.units.units
    total = sum(u.n_weights for u in units if u.block is not None)
    head, found = work.bench.decoder.tail.weight.numel(), 0.0
    for unit, row in zip(units, choices, strict=True):
        share = 1.0 if unit.block is None else 1 - unit.block / work.bench.n_blocks
        found += 2 * sum(c is not None for c in row) * (total * share + head)
    return found


def ranks(one: Floats, other: Floats) -> list[float]:
    """Returns the rank correlation of two tables, (A x cells), in each language."""
    return [float(spearmanr(a, b).statistic) for a, b in zip(one, other, strict=True)]


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", help="the bundled one when left out")
    parser.add_argument("--corpus")
    parser.add_argument("--languages", default=None)
    parser.add_argument("--sentences", type=int, default=8)
    parser.add_argument("--budget", type=float, default=4.25)
    parser.add_argument("--choices", default="", help="such as rtn3-g64,rtn4-g64")
    parser.add_argument("--every", type=int, default=1, metavar="K")
    parser.add_argument("--arithmetic", default="exact", choices=("exact", "fast"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.from_pretrained(
            asked.model, asked.corpus, languages=asked.languages,
            store=Path(folder) / "s.db", settings=Settings(arithmetic=asked.arithmetic),
        )  # fmt: skip
        tune_heap()
        # A split is asked for, though only its first sentences are looked at here.
        work = prepare(
            lab.spread(sentences_needed()),
            Asked(budget=asked.budget, schemes=[s for s in asked.choices.split(",") if s]),
        )
        result = compared(work, lab.spread(asked.sentences), asked.every)
    print(json.dumps(result))
    return 0


def compared(work: Prepared, lab: Lab, step: int) -> dict[str, object]:
    """Returns both tables' times, and how alike they are."""
    units, schemes, base = work.units, work.schemes, work.base
    everything = [list(row) for row in work.choices]
    some = every(units, everything, step)
    scored(lab, [units.plan(base)], "uniform")  # full precision and its floor, no part of either
    screen, screen_s = processor_s(
        lambda: damage_table(lab, units, everything, schemes, "screen", base)
    )
    fresh = Lab.of(lab.loaded, lab.corpus, settings=lab.settings)
    scored(fresh, [units.plan(base)], "uniform")
    swaps, swaps_s = processor_s(lambda: damage_table(fresh, units, some, schemes, "swaps", base))
    inside = np.array([unit.kind not in OUTSIDE for unit in units.units])
    whole = np.array([sum(c is not None for c in r) > 1 for r in some])
    cells = np.isfinite(swaps.damage_bits[0]) & (inside & whole)[:, None]
    within = [
        ranks(screen.damage_bits[:, cells[:, c], c], swaps.damage_bits[:, cells[:, c], c])
        for c in range(len(schemes)) if cells[:, c].sum() > 3
    ]  # fmt: skip
    swaps_all_s = swaps_s * work_of(work, everything) / work_of(work, some)
    rank = ranks(screen.damage_bits[:, cells], swaps.damage_bits[:, cells])
    return {
        "model": lab.info.name,
        "languages": list(lab.languages),
        "tokens": int(lab.text.counts.tokens.sum()),
        "cells": int(cells.sum()),
        "rank": dict(zip(lab.languages, rank, strict=True)),
        "rank_lowest": min(rank),
        "rank_within_lowest": min((min(one) for one in within), default=None),
        "sum_ratio": float(
            np.median(screen.damage_bits[:, cells] / np.abs(swaps.damage_bits[:, cells]))
        ),
        "screen_s": screen_s,
        "swaps_s": swaps_s,
        "swaps_all_s": swaps_all_s,
        "ratio_time": screen_s / swaps_all_s,
    }


if __name__ == "__main__":
    sys.exit(main())
