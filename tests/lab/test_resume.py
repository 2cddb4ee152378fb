from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

N_KILLS = 20


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits_and_computes_nothing_twice(
    tmp_path: Path,
) -> None:
    worker = Path(__file__).parent / "resume_worker.py"
    out = subprocess.run(
        [sys.executable, str(worker), str(tmp_path), str(N_KILLS)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    whole, *kills = (json.loads(line) for line in out.stdout.splitlines())
    # The two rtn families share no mask but the one that protects all, which is never stored;
    # protect-all under the seed's scheme still rounds embedding and head.
    assert whole["rows"] == 63 + 63 + 64
    assert len(kills) == N_KILLS
    for kill in kills:
        assert kill["unchanged"], "a committed row was written again"
        assert kill["recomputed"] == 0
        assert kill["emitted"] == whole["rows"] - kill["committed"]
        assert kill["rows"] == whole["rows"]
        assert kill["digest"] == whole["digest"]
    caught = [kill for kill in kills if kill["killed"] and kill["committed"] < whole["rows"]]
    assert len(caught) >= N_KILLS // 2, "most kills must come while the run is under way"
    assert len({kill["committed"] for kill in caught}) >= 5, "and at different moments"
