from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = Path(__file__).parent
    out = subprocess.run(
        [sys.executable, str(folder / "kill_worker.py"), str(tmp_path_factory.mktemp("runs"))],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    return {found["way"]: found for found in map(json.loads, out.stdout.splitlines())}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(
    ("way", "status", "went_on_at"), [("term", 143, 8), ("kill", 137, 11), ("torn", 137, 9)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    ways: dict[str, dict[str, Any]], way: str, status: int, went_on_at: int
) -> None:
    whole, found = ways["whole"], ways[way]
    assert found["stopped"] == status and whole["ended"] == found["ended"] == 0
    assert found["first_step_of_last_sitting"] == went_on_at, "it must go on, not begin again"
    assert (whole["sittings"], found["sittings"]) == (1, 2)
    assert found["part"] == (way == "torn")
    # Weights and moments are equal only if every batch, rate and rounding was.
    for name in ("weights", "optimiser", "languages", "loss_curve_nats", "bits_per_byte", "left"):
        assert found[name] == whole[name], name
    assert len(whole["loss_curve_nats"]) == 30
