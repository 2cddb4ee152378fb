"""What goes wrong on the command line: a clear message, its exit code, and nothing lost."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import resource
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitgap.errors import StoreError
from bitgap.lab import scores as assembly
from bitgap.lab import store
from bitgap.lab.lab import Lab
from bitgap.show.words import count
from cli_samples import HEBREW, Run, stored_plans, write_corpus_folder

SCHEME = "rtn4-channel"


# -------------------------------------------------------------------------------- misuse, failures


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("audit --protect 3", "block 3 valid 0 to 2"),
        ("audit --protect x", "protect numbers"),
        ("audit --scheme rtn99", "rtn99 rtn4-g128"),
        ("audit --protect 0,0", "twice"),
        ("audit --languages en,xx", "xx unknown"),
        ("audit --languages en,fi", "fi en he de"),
        ("audit --languages en", "only reference"),
        ("audit --threads 0", "--threads 0"),
        ("audit --threads 99999999999999999999", "--threads 1024"),
        ("audit --memory lots", "lots 4GiB"),
        ("audit --seed -1", "--seed -1"),
        ("audit --seed ²", "--seed"),
        ("audit --sentences 1", "--sentences 2"),
        ("audit --device tpu", "tpu cpu cuda"),
        ("audit --device cuda:99", "cuda:99 cpu"),
        ("audit --store ''", "--store path"),
        ("map --scheme fp", "fp nothing"),
        ("investigate --tier huge", "huge smoke"),
    ],
)  # fmt: skip
def test_misuse_is_told_and_exits_2(measure: Run, arguments: str, words: str) -> None:
    measure(*shlex.split(arguments)).refused(2, *words.split())


@pytest.mark.parametrize("arguments", [[], ["frob"], ["show"], ["audit", "--frob"]])
def test_what_is_no_command_exits_2_and_points_to_help(run: Run, arguments: list[str]) -> None:
    run(*arguments).refused(2, "--help")


def test_a_model_that_is_not_there_or_not_whole_is_told(
    run: Run, tiny: Path, tmp_path: Path
) -> None:
    for name in (tmp_path / "text" / "en.txt", tmp_path / "text"):
        run("audit", name, "--corpus", "text").refused(1, str(name))
    run("audit", "./nowhere", "--corpus", "text").refused(2, "no such folder: './nowhere'")
    run("list", "./nowhere").refused(2, "no such folder: './nowhere'")
    run("show", "T-004", "--model", "text").refused(1, "text: cannot read its config.json")
    run("list", "text/en.txt").refused(1, "text/en.txt is a file; give the folder")
    broken = shutil.copytree(tiny, tmp_path / "broken")
    weights = broken / "model.safetensors"
    for size in (weights.stat().st_size // 2, 100, 0):
        os.truncate(weights, size)
        run("audit", broken, "--corpus", "text").refused(1, "broken", "damaged")


def test_a_corpus_that_is_not_parallel_is_told_with_file_and_line(
    run: Run, tiny: Path, tmp_path: Path
) -> None:
    blank = (*HEBREW[:3], "", *HEBREW[4:])
    for name, changed, words in (
        ("short", {"he": HEBREW[1:]}, ("he.txt has 7",)),
        ("blank", {"he": blank}, ("he.txt, line 4", "empty")),
        ("stray", {"zz": HEBREW}, ("zz",)),
    ):
        write_corpus_folder(tmp_path / name, **changed)
        ran = run("audit", tiny, "--corpus", name)
        ran.refused(2 if name == "stray" else 1, name, *words)
    (tmp_path / "stray" / "en.txt").write_bytes("naïve\n".encode("latin-1") * 8)
    run("audit", tiny, "--corpus", "stray", "--languages", "he").refused(1, "en.txt", "UTF-8")


@pytest.mark.parametrize("option", ["--corpus", "--pairs", "--treebanks", "--unigrams"])
def test_a_path_of_text_that_is_not_there_is_misuse_like_other_arguments(
    measure: Run, option: str
) -> None:
    measure("audit", option, "./nowhere").refused(2, "nowhere: no such")


def test_every_other_path_that_is_not_there_is_misuse_too(run: Run) -> None:
    run("theory", "--evidence", "nowhere").refused(2, "cannot read 'nowhere'")
    run("predict", "Llama-2-70B", "--evidence", "nowhere").refused(2, "cannot read 'nowhere'")
    run("check", "nowhere.json").refused(2, "cannot read 'nowhere.json'")
    for verb in (["results"], ["report", "1"], ["figures", "1"], ["compare", "1", "2"]):
        run(*verb, "--store", "nowhere.db").refused(2, "there is no store 'nowhere.db'")


@pytest.mark.parametrize("verb", ["investigate", "theory"])
def test_a_tier_and_a_time_together_are_refused(run: Run, tiny: Path, verb: str) -> None:
    ran = run(verb, tiny, "--corpus", "text", "--tier", "smoke", "--within", "2h")
    ran.refused(2, "--within chooses", "--tier names it; give one")


def test_what_is_mistyped_is_told_with_the_help_of_its_command(run: Run) -> None:
    run("list", "--nope").refused(2, "unrecognized arguments: --nope; see bitgap list --help")
    run("list", "--corpus", "").refused(2, "--corpus: '' is no path", "bitgap list --help")


def test_a_hub_id_is_asked_of_the_hub_for_its_configuration_alone(
    run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str], str | None]] = []

    def fetched(
        name: str, *, allow_patterns: list[str], revision: str | None = None, **_: object
    ) -> str:
        asked.append((name, allow_patterns, revision))
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s [Retry 1/5]")
        if name == "me/gone":
            raise OSError("offline\nand more")
        return str(tiny)

    monkeypatch.setattr("bitgap.models.hub.snapshot_download", fetched)
    assert run("list", "me/model@v2", "--json").json["n_blocks"] == 3
    gone = run("list", "me/gone")
    gone.refused(1, "no folder 'me/gone' is here", "(offline)")
    assert "Retrying" not in gone.err
    assert asked == [("me/model", ["config.json"], "v2"), ("me/gone", ["config.json"], None)]


def test_a_model_is_not_looked_for_before_the_text_is_known(run: Run, tiny: Path) -> None:
    run("audit", tiny, "--languages", "en,xx").refused(2, "the bundled corpus: unknown language")


def test_too_little_memory_is_told_with_what_is_needed(measure: Run) -> None:
    ran = measure("audit", "--memory", "1KiB")
    ran.refused(1, "too little", "--memory")
    enough = ran.err.rsplit("--memory ", 1)[1].strip()
    assert measure("audit", "--memory", enough).code == 0


@pytest.mark.parametrize("verb", ["audit", "map"])
@pytest.mark.parametrize("option", ["--store", "--out"])
def test_where_nothing_can_be_written_is_told_before_measuring(
    measure: Run, monkeypatch: pytest.MonkeyPatch, verb: str, option: str
) -> None:
    monkeypatch.setattr(Lab, "score", _must_not_run)
    for place in ("text/en.txt", "text/en.txt/deeper", "/proc/nobody/here"):
        measure(verb, option, place).refused(1, place)


def _must_not_run(*_: object, **__: object) -> None:
    raise AssertionError("it was measured all the same")


def test_a_store_that_is_none_is_told(run: Run, tmp_path: Path) -> None:
    run("results").refused(2, "there is no store 'bitgap.db'")
    run("results", "--store", "text/en.txt").refused(1, "en.txt", "no bitgap store")
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    run("results", "--store", "other.db").refused(1, "other.db", "no bitgap store")


# ------------------------------------------------------------------------------------ nothing lost


@contextlib.contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Makes every file of this process end at some size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_the_next_run_goes_on_from_what_is_kept(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every plan commits by itself, so that some are in before the disk is full.
    monkeypatch.setattr("bitgap.lab.scores._COMMIT_EVERY_S", 0.0)
    monkeypatch.setattr("bitgap.lab.engine.budget._MAX_NODES", 1)
    assert measure("audit").code == 0
    with file_size_limit(Path("bitgap.db").stat().st_size):
        ran = measure("map", "--arithmetic", "exact", "--json")
    ran.refused(1, "bitgap.db", "kept")
    kept = stored_plans("bitgap.db")
    assert 1 < len(kept) < 7
    second = measure("map", "--arithmetic", "exact", "--json")
    assert second.code == 0 and f"{count(7 - len(kept), 'plan')} to score of 8" in second.err
    whole = measure("map", "--arithmetic", "exact", "--json", "--store", "other.db").json
    assert second.json["blocks"] == whole["blocks"]


def test_a_result_that_cannot_be_stored_is_printed_all_the_same(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise StoreError("cannot write the store: full")

    monkeypatch.setattr(store.Store, "put_run", full)
    ran = measure("audit", "--json")
    assert ran.code == 1 and "cannot write the store: full" in ran.err
    assert ran.json["languages"]["he"]["damage"] > 0


def test_a_file_that_cannot_be_written_leaves_the_result_printed_kept_and_no_part_of_it(
    measure: Run, tmp_path: Path
) -> None:
    (tmp_path / "out" / "audit.json").mkdir(parents=True)
    ran = measure("audit", "--json", "--out", "out")
    assert ran.code == 1 and "audit.json" in ran.err and "kept as run 1" in ran.err
    assert ran.json["D"] is not None
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["audit.json"]


class Closed(io.StringIO):
    """A stdout whose reader is gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, _: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), "nobody reads"),
        (OSError(28, "No space left on device"), "standard output: No space left"),
    ],
)
@pytest.mark.parametrize("json_", [True, False])
def test_an_output_that_is_gone_loses_no_result(
    measure: Run,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    words: str,
    json_: bool,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Closed(error))
        ran = measure("audit", *(["--json"] if json_ else []))
    assert ran.code == 1 and words in ran.err and "run 1 in bitgap.db" in ran.err
    assert [row["command"] for row in run("results", "--json").json["runs"]] == ["audit"]


