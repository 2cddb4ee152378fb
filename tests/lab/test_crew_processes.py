"""Workers that are real processes: what is killed is replaced, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from crew_samples import n_scores, rows_of

from bitgap.lab.crew import crew as crew_module
from bitgap.lab.crew.begin import begin_crew
from bitgap.lab.crew.crew import Crew
from bitgap.lab.lab import Lab
from bitgap.lab.store import Store
from bitgap.quant.plan import Plan, mask_plans

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for a process' children"),
]


PLANS = mask_plans("rtn3-g128", 12, (0, 1, 3, 2**11, 2**12 - 2))


def scored(path: Path, plans: Sequence[Plan], crew: Crew | None = None) -> list[Any]:
    with Store(path) as store:
        Lab.from_pretrained(languages="de", store=path, crew=crew).spread(8).score(plans)
        return rows_of(store)


def test_a_killed_process_is_replaced_and_the_store_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = PLANS
    monkeypatch.setattr(crew_module, "_UP_S", 0.0)
    said: list[str] = []
    killed: list[int] = []
    hand_out = Crew._hand_out

    def killing(self: Crew, run: Any) -> None:
        hand_out(self, run)
        at_work = [at for at in self._all.values() if at.unit is not None]
        if at_work and not killed:
            pid = at_work[0].hand.pid  # type: ignore[attr-defined]
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    monkeypatch.setattr(Crew, "_hand_out", killing)
    with begin_crew(2, say=said.append) as crew:
        ours = scored(tmp_path / "ours.db", plans, crew)
        assert len(crew.lines()) >= 1
    assert ours == scored(tmp_path / "theirs.db", plans)
    assert len(killed) == 1
    assert [line for line in said if "SIGKILL" in line and "its work is done again" in line]
    assert all(gone(pid) for pid in killed)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_command_that_is_ended_leaves_no_worker(tmp_path: Path, how: int, code: int) -> None:
    words = ["map", "--workers", "2", "--languages", "de,he,sw,hi", "--no-report", "--all-masks"]
    command = subprocess.Popen(
        [sys.executable, "-m", "bitgap", *words, "--store", str(tmp_path / "it.db")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        # What runs in the background has SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        until = time.monotonic() + 240
        while len(workers := list(children(command.pid))) < 2:
            assert time.monotonic() < until and command.poll() is None
            time.sleep(0.1)
        began = time.monotonic()
        command.send_signal(how)
        assert command.wait(60) == code
        while not all(gone(pid) for pid in workers):
            assert time.monotonic() < began + 10
            time.sleep(0.05)
    finally:
        command.kill()


def test_a_command_that_is_killed_goes_on_from_what_it_kept(tmp_path: Path) -> None:
    path = tmp_path / "it.db"
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[2]); import test_crew_processes as t\n"
        "from bitgap.lab.crew import cut; cut._MOST_REPEATED = 1.0\n"
        "t.crew_module._UP_S = 0.0; t.crew_module._UNIT_S = (0.1, 0.1)\n"
        "with t.begin_crew(1) as crew: t.scored(t.Path(sys.argv[1]), t.PLANS, crew)\n"
    )
    words = [sys.executable, "-c", code, str(path), repr([str(Path(__file__).parent), *sys.path])]
    begun = subprocess.Popen(words)
    try:
        until = time.monotonic() + 240
        while begun.poll() is None and n_scores(path) < 1:
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        begun.kill()
        begun.wait(30)
    kept = n_scores(path)
    assert 1 <= kept
    assert subprocess.run(words, timeout=240, check=False).returncode == 0
    with Store(path, read_only=True) as store:
        assert rows_of(store) == scored(tmp_path / "theirs.db", PLANS)


def children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*"):
        yield from map(int, (task / "children").read_text().split())


def gone(pid: int) -> bool:
    """Whether a process is no more, or only waits to be asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
