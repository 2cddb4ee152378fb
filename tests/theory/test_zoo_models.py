"""The trained zoo: what the manifest says of each model is so, and bitgap can use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.quant.plan import Plan
from bitgap.theory.zoo import MANIFEST, zoo_models

MODELS = Path(__file__).parents[2] / "models"
ENTRIES: list[dict[str, Any]] = (
    json.loads((MODELS / MANIFEST).read_text("utf-8"))["models"]
    if (MODELS / MANIFEST).is_file()
    else []
)
needs_zoo = pytest.mark.skipif(not ENTRIES, reason="models/ is not in this copy of the project")


@needs_zoo
def test_files_are_those_the_manifest_lists() -> None:
    assert zoo_models([str(MODELS)]) == [str(MODELS / e["folder"]) for e in ENTRIES]


@needs_zoo
def test_the_zoo_is_wide_enough_for_the_theory_and_small_enough_to_clone() -> None:
    assert len({"gpt2", *(e["family"] for e in ENTRIES)}) >= 6
    assert {e["blocks"] for e in ENTRIES} >= {12}
    assert all(e["tokens"] >= 10_000_000 for e in ENTRIES)
    assert all(3e6 <= e["parameters"] <= 12e6 for e in ENTRIES)
    assert sum(p.stat().st_size for p in MODELS.rglob("*") if p.is_file()) <= 120_000_000


@needs_zoo
@pytest.mark.parametrize("entry", ENTRIES, ids=[e["folder"] for e in ENTRIES])
def test_a_model_loads_splits_and_has_learned(entry: dict[str, Any]) -> None:
    lab = Lab.from_pretrained(
        MODELS / entry["folder"], languages="en,he", settings=Settings(arithmetic="fast")
    ).spread(4)
    assert lab.info.family == entry["family"]
    assert lab.n_blocks == entry["blocks"]
    scores = lab.score([Plan.uniform("rtn4-g128", lab.n_blocks)])
    # Every language is told better than by counting its words.
    assert (scores.nll_fp_nats.sum(1) < scores.unigram_nats.sum(1)).all()
    assert (np.asarray(scores.kl_nats).sum(-1) > 0).all()