def test_no_output_at_all_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        ran = run("list")
    assert ran.code == 1 and "nobody reads" in ran.err


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "T-004"]])
@pytest.mark.parametrize("full", [True, False])
def test_a_closed_pipe_and_a_full_device_end_in_one_line(arguments: list[str], full: bool) -> None:
    if full and not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    command = [sys.executable, "-m", "bitgap", *arguments]
    with contextlib.ExitStack() as stack:
        if full:
            out: Any = stack.enter_context(open("/dev/full", "w"))
        else:
            reader, out = os.pipe()
            os.close(reader)
            stack.callback(os.close, out)
        child = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert child.returncode == 1
    assert child.stderr.startswith("bitgap: ") and child.stderr.count("\n") == 1


def test_messages_that_nobody_can_read_stop_no_measurement(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, closed = OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")
    for gone in (None, Closed(full), Closed(closed)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", gone)
            ran = measure("audit", "--json")
        assert ran.code == 0 and ran.json["D"] is not None


def test_an_interrupt_before_anything_began_says_so(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bitgap.models.load.load_model", stop)
    monkeypatch.setattr("bitgap.lab.reading.load_model", stop)
    measure("audit").refused(130, "stopped before anything was measured")


def test_an_interrupt_keeps_what_was_finished_and_the_next_run_goes_on(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitgap.lab.engine.budget._MAX_NODES", 1)
    seen: list[int] = []
    score = assembly.score_and_keep

    def interrupted(lab: Lab, plans: Any, label: str, reference: Any = None) -> None:
        original = lab.engine.score

        def counting(todo: Any, emit: Any, **options: Any) -> None:
            def some(leaves: Any) -> None:
                emit(leaves)
                seen.append(len(leaves))
                if sum(seen) >= 3:
                    raise KeyboardInterrupt

            original(todo, some, **options)

        monkeypatch.setattr(lab.engine, "score", counting)
        score(lab, plans, label, reference)

    with monkeypatch.context() as patch:
        patch.setattr("bitgap.lab.scores.score_and_keep", interrupted)
        ran = measure("map", "--json", "--arithmetic", "exact")
    ran.refused(130, "stopped", "kept in bitgap.db", "Run the same command again")
    kept = len(stored_plans("bitgap.db"))
    assert kept == sum(seen) >= 3
    second = measure("map", "--json", "--arithmetic", "exact")
    assert f"{count(7 - kept, 'plan')} to score of 8" in second.err
    whole = measure("map", "--json", "--arithmetic", "exact", "--store", "other.db").json
    assert second.json["blocks"] == whole["blocks"]


def test_lack_of_memory_is_told_and_a_fault_of_ours_is_not_hidden(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ):
        _fail_with(monkeypatch, error)
        measure("audit").refused(1, "out of memory", "kept in bitgap.db")
    _fail_with(monkeypatch, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        measure("audit")


def _fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Lab, "score", fail)
