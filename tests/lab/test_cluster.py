"""Workers of a Ray cluster of several nodes on this machine: ``make cluster``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from crew_samples import n_scores, rows_of

from bitgap.errors import MissingExtra, ModelError, UserError
from bitgap.lab.crew import crew as crew_module
from bitgap.lab.crew.begin import begin_crew
from bitgap.lab.crew.crew import Crew
from bitgap.lab.crew.messages import ModelSource
from bitgap.lab.lab import Lab
from bitgap.lab.store import Store
from bitgap.quant.plan import Plan, mask_plans

ray: Any = pytest.importorskip("ray", reason="ray is not installed: pip install 'bitgap[cluster]'")
utils: Any = pytest.importorskip("ray.cluster_utils")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    # Ray leaves sockets and files to the collector.
    pytest.mark.filterwarnings("ignore"),
]

PLANS = mask_plans("rtn3-g128", 12, (0, 1, 3, 2**11, 2**12 - 2))
# Little room for objects, as nothing large is ever sent.
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    monkeypatch.setattr(crew_module, "_UP_S", 0.0)
    monkeypatch.setattr("bitgap.lab.crew.cluster._LOOK_EVERY_S", 0.0)
    made = utils.Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


def add_node(cluster: Any) -> Any:
    return cluster.add_node(**NODE)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What one process stores."""
    return scored(tmp_path_factory.mktemp("alone") / "it.db")


def scored(path: Path, crew: Crew | None = None, plans: Sequence[Plan] = PLANS) -> list[Any]:
    with Store(path) as store:
        Lab.from_pretrained(languages="de", store=path, crew=crew).spread(8).score(plans)
        return rows_of(store)


def when_at_work(monkeypatch: pytest.MonkeyPatch, call: Callable[[list[Any]], bool]) -> None:
    """Calls something with who is at work, each time that units were handed out, until it did."""
    hand_out, done = Crew._hand_out, [False]

    def then(self: Crew, run: Any) -> None:
        hand_out(self, run)
        at_work = [at for at in self._all.values() if at.unit is not None]
        if at_work and not done[0]:
            done[0] = call(at_work)

    monkeypatch.setattr(Crew, "_hand_out", then)


def test_two_nodes_give_the_bits_of_one_process_and_a_lost_node_costs_what_it_had_in_hand(
    cluster: Any, alone: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, said, taken = add_node(cluster), list[str](), list[int]()

    def lose(at_work: list[Any]) -> bool:
        taken.extend(at.unit.number for at in at_work)
        if len(at_work) < 2:
            return False
        cluster.remove_node(node, allow_graceful=False)
        return True

    when_at_work(monkeypatch, lose)
    with begin_crew(cluster=cluster.address, say=said.append) as crew:
        assert crew.n == 2
        ours = scored(tmp_path / "ours.db", crew)
        units = sum(told.units for told in crew.told.values())
    assert ours == alone
    assert len([line for line in said if "its work is done again" in line]) == 1
    assert len(set(taken)) >= 2
    assert units >= 2


def test_a_node_that_joins_late_is_used(
    cluster: Any, alone: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def join(at_work: list[Any]) -> bool:
        add_node(cluster)
        return True

    when_at_work(monkeypatch, join)
    with begin_crew(cluster=cluster.address) as crew:
        assert crew.n == 1
        assert scored(tmp_path / "ours.db", crew) == alone
        assert crew.n == 2


def test_a_worker_that_sees_another_version_of_the_model_refuses(
    cluster: Any, tiny: Path, tmp_path: Path
) -> None:
    with begin_crew(1, cluster=cluster.address) as crew:
        lab = Lab.from_pretrained(languages="de", crew=crew).spread(8)
        lab.source = ModelSource(str(tiny))
        with pytest.raises(ModelError, match=r"reads another model as .*tiny"):
            lab.score(PLANS)


def test_a_command_that_is_killed_goes_on_from_what_it_kept(
    cluster: Any, alone: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "it.db"
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[3]); import test_cluster as t\n"
        "from pathlib import Path\n"
        "t.crew_module._UP_S = 0.0; t.crew_module._UNIT_S = (0.1, 0.1)\n"
        "from bitgap.lab.crew import cut; cut._MOST_REPEATED = 1.0\n"
        "with t.begin_crew(1, cluster=sys.argv[1]) as crew: t.scored(Path(sys.argv[2]), crew)\n"
    )
    words = [sys.executable, "-c", code, cluster.address, str(path), repr(sys.path)]
    begun = subprocess.Popen(words)
    try:
        until = time.monotonic() + 400
        while begun.poll() is None and n_scores(path) < 1:
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        begun.send_signal(signal.SIGKILL)
        begun.wait(30)
    kept = n_scores(path)
    assert 1 <= kept
    again = subprocess.run(words, timeout=400, check=False)
    assert again.returncode == 0
    with Store(path, read_only=True) as store:
        assert rows_of(store) == alone


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--cluster auto: no Ray cluster answers.*ray start"):
        begin_crew(cluster="auto")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"):
        with pytest.raises(UserError, match=rf"--cluster {address}: no Ray cluster answers"):
            begin_crew(cluster=address)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"bitgap\[cluster\]"):
        begin_crew(cluster="auto")
